//! Event types with schemas, and the events that must fit them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use webhook_core::testing::{Intercepted, ManualClock, ScriptedTransport, enqueued};
use webhook_core::{
    BatchError, Clock, Dispatcher, EnqueueError, Error, ErrorKind, InvalidEntry, InvalidEvent,
    ManageError, MemoryStore, NewCatalogueEntry, NewEvent,
};

use crate::World;

const NUMBER: &str = r#"{"properties": {"n": {"type": "integer"}}}"#;
const SECOND: Duration = Duration::from_secs(1);

fn entry(schema: &str) -> NewCatalogueEntry {
    NewCatalogueEntry::new("order.paid".parse().unwrap()).schema(schema)
}

fn event(data: &'static str) -> NewEvent {
    NewEvent::data("order.paid", data).unwrap()
}

/// Where an event that is refused violates its schema.
fn place(refused: EnqueueError) -> String {
    match refused {
        EnqueueError::Invalid(InvalidEvent::Schema(violation)) => violation.path,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_event_that_does_not_fit_is_refused_on_each_way_in() {
    let world = World::new(ScriptedTransport::default());
    let dispatcher = &world.dispatcher;
    dispatcher.event_types().put(entry(NUMBER)).await.unwrap();

    let refused = dispatcher.enqueue(event(r#"{"n":"x"}"#)).await.unwrap_err();
    assert_eq!(place(refused), "/n");
    let batch = vec![event(r#"{"n":1}"#), event(r#"{"n":0.5}"#)];
    match dispatcher.enqueue_batch(batch).await.unwrap_err() {
        BatchError::Event { index: 1, source } => assert_eq!(place(source), "/n"),
        other => panic!("{other:?}"),
    }
    let mut tx = world.store.begin();
    let refused = dispatcher.enqueue_in(&mut tx, event(r#"{"n":[]}"#)).await;
    assert_eq!(place(refused.unwrap_err()), "/n");
    tx.commit().unwrap();
    let whole = NewEvent::raw("order.paid", "no JSON").unwrap();
    assert_eq!(place(dispatcher.enqueue(whole).await.unwrap_err()), "");
    assert_eq!(enqueued(dispatcher).await.unwrap(), []);

    let data = r#"{ "n":1, "n":2 }"#;
    dispatcher.enqueue(event(data)).await.unwrap();
    let mut tx = world.store.begin();
    dispatcher.enqueue_in(&mut tx, event(data)).await.unwrap();
    tx.commit().unwrap();
    let other = NewEvent::data("order.lost", r#"{"n":"x"}"#).unwrap();
    dispatcher.enqueue(other).await.unwrap();
    let stored = enqueued(dispatcher).await.unwrap();
    assert_eq!(stored.len(), 3);
    assert_eq!(stored[2].data().unwrap(), data, "byte for byte");
}

#[tokio::test]
async fn entries_out_of_bounds_are_refused() {
    let world = World::new(ScriptedTransport::default());
    let types = world.dispatcher.event_types();
    let put = async |new| match types.put(new).await {
        Err(ManageError::InvalidEntry(invalid)) => invalid,
        other => panic!("{other:?}"),
    };
    let long = format!("\"{}\"", "x".repeat(64 * 1024));
    assert_eq!(put(entry(&long)).await, InvalidEntry::TooLong("schema"));
    let refused = put(entry("{}").example(long)).await;
    assert_eq!(refused, InvalidEntry::TooLong("example"));
    let refused = put(entry("{}").description("x".repeat(1_025))).await;
    assert_eq!(refused, InvalidEntry::Description);
    let refused = put(entry(r#"{"type":"intger"}"#)).await;
    assert!(matches!(refused, InvalidEntry::Schema(_)), "{refused:?}");
    let refused = put(entry("{")).await;
    assert!(matches!(refused, InvalidEntry::Json { .. }), "{refused:?}");
    match put(entry(NUMBER).example(r#"{"n":"x"}"#)).await {
        InvalidEntry::Example(violation) => assert_eq!(violation.path, "/n"),
        other => panic!("{other:?}"),
    }
    types
        .put(entry(NUMBER).example(r#"{"n":7}"#))
        .await
        .unwrap();
}

/// Two processes on one store, the second of which counts what it asks, and can be cut off from the catalogue.
struct Two {
    first: Dispatcher,
    second: Dispatcher,
    clock: ManualClock,
    asked: Arc<AtomicUsize>,
    is_away: Arc<AtomicBool>,
}

fn two() -> Two {
    let (store, clock) = (MemoryStore::new(), ManualClock::default());
    let (asked, is_away) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
    let (counted, away) = (Arc::clone(&asked), Arc::clone(&is_away));
    let watched = Intercepted::new(store.clone(), move |operation| {
        let of_catalogue = operation == "schemas";
        counted.fetch_add(usize::from(of_catalogue), Ordering::SeqCst);
        let fails = of_catalogue && away.load(Ordering::SeqCst);
        async move {
            match fails {
                true => Err(Error::new(ErrorKind::Unavailable, operation)),
                false => Ok(()),
            }
        }
    });
    let first = Dispatcher::builder(store)
        .transport(ScriptedTransport::default())
        .clock(clock.clone());
    let second = Dispatcher::builder(watched)
        .transport(ScriptedTransport::default())
        .clock(clock.clone());
    Two {
        first: first.build().unwrap().erase(),
        second: second.build().unwrap().erase(),
        clock,
        asked,
        is_away,
    }
}

#[tokio::test]
async fn another_process_heeds_a_change_within_a_second_and_asks_once_for_it() {
    let two = two();
    let asked = || two.asked.load(Ordering::SeqCst);
    for _ in 0..10 {
        two.second.enqueue(event(r#"{"n":"x"}"#)).await.unwrap();
    }
    assert_eq!(asked(), 1, "not at each event");
    two.first.event_types().put(entry(NUMBER)).await.unwrap();
    two.clock.advance(SECOND / 2);
    two.second.enqueue(event(r#"{"n":"x"}"#)).await.unwrap();
    assert_eq!(asked(), 1);
    two.clock.advance(SECOND / 2);
    for _ in 0..10 {
        let refused = two.second.enqueue(event(r#"{"n":"x"}"#)).await;
        assert_eq!(place(refused.unwrap_err()), "/n");
    }
    assert_eq!(asked(), 2);
    two.clock.set(two.clock.now() - SECOND * 3_600);
    let refused = two.second.enqueue(event(r#"{"n":"x"}"#)).await;
    assert_eq!(place(refused.unwrap_err()), "/n");
    assert_eq!(asked(), 3, "nobody waits for a clock that was set back");
    for _ in 0..10 {
        two.second.step().await.unwrap();
        two.clock.advance(SECOND);
    }
    assert_eq!(asked(), 3, "who enqueues nothing asks for nothing");
}

#[tokio::test]
async fn nothing_is_accepted_unchecked_while_the_catalogue_cannot_be_read() {
    let two = two();
    two.first.event_types().put(entry(NUMBER)).await.unwrap();
    two.is_away.store(true, Ordering::SeqCst);
    for data in [r#"{"n":"x"}"#, r#"{"n":1}"#] {
        match two.second.enqueue(event(data)).await.unwrap_err() {
            EnqueueError::Store(error) => assert!(error.is_retryable()),
            other => panic!("{other:?}"),
        }
    }
    two.is_away.store(false, Ordering::SeqCst);
    two.second.enqueue(event(r#"{"n":1}"#)).await.unwrap();
    let refused = two.second.enqueue(event(r#"{"n":"x"}"#)).await;
    assert_eq!(place(refused.unwrap_err()), "/n");
    two.is_away.store(true, Ordering::SeqCst);
    two.second.enqueue(event(r#"{"n":1}"#)).await.unwrap();
    two.clock.advance(SECOND);
    assert!(two.second.enqueue(event(r#"{"n":1}"#)).await.is_err());
}

#[tokio::test]
async fn a_schema_that_is_taken_back_no_longer_counts() {
    let world = World::new(ScriptedTransport::default());
    let types = world.dispatcher.event_types();
    types.put(entry(NUMBER)).await.unwrap();
    world
        .dispatcher
        .enqueue(event(r#"{"n":"x"}"#))
        .await
        .unwrap_err();
    let other = entry(r#"{"properties": {"n": {"type": "string"}}}"#);
    types.put(other).await.unwrap();
    world
        .dispatcher
        .enqueue(event(r#"{"n":"x"}"#))
        .await
        .unwrap();
    world
        .dispatcher
        .enqueue(event(r#"{"n":1}"#))
        .await
        .unwrap_err();
    types
        .put(NewCatalogueEntry::new("order.paid".parse().unwrap()))
        .await
        .unwrap();
    world.dispatcher.enqueue(event(r#"{"n":1}"#)).await.unwrap();
}

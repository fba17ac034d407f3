//! The way in.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;
use webhook_core::testing::{Intercepted, ManualClock, ScriptedTransport, enqueued};
use webhook_core::{
    BatchError, Dispatcher, EndpointSettings, EnqueueError, Error, ErrorKind, InvalidEvent,
    MAX_BATCH, MemoryStore, NewEvent,
};

use crate::{World, deliveries, event, until};

/// A store whose inserts wait for a permit each, and are counted.
struct Gated {
    dispatcher: Dispatcher,
    gate: Arc<Semaphore>,
    inserts: Arc<AtomicUsize>,
}

fn gated() -> Gated {
    let (gate, inserts) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
    let (hook_gate, hook_inserts) = (Arc::clone(&gate), Arc::clone(&inserts));
    let store = Intercepted::new(MemoryStore::new(), move |operation| {
        let (gate, inserts) = (Arc::clone(&hook_gate), Arc::clone(&hook_inserts));
        async move {
            if operation == "insert_events" {
                inserts.fetch_add(1, Ordering::SeqCst);
                gate.acquire().await.unwrap().forget();
            }
            Ok(())
        }
    });
    let dispatcher = Dispatcher::builder(store)
        .transport(ScriptedTransport::default())
        .build()
        .unwrap()
        .erase();
    Gated {
        dispatcher,
        gate,
        inserts,
    }
}

fn spawn_enqueue(
    dispatcher: &Dispatcher,
) -> tokio::task::JoinHandle<Result<uuid::Uuid, EnqueueError>> {
    let dispatcher = dispatcher.clone();
    tokio::spawn(async move { dispatcher.enqueue(event()).await })
}

#[tokio::test]
async fn concurrent_calls_share_an_insert() {
    let Gated {
        dispatcher,
        gate,
        inserts,
    } = gated();
    let first = spawn_enqueue(&dispatcher);
    until(|| inserts.load(Ordering::SeqCst) == 1).await;
    let rest: Vec<_> = (0..100).map(|_| spawn_enqueue(&dispatcher)).collect();
    tokio::task::yield_now().await;
    gate.add_permits(2);
    first.await.unwrap().unwrap();
    for call in rest {
        call.await.unwrap().unwrap();
    }
    assert_eq!(
        inserts.load(Ordering::SeqCst),
        2,
        "one for the first, one for all that came meanwhile"
    );
    assert_eq!(enqueued(&dispatcher).await.unwrap().len(), 101);
}

#[tokio::test]
async fn a_caller_that_gives_up_hands_the_turn_over() {
    let Gated {
        dispatcher,
        gate,
        inserts,
    } = gated();
    let first = spawn_enqueue(&dispatcher);
    until(|| inserts.load(Ordering::SeqCst) == 1).await;
    let second = spawn_enqueue(&dispatcher);
    tokio::task::yield_now().await;
    first.abort();
    first.await.unwrap_err();
    gate.add_permits(1);
    second.await.unwrap().unwrap();
    gate.add_permits(1);
    dispatcher.enqueue(event()).await.unwrap();
}

#[test]
fn a_runtime_that_ends_in_mid_insert_leaves_the_way_in_open() {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    let Gated {
        dispatcher,
        gate,
        inserts,
    } = gated();
    let first = runtime();
    first.block_on(async {
        let calls = [(); 3].map(|()| spawn_enqueue(&dispatcher));
        until(|| inserts.load(Ordering::SeqCst) == 1).await;
        tokio::task::yield_now().await;
        drop(calls);
    });
    drop(first);
    gate.add_permits(10);
    runtime().block_on(dispatcher.enqueue(event())).unwrap();
}

#[tokio::test]
async fn a_refused_batch_fails_only_the_caller_at_fault() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let gate = Arc::new(Semaphore::new(0));
    let hook_gate = Arc::clone(&gate);
    // Call 1 is the first event, call 2 the shared insert, calls 3 to 5 its three events one by one.
    let store = Intercepted::new(MemoryStore::new(), move |operation| {
        let (counted, gate) = (Arc::clone(&counted), Arc::clone(&hook_gate));
        async move {
            if operation != "insert_events" {
                return Ok(());
            }
            let call = counted.fetch_add(1, Ordering::SeqCst) + 1;
            gate.acquire().await.unwrap().forget();
            if call == 2 || call == 4 {
                Err(Error::new(ErrorKind::Rejected, operation))
            } else {
                Ok(())
            }
        }
    });
    let dispatcher = Dispatcher::builder(store)
        .transport(ScriptedTransport::default())
        .build()
        .unwrap()
        .erase();
    let first = spawn_enqueue(&dispatcher);
    until(|| calls.load(Ordering::SeqCst) == 1).await;
    let rest: Vec<_> = (0..3).map(|_| spawn_enqueue(&dispatcher)).collect();
    tokio::task::yield_now().await;
    gate.add_permits(5);
    first.await.unwrap().unwrap();
    let mut accepted = Vec::new();
    for call in rest {
        accepted.push(call.await.unwrap().is_ok());
    }
    assert_eq!(accepted, [true, false, true]);
}

#[tokio::test]
async fn a_store_that_is_away_accepts_nothing() {
    let store = Intercepted::new(MemoryStore::new(), |operation| async move {
        if operation == "insert_events" {
            Err(Error::new(ErrorKind::Unavailable, operation))
        } else {
            Ok(())
        }
    });
    let dispatcher = Dispatcher::builder(store)
        .transport(ScriptedTransport::default())
        .build()
        .unwrap()
        .erase();
    assert!(
        matches!(dispatcher.enqueue(event()).await, Err(EnqueueError::Store(error)) if error.is_retryable())
    );
    assert!(matches!(
        dispatcher.enqueue_batch(vec![event()]).await,
        Err(BatchError::Store(_))
    ));
    assert!(enqueued(&dispatcher).await.unwrap().is_empty());
}

#[tokio::test]
async fn who_has_waited_for_long_does_not_wait_for_one_failing_insert_after_the_other() {
    let (clock, gate) = (ManualClock::default(), Arc::new(Semaphore::new(0)));
    let inserts = Arc::new(AtomicUsize::new(0));
    let (hook_gate, hook_inserts) = (Arc::clone(&gate), Arc::clone(&inserts));
    let store = Intercepted::new(MemoryStore::new(), move |operation| {
        let (gate, inserts) = (Arc::clone(&hook_gate), Arc::clone(&hook_inserts));
        async move {
            if operation != "insert_events" {
                return Ok(());
            }
            inserts.fetch_add(1, Ordering::SeqCst);
            gate.acquire().await.unwrap().forget();
            Err(Error::new(ErrorKind::Unavailable, operation))
        }
    });
    let dispatcher = Dispatcher::builder(store)
        .transport(ScriptedTransport::default())
        .clock(clock.clone())
        .build()
        .unwrap()
        .erase();
    let mut calls = vec![spawn_enqueue(&dispatcher)];
    until(|| inserts.load(Ordering::SeqCst) == 1).await;
    // 500 of them are the next insert; the others have waited no less.
    calls.extend((0..600).map(|_| spawn_enqueue(&dispatcher)));
    for _ in 0..700 {
        tokio::task::yield_now().await;
    }
    clock.advance(Duration::from_secs(25));
    let late = spawn_enqueue(&dispatcher);
    tokio::task::yield_now().await;
    gate.add_permits(2);
    until(|| calls.iter().all(tokio::task::JoinHandle::is_finished)).await;
    for call in calls {
        let failed = call.await.unwrap().unwrap_err();
        assert!(matches!(failed, EnqueueError::Store(_)), "{failed}");
    }
    until(|| inserts.load(Ordering::SeqCst) == 3).await;
    assert!(!late.is_finished(), "it has its turn");
    gate.add_permits(1);
    late.await.unwrap().unwrap_err();
}

#[tokio::test]
async fn an_idempotency_key_makes_repeated_calls_one_event() {
    let world = World::new(ScriptedTransport::default());
    world.endpoint(EndpointSettings::default()).await;
    let keyed = |data: &'static str| {
        NewEvent::data("a", data)
            .unwrap()
            .idempotency_key("k")
            .unwrap()
    };
    let first = world.dispatcher.enqueue(keyed("1")).await.unwrap();
    assert_eq!(world.dispatcher.enqueue(keyed("1")).await.unwrap(), first);
    let other = world.dispatcher.enqueue(keyed("2")).await;
    assert!(
        matches!(other, Err(EnqueueError::IdempotencyConflict { event_id }) if event_id == first)
    );
    assert_eq!(world.deliveries().await.len(), 1);
}

#[tokio::test]
async fn a_key_stands_for_its_event_as_long_as_the_host_says() {
    let clock = ManualClock::default();
    let hour = Duration::from_secs(3_600);
    let dispatcher = Dispatcher::builder(MemoryStore::new())
        .transport(ScriptedTransport::default())
        .clock(clock.clone())
        .idempotency_window(hour)
        .build()
        .unwrap();
    let enqueue = async || {
        let keyed = event().idempotency_key("order-7").unwrap();
        dispatcher.enqueue(keyed).await.unwrap()
    };
    let first = enqueue().await;
    clock.advance(hour - Duration::from_micros(1));
    assert_eq!(enqueue().await, first);
    clock.advance(Duration::from_micros(1));
    assert_ne!(enqueue().await, first);
}

#[tokio::test]
async fn many_calls_with_one_key_make_one_event() {
    let world = World::new(ScriptedTransport::default());
    world.endpoint(EndpointSettings::default()).await;
    let calls: Vec<_> = (0..50)
        .map(|_| {
            let dispatcher = world.dispatcher.clone();
            tokio::spawn(async move {
                dispatcher
                    .enqueue(event().idempotency_key("k").unwrap())
                    .await
                    .unwrap()
            })
        })
        .collect();
    let mut ids = std::collections::HashSet::new();
    for call in calls {
        ids.insert(call.await.unwrap());
    }
    assert_eq!(ids.len(), 1);
    assert_eq!(world.deliveries().await.len(), 1);
}

#[tokio::test]
async fn a_batch_is_all_or_nothing_and_names_the_event_at_fault() {
    let world = World::new(ScriptedTransport::default());
    world.endpoint(EndpointSettings::default()).await;
    let keyed = |data: &'static str| {
        NewEvent::data("a", data)
            .unwrap()
            .idempotency_key("k")
            .unwrap()
    };
    let ids = world
        .dispatcher
        .enqueue_batch(vec![event(), keyed("1"), event()])
        .await
        .unwrap();
    assert_eq!(ids.len(), 3);
    let refused = world
        .dispatcher
        .enqueue_batch(vec![event(), event(), keyed("2")])
        .await;
    assert!(matches!(
        refused,
        Err(BatchError::Event { index: 2, source: EnqueueError::IdempotencyConflict { event_id } }) if event_id == ids[1]
    ));
    let large = NewEvent::data("a", format!("\"{}\"", "x".repeat(256 * 1_024))).unwrap();
    let refused = world.dispatcher.enqueue_batch(vec![event(), large]).await;
    assert!(matches!(
        refused,
        Err(BatchError::Event {
            index: 1,
            source: EnqueueError::Invalid(InvalidEvent::TooLarge { .. })
        })
    ));
    assert!(matches!(
        world
            .dispatcher
            .enqueue_batch(vec![event(); MAX_BATCH + 1])
            .await,
        Err(BatchError::TooMany)
    ));
    assert_eq!(world.deliveries().await.len(), 3);
}

#[tokio::test]
async fn an_error_of_a_batch_names_the_event_and_leaves_the_reason_to_its_source() {
    let world = World::new(ScriptedTransport::default());
    let large = NewEvent::data("a", format!("\"{}\"", "x".repeat(256 * 1_024))).unwrap();
    let refused = world.dispatcher.enqueue_batch(vec![event(), large]).await;
    let error = refused.unwrap_err();
    assert_eq!(error.to_string(), "event 1 was not accepted");
    let source = std::error::Error::source(&error).unwrap();
    assert!(source.to_string().starts_with("the body is "), "{source}");
}

#[test]
fn what_passes_may_be_enqueued_again() {
    let store = |kind| EnqueueError::Store(Error::new(kind, "insert_events"));
    let event_id = uuid::Uuid::nil();
    for (error, is_retryable) in [
        (InvalidEvent::EventType.into(), false),
        (EnqueueError::IdempotencyConflict { event_id }, false),
        (EnqueueError::Overloaded, true),
        (store(ErrorKind::Unavailable), true),
        (store(ErrorKind::Rejected), false),
    ] {
        assert_eq!(error.is_retryable(), is_retryable, "{error}");
    }
}

#[tokio::test]
async fn an_event_in_a_transaction_exists_with_its_commit() {
    let world = World::new(ScriptedTransport::default());
    world.endpoint(EndpointSettings::default()).await;
    let mut rolled_back = world.store.begin();
    world
        .dispatcher
        .enqueue_in(&mut rolled_back, event())
        .await
        .unwrap();
    drop(rolled_back);
    let mut committed = world.store.begin();
    world
        .dispatcher
        .enqueue_in(&mut committed, event())
        .await
        .unwrap();
    assert!(deliveries(&world.dispatcher.erase()).await.is_empty());
    committed.commit().unwrap();
    world.dispatcher.step().await.unwrap();
    assert_eq!(world.receiver.requests().len(), 1);
}

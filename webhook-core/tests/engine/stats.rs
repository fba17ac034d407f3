//! What is counted, and when it is stored.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::oneshot;
use webhook_core::testing::{Intercepted, ManualClock, ScriptedTransport};
use webhook_core::{
    Clock as _, Dispatcher, EndpointSettings, Error, ErrorKind, MemoryStore, Rollup, Scope, Stats,
    StatsQuery, StatsRange, StatsRow, Store,
};

use crate::{World, create_endpoint, event, until};

/// A process on a store that others share.
fn process<S: Store + 'static>(store: S, clock: &ManualClock) -> Dispatcher {
    let builder = Dispatcher::builder(store)
        .transport(ScriptedTransport::default())
        .clock(clock.clone());
    builder.build().unwrap().erase()
}

/// What the store itself has, whatever processes hold back.
async fn stored(store: &MemoryStore, clock: &ManualClock) -> Rollup {
    let query = StatsQuery {
        since: clock.now() - StatsRange::Day.length(),
        until: clock.now() + StatsRange::Day.length(),
        step: StatsRow::MINUTE,
        endpoint: None,
        trends: false,
    };
    store.stats(&Scope::All, &query).await.unwrap()
}

async fn last_hour(dispatcher: &Dispatcher) -> Stats {
    let stats = dispatcher.stats(&Scope::All, StatsRange::Hour, None);
    stats.await.unwrap()
}

#[tokio::test]
async fn what_happens_is_counted_as_it_ends() {
    let world = World::new(ScriptedTransport::new([503, 200, 410]));
    let endpoint = world.endpoint(EndpointSettings::default()).await;
    for _ in 0..2 {
        world.enqueue().await;
        let by = Duration::from_secs(10);
        let ran = webhook_core::testing::fast_forward(&world.dispatcher, &world.clock, by);
        ran.await.unwrap();
    }
    let stats = last_hour(&world.dispatcher.erase()).await;
    let total = &stats.total;
    assert_eq!(
        (total.accepted, total.delivered, total.dead_lettered),
        (2, 1, 1)
    );
    assert_eq!((total.server_errors, total.client_errors), (1, 1));
    assert_eq!((total.latency.count(), total.delay.count()), (3, 1));
    let delay = total.delay.percentile(50).unwrap();
    assert!(delay >= Duration::from_secs(4), "the retry's wait is in it");
    assert_eq!(stats.endpoints.len(), 1);
    assert_eq!(stats.endpoints[0].id, endpoint.id);
    assert_eq!(stats.endpoints[0].counts.attempts(), 3);
    assert_eq!(stats.depth.unwrap().ready, 0);
}

#[tokio::test]
async fn a_known_idempotency_key_is_not_accepted_twice() {
    let world = World::new(ScriptedTransport::default());
    for _ in 0..2 {
        let event = event().idempotency_key("once").unwrap();
        world.dispatcher.enqueue(event).await.unwrap();
    }
    let mut tx = world.store.begin();
    let joined = world.dispatcher.enqueue_in(&mut tx, event());
    joined.await.unwrap();
    tx.commit().unwrap();
    let batch = world.dispatcher.enqueue_batch(vec![event(), event()]);
    batch.await.unwrap();
    let stats = last_hour(&world.dispatcher.erase()).await;
    assert_eq!(stats.total.accepted, 4);
}

#[tokio::test]
async fn a_running_process_stores_each_minute_once_and_nothing_while_idle() {
    let (store, clock) = (MemoryStore::new(), ManualClock::default());
    let appended = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&appended);
    let counted = Intercepted::new(store.clone(), move |operation| {
        counter.fetch_add(usize::from(operation == "append_stats"), Ordering::SeqCst);
        async { Ok(()) }
    });
    let dispatcher = process(counted, &clock);
    let (stop, stopped) = oneshot::channel::<()>();
    let worker = dispatcher.clone();
    let worker = tokio::spawn(async move {
        worker.run(async { stopped.await.unwrap_or(()) }).await;
    });
    create_endpoint(&dispatcher, EndpointSettings::default()).await;
    for minute in 1..=2 {
        for _ in 0..5 {
            dispatcher.enqueue(event()).await.unwrap();
        }
        while last_hour(&dispatcher).await.total.delivered < 5 * minute {
            tokio::task::yield_now().await;
        }
        clock.advance(StatsRow::MINUTE);
        until(|| appended.load(Ordering::SeqCst) as u64 == minute).await;
    }
    for _ in 0..10 {
        clock.advance(StatsRow::MINUTE);
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(appended.load(Ordering::SeqCst), 2, "nothing happened since");

    dispatcher.enqueue(event()).await.unwrap();
    stop.send(()).unwrap();
    worker.await.unwrap();
    let rollup = stored(&store, &clock).await;
    let accepted = rollup.steps.values().map(|it| it.accepted);
    assert_eq!(
        accepted.collect::<Vec<_>>(),
        [5, 5, 1],
        "the end is stored, too"
    );
}

#[tokio::test]
async fn processes_are_added_up() {
    let (store, clock) = (MemoryStore::new(), ManualClock::default());
    let processes = [
        process(store.clone(), &clock),
        process(store.clone(), &clock),
    ];
    for process in &processes {
        for _ in 0..3 {
            process.enqueue(event()).await.unwrap();
        }
    }
    let [one, other] = &processes;
    assert_eq!(last_hour(one).await.total.accepted, 3, "its own at once");
    other.flush_stats().await.unwrap();
    other.flush_stats().await.unwrap();
    assert_eq!(last_hour(one).await.total.accepted, 6);
    assert_eq!(last_hour(other).await.total.accepted, 3);
}

#[tokio::test]
async fn a_process_that_only_accepts_stores_the_minute_before() {
    let (store, clock) = (MemoryStore::new(), ManualClock::default());
    let accepting = process(store.clone(), &clock);
    accepting.enqueue(event()).await.unwrap();
    accepting.enqueue(event()).await.unwrap();
    assert_eq!(stored(&store, &clock).await, Rollup::default());
    clock.advance(StatsRow::MINUTE);
    accepting.enqueue(event()).await.unwrap();
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    let rollup = stored(&store, &clock).await;
    let accepted: Vec<_> = rollup.steps.values().map(|it| it.accepted).collect();
    assert_eq!(accepted, [2]);
    assert_eq!(last_hour(&accepting).await.total.accepted, 3);
}

#[tokio::test]
async fn what_the_store_did_not_take_is_kept_for_the_next_time() {
    let (store, clock) = (MemoryStore::new(), ManualClock::default());
    let away = Arc::new(AtomicBool::new(true));
    let is_away = Arc::clone(&away);
    let shaky = Intercepted::new(store.clone(), move |operation| {
        let fails = operation == "append_stats" && is_away.load(Ordering::SeqCst);
        async move {
            if fails {
                Err(Error::new(ErrorKind::Unavailable, operation))
            } else {
                Ok(())
            }
        }
    });
    let dispatcher = process(shaky, &clock);
    dispatcher.enqueue(event()).await.unwrap();
    assert!(dispatcher.flush_stats().await.is_err());
    assert_eq!(last_hour(&dispatcher).await.total.accepted, 1);
    away.store(false, Ordering::SeqCst);
    dispatcher.flush_stats().await.unwrap();
    assert_eq!(last_hour(&dispatcher).await.total.accepted, 1);
    let rollup = stored(&store, &clock).await;
    assert_eq!(rollup.steps.values().next().unwrap().accepted, 1);
}

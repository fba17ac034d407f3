//! Beside an index queue: what it forgets comes back from the store.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;
use webhook_core::testing::{Intercepted, ManualClock, ScriptedTransport, fast_forward};
use webhook_core::{
    ClaimOptions, Claimed, Clock as _, Depth, Dispatcher, EndpointChange, EndpointSettings, Error,
    ErrorKind, Job, Lease, MemoryQueue, MemoryStore, Now, Queue, Settle, Store, Timestamp,
};

use crate::{DAY, create_endpoint, event};

struct Indexed<S = MemoryStore> {
    dispatcher: Dispatcher<S>,
    store: S,
    queue: MemoryQueue,
    clock: ManualClock,
    receiver: ScriptedTransport,
    endpoint: Uuid,
}

async fn indexed(receiver: ScriptedTransport) -> Indexed {
    indexed_in(MemoryStore::new(), receiver).await
}

async fn indexed_in<S: Store + Clone + 'static>(
    store: S,
    receiver: ScriptedTransport,
) -> Indexed<S> {
    let (queue, clock) = (MemoryQueue::default(), ManualClock::default());
    let dispatcher = Dispatcher::builder(store.clone())
        .queue(queue.clone())
        .transport(receiver.clone())
        .clock(clock.clone())
        .seed(1)
        .build()
        .unwrap();
    let endpoint = create_endpoint(&dispatcher.erase(), EndpointSettings::default()).await;
    Indexed {
        dispatcher,
        store,
        queue,
        clock,
        receiver,
        endpoint: endpoint.id,
    }
}

#[tokio::test]
async fn an_erased_queue_loses_nothing_and_sends_nothing_twice() {
    let world = indexed(ScriptedTransport::new([503; 5])).await;
    world.dispatcher.enqueue(event()).await.unwrap();
    fast_forward(&world.dispatcher, &world.clock, Duration::from_secs(12_000))
        .await
        .unwrap();
    assert_eq!(world.receiver.requests().len(), 5);
    world.queue.erase();
    fast_forward(&world.dispatcher, &world.clock, DAY)
        .await
        .unwrap();
    assert_eq!(world.receiver.requests().len(), 6);
}

#[tokio::test]
async fn jobs_that_were_never_pushed_are_found() {
    let world = indexed(ScriptedTransport::default()).await;
    // Another process, which crashed before it pushed; nothing here expects its commits.
    let other = Dispatcher::builder(world.store.clone())
        .transport(ScriptedTransport::default())
        .clock(world.clock.clone())
        .build()
        .unwrap();
    for _ in 0..2_500 {
        other.enqueue(event()).await.unwrap();
    }
    while world.dispatcher.step().await.unwrap().claimed > 0 {}
    assert_eq!(world.receiver.requests().len(), 2_500);
}

/// A queue of which the part with one lane is away.
#[derive(Clone)]
struct InParts {
    queue: MemoryQueue,
    away: Arc<Mutex<Option<Uuid>>>,
}

#[async_trait]
impl Queue for InParts {
    async fn push(&self, jobs: &[Job], now: Now) -> Result<(), Error> {
        let away = *self.away.lock().unwrap();
        let (failing, others): (Vec<_>, Vec<_>) =
            jobs.iter().cloned().partition(|job| Some(job.lane) == away);
        self.queue.push(&others, now).await?;
        match failing.is_empty() {
            true => Ok(()),
            false => Err(Error::new(ErrorKind::Unavailable, "push")),
        }
    }

    async fn claim(&self, options: ClaimOptions, now: Now) -> Result<Claimed, Error> {
        self.queue.claim(options, now).await
    }

    async fn extend(&self, leases: &[Lease], by: Duration, now: Now) -> Result<Vec<Lease>, Error> {
        self.queue.extend(leases, by, now).await
    }

    async fn settle(&self, settled: &[(Lease, Settle)], now: Now) -> Result<(), Error> {
        self.queue.settle(settled, now).await
    }

    async fn hold(&self, lane: Uuid, by: Duration, now: Now) -> Result<(), Error> {
        self.queue.hold(lane, by, now).await
    }

    async fn release(&self, lane: Uuid) -> Result<(), Error> {
        self.queue.release(lane).await
    }

    async fn ready(&self) {
        self.queue.ready().await;
    }

    async fn epoch(&self) -> Result<u64, Error> {
        self.queue.epoch().await
    }

    async fn depth(&self, now: Now) -> Result<Depth, Error> {
        self.queue.depth(now).await
    }
}

#[tokio::test]
async fn a_part_of_the_queue_that_is_away_does_not_keep_the_rest_from_being_filled() {
    let world = indexed(ScriptedTransport::default()).await;
    let queue = InParts {
        queue: world.queue.clone(),
        away: Arc::default(),
    };
    let dispatcher = Dispatcher::builder(world.store.clone())
        .queue(queue.clone())
        .transport(world.receiver.clone())
        .clock(world.clock.clone())
        .build()
        .unwrap();
    create_endpoint(&dispatcher.erase(), EndpointSettings::default()).await;
    let later = world.clock.now() + DAY;
    for _ in 0..1_500 {
        let event = event().deliver_at(later);
        dispatcher.enqueue(event).await.unwrap();
    }
    while parked(&world).await < 3_000 {
        dispatcher.step().await.unwrap();
    }

    *queue.away.lock().unwrap() = Some(world.endpoint);
    world.queue.erase();
    for _ in 0..3 {
        dispatcher.step().await.unwrap_err();
    }
    assert_eq!(parked(&world).await, 1_500);

    // Two ticks, for what is left of the round and the next one: no page of it waits for another.
    *queue.away.lock().unwrap() = None;
    for _ in 0..2 {
        dispatcher.step().await.unwrap();
    }
    assert_eq!(parked(&world).await, 3_000);
}

/// Lets a queue forget one job, and not know that it did.
async fn forget(queue: &MemoryQueue, later: Timestamp) {
    let claimed = queue.claim(ClaimOptions::new(1, DAY), Some(later)).await;
    let lease = claimed.unwrap().leases[0];
    let done = [(lease, Settle::Done)];
    queue.settle(&done, Some(later)).await.unwrap();
}

async fn parked<S>(world: &Indexed<S>) -> u64 {
    let depth = world.queue.depth(Some(world.clock.now())).await;
    depth.unwrap().parked
}

#[tokio::test]
async fn the_audit_rests_between_rounds() {
    let world = indexed(ScriptedTransport::default()).await;
    let later = world.clock.now() + DAY;
    let parked_event = event().deliver_at(later);
    world.dispatcher.enqueue(parked_event).await.unwrap();
    world.dispatcher.step().await.unwrap();
    forget(&world.queue, later).await;
    world.clock.advance(Duration::from_secs(29));
    world.dispatcher.step().await.unwrap();
    assert_eq!(parked(&world).await, 0);
    world.clock.advance(Duration::from_secs(1));
    world.dispatcher.step().await.unwrap();
    assert_eq!(parked(&world).await, 1);
}

#[tokio::test]
async fn the_audit_does_not_rest_after_a_failure_or_a_change() {
    let away = Arc::new(AtomicBool::new(false));
    let is_away = Arc::clone(&away);
    let store = Intercepted::new(MemoryStore::new(), move |operation| {
        let fails = operation == "unqueued" && is_away.load(Ordering::Relaxed);
        let answer = match fails {
            true => Err(Error::new(ErrorKind::Unavailable, operation)),
            false => Ok(()),
        };
        async { answer }
    });
    let world = indexed_in(store, ScriptedTransport::default()).await;
    let later = world.clock.now() + DAY;
    let parked_event = event().deliver_at(later);
    world.dispatcher.enqueue(parked_event).await.unwrap();
    world.dispatcher.step().await.unwrap();

    forget(&world.queue, later).await;
    world.clock.advance(Duration::from_secs(11));
    away.store(true, Ordering::Relaxed);
    world.dispatcher.step().await.unwrap_err();
    away.store(false, Ordering::Relaxed);
    world.dispatcher.step().await.unwrap();
    assert_eq!(parked(&world).await, 1);

    forget(&world.queue, later).await;
    let endpoint = world.endpoint;
    let slower = |change: &mut EndpointChange| change.settings.max_in_flight = Some(1);
    let endpoints = world.dispatcher.endpoints();
    endpoints.update(endpoint, slower).await.unwrap();
    world.dispatcher.step().await.unwrap();
    assert_eq!(parked(&world).await, 1);
}

#[tokio::test]
async fn a_commit_behind_a_backlog_is_found_at_once() {
    let world = indexed(ScriptedTransport::default()).await;
    let later = world.clock.now() + DAY;
    for _ in 0..3_000 {
        world
            .dispatcher
            .enqueue(event().deliver_at(later))
            .await
            .unwrap();
    }
    let mut tx = world.store.begin();
    world.dispatcher.enqueue_in(&mut tx, event()).await.unwrap();
    world.dispatcher.step().await.unwrap();
    tx.commit().unwrap();
    world.dispatcher.step().await.unwrap();
    assert_eq!(world.receiver.requests().len(), 1);
}

#[tokio::test]
async fn a_running_worker_takes_up_a_commit_at_once() {
    let world = indexed(ScriptedTransport::default()).await;
    let worker = world.dispatcher.clone();
    let worker = tokio::spawn(async move { worker.run(std::future::pending()).await });
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    let mut tx = world.store.begin();
    world.dispatcher.enqueue_in(&mut tx, event()).await.unwrap();
    tx.commit().unwrap();
    let began = world.clock.now();
    crate::until(|| {
        world.clock.advance(Duration::from_millis(1));
        world.receiver.requests().len() == 1
    })
    .await;
    assert!(world.clock.now().since(began) < Duration::from_millis(100));
    worker.abort();
}

#[tokio::test]
async fn a_settle_that_was_lost_does_no_harm() {
    let world = indexed(ScriptedTransport::default()).await;
    world.dispatcher.enqueue(event()).await.unwrap();
    world.dispatcher.step().await.unwrap();
    // The queue believes that the job is still there, as after a crash between record and settle.
    let jobs = world.store.clone();
    let page = webhook_core::PageRequest::first(1);
    let delivery = world
        .dispatcher
        .deliveries()
        .list(&Default::default(), page)
        .await
        .unwrap()
        .items
        .remove(0);
    let endpoint = world
        .dispatcher
        .endpoints()
        .get(delivery.endpoint_id)
        .await
        .unwrap();
    let stale = webhook_core::Job::new(delivery.id, &endpoint, delivery.created_at, 1);
    webhook_core::Queue::push(&world.queue, &[stale], None)
        .await
        .unwrap();
    assert_eq!(world.dispatcher.step().await.unwrap().claimed, 1);
    assert_eq!(
        world.dispatcher.step().await.unwrap().claimed,
        0,
        "it was settled when found ended"
    );
    assert_eq!(world.receiver.requests().len(), 1);
    drop(jobs);
}

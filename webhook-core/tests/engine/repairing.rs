//! Beside an index queue: what it forgets comes back from the store.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;
use webhook_core::testing::{Intercepted, ManualClock, ScriptedTransport, fast_forward};
use webhook_core::{
    ClaimOptions, Claimed, Clock as _, DeliveryStatus, Depth, Dispatcher, EndpointChange,
    EndpointSettings, EndpointState, Error, ErrorKind, Hold, Job, Lease, MemoryQueue, MemoryStore,
    NewEndpoint, Now, Queue, QueuePart, Settle, Store, Tenant, Timestamp,
};

use crate::{DAY, create_endpoint, deliveries, event};

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
async fn what_was_not_attempted_is_handed_back_in_the_store_too() {
    let world = indexed(ScriptedTransport::default()).await;
    world.dispatcher.enqueue(event()).await.unwrap();
    let dispatcher = world.dispatcher.erase();
    let becomes = async |dispatcher: &Dispatcher, state| {
        let update = |change: &mut EndpointChange| change.state = state;
        let endpoints = dispatcher.endpoints();
        endpoints.update(world.endpoint, update).await.unwrap();
    };
    // In a process whose word does not reach the queue.
    let other = Dispatcher::builder(world.store.clone())
        .transport(ScriptedTransport::default())
        .clock(world.clock.clone())
        .build()
        .unwrap();
    becomes(&other.erase(), EndpointState::Paused).await;
    assert_eq!(dispatcher.step().await.unwrap().claimed, 1);
    let waiting = deliveries(&dispatcher).await.remove(0);
    assert_eq!(waiting.status, DeliveryStatus::Pending);
    becomes(&dispatcher, EndpointState::Enabled).await;
    // Nothing waits for the end of a lease.
    fast_forward(&dispatcher, &world.clock, Duration::from_secs(2))
        .await
        .unwrap();
    assert_eq!(world.receiver.requests().len(), 1);
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

/// A queue of which a part may be away, and that knows what was pushed.
#[derive(Clone)]
struct InParts {
    queue: MemoryQueue,
    away: Arc<Mutex<Option<usize>>>,
    /// Whether no lane can be released.
    keeps_holds: Arc<AtomicBool>,
    pushed: Arc<Mutex<Vec<Uuid>>>,
}

impl InParts {
    fn new(count: usize) -> Self {
        Self {
            queue: MemoryQueue::in_parts(count),
            away: Arc::default(),
            keeps_holds: Arc::default(),
            pushed: Arc::default(),
        }
    }

    /// The lanes of what was pushed since it was last asked.
    fn pushed(&self) -> Vec<Uuid> {
        std::mem::take(&mut *self.pushed.lock().unwrap())
    }
}

#[async_trait]
impl Queue for InParts {
    async fn push(&self, jobs: &[Job], now: Now) -> Result<(), Error> {
        let away = *self.away.lock().unwrap();
        let is_away = |job: &Job| Some(self.queue.part_of(job.lane)) == away;
        let (failing, others): (Vec<_>, Vec<_>) = jobs.iter().cloned().partition(is_away);
        self.queue.push(&others, now).await?;
        let lanes = others.iter().map(|job| job.lane);
        self.pushed.lock().unwrap().extend(lanes);
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

    async fn hold(&self, lane: Uuid, hold: Hold, now: Now) -> Result<(), Error> {
        self.queue.hold(lane, hold, now).await
    }

    async fn release(&self, lane: Uuid) -> Result<(), Error> {
        if self.keeps_holds.load(Ordering::SeqCst) {
            // Others get on meanwhile.
            tokio::task::yield_now().await;
            return Err(Error::new(ErrorKind::Unavailable, "release"));
        }
        self.queue.release(lane).await
    }

    async fn ready(&self) {
        self.queue.ready().await;
    }

    async fn parts(&self) -> Result<Vec<QueuePart>, Error> {
        self.queue.parts().await
    }

    fn part_of(&self, lane: Uuid) -> usize {
        self.queue.part_of(lane)
    }

    async fn depth(&self, now: Now) -> Result<Depth, Error> {
        self.queue.depth(now).await
    }
}

#[tokio::test]
async fn a_queue_that_could_not_be_told_that_a_breaker_closed_is_told_later() {
    let (queue, clock) = (InParts::new(1), ManualClock::default());
    let receiver = ScriptedTransport::new([500; 10]);
    let dispatcher = Dispatcher::builder(MemoryStore::new())
        .queue(queue.clone())
        .transport(receiver.clone())
        .clock(clock.clone())
        .seed(1)
        .build()
        .unwrap()
        .erase();
    create_endpoint(&dispatcher, EndpointSettings::default()).await;
    for _ in 0..20 {
        dispatcher.enqueue(event()).await.unwrap();
    }
    let claim = async || dispatcher.step().await.unwrap().claimed;
    // All at once: of a step nothing is known before it ends.
    assert_eq!(claim().await, 20);
    clock.advance(Duration::from_secs(60));
    queue.keeps_holds.store(true, Ordering::SeqCst);
    assert_eq!(claim().await, 1, "the probe");
    assert_eq!(claim().await, 1, "it is not released");
    queue.keeps_holds.store(false, Ordering::SeqCst);
    assert!(claim().await > 1, "and then it is");
}

#[tokio::test]
async fn a_queue_that_could_not_be_told_that_an_endpoint_is_enabled_is_told_later() {
    let (queue, clock) = (InParts::new(1), ManualClock::default());
    let dispatcher = Dispatcher::builder(MemoryStore::new())
        .queue(queue.clone())
        .transport(ScriptedTransport::new([500; 20]))
        .clock(clock.clone())
        .seed(1)
        .build()
        .unwrap()
        .erase();
    let endpoint = create_endpoint(&dispatcher, EndpointSettings::default()).await;
    for _ in 0..20 {
        dispatcher.enqueue(event()).await.unwrap();
    }
    let claim = async || dispatcher.step().await.unwrap().claimed;
    assert_eq!(claim().await, 20, "its breaker opens");
    let becomes = async |state| {
        let update = |change: &mut EndpointChange| change.state = state;
        let endpoints = dispatcher.endpoints();
        endpoints.update(endpoint.id, update).await.unwrap();
    };
    queue.keeps_holds.store(true, Ordering::SeqCst);
    becomes(EndpointState::Paused).await;
    becomes(EndpointState::Enabled).await;
    clock.advance(Duration::from_secs(60));
    queue.keeps_holds.store(false, Ordering::SeqCst);
    assert!(claim().await > 1, "it is not probed");
}

#[tokio::test]
async fn a_lane_that_is_held_while_it_is_released_again_stays_held() {
    let queue = InParts::new(1);
    let dispatcher = Dispatcher::builder(MemoryStore::new())
        .queue(queue.clone())
        .transport(ScriptedTransport::new([200; 20]))
        .clock(ManualClock::default())
        .build()
        .unwrap()
        .erase();
    let endpoint = create_endpoint(&dispatcher, EndpointSettings::default()).await;
    let becomes = async |state| {
        let update = |change: &mut EndpointChange| change.state = state;
        let endpoints = dispatcher.endpoints();
        endpoints.update(endpoint.id, update).await.unwrap();
    };
    queue.keeps_holds.store(true, Ordering::SeqCst);
    becomes(EndpointState::Paused).await;
    becomes(EndpointState::Enabled).await;
    dispatcher.enqueue(event()).await.unwrap();
    let (step, ()) = tokio::join!(dispatcher.step(), becomes(EndpointState::Paused));
    assert_eq!(step.unwrap().claimed, 0);
    queue.keeps_holds.store(false, Ordering::SeqCst);
    assert_eq!(dispatcher.step().await.unwrap().claimed, 0, "it is held");
}

/// Processes beside a queue in parts, with jobs that are parked in each of them and not new any more.
struct Parted {
    store: MemoryStore,
    queue: InParts,
    clock: ManualClock,
    /// Of each part.
    lanes: Vec<Uuid>,
    jobs: usize,
}

impl Parted {
    /// With so many jobs in each part, none of them in the queue yet.
    async fn with_jobs(parts: usize, jobs: usize) -> Self {
        let (store, clock) = (MemoryStore::new(), ManualClock::default());
        let mut world = Self {
            store,
            queue: InParts::new(parts),
            clock,
            lanes: vec![Uuid::nil(); parts],
            jobs: parts * jobs,
        };
        // It has never heard of the queue.
        let builder = Dispatcher::builder(world.store.clone());
        let builder = builder.transport(ScriptedTransport::default());
        let host = builder.clock(world.clock.clone()).build().unwrap().erase();
        while world.lanes.contains(&Uuid::nil()) {
            let tenant = Tenant::new(&Uuid::from_u128(rand::random()).to_string()).unwrap();
            let url = "https://hooks.example.com/in".parse().unwrap();
            let endpoint = NewEndpoint::new(url).tenant(tenant.clone());
            let endpoint = host.endpoints().create(endpoint).await.unwrap();
            let part = world.queue.part_of(endpoint.id);
            if !world.lanes[part].is_nil() {
                continue;
            }
            world.lanes[part] = endpoint.id;
            let later = world.clock.now() + DAY;
            let event = || event().tenant(tenant.clone()).deliver_at(later);
            for _ in 0..jobs {
                host.enqueue(event()).await.unwrap();
            }
        }
        world.clock.advance(Duration::from_secs(60));
        world
    }

    /// A process with the queue, or with another one in its place.
    fn process(&self, queue: &InParts) -> Dispatcher {
        let builder = Dispatcher::builder(self.store.clone()).queue(queue.clone());
        let builder = builder.transport(ScriptedTransport::default());
        builder.clock(self.clock.clone()).build().unwrap().erase()
    }

    /// A process that has filled the queue, and whose audit rests.
    async fn filled(&self) -> Dispatcher {
        let process = self.process(&self.queue);
        while self.parked().await < self.jobs || process.audit_round().is_none() {
            process.step().await.unwrap();
        }
        self.queue.pushed();
        process
    }

    async fn parked(&self) -> usize {
        parked_in(&self.queue, &self.clock).await
    }
}

async fn parked_in(queue: &InParts, clock: &ManualClock) -> usize {
    let depth = queue.depth(Some(clock.now())).await.unwrap();
    usize::try_from(depth.parked).unwrap()
}

#[tokio::test]
async fn a_part_of_the_queue_that_is_away_does_not_keep_the_rest_from_being_filled() {
    let world = Parted::with_jobs(2, 1_500).await;
    let process = world.filled().await;
    *world.queue.away.lock().unwrap() = Some(0);
    world.queue.queue.erase();
    process.step().await.unwrap();
    assert_eq!(world.parked().await, 1_500);
    *world.queue.away.lock().unwrap() = None;
    process.step().await.unwrap();
    assert_eq!(world.parked().await, 3_000);
}

#[tokio::test]
async fn only_the_part_that_was_lost_is_filled_again() {
    let world = Parted::with_jobs(2, 1_500).await;
    let process = world.filled().await;
    world.queue.queue.erase_part(1);
    assert_eq!(world.parked().await, 1_500);
    process.step().await.unwrap();
    assert_eq!(world.parked().await, 3_000);
    assert_eq!(world.queue.pushed(), vec![world.lanes[1]; 1_500]);
    process.step().await.unwrap();
    assert_eq!(world.queue.pushed().len(), 0, "it is filled once");
}

#[tokio::test]
async fn a_part_that_is_lost_while_it_is_filled_is_filled_again() {
    let world = Parted::with_jobs(2, 11_000).await;
    let process = world.filled().await;
    world.queue.queue.erase();
    process.step().await.unwrap();
    world.queue.queue.erase_part(0);
    process.step().await.unwrap();
    assert_eq!(world.parked().await, 11_000);
    for _ in 0..2 {
        process.step().await.unwrap();
    }
    assert_eq!(world.parked().await, 22_000);
}

#[tokio::test]
async fn a_queue_is_filled_at_a_pace() {
    let world = Parted::with_jobs(1, 25_000).await;
    let process = world.filled().await;
    world.queue.queue.erase();
    let step = process.step().await.unwrap();
    assert_eq!(world.parked().await, 20_000);
    assert_eq!(
        step.next_due,
        Some(world.clock.now()),
        "there is more to do"
    );
    process.step().await.unwrap();
    assert_eq!(world.parked().await, 25_000);
}

#[tokio::test]
async fn of_several_processes_one_fills_the_queue() {
    let world = Parted::with_jobs(2, 12_000).await;
    let [one, other] = [world.filled().await, world.process(&world.queue)];
    while other.audit_round().is_none() {
        other.step().await.unwrap();
    }
    world.queue.pushed();
    world.queue.queue.erase();
    one.step().await.unwrap();
    for _ in 0..3 {
        other.step().await.unwrap();
    }
    assert_eq!(world.queue.pushed().len(), 20_000);
    one.step().await.unwrap();
    other.step().await.unwrap();
    assert_eq!(world.queue.pushed().len(), 4_000);
    assert_eq!(world.parked().await, 24_000);
}

#[tokio::test]
async fn a_fill_whose_process_died_goes_on_where_it_was() {
    let world = Parted::with_jobs(1, 25_000).await;
    let [one, other] = [world.filled().await, world.process(&world.queue)];
    while other.audit_round().is_none() {
        other.step().await.unwrap();
    }
    world.queue.queue.erase();
    one.step().await.unwrap();
    other.step().await.unwrap();
    world.queue.pushed();
    world.clock.advance(Duration::from_secs(9));
    other.step().await.unwrap();
    assert_eq!(
        world.parked().await,
        20_000,
        "the other one may still be at it"
    );
    world.clock.advance(Duration::from_secs(1));
    other.step().await.unwrap();
    assert_eq!(world.parked().await, 25_000);
    assert_eq!(world.queue.pushed().len(), 5_000);
}

#[tokio::test]
async fn a_process_that_starts_beside_another_queue_than_was_filled_fills_it() {
    let world = Parted::with_jobs(1, 5_000).await;
    world.filled().await;
    // Empty, and as it was before.
    let empty = InParts::new(1);
    world.process(&empty).step().await.unwrap();
    assert_eq!(parked_in(&empty, &world.clock).await, 5_000);
    let later = world.clock.now() + 2 * DAY;
    for _ in 0..10 {
        forget(&world.queue.queue, later).await;
    }
    world.process(&world.queue).step().await.unwrap();
    assert_eq!(world.parked().await, 5_000);
    // What was filled is not filled once more.
    world.queue.pushed();
    world.process(&world.queue).step().await.unwrap();
    assert_eq!(world.queue.pushed().len(), 1_000, "a page of the audit");
}

/// It may have ended since it was read. The queue would let the others wait until its lease would have ended.
#[tokio::test]
async fn the_head_of_an_ordered_lane_is_not_pushed_again_while_its_lease_runs() {
    let (store, clock, queue) = (MemoryStore::new(), ManualClock::default(), InParts::new(1));
    let receiver = ScriptedTransport::default();
    let builder = || {
        Dispatcher::builder(store.clone())
            .transport(receiver.clone())
            .clock(clock.clone())
    };
    let process = builder().queue(queue.clone()).build().unwrap();
    let settings = EndpointSettings {
        ordered: true,
        ..EndpointSettings::default()
    };
    create_endpoint(&process.erase(), settings).await;
    // The queue is filled.
    process.step().await.unwrap();
    let other = builder().build().unwrap();
    for _ in 0..2 {
        other.enqueue(event()).await.unwrap();
    }
    let now = Some(clock.now());
    let jobs = store.unqueued(None, 10).await.unwrap();
    queue.push(&jobs, now).await.unwrap();
    let lease = Duration::from_secs(30);
    let claimed = queue.claim(ClaimOptions::new(10, lease), now).await;
    let head = claimed.unwrap().leases;
    assert_eq!(head.len(), 1);
    store.load(&head, now).await.unwrap();

    queue.pushed();
    process.step().await.unwrap();
    assert_eq!(queue.pushed().len(), 1, "the one behind it");
    // Its owner has died, and the queue has forgotten all.
    queue.queue.erase();
    fast_forward(&process, &clock, 2 * lease).await.unwrap();
    assert_eq!(receiver.requests().len(), 2);
}

#[tokio::test]
async fn a_job_that_is_overdue_and_forgotten_comes_back_soon() {
    let world = indexed(ScriptedTransport::default()).await;
    let due = world.clock.now() + Duration::from_secs(20);
    let event = event().deliver_at(due);
    world.dispatcher.enqueue(event).await.unwrap();
    world.clock.advance(Duration::from_secs(12));
    let other = Dispatcher::builder(world.store.clone())
        .queue(world.queue.clone())
        .transport(world.receiver.clone())
        .clock(world.clock.clone());
    let other = other.build().unwrap();
    other.step().await.unwrap();
    forget(&world.queue, due).await;
    // The audit rests until after that.
    while world.clock.now() < due + Duration::from_secs(15) {
        world.clock.advance(Duration::from_secs(1));
        other.step().await.unwrap();
    }
    assert_eq!(world.receiver.requests().len(), 1);
}

#[tokio::test]
async fn what_is_forgotten_unnoticed_comes_back_within_the_stated_time() {
    let world = Parted::with_jobs(1, 3_500).await;
    let process = world.filled().await;
    let later = world.clock.now() + 2 * DAY;
    let mut longest = Duration::ZERO;
    for n in 0..20 {
        forget_one_of(&world.queue.queue, 1 + 170 * n, later).await;
        let began = world.clock.now();
        while world.parked().await < 3_500 {
            world.clock.advance(Duration::from_secs(1));
            process.step().await.unwrap();
        }
        let took = world.clock.now().since(began);
        let stated = process.audit_round().unwrap();
        assert!(took <= stated, "{took:?}, not {stated:?}");
        longest = longest.max(took);
    }
    let stated = process.audit_round().unwrap();
    assert!(stated <= 2 * longest, "{stated:?} is far from {longest:?}");
}

/// Lets a queue forget one job, and not know that it did.
async fn forget(queue: &MemoryQueue, later: Timestamp) {
    forget_one_of(queue, 1, later).await;
}

/// Lets a queue forget the last of so many jobs of a lane.
async fn forget_one_of(queue: &MemoryQueue, count: usize, later: Timestamp) {
    let claimed = queue
        .claim(ClaimOptions::new(count, DAY), Some(later))
        .await;
    let leases = claimed.unwrap().leases;
    assert_eq!(leases.len(), count);
    let settled = leases
        .iter()
        .enumerate()
        .map(|(n, lease)| match n + 1 == count {
            true => (*lease, Settle::Done),
            false => (*lease, Settle::Unused(Duration::ZERO)),
        });
    let settled: Vec<_> = settled.collect();
    queue.settle(&settled, Some(later)).await.unwrap();
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

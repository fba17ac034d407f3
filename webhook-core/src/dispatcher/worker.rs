//! The worker: claims due deliveries as slots become free, and hands each one to a task.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tracing::Instrument;
use uuid::Uuid;

use super::attempt::{Claim, Finished, Task};
use super::lanes::{Lanes, Rooms};
use super::{Engine, spans};
use crate::delivery::EndReason;
use crate::error::{Error, ErrorKind, Result};
use crate::process::Process;
use crate::queue::{ClaimOptions, Hold, Lease, Settle};
use crate::store::{Loaded, Verdict};
use crate::time::{Now, Timestamp};

/// The longest an idle worker waits before it looks again, whatever the queue says.
const IDLE_POLL: Duration = Duration::from_secs(1);
/// How long a worker waits after the backend failed.
const FAILURE_PAUSE: Duration = Duration::from_millis(500);
/// How long a delivery that cannot be read is left alone before the worker looks at it again.
const UNREADABLE_PAUSE: Duration = Duration::from_secs(10);
/// How long a worker waits if a job is due by its own clock but not by the backend's.
const CLOCK_SKEW_PAUSE: Duration = Duration::from_millis(20);
/// The polls after an `enqueue_in`, because nobody announces its commit: after 2, 4, … 128 ms.
const NUDGE_POLLS: u32 = 7;

/// How often a claim that found nothing is repeated, for hung lanes whose turn comes next.
const HUNG_ROUNDS: u32 = 8;

/// How much longer than the request timeout a shutdown waits for outcomes to be recorded.
const RECORDING_TIME: Duration = Duration::from_secs(2);
/// The most outcomes of one write.
const MAX_RECORDS: usize = 512;

/// What one [`step`](super::Dispatcher::step) did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Step {
    /// The deliveries it took.
    pub claimed: usize,
    /// When there may be more to do; `None` if nothing waits, or there may be more at once.
    pub next_due: Option<Timestamp>,
}

/// The deliveries that a claim took, ready to be attempted.
struct Batch {
    claimed: usize,
    tasks: Vec<Task>,
    ended: Vec<Finished>,
    next_due: Option<Timestamp>,
}

impl Engine {
    pub(super) async fn run(self: Arc<Self>, shutdown: impl Future<Output = ()> + Send) {
        let pool = Arc::new(Pool::new(self.config.max_in_flight));
        let _stops_with_us = StopOnDrop(&pool);
        let sweeping = CancellationToken::new();
        let _ends_with_us = sweeping.clone().drop_guard();
        let process = self.process();
        let id = process.id;
        let background = self.go_on_beside(&sweeping, process, &pool);
        for _ in 0..self.config.max_in_flight {
            pool.tasks.spawn(Arc::clone(&self).work(Arc::clone(&pool)));
        }
        *self.running() = Arc::downgrade(&pool);
        tokio::pin!(shutdown);
        self.keep_busy(&pool, shutdown).await;

        pool.stop();
        let drain_time = self.config.request_timeout + RECORDING_TIME;
        if self.within(drain_time, pool.tasks.wait()).await.is_none() {
            tracing::warn!(
                left = pool.tasks.len(),
                "attempts outlived the drain; their leases will end"
            );
            pool.abandoned.cancel();
        }
        let left_over = surviving(self.record(pool.left_over()));
        if !matches!(
            self.within(RECORDING_TIME, left_over).await,
            Some(Some(Ok(())))
        ) {
            tracing::warn!("what was left could not be recorded; its leases will end");
        }
        sweeping.cancel();
        for background in background {
            if background.await.is_err() {
                tracing::error!("a task in the background panicked");
            }
        }
        self.say_ended(id).await;
        let flushed = surviving(self.flush_stats());
        if !matches!(
            self.within(RECORDING_TIME, flushed).await,
            Some(Some(Ok(())))
        ) {
            tracing::warn!("what was counted last could not be stored");
        }
    }

    /// Starts the tasks that run beside the deliveries, until they are cancelled.
    fn go_on_beside(
        self: &Arc<Self>,
        until: &CancellationToken,
        process: Process,
        pool: &Arc<Pool>,
    ) -> Vec<JoinHandle<()>> {
        let engine = || Arc::clone(self);
        let (sweeper, keeper, counter, replayer, eraser, teller) =
            (engine(), engine(), engine(), engine(), engine(), engine());
        let pool = Arc::downgrade(pool);
        let mut started = vec![
            spawn_until(until, async move { keeper.maintain_all().await }),
            spawn_until(until, async move {
                counter.flush_stats_each_minute().await;
            }),
            spawn_until(until, async move { replayer.replay_all().await }),
            spawn_until(until, async move { eraser.erase_all().await }),
            spawn_until(until, async move { teller.say_alive(process, &pool).await }),
        ];
        if self.has_index {
            started.push(spawn_until(until, async move { sweeper.sweep_all().await }));
        }
        started
    }

    /// A step of a replay and of an erasure, and one claim with everything that follows, in the caller's task.
    pub(super) async fn step(self: &Arc<Self>) -> Result<Step> {
        let is_refilling = self.has_index && self.sweep().await?;
        let replay_due = self.step_replay().await?.next_in;
        let erasure_due = self.step_erasure().await?.next_in;
        let replay_due = [replay_due, erasure_due].into_iter().flatten().min();
        let replay_due = replay_due.map(|by| self.clock.now() + by);
        let options = self.claim_options(self.config.max_in_flight);
        let options = options.rooms(self.config.max_in_flight_per_endpoint, Vec::new());
        let batch = self.claim(options).await?;
        let attempts = batch.tasks.into_iter().map(|task| self.attempt(task));
        let finished = join_all(attempts).await.into_iter().chain(batch.ended);
        self.record(finished.collect()).await?;
        self.flush_stats_of_past_minutes().await;
        Ok(Step {
            claimed: batch.claimed,
            next_due: match is_refilling {
                true => Some(self.clock.now()),
                false => batch.next_due.into_iter().chain(replay_due).min(),
            },
        })
    }

    /// Takes up work whenever there are free slots, until `shutdown` is ready. While there is more to do
    /// than slots, the tasks refill their slots themselves, and this waits.
    async fn keep_busy(
        self: &Arc<Self>,
        pool: &Arc<Pool>,
        mut shutdown: std::pin::Pin<&mut (impl Future<Output = ()> + Send)>,
    ) {
        let mut quiet_polls = NUDGE_POLLS;
        loop {
            let slots = tokio::select! {
                biased;
                () = &mut shutdown => return,
                slots = pool.some_free_slots() => slots,
            };
            let claimed = {
                let claim = surviving(self.claim_for(&slots));
                tokio::pin!(claim);
                tokio::select! {
                    biased;
                    claimed = &mut claim => claimed,
                    () = &mut shutdown => {
                        if let Some(Some(Ok(batch))) = self.within(RECORDING_TIME, claim).await {
                            pool.give_back(batch);
                        }
                        return;
                    }
                }
            };
            let pause = match claimed {
                Some(Ok(batch)) if batch.claimed > 0 => {
                    self.start(pool, batch, slots);
                    continue;
                }
                Some(Ok(batch)) => self.idle_time(batch.next_due, quiet_polls),
                Some(Err(error)) => {
                    log_failed_claim(&error);
                    FAILURE_PAUSE
                }
                None => FAILURE_PAUSE,
            };
            drop(slots);
            tokio::select! {
                biased;
                () = &mut shutdown => return,
                () = self.queue.ready() => {}
                () = self.nudge.notified() => quiet_polls = 0,
                () = self.clock.sleep(pause) => quiet_polls = quiet_polls.saturating_add(1),
            }
        }
    }

    /// Hands out the deliveries that a claim took. Each one keeps its slot.
    fn start(self: &Arc<Self>, pool: &Arc<Pool>, batch: Batch, mut slots: OwnedSemaphorePermit) {
        let has_ended = !batch.ended.is_empty();
        pool.finish(batch.ended.into_iter().map(|finished| (finished, None)));
        if has_ended {
            self.spawn_recording(pool);
        }
        pool.hand_out(batch.tasks.into_iter().map(|task| (task, slots.split(1))));
    }

    /// Lets a task of its own record what has finished.
    fn spawn_recording(self: &Arc<Self>, pool: &Arc<Pool>) {
        let (engine, pool) = (Arc::clone(self), Arc::clone(pool));
        let tasks = pool.tasks.clone();
        tasks.spawn(async move {
            if let Some(job) = engine.record_finished(&pool).await {
                pool.hand_out([job]);
            }
        });
    }

    /// Attempts deliveries until the pool stops. Each slot has such a task. To start a task for each delivery would cost more
    /// than everything else that this file does for it.
    async fn work(self: Arc<Self>, pool: Arc<Pool>) {
        while let Some(job) = pool.next_job().await {
            surviving(self.work_off(&pool, job)).await;
        }
    }

    /// Attempts a delivery and records its outcome, or leaves it to the task that records. If that frees a slot and refills
    /// it, goes on with the new delivery.
    async fn work_off(self: &Arc<Self>, pool: &Arc<Pool>, first: Job) {
        let mut next = Some(first);
        while let Some((task, slot)) = next {
            let busy = pool.busy();
            let finished = self.attempt(task).await;
            drop(busy);
            pool.finish([(finished, slot)]);
            next = self.record_finished(pool).await;
        }
    }

    /// Records finished outcomes, batch after batch. If another task is recording, that task takes this outcome, too. Slots
    /// that become free are refilled at once; the last delivery is the caller's next one.
    async fn record_finished(self: &Arc<Self>, pool: &Arc<Pool>) -> Option<Job> {
        let mut turn = Turn::take(self, pool)?;
        // Attempts that are about to finish join the batch. This costs nothing when idle, and makes batches grow with the load.
        tokio::task::yield_now().await;
        let mut own = None;
        while let Some((finished, slots)) = turn.next_batch() {
            // It does not wait for more than one record.
            pool.hand_out(own.take());
            match pool
                .abandoned
                .run_until_cancelled(self.record(finished))
                .await
            {
                Some(Ok(())) => {}
                Some(Err(error)) => {
                    tracing::error!(%error, "outcomes were not recorded; their leases will end");
                }
                None => return None,
            }
            let Some(mut slots) = slots.filter(|_| !pool.is_stopping()) else {
                continue;
            };
            match self.claim_for(&slots).await {
                Ok(mut batch) => {
                    own = batch.tasks.pop().map(|task| (task, slots.split(1)));
                    self.start(pool, batch, slots);
                }
                Err(error) => log_failed_claim(&error),
            }
        }
        own
    }

    /// How long an idle worker waits: until the next job is due, but at most a second. While a host's transaction may be about
    /// to commit, it waits only milliseconds.
    fn idle_time(&self, next_due: Option<Timestamp>, quiet_polls: u32) -> Duration {
        let due_in = next_due.map_or(IDLE_POLL, |due| due.since(self.clock.now()));
        let nudged = if quiet_polls < NUDGE_POLLS {
            Duration::from_millis(2 << quiet_polls)
        } else {
            IDLE_POLL
        };
        // The job is due by our clock but was not claimed: the clocks differ, and to ask again at once does not help.
        let shortest = if due_in.is_zero() {
            CLOCK_SKEW_PAUSE
        } else {
            Duration::from_millis(1)
        };
        due_in.max(shortest).min(nudged).min(IDLE_POLL)
    }

    fn claim_options(&self, limit: usize) -> ClaimOptions {
        ClaimOptions::new(limit, self.config.lease(self.config.request_timeout))
    }

    /// Claims as many deliveries as there are slots, and of each lane no more than it has room for.
    async fn claim_for(&self, slots: &OwnedSemaphorePermit) -> Result<Batch> {
        let mut rounds = 1;
        loop {
            let Rooms { rooms, others_wait } = self.lanes.rooms(self.clock.now());
            let options = self.claim_options(slots.num_permits());
            let batch = self.claim(options.rooms(Lanes::FIRST_ROOM, rooms)).await?;
            if batch.claimed > 0 || !others_wait || rounds == HUNG_ROUNDS {
                return Ok(batch);
            }
            rounds += 1;
        }
    }

    async fn claim(&self, options: ClaimOptions) -> Result<Batch> {
        let span = spans::claim(options.limit);
        let batch = self.take(options).instrument(span.clone()).await?;
        spans::claimed(&span, batch.claimed);
        Ok(batch)
    }

    async fn take(&self, options: ClaimOptions) -> Result<Batch> {
        let lease = options.lease;
        let now = self.clock.pinned();
        let claimed_at = self.clock.now();
        let claimed = self.queue.claim(options, now).await?;
        if claimed.reclaimed > 0 {
            self.meter.reclaimed(claimed.reclaimed);
        }
        if claimed.leases.is_empty() {
            return Ok(Batch {
                claimed: 0,
                tasks: vec![],
                ended: vec![],
                next_due: claimed.next_due,
            });
        }
        let loaded = self.load(&claimed.leases, now).await?;
        let mut batch = Batch {
            claimed: claimed.leases.len(),
            tasks: Vec::with_capacity(loaded.len()),
            ended: Vec::new(),
            next_due: claimed.next_due,
        };
        let mut heads = Vec::new();
        for Loaded {
            lease: own,
            verdict,
        } in loaded
        {
            // Of all others the row is as it was.
            let holds_row = matches!(verdict, Verdict::Run(_) | Verdict::Sealed(_));
            let claim = self.own(own, holds_row);
            match verdict {
                Verdict::Ended => batch.ended.push(Finished::Settled(claim, Settle::Done)),
                Verdict::Dead(reason) => {
                    self.meter.gave_up(reason, 1);
                    batch.ended.push(Finished::Settled(claim, Settle::Done));
                }
                Verdict::Early(by) => batch
                    .ended
                    .push(Finished::Settled(claim, Settle::Unused(by))),
                Verdict::Held(by) => batch
                    .ended
                    .push(Finished::Held(claim, Hold::then_probe(by))),
                Verdict::Behind(head) => {
                    heads.push(head);
                    let unused = Settle::Unused(Self::RECHECK);
                    batch.ended.push(Finished::Settled(claim, unused));
                }
                Verdict::Run(work) => batch.tasks.push(Task {
                    claim,
                    work,
                    lease_ends: claimed_at + lease,
                }),
                Verdict::Sealed(work) => batch.ended.push(self.without_key(Task {
                    claim,
                    work,
                    lease_ends: claimed_at + lease,
                })),
            }
        }
        self.push_heads(&heads).await;
        self.extend_slow(&mut batch.tasks, now).await;
        Ok(batch)
    }

    /// Pushes the heads of ordered lanes for which others wait to an index queue: it may not have got them, or forgotten them.
    async fn push_heads(&self, heads: &[Uuid]) {
        if heads.is_empty() {
            return;
        }
        let pushed = async {
            let jobs = self.store.jobs(heads).await?;
            self.push_again(jobs).await
        };
        if let Err(error) = pushed.await {
            tracing::warn!(%error, "the heads of ordered lanes could not be pushed");
        }
    }

    /// Loads the claimed deliveries. If a row is at fault, loads them one by one, so that the others are still delivered.
    async fn load(&self, leases: &[Lease], now: Now) -> Result<Vec<Loaded>> {
        let reason = match self.load_once(leases, now).await {
            Ok(loaded) => {
                self.trouble.readable(leases.iter().map(|it| it.delivery));
                return Ok(loaded);
            }
            Err(error) => error,
        };
        if reason.is_retryable() {
            // Hardly any row is leased to them, and the store would not answer.
            self.unclaim(leases, FAILURE_PAUSE, false).await;
            return Err(reason);
        }
        tracing::error!(error = %reason, leases = leases.len(), "a batch of claims cannot be read");
        let mut loaded = Vec::with_capacity(leases.len());
        let (mut unreadable, mut hopeless) = (Vec::new(), Vec::new());
        for lease in leases {
            match self.load_once(std::slice::from_ref(lease), now).await {
                Ok(one) => {
                    self.trouble.readable([lease.delivery]);
                    loaded.extend(one);
                }
                Err(error) => {
                    tracing::error!(%error, delivery = %lease.delivery, "a delivery cannot be read");
                    if self.trouble.unreadable(lease.delivery, &error) {
                        hopeless.push(*lease);
                    } else {
                        unreadable.push(*lease);
                    }
                }
            }
        }
        self.unclaim(&unreadable, UNREADABLE_PAUSE, true).await;
        self.give_up(&hopeless, now).await;
        Ok(loaded)
    }

    /// Loads once. A store that panics, perhaps over one row, has refused.
    async fn load_once(&self, leases: &[Lease], now: Now) -> Result<Vec<Loaded>> {
        let loaded = surviving(self.store.load(leases, now)).await;
        loaded.unwrap_or_else(|| Err(Error::new(ErrorKind::Internal, "load")))
    }

    /// Ends deliveries that can never be attempted, as dead letters. An index queue finds out when it looks at them again.
    async fn give_up(&self, leases: &[Lease], now: Now) {
        if leases.is_empty() {
            return;
        }
        let pause = match self.store.quarantine(leases, now).await {
            Ok(()) => {
                self.meter.gave_up(EndReason::Corrupt, leases.len());
                Duration::ZERO
            }
            Err(error) => {
                tracing::error!(%error, leases = leases.len(), "deliveries that cannot be read cannot be ended either");
                UNREADABLE_PAUSE
            }
        };
        self.unclaim(leases, pause, true).await;
    }

    fn own(&self, lease: Lease, holds_row: bool) -> Claim {
        Claim {
            lease,
            place: self.lanes.enter(lease.lane),
            holds_row,
            unqueued: None,
        }
    }

    /// Gives back claims that cannot be loaded now, so that nobody must wait for their leases to end.
    async fn unclaim(&self, leases: &[Lease], by: Duration, hold_rows: bool) {
        let unused = leases
            .iter()
            .map(|lease| (self.own(*lease, hold_rows), Settle::Unused(by)));
        self.settle(unused.collect()).await;
    }

    /// Extends the leases of endpoints that have a longer deadline than ours, and gives back those for which that fails.
    async fn extend_slow(&self, tasks: &mut Vec<Task>, now: Now) {
        let is_slow =
            |task: &Task| self.timeout_of(&task.work.endpoint) > self.config.request_timeout;
        let longest = tasks
            .iter()
            .filter(|task| is_slow(task))
            .map(|task| self.timeout_of(&task.work.endpoint))
            .max();
        let Some(longest) = longest else {
            return;
        };
        let slow: Vec<Lease> = tasks
            .iter()
            .filter(|task| is_slow(task))
            .map(|task| task.claim.lease)
            .collect();
        let by = self.config.lease(longest);
        let extended_at = self.clock.now();
        let kept = match self.queue.extend(&slow, by, now).await {
            Ok(kept) => kept,
            Err(error) => {
                log_failed_claim(&error);
                self.unclaim(&slow, FAILURE_PAUSE, true).await;
                Vec::new()
            }
        };
        tasks.retain_mut(|task| {
            match kept
                .iter()
                .find(|lease| lease.delivery == task.claim.lease.delivery)
            {
                Some(lease) => {
                    (task.claim.lease, task.lease_ends) = (*lease, extended_at + by);
                    true
                }
                None => !slow.contains(&task.claim.lease),
            }
        });
    }
}

/// The result of a future, or `None` if it panics. So a defect in a backend costs only the work that it was doing.
///
/// An `async fn` would hold the future twice, once as its argument: each slot has such a future.
pub(super) fn surviving<T>(work: impl Future<Output = T>) -> impl Future<Output = Option<T>> {
    let outcome = AssertUnwindSafe(work).catch_unwind();
    outcome.map(|outcome| {
        outcome
            .inspect_err(|_| {
                tracing::error!("a defect in the engine or a backend ended in a panic");
            })
            .ok()
    })
}

fn spawn_until(
    cancelled: &CancellationToken,
    work: impl Future<Output = ()> + Send + 'static,
) -> JoinHandle<()> {
    let cancelled = cancelled.clone();
    tokio::spawn(async move { cancelled.run_until_cancelled(work).await.unwrap_or(()) })
}

fn log_failed_claim(error: &Error) {
    tracing::warn!(%error, source = ?std::error::Error::source(error), "claiming failed");
}

/// A delivery to attempt, and the slot that it occupies.
pub(super) type Job = (Task, Option<OwnedSemaphorePermit>);

/// The slots of a running worker, the tasks in them, and what these have finished.
pub(super) struct Pool {
    slots: Arc<Semaphore>,
    jobs: Mutex<VecDeque<Job>>,
    /// A permit for each job that waits for a task.
    waiting_jobs: Semaphore,
    in_flight: AtomicUsize,
    tasks: TaskTracker,
    stopping: AtomicBool,
    /// Ends the wait for a store that is away, once nobody waits for the outcomes any more.
    abandoned: CancellationToken,
    finished: Mutex<Done>,
}

#[derive(Default)]
struct Done {
    /// Finished outcomes. Each occupies its slot until it is recorded.
    waiting: Vec<(Finished, Option<OwnedSemaphorePermit>)>,
    recording: bool,
}

impl Pool {
    fn new(slots: usize) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(slots)),
            jobs: Mutex::default(),
            waiting_jobs: Semaphore::new(0),
            in_flight: AtomicUsize::new(0),
            tasks: TaskTracker::new(),
            stopping: AtomicBool::new(false),
            abandoned: CancellationToken::new(),
            finished: Mutex::default(),
        }
    }

    /// Waits for a free slot, and takes half of those that are free. While a claim is under way, new deliveries may begin at
    /// once in the other half.
    async fn some_free_slots(&self) -> OwnedSemaphorePermit {
        loop {
            if let Ok(mut slot) = Arc::clone(&self.slots).acquire_owned().await {
                let more = u32::try_from(self.slots.available_permits() / 2).unwrap_or(u32::MAX);
                if let Ok(rest) = Arc::clone(&self.slots).try_acquire_many_owned(more) {
                    slot.merge(rest);
                }
                return slot;
            }
        }
    }

    /// Keeps the pool from ending until it is dropped.
    pub(super) fn outstanding(&self) -> TaskTrackerToken {
        self.tasks.token()
    }

    pub(super) fn hand_out(&self, jobs: impl IntoIterator<Item = Job>) {
        let mut waiting = self.jobs();
        let before = waiting.len();
        waiting.extend(jobs);
        self.waiting_jobs.add_permits(waiting.len() - before);
    }

    /// Ends the claims of a batch that comes too late to be attempted.
    fn give_back(&self, batch: Batch) {
        let unused = batch.tasks.into_iter().map(Task::unused);
        self.finish(unused.chain(batch.ended).map(|finished| (finished, None)));
    }

    /// When the pool has stopped: the outcomes that are not recorded, and the deliveries that no task has begun.
    fn left_over(&self) -> Vec<Finished> {
        let waiting = std::mem::take(&mut self.done().waiting);
        let handed_out = self
            .jobs()
            .drain(..)
            .map(|(task, _)| task.unused())
            .collect::<Vec<_>>();
        waiting
            .into_iter()
            .map(|(finished, _)| finished)
            .chain(handed_out)
            .collect()
    }

    /// The next job; `None` when the pool has stopped and nothing is left.
    async fn next_job(&self) -> Option<Job> {
        if let Ok(permit) = self.waiting_jobs.acquire().await {
            permit.forget();
        }
        self.jobs().pop_front()
    }

    fn jobs(&self) -> MutexGuard<'_, VecDeque<Job>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn finish(&self, finished: impl IntoIterator<Item = (Finished, Option<OwnedSemaphorePermit>)>) {
        self.done().waiting.extend(finished);
    }

    fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.waiting_jobs.close();
        self.tasks.close();
    }

    /// How many attempts are under way.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    fn busy(&self) -> Busy<'_> {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        Busy(&self.in_flight)
    }

    pub(super) fn free_slots(&self) -> usize {
        self.slots.available_permits()
    }

    /// Takes this many slots, if they are free.
    pub(super) fn take_slots(&self, count: u32) -> Option<OwnedSemaphorePermit> {
        let slots = Arc::clone(&self.slots);
        slots
            .try_acquire_many_owned(count)
            .ok()
            .filter(|_| count > 0)
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    fn done(&self) -> MutexGuard<'_, Done> {
        self.finished.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts an attempt that is under way.
struct Busy<'a>(&'a AtomicUsize);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Stops all tasks of a pool when the future that runs it is dropped.
struct StopOnDrop<'a>(&'a Pool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.stop();
        self.0.abandoned.cancel();
    }
}

/// The turn to record. A task gives it back when nothing is left. If the task dies, a new task records the rest.
struct Turn<'a> {
    engine: &'a Arc<Engine>,
    pool: &'a Arc<Pool>,
    held: bool,
}

impl<'a> Turn<'a> {
    /// The turn, unless another task has it.
    fn take(engine: &'a Arc<Engine>, pool: &'a Arc<Pool>) -> Option<Self> {
        let taken = std::mem::replace(&mut pool.done().recording, true);
        // Not `then_some`: a turn that was never taken must not be given back.
        (!taken).then(|| Self {
            engine,
            pool,
            held: true,
        })
    }

    /// The outcomes to record next, and the slots that they occupy; `None` gives the turn back.
    fn next_batch(&mut self) -> Option<(Vec<Finished>, Option<OwnedSemaphorePermit>)> {
        let mut done = self.pool.done();
        if done.waiting.is_empty() {
            done.recording = false;
            self.held = false;
            return None;
        }
        let count = done.waiting.len().min(MAX_RECORDS);
        let (mut finished, mut slots) = (Vec::with_capacity(count), None::<OwnedSemaphorePermit>);
        for (one, slot) in done.waiting.drain(..count) {
            finished.push(one);
            match (&mut slots, slot) {
                (Some(slots), Some(slot)) => slots.merge(slot),
                (None, slot) => slots = slot,
                (Some(_), None) => {}
            }
        }
        Some((finished, slots))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if !self.held {
            return;
        }
        let mut done = self.pool.done();
        done.recording = false;
        if !done.waiting.is_empty() && Handle::try_current().is_ok() {
            drop(done);
            self.engine.spawn_recording(self.pool);
        }
    }
}

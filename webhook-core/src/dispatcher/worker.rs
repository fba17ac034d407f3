//! The worker: claims what is due as slots become free, and hands each delivery to a task.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Engine;
use super::attempt::{Finished, Task};
use super::builder::Config;
use super::recorder::Entry;
use crate::error::Result;
use crate::queue::{ClaimOptions, Lease, Settle};
use crate::store::{Loaded, Verdict};
use crate::time::{Now, Timestamp};

/// The longest an idle worker waits before it looks again, whatever the queue says.
const IDLE_POLL: Duration = Duration::from_secs(1);
/// How long a worker waits after the backend failed.
const FAILURE_PAUSE: Duration = Duration::from_millis(500);
/// The re-polls after an `enqueue_in`, whose commit nobody tells of: 2, 4, … 128 ms.
const NUDGE_POLLS: u32 = 7;

/// What one [`step`](super::Dispatcher::step) did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Step {
    /// The deliveries it took.
    pub claimed: usize,
    /// When there may be more to do; `None` if nothing waits, or there may be more at once.
    pub next_due: Option<Timestamp>,
}

/// What a claim brought, ready to be attempted.
struct Batch {
    claimed: usize,
    tasks: Vec<Task>,
    ended: Vec<Finished>,
    next_due: Option<Timestamp>,
}

impl Engine {
    pub(super) async fn run(self: Arc<Self>, shutdown: impl Future<Output = ()> + Send) {
        let (finished, inbox) = mpsc::unbounded_channel();
        let (attempts, loops) = (TaskTracker::new(), TaskTracker::new());
        let sweeping = CancellationToken::new();
        let _ends_with_us = sweeping.clone().drop_guard();
        let recorder = loops.spawn(Arc::clone(&self).record_all(inbox));
        if self.has_index {
            let sweep = Arc::clone(&self);
            let until = sweeping.clone();
            loops.spawn(async move { until.run_until_cancelled(sweep.sweep_all()).await });
        }
        let pool = Pool::new(self.config.max_in_flight, attempts.clone(), finished);
        tokio::pin!(shutdown);
        self.keep_busy(&pool, shutdown).await;

        drop(pool);
        attempts.close();
        let drained =
            tokio::time::timeout(Config::lease(self.config.request_timeout), attempts.wait()).await;
        if drained.is_err() {
            tracing::warn!(
                left = attempts.len(),
                "attempts outlived the drain; their leases will end"
            );
        }
        sweeping.cancel();
        loops.close();
        if recorder.await.is_err() {
            tracing::error!("the recorder panicked");
        }
        loops.wait().await;
    }

    /// One claim with everything that follows, in the caller's task.
    pub(super) async fn step(self: &Arc<Self>) -> Result<Step> {
        if self.has_index {
            self.sweep().await?;
        }
        let batch = self.claim(self.config.max_in_flight).await?;
        let attempts = batch.tasks.into_iter().map(|task| self.attempt(task));
        let finished = join_all(attempts).await.into_iter().chain(batch.ended);
        self.record(finished.map(Entry::without_slot).collect())
            .await?;
        Ok(Step {
            claimed: batch.claimed,
            next_due: batch.next_due,
        })
    }

    async fn keep_busy(
        self: &Arc<Self>,
        pool: &Pool,
        mut shutdown: std::pin::Pin<&mut (impl Future<Output = ()> + Send)>,
    ) {
        let mut quiet_polls = NUDGE_POLLS;
        loop {
            let slots = tokio::select! {
                biased;
                () = &mut shutdown => return,
                slots = pool.free_slots() => slots,
            };
            let pause = match self.claim(slots.num_permits()).await {
                Ok(batch) if batch.claimed > 0 => {
                    pool.start(self, batch, slots);
                    quiet_polls = 0;
                    continue;
                }
                Ok(batch) => self.idle_time(batch.next_due, quiet_polls),
                Err(error) => {
                    tracing::warn!(%error, source = ?std::error::Error::source(&error), "claiming failed");
                    FAILURE_PAUSE
                }
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

    /// How long an idle worker waits: until the next job is due, but not longer than a second, and only
    /// for moments while a host's transaction may be about to commit.
    fn idle_time(&self, next_due: Option<Timestamp>, quiet_polls: u32) -> Duration {
        let due_in = next_due.map_or(IDLE_POLL, |due| due.since(self.clock.now()));
        let nudged = if quiet_polls < NUDGE_POLLS {
            Duration::from_millis(2 << quiet_polls)
        } else {
            IDLE_POLL
        };
        due_in
            .max(Duration::from_millis(1))
            .min(nudged)
            .min(IDLE_POLL)
    }

    async fn claim(&self, limit: usize) -> Result<Batch> {
        let lease = Config::lease(self.config.request_timeout);
        let now = self.clock.pinned();
        let claimed_at = self.clock.now();
        let claimed = self
            .queue
            .claim(ClaimOptions::new(limit, lease), now)
            .await?;
        if claimed.leases.is_empty() {
            return Ok(Batch {
                claimed: 0,
                tasks: vec![],
                ended: vec![],
                next_due: claimed.next_due,
            });
        }
        let loaded = self.store.load(&claimed.leases, now).await?;
        let mut batch = Batch {
            claimed: claimed.leases.len(),
            tasks: Vec::with_capacity(loaded.len()),
            ended: Vec::new(),
            next_due: claimed.next_due,
        };
        for Loaded {
            lease: own,
            verdict,
        } in loaded
        {
            match verdict {
                Verdict::Ended => batch.ended.push(Finished::Settled(own, Settle::Done)),
                Verdict::Early(by) => batch.ended.push(Finished::Settled(own, Settle::Unused(by))),
                Verdict::Run(work) => batch.tasks.push(Task {
                    lease: own,
                    work,
                    lease_ends: claimed_at + lease,
                }),
            }
        }
        self.extend_slow(&mut batch.tasks, now).await?;
        Ok(batch)
    }

    /// Lets the leases of endpoints with a longer deadline than ours last for it.
    async fn extend_slow(&self, tasks: &mut Vec<Task>, now: Now) -> Result<()> {
        let is_slow =
            |task: &Task| self.timeout_of(&task.work.endpoint) > self.config.request_timeout;
        let longest = tasks
            .iter()
            .filter(|task| is_slow(task))
            .map(|task| self.timeout_of(&task.work.endpoint))
            .max();
        let Some(longest) = longest else {
            return Ok(());
        };
        let slow: Vec<Lease> = tasks
            .iter()
            .filter(|task| is_slow(task))
            .map(|task| task.lease)
            .collect();
        let by = Config::lease(longest);
        let extended_at = self.clock.now();
        let kept = self.queue.extend(&slow, by, now).await?;
        tasks.retain_mut(|task| {
            match kept
                .iter()
                .find(|lease| lease.delivery == task.lease.delivery)
            {
                Some(lease) => {
                    (task.lease, task.lease_ends) = (*lease, extended_at + by);
                    true
                }
                None => !slow.contains(&task.lease),
            }
        });
        Ok(())
    }
}

/// The slots of a process, and the tasks in them.
struct Pool {
    slots: Arc<Semaphore>,
    attempts: TaskTracker,
    finished: UnboundedSender<Entry>,
}

impl Pool {
    fn new(slots: usize, attempts: TaskTracker, finished: UnboundedSender<Entry>) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(slots)),
            attempts,
            finished,
        }
    }

    /// Waits for a free slot and takes all that are free.
    async fn free_slots(&self) -> OwnedSemaphorePermit {
        loop {
            if let Ok(mut slot) = Arc::clone(&self.slots).acquire_owned().await {
                let more = self.slots.available_permits();
                if let Ok(rest) = Arc::clone(&self.slots)
                    .try_acquire_many_owned(u32::try_from(more).unwrap_or(u32::MAX))
                {
                    slot.merge(rest);
                }
                return slot;
            }
        }
    }

    /// Starts a task for each delivery. A slot belongs to its task, then to the recorder, and is free when the
    /// outcome is written, or when a task dies.
    fn start(&self, engine: &Arc<Engine>, batch: Batch, mut slots: OwnedSemaphorePermit) {
        for ended in batch.ended {
            self.finished.send(Entry::without_slot(ended)).ok();
        }
        for task in batch.tasks {
            let (engine, finished) = (Arc::clone(engine), self.finished.clone());
            let slot = slots.split(1);
            self.attempts.spawn(async move {
                let outcome = engine.attempt(task).await;
                finished.send(Entry::new(outcome, slot)).ok();
            });
        }
    }
}

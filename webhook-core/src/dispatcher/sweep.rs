//! Repairs an index queue from the store: what was never pushed, each second, and what it forgot, in rounds.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use uuid::Uuid;

use super::Engine;
use super::worker::surviving;
use crate::error::Result;
use crate::id::first_id;
use crate::queue::Job;
use crate::time::Timestamp;

/// How often the sweeper looks.
const TICK: Duration = Duration::from_secs(1);
/// How many live deliveries a tick looks at. With `TICK` and `REST`, this bounds how long a forgotten job stays so.
const PAGE: usize = 1_000;
/// How long the audit rests between rounds. Meanwhile it looks at what is new.
const REST: Duration = Duration::from_secs(30);
/// How old a delivery is that is not new any more: others' clocks differ, and transactions take time.
const NEW: Duration = Duration::from_secs(10);
/// How long the sweeper looks for the commit of an `enqueue_in`; a later one is found by the rolling audit.
const EXPECT_FOR: Duration = Duration::from_secs(10);

/// The most deliveries that are expected at a time.
const MAX_EXPECTED: usize = 10_000;

/// How often the sweeper looks for a commit meanwhile.
const EXPECT_TICK: Duration = Duration::from_millis(20);

/// What the sweeper remembers between ticks.
#[derive(Default)]
pub(super) struct Sweeper {
    state: Mutex<Sweep>,
    /// Wakes it when there is something to expect.
    expects: Notify,
}

#[derive(Default)]
struct Sweep {
    /// Deliveries of transactions that may commit, and until when they are looked for.
    expected: Vec<(Uuid, Timestamp)>,
    /// Where the rolling audit stands, unless it is at an end.
    after: Option<Uuid>,
    /// Whether it looks at all live deliveries, or only at new ones.
    in_round: bool,
    /// When it looks at all of them next; `None` as soon as it can.
    next_round: Option<Timestamp>,
    /// The queue's epoch when it was last complete.
    epoch: Option<u64>,
    /// The epoch that a refill is for.
    refilling: Option<u64>,
    /// Whether a part of this refill was not pushed.
    has_missed: bool,
}

impl Sweeper {
    /// Lets the audit rest no longer: the queue does not know something.
    pub(super) fn look_again(&self) {
        self.state().next_round = None;
    }

    fn state(&self) -> MutexGuard<'_, Sweep> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sweep {
    /// Where the audit's next page begins. New ones, however many, do not put off a round.
    fn next_page(&mut self, now: Timestamp) -> Option<Uuid> {
        let is_due = self.next_round.is_none_or(|at| at <= now);
        if self.after.is_some() && (self.in_round || !is_due) {
            return self.after;
        }
        self.in_round = is_due;
        if !self.in_round {
            return Some(first_id(now - NEW));
        }
        self.next_round = Some(now + REST);
        None
    }

    /// Answers whether this page was the last.
    fn has_pushed(&mut self, page: &[Job], now: Timestamp) -> bool {
        let is_last = page.len() < PAGE;
        self.after = page.last().map(|job| job.delivery).filter(|_| !is_last);
        if is_last && self.in_round {
            self.next_round = self.next_round.map(|_| now + REST);
        }
        is_last
    }
}

impl Engine {
    /// Looks out for deliveries that will exist once a host's transaction commits: the worker does, or beside
    /// an index queue the sweeper, which then pushes them.
    pub(super) fn expect(&self, jobs: &[Job]) {
        if !self.has_index {
            self.nudge.notify_one();
            return;
        }
        let now = self.clock.now();
        let mut state = self.sweeper.state();
        if state.expected.len() >= MAX_EXPECTED {
            // Nobody sweeps in this process, or the store is away: the audit will find them.
            state.expected.retain(|(_, until)| now < *until);
            state.expected.truncate(MAX_EXPECTED / 2);
        }
        let expected = jobs.iter().map(|job| (job.delivery, now + EXPECT_FOR));
        state.expected.extend(expected);
        self.sweeper.expects.notify_one();
    }

    /// Sweeps until cancelled.
    pub(super) async fn sweep_all(&self) {
        loop {
            if let Some(Err(error)) = surviving(self.sweep()).await {
                tracing::warn!(%error, "sweeping failed");
            }
            self.within(TICK, self.look_for_expected()).await;
        }
    }

    /// Pushes what is expected soon after its commit, until cancelled.
    async fn look_for_expected(&self) {
        loop {
            while self.sweeper.state().expected.is_empty() {
                self.sweeper.expects.notified().await;
            }
            self.clock.sleep(EXPECT_TICK).await;
            if let Some(Err(error)) = surviving(self.push_expected()).await {
                tracing::warn!(%error, "looking for commits failed");
            }
        }
    }

    /// One tick: pushes what is expected and has committed, and the next page of live deliveries, or of new ones
    /// while the audit rests. After a failure it does not rest; after the queue has lost everything it begins
    /// anew and does not pause between pages either.
    pub(super) async fn sweep(&self) -> Result<()> {
        let swept = self.try_to_sweep().await;
        if swept.is_err() {
            self.sweeper.look_again();
        }
        swept
    }

    async fn try_to_sweep(&self) -> Result<()> {
        let epoch = self.queue.epoch().await?;
        if self.has_lost_jobs(epoch) {
            while !self.audit().await? {}
            let mut state = self.sweeper.state();
            if !state.has_missed {
                state.epoch = Some(epoch);
            }
            return Ok(());
        }
        let expected = self.push_expected().await;
        self.audit().await?;
        expected
    }

    /// Whether the queue is not the one that was filled. The refill begins at the start once for each loss,
    /// goes on after what failed, and begins again if anything did.
    fn has_lost_jobs(&self, epoch: u64) -> bool {
        let mut state = self.sweeper.state();
        if *state.epoch.get_or_insert(epoch) == epoch {
            return false;
        }
        if state.refilling.replace(epoch) != Some(epoch) {
            tracing::warn!("the queue has lost its jobs; pushing them again");
            state.after = None;
        }
        if state.after.is_none() {
            state.next_round = None;
            state.has_missed = false;
        }
        true
    }

    async fn push_expected(&self) -> Result<()> {
        let expected: Vec<Uuid> = self
            .sweeper
            .state()
            .expected
            .iter()
            .map(|(id, _)| *id)
            .collect();
        if expected.is_empty() {
            return Ok(());
        }
        let committed = self.store.jobs(&expected).await?;
        self.queue.push(&committed, self.clock.pinned()).await?;
        let now = self.clock.now();
        let found: HashSet<Uuid> = committed.iter().map(|job| job.delivery).collect();
        self.sweeper
            .state()
            .expected
            .retain(|(id, until)| now < *until && !found.contains(id));
        Ok(())
    }

    /// Pushes one page; answers whether it was the last. Goes on to the next one even if the push failed: a part
    /// of the queue that is away does not keep from the rest what it forgot.
    async fn audit(&self) -> Result<bool> {
        let now = self.clock.now();
        let after = self.sweeper.state().next_page(now);
        let page = self.store.unqueued(after, PAGE).await?;
        let pushed = self.queue.push(&page, self.clock.pinned()).await;
        let mut state = self.sweeper.state();
        state.has_missed |= pushed.is_err();
        let is_last = state.has_pushed(&page, now);
        pushed.map(|()| is_last)
    }
}

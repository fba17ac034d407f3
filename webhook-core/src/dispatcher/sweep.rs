//! The sweeper: repairs an index queue from the store.
//!
//! It pushes deliveries that were never pushed (it looks each second or two), deliveries that are overdue (it looks every few
//! seconds), and, in rounds over all live deliveries, those that the queue has forgotten unnoticed. Parts of the queue that are
//! known to have lost everything are filled by `refill.rs`.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use uuid::Uuid;

use super::Engine;
use super::refill::Refills;
use super::worker::surviving;
use crate::error::Result;
use crate::id::first_id;
use crate::queue::Job;
use crate::time::Timestamp;

/// How often the sweeper looks.
pub(super) const TICK: Duration = Duration::from_secs(1);
/// How often it looks while the last page was empty and there is nothing to fill.
const IDLE_TICK: Duration = Duration::from_secs(2);
/// How many live deliveries a tick looks at. With `TICK` and `REST`, this bounds how long a job stays forgotten.
pub(super) const PAGE: usize = 1_000;
/// How long the audit rests between rounds. Meanwhile it looks at new deliveries only.
const REST: Duration = Duration::from_secs(30);
/// After how long a due delivery counts as overdue: it should have been claimed by then.
const OVERDUE: Duration = Duration::from_secs(10);
/// How often the sweeper looks for overdue deliveries, and how many it pushes then. If there are more, they are a backlog.
const OVERDUE_TICK: Duration = Duration::from_secs(5);
const OVERDUE_PAGE: usize = 500;
/// Until which age a delivery counts as new. The clocks of processes differ, and transactions take time.
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
    pub(super) refills: Mutex<Refills>,
    /// Wakes the sweeper when there is something to expect.
    expects: Notify,
}

#[derive(Default)]
struct Sweep {
    /// Deliveries of transactions that may commit, and until when they are looked for.
    expected: Vec<(Uuid, Timestamp)>,
    /// Where the rolling audit stands; `None` at the end of a round.
    after: Option<Uuid>,
    /// Whether it looks at all live deliveries, or only at new ones.
    in_round: bool,
    /// When it looks at all of them next; `None` as soon as it can.
    next_round: Option<Timestamp>,
    /// When the last round began, and how long the last took that has ended.
    round_began: Option<Timestamp>,
    round_took: Option<Duration>,
    /// When to look for overdue ones next.
    next_overdue: Option<Timestamp>,
    /// Whether the last page was empty.
    is_idle: bool,
}

impl Sweeper {
    /// Ends the audit's rest, because the queue lacks something.
    pub(super) fn look_again(&self) {
        self.state().next_round = None;
    }

    fn state(&self) -> MutexGuard<'_, Sweep> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sweep {
    /// Where the audit's next page begins. New deliveries do not delay a round, however many they are.
    fn next_page(&mut self, now: Timestamp) -> Option<Uuid> {
        let is_due = is_due(self.next_round, REST, now);
        if self.after.is_some() && (self.in_round || !is_due) {
            return self.after;
        }
        self.in_round = is_due;
        if !self.in_round {
            return Some(first_id(now - NEW));
        }
        self.next_round = Some(now + REST);
        self.round_began = Some(now);
        None
    }

    fn has_pushed(&mut self, page: &[Job], now: Timestamp) {
        let is_last = page.len() < PAGE;
        self.is_idle = page.is_empty();
        self.after = page.last().map(|job| job.delivery).filter(|_| !is_last);
        if is_last && self.in_round {
            self.next_round = self.next_round.map(|_| now + REST);
            self.round_took = self.round_began.map(|began| now.since(began));
        }
    }

    /// The longest time that a job stays forgotten if a part of the queue lost it unnoticed. If the present round already
    /// takes longer than the last one, its time counts.
    fn bound(&self, now: Timestamp) -> Option<Duration> {
        let under_way = self
            .round_began
            .filter(|_| self.in_round && self.after.is_some());
        let so_far = under_way.map_or(Duration::ZERO, |began| now.since(began));
        Some(self.round_took?.max(so_far) + REST + IDLE_TICK)
    }

    fn pause(&self) -> Duration {
        if self.is_idle { IDLE_TICK } else { TICK }
    }

    /// Whether it is time to look for overdue deliveries.
    fn looks_for_overdue(&mut self, now: Timestamp) -> bool {
        let is_time = is_due(self.next_overdue, OVERDUE_TICK, now);
        if is_time {
            self.next_overdue = Some(now + OVERDUE_TICK);
        }
        is_time
    }
}

/// Whether a job is, or may be, the head of an ordered lane under a lease, which may have ended since it was read. The queue
/// would take it for a head that is not due yet, and let the others wait for that. A retry that is soon due looks the same.
/// Both are pushed once they are due.
fn may_be_under_way(job: &Job, longest: Duration, now: Timestamp) -> bool {
    job.limits.ordered && job.fence > 0 && job.due > now && job.due <= now + longest
}

/// Whether it is time for something that rests for `pause`. If its time is further away than `pause`, the clock has gone back
/// since it was set.
fn is_due(at: Option<Timestamp>, pause: Duration, now: Timestamp) -> bool {
    at.is_none_or(|at| at <= now || at > now + pause)
}

impl Engine {
    /// Expects deliveries that will exist once a host's transaction commits. The worker looks for them. Beside an index queue
    /// the sweeper does, and pushes them.
    pub(super) fn expect(&self, jobs: &[Job]) {
        if !self.has_index {
            self.nudge.notify_one();
            return;
        }
        let now = self.clock.now();
        let mut state = self.sweeper.state();
        if state.expected.len() >= MAX_EXPECTED {
            // This process does not sweep, or the store is away: the audit will find them.
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
            let pause = match surviving(self.sweep()).await {
                Some(Ok(false)) => self.sweeper.state().pause(),
                Some(Ok(true)) | None => TICK,
                Some(Err(error)) => {
                    tracing::warn!(%error, "sweeping failed");
                    TICK
                }
            };
            self.within(pause, self.look_for_expected()).await;
        }
    }

    /// Pushes expected deliveries soon after their commit, until cancelled.
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

    /// The longest that a job stays forgotten; see [`Dispatcher::audit_round`](super::Dispatcher::audit_round).
    pub(super) fn audit_round(&self) -> Option<Duration> {
        self.sweeper.state().bound(self.clock.now())
    }

    /// One tick. It releases lanes that could not be released before, and fills parts of the queue that are known to have
    /// lost everything. Then it pushes expected deliveries that have committed, overdue ones, and the next page of live
    /// deliveries, or of new ones while the audit rests. After a failure the audit does not rest. Returns whether there is more
    /// to fill.
    pub(super) async fn sweep(&self) -> Result<bool> {
        let swept = self.try_to_sweep().await;
        if swept.is_err() {
            self.sweeper.look_again();
        }
        swept
    }

    async fn try_to_sweep(&self) -> Result<bool> {
        self.release_again().await;
        let is_refilling = self.refill().await?;
        let expected = self.push_expected().await;
        let overdue = self.push_overdue().await;
        self.audit().await?;
        expected.and(overdue).map(|()| is_refilling)
    }

    /// Pushes overdue deliveries. If the queue has forgotten them, they are late already.
    async fn push_overdue(&self) -> Result<()> {
        let now = self.clock.now();
        if !self.sweeper.state().looks_for_overdue(now) {
            return Ok(());
        }
        let overdue = self.store.overdue(now - OVERDUE, OVERDUE_PAGE).await?;
        self.queue.push(&overdue, self.clock.pinned()).await?;
        self.meter.repaired("overdue", overdue.len());
        Ok(())
    }

    pub(super) async fn push_expected(&self) -> Result<()> {
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

    /// Pushes one page, and goes on to the next one even if the push failed. So if one part of the queue is away, the other
    /// parts still get what they forgot.
    async fn audit(&self) -> Result<()> {
        let after = self.sweeper.state().next_page(self.clock.now());
        let page = self.store.unqueued(after, PAGE).await?;
        let pushed = self.push_again(page.clone()).await;
        self.sweeper.state().has_pushed(&page, self.clock.now());
        pushed
    }

    /// Pushes what the queue may have forgotten, and may as well be working at.
    pub(super) async fn push_again(&self, mut jobs: Vec<Job>) -> Result<()> {
        let now = self.clock.now();
        let longest = self.config.longest_lease();
        jobs.retain(|job| !may_be_under_way(job, longest, now));
        self.queue.push(&jobs, self.clock.pinned()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);
    const BEFORE: Timestamp = Timestamp::from_seconds(1_600_000_000);

    #[test]
    fn a_clock_that_goes_back_puts_off_no_round() {
        let mut sweep = Sweep::default();
        assert_eq!(sweep.next_page(NOW), None);
        sweep.has_pushed(&[], NOW);
        assert!(sweep.next_page(NOW).is_some(), "it rests");
        assert_eq!(sweep.next_page(BEFORE), None, "a round");
        sweep.has_pushed(&[], BEFORE);
        assert!(sweep.next_page(BEFORE).is_some(), "it rests");
        assert_eq!(sweep.next_page(BEFORE + REST), None, "a round");
    }

    #[test]
    fn a_clock_that_goes_back_puts_off_no_look_for_overdue_ones() {
        let mut sweep = Sweep::default();
        assert!(sweep.looks_for_overdue(NOW));
        assert!(!sweep.looks_for_overdue(NOW));
        assert!(sweep.looks_for_overdue(BEFORE));
        assert!(!sweep.looks_for_overdue(BEFORE));
    }
}

//! Writes what the attempts produced, many at a time.
//!
//! In this order, so that a crash between any two lines loses nothing: the store first (fenced), then the
//! queue, then the observers. What was written but not settled is claimed again when its lease ends, and
//! found ended.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use futures_util::future::{join, join_all};
use uuid::Uuid;

use super::Engine;
use super::attempt::{Claim, Finished};
use super::trouble::reduced;
use super::worker::surviving;
use crate::error::{Error, ErrorKind, Result};
use crate::observer::{Notice, Report};
use crate::queue::Settle;
use crate::retry::Next;
use crate::store::{Record, Recorded, Work};
use crate::time::Timestamp;

/// The pause after the first try while the store is away; each is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How much longer than their leases outcomes are kept: the store's clock may say that these have not ended,
/// and if they have, the fence decides.
const BEYOND_LEASE: Duration = Duration::from_secs(5);

impl Engine {
    /// Writes, settles, and tells.
    pub(super) async fn record(&self, finished: Vec<Finished>) -> Result<()> {
        let mut records = Vec::with_capacity(finished.len());
        let mut context = Vec::with_capacity(finished.len());
        let mut claims = Vec::with_capacity(finished.len());
        let mut settled = Vec::with_capacity(finished.len());
        let mut holds = Vec::new();
        let mut keep_until = Timestamp::EPOCH;
        for finished in finished {
            match finished {
                Finished::Settled(claim, settle) => settled.push((claim, settle)),
                Finished::Paused(claim) => {
                    holds.push((claim.lease.lane, Self::LANE_PAUSE));
                    settled.push((claim, Settle::Unused(Self::RECHECK)));
                }
                Finished::Recorded {
                    claim,
                    record,
                    work,
                    lease_ends,
                } => {
                    keep_until = keep_until.max(lease_ends + BEYOND_LEASE);
                    claims.push(claim);
                    records.push(record);
                    context.push(work);
                }
            }
        }
        let (recorded, given_up) = match self.write(&mut records, keep_until).await {
            Ok(recorded) => (recorded, Ok(())),
            Err(error) => (vec![None; records.len()], Err(error)),
        };
        self.trouble.recorded(&records, &recorded);
        for ((record, recorded), claim) in records.iter().zip(&recorded).zip(claims) {
            settled.extend(recorded.map(|it| (claim, settle_for(record.next, it))));
            let disabled = record
                .disable
                .filter(|_| *recorded == Some(Recorded::Written));
            holds.extend(disabled.map(|_| (record.lease.lane, Self::LANE_PAUSE)));
            if self.has_index {
                holds.extend(record.hold.map(|by| (record.lease.lane, by)));
            }
        }
        join(self.hold_lanes(holds), self.settle(settled)).await;
        self.count_recorded(&records, &recorded, &context);
        self.tell(&records, &recorded, &context);
        given_up
    }

    /// Writes a batch; `None` is what could not be written and is left to its lease. If the batch itself is at
    /// fault, its records go one by one.
    async fn write(
        &self,
        records: &mut [Record],
        keep_until: Timestamp,
    ) -> Result<Vec<Option<Recorded>>> {
        if records.is_empty() {
            return Ok(Vec::new());
        }
        let error = match self.write_once_possible(records, keep_until).await {
            Ok(recorded) => return Ok(recorded.into_iter().map(Some).collect()),
            Err(error) if error.is_retryable() => return Err(error),
            Err(error) => error,
        };
        tracing::error!(%error, records = records.len(), "outcomes were refused");
        let is_known_to_be_at_fault = records.len() == 1;
        let mut recorded = Vec::with_capacity(records.len());
        for record in records {
            let error = is_known_to_be_at_fault.then(|| error.clone());
            recorded.push(self.write_alone(record, error, keep_until).await);
        }
        Ok(recorded)
    }

    /// Writes one outcome, or as much of it as the store does not refuse: `record` is then that.
    async fn write_alone(
        &self,
        record: &mut Record,
        mut refused: Option<Error>,
        keep_until: Timestamp,
    ) -> Option<Recorded> {
        let was_attempted = record.attempt.is_some();
        let delivery = record.lease.delivery;
        loop {
            if let Some(error) = refused {
                tracing::error!(%error, %delivery, "an outcome cannot be recorded");
                match reduced(record) {
                    _ if error.is_retryable() => return None,
                    Some(less) => *record = less,
                    None => break,
                }
            }
            let one = std::slice::from_ref(record);
            match self.write_once_possible(one, keep_until).await {
                Ok(recorded) => return recorded.first().copied(),
                Err(error) => refused = Some(error),
            }
        }
        if was_attempted {
            self.trouble.unrecorded(delivery, record.next);
        }
        None
    }

    /// While the store is away it tries again, as long as the outcomes may be of use: nothing else can be done,
    /// and the slots stay taken meanwhile.
    async fn write_once_possible(
        &self,
        records: &[Record],
        keep_until: Timestamp,
    ) -> Result<Vec<Recorded>> {
        let mut pause = FIRST_PAUSE;
        loop {
            let answer = surviving(self.store.record(records, self.clock.pinned())).await;
            let error = match answer {
                None => return Err(Error::new(ErrorKind::Internal, "record")),
                Some(Err(error)) if error.is_retryable() => error,
                Some(answer) => return answer,
            };
            let left = keep_until.since(self.clock.now());
            if left.is_zero() {
                return Err(error);
            }
            tracing::warn!(%error, outcomes = records.len(), "outcomes wait for the store");
            // Not all processes at the same time.
            let jittered = pause.mul_f64(0.75 + 0.25 * self.spread());
            self.clock.sleep(jittered.min(left)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Each lane once and all together: nothing else is recorded meanwhile.
    async fn hold_lanes(&self, mut holds: Vec<(Uuid, Duration)>) {
        holds.sort_unstable_by_key(|(lane, by)| (*lane, std::cmp::Reverse(*by)));
        holds.dedup_by_key(|(lane, _)| *lane);
        let hold = |(lane, by)| async move {
            if let Err(error) = self.queue.hold(lane, by, self.clock.pinned()).await {
                tracing::warn!(%error, "a lane could not be held");
            }
        };
        join_all(holds.into_iter().map(hold)).await;
    }

    /// Ends claims. Those that an index queue has not heard of are pushed, unless they have ended.
    pub(super) async fn settle(&self, settled: Vec<(Claim, Settle)>) {
        let mut leases = Vec::with_capacity(settled.len());
        let mut jobs = Vec::new();
        for (claim, settle) in settled {
            match (claim.unqueued, settle) {
                (None, settle) => leases.push((claim.lease, settle)),
                (Some(_), Settle::Done) => {}
                (Some(unqueued), Settle::After(by) | Settle::Unused(by)) => {
                    jobs.push(unqueued.due_after(by, self.clock.now(), claim.lease.fence));
                }
            }
        }
        // Not beside: after a shutdown nobody would.
        if !jobs.is_empty() {
            self.push_now(&jobs).await;
        }
        if leases.is_empty() {
            return;
        }
        if let Err(error) = self.queue.settle(&leases, self.clock.pinned()).await {
            tracing::warn!(%error, "leases could not be settled; they will end");
        }
    }

    fn tell(&self, records: &[Record], recorded: &[Option<Recorded>], context: &[Work]) {
        for ((record, recorded), work) in records.iter().zip(recorded).zip(context) {
            match recorded {
                None => {}
                Some(Recorded::Fenced) => {
                    tracing::info!(delivery = %record.lease.delivery, "a stale claim was fenced off");
                }
                Some(Recorded::Written) => self.tell_observer(record, work),
            }
        }
    }

    fn tell_observer(&self, record: &Record, work: &Work) {
        let Some(observer) = &self.observer else {
            return;
        };
        let report = Report {
            delivery_id: record.lease.delivery,
            event: &work.event,
            endpoint: &work.endpoint,
            attempt: record.attempt.as_ref().map_or(0, |_| work.attempts + 1),
            outcome: record.attempt.as_ref().map(|attempt| &attempt.outcome),
            next: record.next,
        };
        let notice = match record.next {
            Next::Succeeded => Notice::Delivered(report),
            Next::RetryAfter(_) => Notice::AttemptFailed(report),
            Next::Failed(_) => Notice::DeadLettered(report),
            Next::Cancelled(_) => Notice::Cancelled(report),
        };
        let disabled = record.disable.map(|reason| Notice::EndpointDisabled {
            endpoint: &work.endpoint,
            reason,
        });
        for notice in [Some(notice), disabled].into_iter().flatten() {
            if catch_unwind(AssertUnwindSafe(|| observer.notice(&notice))).is_err() {
                tracing::error!("the observer panicked");
            }
        }
    }
}

/// What is fenced off was cancelled, or written by a call whose answer was lost, unless it is another's by
/// now: an index queue has to look again, and not only when the lease ends.
fn settle_for(next: Next, recorded: Recorded) -> Settle {
    match (recorded, next) {
        (Recorded::Fenced, _) => Settle::After(Duration::ZERO),
        (Recorded::Written, Next::RetryAfter(by)) => Settle::After(by),
        (Recorded::Written, Next::Succeeded | Next::Failed(_) | Next::Cancelled(_)) => Settle::Done,
    }
}

//! Writes what the attempts produced, many at a time.
//!
//! In this order, so that a crash between any two lines loses nothing: the store first (fenced), then the
//! queue, then the observers. What was written but not settled is claimed again when its lease ends, and
//! found ended.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use uuid::Uuid;

use super::Engine;
use super::attempt::Finished;
use crate::error::{Error, Result};
use crate::observer::{Notice, Report};
use crate::queue::{Lease, Settle};
use crate::retry::Next;
use crate::store::{Record, Recorded, Work};

/// The pauses between tries while the store is away.
const RETRY_PAUSES: [Duration; 4] = [
    Duration::from_millis(50),
    Duration::from_millis(200),
    Duration::from_secs(1),
    Duration::from_secs(3),
];

impl Engine {
    /// Writes, settles, and tells.
    pub(super) async fn record(&self, finished: Vec<Finished>) -> Result<()> {
        let mut records = Vec::with_capacity(finished.len());
        let mut context = Vec::with_capacity(finished.len());
        let mut settled = Vec::with_capacity(finished.len());
        let mut holds = Vec::new();
        for finished in finished {
            match finished {
                Finished::Settled(lease, settle) => settled.push((lease, settle)),
                Finished::Paused(lease) => {
                    holds.push((lease.lane, Self::LANE_PAUSE));
                    settled.push((lease, Settle::Unused(Self::RECHECK)));
                }
                Finished::Recorded {
                    record,
                    work,
                    hold_lane,
                } => {
                    holds.extend(hold_lane.map(|by| (record.lease.lane, by)));
                    records.push(record);
                    context.push(work);
                }
            }
        }
        let recorded = self.write(&records).await?;
        for record in written(&records, &recorded) {
            settled.push((record.lease, settle_for(record.next)));
            holds.extend(
                record
                    .disable
                    .map(|_| (record.lease.lane, Self::LANE_PAUSE)),
            );
        }
        self.hold_lanes(&holds).await;
        self.settle(&settled).await;
        self.tell(&records, &recorded, &context);
        Ok(())
    }

    /// Writes a batch. While the store is away it tries again: nothing else can be done, and the slots
    /// stay taken meanwhile. If the batch itself is at fault, its records go one by one, and only the bad
    /// ones are left to their leases.
    async fn write(&self, records: &[Record]) -> Result<Vec<Recorded>> {
        if records.is_empty() {
            return Ok(Vec::new());
        }
        for pause in RETRY_PAUSES.into_iter().map(Some).chain([None]) {
            match self.store.record(records, self.clock.pinned()).await {
                Ok(recorded) => return Ok(recorded),
                Err(error) if error.is_retryable() => match pause {
                    Some(pause) => self.clock.sleep(pause).await,
                    None => return Err(error),
                },
                Err(error) => return Ok(self.write_each(records, &error).await),
            }
        }
        Ok(Vec::new())
    }

    async fn write_each(&self, records: &[Record], reason: &Error) -> Vec<Recorded> {
        tracing::error!(error = %reason, records = records.len(), "a batch of outcomes was refused");
        let mut recorded = Vec::with_capacity(records.len());
        for record in records {
            let one = self
                .store
                .record(std::slice::from_ref(record), self.clock.pinned())
                .await;
            if let Err(error) = &one {
                tracing::error!(%error, delivery = %record.lease.delivery, "an outcome cannot be recorded");
            }
            recorded.push(
                one.ok()
                    .and_then(|one| one.first().copied())
                    .unwrap_or(Recorded::Fenced),
            );
        }
        recorded
    }

    async fn hold_lanes(&self, holds: &[(Uuid, Duration)]) {
        for (lane, by) in holds {
            if let Err(error) = self.queue.hold(*lane, *by, self.clock.pinned()).await {
                tracing::warn!(%error, "a lane could not be held");
            }
        }
    }

    pub(super) async fn settle(&self, settled: &[(Lease, Settle)]) {
        if settled.is_empty() {
            return;
        }
        if let Err(error) = self.queue.settle(settled, self.clock.pinned()).await {
            tracing::warn!(%error, "leases could not be settled; they will end");
        }
    }

    fn tell(&self, records: &[Record], recorded: &[Recorded], context: &[Work]) {
        for ((record, recorded), work) in records.iter().zip(recorded).zip(context) {
            match recorded {
                Recorded::Fenced => {
                    tracing::info!(delivery = %record.lease.delivery, "a stale claim was fenced off");
                }
                Recorded::Written => self.tell_observer(record, work),
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

fn written<'a>(
    records: &'a [Record],
    recorded: &'a [Recorded],
) -> impl Iterator<Item = &'a Record> {
    records
        .iter()
        .zip(recorded)
        .filter(|(_, recorded)| **recorded == Recorded::Written)
        .map(|(record, _)| record)
}

fn settle_for(next: Next) -> Settle {
    match next {
        Next::RetryAfter(by) => Settle::After(by),
        Next::Succeeded | Next::Failed(_) | Next::Cancelled(_) => Settle::Done,
    }
}

//! Writes the outcomes of attempts, many at a time.
//!
//! It writes to the store first (fenced), then to the queue, and then tells the observers. With this order, a crash between two
//! of them loses nothing. If an outcome was written but its job was not settled, the job is claimed again when its lease ends,
//! and `load` says that the delivery has ended.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::{join, join_all};
use tracing::Instrument;
use uuid::Uuid;

use super::attempt::{Claim, Finished};
use super::trouble::reduced;
use super::worker::surviving;
use super::{Engine, spans};
use crate::error::{Error, ErrorKind, Result};
use crate::health::{BreakerChange, HealthChange};
use crate::observer::{Notice, Report};
use crate::queue::{Hold, Settle};
use crate::retry::Next;
use crate::store::{Record, Recorded, Work};
use crate::time::Timestamp;

/// The pause after the first try while the store is away; each is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How much longer than their leases outcomes are kept. By the store's clock the leases may not have ended; if they have, the
/// fence decides.
const BEYOND_LEASE: Duration = Duration::from_secs(5);

impl Engine {
    /// Writes, settles, and tells.
    pub(super) async fn record(&self, finished: Vec<Finished>) -> Result<()> {
        let span = spans::record(finished.len());
        self.record_all(finished).instrument(span).await
    }

    async fn record_all(&self, finished: Vec<Finished>) -> Result<()> {
        let mut records = Vec::with_capacity(finished.len());
        let mut context = Vec::with_capacity(finished.len());
        let mut claims = Vec::with_capacity(finished.len());
        let mut settled = Vec::with_capacity(finished.len());
        let mut steering = Steering::default();
        let mut keep_until = Timestamp::EPOCH;
        for finished in finished {
            match finished {
                Finished::Settled(claim, settle) => settled.push((claim, settle)),
                Finished::Held(claim, hold) => {
                    steering.holds.push((claim.lease.lane, hold));
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
            if recorded.is_some_and(Recorded::is_written) {
                steering.add(record, *recorded == Some(Recorded::Written), self.has_index);
            }
        }
        if self.has_index && steering.has_events {
            // The sweeper, which looks for new deliveries, finds theirs.
            self.sweeper.look_again();
        }
        join(self.steer_lanes(steering), self.settle(settled)).await;
        self.count_recorded(&records, &recorded, &context);
        self.meter.recorded(&records, &recorded, &context);
        self.tell(&records, &recorded, &context);
        given_up
    }

    /// Writes a batch. `None` stands for an outcome that could not be written; its lease then ends. If the batch itself is at
    /// fault, writes its records one by one.
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

    /// Writes one outcome, or as much of it as the store accepts. `record` is then what was written.
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

    /// While the store is away, tries again as long as the outcomes may be of use. Nothing else can be done meanwhile, and the
    /// slots stay occupied.
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
            // A random pause, so that not all processes try at the same time.
            let jittered = pause.mul_f64(0.75 + 0.25 * self.spread());
            self.clock.sleep(jittered.min(left)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Tells the queue of each lane once, and of all lanes at the same time, because nothing else is recorded meanwhile.
    async fn steer_lanes(&self, steering: Steering) {
        let Steering {
            mut holds,
            released,
            ..
        } = steering;
        self.release_all(released).await;
        let is_probed = |lane: &Uuid| holds.iter().any(|(it, hold)| it == lane && hold.then_probe);
        self.unreleased().retain(|lane| !is_probed(lane));
        holds.sort_unstable_by_key(|(lane, hold)| (*lane, std::cmp::Reverse(hold.by)));
        holds.dedup_by(|(lane, hold), (longest_lane, longest)| {
            longest.then_probe |= lane == longest_lane && hold.then_probe;
            lane == longest_lane
        });
        let hold = |(lane, hold)| async move {
            if let Err(error) = self.queue.hold(lane, hold, self.clock.pinned()).await {
                tracing::warn!(%error, "a lane could not be held");
            }
        };
        join_all(holds.into_iter().map(hold)).await;
    }

    /// Tries once more to release the lanes that could not be released. One that is held meanwhile is no longer among them,
    /// and must not come back.
    pub(super) async fn release_again(&self) {
        let again: Vec<Uuid> = self.unreleased().iter().copied().collect();
        let release = |lane| async move {
            if self.try_to_release(lane).await {
                self.unreleased().remove(&lane);
            }
        };
        join_all(again.into_iter().map(release)).await;
    }

    async fn release_all(&self, lanes: impl IntoIterator<Item = Uuid>) {
        let release = |lane| async move {
            if !self.try_to_release(lane).await {
                self.unreleased().insert(lane);
            }
        };
        join_all(lanes.into_iter().map(release)).await;
    }

    /// Tells the queue, and answers whether it heard.
    async fn try_to_release(&self, lane: Uuid) -> bool {
        let released = self.queue.release(lane).await;
        if let Err(error) = &released {
            tracing::warn!(%error, "a lane is not released yet; its jobs go out one by one");
        }
        released.is_ok()
    }

    /// Lanes that are to be released once the queue can be reached.
    pub(super) fn unreleased(&self) -> MutexGuard<'_, HashSet<Uuid>> {
        self.unreleased
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends claims. If an index queue does not know a job yet, the job is pushed, unless its delivery has ended.
    pub(super) async fn settle(&self, settled: Vec<(Claim, Settle)>) {
        self.release_rows(&settled).await;
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
        // In this task: after a shutdown there would be no other.
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

    /// Ends the leases of rows that were loaded for an index queue and not attempted. Before that hears of it: whoever
    /// it hands them to would have to wait for their ends.
    async fn release_rows(&self, settled: &[(Claim, Settle)]) {
        let Some(rows) = &self.rows else {
            return;
        };
        let unused = settled.iter().filter_map(|(claim, settle)| {
            let is_unused = claim.holds_row && matches!(settle, Settle::Unused(_));
            is_unused.then_some((claim.lease, *settle))
        });
        let unused: Vec<_> = unused.collect();
        if unused.is_empty() {
            return;
        }
        if let Err(error) = rows.settle(&unused, self.clock.pinned()).await {
            tracing::warn!(%error, "what was not attempted is not given back; its leases will end");
        }
    }

    fn tell(&self, records: &[Record], recorded: &[Option<Recorded>], context: &[Work]) {
        for ((record, recorded), work) in records.iter().zip(recorded).zip(context) {
            match recorded {
                None => {}
                Some(Recorded::Fenced) => {
                    tracing::info!(delivery = %record.lease.delivery, "a stale claim was fenced off");
                }
                Some(Recorded::Written) => self.tell_observer(record, work, true),
                Some(Recorded::Overtaken) => self.tell_observer(record, work, false),
            }
        }
    }

    /// What `is_first` says of the endpoint is told by others otherwise.
    fn tell_observer(&self, record: &Record, work: &Work, is_first: bool) {
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
        let of_endpoint = notices_of_endpoint(record, work);
        let of_endpoint = of_endpoint.into_iter().flatten().filter(|_| is_first);
        for notice in std::iter::once(notice).chain(of_endpoint) {
            if catch_unwind(AssertUnwindSafe(|| observer.notice(&notice))).is_err() {
                tracing::error!("the observer panicked");
            }
        }
    }
}

/// What the recorded outcomes mean for lanes.
#[derive(Default)]
struct Steering {
    holds: Vec<(Uuid, Hold)>,
    released: Vec<Uuid>,
    /// Whether events were stored that tell about endpoints.
    has_events: bool,
}

impl Steering {
    /// The store has held and released its own lanes with the record. But neither queue knows yet that an endpoint was
    /// disabled. If it was not disabled, because it has recovered or was disabled before, its lane stays as it is.
    fn add(&mut self, record: &Record, is_first: bool, has_index: bool) {
        let lane = record.lease.lane;
        if record.disable.is_some() && is_first {
            self.holds.push((lane, Hold::new(Engine::LANE_PAUSE)));
        }
        if !has_index {
            return;
        }
        self.has_events |= record.event.is_some();
        self.holds
            .extend(record.hold.map(|by| (lane, Hold::new(by))));
        let change = record.health.filter(|_| is_first);
        match change.and_then(|change| change.breaker) {
            Some(BreakerChange::Opens { by, .. }) => self.holds.push((lane, Hold::then_probe(by))),
            Some(BreakerChange::Closes { .. }) => self.released.push(lane),
            None => {}
        }
    }
}

/// What a record says about its endpoint.
fn notices_of_endpoint<'a>(record: &Record, work: &'a Work) -> [Option<Notice<'a>>; 3] {
    let endpoint = &*work.endpoint;
    let HealthChange {
        breaker, is_notice, ..
    } = record.health.unwrap_or_default();
    let breaker = breaker.map(|change| match change {
        BreakerChange::Opens { trips, by } => Notice::BreakerOpened {
            endpoint,
            trips: trips.saturating_add(1),
            by,
        },
        BreakerChange::Closes { .. } => Notice::BreakerClosed { endpoint },
    });
    let since = work.health.failing_since.filter(|_| is_notice);
    let failing = since.map(|since| Notice::EndpointFailing { endpoint, since });
    let disabled = record
        .disable
        .map(|reason| Notice::EndpointDisabled { endpoint, reason });
    [breaker, failing, disabled]
}

/// If a record was fenced, the delivery was cancelled, or an earlier call wrote the record and its answer was lost, or another
/// process owns the delivery. So an index queue must look again, before the lease ends.
fn settle_for(next: Next, recorded: Recorded) -> Settle {
    match (recorded, next) {
        (Recorded::Fenced, _) => Settle::After(Duration::ZERO),
        (_, Next::RetryAfter(by)) => Settle::After(by),
        (_, Next::Succeeded | Next::Failed(_) | Next::Cancelled(_)) => Settle::Done,
    }
}

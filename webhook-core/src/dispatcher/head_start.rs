//! Inserts events, and claims new deliveries in the same transaction.
//!
//! While this process delivers and has free slots, a new delivery need not pass through the queue: its insert claims it, and its
//! attempt begins when the insert is committed. This is done only for lanes that do well and have no limits, because all other
//! decisions belong to the queue.

use std::sync::{Arc, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::Engine;
use super::attempt::{Claim, Task, Unqueued};
use super::lanes::Lead;
use super::worker::Pool;
use crate::endpoint::{Endpoint, EndpointState, LaneLimits};
use crate::error::{Error, ErrorKind, Result};
use crate::event::Event;
use crate::health::Health;
use crate::queue::Job;
use crate::store::{InsertOptions, Inserted, Insertion, OnConflict, Work};
use crate::time::Timestamp;

/// The claims that an insert is to make, and the slots that are reserved for them.
struct HeadStart {
    pool: Arc<Pool>,
    slots: OwnedSemaphorePermit,
    lead: Lead,
    /// The pool does not end before they are handed out.
    _outstanding: TaskTrackerToken,
}

impl Engine {
    /// Inserts events in the caller's task. The caller must not give up, because this process owns what the insert claims.
    pub(super) async fn insert(
        self: &Arc<Self>,
        events: &[Event],
        on_conflict: OnConflict,
    ) -> Result<Vec<Inserted>> {
        let head_start = self.head_start(events);
        self.insert_with(events, on_conflict, head_start).await
    }

    /// The same for callers that may give up.
    pub(super) async fn insert_for_caller(
        self: &Arc<Self>,
        events: Vec<Event>,
        on_conflict: OnConflict,
    ) -> Result<Vec<Inserted>> {
        let Some(head_start) = self.head_start(&events) else {
            return self.insert_with(&events, on_conflict, None).await;
        };
        let engine = Arc::clone(self);
        let insert = async move {
            engine
                .insert_with(&events, on_conflict, Some(head_start))
                .await
        };
        let inserted = tokio::spawn(insert).await;
        inserted.unwrap_or_else(|_| Err(Error::new(ErrorKind::Internal, "insert_events")))
    }

    async fn insert_with(
        self: &Arc<Self>,
        events: &[Event],
        on_conflict: OnConflict,
        mut head_start: Option<HeadStart>,
    ) -> Result<Vec<Inserted>> {
        let mut options = InsertOptions::new(on_conflict);
        if let Some(head_start) = &mut head_start {
            let claim = std::mem::take(&mut head_start.lead.claim);
            options = options.claim(claim, self.config.lease(self.config.request_timeout));
        }
        let claimed_at = self.clock.now();
        let now = self.clock.pinned();
        let mut insertion = self.store.insert_events(events, &options, now).await?;
        self.count_accepted(events, &insertion.events);
        let inserted = std::mem::take(&mut insertion.events);
        let unclaimed = match head_start {
            Some(head_start) => {
                head_start.begin(events, insertion, claimed_at, options.lease, self.has_index)
            }
            None => insertion.jobs,
        };
        self.push(unclaimed);
        Ok(inserted)
    }

    /// Which deliveries of these events can be claimed with the insert, if any.
    fn head_start(&self, events: &[Event]) -> Option<HeadStart> {
        let pool = self.running().upgrade()?;
        // Taken before it is asked whether it ends, so that it does not end in between.
        let outstanding = pool.outstanding();
        if pool.is_stopping() {
            return None;
        }
        let lead = self.lanes.lead(events, pool.free_slots());
        let slots = lead.claim.iter().map(|new| new.room).sum();
        Some(HeadStart {
            slots: pool.take_slots(slots)?,
            lead,
            _outstanding: outstanding,
            pool,
        })
    }

    /// Whether a delivery to this endpoint may be claimed without the queue.
    pub(super) fn may_lead(&self, endpoint: &Endpoint) -> bool {
        endpoint.state == EndpointState::Enabled
            && endpoint.lane_limits() == LaneLimits::default()
            && self.timeout_of(endpoint) <= self.config.request_timeout
    }

    pub(super) fn running(&self) -> MutexGuard<'_, Weak<Pool>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HeadStart {
    /// Hands out what was claimed, and answers the jobs of the rest.
    fn begin(
        mut self,
        events: &[Event],
        insertion: Insertion,
        claimed_at: Timestamp,
        lease: Duration,
        has_index: bool,
    ) -> Vec<Job> {
        let mut jobs: Vec<_> = insertion.jobs.into_iter().map(Some).collect();
        let mut tasks = Vec::with_capacity(insertion.claimed.len());
        for new in insertion.claimed {
            let lane = new.lease.lane;
            let place = self.lead.places.get_mut(&lane).and_then(Vec::pop);
            let (Some(event), Some(endpoint), Some(place), Some(job)) = (
                events.get(new.event),
                self.lead.endpoints.get(&lane),
                place,
                jobs.get_mut(new.job).and_then(Option::take),
            ) else {
                tracing::error!(delivery = %new.lease.delivery, "more was claimed than asked for");
                continue;
            };
            let work = Work {
                excused: 0,
                attempts: 0,
                first_due: job.due,
                // It was stored just now, and was due at once.
                loaded_at: job.due,
                event: Arc::new(event.clone()),
                endpoint: Arc::clone(endpoint),
                // Of one in trouble nothing is claimed so.
                health: Health::default(),
            };
            let claim = Claim {
                lease: new.lease,
                place,
                holds_row: true,
                unqueued: has_index.then(|| {
                    Box::new(Unqueued {
                        job,
                        claimed_at: new.lease.until - lease,
                        claimed_at_here: claimed_at,
                    })
                }),
            };
            let task = Task {
                claim,
                work,
                lease_ends: claimed_at + lease,
            };
            tasks.push((task, self.slots.split(1)));
        }
        self.pool.hand_out(tasks);
        jobs.into_iter().flatten().collect()
    }
}

//! [`Store`]: the seam to the database that keeps events, endpoints, deliveries and attempts.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::audit::{AuditEntry, AuditFilter};
use crate::catalogue::{CatalogueEntry, Schemas};
use crate::delivery::{Attempt, Delivery, DeliveryStatus, EndReason, FailureCause};
use crate::endpoint::{Endpoint, EndpointState, StateReason};
use crate::erasure::ErasureStep;
use crate::error::Result;
use crate::event::{Event, EventType};
use crate::health::{Health, HealthChange};
use crate::process::Process;
use crate::queue::{Job, Lease, Queue};
use crate::replay::{Replay, ReplayScan, ReplaySelection, ReplayStep};
use crate::retry::Next;
use crate::stats::{Rollup, StatsQuery, StatsRow};
use crate::tenant::{Page, PageRequest, Scope, Tenant};
use crate::time::{Now, Timestamp};

/// What happens to a whole insert when one of its idempotency keys stands for another event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnConflict {
    /// The other events are stored, because they come from unrelated callers.
    Skip,
    /// Nothing is stored, because the events belong together.
    Abort,
}

/// How events are inserted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InsertOptions {
    /// What happens to the other events if one has a conflict.
    pub on_conflict: OnConflict,
    /// Which of the new deliveries the caller wants to claim, to attempt them at once.
    pub claim: Vec<ClaimNew>,
    /// How long the leases of those deliveries last.
    pub lease: Duration,
}

impl InsertOptions {
    /// Options that claim nothing.
    #[must_use]
    pub fn new(on_conflict: OnConflict) -> Self {
        Self {
            on_conflict,
            claim: Vec::new(),
            lease: Duration::ZERO,
        }
    }

    /// Claims new deliveries in the same transaction, for `lease`.
    #[must_use]
    pub fn claim(mut self, claim: Vec<ClaimNew>, lease: Duration) -> Self {
        (self.claim, self.lease) = (claim, lease);
        self
    }
}

/// How many new deliveries of one endpoint to claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClaimNew {
    /// The endpoint.
    pub endpoint: Uuid,
    /// The version of the endpoint that the claimer knows. If the endpoint has another version by now, nothing is claimed.
    pub version: i64,
    /// The most deliveries to claim; the first ones are taken.
    pub room: u32,
}

/// What an insert did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Insertion {
    /// What became of each event, in the order of the events.
    pub events: Vec<Inserted>,
    /// The deliveries that were made, in any order.
    pub jobs: Vec<Job>,
    /// Which of these deliveries were claimed, in any order.
    pub claimed: Vec<NewClaim>,
}

/// A new delivery that was claimed in the transaction that made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewClaim {
    /// The place of its event in the insert.
    pub event: usize,
    /// The place of its job in [`Insertion::jobs`].
    pub job: usize,
    /// The claim.
    pub lease: Lease,
}

/// What became of one event of an insert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// It is stored.
    New,
    /// Its idempotency key stands for this event, with the same content; nothing was stored.
    Existing(Uuid),
    /// Its idempotency key stands for this event, with other content; nothing was stored.
    Conflict(Uuid),
}

/// A claimed delivery with all that an attempt needs.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The claim.
    pub lease: Lease,
    /// What to do with it.
    pub verdict: Verdict,
}

/// What to do with a claimed delivery.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// Attempt it.
    Run(Work),
    /// Wait: the queue was wrong. The delivery is due only after this time, or another's lease of it runs for so long. Its row
    /// was not changed.
    Early(Duration),
    /// Wait: the lane is ordered, and this other delivery, the first live one of the lane, comes before it. Its row was not
    /// changed. Perhaps the queue does not know of the other one.
    Behind(Uuid),
    /// Wait: the endpoint's breaker is open for this time. Its row was not changed. Perhaps the queue does not know of it.
    Held(Duration),
    /// Wait: the endpoint's secrets are sealed, and this process does not have the key. The delivery waits until it has the
    /// key, or until the delivery expires. The endpoint in `Work` has no secrets.
    Sealed(Work),
    /// Drop the claim: the delivery has ended.
    Ended,
    /// Drop the claim: no attempt of the delivery will ever be possible, so `load` has just ended it, for this reason.
    Dead(EndReason),
}

/// What an attempt needs.
#[derive(Clone, Debug)]
pub struct Work {
    /// How many attempts were made before.
    pub attempts: u32,
    /// How many of those failed through a fault of this side. They do not count against the schedule.
    pub excused: u32,
    /// When this delivery was first due.
    pub first_due: Timestamp,
    /// When this was loaded, by the store's clock, which decides how old the delivery is.
    pub loaded_at: Timestamp,
    /// The event to send.
    pub event: Arc<Event>,
    /// The endpoint to send it to.
    pub endpoint: Arc<Endpoint>,
    /// The endpoint's health when the delivery was loaded.
    pub health: Health,
}

/// What a worker writes about a claimed delivery.
#[derive(Clone, Debug)]
pub struct Record {
    /// The claim that allows the write.
    pub lease: Lease,
    /// What was tried; `None` if the delivery ended without an attempt.
    pub attempt: Option<Arc<Attempt>>,
    /// What the delivery becomes.
    pub next: Next,
    /// Disables the endpoint for this reason, in the same transaction. With [`StateReason::Failing`], only if the endpoint
    /// still fails: if it has recovered since the attempt was loaded, it stays enabled.
    pub disable: Option<StateReason>,
    /// Holds the lane for this time, in the same transaction, as [`Queue::hold`] does. The engine tells an index queue
    /// afterwards.
    pub hold: Option<Duration>,
    /// Changes the endpoint's health, in the same transaction. If its breaker opens, the store also holds the lane in its
    /// own queue, so that it is probed afterwards; if the breaker closes, the store releases the lane. The engine tells an
    /// index queue afterwards.
    pub health: Option<HealthChange>,
    /// An event that announces `disable`, or else the notice in `health`. The store inserts it with its deliveries, in the
    /// same transaction, if `disable` or the notice changes something.
    pub event: Option<Arc<Event>>,
}

/// Whether a record was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// It is committed.
    Written,
    /// It is committed, except for a part of what it says about the endpoint. Since the attempt was loaded, somebody has
    /// changed that part, or has already written it.
    Overtaken,
    /// The claim is stale, or the delivery has ended: nothing changed.
    Fenced,
}

/// Figures about the whole store, and about this process's connections to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vitals {
    /// Endpoints whose breaker is open.
    pub breakers_open: u64,
    /// Endpoints whose breaker is half-open.
    pub breakers_half_open: u64,
    /// Endpoints from which nothing but failures has come lately: [`Health::failing_since`] is set.
    pub endpoints_failing: u64,
    /// The connections of this process, if the backend has any.
    pub pool: Option<PoolUse>,
}

/// What a pool of connections has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolUse {
    /// Connections that wait for work.
    pub idle: u32,
    /// Connections at work.
    pub in_use: u32,
    /// The most connections that the pool may have.
    pub max: u32,
}

/// How far one part of an index queue has been filled from the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fill {
    /// The part's [name](crate::QueuePart::name).
    pub part: String,
    /// Counts the writes. If two processes want to fill a part, only one gets the next version.
    pub version: i64,
    /// The generation of the part that is being filled, or was.
    pub generation: i64,
    /// The last delivery whose job was pushed; `None` before the first and after the last.
    pub up_to: Option<Uuid>,
    /// Whether all live deliveries were pushed.
    pub is_complete: bool,
}

/// Which deliveries a list shows: those for which every field that is set holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeliveryFilter {
    /// Deliveries to this endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint_id: Option<Uuid>,
    /// Deliveries of this event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_id: Option<Uuid>,
    /// Deliveries of events of this type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_type: Option<EventType>,
    /// Deliveries in this state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<DeliveryStatus>,
    /// Deliveries whose last attempt failed in one of these ways: `http_503`, `timeout`. An empty list means all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub error_kinds: Vec<String>,
    /// Deliveries whose last failure has this cause: the endpoint's fault, or ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<FailureCause>,
    /// Deliveries made at this time or later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Deliveries made before this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

impl Recorded {
    /// Whether the delivery has moved on as the record says.
    #[must_use]
    pub fn is_written(self) -> bool {
        self != Self::Fenced
    }
}

impl DeliveryFilter {
    /// Whether a delivery is one of those.
    #[must_use]
    pub fn matches(&self, delivery: &Delivery) -> bool {
        fn is<T: PartialEq>(wanted: Option<&T>, found: &T) -> bool {
            wanted.is_none_or(|wanted| wanted == found)
        }
        let error_kind = || delivery.last_error.map(|error| error.to_string());
        is(self.endpoint_id.as_ref(), &delivery.endpoint_id)
            && is(self.event_id.as_ref(), &delivery.event_id)
            && is(self.event_type.as_ref(), &delivery.event_type)
            && is(self.status.as_ref(), &delivery.status)
            && (self.error_kinds.is_empty()
                || error_kind().is_some_and(|kind| self.error_kinds.contains(&kind)))
            && self
                .cause
                .is_none_or(|wanted| delivery.cause() == Some(wanted))
            && self.since.is_none_or(|since| delivery.created_at >= since)
            && self.until.is_none_or(|until| delivery.created_at < until)
    }
}

/// Which events a list shows: those for which every field that is set holds. [`Default`] is all.
///
/// ```
/// use webhook_core::{EventFilter, EventType, Timestamp};
///
/// let day = Timestamp::from_seconds(1_700_000_000);
/// let filter = EventFilter::default().event_type(EventType::new("order.paid")?).since(day);
/// # Ok::<(), webhook_core::InvalidEvent>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EventFilter {
    /// Events of this type.
    pub event_type: Option<EventType>,
    /// Events accepted at this time or later.
    pub since: Option<Timestamp>,
    /// Events accepted before this time.
    pub until: Option<Timestamp>,
    /// Events whose body contains this text.
    pub text: Option<String>,
}

impl EventFilter {
    /// Only events of this type.
    #[must_use]
    pub fn event_type(mut self, event_type: impl Into<Option<EventType>>) -> Self {
        self.event_type = event_type.into();
        self
    }

    /// Only events accepted at this time or later.
    #[must_use]
    pub fn since(mut self, time: impl Into<Option<Timestamp>>) -> Self {
        self.since = time.into();
        self
    }

    /// Only events accepted before this time.
    #[must_use]
    pub fn until(mut self, time: impl Into<Option<Timestamp>>) -> Self {
        self.until = time.into();
        self
    }

    /// Only events whose body contains this text.
    #[must_use]
    pub fn text(mut self, text: impl Into<Option<String>>) -> Self {
        self.text = text.into();
        self
    }
}

/// Which endpoints a list shows: those for which every field that is set holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EndpointFilter {
    /// Endpoints in this state.
    pub state: Option<EndpointState>,
}

impl EndpointFilter {
    /// Only endpoints in this state.
    #[must_use]
    pub fn state(mut self, state: impl Into<Option<EndpointState>>) -> Self {
        self.state = state.into();
        self
    }

    /// Whether it lets through what is in this state.
    pub(crate) fn accepts(&self, state: EndpointState) -> bool {
        self.state.is_none_or(|wanted| wanted == state)
    }
}

/// What a [`Store::rekey`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rekeyed {
    /// Endpoints whose secrets were sealed anew, with the current key.
    pub rekeyed: u64,
    /// Endpoints that somebody else changed meanwhile, and probably sealed with the current key.
    pub changed: u64,
    /// Endpoints whose secrets cannot be opened with the keys of this process, or cannot be read at all.
    pub unopened: u64,
    /// Where the next page begins; `None` after the last.
    pub next: Option<Uuid>,
}

/// What waits for one endpoint, each counted up to [`Depth::MOST`](crate::Depth::MOST).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Backlog {
    /// Deliveries that are due, and that nobody has claimed.
    pub due: u64,
    /// Deliveries that are not due yet.
    pub parked: u64,
    /// When the first of all these is, or was, due.
    pub oldest_due: Option<Timestamp>,
}

/// What became of a request to change one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed<T> {
    /// Done.
    Done(T),
    /// There is no such row in the scope.
    NotFound,
    /// The row's state does not allow it.
    Refused,
}

/// Keeps events, endpoints, deliveries and attempts. What it says is the truth; a queue beside it is only an index.
///
/// The contract, which `store_conformance!` checks:
/// - **Atomic.** Each method is one transaction: it does all of its work or none. When it returns `Ok`, the work is durable.
/// - **Bytes stay bytes.** Bodies come back as they were given.
/// - **Fenced.** Each delivery has a fence that only grows. `claim` of the store's own queue, or `load` beside an index
///   queue, raises the fence to that of the lease and sets `in_progress`. `record` requires that the fences are equal *and*
///   that the delivery is `in_progress`. Otherwise it changes nothing, not even the attempt log.
/// - **Tenants are walls.** A row outside the scope is as if it did not exist.
/// - **Its own queue knows at once.** If the deliveries are the queue, everything that makes one due (an insert, a retry, a
///   replay) also wakes callers that wait in [`Queue::ready`]. No `push` is needed.
/// - **Idempotent where it must be.** `insert_events` with the same ids again adds nothing.
/// - **Transitions.** States change only as [`DeliveryStatus::may_become`] allows.
///
/// `now` is `None` in production: each backend then uses its own clock.
#[async_trait]
pub trait Store: Send + Sync {
    /// Stores events, and for each event one delivery to each of its tenant's enabled or paused endpoints that accepts the
    /// type, in one transaction.
    ///
    /// It claims those of the new deliveries that are due at once and that [`InsertOptions::claim`] asks for. Such a
    /// delivery gets a fence, a lease and `in_progress`, as from [`Queue::claim`] and `load`. The engine does not load it,
    /// and so does not learn the endpoint's health. Therefore the store claims only deliveries to endpoints that are
    /// enabled, whose lane is neither limited, ordered nor held, and whose health has no entry. It may claim fewer, or none.
    ///
    /// # Errors
    /// When nothing was stored, or it is unknown whether it was; the same call may be repeated.
    async fn insert_events(
        &self,
        events: &[Event],
        options: &InsertOptions,
        now: Now,
    ) -> Result<Insertion>;

    /// Stores a test event and one delivery of it to this endpoint of the event's tenant, due at once, whatever event types
    /// the endpoint wants. Returns the job. If there is no such endpoint or it is not enabled, stores nothing and returns
    /// `None`.
    ///
    /// # Errors
    /// When nothing was stored, or it is unknown whether it was.
    async fn insert_test(&self, event: &Event, endpoint: Uuid, now: Now) -> Result<Option<Job>>;

    /// Reads what the attempts of these claims need. Raises the fence of each delivery to that of its lease, stores the end
    /// of the lease, and sets `in_progress`.
    ///
    /// Takes over nothing that another has leased until that lease has ended: two index queues, as while the number of shards
    /// changes, may both hand out a delivery. Leaves out leases whose fence is below the row's, because somebody else owns
    /// those deliveries. If an endpoint's
    /// breaker is open, answers [`Verdict::Held`], except for what the store's own queue has already claimed. If a delivery
    /// cannot be read, a store should end it as [`quarantine`](Self::quarantine) does and answer [`Verdict::Dead`], and
    /// should not fail the call.
    ///
    /// # Errors
    /// When the backend fails.
    async fn load(&self, leases: &[Lease], now: Now) -> Result<Vec<Loaded>>;

    /// Appends attempts and moves deliveries on, for each record whose claim is current.
    ///
    /// # Errors
    /// When nothing was written, or it is unknown whether it was. The call may be repeated; for records that were already
    /// written it then answers [`Recorded::Fenced`].
    async fn record(&self, records: &[Record], now: Now) -> Result<Vec<Recorded>>;

    /// Ends deliveries for which [`load`](Self::load) fails again and again. Those that are live, and whose fence is not
    /// above that of their lease, become `failed` with [`EndReason::Corrupt`]. It must not read what may be spoiled.
    ///
    /// # Errors
    /// When the backend fails.
    async fn quarantine(&self, leases: &[Lease], now: Now) -> Result<()>;

    /// The jobs of those of these deliveries that are live. With this the engine learns whether the transaction of an
    /// `enqueue_in` has committed.
    ///
    /// # Errors
    /// When the backend fails.
    async fn jobs(&self, deliveries: &[Uuid]) -> Result<Vec<Job>>;

    /// Live deliveries after `after`, in the order of their ids: what an index queue should hold. Returns fewer than `limit`
    /// only at the end of the list, or if it leaves out rows that cannot be read.
    ///
    /// # Errors
    /// When the backend fails.
    async fn unqueued(&self, after: Option<Uuid>, limit: usize) -> Result<Vec<Job>>;

    /// At most `limit` live deliveries that nobody owns and that were due before `before`. An index queue without a backlog
    /// has probably forgotten them. If there are more, the backend chooses which to return.
    ///
    /// # Errors
    /// When the backend fails.
    async fn overdue(&self, before: Timestamp, limit: usize) -> Result<Vec<Job>>;

    /// How far the parts of index queues were filled: for each part the last entry that was [stored](Self::put_fills), in
    /// any order.
    ///
    /// # Errors
    /// When the backend fails.
    async fn fills(&self) -> Result<Vec<Fill>>;

    /// Stores each of these entries whose version is the next one for its part, or whose part has no entry. Returns the
    /// parts whose entry was stored. For the others, somebody else was faster.
    ///
    /// # Errors
    /// When nothing was stored, or it is unknown whether it was.
    async fn put_fills(&self, fills: &[Fill]) -> Result<Vec<String>>;

    /// The queue that this store has in itself; `None` if the host must bring one.
    ///
    /// If the host brings another queue, the claims of that one let [`load`](Self::load) lease deliveries. What nobody
    /// attempted of these the engine gives back with [`Queue::settle`] of this queue. Without it, such leases end by themselves.
    fn queue(&self) -> Option<Arc<dyn Queue>>;

    /// How many [inserts](Self::insert_events) the engine should have under way at once: one if there is only one writer.
    fn inserts_at_once(&self) -> usize;

    /// Whether the backend answers.
    ///
    /// # Errors
    /// When it does not.
    async fn ping(&self) -> Result<()>;

    /// Figures over all tenants. Reads only endpoints that fail, so that the cost depends neither on how much is stored nor
    /// on how many endpoints do well.
    ///
    /// # Errors
    /// When the backend fails.
    async fn vitals(&self, now: Now) -> Result<Vitals>;

    /// Does a bounded amount of housekeeping. The engine calls it about once an hour, in every process.
    ///
    /// - Drops deliveries and bulk replays that ended longer than `retention` ago, and older entries of the audit log. It
    ///   drops nothing that a live delivery needs.
    /// - Merges statistics as [`STATS_TIERS`](crate::STATS_TIERS) says, and drops those that are older than `retention`.
    /// - Does whatever else the backend needs from time to time.
    ///
    /// # Errors
    /// When the backend fails; the rest is for the next call.
    async fn maintain(&self, retention: Duration, now: Now) -> Result<()>;

    /// Stores a new endpoint, unless its tenant has `most` others already: then it answers `false`. Of calls side by
    /// side, each counts what the ones before it stored.
    ///
    /// # Errors
    /// When the backend fails.
    async fn insert_endpoint(&self, endpoint: &Endpoint, most: usize) -> Result<bool>;

    /// Replaces an endpoint if its stored version is one below `endpoint.version`; otherwise changes nothing and returns
    /// `false`.
    ///
    /// # Errors
    /// When the backend fails.
    async fn update_endpoint(&self, endpoint: &Endpoint) -> Result<bool>;

    /// The health of those of these endpoints that are in the scope. Endpoints that are not in the answer do well.
    ///
    /// # Errors
    /// When the backend fails.
    async fn health(
        &self,
        scope: &Scope,
        endpoints: &[Uuid],
        now: Now,
    ) -> Result<Vec<(Uuid, Health)>>;

    /// Forgets an endpoint's failures, closes its breaker and releases its lane in the store's own queue, whether the endpoint
    /// is enabled or not: it may be about to be, and a claim that finds that it is not holds the lane again. Returns whether
    /// there is such an endpoint.
    ///
    /// # Errors
    /// When the backend fails.
    async fn recover_endpoint(&self, scope: &Scope, id: Uuid) -> Result<bool>;

    /// Removes an endpoint and cancels its live deliveries. Returns whether there was such an endpoint.
    ///
    /// # Errors
    /// When the backend fails.
    async fn delete_endpoint(&self, scope: &Scope, id: Uuid, now: Now) -> Result<bool>;

    /// Goes through a page of endpoints, newest first, and seals those secrets anew that the current key has not sealed. It
    /// does so endpoint by endpoint. If somebody else changes an endpoint meanwhile, it stays as they left it. The endpoint's
    /// version and time of change stay the same, because nothing changes for readers. Does nothing in a store without keys.
    ///
    /// # Errors
    /// When the backend fails; what was sealed anew before stays so.
    async fn rekey(&self, page: PageRequest) -> Result<Rekeyed>;

    /// One endpoint.
    ///
    /// # Errors
    /// [`ErrorKind::Sealed`](crate::ErrorKind::Sealed) when its secrets cannot be opened with the keys of this process;
    /// otherwise when the backend fails.
    async fn endpoint(&self, scope: &Scope, id: Uuid) -> Result<Option<Endpoint>>;

    /// Endpoints that the filter lets through, newest first. Those that cannot be read, or whose secrets cannot be opened
    /// now, are left out.
    ///
    /// # Errors
    /// When the backend fails.
    async fn endpoints(
        &self,
        scope: &Scope,
        filter: &EndpointFilter,
        page: PageRequest,
    ) -> Result<Page<Endpoint>>;

    /// One event.
    ///
    /// # Errors
    /// When the backend fails.
    async fn event(&self, scope: &Scope, id: Uuid) -> Result<Option<Event>>;

    /// Events, newest first, without their bodies: [`Event::body`] is empty. A backend reads bodies only to search them for
    /// the filter's text.
    ///
    /// What it reads is bounded, whatever matches: see [`Page`].
    ///
    /// # Errors
    /// When the backend fails.
    async fn events(
        &self,
        scope: &Scope,
        filter: &EventFilter,
        page: PageRequest,
    ) -> Result<Page<Event>>;

    /// One delivery.
    ///
    /// # Errors
    /// When the backend fails.
    async fn delivery(&self, scope: &Scope, id: Uuid) -> Result<Option<Delivery>>;

    /// Deliveries, newest first.
    ///
    /// What it reads is bounded, whatever matches: see [`Page`].
    ///
    /// # Errors
    /// When the backend fails.
    async fn deliveries(
        &self,
        scope: &Scope,
        filter: &DeliveryFilter,
        page: PageRequest,
    ) -> Result<Page<Delivery>>;

    /// A delivery's attempts, oldest first; none for one outside the scope.
    ///
    /// # Errors
    /// When the backend fails.
    async fn attempts(&self, scope: &Scope, delivery: Uuid) -> Result<Vec<Attempt>>;

    /// Makes a new delivery from one that has ended, with the next `replay_no`, due at once. Answers [`Changed::Refused`]
    /// if the delivery is live or its endpoint is gone.
    ///
    /// # Errors
    /// When the backend fails.
    async fn replay_delivery(
        &self,
        scope: &Scope,
        delivery: Uuid,
        now: Now,
    ) -> Result<Changed<Job>>;

    /// Makes a new delivery of an event for each endpoint that accepts it now and has no live delivery of
    /// it, with the next `replay_no`, due at once.
    ///
    /// # Errors
    /// When the backend fails.
    async fn replay_event(&self, scope: &Scope, event: Uuid, now: Now)
    -> Result<Changed<Vec<Job>>>;

    /// Cancels a live delivery. If an attempt is under way, its record will be [fenced](Recorded::Fenced).
    ///
    /// # Errors
    /// When the backend fails.
    async fn cancel_delivery(&self, scope: &Scope, delivery: Uuid, now: Now)
    -> Result<Changed<()>>;

    /// Stores a new bulk replay and returns it as stored. It counts as made at the store's own time, and its selection ends
    /// at that time.
    ///
    /// # Errors
    /// When nothing was stored, or it is unknown whether it was.
    async fn insert_replay(&self, replay: &Replay, now: Now) -> Result<Replay>;

    /// One bulk replay. Replays over all tenants are visible only with [`Scope::All`].
    ///
    /// # Errors
    /// When the backend fails.
    async fn replay(&self, scope: &Scope, id: Uuid) -> Result<Option<Replay>>;

    /// Bulk replays, newest first.
    ///
    /// # Errors
    /// When the backend fails.
    async fn replays(&self, scope: &Scope, page: PageRequest) -> Result<Page<Replay>>;

    /// Ends a running bulk replay. A step that is under way makes no more deliveries. Deliveries that were made stay.
    ///
    /// # Errors
    /// When the backend fails.
    async fn cancel_replay(&self, scope: &Scope, id: Uuid, now: Now) -> Result<Changed<Replay>>;

    /// Looks at `limit` rows of a selection, after `after` in the order of their ids. Says what a replay would do with them if
    /// it were stored now. The cost depends only on these rows.
    ///
    /// # Errors
    /// When the backend fails.
    async fn scan_replay(
        &self,
        scope: &Scope,
        selection: &ReplaySelection,
        after: Option<Uuid>,
        limit: usize,
        now: Now,
    ) -> Result<ReplayScan>;

    /// If a step of a running bulk replay is due, takes the step that has been due the longest. It looks at the next `limit`
    /// rows of the replay, makes new deliveries for those that are wanted, due at once, and moves the replay past these rows.
    /// All that is one transaction: after a crash, either the step was taken or it can be taken again. The replay's next step
    /// is due when its pace allows it.
    ///
    /// Each step is taken once, even if several processes ask at the same time. If the process that takes a step dies, the
    /// step is due again within a minute.
    ///
    /// A row that cannot be read is skipped. A replay whose endpoint is gone is cancelled.
    ///
    /// # Errors
    /// When the backend fails.
    async fn step_replay(&self, limit: usize, now: Now) -> Result<ReplayStep>;

    /// Adds rows of statistics. Several rows for the same minute are kept beside each other, because each process adds its
    /// own. The engine calls this about once a minute, but not while nothing happens.
    ///
    /// # Errors
    /// When nothing was added, or it is unknown whether it was. The engine repeats the call, so that some rows may count
    /// twice after a connection was lost.
    async fn append_stats(&self, rows: &[StatsRow]) -> Result<()>;

    /// The statistics that `query` asks for, added up over everything in the scope. The cost depends on the number of rows,
    /// not on the number of deliveries. Rows that cannot be read are left out.
    ///
    /// # Errors
    /// When the backend fails.
    async fn stats(&self, scope: &Scope, query: &StatsQuery) -> Result<Rollup>;

    /// Stores an entry of the catalogue of event types, and returns it as stored. If there is an entry of the same name, the
    /// new one takes over its id and its time of creation, and replaces everything else.
    ///
    /// # Errors
    /// When nothing was stored, or it is unknown whether it was.
    async fn put_event_type(&self, entry: &CatalogueEntry) -> Result<CatalogueEntry>;

    /// One entry of the catalogue.
    ///
    /// # Errors
    /// When the backend fails.
    async fn event_type(&self, name: &EventType) -> Result<Option<CatalogueEntry>>;

    /// Entries of the catalogue, the newest first.
    ///
    /// # Errors
    /// When the backend fails.
    async fn event_types(&self, page: PageRequest) -> Result<Page<CatalogueEntry>>;

    /// All schemas of the catalogue, and its version, both from the same moment; `None` if the catalogue is still at the
    /// version `known`. This case must be cheap: a process that enqueues asks about once a second.
    ///
    /// # Errors
    /// When the backend fails.
    async fn schemas(&self, known: i64) -> Result<Option<Schemas>>;

    /// Adds an entry to the audit log. If there is an entry with this id, it stays as it is.
    ///
    /// This is a transaction of its own, after the action has been committed. So the log never tells of something that was
    /// not done, but after a crash the last action may be missing.
    ///
    /// # Errors
    /// When nothing was added, or it is unknown whether it was; the same call may be repeated.
    async fn append_audit(&self, entry: &AuditEntry) -> Result<()>;

    /// Entries of the audit log, newest first. Entries that concern all tenants are visible only with [`Scope::All`]. Entries
    /// that cannot be read, or that a newer version wrote, are left out.
    ///
    /// # Errors
    /// When the backend fails.
    async fn audit(
        &self,
        scope: &Scope,
        filter: &AuditFilter,
        page: PageRequest,
    ) -> Result<Page<AuditEntry>>;

    /// Begins to erase a tenant, in one transaction. It removes the tenant's endpoints, with their lanes and health, and its
    /// bulk replays. It stores that the rest is to be erased, which [`step_erasure`](Self::step_erasure) then does. From now on
    /// `load` runs none of the tenant's deliveries, and idempotency keys no longer stand for its events. It does not wait for
    /// attempts that are under way.
    ///
    /// The rest is everything that is stored now and has an id up to that of the tenant's last event, or of now. Whatever is
    /// stored later belongs to a new tenant of the same name. It stays, whatever its id: processes make ids by their own
    /// clocks. If the erasure is asked for again, it includes everything up to then. It leaves the audit log alone.
    ///
    /// # Errors
    /// When nothing was changed, or it is unknown whether it was; the same call may be repeated.
    async fn erase_tenant(&self, tenant: &Tenant, now: Now) -> Result<()>;

    /// If a step of an erasure is due, takes the step that has been due the longest. It erases at most `limit` ended
    /// deliveries, `limit` events and `limit` idempotency keys, with their attempts, live deliveries and statistics, in one
    /// transaction.
    ///
    /// If a step finds nothing and the erasure was asked for longer than [`ErasureStep::LINGER`] ago, it is the last step. If
    /// it was asked for later, the next step is due once that time is over, because attempts that were under way may be
    /// recorded meanwhile.
    ///
    /// Each step is taken once, even if several processes ask at the same time.
    ///
    /// # Errors
    /// When the backend fails; the step can be taken again.
    async fn step_erasure(&self, limit: usize, now: Now) -> Result<ErasureStep>;

    /// Stores that a process is alive, with what has changed about it. Its `seen_at` becomes the store's time.
    ///
    /// # Errors
    /// When the backend fails.
    async fn put_process(&self, process: &Process, now: Now) -> Result<()>;

    /// Forgets a process, which has ended.
    ///
    /// # Errors
    /// When the backend fails.
    async fn remove_process(&self, id: Uuid) -> Result<()>;

    /// The processes that were seen within [`Process::ALIVE`], the newest first; at most 1,000.
    ///
    /// # Errors
    /// When the backend fails.
    async fn processes(&self, now: Now) -> Result<Vec<Process>>;

    /// What waits for an endpoint; `None` if there is no such endpoint in the scope. It stops counting at
    /// [`Depth::MOST`](crate::Depth::MOST), so that the cost does not grow with the backlog.
    ///
    /// # Errors
    /// When the backend fails.
    async fn backlog(&self, scope: &Scope, endpoint: Uuid, now: Now) -> Result<Option<Backlog>>;
}

/// A store that can join a host's own transaction.
#[async_trait]
pub trait TxStore: Store {
    /// What a host's transaction runs on.
    type Connection: Send;

    /// As [`Store::insert_events`], inside the host's transaction. The events exist once it commits, and never if it does
    /// not commit.
    ///
    /// # Errors
    /// When nothing was stored. The transaction may be unusable.
    async fn insert_events_in(
        &self,
        tx: &mut Self::Connection,
        events: &[Event],
        now: Now,
    ) -> Result<Insertion>;

    /// As [`Store::schemas`], on the host's connection, because the pool may have no other.
    ///
    /// # Errors
    /// When the backend fails. The transaction may be unusable.
    async fn schemas_in(&self, tx: &mut Self::Connection, known: i64) -> Result<Option<Schemas>>;
}

impl Job {
    /// The job of a delivery to `endpoint`.
    #[must_use]
    pub fn new(delivery: Uuid, endpoint: &Endpoint, due: Timestamp, sequence: i64) -> Self {
        Self {
            delivery,
            lane: endpoint.id,
            tenant: Tenant::clone(&endpoint.tenant),
            due,
            fence: 0,
            sequence,
            limits: endpoint.lane_limits(),
        }
    }
}

//! The seam behind which the truth is kept.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::audit::{AuditEntry, AuditFilter};
use crate::catalogue::{CatalogueEntry, Schemas};
use crate::delivery::{Attempt, Delivery, DeliveryStatus, EndReason, FailureCause};
use crate::endpoint::{Endpoint, StateReason};
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

/// What happens to a whole insert when one of its idempotency keys stands for something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnConflict {
    /// The other events are stored: they come from unrelated callers.
    Skip,
    /// Nothing is stored: they belong together.
    Abort,
}

/// How events are inserted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InsertOptions {
    /// What a conflict of one means for the others.
    pub on_conflict: OnConflict,
    /// Deliveries that the caller would attempt at once.
    pub claim: Vec<ClaimNew>,
    /// How long their leases last.
    pub lease: Duration,
}

impl InsertOptions {
    /// Claims nothing.
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

/// New deliveries of one endpoint to claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClaimNew {
    /// The endpoint.
    pub endpoint: Uuid,
    /// Its version that the claimer knows. If it is another by now, nothing is claimed.
    pub version: i64,
    /// The most deliveries, the first ones.
    pub room: u32,
}

/// What an insert did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Insertion {
    /// For each event, in order.
    pub events: Vec<Inserted>,
    /// The deliveries that were made, in any order.
    pub jobs: Vec<Job>,
    /// Those of them that were claimed, in any order.
    pub claimed: Vec<NewClaim>,
}

/// A new delivery that was claimed as it was made.
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
    /// Nothing yet: the queue was wrong, it is due only after this time. Its row is as it was.
    Early(Duration),
    /// Nothing yet: its lane is ordered, and this delivery, the first of those that are live, comes before it. Does
    /// the queue know? Its row is as it was.
    Behind(Uuid),
    /// Nothing yet: its endpoint's breaker is open for so long. Does the queue know? Its row is as it was.
    Held(Duration),
    /// Nothing yet: its endpoint's secrets are sealed with a key that is not at hand. It waits until it is, or
    /// until it expires. The endpoint comes without them.
    Sealed(Work),
    /// Nothing more: it has ended.
    Ended,
    /// Nothing more: no attempt of it will ever be possible, so `load` has just ended it, for this reason.
    Dead(EndReason),
}

/// What an attempt needs.
#[derive(Clone, Debug)]
pub struct Work {
    /// The attempts made before.
    pub attempts: u32,
    /// How many of them failed through us, and do not count against the schedule.
    pub excused: u32,
    /// When this delivery first was due.
    pub first_due: Timestamp,
    /// What to send.
    pub event: Arc<Event>,
    /// Where to.
    pub endpoint: Arc<Endpoint>,
    /// How the endpoint did then.
    pub health: Health,
}

/// What a worker writes about a claimed delivery.
#[derive(Clone, Debug)]
pub struct Record {
    /// The claim that entitles to it.
    pub lease: Lease,
    /// What was tried; `None` if the delivery ended without an attempt.
    pub attempt: Option<Arc<Attempt>>,
    /// What the delivery becomes.
    pub next: Next,
    /// Disables the endpoint, in the same transaction. As [`StateReason::Failing`] only if it still fails: one that has
    /// recovered since the attempt was loaded stays as it is.
    pub disable: Option<StateReason>,
    /// Holds the lane for so long, in the same transaction, as [`Queue::hold`] does. An index queue is told
    /// afterwards.
    pub hold: Option<Duration>,
    /// What changes of the endpoint's health, in the same transaction. With its breaker the store's own lane is held,
    /// to be probed then, or released; an index queue is told afterwards.
    pub health: Option<HealthChange>,
    /// An event that tells of `disable`, or else of `health`'s notice: stored with its deliveries in the same
    /// transaction, if that changes something.
    pub event: Option<Arc<Event>>,
}

/// Whether a record was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// It is committed.
    Written,
    /// It is committed, but for something of what it says of its endpoint: that has changed, or was said, since the
    /// attempt was loaded.
    Overtaken,
    /// The claim is stale, or the delivery has ended: nothing changed.
    Fenced,
}

/// How things are with everything that is stored, and with this process's way to it.
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
    /// The most there may be.
    pub max: u32,
}

/// How far a part of an index queue holds what the store has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fill {
    /// The part's [name](crate::QueuePart::name).
    pub part: String,
    /// Counts the writes, so that of two processes that would fill a part one does.
    pub version: i64,
    /// The generation of the part that is filled, or was.
    pub generation: i64,
    /// The last delivery whose job was pushed, while there are more.
    pub up_to: Option<Uuid>,
    /// Whether all live deliveries were pushed.
    pub is_complete: bool,
}

/// Which deliveries a list shows; all that is `Some` must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeliveryFilter {
    /// Of this endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint_id: Option<Uuid>,
    /// Of this event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_id: Option<Uuid>,
    /// Of this type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_type: Option<EventType>,
    /// In this state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<DeliveryStatus>,
    /// Whose last attempt failed in one of these ways: `http_503`, `timeout`. None means all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub error_kinds: Vec<String>,
    /// Whose last failure is the fault of this side.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<FailureCause>,
    /// Made at this time or later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Made before this time.
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

/// Which events a list shows; all that is `Some` must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Of this type.
    pub event_type: Option<EventType>,
    /// Accepted at this time or later.
    pub since: Option<Timestamp>,
    /// Accepted before this time.
    pub until: Option<Timestamp>,
    /// Whose body contains this text.
    pub text: Option<String>,
}

/// What a [`Store::rekey`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rekeyed {
    /// Endpoints whose secrets are now under the current key, and were not.
    pub rekeyed: u64,
    /// Endpoints that others changed meanwhile. These have probably sealed them with the current key.
    pub changed: u64,
    /// Endpoints whose secrets cannot be opened with the keys at hand, or not be read at all.
    pub unopened: u64,
    /// Where the next page begins; `None` after the last.
    pub next: Option<Uuid>,
}

/// What waits for one endpoint, each counted up to [`Depth::MOST`](crate::Depth::MOST).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Backlog {
    /// Deliveries that are due, and that nobody has taken up.
    pub due: u64,
    /// Deliveries whose time has not come.
    pub parked: u64,
    /// When the first of them all is, or was, due.
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

/// Where events, endpoints, deliveries and attempts are kept: the truth.
///
/// The contract, which `store_conformance!` checks:
/// - **Atomic.** Each method is one transaction: all of it or nothing, durable when it returns `Ok`.
/// - **Bytes stay bytes.** Bodies come back as they were given.
/// - **Fenced.** Each delivery has a fence that only grows. `load` (beside an index queue) or the store's own
///   queue's `claim` raises it to the lease's and sets `in_progress`; `record` requires equality *and*
///   `in_progress`, otherwise it changes nothing, not even the attempt log.
/// - **Tenants are walls.** A row outside the scope is as if it did not exist.
/// - **Its own queue knows at once.** Where the deliveries are the queue, whatever makes one due (an insert,
///   a retry, a replay) also wakes those who wait in [`Queue::ready`], without a `push`.
/// - **Idempotent where it must be.** `insert_events` with the same ids again adds nothing.
/// - States change only as [`DeliveryStatus::may_become`] allows.
///
/// `now` is `None` in production: each backend then uses its own clock.
#[async_trait]
pub trait Store: Send + Sync {
    /// Stores events and one delivery for each of the tenant's enabled or paused endpoints that accepts
    /// the event's type, in one transaction.
    ///
    /// Of the deliveries that are due at once, it claims what [`InsertOptions::claim`] asks for, as
    /// [`Queue::claim`] and `load` would: with a fence, a lease, and `in_progress`. But only of enabled
    /// endpoints whose lane is neither limited, ordered nor held, and of which no trouble is known: what is claimed so
    /// is not loaded, and says nothing of how its endpoint does. It may claim fewer, or none.
    ///
    /// # Errors
    /// When nothing was stored, or it is unknown whether it was; the same call may be repeated.
    async fn insert_events(
        &self,
        events: &[Event],
        options: &InsertOptions,
        now: Now,
    ) -> Result<Insertion>;

    /// Stores a test event and one delivery of it, due at once, to this endpoint of the event's tenant, whatever that
    /// wants. Answers its job; `None`, and nothing is stored, if there is no such endpoint or it is not enabled.
    ///
    /// # Errors
    /// When nothing was stored, or it is unknown whether it was.
    async fn insert_test(&self, event: &Event, endpoint: Uuid, now: Now) -> Result<Option<Job>>;

    /// Reads what the attempts of these claims need, raises each fence to the lease's, keeps the lease's end
    /// and sets `in_progress`; of endpoints whose breaker is open only what its own queue has claimed already. Leaves
    /// out leases whose fence is below the row's: someone else owns those. Better than to fail for one that cannot be
    /// read is to end it as [`quarantine`](Self::quarantine) does, and to answer [`Verdict::Dead`].
    ///
    /// # Errors
    /// When the backend fails.
    async fn load(&self, leases: &[Lease], now: Now) -> Result<Vec<Loaded>>;

    /// Appends attempts and moves deliveries on, for each record whose claim is current.
    ///
    /// # Errors
    /// When nothing was written, or it is unknown whether it was; the same call may be repeated, and what
    /// was written before then answers [`Recorded::Fenced`].
    async fn record(&self, records: &[Record], now: Now) -> Result<Vec<Recorded>>;

    /// Ends deliveries that [`load`](Self::load) fails for, again and again: those that are live, and whose fence
    /// is not above their lease's, become `failed` with [`EndReason::Corrupt`]. Reads none of what may be at
    /// fault.
    ///
    /// # Errors
    /// When the backend fails.
    async fn quarantine(&self, leases: &[Lease], now: Now) -> Result<()>;

    /// The live ones among these deliveries: what became of an `enqueue_in` whose transaction has committed.
    ///
    /// # Errors
    /// When the backend fails.
    async fn jobs(&self, deliveries: &[Uuid]) -> Result<Vec<Job>>;

    /// Live deliveries in the order of their ids, after `after`: what an index queue should hold. Fewer than
    /// `limit` only after the last, though rows that cannot be read are left out.
    ///
    /// # Errors
    /// When the backend fails.
    async fn unqueued(&self, after: Option<Uuid>, limit: usize) -> Result<Vec<Job>>;

    /// Live deliveries that nobody owns and that were due before `before`, at most `limit`: what an index queue
    /// may have forgotten, unless it has a backlog. Which ones, if there are more, is the backend's choice.
    ///
    /// # Errors
    /// When the backend fails.
    async fn overdue(&self, before: Timestamp, limit: usize) -> Result<Vec<Job>>;

    /// How far the parts of index queues were filled: of each part the last that was
    /// [stored](Self::put_fills), in any order.
    ///
    /// # Errors
    /// When the backend fails.
    async fn fills(&self) -> Result<Vec<Fill>>;

    /// Stores each of these whose version is the next one of its part's, or whose part has none. Answers the parts
    /// of those that were stored; with the others somebody else was faster.
    ///
    /// # Errors
    /// When nothing was stored, or it is unknown whether it was.
    async fn put_fills(&self, fills: &[Fill]) -> Result<Vec<String>>;

    /// The queue that these deliveries already are; `None` where the host must bring one.
    fn queue(&self) -> Option<Arc<dyn Queue>>;

    /// How many [inserts](Self::insert_events) to have under way at once: one where one writer is all there is.
    fn inserts_at_once(&self) -> usize;

    /// Whether the backend answers.
    ///
    /// # Errors
    /// When it does not.
    async fn ping(&self) -> Result<()>;

    /// How things are, over all tenants. Looks only at endpoints in trouble, so that its cost depends neither on how
    /// much is stored nor on how many do well.
    ///
    /// # Errors
    /// When the backend fails.
    async fn vitals(&self, now: Now) -> Result<Vitals>;

    /// Housekeeping, a bounded amount of it: drops what has ended longer than `retention` ago, bulk replays too, and
    /// entries of the audit log that are older, but nothing that a live delivery needs, merges statistics as
    /// [`STATS_TIERS`](crate::STATS_TIERS) say and drops
    /// those that are older than `retention`, and does what else the backend needs from time to time. The
    /// engine calls it about once an hour, in every process.
    ///
    /// # Errors
    /// When the backend fails; the rest is for the next call.
    async fn maintain(&self, retention: Duration, now: Now) -> Result<()>;

    /// Stores a new endpoint.
    ///
    /// # Errors
    /// When the backend fails.
    async fn insert_endpoint(&self, endpoint: &Endpoint) -> Result<()>;

    /// Replaces an endpoint whose stored version is one below `endpoint.version`; otherwise answers `false`.
    ///
    /// # Errors
    /// When the backend fails.
    async fn update_endpoint(&self, endpoint: &Endpoint) -> Result<bool>;

    /// How these endpoints do, as far as they are in the scope: those that are not in the answer do well.
    ///
    /// # Errors
    /// When the backend fails.
    async fn health(
        &self,
        scope: &Scope,
        endpoints: &[Uuid],
        now: Now,
    ) -> Result<Vec<(Uuid, Health)>>;

    /// Forgets how an endpoint did, closes its breaker and, if it is enabled, releases its lane in the store's own
    /// queue. Answers whether it is there.
    ///
    /// # Errors
    /// When the backend fails.
    async fn recover_endpoint(&self, scope: &Scope, id: Uuid) -> Result<bool>;

    /// Removes an endpoint and cancels its live deliveries. Answers whether it was there.
    ///
    /// # Errors
    /// When the backend fails.
    async fn delete_endpoint(&self, scope: &Scope, id: Uuid, now: Now) -> Result<bool>;

    /// Seals the secrets of a page of endpoints anew, newest first, as far as they are not under the current key.
    /// Endpoint by endpoint: an endpoint that others change meanwhile stays as they left it. Its version and time
    /// of change stay, as nothing of it changes for anybody who reads it. Does nothing in a store without keys.
    ///
    /// # Errors
    /// When the backend fails; what was sealed anew before stays so.
    async fn rekey(&self, page: PageRequest) -> Result<Rekeyed>;

    /// One endpoint.
    ///
    /// # Errors
    /// [`ErrorKind::Sealed`](crate::ErrorKind::Sealed) when its secrets cannot be opened with the keys at hand;
    /// otherwise when the backend fails.
    async fn endpoint(&self, scope: &Scope, id: Uuid) -> Result<Option<Endpoint>>;

    /// Endpoints, newest first. Those that cannot be read, or whose secrets cannot be opened now, are left out.
    ///
    /// # Errors
    /// When the backend fails.
    async fn endpoints(&self, scope: &Scope, page: PageRequest) -> Result<Page<Endpoint>>;

    /// One event.
    ///
    /// # Errors
    /// When the backend fails.
    async fn event(&self, scope: &Scope, id: Uuid) -> Result<Option<Event>>;

    /// Events, newest first, without their bodies: these are empty, and may be looked at for the filter's text alone.
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

    /// Makes a new delivery of an ended one, with the next `replay_no`, due at once. Refused while the
    /// delivery is live or when its endpoint is gone.
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

    /// Cancels a live delivery. An attempt under way ends fenced.
    ///
    /// # Errors
    /// When the backend fails.
    async fn cancel_delivery(&self, scope: &Scope, delivery: Uuid, now: Now)
    -> Result<Changed<()>>;

    /// Stores a new bulk replay, as made at the store's own time, and answers it so: its selection ends then.
    ///
    /// # Errors
    /// When nothing was stored, or it is unknown whether it was.
    async fn insert_replay(&self, replay: &Replay, now: Now) -> Result<Replay>;

    /// One bulk replay. Those of all tenants are seen with [`Scope::All`] only.
    ///
    /// # Errors
    /// When the backend fails.
    async fn replay(&self, scope: &Scope, id: Uuid) -> Result<Option<Replay>>;

    /// Bulk replays, newest first.
    ///
    /// # Errors
    /// When the backend fails.
    async fn replays(&self, scope: &Scope, page: PageRequest) -> Result<Page<Replay>>;

    /// Ends a running bulk replay. A step that is under way makes nothing any more; what was made stays.
    ///
    /// # Errors
    /// When the backend fails.
    async fn cancel_replay(&self, scope: &Scope, id: Uuid, now: Now) -> Result<Changed<Replay>>;

    /// Looks at `limit` rows of a selection and says what a replay that were stored now would do with them. The
    /// rows come in the order of their ids, after `after`; the cost is that of the rows, whatever is stored besides.
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

    /// Takes a step of the running bulk replay that has been due the longest, if one is due: looks at its next
    /// `limit` rows, makes the new deliveries of those that are wanted, due at once, and moves the replay on behind
    /// them. All that is one transaction: after a crash the step has been taken, or can be taken again. Its next step
    /// is due when its pace allows it.
    ///
    /// Each step is taken once, however many ask at the same time. One whose taker died is due again within a minute.
    ///
    /// A row that cannot be read is skipped. A replay whose endpoint is gone is cancelled.
    ///
    /// # Errors
    /// When the backend fails.
    async fn step_replay(&self, limit: usize, now: Now) -> Result<ReplayStep>;

    /// Adds rows of statistics to those that are there, also to ones of the same minute: each process has its
    /// own. The engine calls it about once a minute, and not at all while nothing happens.
    ///
    /// # Errors
    /// When nothing was added, or it is unknown whether it was. The engine repeats the call: after a
    /// connection was lost, some may count twice.
    async fn append_stats(&self, rows: &[StatsRow]) -> Result<()>;

    /// The statistics that `query` asks for, of everything in the scope, added up. Its cost depends on how many
    /// rows there are, and not on the number of deliveries. A row that cannot be read is left out.
    ///
    /// # Errors
    /// When the backend fails.
    async fn stats(&self, scope: &Scope, query: &StatsQuery) -> Result<Rollup>;

    /// Stores an entry of the catalogue of event types, and answers it as it is then. Where there is one of the same
    /// name, that keeps its id and the time when it was made; all else is replaced.
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

    /// All schemas of the catalogue and its version, both of one moment; `None` while it is at the version `known`.
    /// That must be cheap: a process that enqueues asks about once a second.
    ///
    /// # Errors
    /// When the backend fails.
    async fn schemas(&self, known: i64) -> Result<Option<Schemas>>;

    /// Adds an entry to the audit log; one whose id is there already stays as it is.
    ///
    /// A transaction of its own, after what it tells of has been committed: the log says nothing that was not done, and a
    /// crash between the two may leave out the last that was.
    ///
    /// # Errors
    /// When nothing was added, or it is unknown whether it was; the same call may be repeated.
    async fn append_audit(&self, entry: &AuditEntry) -> Result<()>;

    /// Entries of the audit log, newest first. Those that concern all tenants are seen with [`Scope::All`] only. Those
    /// that cannot be read, or were written by a newer version, are left out.
    ///
    /// # Errors
    /// When the backend fails.
    async fn audit(
        &self,
        scope: &Scope,
        filter: &AuditFilter,
        page: PageRequest,
    ) -> Result<Page<AuditEntry>>;

    /// Removes a tenant's endpoints, with their lanes and health, and its bulk replays, and stores that the rest is to
    /// be erased, as [`step_erasure`](Self::step_erasure) then does, all in one transaction. From then on `load` runs
    /// none of its deliveries; ones that are under way are not waited for. Nor does an idempotency key stand for one of
    /// its events any more.
    ///
    /// The rest is what has an id up to that of the tenant's last event, or of now, and was there. What is stored later
    /// is another tenant's of the same name, and stays whatever its id: each process makes them by its own clock. Asked
    /// for again, it counts from then. Leaves the audit log alone.
    ///
    /// # Errors
    /// When nothing was changed, or it is unknown whether it was; the same call may be repeated.
    async fn erase_tenant(&self, tenant: &Tenant, now: Now) -> Result<()>;

    /// Takes a step of erasing the tenant whose step has been due the longest, if one is due: erases at most `limit`
    /// ended deliveries, events and idempotency keys each, with their attempts and live deliveries, and statistics, in
    /// one transaction. A step that finds nothing is the last one, if the erasure was asked for longer than
    /// [`ErasureStep::LINGER`] ago; if not, the next is due then: attempts that were under way may have been recorded
    /// meanwhile.
    ///
    /// However many processes ask at the same time, each step is taken once.
    ///
    /// # Errors
    /// When the backend fails; the step can be taken again.
    async fn step_erasure(&self, limit: usize, now: Now) -> Result<ErasureStep>;

    /// Stores that a process is alive, or what is different of it; its `seen_at` is the store's time.
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

    /// What waits for an endpoint; `None` if there is none in the scope. Its cost does not grow with what waits beyond
    /// what is counted.
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

    /// As [`Store::insert_events`], inside the host's transaction: the events exist once it commits, and
    /// never if it does not.
    ///
    /// # Errors
    /// When nothing was stored. The transaction may be unusable.
    async fn insert_events_in(
        &self,
        tx: &mut Self::Connection,
        events: &[Event],
        now: Now,
    ) -> Result<Insertion>;

    /// As [`Store::schemas`], on the host's connection: the pool may have no other.
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

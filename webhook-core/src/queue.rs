//! The seam behind which jobs wait, in lanes.

use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use crate::endpoint::LaneLimits;
use crate::error::Result;
use crate::tenant::Tenant;
use crate::time::{Now, Timestamp};

/// A delivery that waits: what a store hands to a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// The delivery.
    pub delivery: Uuid,
    /// The lane: the endpoint's id.
    pub lane: Uuid,
    /// Whose lane it is: claims go round the tenants first.
    pub tenant: Tenant,
    /// Not claimed before this time.
    pub due: Timestamp,
    /// The greatest fence that the store knows for this delivery.
    pub fence: i64,
    /// The store's order of acceptance, which an ordered lane follows.
    pub sequence: i64,
    /// How the lane is scheduled.
    pub limits: LaneLimits,
}

/// A job that a worker owns for a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The delivery.
    pub delivery: Uuid,
    /// Its lane.
    pub lane: Uuid,
    /// Greater than that of every lease of this delivery before it. The store refuses the writes of lower ones.
    pub fence: i64,
    /// When it ends, by the queue's clock.
    pub until: Timestamp,
}

/// How many jobs a claim may take, of which lanes, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClaimOptions {
    /// The most jobs.
    pub limit: usize,
    /// How long the leases last.
    pub lease: Duration,
    /// The most jobs of a lane that is not among `rooms`.
    pub room: u32,
    /// The most jobs of each of these lanes: what this process has to do with them already, or knows of them.
    pub rooms: Vec<(Uuid, u32)>,
}

impl ClaimOptions {
    /// At most `limit` jobs, owned for `lease`, of any lanes.
    #[must_use]
    pub fn new(limit: usize, lease: Duration) -> Self {
        Self {
            limit,
            lease,
            room: u32::MAX,
            rooms: Vec::new(),
        }
    }

    /// At most `room` jobs of each lane, but of those in `rooms` as many as they say.
    #[must_use]
    pub fn rooms(mut self, room: u32, rooms: Vec<(Uuid, u32)>) -> Self {
        (self.room, self.rooms) = (room, rooms);
        self
    }
}

/// What a claim found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claimed {
    /// The jobs that are now owned, at most the limit.
    pub leases: Vec<Lease>,
    /// If there were none: when the next may be, as far as the queue can tell without effort. Due times,
    /// ends of holds and of leases count; a lane at its cap, or without room, does not. Fewer than the limit does not mean
    /// that nothing more is due.
    pub next_due: Option<Timestamp>,
    /// How many leases this claim found ended that nobody had settled: their jobs are among those that it took, or
    /// wait again. Each counts once, over all processes. An index queue that lost a lease does not find it.
    pub reclaimed: usize,
}

/// How a lease ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settle {
    /// The delivery has ended. Follows a written `record`.
    Done,
    /// The delivery is due again after this time. Follows a `record`, written or fenced.
    After(Duration),
    /// Nothing was attempted: the job goes back, due after this time. No `record` went before.
    Unused(Duration),
}

/// For how long a lane is held, and what then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Hold {
    /// How long.
    pub by: Duration,
    /// Whether the lane is probed then: it has one job in flight at a time, over all processes, until it is
    /// [released](Queue::release). An index queue may end that by itself, ten minutes after the hold: whoever would
    /// release it may have died.
    pub then_probe: bool,
}

impl Hold {
    /// A hold after which the lane is as it was.
    #[must_use]
    pub fn new(by: Duration) -> Self {
        Self {
            by,
            then_probe: false,
        }
    }

    /// A hold after which the lane is probed.
    #[must_use]
    pub fn then_probe(by: Duration) -> Self {
        Self {
            by,
            then_probe: true,
        }
    }
}

/// A part of a queue: it can lose what it holds without the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuePart {
    /// What it is called: the same in every process that uses it.
    pub name: String,
    /// A number that is another one when the part has lost what it held, or may have; `None` while it does not
    /// answer.
    pub generation: Option<i64>,
}

impl QueuePart {
    /// What loses nothing without its store: the parts of the store's own queue.
    #[must_use]
    pub fn of_store() -> Vec<Self> {
        vec![Self {
            name: "store".to_owned(),
            generation: Some(0),
        }]
    }
}

/// What waits in a queue.
///
/// A count of [`MOST`](Self::MOST) or more says "at least": to count on would cost more than it tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// Jobs that are due and unclaimed, held ones included.
    pub ready: u64,
    /// Jobs whose time has not come.
    pub parked: u64,
    /// Jobs under a lease.
    pub leased: u64,
    /// Since when the first lane waits to be claimed from, or when it will: when its next job is due, its hold has ended
    /// and its rate allows it. A lane at its cap has none, and no follower of an ordered lane's head has: what a breaker, a
    /// pause, a `Retry-After` or a limit keeps waiting is not late.
    pub oldest_due: Option<Timestamp>,
}

impl Depth {
    /// How many jobs a queue counts for sure.
    pub const MOST: u64 = 10_000;
}

/// Where jobs wait in lanes, one lane an endpoint, and are claimed fairly.
///
/// The contract, which `queue_conformance!` checks:
/// - **A lane has a time before which it is not eligible, and a cap on what is in flight.** A claim never
///   takes a job before its due time, nor from a lane that is held, over its rate, or at its cap, which is
///   one while it is [probed](Hold::then_probe()), nor more of a lane than the [claimer has room for](ClaimOptions::rooms).
/// - **Fair.** A claim goes round the tenants, then round a tenant's eligible lanes, one job at a time, within each
///   [part](Queue::parts).
/// - **Exclusive.** Of concurrent claims, one gets a job; the fence of a lease is greater than that of
///   every earlier lease of the delivery, and than the job's own.
/// - **Leases end.** A job whose lease has passed is claimed again by whoever comes first, without any
///   recovery step.
/// - **Stale owners change nothing**: `extend` and `settle` act only where the fence is still the current one.
/// - **Losable.** Beside a store with a queue of its own it is only an index: what it forgets is pushed
///   again, and `push` of a job that is there already changes nothing but the lane's limits, and a due time that is
///   too late. A lane is in one of
///   its [parts](Queue::parts), always the same, and a part that has lost something is of another generation.
///
/// `now` is `None` in production: each backend then uses its own clock.
#[async_trait]
pub trait Queue: Send + Sync {
    /// Adds jobs. A job that is there already, waiting or leased, stays as it is. But an index that lets it wait for
    /// longer than the store, by a clock that has gone back since, believes the store: a job that waits until more than
    /// a second after the due time that is pushed falls due that second after it. Differences below that are of
    /// answers on their way, and of clocks; to believe each of them would cost a look for nothing.
    ///
    /// # Errors
    /// When the backend fails. Some of the jobs may have been added; pushing them again is harmless.
    async fn push(&self, jobs: &[Job], now: Now) -> Result<()>;

    /// Takes due jobs from eligible lanes, fairly.
    ///
    /// # Errors
    /// When the backend fails. Jobs that were leased nevertheless come back when their lease ends.
    async fn claim(&self, options: ClaimOptions, now: Now) -> Result<Claimed>;

    /// Lets leases last until `by` from now. Returns those that still stood.
    ///
    /// # Errors
    /// When the backend fails; treat every lease as lost.
    async fn extend(&self, leases: &[Lease], by: Duration, now: Now) -> Result<Vec<Lease>>;

    /// Ends leases. Where a lease is no longer the current one, nothing changes.
    ///
    /// # Errors
    /// When the backend fails. The leases end by themselves.
    async fn settle(&self, settled: &[(Lease, Settle)], now: Now) -> Result<()>;

    /// Lets nothing of `lane` be claimed for a time, or for what is left of an earlier hold if that is longer. A lane
    /// that is to be probed stays so, whatever hold comes after.
    ///
    /// # Errors
    /// When the backend fails.
    async fn hold(&self, lane: Uuid, hold: Hold, now: Now) -> Result<()>;

    /// Ends a hold, and lets the lane no longer be probed.
    ///
    /// # Errors
    /// When the backend fails.
    async fn release(&self, lane: Uuid) -> Result<()>;

    /// Returns when there may be something to claim. May return early, or never: callers poll beside it.
    async fn ready(&self);

    /// The parts in which jobs are kept, always in the same order.
    ///
    /// A part is never again of a generation that it was of before a loss: the store
    /// [remembers](crate::Store::fills) which one was filled.
    ///
    /// # Errors
    /// When no part answers.
    async fn parts(&self) -> Result<Vec<QueuePart>>;

    /// Which of the [parts](Self::parts) keeps the jobs of `lane`.
    fn part_of(&self, lane: Uuid) -> usize;

    /// What waits. Exact while no more than [`Depth::MOST`] jobs are there; with more, each count is of those
    /// that were looked at, so that its cost does not grow with the backlog. The oldest is found beyond them as far
    /// as looking at the heads of lanes tells.
    ///
    /// # Errors
    /// When the backend fails.
    async fn depth(&self, now: Now) -> Result<Depth>;
}

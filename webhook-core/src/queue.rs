//! [`Queue`]: the seam to what holds the jobs that wait, in lanes.

use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use crate::endpoint::LaneLimits;
use crate::error::Result;
use crate::tenant::Tenant;
use crate::time::{Now, Timestamp};

/// A delivery that waits, as a store hands it to a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// The delivery.
    pub delivery: Uuid,
    /// The lane: the endpoint's id.
    pub lane: Uuid,
    /// The tenant of the lane. Claims go round the tenants first.
    pub tenant: Tenant,
    /// The time before which the job must not be claimed.
    pub due: Timestamp,
    /// The greatest fence that the store knows for this delivery.
    pub fence: i64,
    /// The place in the store's order of acceptance, which an ordered lane follows.
    pub sequence: i64,
    /// The limits of the lane.
    pub limits: LaneLimits,
}

/// A job that a worker owns for a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The delivery.
    pub delivery: Uuid,
    /// Its lane.
    pub lane: Uuid,
    /// A number that is greater than that of every earlier lease of this delivery. The store refuses writes with a lower
    /// one.
    pub fence: i64,
    /// When the lease ends, by the queue's clock.
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
    /// The most jobs of each of these lanes. They are the lanes of which this process has attempts under way, or about
    /// which it knows something.
    pub rooms: Vec<(Uuid, u32)>,
}

impl ClaimOptions {
    /// At most `limit` jobs of any lanes, owned for `lease`.
    #[must_use]
    pub fn new(limit: usize, lease: Duration) -> Self {
        Self {
            limit,
            lease,
            room: u32::MAX,
            rooms: Vec::new(),
        }
    }

    /// At most `room` jobs of each lane, but for the lanes in `rooms` at most as many as `rooms` says.
    #[must_use]
    pub fn rooms(mut self, room: u32, rooms: Vec<(Uuid, u32)>) -> Self {
        (self.room, self.rooms) = (room, rooms);
        self
    }
}

/// What a claim found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claimed {
    /// The jobs that the claimer now owns, at most the limit. If there are fewer, more may still be due.
    pub leases: Vec<Lease>,
    /// If `leases` is empty: when the next job may be claimed, as far as the queue can tell without effort. The queue
    /// considers due times and the ends of holds and leases. It does not consider lanes at their cap or without room.
    pub next_due: Option<Timestamp>,
    /// How many leases this claim found that had ended and that nobody had settled. It has taken their jobs, or they wait
    /// again. Each such lease counts once, over all processes. If an index queue lost a lease, it does not count it.
    pub reclaimed: usize,
}

/// How a lease ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settle {
    /// The delivery has ended. A `record` was written before.
    Done,
    /// The delivery is due again after this time. A `record` was written or fenced before.
    After(Duration),
    /// Nothing was attempted, and there was no `record`. The job goes back, due after this time.
    Unused(Duration),
}

/// For how long a lane is held, and whether it is probed afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Hold {
    /// How long nothing of the lane may be claimed.
    pub by: Duration,
    /// Whether the lane is probed afterwards: then it has one job in flight at a time, over all processes, until somebody
    /// [releases](Queue::release) it. An index queue may release it by itself ten minutes after the hold, because the
    /// process that would release it may have died.
    pub then_probe: bool,
}

impl Hold {
    /// A hold after which the lane is as it was before.
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

/// A part of a queue that can lose its jobs while other parts keep theirs: a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuePart {
    /// The part's name, which is the same in every process.
    pub name: String,
    /// A number that changes when the part has lost its jobs, or may have lost them; `None` while the part does not answer.
    pub generation: Option<i64>,
}

impl QueuePart {
    /// The parts of a store's own queue: one part, which loses nothing unless the store does.
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
/// A count of [`MOST`](Self::MOST) or more means "at least so many": queues stop counting there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// Jobs that are due and not claimed, also in lanes that are held.
    pub ready: u64,
    /// Jobs that are not due yet.
    pub parked: u64,
    /// Jobs under a lease.
    pub leased: u64,
    /// The earliest time from which some lane could be, or could have been, claimed from: its next job is due, its hold has
    /// ended and its rate allows it. Lanes at their cap do not count, nor do jobs behind the head of an ordered lane. So
    /// jobs that wait for a breaker, a pause, a `Retry-After` or a limit do not count as late.
    pub oldest_due: Option<Timestamp>,
}

impl Depth {
    /// Up to this number queues count exactly.
    pub const MOST: u64 = 10_000;
}

/// Where jobs wait in lanes, one lane an endpoint, and are claimed fairly.
///
/// The contract, which `queue_conformance!` checks:
/// - **A lane has a time before which it is not eligible, and a cap on what is in flight.** A claim never takes a job before
///   it is due, nor from a lane that is held, over its rate or at its cap. The cap is one while the lane is
///   [probed](Hold::then_probe()). A claim takes no more of a lane than the [claimer has room for](ClaimOptions::rooms).
/// - **Fair.** Within each [part](Queue::parts), a claim goes round the tenants, then round a tenant's eligible lanes, and
///   takes one job at a time.
/// - **Exclusive.** If several claims run at once, one of them gets a job. The fence of a lease is greater than that of every
///   earlier lease of the delivery, and greater than the job's own.
/// - **Leases end.** When a lease has ended, the next claim may take the job. There is no recovery step.
/// - **Stale owners change nothing.** `extend` and `settle` act only if the fence is still the current one.
/// - **Losable.** Beside a store that is the truth, a queue is only an index: the engine pushes again what the queue forgets.
///   A `push` of a job that is there already changes only the lane's limits, and a due time that is too late. A lane is always in the same
///   [part](Queue::parts), and a part that has lost something gets another generation.
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

    /// Makes leases last until `by` from now. Returns those that were still current.
    ///
    /// # Errors
    /// When the backend fails; the caller treats every lease as lost.
    async fn extend(&self, leases: &[Lease], by: Duration, now: Now) -> Result<Vec<Lease>>;

    /// Ends leases. If a lease is no longer the current one, nothing changes.
    ///
    /// # Errors
    /// When the backend fails. The leases end by themselves.
    async fn settle(&self, settled: &[(Lease, Settle)], now: Now) -> Result<()>;

    /// Holds `lane`: nothing of it may be claimed for a time, or until an earlier hold ends if that is later. A lane that is
    /// to be probed stays so, even if another hold follows.
    ///
    /// # Errors
    /// When the backend fails.
    async fn hold(&self, lane: Uuid, hold: Hold, now: Now) -> Result<()>;

    /// Ends a hold, and ends the probing of the lane.
    ///
    /// # Errors
    /// When the backend fails.
    async fn release(&self, lane: Uuid) -> Result<()>;

    /// Returns when there may be something to claim. May return early, or never: callers poll beside it.
    async fn ready(&self);

    /// The parts in which jobs are kept, always in the same order.
    ///
    /// After a loss, a part never gets a generation that it had before: the store [remembers](crate::Store::fills) which
    /// generation was filled.
    ///
    /// # Errors
    /// When no part answers.
    async fn parts(&self) -> Result<Vec<QueuePart>>;

    /// Which of the [parts](Self::parts) keeps the jobs of `lane`.
    fn part_of(&self, lane: Uuid) -> usize;

    /// What waits. The counts are exact while there are at most [`Depth::MOST`] jobs. If there are more, the counts are of the
    /// jobs that the queue looked at, so that the cost does not grow with the backlog. `oldest_due` is found among the heads
    /// of lanes, also beyond those jobs.
    ///
    /// # Errors
    /// When the backend fails.
    async fn depth(&self, now: Now) -> Result<Depth>;
}

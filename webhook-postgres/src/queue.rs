//! The queue that is part of a [`PgStore`](crate::PgStore). Only its store hands it out.

use std::collections::{BTreeMap, HashSet};
use std::mem;
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use sqlx::Row;
use sqlx::postgres::PgRow;
use tokio::sync::Notify;
use tokio::time::Instant;
use uuid::Uuid;
use webhook_core::{
    ClaimOptions, Claimed, Depth, Hold, Job, Lease, Now, Queue, QueuePart, Result, Settle,
    Timestamp,
};

use crate::column::{At, at, micros};
use crate::error::failed;
use crate::store::Shared;

/// How many deliveries whose time has come a claim makes ready.
const MAX_WOKEN: i64 = 1_000;
/// While there is always something ready: how often to look for what has become due.
const WAKE_EVERY: Duration = Duration::from_millis(500);
/// While something is ready and nothing can be claimed: how often to look whether it is told of its lane.
const STRAYS_EVERY: Duration = Duration::from_secs(60);
/// For how long an empty queue is taken to be empty, unless this process hears of news: others' events are
/// found when it looks again.
const DRY_FOR: Duration = Duration::from_millis(50);
/// The same where other processes are heard of.
const DRY_IF_HEARD: Duration = Duration::from_secs(5);
/// For how long after an `enqueue_in` its commit may come at any moment.
const COMMIT_WITHIN: Duration = Duration::from_millis(300);
/// How many parts of a round a claim looks at to find something. What it does not find then, the next does.
const MAX_PARTS: usize = 64;
/// The most tenants of a part.
const MAX_TENANTS: usize = 256;

/// In how many lanes the oldest job is looked for.
const DEPTH_LANES: i64 = 1_000;

pub(crate) struct PgQueue(Arc<Shared>);

/// Where a process's claims stand.
#[derive(Debug, Default)]
pub(crate) struct Round {
    /// The tenant after which the round goes on; the first if empty.
    tenant: String,
    /// Where it goes on in tenants with many lanes; in the order of the round.
    lanes: BTreeMap<String, Uuid>,
    dry: Option<Dry>,
    /// By the server's clock.
    last_wake: Option<Timestamp>,
    last_claim: Option<Timestamp>,
    last_strays: Option<Instant>,
    /// More had become due than was made ready.
    more_to_wake: bool,
}

/// That there was nothing to claim.
#[derive(Debug)]
struct Dry {
    until: Instant,
    news: u64,
    /// Something is ready, in lanes of which nothing can be claimed.
    blocked: Option<Blocked>,
    next_due: Option<Timestamp>,
}

/// The lanes in which something is ready: if none are known, it may be any. A claim need not look again before one of
/// them has a place.
#[derive(Debug, Default)]
struct Blocked {
    /// Those for which this process has no room.
    here: HashSet<Uuid>,
    /// Those that wait for something else: their cap over all processes, or the head of their order.
    elsewhere: HashSet<Uuid>,
}

/// What tells this process's claims that there may be something.
#[derive(Debug, Default)]
pub(crate) struct News {
    count: AtomicU64,
    wake: Notify,
    /// When a host's transaction was last joined.
    joined: Mutex<Option<Instant>>,
}

/// What `wake.sql` answers.
struct Woken {
    count: i64,
    reclaimed: usize,
    has_ready: bool,
    next_due: Option<Timestamp>,
}

/// What one part of a round brought.
struct Part {
    leases: Vec<Lease>,
    next_eligible: Option<Timestamp>,
    /// Of a part that brought nothing, the lanes in which something is ready.
    blocked: Vec<Uuid>,
    is_last: bool,
}

/// What a round brought.
#[derive(Default)]
struct Look {
    leases: Vec<Lease>,
    next_eligible: Option<Timestamp>,
    blocked: Vec<Uuid>,
}

impl PgQueue {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    fn round(&self) -> MutexGuard<'_, Round> {
        self.0.round.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn claim_or_wake(&self, options: &ClaimOptions, now: Now) -> sqlx::Result<Claimed> {
        // Two at a time would only be in each other's way.
        let _turn = self.0.claiming.lock().await;
        if let Some(next_due) = self.still_dry(options, now) {
            return Ok(Claimed {
                next_due,
                ..Claimed::default()
            });
        }
        let news = self.0.news.count.load(Ordering::SeqCst);
        let (mut claimed, blocked) = self.look(options, now).await?;
        if blocked.is_some() && claimed.leases.is_empty() {
            self.look_for_strays().await?;
        }
        // What is ready and cannot be claimed waits for a place that another process frees.
        let dry_for = match blocked {
            None if self.0.announcements.are_heard() => DRY_IF_HEARD,
            _ => DRY_FOR,
        };
        let mut round = self.round();
        let server_now = round.last_wake.max(round.last_claim);
        if round.more_to_wake && claimed.leases.is_empty() {
            claimed.next_due = server_now;
            return Ok(claimed);
        }
        let due_in = claimed
            .next_due
            .zip(server_now)
            .map(|(due, now)| due.since(now));
        round.dry = claimed.leases.is_empty().then(|| Dry {
            until: Instant::now() + due_in.map_or(dry_for, |due_in| due_in.min(dry_for)),
            blocked,
            news,
            next_due: claimed.next_due,
        });
        Ok(claimed)
    }

    async fn look_for_strays(&self) -> sqlx::Result<()> {
        {
            let mut round = self.round();
            let is_fresh = |last: Instant| last.elapsed() < STRAYS_EVERY;
            if round.last_strays.is_some_and(is_fresh) {
                return Ok(());
            }
            round.last_strays = Some(Instant::now());
        }
        self.0.mark_ready_strays().await
    }

    /// Whether there is still nothing, as far as this process knows, and when there may be.
    fn still_dry(&self, options: &ClaimOptions, now: Now) -> Option<Option<Timestamp>> {
        let round = self.round();
        let dry = round.dry.as_ref().filter(|_| now.is_none())?;
        let is_fresh = Instant::now() < dry.until && !self.0.news.may_commit();
        let has_none = dry.news == self.0.news.count.load(Ordering::SeqCst);
        let is_blocked = dry.blocked.as_ref().is_none_or(|it| it.is_left(options));
        (is_fresh && has_none && is_blocked).then_some(dry.next_due)
    }

    /// Claims, and if that brings nothing, sees what has become due. Answers also where something is ready, if it is.
    async fn look(
        &self,
        options: &ClaimOptions,
        now: Now,
    ) -> sqlx::Result<(Claimed, Option<Blocked>)> {
        let (mut woken, mut reclaimed) = (None, 0);
        if self.round().dry.is_some() {
            // One statement tells that there is still nothing.
            let found = self.wake(now).await?;
            if found.count == 0 && !found.has_ready {
                let claimed = Claimed {
                    next_due: found.next_due,
                    ..Claimed::default()
                };
                return Ok((claimed, None));
            }
            reclaimed += found.reclaimed;
            woken = Some(found);
        }
        let mut look = self.claim_round(options, now).await?;
        if look.leases.is_empty() && woken.is_none() || self.round().wake_is_due() {
            let found = self.wake(now).await?;
            reclaimed += found.reclaimed;
            if look.leases.is_empty() && found.count > 0 {
                look = self.claim_round(options, now).await?;
            }
            woken = Some(found);
        }
        let has_ready = woken.as_ref().is_none_or(|woken| woken.has_ready);
        let next_due = woken.and_then(|woken| woken.next_due);
        let next_due = [next_due, look.next_eligible].into_iter().flatten().min();
        let claimed = Claimed {
            next_due: next_due.filter(|_| look.leases.is_empty()),
            leases: look.leases,
            reclaimed,
        };
        let blocked = has_ready.then(|| Blocked::of(look.blocked, options));
        Ok((claimed, blocked))
    }

    /// Claims part after part of the round, until there is something or it is complete.
    async fn claim_round(&self, options: &ClaimOptions, now: Now) -> sqlx::Result<Look> {
        let starts_at_first = self.round().is_at_first();
        let mut look = Look::default();
        let mut laps = usize::from(starts_at_first);
        // Where some are blocked, of the next ones more are looked at than there are jobs to take.
        let mut tenants = options.limit.min(MAX_TENANTS);
        for _ in 0..MAX_PARTS {
            let part = self.claim_part(options, tenants, now).await?;
            tenants = (tenants * 4).min(MAX_TENANTS);
            if !part.leases.is_empty() {
                return Ok(Look {
                    leases: part.leases,
                    ..Look::default()
                });
            }
            let eligible = [look.next_eligible, part.next_eligible];
            look.next_eligible = eligible.into_iter().flatten().min();
            look.blocked.extend(part.blocked);
            laps += usize::from(part.is_last);
            if laps > 1 {
                return Ok(look);
            }
        }
        // Of the rest nothing is known.
        look.blocked.clear();
        Ok(look)
    }

    async fn claim_part(
        &self,
        options: &ClaimOptions,
        tenants: usize,
        now: Now,
    ) -> sqlx::Result<Part> {
        let shared = &self.0;
        let query = {
            let round = self.round();
            let rooms = options.rooms.iter();
            let (busy, rooms): (Vec<_>, Vec<_>) =
                rooms.map(|(lane, room)| (*lane, integer(*room))).unzip();
            let (after, lanes) = round.cursors();
            let limit = i32::try_from(options.limit).unwrap_or(i32::MAX);
            let query = shared.sql.claim.query();
            let query = query.bind(at(now)).bind(limit).bind(micros(options.lease));
            let query = query.bind(round.tenant.clone()).bind(after).bind(lanes);
            let query = query.bind(busy).bind(rooms).bind(integer(options.room));
            query.bind(i32::try_from(tenants).unwrap_or(i32::MAX))
        };
        let row = only(shared.rows(query).await?)?;
        let mut round = self.round();
        let is_last = round.go_on(&row)?;
        let leases = leases(&row)?;
        let At(now) = row.try_get("now")?;
        round.last_claim = Some(now);
        let next_eligible: Option<At> = row.try_get("next_eligible")?;
        let blocked: Option<Vec<Uuid>> = row.try_get("blocked")?;
        Ok(Part {
            leases,
            next_eligible: next_eligible.map(|At(time)| time),
            blocked: blocked.unwrap_or_default(),
            is_last,
        })
    }

    async fn wake(&self, now: Now) -> sqlx::Result<Woken> {
        let query = self.0.sql.wake.query().bind(at(now)).bind(MAX_WOKEN);
        let row = only(self.0.rows(query).await?)?;
        let At(now) = row.try_get("now")?;
        let next_due: Option<At> = row.try_get("next_due")?;
        let count = row.try_get("woken")?;
        let reclaimed: i64 = row.try_get("reclaimed")?;
        {
            let mut round = self.round();
            round.last_wake = Some(now);
            round.more_to_wake = count >= MAX_WOKEN;
        }
        Ok(Woken {
            count,
            reclaimed: usize::try_from(reclaimed).unwrap_or(0),
            has_ready: row.try_get("has_ready")?,
            next_due: next_due.map(|At(time)| time),
        })
    }

    async fn give_back(&self, unused: &[(Lease, Duration)], now: Now) -> sqlx::Result<()> {
        let query = self.0.sql.settle.query().bind(at(now));
        let query = query
            .bind(
                unused
                    .iter()
                    .map(|(lease, _)| lease.delivery)
                    .collect::<Vec<_>>(),
            )
            .bind(
                unused
                    .iter()
                    .map(|(lease, _)| lease.fence)
                    .collect::<Vec<_>>(),
            )
            .bind(unused.iter().map(|(_, by)| micros(*by)).collect::<Vec<_>>());
        self.0.rows(query).await?;
        self.0.news.tell();
        Ok(())
    }
}

impl News {
    /// Something may have become ready.
    pub(crate) fn tell(&self) {
        self.count();
        self.wake.notify_one();
    }

    fn count(&self) {
        self.count.fetch_add(1, Ordering::SeqCst);
    }

    /// A host's transaction was joined, whose commit nobody will tell of.
    pub(crate) fn expect_commit(&self) {
        *self.joined() = Some(Instant::now());
    }

    fn may_commit(&self) -> bool {
        self.joined().is_some_and(|at| at.elapsed() < COMMIT_WITHIN)
    }

    fn joined(&self) -> MutexGuard<'_, Option<Instant>> {
        self.joined.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Blocked {
    fn of(lanes: Vec<Uuid>, options: &ClaimOptions) -> Self {
        let full = options.rooms.iter().filter(|(_, room)| *room == 0);
        let full: HashSet<Uuid> = full.map(|(lane, _)| *lane).collect();
        let (here, elsewhere) = lanes.into_iter().partition(|lane| full.contains(lane));
        Self { here, elsewhere }
    }

    /// Whether this process still has no room for any of those for which it had none.
    fn is_left(&self, options: &ClaimOptions) -> bool {
        let full = options.rooms.iter();
        let full = full.filter(|(lane, room)| *room == 0 && self.here.contains(lane));
        full.count() == self.here.len()
    }

    /// Whether something may be claimed when jobs of these lanes have ended. The others' rooms tell by themselves.
    fn may_end_with(&self, lanes: impl IntoIterator<Item = Uuid>) -> bool {
        let is_known = !self.here.is_empty() || !self.elsewhere.is_empty();
        !is_known || lanes.into_iter().any(|lane| self.elsewhere.contains(&lane))
    }
}

impl Round {
    fn is_at_first(&self) -> bool {
        self.tenant.is_empty() && self.lanes.is_empty()
    }

    fn wake_is_due(&self) -> bool {
        match (self.last_wake, self.last_claim) {
            // A clock that went back has not seen that it was woken.
            (Some(wake), Some(claim)) => {
                self.more_to_wake || claim < wake || claim.since(wake) >= WAKE_EVERY
            }
            (None, Some(_)) => true,
            (_, None) => false,
        }
    }

    /// Where the lanes go on of those tenants that the next part may reach.
    fn cursors(&self) -> (Vec<String>, Vec<Uuid>) {
        let ahead = (Bound::Excluded(&self.tenant), Bound::Unbounded);
        let cursors = self.lanes.range::<String, _>(ahead).take(MAX_TENANTS);
        cursors.map(|(name, lane)| (name.clone(), *lane)).unzip()
    }

    /// Moves on to the next part; returns whether this was the last.
    fn go_on(&mut self, row: &PgRow) -> sqlx::Result<bool> {
        let tenant: Option<String> = row.try_get("tenant_cursor")?;
        let tenants: Option<Vec<String>> = row.try_get("cursor_tenants")?;
        let lanes: Option<Vec<Uuid>> = row.try_get("cursor_lanes")?;
        let (after, until) = (mem::take(&mut self.tenant), tenant.unwrap_or_default());
        // Where the tenants of other parts go on stays as it was.
        self.lanes
            .retain(|name, _| *name <= after || !until.is_empty() && *name > until);
        let (tenants, lanes) = (tenants.unwrap_or_default(), lanes.unwrap_or_default());
        self.lanes.extend(tenants.into_iter().zip(lanes));
        self.tenant = until;
        Ok(self.is_at_first())
    }
}

fn integer(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// The row of a statement that always answers one.
pub(crate) fn only(rows: Vec<PgRow>) -> sqlx::Result<PgRow> {
    rows.into_iter().next().ok_or(sqlx::Error::RowNotFound)
}

fn leases(row: &PgRow) -> sqlx::Result<Vec<Lease>> {
    let At(until) = row.try_get("until")?;
    let deliveries: Option<Vec<Uuid>> = row.try_get("deliveries")?;
    let lanes: Option<Vec<Uuid>> = row.try_get("lanes")?;
    let fences: Option<Vec<i64>> = row.try_get("fences")?;
    let claims = deliveries.unwrap_or_default().into_iter();
    let claims = claims
        .zip(lanes.unwrap_or_default())
        .zip(fences.unwrap_or_default());
    let lease = |((delivery, lane), fence)| Lease {
        delivery,
        lane,
        fence,
        until,
    };
    Ok(claims.map(lease).collect())
}

#[async_trait]
impl Queue for PgQueue {
    /// The rows are the jobs.
    async fn push(&self, _jobs: &[Job], _now: Now) -> Result<()> {
        self.0.news.tell();
        Ok(())
    }

    async fn claim(&self, options: ClaimOptions, now: Now) -> Result<Claimed> {
        self.claim_or_wake(&options, now)
            .await
            .map_err(failed("claim"))
    }

    async fn extend(&self, leases: &[Lease], by: Duration, now: Now) -> Result<Vec<Lease>> {
        let query = self.0.sql.extend.query().bind(at(now));
        let query = query
            .bind(
                leases
                    .iter()
                    .map(|lease| lease.delivery)
                    .collect::<Vec<_>>(),
            )
            .bind(leases.iter().map(|lease| lease.fence).collect::<Vec<_>>())
            .bind(micros(by));
        let rows = self.0.rows(query).await.map_err(failed("extend"))?;
        let mut kept = Vec::with_capacity(rows.len());
        for row in &rows {
            let id: Uuid = row.try_get(0).map_err(failed("extend"))?;
            let At(until) = row.try_get(1).map_err(failed("extend"))?;
            let own = leases.iter().filter(|lease| lease.delivery == id);
            kept.extend(
                own.max_by_key(|lease| lease.fence)
                    .map(|lease| Lease { until, ..*lease }),
            );
        }
        Ok(kept)
    }

    /// What was recorded is settled with it: only unused claims take a statement.
    async fn settle(&self, settled: &[(Lease, Settle)], now: Now) -> Result<()> {
        let mut unused = Vec::new();
        {
            let mut round = self.round();
            // Each makes a place.
            let lanes = || settled.iter().map(|(lease, _)| lease.lane);
            let ends = |blocked: &Blocked| blocked.may_end_with(lanes());
            if let Some(dry) = &round.dry
                && dry.blocked.as_ref().is_some_and(ends)
            {
                round.dry = None;
            }
            for (lease, settle) in settled {
                if let Settle::Unused(by) = settle {
                    unused.push((*lease, *by));
                }
            }
        }
        if unused.is_empty() {
            return Ok(());
        }
        self.give_back(&unused, now).await.map_err(failed("settle"))
    }

    async fn hold(&self, lane: Uuid, hold: Hold, now: Now) -> Result<()> {
        let query = self.0.sql.hold.query().bind(at(now)).bind(lane);
        let query = query.bind(micros(hold.by)).bind(hold.then_probe);
        let held = self.0.execute(query).await;
        held.map(drop).map_err(failed("hold"))
    }

    async fn release(&self, lane: Uuid) -> Result<()> {
        let query = self.0.sql.release.query().bind(lane);
        let released = self.0.execute(query).await;
        self.0.news.tell();
        released.map(drop).map_err(failed("release"))
    }

    async fn ready(&self) {
        tokio::select! {
            biased;
            () = self.0.news.wake.notified() => {}
            () = self.0.next_announcement() => self.0.news.count(),
        }
    }

    /// The rows cannot be lost without the store.
    async fn parts(&self) -> Result<Vec<QueuePart>> {
        Ok(QueuePart::of_store())
    }

    fn part_of(&self, _: Uuid) -> usize {
        0
    }

    async fn depth(&self, now: Now) -> Result<Depth> {
        let query = self.0.sql.depth.query().bind(at(now));
        let query = query
            .bind(i64::try_from(Depth::MOST).unwrap_or(i64::MAX))
            .bind(DEPTH_LANES);
        let row = self.0.rows(query).await.and_then(only);
        let row = row.map_err(failed("depth"))?;
        let count = |column: &str| -> Result<u64> {
            let count: i64 = row.try_get(column).map_err(failed("depth"))?;
            Ok(u64::try_from(count).unwrap_or(0))
        };
        let oldest_due: Option<At> = row.try_get("oldest_due").map_err(failed("depth"))?;
        Ok(Depth {
            ready: count("ready")?,
            parked: count("parked")?,
            leased: count("leased")?,
            oldest_due: oldest_due.map(|At(time)| time),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LANES: [Uuid; 3] = [Uuid::from_u128(1), Uuid::from_u128(2), Uuid::from_u128(3)];

    fn options(rooms: &[(Uuid, u32)]) -> ClaimOptions {
        ClaimOptions::new(8, Duration::from_secs(30)).rooms(1, rooms.to_vec())
    }

    #[test]
    fn a_server_whose_clock_goes_back_is_still_asked_to_wake() {
        let woken = Timestamp::from_seconds(1_700_000_000);
        let round = |claim| Round {
            last_wake: Some(woken),
            last_claim: Some(claim),
            ..Round::default()
        };
        assert!(!round(woken).wake_is_due());
        assert!(round(woken + WAKE_EVERY).wake_is_due());
        assert!(round(woken - Duration::from_secs(3_600)).wake_is_due());
    }

    #[test]
    fn a_process_without_room_looks_again_when_it_has_some() {
        let [full, capped, other] = LANES;
        let before = options(&[(full, 0), (other, 0)]);
        let blocked = Blocked::of(vec![full, capped], &before);
        assert!(blocked.is_left(&before));
        assert!(blocked.is_left(&options(&[(full, 0)])));
        assert!(!blocked.is_left(&options(&[(full, 1), (other, 0)])));
        // A lane that is not in `rooms` has room for one job.
        assert!(!blocked.is_left(&options(&[(other, 0)])));
    }

    #[test]
    fn what_ends_counts_only_in_a_lane_where_something_waits_for_it() {
        let [full, capped, other] = LANES;
        let blocked = Blocked::of(vec![full, capped], &options(&[(full, 0)]));
        assert!(blocked.may_end_with([other, capped]));
        assert!(!blocked.may_end_with([full, other]));
        assert!(
            Blocked::default().may_end_with([other]),
            "which they are is unknown"
        );
    }
}

//! Claims jobs, fairly over tenants and lanes. The cost depends on what is claimed, not on what waits.
//!
//! A claim looks only at lanes that are marked *ready*, which may be eligible. If a lane turns out not to be eligible, the claim
//! puts it where it belongs until something happens to it; see the table of lanes. Whatever could make a lane eligible marks it
//! as ready, without being sure.

use std::collections::{BTreeMap, HashMap};
use std::ops::RangeInclusive;
use std::time::Duration;

use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use uuid::Uuid;
use webhook_core::{ClaimOptions, Claimed, Lease, Now, Timestamp};

use crate::lanes::{Lane, Standing, share};
use crate::rows::{self, count, optional_time, time};
use crate::sql::Bound;
use crate::store::Shared;

/// How many lanes a claim looks at in one go: as many as it may take jobs, within bounds.
const LOOK: RangeInclusive<usize> = 16..=512;
/// The most lanes that one claim looks at before it lets other writers in.
const MOST_LANES: usize = 2_048;

impl Shared {
    pub(crate) async fn claim(&self, options: ClaimOptions, now: Now) -> sqlx::Result<Claimed> {
        let mut tx = self.database.write().await?;
        let now = self.database.now(&mut tx, now).await?;
        let reclaimed = self.expire(&mut tx, now).await?;
        let mut leases = Vec::new();
        let mut rooms = Rooms::new(&options);
        let (mut look, mut seen) = (options.limit.clamp(*LOOK.start(), *LOOK.end()), 0);
        let mut next_due = None;
        while leases.len() < options.limit {
            if seen >= MOST_LANES {
                next_due = Some(now);
                break;
            }
            self.wake_due(&mut tx, look, now).await?;
            let lanes = self.ready_lanes(&mut tx, look, &rooms).await?;
            if lanes.is_empty() {
                let next = sqlx::query(self.database.sql.next_due.clone());
                next_due = optional_time(&next.fetch_one(&mut *tx).await?, "at")?;
                break;
            }
            seen += lanes.len();
            look = (look * 2).min(*LOOK.end());
            let limit = options.limit - leases.len();
            let until = now + options.lease;
            let claimed = self.claim_from(&mut tx, lanes, &rooms, limit, until, now);
            let claimed = claimed.await?;
            rooms.take(&claimed);
            leases.extend(claimed);
        }
        let next_due = next_due.filter(|_| leases.is_empty());
        tx.commit().await?;
        Ok(Claimed {
            leases,
            next_due,
            reclaimed,
        })
    }

    /// Lets the leases that have passed no longer count, and answers how many there were.
    async fn expire(&self, tx: &mut SqliteConnection, now: Timestamp) -> sqlx::Result<usize> {
        let expired = sqlx::query(self.database.sql.expire.clone())
            .bind(now.as_micros())
            .fetch_all(&mut *tx)
            .await?;
        let lanes: Vec<Uuid> = expired
            .iter()
            .map(|row| row.try_get("endpoint_id"))
            .collect::<Result<_, _>>()?;
        self.wake(tx, lanes, now).await?;
        Ok(expired.len())
    }

    async fn wake_due(
        &self,
        tx: &mut SqliteConnection,
        most: usize,
        now: Timestamp,
    ) -> sqlx::Result<()> {
        let query = sqlx::query(self.database.sql.wake_due.clone());
        let query = query.bind(now.as_micros()).bind(most as i64);
        query.execute(tx).await?;
        Ok(())
    }

    /// The lanes whose turn it is and of which there is room for more, tenant by tenant.
    async fn ready_lanes(
        &self,
        tx: &mut SqliteConnection,
        most: usize,
        rooms: &Rooms,
    ) -> sqlx::Result<Vec<Lane>> {
        let last = self.last_tenant().clone();
        let full = rooms.full();
        let rows = sqlx::query(self.database.sql.claim_lanes.clone())
            .bind(&last)
            .bind(most as i64)
            .bind((most + full.len()) as i64)
            .bind(as_json(&full))
            .fetch_all(tx)
            .await?;
        let mut lanes: Vec<_> = rows.iter().map(lane).collect::<Result<_, _>>()?;
        // Round the tenants, beginning after the one that was served last.
        let place = |lane: &Lane| (lane.tenant <= last, lane.tenant.clone(), lane.turn);
        lanes.sort_by_cached_key(place);
        Ok(lanes)
    }

    /// Claims at most `limit` jobs of these lanes, and puts the lanes where they belong.
    async fn claim_from(
        &self,
        tx: &mut SqliteConnection,
        lanes: Vec<Lane>,
        rooms: &Rooms,
        limit: usize,
        until: Timestamp,
        now: Timestamp,
    ) -> sqlx::Result<Vec<Lease>> {
        let (mut eligible, mut turns) = (Vec::new(), Vec::new());
        for lane in lanes {
            match lane.standing(now) {
                Standing::Ready(room) => {
                    let room = room.min(rooms.of(lane.endpoint_id));
                    eligible.push((lane, room));
                }
                standing => turns.push((lane, standing)),
            }
        }
        let shared: Vec<_> = eligible
            .iter()
            .map(|(lane, room)| (&*lane.tenant, *room))
            .collect();
        let (shares, last) = share(&shared, limit);
        if let Some(last) = last {
            *self.last_tenant() = last.to_owned();
        }
        let mut lanes_by_quota: BTreeMap<usize, Vec<Uuid>> = BTreeMap::new();
        for ((lane, _), share) in eligible.iter().zip(shares).filter(|(_, share)| *share > 0) {
            lanes_by_quota
                .entry(share)
                .or_default()
                .push(lane.endpoint_id);
        }
        let mut leases = Vec::with_capacity(limit);
        for (quota, lanes) in lanes_by_quota {
            leases.extend(self.claim_jobs(tx, &lanes, quota, until, now).await?);
        }
        let mut taken: HashMap<Uuid, usize> = HashMap::new();
        for lease in &leases {
            *taken.entry(lease.lane).or_default() += 1;
        }
        for (mut lane, room) in eligible {
            if let Some(taken) = taken.get(&lane.endpoint_id) {
                lane.spend(*taken, now);
                lane.turn = now.max(lane.turn + Duration::from_micros(1));
                turns.push((lane, Standing::Ready(room)));
            }
        }
        self.put(tx, &turns).await?;
        Ok(leases)
    }

    /// Leases the first jobs of each lane, up to a quota.
    async fn claim_jobs(
        &self,
        tx: &mut SqliteConnection,
        lanes: &[Uuid],
        quota: usize,
        until: Timestamp,
        now: Timestamp,
    ) -> sqlx::Result<Vec<Lease>> {
        let bind_rest = |query: Bound| {
            let query = query.bind(until.as_micros()).bind(now.as_micros());
            query.bind(now.as_micros()).bind(quota as i64)
        };
        let batch = &self.database.sql.claim_jobs;
        let rows = batch
            .run(tx, lanes, |query, lane| query.bind(*lane), bind_rest)
            .await?;
        let mut jobs = Vec::with_capacity(rows.len());
        for row in &rows {
            let lease = Lease {
                delivery: row.try_get("id")?,
                lane: row.try_get("endpoint_id")?,
                fence: row.try_get("fence")?,
                until,
            };
            let place: (i64, i64) = (row.try_get("place")?, row.try_get("sequence")?);
            jobs.push((place, lease));
        }
        jobs.sort_unstable_by_key(|(place, _)| *place);
        Ok(jobs.into_iter().map(|(_, lease)| lease).collect())
    }

    async fn put(&self, tx: &mut SqliteConnection, turns: &[(Lane, Standing)]) -> sqlx::Result<()> {
        let bind = |query: Bound, (lane, standing): &(Lane, Standing)| {
            let (state, wake_at) = match standing {
                Standing::Ready(_) => ("ready", None),
                Standing::Waiting(at) => ("waiting", Some(at.as_micros())),
                Standing::Full => ("full", None),
                Standing::Empty => ("empty", None),
            };
            query
                .bind(lane.endpoint_id)
                .bind(state)
                .bind(lane.turn.as_micros())
                .bind(wake_at)
                .bind(lane.arrival.as_micros())
        };
        self.database
            .sql
            .claim_turns
            .run(tx, turns, bind, |query| query)
            .await?;
        Ok(())
    }
}

/// How many more jobs of each lane a claim takes.
struct Rooms {
    known: HashMap<Uuid, usize>,
    other: usize,
}

impl Rooms {
    fn new(options: &ClaimOptions) -> Self {
        let known = options.rooms.iter();
        Self {
            known: known.map(|(lane, room)| (*lane, *room as usize)).collect(),
            other: options.room as usize,
        }
    }

    fn of(&self, lane: Uuid) -> usize {
        self.known.get(&lane).copied().unwrap_or(self.other)
    }

    fn take(&mut self, leases: &[Lease]) {
        for lease in leases {
            let room = self.known.entry(lease.lane).or_insert(self.other);
            *room = room.saturating_sub(1);
        }
    }

    fn full(&self) -> Vec<Uuid> {
        let full = self.known.iter().filter(|(_, room)| **room == 0);
        full.map(|(lane, _)| *lane).collect()
    }
}

/// A list as one argument: of each, 32 digits.
fn as_json(lanes: &[Uuid]) -> String {
    let quoted: Vec<_> = lanes
        .iter()
        .map(|lane| format!("\"{}\"", lane.simple()))
        .collect();
    format!("[{}]", quoted.join(","))
}

fn lane(row: &SqliteRow) -> sqlx::Result<Lane> {
    Ok(Lane {
        endpoint_id: row.try_get("endpoint_id")?,
        tenant: row.try_get("tenant")?,
        turn: time(row, "turn")?,
        held_until: time(row, "held_until")?,
        is_probed: row.try_get("is_probed")?,
        arrival: time(row, "arrival")?,
        limits: rows::limits(row)?,
        in_flight: count(row, "in_flight")? as usize,
        head_due: optional_time(row, "head_due")?,
    })
}

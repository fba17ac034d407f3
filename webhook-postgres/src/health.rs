//! The health of endpoints: only failing ones have a row.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};
use uuid::Uuid;
use webhook_core::backend::{HealthRow, LaneChange};
use webhook_core::{
    Event, Health, Now, PoolUse, Record, Recorded, Scope, StateReason, Timestamp, Trip, Vitals,
};

use crate::column::{At, at, micros, tenant};
use crate::queue::only;
use crate::store::Shared;

impl Shared {
    /// Does what written records say of their endpoints, in order, and stores the events that tell of it. Returns whether
    /// there were events.
    pub(crate) async fn change_health(
        &self,
        tx: &mut PgConnection,
        records: &[Record],
        recorded: &mut [Recorded],
        now: Now,
    ) -> sqlx::Result<bool> {
        let written = records.iter().zip(&*recorded);
        let written: Vec<_> = written.filter(|(_, how)| how.is_written()).collect();
        let lanes_of = |says: fn(&Record) -> bool| -> BTreeSet<Uuid> {
            let saying = written.iter().filter(|(it, _)| says(it));
            saying.map(|(it, _)| it.lease.lane).collect()
        };
        let disabling = lanes_of(|it| it.disable.is_some());
        let mut states = self.lock_states(tx, &disabling).await?;
        let changing = lanes_of(|it| it.health.is_some() || it.disable.is_some());
        let (mut rows, at_last) = self.lock_health(tx, &changing, now).await?;
        let mut events = Vec::<Event>::new();
        let mut lanes = BTreeMap::<Uuid, LaneNews>::new();
        for (record, recorded) in records.iter().zip(recorded) {
            let lane = record.lease.lane;
            if !recorded.is_written() {
                continue;
            }
            if let Some(hold) = record.hold {
                let news = lanes.entry(lane).or_default();
                news.hold = news.hold.max(Some(hold));
            }
            let mut row = rows.get_mut(&lane);
            let is_disabled = record
                .disable
                .map(|reason| states.disable(lane, reason, row.as_deref()));
            let is_changed = match row.as_mut().zip(record.health.as_ref()) {
                Some((row, change)) => {
                    let applied = row.apply(change, at_last);
                    if let Some(change) = applied.lane {
                        lanes.entry(lane).or_default().change = Some(change);
                    }
                    applied.is_done
                }
                None => record.health.is_none(),
            };
            let is_done = is_disabled.unwrap_or(is_changed);
            events.extend(record.event.as_deref().filter(|_| is_done).cloned());
            if !(is_done && is_changed) {
                *recorded = Recorded::Overtaken;
            }
        }
        self.put_states(tx, states, now).await?;
        self.put_health(tx, &rows).await?;
        for (lane, news) in lanes {
            self.change_lane(tx, lane, news, now).await?;
        }
        if !events.is_empty() {
            self.insert_events_in(tx, &events, now).await?;
        }
        Ok(!events.is_empty())
    }

    pub(crate) async fn health(
        &self,
        scope: &Scope,
        endpoints: &[Uuid],
        now: Now,
    ) -> sqlx::Result<Vec<(Uuid, Health)>> {
        let query = self.sql.health.query().bind(at(now)).bind(endpoints);
        let rows = self.rows(query.bind(tenant(scope))).await?;
        rows.iter()
            .map(|row| Ok((row.try_get("endpoint_id")?, health(row)?)))
            .collect()
    }

    pub(crate) async fn vitals(&self, now: Now) -> sqlx::Result<Vitals> {
        let row = only(self.rows(self.sql.vitals.query().bind(at(now))).await?)?;
        let count = |column: &str| -> sqlx::Result<u64> {
            let count: i64 = row.try_get(column)?;
            Ok(count.unsigned_abs())
        };
        let idle = u32::try_from(self.pool.num_idle()).unwrap_or(u32::MAX);
        let pool = PoolUse {
            idle,
            in_use: self.pool.size().saturating_sub(idle),
            max: self.pool.options().get_max_connections(),
        };
        Ok(Vitals {
            breakers_open: count("breakers_open")?,
            breakers_half_open: count("breakers_half_open")?,
            endpoints_failing: count("endpoints_failing")?,
            pool: Some(pool),
        })
    }

    pub(crate) async fn recover_endpoint(&self, scope: &Scope, id: Uuid) -> sqlx::Result<bool> {
        let query = self.sql.recover_endpoint.query().bind(id);
        let row = only(self.rows(query.bind(tenant(scope))).await?)?;
        self.news.tell();
        row.try_get(0)
    }

    async fn lock_states(
        &self,
        tx: &mut PgConnection,
        endpoints: &BTreeSet<Uuid>,
    ) -> sqlx::Result<States> {
        let mut states = States::default();
        if !endpoints.is_empty() {
            let endpoints: Vec<_> = endpoints.iter().copied().collect();
            let query = self.sql.lock_enabled.query().bind(endpoints);
            for row in query.fetch_all(tx).await? {
                states.enabled.insert(row.try_get("id")?);
            }
        }
        Ok(states)
    }

    async fn put_states(
        &self,
        tx: &mut PgConnection,
        states: States,
        now: Now,
    ) -> sqlx::Result<()> {
        if states.disabled.is_empty() {
            return Ok(());
        }
        let (endpoints, reasons): (Vec<_>, Vec<_>) = states.disabled.into_iter().unzip();
        let query = self.sql.disable_endpoints.query().bind(at(now));
        let query = query.bind(endpoints).bind(reasons);
        query.execute(tx).await.map(drop)
    }

    /// Also returns the time. An endpoint that is gone has no row.
    async fn lock_health(
        &self,
        tx: &mut PgConnection,
        endpoints: &BTreeSet<Uuid>,
        now: Now,
    ) -> sqlx::Result<(BTreeMap<Uuid, HealthRow>, Timestamp)> {
        let mut rows = BTreeMap::new();
        let mut at_last = Timestamp::EPOCH;
        if endpoints.is_empty() {
            return Ok((rows, at_last));
        }
        let endpoints: Vec<_> = endpoints.iter().copied().collect();
        let query = self.sql.lock_health.query().bind(at(now)).bind(endpoints);
        for row in query.fetch_all(tx).await? {
            At(at_last) = row.try_get("now")?;
            rows.insert(row.try_get("endpoint_id")?, health_row(&row)?);
        }
        Ok((rows, at_last))
    }

    async fn put_health(
        &self,
        tx: &mut PgConnection,
        rows: &BTreeMap<Uuid, HealthRow>,
    ) -> sqlx::Result<()> {
        fn of<T>(rows: &BTreeMap<Uuid, HealthRow>, column: impl Fn(&HealthRow) -> T) -> Vec<T> {
            rows.values().map(column).collect()
        }
        if rows.is_empty() {
            return Ok(());
        }
        let endpoints: Vec<Uuid> = rows.keys().copied().collect();
        let query = self.sql.put_health.query().bind(&endpoints);
        let query = query
            .bind(of(rows, |row| row.failing_since.map(At)))
            .bind(of(rows, |row| row.notified_at.map(At)))
            .bind(of(rows, |row| {
                let trips = row.trip.map(|trip| i32::try_from(trip.trips));
                trips.map(|trips| trips.unwrap_or(i32::MAX))
            }))
            .bind(of(rows, |row| row.trip.map(|trip| At(trip.opened_at))))
            .bind(of(rows, |row| row.trip.map(|trip| At(trip.until))));
        query.execute(&mut *tx).await?;
        let query = self.sql.prune_health.query().bind(&endpoints);
        query.execute(tx).await.map(drop)
    }

    async fn change_lane(
        &self,
        tx: &mut PgConnection,
        lane: Uuid,
        news: LaneNews,
        now: Now,
    ) -> sqlx::Result<()> {
        let hold = |by, then_probe| {
            let query = self.sql.hold.query().bind(at(now)).bind(lane);
            query.bind(micros(by)).bind(then_probe)
        };
        if let Some(by) = news.hold {
            hold(by, false).execute(&mut *tx).await?;
        }
        let query = match news.change {
            Some(LaneChange::Hold(by)) => hold(by, true),
            Some(LaneChange::Release) => self.sql.release.query().bind(lane),
            None => return Ok(()),
        };
        query.execute(tx).await.map(drop)
    }
}

/// The locked endpoints that records may disable.
#[derive(Default)]
struct States {
    /// Those that are not, so far.
    enabled: HashSet<Uuid>,
    /// Those that have just been, and why.
    disabled: BTreeMap<Uuid, &'static str>,
}

impl States {
    /// Returns whether it was not disabled before, nor has recovered.
    fn disable(&mut self, endpoint: Uuid, reason: StateReason, health: Option<&HealthRow>) -> bool {
        let health = health.copied().unwrap_or_default();
        let is_disabled = health.lets_disable(reason) && self.enabled.remove(&endpoint);
        if is_disabled {
            self.disabled.insert(endpoint, reason.as_str());
        }
        is_disabled
    }
}

/// What records say of a lane.
#[derive(Clone, Copy, Default)]
struct LaneNews {
    /// The longest time for which one holds it.
    hold: Option<Duration>,
    /// What becomes of it with its endpoint's breaker.
    change: Option<LaneChange>,
}

/// How an endpoint does, at the time that the row has; also where a join found nothing.
pub(crate) fn health(row: &PgRow) -> sqlx::Result<Health> {
    let At(now) = row.try_get("now")?;
    Ok(health_row(row)?.at(now))
}

fn health_row(row: &PgRow) -> sqlx::Result<HealthRow> {
    let time = |column: &str| -> sqlx::Result<Option<Timestamp>> {
        let time: Option<At> = row.try_get(column)?;
        Ok(time.map(|At(time)| time))
    };
    let trips: Option<i32> = row.try_get("trips")?;
    let trip = trips.zip(time("opened_at")?).zip(time("open_until")?);
    Ok(HealthRow {
        failing_since: time("failing_since")?,
        notified_at: time("notified_at")?,
        trip: trip.map(|((trips, opened_at), until)| Trip {
            trips: u32::try_from(trips).unwrap_or(1),
            opened_at,
            until,
        }),
    })
}

//! The health of endpoints: only failing ones have a row.

use std::collections::{HashMap, HashSet};

use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use uuid::Uuid;
use webhook_core::backend::{HealthRow, LaneChange};
use webhook_core::{
    Event, Health, Hold, InsertOptions, Now, OnConflict, Record, Recorded, Scope, StateReason,
    Timestamp, Trip, Vitals,
};

use crate::endpoints::tenant_of;
use crate::rows::optional_time;
use crate::sql::Bound;
use crate::store::Shared;

impl Shared {
    /// Does what written records say of their endpoints, in order, and stores the events that tell of it.
    pub(crate) async fn change_health(
        &self,
        tx: &mut SqliteConnection,
        records: &[Record],
        recorded: &mut [Recorded],
        now: Timestamp,
    ) -> sqlx::Result<()> {
        let says = |it: &&Record| it.health.is_some() || it.disable.is_some();
        let lanes: HashSet<Uuid> = records
            .iter()
            .filter(says)
            .map(|it| it.lease.lane)
            .collect();
        if lanes.is_empty() {
            return Ok(());
        }
        let mut rows = self.health_rows(tx, lanes).await?;
        let (mut changed, mut events) = (HashSet::new(), Vec::<Event>::new());
        for (record, recorded) in records.iter().zip(recorded) {
            let lane = record.lease.lane;
            if !recorded.is_written() {
                continue;
            }
            let is_disabled = match record.disable {
                None => None,
                Some(reason) => {
                    let may_be = rows.entry(lane).or_default().lets_disable(reason);
                    Some(may_be && self.disable(tx, lane, reason, now).await?)
                }
            };
            let mut is_changed = true;
            if let Some(change) = &record.health {
                let applied = rows.entry(lane).or_default().apply(change, now);
                changed.insert(lane);
                self.change_lane(tx, lane, applied.lane, now).await?;
                is_changed = applied.is_done;
            }
            let is_done = is_disabled.unwrap_or(is_changed);
            events.extend(record.event.as_deref().filter(|_| is_done).cloned());
            if !(is_done && is_changed) {
                *recorded = Recorded::Overtaken;
            }
        }
        for lane in changed {
            let row = rows.get(&lane).copied().unwrap_or_default();
            self.put_health(tx, lane, row).await?;
        }
        if !events.is_empty() {
            let options = InsertOptions::new(OnConflict::Skip);
            self.insert(tx, &events, &options, Some(now)).await?;
        }
        Ok(())
    }

    pub(crate) async fn health(
        &self,
        scope: &Scope,
        endpoints: &[Uuid],
        now: Now,
    ) -> sqlx::Result<Vec<(Uuid, Health)>> {
        let mut reader = self.database.read().await?;
        let now = self.database.now(&mut reader, now).await?;
        let bind = |query: Bound, id: &Uuid| query.bind(*id);
        let batch = &self.database.sql.health;
        let rows = batch
            .run(&mut reader, endpoints, bind, |query| query)
            .await?;
        let mut health = Vec::with_capacity(rows.len());
        for row in &rows {
            let tenant: &str = row.try_get("tenant")?;
            if tenant_of(scope).is_none_or(|own| own == tenant) {
                health.push((row.try_get("endpoint_id")?, health_row(row)?.at(now)));
            }
        }
        Ok(health)
    }

    pub(crate) async fn vitals(&self, now: Now) -> sqlx::Result<Vitals> {
        let mut reader = self.database.read().await?;
        let now = self.database.now(&mut reader, now).await?;
        let row = sqlx::query(self.database.sql.vitals.clone())
            .bind(now.as_micros())
            .fetch_one(&mut *reader)
            .await?;
        drop(reader);
        let count = |column: &str| -> sqlx::Result<u64> {
            let count: i64 = row.try_get(column)?;
            Ok(count.unsigned_abs())
        };
        Ok(Vitals {
            breakers_open: count("breakers_open")?,
            breakers_half_open: count("breakers_half_open")?,
            endpoints_failing: count("endpoints_failing")?,
            pool: Some(self.database.pool_use()),
        })
    }

    pub(crate) async fn recover_endpoint(&self, scope: &Scope, id: Uuid) -> sqlx::Result<bool> {
        let sql = &self.database.sql;
        let mut tx = self.database.write().await?;
        let is_there: bool = sqlx::query_scalar(sql.find_endpoint.clone())
            .bind(id)
            .bind(tenant_of(scope))
            .fetch_one(&mut *tx)
            .await?;
        if is_there {
            for statement in [&sql.delete_health, &sql.release] {
                let statement = sqlx::query(statement.clone());
                statement.bind(id).execute(&mut *tx).await?;
            }
        }
        tx.commit().await?;
        Ok(is_there)
    }

    async fn health_rows(
        &self,
        tx: &mut SqliteConnection,
        endpoints: HashSet<Uuid>,
    ) -> sqlx::Result<HashMap<Uuid, HealthRow>> {
        let endpoints: Vec<_> = endpoints.into_iter().collect();
        let bind = |query: Bound, id: &Uuid| query.bind(*id);
        let batch = &self.database.sql.health;
        let rows = batch.run(tx, &endpoints, bind, |query| query).await?;
        rows.iter()
            .map(|row| Ok((row.try_get("endpoint_id")?, health_row(row)?)))
            .collect()
    }

    /// Answers whether it was not disabled before.
    async fn disable(
        &self,
        tx: &mut SqliteConnection,
        endpoint: Uuid,
        reason: StateReason,
        now: Timestamp,
    ) -> sqlx::Result<bool> {
        let disable = sqlx::query(self.database.sql.disable_endpoint.clone()).bind(endpoint);
        let disable = disable.bind(reason.as_str()).bind(now.as_micros());
        Ok(disable.execute(tx).await?.rows_affected() > 0)
    }

    async fn put_health(
        &self,
        tx: &mut SqliteConnection,
        endpoint: Uuid,
        row: HealthRow,
    ) -> sqlx::Result<()> {
        let sql = &self.database.sql;
        if row.is_well() {
            let delete = sqlx::query(sql.delete_health.clone());
            delete.bind(endpoint).execute(tx).await?;
            return Ok(());
        }
        sqlx::query(sql.put_health.clone())
            .bind(endpoint)
            .bind(row.failing_since.map(Timestamp::as_micros))
            .bind(row.notified_at.map(Timestamp::as_micros))
            .bind(row.trip.map(|trip| i64::from(trip.trips)))
            .bind(row.trip.map(|trip| trip.opened_at.as_micros()))
            .bind(row.trip.map(|trip| trip.until.as_micros()))
            .execute(tx)
            .await?;
        Ok(())
    }

    async fn change_lane(
        &self,
        tx: &mut SqliteConnection,
        lane: Uuid,
        change: Option<LaneChange>,
        now: Timestamp,
    ) -> sqlx::Result<()> {
        match change {
            Some(LaneChange::Hold(by)) => {
                self.hold_all(tx, &[(lane, Hold::then_probe(by))], now)
                    .await
            }
            Some(LaneChange::Release) => {
                let release = sqlx::query(self.database.sql.release.clone());
                release.bind(lane).execute(tx).await.map(drop)
            }
            None => Ok(()),
        }
    }
}

/// What is stored of an endpoint; also where a join found nothing.
pub(crate) fn health_row(row: &SqliteRow) -> sqlx::Result<HealthRow> {
    let trips: Option<i64> = row.try_get("trips")?;
    let opened_at = optional_time(row, "opened_at")?;
    let until = optional_time(row, "open_until")?;
    let trip = trips.zip(opened_at).zip(until);
    Ok(HealthRow {
        failing_since: optional_time(row, "failing_since")?,
        notified_at: optional_time(row, "notified_at")?,
        trip: trip.map(|((trips, opened_at), until)| Trip {
            trips: u32::try_from(trips).unwrap_or(1),
            opened_at,
            until,
        }),
    })
}

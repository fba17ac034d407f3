//! Endpoints: written, and kept decoded.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sqlx::Row;
use sqlx::sqlite::SqliteConnection;
use uuid::Uuid;
use webhook_core::backend::EndpointRow;
use webhook_core::{Endpoint, Now, Scope, Timestamp};

use crate::lanes::interval;
use crate::rows::{self, micros};
use crate::sql::{Batch, Bound};
use crate::store::Shared;

/// Endpoints that are kept decoded. Beyond that all are read anew.
const CACHED: usize = 10_000;

/// Endpoints as they were decoded, by id; the version that a row has now says whether one still counts.
///
/// To decode one, secrets and patterns and all, takes longer than everything else that a delivery needs.
#[derive(Default)]
pub(crate) struct EndpointCache(Mutex<HashMap<Uuid, Known>>);

struct Known {
    version: i64,
    /// `None` if it cannot be read.
    endpoint: Option<Arc<Endpoint>>,
}

/// The endpoints that were asked for; `None` stands for one that cannot be read.
pub(crate) type Endpoints = HashMap<Uuid, Option<Arc<Endpoint>>>;

impl EndpointCache {
    fn known(&self) -> MutexGuard<'_, HashMap<Uuid, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves those that are known at their present version to `found`, and answers the others.
    fn take(&self, wanted: &[(Uuid, i64)], found: &mut Endpoints) -> Vec<Uuid> {
        let known = self.known();
        let mut missing = Vec::new();
        for (id, version) in wanted {
            match known.get(id).filter(|known| known.version == *version) {
                Some(known) => drop(found.insert(*id, known.endpoint.clone())),
                None => missing.push(*id),
            }
        }
        missing
    }

    fn keep(&self, id: Uuid, version: i64, endpoint: Option<Arc<Endpoint>>) {
        let mut known = self.known();
        if known.len() >= CACHED {
            known.clear();
        }
        known.insert(id, Known { version, endpoint });
    }
}

impl Shared {
    /// The endpoints of these ids and present versions.
    pub(crate) async fn endpoints_by_id(
        &self,
        connection: &mut SqliteConnection,
        wanted: &[(Uuid, i64)],
    ) -> sqlx::Result<Endpoints> {
        let mut found = Endpoints::new();
        let missing = self.endpoints.take(wanted, &mut found);
        let bind = |query: Bound, id: &Uuid| query.bind(*id);
        let batch = &self.database.sql.endpoints_by_id;
        for row in batch.run(connection, &missing, bind, |query| query).await? {
            let (id, version): (Uuid, i64) = (row.try_get("id")?, row.try_get("version")?);
            let endpoint = rows::endpoint(&row);
            if let Err(error) = &endpoint {
                tracing::error!(endpoint = %id, %error, "an endpoint cannot be read");
            }
            let endpoint = endpoint.ok().map(Arc::new);
            self.endpoints.keep(id, version, endpoint.clone());
            found.insert(id, endpoint);
        }
        Ok(found)
    }

    pub(crate) async fn insert_endpoint(&self, endpoint: &Endpoint) -> sqlx::Result<()> {
        let sql = &self.database.sql;
        let mut tx = self.database.write().await?;
        bind_endpoint(sqlx::query(sql.insert_endpoint.clone()), endpoint)
            .execute(&mut *tx)
            .await?;
        let lane = sqlx::query(sql.insert_lane.clone());
        lane.bind(endpoint.id)
            .bind(endpoint.tenant.as_str())
            .execute(&mut *tx)
            .await?;
        tx.commit().await
    }

    pub(crate) async fn update_endpoint(&self, endpoint: &Endpoint) -> sqlx::Result<bool> {
        let sql = &self.database.sql;
        let mut tx = self.database.write().await?;
        let limits = endpoint.lane_limits();
        let turn = limits.rate.map(interval).unwrap_or_default();
        // First, as it compares with the limits that there were.
        sqlx::query(sql.update_lane.clone())
            .bind(endpoint.id)
            .bind((endpoint.updated_at + turn).as_micros())
            .bind(limits.rate.map(|rate| i64::from(rate.limit)))
            .bind(limits.rate.map(|rate| micros(rate.per)))
            .execute(&mut *tx)
            .await?;
        let update = bind_endpoint(sqlx::query(sql.update_endpoint.clone()), endpoint);
        if update.execute(&mut *tx).await?.rows_affected() == 0 {
            tx.rollback().await?;
            return Ok(false);
        }
        let places = sqlx::query(sql.update_places.clone());
        places
            .bind(endpoint.id)
            .bind(limits.ordered)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(true)
    }

    pub(crate) async fn delete_endpoint(
        &self,
        scope: &Scope,
        id: Uuid,
        now: Now,
    ) -> sqlx::Result<bool> {
        let sql = &self.database.sql;
        let mut tx = self.database.write().await?;
        let now = self.database.now(&mut tx, now).await?;
        let delete = sqlx::query(sql.delete_endpoint.clone())
            .bind(id)
            .bind(tenant_of(scope));
        if delete.execute(&mut *tx).await?.rows_affected() == 0 {
            tx.rollback().await?;
            return Ok(false);
        }
        let end = sqlx::query(sql.end_lane.clone())
            .bind(id)
            .bind(now.as_micros());
        end.execute(&mut *tx).await?;
        for statement in [&sql.remove_lane, &sql.delete_lane] {
            sqlx::query(statement.clone())
                .bind(id)
                .execute(&mut *tx)
                .await?;
        }
        tx.commit().await?;
        Ok(true)
    }

    /// Marks lanes as ready: something has happened that may make them eligible.
    pub(crate) async fn wake(
        &self,
        tx: &mut SqliteConnection,
        lanes: Vec<Uuid>,
        now: Timestamp,
    ) -> sqlx::Result<()> {
        mark_ready(&self.database.sql.wake, tx, lanes, now).await
    }

    /// Marks those of these lanes as ready that were at their cap: a lease has ended.
    pub(crate) async fn wake_full(
        &self,
        tx: &mut SqliteConnection,
        lanes: Vec<Uuid>,
        now: Timestamp,
    ) -> sqlx::Result<()> {
        mark_ready(&self.database.sql.wake_full, tx, lanes, now).await
    }
}

async fn mark_ready(
    statement: &Batch,
    tx: &mut SqliteConnection,
    mut lanes: Vec<Uuid>,
    now: Timestamp,
) -> sqlx::Result<()> {
    lanes.sort_unstable();
    lanes.dedup();
    let bind = |query: Bound, lane: &Uuid| query.bind(*lane);
    let bind_rest = |query: Bound| query.bind(now.as_micros());
    statement.run(tx, &lanes, bind, bind_rest).await?;
    Ok(())
}

/// The tenant that a scope is narrowed to.
pub(crate) fn tenant_of(scope: &Scope) -> Option<&str> {
    match scope {
        Scope::All => None,
        Scope::Tenant(tenant) => Some(tenant.as_str()),
    }
}

fn bind_endpoint(query: Bound, endpoint: &Endpoint) -> Bound {
    let (row, limits) = (EndpointRow::from(endpoint), endpoint.lane_limits());
    query
        .bind(row.id)
        .bind(row.tenant)
        .bind(row.url)
        .bind(row.settings)
        .bind(row.secrets)
        .bind(row.state)
        .bind(row.state_reason)
        .bind(row.version)
        .bind(row.created_at.as_micros())
        .bind(row.updated_at.as_micros())
        .bind(i64::from(limits.max_in_flight))
        .bind(limits.rate.map(|rate| i64::from(rate.limit)))
        .bind(limits.rate.map(|rate| micros(rate.per)))
        .bind(limits.ordered)
}

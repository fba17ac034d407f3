//! Writes and reads endpoints, and keeps decoded ones in memory.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use uuid::Uuid;
use webhook_core::backend::{EndpointRow, Opened};
use webhook_core::{Endpoint, Error, Now, PageRequest, Rekeyed, Scope, Timestamp};

use crate::error::unreadable;
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
    found: Found,
}

/// The endpoints that were asked for.
pub(crate) type Endpoints = HashMap<Uuid, Found>;

/// An endpoint, as far as it can be read.
#[derive(Clone)]
pub(crate) enum Found {
    Whole(Arc<Endpoint>),
    /// Its secrets cannot be opened now; the error says why.
    Sealed(Arc<Endpoint>, Error),
    Unreadable,
}

impl Found {
    /// What is known of it.
    pub(crate) fn endpoint(&self) -> Option<&Arc<Endpoint>> {
        match self {
            Self::Whole(endpoint) | Self::Sealed(endpoint, _) => Some(endpoint),
            Self::Unreadable => None,
        }
    }
}

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
                Some(known) => drop(found.insert(*id, known.found.clone())),
                None => missing.push(*id),
            }
        }
        missing
    }

    /// Not one whose key may be back the next time.
    fn keep(&self, id: Uuid, version: i64, found: Found) {
        if matches!(found, Found::Sealed(..)) {
            return;
        }
        let mut known = self.known();
        if known.len() >= CACHED {
            known.clear();
        }
        known.insert(id, Known { version, found });
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
            let endpoint = match self.opened(&row) {
                Ok(Opened::Whole(endpoint)) => Found::Whole(Arc::new(endpoint)),
                Ok(Opened::Sealed(endpoint, why)) => Found::Sealed(Arc::new(endpoint), why),
                Err(error) => {
                    tracing::error!(endpoint = %id, %error, "an endpoint cannot be read");
                    Found::Unreadable
                }
            };
            self.endpoints.keep(id, version, endpoint.clone());
            found.insert(id, endpoint);
        }
        Ok(found)
    }

    /// An endpoint as far as it can be opened.
    pub(crate) fn opened(&self, row: &SqliteRow) -> sqlx::Result<Opened> {
        let opened = rows::endpoint(row)?.open(&self.encryption);
        opened.map_err(unreadable)
    }

    pub(crate) async fn insert_endpoint(
        &self,
        endpoint: &Endpoint,
        most: usize,
    ) -> sqlx::Result<bool> {
        let sql = &self.database.sql;
        let row = self.sealed(endpoint)?;
        let mut tx = self.database.write().await?;
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let others: i64 = sqlx::query_scalar(sql.count_endpoints.clone())
            .bind(endpoint.tenant.as_str())
            .bind(most)
            .fetch_one(&mut *tx)
            .await?;
        if others >= most {
            tx.rollback().await?;
            return Ok(false);
        }
        bind_endpoint(sqlx::query(sql.insert_endpoint.clone()), row, endpoint)
            .execute(&mut *tx)
            .await?;
        let lane = sqlx::query(sql.insert_lane.clone());
        lane.bind(endpoint.id)
            .bind(endpoint.tenant.as_str())
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(true)
    }

    pub(crate) async fn update_endpoint(&self, endpoint: &Endpoint) -> sqlx::Result<bool> {
        let sql = &self.database.sql;
        let row = self.sealed(endpoint)?;
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
        let update = bind_endpoint(sqlx::query(sql.update_endpoint.clone()), row, endpoint);
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

    /// Seals the secrets of a page of endpoints anew. Between reading a row and writing it, others may write.
    pub(crate) async fn rekey(&self, page: PageRequest) -> sqlx::Result<Rekeyed> {
        let rows = self.endpoint_rows(page).await?;
        let mut rekeyed = Rekeyed::default();
        rekeyed.next = rows.next;
        for row in rows.items {
            match row.rekeyed(&self.encryption) {
                Ok(None) => {}
                Ok(Some(row)) => match self.replace_secrets(row).await? {
                    true => rekeyed.rekeyed += 1,
                    false => rekeyed.changed += 1,
                },
                Err(error) => {
                    let why = std::error::Error::source(&error);
                    tracing::error!(endpoint = %row.id, error = why, "an endpoint's secrets cannot be opened to be sealed anew");
                    rekeyed.unopened += 1;
                }
            }
        }
        Ok(rekeyed)
    }

    /// Answers whether the row was still the one that was read.
    async fn replace_secrets(&self, row: EndpointRow) -> sqlx::Result<bool> {
        let mut tx = self.database.write().await?;
        let replace = sqlx::query(self.database.sql.rekey.clone())
            .bind(row.id)
            .bind(row.version)
            .bind(row.url)
            .bind(row.secrets);
        let replaced = replace.execute(&mut *tx).await?.rows_affected() > 0;
        tx.commit().await?;
        Ok(replaced)
    }

    fn sealed(&self, endpoint: &Endpoint) -> sqlx::Result<EndpointRow> {
        EndpointRow::seal(endpoint, &self.encryption)
            .map_err(|error| sqlx::Error::Encode(error.into()))
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
        for statement in [&sql.remove_lane, &sql.delete_lane, &sql.delete_health] {
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

fn bind_endpoint(query: Bound, row: EndpointRow, endpoint: &Endpoint) -> Bound {
    let limits = endpoint.lane_limits();
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

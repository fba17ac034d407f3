//! Writes and reads endpoints.

use sqlx::postgres::PgRow;
use sqlx::{Connection, PgConnection, Row};
use tokio::time::timeout;
use uuid::Uuid;
use webhook_core::backend::{EndpointRow, Opened};
use webhook_core::{
    Endpoint, EndpointFilter, EndpointState, EventPattern, LaneLimits, Now, Page, PageRequest,
    Rekeyed, Result, Scope, Timestamp,
};

use crate::column::{At, at, count, micros, tenant};
use crate::error::{failed, is_deadlock};
use crate::load::corrupt;
use crate::queue::only;
use crate::read::{page_of, readable};
use crate::store::Shared;

/// How often an endpoint's change is tried that is in the way of others.
const UPDATE_TRIES: usize = 5;

impl Shared {
    pub(crate) async fn insert_endpoint(
        &self,
        endpoint: &Endpoint,
        most: usize,
    ) -> sqlx::Result<bool> {
        let mut lent = self.lend().await?;
        let insert = self.insert_endpoint_in(&mut lent, endpoint, most);
        let inserted = timeout(self.patience.statement, insert).await;
        lent.answered(inserted)
    }

    async fn insert_endpoint_in(
        &self,
        connection: &mut PgConnection,
        endpoint: &Endpoint,
        most: usize,
    ) -> sqlx::Result<bool> {
        let row = self.sealed(endpoint)?;
        let (exact_types, type_prefixes) = types(endpoint);
        // What is counted under the lock is to be what there is then, whatever the server's default.
        let tx = connection.begin_with("BEGIN ISOLATION LEVEL READ COMMITTED");
        let mut tx = tx.await?;
        if !self.has_room(&mut tx, endpoint, most).await? {
            tx.rollback().await?;
            return Ok(false);
        }
        let query = self
            .sql
            .insert_endpoint
            .query()
            .bind(row.id)
            .bind(row.tenant);
        let query = query.bind(row.url).bind(row.settings).bind(row.secrets);
        let query = query.bind(exact_types).bind(type_prefixes);
        let query = query
            .bind(row.state)
            .bind(row.state_reason)
            .bind(row.version);
        let query = query.bind(At(row.created_at)).bind(At(row.updated_at));
        query.execute(&mut *tx).await?;
        if endpoint.is_limited() {
            self.set_limits(&mut tx, endpoint, row.updated_at).await?;
        }
        tx.commit().await?;
        Ok(true)
    }

    /// Whether a tenant may have one more endpoint, to the end of the transaction.
    async fn has_room(
        &self,
        tx: &mut PgConnection,
        endpoint: &Endpoint,
        most: usize,
    ) -> sqlx::Result<bool> {
        let tenant = endpoint.tenant.as_str().to_owned();
        // A statement of its own: what is counted is what there is once the lock is held.
        let lock = self.sql.lock_tenant.query().bind(tenant.clone());
        lock.execute(&mut *tx).await?;
        let most = count(most);
        let others = self
            .sql
            .count_endpoints
            .query()
            .bind(tenant)
            .bind(endpoint.id);
        let others = others.bind(most).fetch_one(tx).await?;
        Ok(others.try_get::<i64, _>(0)? < most)
    }

    pub(crate) async fn update_endpoint(&self, endpoint: &Endpoint) -> sqlx::Result<bool> {
        let mut lent = self.lend().await?;
        let update = self.update_endpoint_again(&mut lent, endpoint);
        let updated = timeout(self.patience.statement, update).await;
        let is_updated = lent.answered(updated)?;
        if is_updated {
            self.known_endpoints().remove(&endpoint.id);
            self.news.tell();
        }
        Ok(is_updated)
    }

    /// Whoever records locks deliveries first, and then their lane and endpoint. A change needs these first, so that the
    /// two may wait for each other, until the server ends one of them.
    async fn update_endpoint_again(
        &self,
        connection: &mut PgConnection,
        endpoint: &Endpoint,
    ) -> sqlx::Result<bool> {
        for _ in 1..UPDATE_TRIES {
            let updated = self.update_endpoint_in(connection, endpoint).await;
            if !updated.as_ref().is_err_and(is_deadlock) {
                return updated;
            }
        }
        self.update_endpoint_in(connection, endpoint).await
    }

    async fn update_endpoint_in(
        &self,
        connection: &mut PgConnection,
        endpoint: &Endpoint,
    ) -> sqlx::Result<bool> {
        let row = self.sealed(endpoint)?;
        let (exact_types, type_prefixes) = types(endpoint);
        let mut tx = connection.begin().await?;
        let query = self
            .sql
            .update_endpoint
            .query()
            .bind(row.id)
            .bind(row.tenant);
        let query = query.bind(row.url).bind(row.settings).bind(row.secrets);
        let query = query.bind(exact_types).bind(type_prefixes);
        let query = query
            .bind(row.state)
            .bind(row.state_reason)
            .bind(row.version);
        let updated = query.bind(At(row.updated_at)).execute(&mut *tx).await?;
        if updated.rows_affected() == 0 {
            return Ok(false);
        }
        self.set_limits(&mut tx, endpoint, row.updated_at).await?;
        let mark = self.sql.mark_lane.query().bind(endpoint.id);
        let mark = mark
            .bind(cap(endpoint).is_some())
            .bind(endpoint.settings.ordered);
        mark.execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(true)
    }

    async fn set_limits(
        &self,
        connection: &mut PgConnection,
        endpoint: &Endpoint,
        now: Timestamp,
    ) -> sqlx::Result<()> {
        let LaneLimits { rate, ordered, .. } = endpoint.lane_limits();
        let query = self
            .sql
            .set_limits
            .query()
            .bind(endpoint.id)
            .bind(cap(endpoint));
        let query = query.bind(rate.and_then(|rate| i32::try_from(rate.limit).ok()));
        let query = query.bind(rate.map(|rate| micros(rate.per)));
        let query = query.bind(ordered).bind(At(now));
        query.execute(connection).await.map(drop)
    }

    pub(crate) async fn delete_endpoint(
        &self,
        scope: &Scope,
        id: Uuid,
        now: Now,
    ) -> sqlx::Result<bool> {
        let query = self.sql.delete_endpoint.query().bind(at(now));
        let query = query.bind(id).bind(tenant(scope));
        only(self.rows(query).await?)?.try_get(0)
    }

    pub(crate) async fn endpoints(&self, scope: &Scope, ids: &[Uuid]) -> Result<Vec<Endpoint>> {
        let query = self.sql.endpoint.query().bind(ids).bind(tenant(scope));
        let rows = self.rows(query).await.map_err(failed("endpoint"))?;
        let whole = |row| self.opened(row, "endpoint")?.whole();
        rows.iter().map(whole).collect()
    }

    /// As far as they can be opened, without those that cannot be read.
    pub(crate) async fn readable_endpoints(&self, ids: &[Uuid]) -> Result<Vec<Opened>> {
        let query = self.sql.endpoint.query().bind(ids).bind(None::<&str>);
        let rows = self.rows(query).await.map_err(failed("load"))?;
        Ok(readable(&rows, |row| self.opened(row, "load")))
    }

    pub(crate) async fn endpoints_page(
        &self,
        scope: &Scope,
        filter: &EndpointFilter,
        page: PageRequest,
    ) -> sqlx::Result<Page<Endpoint>> {
        let rows = self.page_of_endpoints(scope, filter, page).await?;
        page_of(&rows, page, |row| self.opened(row, "endpoints")?.whole())
    }

    /// Seals the secrets of a page of endpoints anew. Between reading a row and writing it, others may write.
    pub(crate) async fn rekey(&self, page: PageRequest) -> sqlx::Result<Rekeyed> {
        let all = EndpointFilter::default();
        let rows = self.page_of_endpoints(&Scope::All, &all, page).await?;
        let rows = page_of(&rows, page, columns)?;
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

    /// Returns whether the row was still the one that was read.
    async fn replace_secrets(&self, row: EndpointRow) -> sqlx::Result<bool> {
        let query = self.sql.rekey.query().bind(row.id).bind(row.version);
        let query = query.bind(row.url).bind(row.secrets);
        Ok(self.execute(query).await? > 0)
    }

    async fn page_of_endpoints(
        &self,
        scope: &Scope,
        filter: &EndpointFilter,
        page: PageRequest,
    ) -> sqlx::Result<Vec<PgRow>> {
        let query = self.sql.endpoints.query_once().bind(tenant(scope));
        let query = query
            .bind(page.before)
            .bind(count(page.limit).saturating_add(1))
            .bind(filter.state.map(EndpointState::as_str));
        self.rows(query).await
    }

    fn sealed(&self, endpoint: &Endpoint) -> sqlx::Result<EndpointRow> {
        EndpointRow::seal(endpoint, &self.encryption)
            .map_err(|error| sqlx::Error::Encode(error.into()))
    }

    /// An endpoint as far as it can be opened.
    pub(crate) fn opened(&self, row: &PgRow, operation: &'static str) -> Result<Opened> {
        let columns = columns(row).map_err(failed(operation))?;
        columns.open(&self.encryption).map_err(corrupt(operation))
    }
}

/// The cap that holds over all processes: only where the owner set one.
fn cap(endpoint: &Endpoint) -> Option<i32> {
    let is_capped = endpoint.settings.max_in_flight.is_some() || endpoint.settings.ordered;
    let cap = endpoint.lane_limits().max_in_flight;
    is_capped.then(|| i32::try_from(cap).unwrap_or(i32::MAX))
}

trait Limited {
    fn is_limited(&self) -> bool;
}

impl Limited for Endpoint {
    fn is_limited(&self) -> bool {
        cap(self).is_some() || self.settings.rate_limit.is_some()
    }
}

/// The patterns of an endpoint as the fan-out reads them.
fn types(endpoint: &Endpoint) -> (Vec<String>, Vec<String>) {
    let (mut exact, mut prefixes) = (Vec::new(), Vec::new());
    for pattern in &endpoint.settings.event_types {
        match pattern {
            EventPattern::Any => prefixes.push(String::new()),
            EventPattern::Below(prefix) => prefixes.push(prefix.to_string()),
            EventPattern::Exactly(event_type) => exact.push(event_type.to_string()),
        }
    }
    (exact, prefixes)
}

fn columns(row: &PgRow) -> sqlx::Result<EndpointRow> {
    let At(created_at) = row.try_get("created_at")?;
    let At(updated_at) = row.try_get("updated_at")?;
    Ok(EndpointRow {
        id: row.try_get("id")?,
        tenant: row.try_get("tenant")?,
        url: row.try_get("url")?,
        settings: row.try_get("settings")?,
        secrets: row.try_get("secrets")?,
        state: row.try_get("state")?,
        state_reason: row.try_get("state_reason")?,
        version: row.try_get("version")?,
        created_at,
        updated_at,
    })
}

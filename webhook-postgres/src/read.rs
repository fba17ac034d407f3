//! Reading for people, and for those who repair a queue.

use std::str::FromStr;

use sqlx::Row;
use sqlx::postgres::PgRow;
use uuid::Uuid;
use webhook_core::backend::AttemptRow;
use webhook_core::{
    Attempt, BoxError, Delivery, DeliveryFilter, Event, EventFilter, EventType, Job, Page,
    PageRequest, Result, Scope, Tenant,
};

use crate::column::{At, at, count, tenant};
use crate::error::failed;
use crate::job::job;
use crate::load::{corrupt, event};
use crate::store::Shared;

impl Shared {
    pub(crate) async fn jobs(&self, deliveries: &[Uuid]) -> sqlx::Result<Vec<Job>> {
        let query = self.sql.jobs.query().bind(deliveries);
        let rows = query.fetch_all(&self.pool).await?;
        rows.iter().map(|row| job(row, 0)).collect()
    }

    pub(crate) async fn unqueued(
        &self,
        after: Option<Uuid>,
        limit: usize,
    ) -> sqlx::Result<Vec<Job>> {
        let query = self.sql.unqueued.query().bind(after.unwrap_or(Uuid::nil()));
        let rows = query.bind(count(limit)).fetch_all(&self.pool).await?;
        rows.iter().map(|row| job(row, 0)).collect()
    }

    pub(crate) async fn event(&self, scope: &Scope, id: Uuid) -> sqlx::Result<Option<Event>> {
        let query = self.sql.event.query().bind(id).bind(tenant(scope));
        let row = query.fetch_optional(&self.pool).await?;
        row.map(|row| event(&row, "id")).transpose()
    }

    pub(crate) async fn events(
        &self,
        scope: &Scope,
        filter: &EventFilter,
        page: PageRequest,
    ) -> sqlx::Result<Page<Event>> {
        let query = self
            .sql
            .events
            .query_once()
            .bind(tenant(scope))
            .bind(page.before);
        let query = query.bind(count(page.limit).saturating_add(1));
        let query = query.bind(filter.event_type.as_ref().map(EventType::as_str));
        let query = query.bind(at(filter.since)).bind(at(filter.until));
        let query = query.bind(filter.text.as_ref().map(String::as_bytes));
        let rows = query.fetch_all(&self.pool).await?;
        let events = rows.iter().map(|row| event(row, "id"));
        Ok(page_of(
            events.collect::<sqlx::Result<_>>()?,
            page,
            |event| event.id,
        ))
    }

    pub(crate) async fn delivery(&self, scope: &Scope, id: Uuid) -> sqlx::Result<Option<Delivery>> {
        let query = self.sql.delivery.query().bind(id).bind(tenant(scope));
        let row = query.fetch_optional(&self.pool).await?;
        row.map(|row| delivery(&row)).transpose()
    }

    pub(crate) async fn deliveries(
        &self,
        scope: &Scope,
        filter: &DeliveryFilter,
        page: PageRequest,
    ) -> sqlx::Result<Page<Delivery>> {
        let query = self
            .sql
            .deliveries
            .query_once()
            .bind(tenant(scope))
            .bind(page.before);
        let query = query.bind(count(page.limit).saturating_add(1));
        let query = query.bind(filter.endpoint_id).bind(filter.event_id);
        let query = query.bind(filter.event_type.as_ref().map(EventType::as_str));
        let query = query.bind(filter.status.map(webhook_core::DeliveryStatus::as_str));
        let query = query.bind(filter.error_kind.as_deref());
        let query = query.bind(at(filter.since)).bind(at(filter.until));
        let rows = query.fetch_all(&self.pool).await?;
        let deliveries = rows.iter().map(delivery);
        Ok(page_of(
            deliveries.collect::<sqlx::Result<_>>()?,
            page,
            |delivery| delivery.id,
        ))
    }

    pub(crate) async fn attempts(&self, scope: &Scope, id: Uuid) -> Result<Vec<Attempt>> {
        if self
            .delivery(scope, id)
            .await
            .map_err(failed("attempts"))?
            .is_none()
        {
            return Ok(Vec::new());
        }
        let query = self.sql.attempts.query().bind(id);
        let rows = query
            .fetch_all(&self.pool)
            .await
            .map_err(failed("attempts"))?;
        let attempts = rows.iter().map(|row| {
            let columns = attempt(row).map_err(failed("attempts"))?;
            Attempt::try_from(columns).map_err(corrupt("attempts"))
        });
        attempts.collect()
    }
}

/// A page of rows of which one more was asked for than the page holds.
pub(crate) fn page_of<T>(mut items: Vec<T>, page: PageRequest, id: impl Fn(&T) -> Uuid) -> Page<T> {
    let has_more = items.len() > page.limit;
    items.truncate(page.limit);
    let next = items.last().map(id).filter(|_| has_more);
    Page { items, next }
}

pub(crate) fn delivery(row: &PgRow) -> sqlx::Result<Delivery> {
    let next_retry_at: Option<At> = row.try_get("next_retry_at")?;
    let At(created_at) = row.try_get("created_at")?;
    let At(updated_at) = row.try_get("updated_at")?;
    let last_error: Option<&str> = row.try_get("last_error")?;
    let end_reason: Option<&str> = row.try_get("end_reason")?;
    let number = |column: &str| -> sqlx::Result<u32> {
        Ok(u32::try_from(row.try_get::<i32, _>(column)?).unwrap_or(0))
    };
    Ok(Delivery {
        id: row.try_get("id")?,
        event_id: row.try_get("event_id")?,
        endpoint_id: row.try_get("endpoint_id")?,
        replay_no: number("replay_no")?,
        tenant: parsed::<Tenant>(row.try_get("tenant")?)?,
        event_type: parsed::<EventType>(row.try_get("event_type")?)?,
        status: parsed(row.try_get("status")?)?,
        attempts: number("attempts")?,
        next_retry_at: next_retry_at.map(|At(time)| time),
        last_error: last_error.map(parsed).transpose()?,
        end_reason: end_reason.map(parsed).transpose()?,
        created_at,
        updated_at,
    })
}

fn parsed<T: FromStr<Err: Into<BoxError>>>(text: &str) -> sqlx::Result<T> {
    text.parse()
        .map_err(|error: T::Err| sqlx::Error::Decode(error.into()))
}

fn attempt(row: &PgRow) -> sqlx::Result<AttemptRow<'_>> {
    let At(started_at) = row.try_get("started_at")?;
    let error_kind: Option<String> = row.try_get("error_kind")?;
    let bytes = |column: &str| -> sqlx::Result<Option<Vec<u8>>> { row.try_get(column) };
    Ok(AttemptRow {
        started_at: started_at.as_micros(),
        duration: row.try_get("duration")?,
        first_byte: row.try_get("first_byte")?,
        request_headers: bytes("request_headers")?.unwrap_or_default().into(),
        status: row.try_get("status")?,
        error_kind: error_kind.map(Into::into),
        response_headers: bytes("response_headers")?.map(Into::into),
        response_body: bytes("response_body")?.map(Into::into),
        truncated: row.try_get("truncated")?,
    })
}

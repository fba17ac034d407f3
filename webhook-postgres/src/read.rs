//! Reads rows for lists, and for the repair of an index queue.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{Postgres, Row};
use uuid::Uuid;
use webhook_core::backend::{AttemptRow, found_status, reach_of_deliveries, reach_of_events};
use webhook_core::{
    Attempt, BoxError, Delivery, DeliveryFilter, DeliveryStatus, Event, EventFilter, EventType,
    Job, Page, PageRequest, Result, Scope, Tenant, Timestamp,
};

use crate::column::{At, at, count, tenant};
use crate::error::failed;
use crate::job::job;
use crate::load::{corrupt, event};
use crate::store::Shared;

impl Shared {
    pub(crate) async fn jobs(&self, deliveries: &[Uuid]) -> sqlx::Result<Vec<Job>> {
        let query = self.sql.jobs.query().bind(deliveries);
        let rows = self.rows(query).await?;
        Ok(readable(&rows, |row| job(row, 0)))
    }

    pub(crate) async fn unqueued(
        &self,
        after: Option<Uuid>,
        limit: usize,
    ) -> sqlx::Result<Vec<Job>> {
        let mut after = after.unwrap_or(Uuid::nil());
        let mut jobs = Vec::new();
        loop {
            let wanted = limit - jobs.len();
            let query = self.sql.unqueued.query().bind(after);
            let rows = self.rows(query.bind(count(wanted))).await?;
            jobs.extend(readable(&rows, |row| job(row, 0)));
            match rows.last() {
                // Fewer than were asked for would be taken for the last ones.
                Some(last) if rows.len() == wanted && jobs.len() < limit => {
                    after = last.try_get("id")?;
                }
                _ => return Ok(jobs),
            }
        }
    }

    pub(crate) async fn event(&self, scope: &Scope, id: Uuid) -> sqlx::Result<Option<Event>> {
        let query = self.sql.event.query().bind(id).bind(tenant(scope));
        let row = self.row(query).await?;
        row.map(|row| event(&row, "id")).transpose()
    }

    pub(crate) async fn events(
        &self,
        scope: &Scope,
        filter: &EventFilter,
        page: PageRequest,
    ) -> sqlx::Result<Page<Event>> {
        let _place = self.look().await?;
        self.events_within(reach_of_events(filter), scope, filter, page)
            .await
    }

    /// Looks at as many rows as `reach` says, unless fewer will do.
    async fn events_within(
        &self,
        reach: &[usize],
        scope: &Scope,
        filter: &EventFilter,
        page: PageRequest,
    ) -> sqlx::Result<Page<Event>> {
        let mut searched = None;
        for looked_at in reach {
            let floor = self.sql.events_floor.query_once();
            let floor = floor.bind(tenant(scope)).bind(page.before);
            let floor = floor.bind(at(filter.since)).bind(at(filter.until));
            let floor = self.floor(floor, *looked_at).await?;
            let found = self.events_down_to(floor, scope, filter, page).await?;
            if found.next.is_some() || floor.is_none() {
                return Ok(found);
            }
            searched = Some(Page {
                next: floor,
                ..found
            });
        }
        match searched {
            Some(found) => Ok(found),
            None => self.events_down_to(None, scope, filter, page).await,
        }
    }

    async fn events_down_to(
        &self,
        floor: Option<Uuid>,
        scope: &Scope,
        filter: &EventFilter,
        page: PageRequest,
    ) -> sqlx::Result<Page<Event>> {
        let query = self.sql.events.query_once();
        let query = query.bind(tenant(scope)).bind(page.before);
        let query = query.bind(count(page.limit).saturating_add(1));
        let query = query.bind(filter.event_type.as_ref().map(EventType::as_str));
        let query = query.bind(at(filter.since)).bind(at(filter.until));
        let query = query.bind(filter.text.as_ref().map(String::as_bytes));
        let rows = self.rows(query.bind(floor)).await?;
        page_of(&rows, page, |row| event(row, "id"))
    }

    /// The id of the row that is looked at last, if there are more. The count is the last parameter of `query`.
    async fn floor(
        &self,
        query: Query<'_, Postgres, PgArguments>,
        looked_at: usize,
    ) -> sqlx::Result<Option<Uuid>> {
        let row = self.row(query.bind(count(looked_at - 1))).await?;
        row.map(|row| row.try_get("id")).transpose()
    }

    pub(crate) async fn delivery(&self, scope: &Scope, id: Uuid) -> sqlx::Result<Option<Delivery>> {
        let query = self.sql.delivery.query().bind(id).bind(tenant(scope));
        let row = self.row(query).await?;
        row.map(|row| delivery(&row)).transpose()
    }

    pub(crate) async fn deliveries(
        &self,
        scope: &Scope,
        filter: &DeliveryFilter,
        page: PageRequest,
    ) -> sqlx::Result<Page<Delivery>> {
        let _place = self.look().await?;
        self.deliveries_within(reach_of_deliveries(scope, filter), scope, filter, page)
            .await
    }

    /// Looks at as many rows as `reach` says, unless fewer will do.
    async fn deliveries_within(
        &self,
        reach: &[usize],
        scope: &Scope,
        filter: &DeliveryFilter,
        page: PageRequest,
    ) -> sqlx::Result<Page<Delivery>> {
        let mut searched = None;
        for looked_at in reach {
            let floor = self.sql.deliveries_floor.query_once();
            let floor = floor.bind(tenant(scope)).bind(page.before);
            let status = found_status(scope, filter);
            let floor = floor.bind(filter.endpoint_id);
            let floor = floor.bind(status.map(DeliveryStatus::as_str));
            let floor = self.floor(floor.bind(at(filter.until)), *looked_at).await?;
            let found = self.deliveries_down_to(floor, scope, filter, page).await?;
            if found.next.is_some() || floor.is_none() {
                return Ok(found);
            }
            searched = Some(Page {
                next: floor,
                ..found
            });
        }
        match searched {
            Some(found) => Ok(found),
            None => self.deliveries_down_to(None, scope, filter, page).await,
        }
    }

    async fn deliveries_down_to(
        &self,
        floor: Option<Uuid>,
        scope: &Scope,
        filter: &DeliveryFilter,
        page: PageRequest,
    ) -> sqlx::Result<Page<Delivery>> {
        let query = self.sql.deliveries.query_once();
        let query = query.bind(tenant(scope)).bind(page.before);
        let query = query.bind(count(page.limit).saturating_add(1));
        let query = query.bind(filter.endpoint_id).bind(filter.event_id);
        let query = query.bind(filter.event_type.as_ref().map(EventType::as_str));
        let query = query.bind(filter.status.map(DeliveryStatus::as_str));
        let query = query.bind((!filter.error_kinds.is_empty()).then_some(&filter.error_kinds));
        let query = query.bind(at(filter.since)).bind(at(filter.until));
        let query = query.bind(filter.cause.map(webhook_core::FailureCause::as_str));
        let query = query.bind(at(filter.event_id.and_then(made_at)));
        let rows = self.rows(query.bind(floor)).await?;
        page_of(&rows, page, delivery)
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
        let rows = self.rows(query).await.map_err(failed("attempts"))?;
        Ok(readable(&rows, |row| {
            let columns = attempt(row).map_err(failed("attempts"))?;
            Attempt::try_from(columns).map_err(corrupt("attempts"))
        }))
    }
}

/// When an event was made, as its id says; ids of other kinds say nothing.
fn made_at(id: Uuid) -> Option<Timestamp> {
    let (seconds, nanos) = id.get_timestamp()?.to_unix();
    let seconds = Timestamp::from_seconds(i64::try_from(seconds).ok()?);
    Some(seconds + Duration::from_nanos(u64::from(nanos)))
}

/// A page of rows of which one more was asked for than the page holds.
pub(crate) fn page_of<T, E: Display>(
    rows: &[PgRow],
    page: PageRequest,
    read: impl Fn(&PgRow) -> Result<T, E>,
) -> sqlx::Result<Page<T>> {
    let shown = &rows[..rows.len().min(page.limit)];
    let has_more = rows.len() > shown.len();
    let last = shown.last().filter(|_| has_more);
    Ok(Page {
        items: readable(shown, read),
        next: last.map(|row| row.try_get("id")).transpose()?,
    })
}

/// Rows without those that cannot be read: a person hears of them, and nobody waits for them.
pub(crate) fn readable<T, E: Display>(
    rows: &[PgRow],
    read: impl Fn(&PgRow) -> Result<T, E>,
) -> Vec<T> {
    let read = |row: &PgRow| match read(row) {
        Ok(read) => Some(read),
        Err(error) => {
            let id: Option<Uuid> = row.try_get("id").ok();
            tracing::error!(?id, %error, "a row cannot be read");
            None
        }
    };
    rows.iter().filter_map(read).collect()
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

#[cfg(test)]
mod tests {
    use std::env;

    use webhook_core::testing::{endpoint_for, event_for, run};
    use webhook_core::{EndpointSettings, InsertOptions, OnConflict, Store as _};

    use super::*;
    use crate::PgStore;

    const EVENTS: i64 = 20;

    /// A store with an event a second, each with its delivery; the oldest one has a type of its own.
    async fn store() -> PgStore {
        let url = env::var("DATABASE_URL").expect("DATABASE_URL is not set: `cargo xtask test`");
        let name = event_for("t", "t", "1", Timestamp::EPOCH).id.simple();
        let store = PgStore::builder().schema(format!("t_{name}"));
        let store = store.connect(&url).await.expect("it opens");
        let at = |second: i64| Timestamp::from_seconds(1_700_000_000 + second);
        let endpoint = endpoint_for("t", EndpointSettings::default());
        let inserted = store.insert_endpoint(&endpoint, usize::MAX).await;
        assert!(inserted.expect("an endpoint"));
        for second in 1..=EVENTS {
            let kind = if second == 1 { "rare" } else { "usual" };
            let body = format!("{{\"kind\": \"{kind}\"}}");
            let event = event_for("t", kind, &body, at(second));
            let options = InsertOptions::new(OnConflict::Skip);
            let inserted =
                store.insert_events(std::slice::from_ref(&event), &options, Some(at(second)));
            inserted.await.expect("an event");
        }
        store
    }

    /// Reads on until the end. Answers how many rows each page held.
    async fn sizes<T>(mut page_of: impl AsyncFnMut(PageRequest) -> Page<T>) -> Vec<usize> {
        let (mut sizes, mut before) = (Vec::new(), None);
        loop {
            let page = page_of(PageRequest { before, limit: 2 }).await;
            sizes.push(page.items.len());
            assert!(sizes.len() < 30, "it comes nowhere: {sizes:?}");
            before = page.next;
            if before.is_none() {
                return sizes;
            }
        }
    }

    #[test]
    fn one_request_looks_no_further_than_its_reach_and_says_where_to_go_on() {
        run(async {
            let store = store().await;
            let rare: Option<EventType> = Some("rare".parse().expect("a type"));
            let deliveries = DeliveryFilter {
                event_type: rare.clone(),
                ..DeliveryFilter::default()
            };
            let by_type = EventFilter::default().event_type(rare);
            let by_text = EventFilter::default().text("rare".to_owned());
            // Of 20 rows 6 at a time: the fourth look finds the last one.
            let (all, reach, expected) = (&Scope::All, &[2, 6], vec![0, 0, 0, 1]);
            let found = sizes(async |page| {
                let found = store.0.deliveries_within(reach, all, &deliveries, page);
                found.await.expect("it reads")
            });
            assert_eq!(found.await, expected);
            for filter in [by_type, by_text] {
                let found = sizes(async |page| {
                    let found = store.0.events_within(reach, all, &filter, page);
                    found.await.expect("it reads")
                });
                assert_eq!(found.await, expected, "{filter:?}");
            }
            // What is usual fills each page without the greater reach, and none is missed or told twice.
            let usual = DeliveryFilter {
                event_type: Some("usual".parse().expect("a type")),
                ..DeliveryFilter::default()
            };
            let found = sizes(async |page| {
                let found = store.0.deliveries_within(reach, all, &usual, page);
                found.await.expect("it reads")
            });
            assert_eq!(found.await.iter().sum::<usize>(), 19);
        });
    }
}

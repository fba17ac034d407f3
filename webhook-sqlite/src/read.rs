//! Reads rows for people and hosts.

use std::time::Duration;

use futures_util::TryStreamExt;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{QueryBuilder, Row, SqlStr, Sqlite};
use uuid::Uuid;
use webhook_core::backend::{
    EndpointRow, Opened, found_status, reach_of_deliveries, reach_of_events,
};
use webhook_core::{
    Attempt, Delivery, DeliveryFilter, DeliveryStatus, Endpoint, EndpointFilter, EndpointState,
    Event, EventFilter, EventType, FailureCause, Page, PageRequest, Scope, Timestamp,
};

use crate::endpoints::tenant_of;
use crate::error::unreadable;
use crate::rows;
use crate::store::Shared;

/// Ids begin with a time, by a clock that is taken to agree with ours within this: so a time is a place in the index.
const IDS_APART: Duration = Duration::from_secs(3_600);

impl Shared {
    pub(crate) async fn ping(&self) -> sqlx::Result<()> {
        let ping = sqlx::query(self.database.sql.ping.clone());
        ping.fetch_one(&mut *self.database.read().await?).await?;
        Ok(())
    }

    pub(crate) async fn endpoint(&self, scope: &Scope, id: Uuid) -> sqlx::Result<Option<Endpoint>> {
        let mut reader = self.database.read().await?;
        let opened = self.endpoint_on(&mut reader, scope, id).await?;
        opened.map(whole).transpose()
    }

    pub(crate) async fn endpoint_on(
        &self,
        connection: &mut SqliteConnection,
        scope: &Scope,
        id: Uuid,
    ) -> sqlx::Result<Option<Opened>> {
        Select::new(&self.database.sql.endpoints, scope)
            .one(connection, id, |row| self.opened(row))
            .await
    }

    pub(crate) async fn endpoints(
        &self,
        scope: &Scope,
        filter: &EndpointFilter,
        page: PageRequest,
    ) -> sqlx::Result<Page<Endpoint>> {
        let mut reader = self.database.read().await?;
        Select::new(&self.database.sql.endpoints, scope)
            .and("state =", filter.state.map(EndpointState::as_str))
            .page(&mut reader, page, "endpoint", |row| {
                whole(self.opened(row)?)
            })
            .await
    }

    /// A page of endpoints as they are stored.
    pub(crate) async fn endpoint_rows(&self, page: PageRequest) -> sqlx::Result<Page<EndpointRow>> {
        let mut reader = self.database.read().await?;
        Select::new(&self.database.sql.endpoints, &Scope::All)
            .page(&mut reader, page, "endpoint", rows::endpoint)
            .await
    }

    pub(crate) async fn event(&self, scope: &Scope, id: Uuid) -> sqlx::Result<Option<Event>> {
        let mut reader = self.database.read().await?;
        self.event_on(&mut reader, scope, id).await
    }

    pub(crate) async fn event_on(
        &self,
        connection: &mut SqliteConnection,
        scope: &Scope,
        id: Uuid,
    ) -> sqlx::Result<Option<Event>> {
        Select::new(&self.database.sql.events, scope)
            .one(connection, id, rows::event)
            .await
    }

    pub(crate) async fn events(
        &self,
        scope: &Scope,
        filter: &EventFilter,
        page: PageRequest,
    ) -> sqlx::Result<Page<Event>> {
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
        let sql = &self.database.sql;
        let mut look = self.database.look().await?;
        let mut searched = None;
        for looked_at in reach {
            let floor = found_events(&sql.events_floor, scope, filter);
            let floor = floor.floor(&mut look, page, *looked_at).await?;
            let found = selected_events(&sql.events_listed, scope, filter)
                .and("id >=", floor)
                .page(&mut look, page, "event", rows::event)
                .await?;
            if found.next.is_some() || floor.is_none() {
                look.done();
                return Ok(found);
            }
            searched = Some(Page {
                next: floor,
                ..found
            });
        }
        let found = match searched {
            Some(found) => found,
            None => {
                selected_events(&sql.events_listed, scope, filter)
                    .page(&mut look, page, "event", rows::event)
                    .await?
            }
        };
        look.done();
        Ok(found)
    }

    pub(crate) async fn delivery(&self, scope: &Scope, id: Uuid) -> sqlx::Result<Option<Delivery>> {
        let mut reader = self.database.read().await?;
        self.delivery_on(&mut reader, scope, id).await
    }

    pub(crate) async fn delivery_on(
        &self,
        connection: &mut SqliteConnection,
        scope: &Scope,
        id: Uuid,
    ) -> sqlx::Result<Option<Delivery>> {
        Select::new(&self.database.sql.deliveries, scope)
            .one(connection, id, rows::delivery)
            .await
    }

    pub(crate) async fn deliveries(
        &self,
        scope: &Scope,
        filter: &DeliveryFilter,
        page: PageRequest,
    ) -> sqlx::Result<Page<Delivery>> {
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
        let sql = &self.database.sql;
        let mut look = self.database.look().await?;
        let mut searched = None;
        for looked_at in reach {
            let floor = found_deliveries(&sql.deliveries_floor, scope, filter)
                .status(found_status(scope, filter))
                .floor(&mut look, page, *looked_at)
                .await?;
            let found = selected_deliveries(&sql.deliveries, scope, filter)
                .and("id >=", floor)
                .page(&mut look, page, "delivery", rows::delivery)
                .await?;
            if found.next.is_some() || floor.is_none() {
                look.done();
                return Ok(found);
            }
            searched = Some(Page {
                next: floor,
                ..found
            });
        }
        let found = match searched {
            Some(found) => found,
            None => {
                selected_deliveries(&sql.deliveries, scope, filter)
                    .page(&mut look, page, "delivery", rows::delivery)
                    .await?
            }
        };
        look.done();
        Ok(found)
    }

    pub(crate) async fn attempts(&self, scope: &Scope, id: Uuid) -> sqlx::Result<Vec<Attempt>> {
        let mut reader = self.database.read().await?;
        if self.delivery_on(&mut reader, scope, id).await?.is_none() {
            return Ok(Vec::new());
        }
        let attempts = sqlx::query(self.database.sql.attempts.clone()).bind(id);
        let attempts = attempts.fetch_all(&mut *reader).await?;
        Ok(rows::readable(&attempts, "attempt", rows::attempt))
    }
}

fn selected_events(sql: &SqlStr, scope: &Scope, filter: &EventFilter) -> Select {
    found_events(sql, scope, filter)
        .and(
            "event_type =",
            filter.event_type.as_ref().map(EventType::as_str),
        )
        .and("created_at >=", filter.since.map(Timestamp::as_micros))
        .and("created_at <", filter.until.map(Timestamp::as_micros))
        .and("0 < instr(body,", filter.text.as_deref().map(str::as_bytes))
}

/// By those conditions alone for which there is an index.
fn found_events(sql: &SqlStr, scope: &Scope, filter: &EventFilter) -> Select {
    Select::new(sql, scope)
        .and("id >=", filter.since.map(|it| first_id(it - IDS_APART)))
        .and("id <", filter.until.map(|it| first_id(it + IDS_APART)))
}

fn selected_deliveries(sql: &SqlStr, scope: &Scope, filter: &DeliveryFilter) -> Select {
    found_deliveries(sql, scope, filter)
        .and("event_id =", filter.event_id)
        .and(
            "event_type =",
            filter.event_type.as_ref().map(EventType::as_str),
        )
        .one_of("last_error", &filter.error_kinds)
        .and("cause =", filter.cause.map(FailureCause::as_str))
        .and("created_at >=", filter.since.map(Timestamp::as_micros))
        .and("created_at <", filter.until.map(Timestamp::as_micros))
        .status(filter.status)
}

/// By those conditions alone for which there is an index. `since` is no place in it: what a replay made for an endpoint
/// that had missed the event has an id of the event's time.
fn found_deliveries(sql: &SqlStr, scope: &Scope, filter: &DeliveryFilter) -> Select {
    Select::new(sql, scope)
        .and("endpoint_id =", filter.endpoint_id)
        .and("id <", filter.until.map(|it| first_id(it + IDS_APART)))
}

/// No id that is made at this time or later is less.
fn first_id(at: Timestamp) -> Uuid {
    let millis = u64::try_from(at.as_micros() / 1_000).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(millis, &[0; 10]).into_uuid()
}

fn whole(opened: Opened) -> sqlx::Result<Endpoint> {
    opened.whole().map_err(unreadable)
}

/// A statement that ends in a condition, such as `WHERE TRUE`, and those that are added to it.
pub(crate) struct Select(QueryBuilder<Sqlite>);

impl Select {
    pub(crate) fn new(sql: &SqlStr, scope: &Scope) -> Self {
        Self(QueryBuilder::new(sql.as_str())).and("tenant =", tenant_of(scope))
    }

    /// Adds a condition, if there is a value.
    pub(crate) fn and<'t, T>(mut self, condition: &str, value: Option<T>) -> Self
    where
        T: sqlx::Encode<'t, Sqlite> + sqlx::Type<Sqlite>,
    {
        if let Some(value) = value {
            self.0
                .push(" AND ")
                .push(condition)
                .push(" ")
                .push_bind(value);
            if condition.contains('(') {
                self.0.push(")");
            }
        }
        self
    }

    /// Adds a condition, if there are values.
    fn one_of(mut self, column: &str, values: &[String]) -> Self {
        if !values.is_empty() {
            self.0.push(" AND ").push(column).push(" IN (");
            let mut list = self.0.separated(", ");
            for value in values {
                list.push_bind(value.clone());
            }
            self.0.push(")");
        }
        self
    }

    /// As a literal: a bound value would miss the index of the dead letters.
    pub(crate) fn status(mut self, status: Option<DeliveryStatus>) -> Self {
        if let Some(status) = status {
            self.0
                .push(" AND status = '")
                .push(status.as_str())
                .push("'");
        }
        self
    }

    pub(crate) async fn one<T>(
        self,
        connection: &mut SqliteConnection,
        id: Uuid,
        decode: impl Fn(&SqliteRow) -> sqlx::Result<T>,
    ) -> sqlx::Result<Option<T>> {
        let mut select = self.and("id =", Some(id));
        let row = select.0.build().fetch_optional(connection).await?;
        row.as_ref().map(decode).transpose()
    }

    /// All rows, one by one.
    pub(crate) async fn each(
        mut self,
        connection: &mut SqliteConnection,
        mut with: impl FnMut(SqliteRow),
    ) -> sqlx::Result<()> {
        let mut rows = self.0.build().fetch(connection);
        while let Some(row) = rows.try_next().await? {
            with(row);
        }
        Ok(())
    }

    /// The next rows in the order of their ids.
    pub(crate) async fn after(
        self,
        connection: &mut SqliteConnection,
        after: Option<Uuid>,
        limit: usize,
    ) -> sqlx::Result<Vec<SqliteRow>> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut select = self.and("id >", after);
        select.0.push(" ORDER BY id LIMIT ").push_bind(limit);
        select.0.build().fetch_all(connection).await
    }

    /// The id of the row that is looked at last for a page, if there are more.
    async fn floor(
        self,
        connection: &mut SqliteConnection,
        page: PageRequest,
        looked_at: usize,
    ) -> sqlx::Result<Option<Uuid>> {
        let passed = i64::try_from(looked_at - 1).unwrap_or(i64::MAX);
        let mut select = self.and("id <", page.before);
        select.0.push(" ORDER BY id DESC LIMIT 1 OFFSET ");
        select.0.push_bind(passed);
        let row = select.0.build().fetch_optional(connection).await?;
        row.map(|row| row.try_get("id")).transpose()
    }

    /// Newest first. Rows that cannot be read are missing in it, and the next page begins where it would.
    pub(crate) async fn page<T>(
        self,
        connection: &mut SqliteConnection,
        page: PageRequest,
        what: &'static str,
        decode: impl Fn(&SqliteRow) -> sqlx::Result<T>,
    ) -> sqlx::Result<Page<T>> {
        let one_more = i64::try_from(page.limit)
            .unwrap_or(i64::MAX)
            .saturating_add(1);
        let mut select = self.and("id <", page.before);
        select
            .0
            .push(" ORDER BY id DESC LIMIT ")
            .push_bind(one_more);
        let mut rows = select.0.build().fetch_all(connection).await?;
        let has_more = rows.len() > page.limit;
        rows.truncate(page.limit);
        let last = rows.last().filter(|_| has_more);
        let next = last.map(|row| row.try_get("id")).transpose()?;
        Ok(Page {
            items: rows::readable(&rows, what, decode),
            next,
        })
    }
}

#[cfg(test)]
mod tests {
    use sqlx::sqlite::SqliteConnectOptions;
    use sqlx::{AssertSqlSafe, ConnectOptions as _, SqlSafeStr as _};

    use webhook_core::testing::{endpoint_for, event_for};
    use webhook_core::{EndpointSettings, InsertOptions, OnConflict, Store as _};

    use super::*;
    use crate::sql::Sql;
    use crate::store::SqliteStore;

    /// An event a second, each with its delivery; the oldest one has a type of its own.
    async fn fill(store: &SqliteStore) {
        let at = |second: i64| Timestamp::from_seconds(1_700_000_000 + second);
        let endpoint = endpoint_for("t", EndpointSettings::default());
        let inserted = store.insert_endpoint(&endpoint, usize::MAX).await;
        assert!(inserted.unwrap());
        for second in 1..=20 {
            let kind = if second == 1 { "rare" } else { "usual" };
            let event = event_for("t", kind, &format!("\"{kind}\""), at(second));
            let options = InsertOptions::new(OnConflict::Skip);
            let inserted =
                store.insert_events(std::slice::from_ref(&event), &options, Some(at(second)));
            inserted.await.unwrap();
        }
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
        webhook_core::testing::run(async {
            let folder = tempfile::tempdir().unwrap();
            let store = SqliteStore::open(folder.path().join("reach.db"))
                .await
                .unwrap();
            fill(&store).await;
            let of_type = |event_type: &str| DeliveryFilter {
                event_type: Some(event_type.parse().unwrap()),
                ..DeliveryFilter::default()
            };
            let by_text = EventFilter::default().text("rare".to_owned());
            // Of 20 rows 6 at a time: the fourth look finds the last one.
            let (all, reach) = (&Scope::All, &[2, 6]);
            let rare = of_type("rare");
            let found = sizes(async |page| {
                let found = store.0.deliveries_within(reach, all, &rare, page);
                found.await.unwrap()
            });
            assert_eq!(found.await, [0, 0, 0, 1]);
            let found = sizes(async |page| {
                let found = store.0.events_within(reach, all, &by_text, page);
                found.await.unwrap()
            });
            assert_eq!(found.await, [0, 0, 0, 1]);
            // None is missed or told twice.
            let usual = of_type("usual");
            let found = sizes(async |page| {
                let found = store.0.deliveries_within(reach, all, &usual, page);
                found.await.unwrap()
            });
            assert_eq!(found.await.iter().sum::<usize>(), 19);
        });
    }

    #[test]
    fn a_list_of_events_ends_at_the_time_since_when_they_are_asked_for() {
        webhook_core::testing::run(async {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("events.db");
            SqliteStore::open(&file).await.unwrap();
            let options = SqliteConnectOptions::new().filename(&file);
            let mut connection = options.connect().await.unwrap();
            let sql = Sql::new("webhook_").events_listed;
            let explain = AssertSqlSafe(format!("EXPLAIN QUERY PLAN {}", sql.as_str()));
            let since = Timestamp::from_seconds(1_700_000_000);
            let filter = EventFilter::default().since(since);
            let mut select = selected_events(&explain.into_sql_str(), &Scope::All, &filter);
            select.0.push(" ORDER BY id DESC");
            let plan = select.0.build().fetch_one(&mut connection).await.unwrap();
            let plan: String = plan.try_get("detail").unwrap();
            assert!(plan.contains("id>?"), "{plan}");
        });
    }
}

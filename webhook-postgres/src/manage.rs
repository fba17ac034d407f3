//! Replays and cancels single deliveries, replays events, and inserts test events.

use sqlx::{Connection, PgConnection};
use tokio::time::timeout;
use uuid::Uuid;
use webhook_core::backend::Opened;
use webhook_core::{Changed, EndReason, Endpoint, Event, Job, Now, Scope};

use crate::column::{At, at, ids_made_at, tenant};
use crate::job::job;
use crate::load::event;
use crate::read::readable;
use crate::store::Shared;

impl Shared {
    pub(crate) async fn replay_delivery(
        &self,
        scope: &Scope,
        id: Uuid,
        now: Now,
    ) -> sqlx::Result<Changed<Job>> {
        let Some(delivery) = self.delivery(scope, id).await? else {
            return Ok(Changed::NotFound);
        };
        let mut lent = self.lend().await?;
        let replay = self.replay_to(&mut lent, delivery.event_id, delivery.endpoint_id, now);
        let replayed = timeout(self.patience.statement, replay).await;
        let replayed = lent.answered(replayed)?;
        self.news.tell();
        Ok(replayed)
    }

    async fn replay_to(
        &self,
        connection: &mut PgConnection,
        event: Uuid,
        endpoint: Uuid,
        now: Now,
    ) -> sqlx::Result<Changed<Job>> {
        let mut tx = connection.begin().await?;
        let Some(event) = self.lock_event(&mut tx, &Scope::All, event).await? else {
            return Ok(Changed::Refused);
        };
        let jobs = self.replay(&mut tx, &event, &[endpoint], now).await?;
        tx.commit().await?;
        let job = jobs.into_iter().next();
        Ok(job.map_or(Changed::Refused, Changed::Done))
    }

    pub(crate) async fn replay_event(
        &self,
        scope: &Scope,
        id: Uuid,
        now: Now,
    ) -> sqlx::Result<Changed<Vec<Job>>> {
        let mut lent = self.lend().await?;
        let replay = self.replay_to_all(&mut lent, scope, id, now);
        let replayed = timeout(self.patience.statement, replay).await;
        let replayed = lent.answered(replayed)?;
        self.news.tell();
        Ok(replayed)
    }

    async fn replay_to_all(
        &self,
        connection: &mut PgConnection,
        scope: &Scope,
        id: Uuid,
        now: Now,
    ) -> sqlx::Result<Changed<Vec<Job>>> {
        let mut tx = connection.begin().await?;
        let Some(event) = self.lock_event(&mut tx, scope, id).await? else {
            return Ok(Changed::NotFound);
        };
        let endpoints = self.endpoints_for(&mut tx, &event).await?;
        let jobs = self.replay(&mut tx, &event, &endpoints, now).await?;
        tx.commit().await?;
        Ok(Changed::Done(jobs))
    }

    pub(crate) async fn insert_test(
        &self,
        event: &Event,
        endpoint: Uuid,
        now: Now,
    ) -> sqlx::Result<Option<Job>> {
        let mut lent = self.lend().await?;
        let insert = self.insert_test_on(&mut lent, event, endpoint, now);
        let inserted = timeout(self.patience.statement, insert).await;
        let inserted = lent.answered(inserted)?;
        self.news.tell();
        Ok(inserted)
    }

    async fn insert_test_on(
        &self,
        connection: &mut PgConnection,
        event: &Event,
        endpoint: Uuid,
        now: Now,
    ) -> sqlx::Result<Option<Job>> {
        let mut tx = connection.begin().await?;
        let insert = self.sql.insert_test.query_once();
        let insert = insert.bind(event.id).bind(event.tenant.as_str());
        let insert = insert.bind(event.event_type.as_str()).bind(&event.body[..]);
        let insert = insert.bind(At(event.created_at)).bind(endpoint);
        if insert.execute(&mut *tx).await?.rows_affected() == 0 {
            return Ok(None);
        }
        let jobs = self.replay(&mut tx, event, &[endpoint], now).await?;
        // None, if the endpoint was deleted just now.
        let Some(job) = jobs.into_iter().next() else {
            return Ok(None);
        };
        tx.commit().await?;
        Ok(Some(job))
    }

    pub(crate) async fn cancel_delivery(
        &self,
        scope: &Scope,
        id: Uuid,
        now: Now,
    ) -> sqlx::Result<Changed<()>> {
        let query = self.sql.end_deliveries.query().bind(at(now)).bind([id]);
        let query = query.bind(tenant(scope)).bind("cancelled");
        let query = query.bind(EndReason::Requested.as_str());
        let ended = self.rows(query).await?;
        if !ended.is_empty() {
            return Ok(Changed::Done(()));
        }
        let known = self.delivery(scope, id).await?;
        Ok(known.map_or(Changed::NotFound, |_| Changed::Refused))
    }

    /// The event, after all replays of it that are under way.
    async fn lock_event(
        &self,
        tx: &mut PgConnection,
        scope: &Scope,
        id: Uuid,
    ) -> sqlx::Result<Option<Event>> {
        self.sql
            .lock_event
            .query()
            .bind(id)
            .execute(&mut *tx)
            .await?;
        let query = self.sql.event.query().bind(id).bind(tenant(scope));
        let row = query.fetch_optional(tx).await?;
        row.map(|row| event(&row, "id")).transpose()
    }

    async fn endpoints_for(&self, tx: &mut PgConnection, event: &Event) -> sqlx::Result<Vec<Uuid>> {
        let query = self
            .sql
            .endpoints_of_tenant
            .query()
            .bind(event.tenant.as_str());
        let rows = query.fetch_all(tx).await?;
        let endpoints = readable(&rows, |row| self.opened(row, "replay_event"));
        let payload = event.payload();
        let takes = |it: &&Endpoint| it.accepts(&event.event_type) && it.lets_through(&payload);
        let endpoints = endpoints.iter().map(Opened::endpoint).filter(takes);
        Ok(endpoints.map(|it| it.id).collect())
    }

    async fn replay(
        &self,
        tx: &mut PgConnection,
        event: &Event,
        endpoints: &[Uuid],
        now: Now,
    ) -> sqlx::Result<Vec<Job>> {
        let (first, last) = ids_made_at(event.created_at);
        let query = self.sql.replay.query().bind(at(now)).bind(event.id);
        let rows = query
            .bind(first)
            .bind(last)
            .bind(endpoints)
            .fetch_all(tx)
            .await?;
        rows.iter().map(|row| job(row, 0)).collect()
    }
}

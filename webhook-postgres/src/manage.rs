//! Replay and cancel.

use sqlx::PgConnection;
use uuid::Uuid;
use webhook_core::{Changed, EndReason, Endpoint, Event, Job, Now, Scope};

use crate::column::{at, ids_made_at, tenant};
use crate::endpoints::endpoint;
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
        let mut tx = self.pool.begin().await?;
        let Some(event) = self
            .lock_event(&mut tx, &Scope::All, delivery.event_id)
            .await?
        else {
            return Ok(Changed::Refused);
        };
        let endpoints = [delivery.endpoint_id];
        let jobs = self.replay(&mut tx, &event, &endpoints, now).await?;
        tx.commit().await?;
        self.news.tell();
        Ok(jobs
            .into_iter()
            .next()
            .map_or(Changed::Refused, Changed::Done))
    }

    pub(crate) async fn replay_event(
        &self,
        scope: &Scope,
        id: Uuid,
        now: Now,
    ) -> sqlx::Result<Changed<Vec<Job>>> {
        let mut tx = self.pool.begin().await?;
        let Some(event) = self.lock_event(&mut tx, scope, id).await? else {
            return Ok(Changed::NotFound);
        };
        let endpoints = self.endpoints_for(&mut tx, &event).await?;
        let jobs = self.replay(&mut tx, &event, &endpoints, now).await?;
        tx.commit().await?;
        self.news.tell();
        Ok(Changed::Done(jobs))
    }

    pub(crate) async fn cancel_delivery(
        &self,
        scope: &Scope,
        id: Uuid,
        now: Now,
    ) -> sqlx::Result<Changed<()>> {
        let query = self.sql.end_deliveries.query().bind(at(now)).bind([id]);
        let query = query.bind(tenant(scope)).bind("cancelled");
        let ended = query
            .bind(EndReason::Requested.as_str())
            .fetch_all(&self.pool)
            .await?;
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
        let endpoints = readable(&rows, |row| endpoint(row, "replay_event"));
        let takes = |it: &&Endpoint| it.accepts(&event.event_type) && it.lets_through(event);
        Ok(endpoints.iter().filter(takes).map(|it| it.id).collect())
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

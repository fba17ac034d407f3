//! Replays single deliveries and events, and inserts test events.

use std::collections::HashMap;

use sqlx::Row;
use sqlx::sqlite::SqliteConnection;
use uuid::Uuid;
use webhook_core::{
    Changed, Endpoint, EndpointState, Event, Job, Now, Scope, Timestamp, delivery_id,
};

use crate::error::corrupt;
use crate::insert::NewDelivery;
use crate::rows::count;
use crate::store::Shared;

/// What an endpoint has had of an event.
struct Replays {
    last: u32,
    is_live: bool,
}

impl Shared {
    pub(crate) async fn replay_delivery(
        &self,
        scope: &Scope,
        id: Uuid,
        now: Now,
    ) -> sqlx::Result<Changed<Job>> {
        let mut tx = self.database.write().await?;
        let now = self.database.now(&mut tx, now).await?;
        let Some(delivery) = self.delivery_on(&mut tx, scope, id).await? else {
            tx.rollback().await?;
            return Ok(Changed::NotFound);
        };
        let replays = self.replay_numbers(&mut tx, delivery.event_id).await?;
        let is_live = replays
            .get(&delivery.endpoint_id)
            .is_some_and(|it| it.is_live);
        let endpoint = self
            .endpoint_on(&mut tx, scope, delivery.endpoint_id)
            .await?;
        let Some(endpoint) = endpoint.filter(|_| !is_live) else {
            tx.rollback().await?;
            return Ok(Changed::Refused);
        };
        let endpoint = endpoint.endpoint();
        let event = self.event_on(&mut tx, scope, delivery.event_id).await?;
        let event = event.ok_or_else(|| corrupt("the delivery's event is not there"))?;
        let replay = replay(&event, endpoint, &replays, now);
        let jobs = self.insert_deliveries(&mut tx, vec![replay], now).await?;
        tx.commit().await?;
        let job = jobs.into_iter().next();
        job.map(Changed::Done).ok_or(sqlx::Error::RowNotFound)
    }

    pub(crate) async fn replay_event(
        &self,
        scope: &Scope,
        id: Uuid,
        now: Now,
    ) -> sqlx::Result<Changed<Vec<Job>>> {
        let mut tx = self.database.write().await?;
        let now = self.database.now(&mut tx, now).await?;
        let Some(event) = self.event_on(&mut tx, scope, id).await? else {
            tx.rollback().await?;
            return Ok(Changed::NotFound);
        };
        let replays = self.replay_numbers(&mut tx, id).await?;
        let mut takers = self.takers(&mut tx, &[&event]).await?;
        let takers = takers.remove(event.tenant.as_str()).unwrap_or_default();
        let payload = event.payload();
        let wanted = takers
            .iter()
            .filter_map(|taker| taker.endpoint.as_ref())
            .filter(|endpoint| {
                endpoint.accepts(&event.event_type)
                    && endpoint.lets_through(&payload)
                    && !replays.get(&endpoint.id).is_some_and(|it| it.is_live)
            });
        let wanted = wanted
            .map(|endpoint| replay(&event, endpoint, &replays, now))
            .collect();
        let jobs = self.insert_deliveries(&mut tx, wanted, now).await?;
        tx.commit().await?;
        Ok(Changed::Done(jobs))
    }

    pub(crate) async fn insert_test(
        &self,
        event: &Event,
        endpoint: Uuid,
        now: Now,
    ) -> sqlx::Result<Option<Job>> {
        let mut tx = self.database.write().await?;
        let now = self.database.now(&mut tx, now).await?;
        let own = event.tenant.clone().into();
        let endpoint = self.endpoint_on(&mut tx, &own, endpoint).await?;
        let endpoint = endpoint.filter(|it| it.endpoint().state == EndpointState::Enabled);
        let Some(endpoint) = endpoint else {
            tx.rollback().await?;
            return Ok(None);
        };
        self.insert_new(&mut tx, &[event], now).await?;
        let delivery = new_delivery(event, endpoint.endpoint(), 0, now);
        let jobs = self.insert_deliveries(&mut tx, vec![delivery], now).await?;
        tx.commit().await?;
        Ok(jobs.into_iter().next())
    }

    /// What each endpoint has had of an event.
    async fn replay_numbers(
        &self,
        tx: &mut SqliteConnection,
        event: Uuid,
    ) -> sqlx::Result<HashMap<Uuid, Replays>> {
        let replays = sqlx::query(self.database.sql.replay_numbers.clone()).bind(event);
        let mut by_endpoint = HashMap::new();
        for row in replays.fetch_all(tx).await? {
            let replays = Replays {
                last: count(&row, "replay_no")?,
                is_live: row.try_get("live")?,
            };
            by_endpoint.insert(row.try_get("endpoint_id")?, replays);
        }
        Ok(by_endpoint)
    }
}

/// The next delivery of an event to an endpoint.
fn replay<'a>(
    event: &'a Event,
    endpoint: &Endpoint,
    replays: &HashMap<Uuid, Replays>,
    now: Timestamp,
) -> NewDelivery<'a> {
    let replay_no = replays
        .get(&endpoint.id)
        .map_or(0, |replays| replays.last + 1);
    new_delivery(event, endpoint, replay_no, now)
}

/// Due now. The first to an endpoint that missed the event is the one that the event would have made.
pub(crate) fn new_delivery<'a>(
    event: &'a Event,
    endpoint: &Endpoint,
    replay_no: u32,
    now: Timestamp,
) -> NewDelivery<'a> {
    let made_at = if replay_no == 0 {
        event.created_at
    } else {
        now
    };
    let id = delivery_id(made_at, event.id, endpoint.id, replay_no);
    NewDelivery {
        event,
        replay_no,
        job: Job::new(id, endpoint, now, 0),
        leased_until: None,
    }
}

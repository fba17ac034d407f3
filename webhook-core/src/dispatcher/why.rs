//! Collects the facts from which [`Why`] is judged.

use hashbrown::HashMap;
use uuid::Uuid;

use super::{Engine, Events, ManageError};
use crate::delivery::Delivery;
use crate::error::{ErrorKind, Result};
use crate::event::Event;
use crate::payload::Payload;
use crate::store::{DeliveryFilter, EndpointFilter};
use crate::tenant::{PageRequest, Scope};
use crate::time::Timestamp;
use crate::why::{Judgement, MatchReason, Why};

/// The most endpoints that are judged, and deliveries that are read.
const MOST: usize = 1_000;
/// How many are read at once.
const PAGE: usize = 200;
/// The most endpoints that are looked for one by one, because no list has them.
const MOST_MISSING: usize = 50;

impl Events<'_> {
    /// For each endpoint of the event's tenant, why the event went there or not, and what its delivery waits for. If the tenant
    /// has more than 1,000 endpoints, this is about the newest 1,000.
    ///
    /// If there is a delivery, it shows what was decided. If there is none, nothing was recorded, and the reason follows from the
    /// endpoint's present settings. [`Judgement::basis`] says which of the two it is.
    ///
    /// # Errors
    /// When there is no such event in the scope, or the store fails.
    pub async fn why(&self, id: Uuid) -> Result<Why, ManageError> {
        let event = self.get(id).await?;
        Ok(self.engine.why(event).await?)
    }
}

impl Engine {
    async fn why(&self, event: Event) -> Result<Why> {
        let (as_of, payload) = (self.clock.now(), event.body.clone());
        let payload = Payload::new(&payload);
        let of_tenant = Scope::Tenant(event.tenant.clone());
        let (deliveries, mut is_complete) = self.deliveries_of(&of_tenant, event.id).await?;
        let mut last = last_of_each(&deliveries);
        let mut endpoints = Vec::new();
        let mut page = PageRequest::first(PAGE);
        // A test is for one endpoint, and none of the others' business.
        while !event.is_test() && endpoints.len() < MOST {
            let found = self
                .store
                .endpoints(&of_tenant, &EndpointFilter::default(), page)
                .await?;
            for endpoint in &found.items {
                let delivery = last.remove(&endpoint.id);
                endpoints.push(Judgement::of(endpoint, &event, &payload, delivery, as_of));
            }
            page.before = found.next;
            if page.before.is_none() {
                break;
            }
        }
        is_complete &= page.before.is_none();
        is_complete &= last.len() <= MOST_MISSING;
        for delivery in last.into_values().take(MOST_MISSING) {
            let unlisted = self.unlisted(&of_tenant, &event, &payload, delivery, as_of);
            endpoints.push(unlisted.await?);
        }
        Ok(Why {
            event,
            as_of,
            deliveries,
            endpoints,
            is_complete,
        })
    }

    /// An event's deliveries, newest first, and whether these are all.
    async fn deliveries_of(&self, scope: &Scope, event: Uuid) -> Result<(Vec<Delivery>, bool)> {
        let filter = DeliveryFilter {
            event_id: Some(event),
            ..DeliveryFilter::default()
        };
        let (mut deliveries, mut page) = (Vec::new(), PageRequest::first(PAGE));
        while deliveries.len() < MOST {
            let found = self.store.deliveries(scope, &filter, page).await?;
            deliveries.extend(found.items);
            page.before = found.next;
            if page.before.is_none() {
                return Ok((deliveries, true));
            }
        }
        Ok((deliveries, false))
    }

    /// Judges by the delivery, if its endpoint is in no list.
    async fn unlisted(
        &self,
        scope: &Scope,
        event: &Event,
        payload: &Payload<'_>,
        delivery: Delivery,
        now: Timestamp,
    ) -> Result<Judgement> {
        let reason = match self.store.endpoint(scope, delivery.endpoint_id).await {
            Ok(Some(endpoint)) => {
                return Ok(Judgement::of(
                    &endpoint,
                    event,
                    payload,
                    Some(delivery),
                    now,
                ));
            }
            Ok(None) => MatchReason::Deleted,
            Err(error) if matches!(error.kind(), ErrorKind::Sealed | ErrorKind::Corrupt) => {
                MatchReason::Unreadable
            }
            Err(error) => return Err(error),
        };
        Ok(Judgement::without_endpoint(delivery, reason, now))
    }
}

/// The last delivery to each endpoint: the one with the highest replay number.
fn last_of_each(deliveries: &[Delivery]) -> HashMap<Uuid, Delivery> {
    let mut last = HashMap::<Uuid, Delivery>::new();
    for delivery in deliveries {
        let known = last.get(&delivery.endpoint_id);
        if known.is_none_or(|known| known.replay_no < delivery.replay_no) {
            last.insert(delivery.endpoint_id, delivery.clone());
        }
    }
    last
}

//! Says why due deliveries do not go out: a pause, or a breaker.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use uuid::Uuid;
use webhook_core::{BreakerState, Delivery, DeliveryStatus, EndpointState, ManageError, Timestamp};

use super::names::Names;
use crate::caller::Caller;

/// How endpoints hold what waits for them, by their ids.
pub(super) struct Holds {
    now: Timestamp,
    of: BTreeMap<Uuid, (EndpointState, BreakerState)>,
}

/// Why a delivery that waits does not go out when it is due.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Hold {
    /// Until a person resumes the endpoint.
    State(EndpointState),
    /// The breaker is open until then.
    Until(Timestamp),
    /// Another one tries whether the endpoint is well.
    Trial,
}

impl Holds {
    /// Of the endpoints for which one of these waits, as far as `names` knows them.
    pub(super) async fn of(
        caller: &Caller,
        deliveries: &[Delivery],
        names: &Names,
    ) -> Result<Self, ManageError> {
        let waiting = deliveries
            .iter()
            .filter(|it| it.status == DeliveryStatus::Pending);
        let ids: BTreeSet<_> = waiting.map(|it| it.endpoint_id).collect();
        let ids: Vec<_> = ids.into_iter().collect();
        let health = if ids.is_empty() {
            HashMap::new()
        } else {
            caller.endpoints().health(&ids).await?
        };
        let known = ids.into_iter().filter_map(|id| {
            let health = health.get(&id).copied().unwrap_or_default();
            Some((id, (names.state(&id)?, health.breaker)))
        });
        Ok(Self {
            now: caller.now(),
            of: known.collect(),
        })
    }

    /// What holds this one, if anything does.
    pub(super) fn on(&self, delivery: &Delivery) -> Option<Hold> {
        let due = delivery.next_retry_at?.max(self.now);
        if delivery.status != DeliveryStatus::Pending {
            return None;
        }
        match *self.of.get(&delivery.endpoint_id)? {
            (state, _) if state != EndpointState::Enabled => Some(Hold::State(state)),
            (_, BreakerState::Open(trip)) if trip.until > due => Some(Hold::Until(trip.until)),
            (_, BreakerState::HalfOpen(_)) if due == self.now => Some(Hold::Trial),
            _ => None,
        }
    }
}

//! Events that tell the host about its endpoints.
//!
//! They are ordinary events of a tenant of the host's own. The store inserts them in the transaction that changes the endpoint,
//! so that the host gets them as reliably as any other event.

use std::sync::Arc;

use serde::Serialize;
use url::Position;
use uuid::Uuid;

use super::Engine;
use crate::endpoint::StateReason;
use crate::event::{Event, NewEvent};
use crate::health::HealthChange;
use crate::store::Work;
use crate::time::Timestamp;

/// An endpoint was disabled.
const DISABLED: &str = "endpoint.disabled";
/// It will be, if nothing but failures comes from it for as long again.
const FAILING: &str = "endpoint.failing";

#[derive(Serialize)]
struct Told<'a> {
    endpoint_id: Uuid,
    tenant: &'a str,
    /// Without its query, which may hold a token.
    url: &'a str,
    reason: StateReason,
    /// Since when nothing but failures came from it.
    since: Timestamp,
}

impl Engine {
    /// The event that tells of what follows from an attempt, if the host is to be told.
    pub(super) fn event_of(
        &self,
        work: &Work,
        disable: Option<StateReason>,
        change: Option<&HealthChange>,
        now: Timestamp,
    ) -> Option<Arc<Event>> {
        let is_notice = change.is_some_and(|change| change.is_notice);
        let (event_type, reason) = match disable {
            Some(reason) => (DISABLED, reason),
            None if is_notice => (FAILING, StateReason::Failing),
            None => return None,
        };
        let tenant = &self.config.system_tenant;
        let endpoint = &work.endpoint;
        // Else what tells of a failure could fail, and so on.
        if endpoint.tenant == *tenant {
            return None;
        }
        let told = Told {
            endpoint_id: endpoint.id,
            tenant: endpoint.tenant.as_str(),
            url: &endpoint.url.as_url()[..Position::AfterPath],
            reason,
            since: work.health.failing_since.unwrap_or(now),
        };
        let event = NewEvent::json(event_type, &told).map(|event| event.tenant(tenant.clone()));
        let event = event.and_then(|event| self.stamp(event));
        event
            .inspect_err(|error| tracing::error!(%error, "the host is not told of an endpoint"))
            .ok()
            .map(Arc::new)
    }
}

//! The routes, one file per resource.

pub(crate) mod deliveries;
mod endpoint_test;
pub(crate) mod endpoints;
mod event_types;
pub(crate) mod events;
pub(crate) mod probes;
mod replays;
mod stats;

use axum::Router;

use crate::extract::RequestBody;
use crate::router::Api;

/// The routes for those who are let in.
pub(crate) fn guarded() -> Router<Api> {
    events::routes()
        .merge(endpoints::routes())
        .merge(deliveries::routes())
        .merge(replays::routes())
        .merge(stats::routes())
        .merge(event_types::routes())
        .merge(endpoint_test::routes())
}

/// The body of a request that has nothing to say: none, or `{}`.
#[derive(Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct NoFields {}

impl RequestBody for NoFields {}

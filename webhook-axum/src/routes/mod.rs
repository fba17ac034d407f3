//! The routes, one file per resource.

pub(crate) mod audit;
pub(crate) mod deliveries;
mod endpoint_test;
pub(crate) mod endpoints;
mod event_types;
pub(crate) mod events;
#[cfg(feature = "openapi")]
mod openapi;
pub(crate) mod probes;
mod replays;
mod stats;
mod tenants;

use axum::Router;

use crate::extract::RequestBody;
use crate::router::Api;

/// The routes for those who are let in.
pub(crate) fn guarded() -> Router<Api> {
    let routes = events::routes()
        .merge(endpoints::routes())
        .merge(deliveries::routes())
        .merge(replays::routes())
        .merge(stats::routes())
        .merge(event_types::routes())
        .merge(endpoint_test::routes())
        .merge(audit::routes())
        .merge(tenants::routes());
    #[cfg(feature = "openapi")]
    let routes = routes.merge(openapi::routes());
    routes
}

/// What the OpenAPI document says of [`guarded`], and of the metrics beside it.
#[cfg(feature = "openapi")]
pub(crate) fn documents() -> Vec<utoipa::openapi::OpenApi> {
    use utoipa::OpenApi as _;
    vec![
        events::Document::openapi(),
        endpoints::Document::openapi(),
        deliveries::Document::openapi(),
        replays::Document::openapi(),
        stats::Document::openapi(),
        event_types::Document::openapi(),
        endpoint_test::Document::openapi(),
        audit::Document::openapi(),
        tenants::Document::openapi(),
        openapi::Document::openapi(),
        #[cfg(feature = "prometheus")]
        crate::metrics::Document::openapi(),
    ]
}

/// The body of a request that has nothing to say: none, or `{}`.
#[derive(Default, serde::Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
struct NoFields {}

impl RequestBody for NoFields {}

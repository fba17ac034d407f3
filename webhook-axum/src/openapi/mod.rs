//! Describes the API to programs, as an OpenAPI 3.1 document made from attributes on each handler and type.
//!
//! - `rules.rs` adds what holds for every operation of a kind, because of the extractors and of the layer before them.
//! - `schema.rs` has the schemas that no macro makes, and `types.rs` those of the core's types.
//!
//! To add a route, put `#[utoipa::path]` on its handler and name the handler in its file's `Document`. Name the `Document` of a
//! new file in `routes::documents`.

mod rules;
mod schema;
pub(crate) mod types;

use std::sync::LazyLock;

use bytes::Bytes;
use utoipa::OpenApi as _;

pub(crate) use schema::{array_of, part, part_of};

use crate::error::ErrorBody;
use crate::page::{Cursor, Limit};
use crate::routes;

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "webhook-delivery",
        description = "The management API of a webhook delivery engine. Times are RFC 3339; lists go from the newest to \
                       the oldest; what is unknown is refused. A body has at most 128 KiB, unless its operation says \
                       otherwise."
    ),
    servers((url = ".", description = "Where this document is")),
    components(schemas(Cursor, ErrorBody, Limit))
)]
struct Document;

/// The OpenAPI 3.1 document of what [`router`](crate::router()) serves, and serves itself at `/openapi.json`. With the
/// feature `prometheus` it also has `GET /metrics`, which `Metrics::router` serves.
///
/// Its paths are relative to where the router is nested. A host with a document of its own takes it in by
/// [`nest`](utoipa::openapi::OpenApi::nest).
///
/// ```
/// let document = webhook_axum::openapi();
/// assert!(document.paths.paths.contains_key("/endpoints/{id}"));
/// ```
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    let mut document = Document::openapi();
    for part in routes::documents() {
        document.merge(part);
    }
    rules::guard(&mut document);
    document.merge(routes::probes::Document::openapi());
    rules::complete(&mut document);
    document
}

/// The same, as it is served.
pub(crate) fn as_json() -> Bytes {
    static JSON: LazyLock<Bytes> = LazyLock::new(|| {
        let json = openapi().to_json();
        json.expect("a document is JSON").into()
    });
    JSON.clone()
}

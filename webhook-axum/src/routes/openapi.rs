//! `/openapi.json`: describes the API to programs.

use axum::Router;
use axum::response::IntoResponse;
use axum::routing::get;
use http::header;

use crate::extract::NoQuery;
use crate::router::Api;

pub(super) fn routes() -> Router<Api> {
    Router::new().route("/openapi.json", get(show))
}

/// What the OpenAPI document says of them.
#[derive(utoipa::OpenApi)]
#[openapi(paths(show))]
pub(super) struct Document;

/// This document.
#[utoipa::path(
    get,
    path = "/openapi.json",
    responses((status = 200, body = serde_json::Value))
)]
async fn show(_: NoQuery) -> impl IntoResponse {
    let json = [(header::CONTENT_TYPE, "application/json")];
    (json, crate::openapi::as_json())
}

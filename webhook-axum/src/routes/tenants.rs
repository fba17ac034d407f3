//! `/tenants/{id}`: erases a tenant.

use axum::Router;
use axum::extract::FromRequestParts;
use axum::response::{IntoResponse, Response};
use axum::routing::delete;
use http::StatusCode;
use http::request::Parts;
use serde::Serialize;
use webhook_core::Tenant;

use super::NoFields;
use crate::caller::Caller;
use crate::error::ApiError;
use crate::extract::{OptionalJson, last_param};
use crate::router::Api;

pub(super) fn routes() -> Router<Api> {
    Router::new().route("/tenants/{id}", delete(erase))
}

/// What the OpenAPI document says of it.
#[cfg(feature = "openapi")]
#[derive(utoipa::OpenApi)]
#[openapi(paths(erase))]
pub(super) struct Document;

/// Erases a tenant: its endpoints at once, and then all else, whether there is anything or not.
#[cfg_attr(feature = "openapi", utoipa::path(
    delete, path = "/tenants/{id}",
    params(("id" = crate::openapi::types::TenantSchema, Path)),
    request_body = Option<NoFields>,
    responses((status = 202, body = Accepted, description = "Its endpoints are gone, and the rest follows.")),
))]
async fn erase(
    caller: Caller,
    Name(tenant): Name,
    _: OptionalJson<NoFields>,
) -> Result<Response, ApiError> {
    caller.tenants().delete(&tenant).await?;
    let answer = Accepted { status: "accepted" };
    Ok((StatusCode::ACCEPTED, axum::Json(answer)).into_response())
}

#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(as = TenantErased))]
struct Accepted {
    status: &'static str,
}

/// The path's last `{id}`, as a tenant's name.
struct Name(Tenant);

impl FromRequestParts<Api> for Name {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        let name = last_param(parts, api, "id").await.unwrap_or_default();
        let tenant = Tenant::new(&name).map(Self);
        tenant.map_err(|invalid| ApiError::invalid("invalid_id", invalid.to_string()))
    }
}

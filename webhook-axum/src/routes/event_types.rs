//! `/event-types`: the catalogue, the same for all tenants.

use axum::Router;
use axum::extract::FromRequestParts;
use axum::routing::{get, put};
use http::request::Parts;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use webhook_core::{CatalogueEntry, Dispatcher, EventType, NewCatalogueEntry, Timestamp};

use crate::caller::Caller;
use crate::error::ApiError;
use crate::extract::{Json, Query, RequestBody, last_param};
use crate::json::{Unambiguous, not_null};
use crate::page::{Cursor, Limit, List, page_request};
use crate::router::Api;

/// The most bytes of a body: a schema and an example of 64 KiB each, and some room.
const MAX_BODY: usize = 192 * 1024;

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/event-types", get(list))
        .route("/event-types/{name}", put(replace))
}

/// What the OpenAPI document says of them.
#[cfg(feature = "openapi")]
#[derive(utoipa::OpenApi)]
#[openapi(paths(list, replace))]
pub(super) struct Document;

/// The catalogue of event types, the same for all tenants.
#[cfg_attr(feature = "openapi", utoipa::path(
    get, path = "/event-types",
    params(ListEventTypes),
    responses((status = 200, body = List<EventTypeView>)),
))]
async fn list(
    caller: Caller,
    Query(query): Query<ListEventTypes>,
) -> Result<List<EventTypeView>, ApiError> {
    let page = page_request(query.limit, query.cursor);
    let page = caller.event_types().list(page).await?;
    Ok(List::of(&page, EventTypeView::of))
}

/// Puts an event type into the catalogue, in the place of what stood there.
///
/// Events of a type with a JSON Schema must fit it.
#[cfg_attr(feature = "openapi", utoipa::path(
    put, path = "/event-types/{name}",
    request_body = EventTypeRequest,
    responses((status = 200, body = EventTypeView)),
))]
async fn replace(
    caller: Caller,
    Name(name): Name,
    Json(request): Json<EventTypeRequest>,
) -> Result<axum::Json<EventTypeView>, ApiError> {
    let types = caller.host_wide()?.event_types();
    let entry = types.put(request.entry(name)?).await?;
    Ok(axum::Json(EventTypeView::of(&entry)))
}

/// The path's last `{name}`: those before it are the host's.
struct Name(EventType);

impl FromRequestParts<Api> for Name {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        let name = last_param(parts, api, "name").await.unwrap_or_default();
        Ok(Self(EventType::new(&name)?))
    }
}

/// The query of `GET /event-types`.
#[derive(Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams), into_params(parameter_in = Query))]
#[serde(deny_unknown_fields)]
struct ListEventTypes {
    #[serde(default)]
    limit: Limit,
    cursor: Option<Cursor>,
}

/// The body of `PUT /event-types/{name}`: what is left out is empty then. The schema and the example are kept as the
/// texts they are.
#[derive(Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(
    feature = "openapi",
    schema(example = json!({"description": "An order is paid", "schema": {"type": "object"}}))
)]
#[serde(deny_unknown_fields)]
struct EventTypeRequest {
    #[cfg_attr(feature = "openapi", schema(nullable = false, max_length = 1024))]
    #[serde(default, deserialize_with = "not_null")]
    description: Option<String>,
    /// A JSON Schema that is resolved within itself, of at most 64 KiB.
    #[cfg_attr(feature = "openapi", schema(value_type = Value, required = false))]
    schema: Option<Box<RawValue>>,
    /// At most 64 KiB.
    #[cfg_attr(feature = "openapi", schema(value_type = Value, required = false))]
    example: Option<Box<RawValue>>,
}

impl RequestBody for EventTypeRequest {
    fn limit(_: &Dispatcher) -> usize {
        MAX_BODY
    }
}

impl EventTypeRequest {
    fn entry(self, name: EventType) -> Result<NewCatalogueEntry, ApiError> {
        let mut entry = NewCatalogueEntry::new(name);
        if let Some(description) = self.description {
            entry = entry.description(description);
        }
        if let Some(schema) = self.schema {
            // Of two equal keys one would count, and nobody knows which was meant.
            if let Err(error) = serde_json::from_str::<Unambiguous>(schema.get()) {
                return Err(ApiError::invalid_request(format!("schema: {error}")));
            }
            entry = entry.schema(schema.get());
        }
        if let Some(example) = self.example {
            entry = entry.example(example.get());
        }
        Ok(entry)
    }
}

/// An entry of the catalogue as answers show it.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
struct EventTypeView {
    name: EventType,
    description: String,
    #[cfg_attr(feature = "openapi", schema(value_type = Value))]
    schema: Option<Box<RawValue>>,
    #[cfg_attr(feature = "openapi", schema(value_type = Value))]
    example: Option<Box<RawValue>>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl EventTypeView {
    fn of(entry: &CatalogueEntry) -> Self {
        let raw = |text: &str| RawValue::from_string(text.to_owned()).ok();
        Self {
            name: entry.name.clone(),
            description: entry.description.clone(),
            schema: entry.schema.as_deref().and_then(raw),
            example: entry.example.as_deref().and_then(raw),
            created_at: entry.created_at,
            updated_at: entry.updated_at,
        }
    }
}

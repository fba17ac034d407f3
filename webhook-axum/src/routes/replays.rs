//! `/replays`, and the routes that start a replay.

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use webhook_core::{
    DeliveryFilter, DeliveryStatus, EndpointReplay, EventType, FailureCause, ManageError,
    NewReplay, Replay, ReplaySelection, ReplayState, Tenant, Timestamp, TransportErrorKind,
};

use super::NoFields;
use super::deliveries::Conditions;
use crate::caller::{Audience, Caller};
use crate::error::ApiError;
use crate::extract::{Id, Json, NoQuery, OptionalJson, Query, RequestBody};
use crate::json::Object;
use crate::page::{Cursor, Limit, List, page_request};

pub(super) fn routes() -> Router<crate::router::Api> {
    Router::new()
        .route("/endpoints/{id}/replay", post(start_of_endpoint))
        .route("/deliveries/replay", post(start_of_deliveries))
        .route("/replays", get(list))
        .route("/replays/{id}", get(show))
        .route("/replays/{id}/cancel", post(cancel))
}

/// What the OpenAPI document says of them.
#[cfg(feature = "openapi")]
#[derive(utoipa::OpenApi)]
#[openapi(paths(start_of_endpoint, start_of_deliveries, list, show, cancel))]
pub(super) struct Document;

/// Sends again what an endpoint got since a time, and what it missed.
#[cfg_attr(feature = "openapi", utoipa::path(
    post, path = "/endpoints/{id}/replay",
    operation_id = "replay",
    request_body = OfEndpoint,
    responses(
        (status = 200, body = CountView, description = "How many it would be, of a dry run."),
        (status = 202, body = ReplayView, description = "It runs."),
    ),
))]
async fn start_of_endpoint(
    caller: Caller,
    Id(endpoint_id): Id,
    Json(request): Json<OfEndpoint>,
) -> Result<Response, ApiError> {
    let selection = ReplaySelection::Endpoint(EndpointReplay {
        endpoint_id,
        since: request.since,
        until: request.until,
        status: request.status,
    });
    start(&caller, selection, request.pace, request.dry_run).await
}

/// Sends again the deliveries that have ended and match.
///
/// One that was replayed since is passed over, whatever became of that, and so are tests of endpoints: there may be fewer
/// than `GET /deliveries` lists.
#[cfg_attr(feature = "openapi", utoipa::path(
    post, path = "/deliveries/replay",
    operation_id = "replay_matching",
    request_body = OfDeliveries,
    responses(
        (status = 200, body = CountView, description = "How many it would be, of a dry run."),
        (status = 202, body = ReplayView, description = "It runs."),
    ),
))]
async fn start_of_deliveries(
    caller: Caller,
    Json(request): Json<OfDeliveries>,
) -> Result<Response, ApiError> {
    let Object(conditions) = request.filter;
    let (tenant, filter) = conditions
        .filter(caller.audience())
        .map_err(ApiError::invalid_request)?;
    let caller = caller.narrowed(tenant)?;
    let selection = ReplaySelection::Deliveries(filter);
    start(&caller, selection, request.pace, request.dry_run).await
}

/// Starts it, or only counts.
async fn start(
    caller: &Caller,
    selection: ReplaySelection,
    pace: Option<u32>,
    dry_run: bool,
) -> Result<Response, ApiError> {
    let new = NewReplay::new(selection.clone()).created_by(caller.name());
    let new = match pace {
        Some(pace) => new.pace(pace),
        None => new,
    };
    // A dry run refuses what the run would.
    new.validate().map_err(ManageError::from)?;
    if dry_run {
        let count = caller.replays().count(&selection).await?;
        let count = CountView {
            count: count.deliveries,
            count_is_exact: count.is_exact,
        };
        return Ok(axum::Json(count).into_response());
    }
    let replay = caller.replays().start(new).await?;
    let replay = axum::Json(ReplayView::of(&replay, caller.audience()));
    Ok((StatusCode::ACCEPTED, replay).into_response())
}

/// Bulk replays.
#[cfg_attr(feature = "openapi", utoipa::path(
    get, path = "/replays",
    params(ListReplays),
    responses((status = 200, body = List<ReplayView>)),
))]
async fn list(
    caller: Caller,
    Query(query): Query<ListReplays>,
) -> Result<List<ReplayView>, ApiError> {
    let page = page_request(query.limit, query.cursor);
    let caller = caller.narrowed(query.tenant)?;
    let page = caller.replays().list(page).await?;
    Ok(List::of(&page, |one| {
        ReplayView::of(one, caller.audience())
    }))
}

/// How far a bulk replay has come.
#[cfg_attr(feature = "openapi", utoipa::path(
    get, path = "/replays/{id}",
    responses((status = 200, body = ReplayView)),
))]
async fn show(caller: Caller, Id(id): Id, _: NoQuery) -> Result<axum::Json<ReplayView>, ApiError> {
    let replay = caller.replays().get(id).await?;
    Ok(axum::Json(ReplayView::of(&replay, caller.audience())))
}

/// Ends a bulk replay where it stands.
#[cfg_attr(feature = "openapi", utoipa::path(
    post, path = "/replays/{id}/cancel",
    request_body = Option<NoFields>,
    responses(
        (status = 202, body = ReplayView, description = "It makes nothing more."),
        (status = 409, description = "It has ended."),
    ),
))]
async fn cancel(
    caller: Caller,
    Id(id): Id,
    _: OptionalJson<NoFields>,
) -> Result<Response, ApiError> {
    let replay = caller.replays().cancel(id).await?;
    let replay = axum::Json(ReplayView::of(&replay, caller.audience()));
    Ok((StatusCode::ACCEPTED, replay).into_response())
}

/// The body of `POST /endpoints/{id}/replay`.
#[derive(Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(
    feature = "openapi",
    schema(as = ReplayOfEndpoint, example = json!({"since": "2026-01-01T00:00:00Z", "dry_run": true}))
)]
#[serde(deny_unknown_fields)]
struct OfEndpoint {
    since: Timestamp,
    until: Option<Timestamp>,
    status: Option<DeliveryStatus>,
    /// Deliveries a second; 500 unless given.
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 1000000))]
    pace: Option<u32>,
    /// Makes nothing, and answers with a count.
    #[serde(default)]
    dry_run: bool,
}

impl RequestBody for OfEndpoint {}

/// The body of `POST /deliveries/replay`.
#[derive(Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(
    feature = "openapi",
    schema(as = ReplayOfDeliveries, example = json!({"filter": {"status": "failed"}, "dry_run": true}))
)]
#[serde(deny_unknown_fields)]
struct OfDeliveries {
    #[cfg_attr(feature = "openapi", schema(value_type = Conditions))]
    filter: Object<Conditions>,
    /// Deliveries a second; 500 unless given.
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 1000000))]
    pace: Option<u32>,
    /// Makes nothing, and answers with a count.
    #[serde(default)]
    dry_run: bool,
}

impl RequestBody for OfDeliveries {}

/// The query of `GET /replays`.
#[derive(Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams), into_params(parameter_in = Query))]
#[serde(deny_unknown_fields)]
struct ListReplays {
    tenant: Option<Tenant>,
    #[serde(default)]
    limit: Limit,
    cursor: Option<Cursor>,
}

/// The answer to a dry run.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
struct CountView {
    count: u64,
    /// Whether all was counted: else there are more.
    count_is_exact: bool,
}

/// A replay as answers show it.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
struct ReplayView {
    id: Uuid,
    tenant: Option<Tenant>,
    selection: SelectionView,
    state: ReplayState,
    pace: u32,
    total: u64,
    total_is_exact: bool,
    done: u64,
    skipped: u64,
    created_by: Option<String>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl ReplayView {
    fn of(replay: &Replay, audience: Audience) -> Self {
        Self {
            id: replay.id,
            tenant: replay.tenant.clone(),
            selection: SelectionView::of(&replay.selection, audience),
            state: replay.state,
            pace: replay.pace,
            total: replay.total,
            total_is_exact: replay.total_is_exact,
            done: replay.done,
            skipped: replay.skipped,
            created_by: replay.created_by.clone(),
            created_at: replay.created_at,
            updated_at: replay.updated_at,
        }
    }
}

/// What was asked for, in the words of the request.
#[derive(Default, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
struct SelectionView {
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint_id: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_id: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_type: Option<EventType>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<DeliveryStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_kind: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<FailureCause>,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<Timestamp>,
}

impl SelectionView {
    fn of(selection: &ReplaySelection, audience: Audience) -> Self {
        match selection {
            ReplaySelection::Deliveries(filter) => Self::of_deliveries(filter, audience),
            ReplaySelection::Endpoint(replay) => Self {
                kind: "endpoint",
                endpoint_id: Some(replay.endpoint_id),
                status: replay.status,
                since: Some(replay.since),
                until: replay.until,
                ..Self::default()
            },
        }
    }

    fn of_deliveries(filter: &DeliveryFilter, audience: Audience) -> Self {
        // Several stand for what a tenant reads as one.
        let error_kind = filter.error_kinds.first().map(|word| {
            let kind = word.parse::<TransportErrorKind>();
            kind.map_or_else(
                |_| word.clone(),
                |kind| match filter.error_kinds.len() {
                    1 => audience.error_kind(kind).to_owned(),
                    _ => kind.as_tenant_str().to_owned(),
                },
            )
        });
        Self {
            kind: "deliveries",
            endpoint_id: filter.endpoint_id,
            event_id: filter.event_id,
            event_type: filter.event_type.clone(),
            status: filter.status,
            error_kind,
            cause: filter.cause,
            since: filter.since,
            until: filter.until,
        }
    }
}

//! `/deliveries`: deliveries, and each attempt at them.

use std::collections::BTreeMap;

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use webhook_core::{
    Attempt, BreakerState, Delivery, DeliveryFilter, DeliveryStatus, EndReason, Endpoint,
    EventType, FailureCause, HeaderLog, ManageError, Outcome, Tenant, Timestamp,
    TransportErrorKind, Wait,
};

use super::NoFields;
use crate::caller::{Audience, Caller};
use crate::error::ApiError;
use crate::extract::{Id, NoQuery, OptionalJson, Query, invalid_query};
use crate::page::{Cursor, Limit, List, page_request};

pub(super) fn routes() -> Router<crate::router::Api> {
    Router::new()
        .route("/deliveries", get(list))
        .route("/deliveries/{id}", get(show))
        .route("/deliveries/{id}/replay", post(replay))
        .route("/deliveries/{id}/cancel", post(cancel))
}

/// What the OpenAPI document says of them.
#[cfg(feature = "openapi")]
#[derive(utoipa::OpenApi)]
#[openapi(paths(list, show, replay, cancel))]
pub(super) struct Document;

/// Deliveries.
#[cfg_attr(feature = "openapi", utoipa::path(
    get, path = "/deliveries",
    params(ListDeliveries),
    responses((status = 200, body = List<DeliveryView>)),
))]
async fn list(
    caller: Caller,
    Query(query): Query<ListDeliveries>,
) -> Result<List<DeliveryView>, ApiError> {
    let page = page_request(query.limit, query.cursor);
    let (tenant, filter) = query
        .conditions()
        .filter(caller.audience())
        .map_err(invalid_query)?;
    let caller = caller.narrowed(tenant)?;
    let page = caller.deliveries().list(&filter, page).await?;
    Ok(List::of(&page, |one| {
        DeliveryView::of(one, caller.audience())
    }))
}

/// A delivery with every attempt, why it stands where it stands, and what comes next.
#[cfg_attr(feature = "openapi", utoipa::path(
    get, path = "/deliveries/{id}",
    responses((status = 200, body = DeliveryDetail)),
))]
async fn show(
    caller: Caller,
    Id(id): Id,
    _: NoQuery,
) -> Result<axum::Json<DeliveryDetail>, ApiError> {
    let delivery = caller.deliveries().get(id).await?;
    let attempts = caller.deliveries().attempts(id).await?;
    let endpoint = match caller.endpoints().get(delivery.endpoint_id).await {
        Ok(endpoint) => Some(endpoint),
        Err(ManageError::NotFound(_)) => None,
        Err(error) => return Err(error.into()),
    };
    let audience = caller.audience();
    let numbered = attempts.iter().enumerate();
    Ok(axum::Json(DeliveryDetail {
        explanation: explanation(&caller, &delivery, endpoint.as_ref()).await?,
        delivery: DeliveryView::of(&delivery, audience),
        attempts: numbered
            .map(|(index, attempt)| AttemptView::of(index + 1, attempt, audience))
            .collect(),
    }))
}

/// Sends a delivery that has ended again, as a new one.
#[cfg_attr(feature = "openapi", utoipa::path(
    post, path = "/deliveries/{id}/replay",
    request_body = Option<NoFields>,
    responses(
        (status = 202, body = Accepted, description = "The new delivery is committed."),
        (status = 409, description = "It has not ended, or its endpoint was deleted."),
    ),
))]
async fn replay(
    caller: Caller,
    Id(id): Id,
    _: OptionalJson<NoFields>,
) -> Result<Response, ApiError> {
    let delivery_id = Some(caller.deliveries().replay(id).await?);
    Ok(Accepted::with(delivery_id))
}

/// Cancels a delivery that has not ended.
#[cfg_attr(feature = "openapi", utoipa::path(
    post, path = "/deliveries/{id}/cancel",
    request_body = Option<NoFields>,
    responses(
        (status = 202, body = Accepted, description = "Nothing more is sent; an attempt that is under way ends."),
        (status = 409, description = "It has ended."),
    ),
))]
async fn cancel(
    caller: Caller,
    Id(id): Id,
    _: OptionalJson<NoFields>,
) -> Result<Response, ApiError> {
    caller.deliveries().cancel(id).await?;
    Ok(Accepted::with(None))
}

#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
struct Accepted {
    /// `accepted`.
    status: &'static str,
    /// The new one.
    #[serde(skip_serializing_if = "Option::is_none")]
    delivery_id: Option<Uuid>,
}

impl Accepted {
    fn with(delivery_id: Option<Uuid>) -> Response {
        let answer = Self {
            status: "accepted",
            delivery_id,
        };
        (StatusCode::ACCEPTED, axum::Json(answer)).into_response()
    }
}

/// The query of `GET /deliveries`.
#[derive(Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams), into_params(parameter_in = Query))]
#[serde(deny_unknown_fields)]
struct ListDeliveries {
    tenant: Option<Tenant>,
    endpoint_id: Option<Uuid>,
    event_id: Option<Uuid>,
    event_type: Option<EventType>,
    status: Option<DeliveryStatus>,
    #[cfg_attr(feature = "openapi", param(pattern = "^[a-z0-9_]{1,64}$"))]
    error_kind: Option<String>,
    cause: Option<FailureCause>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    #[serde(default)]
    limit: Limit,
    cursor: Option<Cursor>,
}

impl ListDeliveries {
    fn conditions(self) -> Conditions {
        Conditions {
            tenant: self.tenant,
            endpoint_id: self.endpoint_id,
            event_id: self.event_id,
            event_type: self.event_type,
            status: self.status,
            error_kind: self.error_kind,
            cause: self.cause,
            since: self.since,
            until: self.until,
        }
    }
}

/// Which deliveries are meant.
#[derive(Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct Conditions {
    tenant: Option<Tenant>,
    endpoint_id: Option<Uuid>,
    event_id: Option<Uuid>,
    event_type: Option<EventType>,
    status: Option<DeliveryStatus>,
    #[cfg_attr(feature = "openapi", schema(pattern = "^[a-z0-9_]{1,64}$"))]
    error_kind: Option<String>,
    cause: Option<FailureCause>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
}

impl Conditions {
    /// The tenant that is named, and the rest.
    pub(crate) fn filter(
        self,
        audience: Audience,
    ) -> Result<(Option<Tenant>, DeliveryFilter), &'static str> {
        let is_word = |word: &String| {
            (1..=64).contains(&word.len())
                && word
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        };
        if !self.error_kind.as_ref().is_none_or(is_word) {
            return Err("error_kind must be a word such as timeout or http_503");
        }
        let filter = DeliveryFilter {
            endpoint_id: self.endpoint_id,
            event_id: self.event_id,
            event_type: self.event_type,
            status: self.status,
            error_kinds: self
                .error_kind
                .map_or_else(Vec::new, |asked| error_kinds(asked, audience)),
            cause: self.cause,
            since: self.since,
            until: self.until,
        };
        Ok((self.tenant, filter))
    }
}

/// What a tenant reads as one kind.
const UNREACHABLE: [TransportErrorKind; 3] = [
    TransportErrorKind::Dns,
    TransportErrorKind::Blocked,
    TransportErrorKind::Connect,
];

/// The stored kinds that a filter means: a tenant's must not tell apart what answers do not.
fn error_kinds(asked: String, audience: Audience) -> Vec<String> {
    let hidden = |kind: &TransportErrorKind| kind.as_str() == asked;
    let is_group = |kind: &TransportErrorKind| kind.as_tenant_str() == asked;
    match audience {
        Audience::Tenant if UNREACHABLE.iter().any(is_group) => {
            UNREACHABLE.map(|kind| kind.as_str().to_owned()).into()
        }
        // The word that a tenant reads is stored nowhere.
        Audience::Tenant if UNREACHABLE.iter().any(hidden) => {
            vec![UNREACHABLE[0].as_tenant_str().to_owned()]
        }
        Audience::Operator | Audience::Tenant => vec![asked],
    }
}

/// A delivery as answers show it.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub(super) struct DeliveryView {
    id: Uuid,
    event_id: Uuid,
    endpoint_id: Uuid,
    tenant: Tenant,
    event_type: EventType,
    /// 0 if the event made it, or else how manieth replay for this endpoint it is.
    replay_no: u32,
    status: DeliveryStatus,
    attempt_count: u32,
    next_retry_at: Option<Timestamp>,
    /// `http_503`, `timeout`, ….
    last_error: Option<String>,
    end_reason: Option<EndReason>,
    cause: Option<FailureCause>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl DeliveryView {
    pub(super) fn of(delivery: &Delivery, audience: Audience) -> Self {
        Self {
            id: delivery.id,
            event_id: delivery.event_id,
            endpoint_id: delivery.endpoint_id,
            tenant: delivery.tenant.clone(),
            event_type: delivery.event_type.clone(),
            replay_no: delivery.replay_no,
            status: delivery.status,
            attempt_count: delivery.attempts,
            next_retry_at: delivery.next_retry_at,
            last_error: delivery.last_error.map(|failure| audience.failure(failure)),
            end_reason: delivery.end_reason,
            cause: delivery.cause(),
            created_at: delivery.created_at,
            updated_at: delivery.updated_at,
        }
    }
}

/// The answer of `GET /deliveries/{id}`.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
struct DeliveryDetail {
    #[serde(flatten)]
    delivery: DeliveryView,
    /// Why it stands where it stands, and what comes next.
    explanation: String,
    attempts: Vec<AttemptView>,
}

/// Why a delivery stands where it stands, and what comes next.
pub(crate) async fn explanation(
    caller: &Caller,
    delivery: &Delivery,
    endpoint: Option<&Endpoint>,
) -> Result<String, ApiError> {
    let breaker = match (endpoint, delivery.status) {
        (Some(endpoint), DeliveryStatus::Pending) => {
            let health = caller.endpoints().health(&[endpoint.id]).await?;
            let health = health.get(&endpoint.id).copied();
            health.unwrap_or_default().breaker
        }
        _ => BreakerState::Closed,
    };
    let (now, audience) = (caller.now(), caller.audience());
    Ok(explain(delivery, endpoint, breaker, now, audience))
}

fn explain(
    delivery: &Delivery,
    endpoint: Option<&Endpoint>,
    breaker: BreakerState,
    now: Timestamp,
    audience: Audience,
) -> String {
    let state = endpoint.map(|endpoint| endpoint.state);
    let Some(wait) = Wait::of(delivery, state, now) else {
        return match delivery.status {
            DeliveryStatus::Succeeded => "the endpoint has it",
            _ => ended(delivery.end_reason),
        }
        .to_owned();
    };
    let later = match wait {
        Wait::Scheduled(due) | Wait::Retry(due) => Some(due),
        Wait::Turn => None,
        Wait::Paused | Wait::Disabled => return format!("{wait}; it goes on when that is enabled"),
        _ => return wait.to_string(),
    };
    let next = next(later, endpoint, breaker, now);
    match delivery.last_error.map(|failure| audience.failure(failure)) {
        None => format!("waits for its first attempt, {next}"),
        Some(failure) => format!(
            "attempt {} failed ({failure}); it is tried again by the retry schedule, {next}",
            delivery.attempts
        ),
    }
}

/// When a delivery that waits is attempted next, at once unless `later`, and what may be in the way.
fn next(
    later: Option<Timestamp>,
    endpoint: Option<&Endpoint>,
    breaker: BreakerState,
    now: Timestamp,
) -> String {
    match breaker {
        BreakerState::Open(trip) if trip.until > later.unwrap_or(now) => {
            let until = trip.until;
            return format!(
                "but not before {until}: too much has failed of late, and the endpoint's breaker is open; then one \
                 delivery tries whether it is well again"
            );
        }
        BreakerState::HalfOpen(_) if later.is_none() => {
            return "behind the one delivery that tries whether the endpoint is well again: its breaker is half open"
                .to_owned();
        }
        _ => {}
    }
    match (later, endpoint.map(|endpoint| &endpoint.settings)) {
        (Some(due), _) => format!("due at {due}"),
        (None, Some(settings)) if settings.ordered => {
            "which is due: it comes after those before it, as the endpoint is ordered".to_owned()
        }
        (None, Some(settings)) if settings.rate_limit.is_some() => {
            "which is due: as soon as the endpoint's rate limit and a worker are free for it"
                .to_owned()
        }
        (None, _) => {
            "which is due: as soon as a worker and the endpoint's room are free for it".to_owned()
        }
    }
}

fn ended(reason: Option<EndReason>) -> &'static str {
    match reason {
        Some(EndReason::Exhausted) => "given up: every attempt of the retry schedule failed",
        Some(EndReason::Permanent) => "given up: the endpoint answered what no retry can mend",
        Some(EndReason::Expired) => "given up: it waited too long",
        Some(EndReason::Filtered) => "cancelled: the endpoint's filter does not match the event",
        Some(EndReason::Requested) => "cancelled on request",
        Some(EndReason::EndpointDeleted) => "cancelled: the endpoint was deleted",
        Some(EndReason::Corrupt) => "given up: what is stored of it cannot be read",
        Some(_) | None => "it has ended",
    }
}

/// One try.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub(super) struct AttemptView {
    number: usize,
    started_at: Timestamp,
    /// `null` where a tenant is told no more than `unreachable`.
    duration_ms: Option<u64>,
    first_byte_ms: Option<u64>,
    status: Option<u16>,
    /// Why there was no answer.
    error: Option<&'static str>,
    request_headers: BTreeMap<String, String>,
    #[cfg_attr(feature = "openapi", schema(value_type = ResponseView))]
    #[serde(flatten)]
    response: Option<ResponseView>,
}

#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
struct ResponseView {
    #[cfg_attr(feature = "openapi", schema(required = false))]
    response_headers: BTreeMap<String, String>,
    /// `null` if it is not text.
    #[cfg_attr(feature = "openapi", schema(required = false))]
    body: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
    #[cfg_attr(feature = "openapi", schema(required = false))]
    truncated: bool,
}

impl AttemptView {
    pub(super) fn of(number: usize, attempt: &Attempt, audience: Audience) -> Self {
        let (status, error) = match &attempt.outcome {
            Outcome::Response { status, .. } => (Some(*status), None),
            Outcome::Failed(kind) => (None, Some(audience.error_kind(*kind))),
        };
        let millis =
            |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self {
            number,
            started_at: attempt.started_at,
            duration_ms: audience.duration(attempt).map(millis),
            first_byte_ms: attempt.first_byte.map(millis),
            status,
            error,
            request_headers: shown(&attempt.request_headers),
            response: ResponseView::of(&attempt.outcome),
        }
    }
}

impl ResponseView {
    fn of(outcome: &Outcome) -> Option<Self> {
        let Outcome::Response {
            headers,
            body,
            truncated,
            ..
        } = outcome
        else {
            return None;
        };
        let text = std::str::from_utf8(body).ok().map(str::to_owned);
        Some(Self {
            response_headers: shown(headers),
            body_base64: text.is_none().then(|| STANDARD.encode(body)),
            body: text,
            truncated: *truncated,
        })
    }
}

/// Headers by name, the values of one name joined as [RFC 9110, 5.3](https://www.rfc-editor.org/rfc/rfc9110#section-5.3)
/// allows. The log holds no secret values.
fn shown(headers: &HeaderLog) -> BTreeMap<String, String> {
    let mut shown = BTreeMap::<String, String>::new();
    for (name, value) in headers.iter() {
        let value = String::from_utf8_lossy(value);
        let joined = shown.entry(name.to_owned());
        joined
            .and_modify(|joined| {
                joined.push_str(", ");
                joined.push_str(&value);
            })
            .or_insert_with(|| value.clone().into_owned());
    }
    shown
}

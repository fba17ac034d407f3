//! `/endpoints/{id}/test`: sends a test event to an endpoint, and shows what it answers.

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::Bytes;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;
use webhook_core::{DeliveryStatus, Dispatcher, EndReason, EventType, TestEvent, Tested};

use super::deliveries::AttemptView;
use crate::caller::{Audience, Caller};
use crate::error::ApiError;
use crate::extract::{Id, OptionalJson, RequestBody};
use crate::json::not_null;
use crate::router::Api;

/// What the type may take of a request's body.
const ROOM: usize = 1_024;

pub(super) fn routes() -> Router<Api> {
    Router::new().route("/endpoints/{id}/test", post(test))
}

/// What the OpenAPI document says of them.
#[cfg(feature = "openapi")]
#[derive(utoipa::OpenApi)]
#[openapi(paths(test))]
pub(super) struct Document;

/// Tries one test event at an endpoint, and answers with the attempt.
///
/// One test of an endpoint at a time, and 32 of all; what is sent has at most 256 KiB, unless the host sets another
/// limit.
#[cfg_attr(feature = "openapi", utoipa::path(
    post, path = "/endpoints/{id}/test",
    request_body = Option<TestRequest>,
    responses(
        (status = 200, body = TestView, description = "What came of it."),
        (status = 202, body = TestView, description = "It takes longer than a request may; its delivery shows what comes of it."),
        (status = 409, description = "The endpoint is paused or disabled, its circuit breaker is open, or another test of it is under way."),
        (status = 503, description = "The store cannot be reached; or, with the code `overloaded` and `Retry-After`, 32 tests of others are under way."),
    ),
))]
async fn test(
    caller: Caller,
    Id(id): Id,
    OptionalJson(request): OptionalJson<TestRequest>,
) -> Result<Response, ApiError> {
    let tested = caller.endpoints().test(id, request.into()).await?;
    let status = match tested.ended {
        Some(_) => StatusCode::OK,
        None => StatusCode::ACCEPTED,
    };
    let view = TestView::of(&tested, caller.audience());
    Ok((status, axum::Json(view)).into_response())
}

/// The body of `POST /endpoints/{id}/test`. `data` is kept as the text it is.
#[derive(Default, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
struct TestRequest {
    /// `webhook.test` unless given.
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    #[serde(default, deserialize_with = "not_null")]
    event_type: Option<EventType>,
    #[cfg_attr(feature = "openapi", schema(value_type = Value, required = false))]
    #[serde(default, deserialize_with = "not_null")]
    data: Option<Box<RawValue>>,
}

impl RequestBody for TestRequest {
    fn limit(dispatcher: &Dispatcher) -> usize {
        dispatcher.max_payload().saturating_add(ROOM)
    }
}

impl From<TestRequest> for TestEvent {
    fn from(request: TestRequest) -> Self {
        let mut test = Self::default();
        test.event_type = request.event_type;
        let text = request.data.map(Box::<str>::from);
        test.data = text.map(|text| Bytes::from(String::from(text)));
        test
    }
}

/// What came of a test: `accepted` while it has not ended.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
struct TestView {
    /// `accepted`, or the status of the delivery that has ended.
    status: &'static str,
    event_id: Uuid,
    delivery_id: Uuid,
    end_reason: Option<EndReason>,
    attempt: Option<AttemptView>,
}

impl TestView {
    fn of(tested: &Tested, audience: Audience) -> Self {
        let ended = tested.ended.as_ref();
        let attempt = tested.attempt.as_ref();
        Self {
            status: ended.map_or("accepted", |delivery| {
                DeliveryStatus::as_str(delivery.status)
            }),
            event_id: tested.event_id,
            delivery_id: tested.delivery_id,
            end_reason: ended.and_then(|delivery| delivery.end_reason),
            attempt: attempt.map(|attempt| AttemptView::of(1, attempt, audience)),
        }
    }
}

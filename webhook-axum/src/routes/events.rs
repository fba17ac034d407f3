//! `/events`: enqueues, shows and replays events.

use std::fmt;
use std::time::Duration;

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, StatusCode};
use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;
use webhook_core::{
    DeliveryStatus, Dispatcher, Event, EventFilter, EventType, Judgement, MAX_BATCH, NewEvent,
    Tenant, Timestamp, TraceParent,
};

use super::NoFields;
use super::deliveries::DeliveryView;
use crate::caller::Caller;
use crate::error::ApiError;
use crate::extract::{Id, Json, NoQuery, OptionalJson, Query, RequestBody, invalid_query};
use crate::extract::{parse, parse_object};
use crate::page::{Cursor, Limit, List, page_request};

/// What the fields beside `data` may take of a request's body.
const ROOM: usize = 16 * 1024;
/// The most bytes of a batch.
const MAX_BATCH_BYTES: usize = 16 * 1024 * 1024;
/// The longest time that payloads are searched over.
const MAX_WINDOW: Duration = Duration::from_secs(86_400);

pub(super) fn routes() -> Router<crate::router::Api> {
    Router::new()
        .route("/events", post(enqueue).get(list))
        .route("/events/batch", post(enqueue_batch))
        .route("/events/{id}", get(show))
        .route("/events/{id}/replay", post(replay))
}

/// What the OpenAPI document says of them.
#[cfg(feature = "openapi")]
#[derive(utoipa::OpenApi)]
#[openapi(paths(enqueue, enqueue_batch, list, show, replay))]
pub(super) struct Document;

/// Accepts an event.
///
/// The answer comes once it is committed, with all its deliveries. What is sent of it has at most 256 KiB, unless the
/// host sets another limit.
#[cfg_attr(feature = "openapi", utoipa::path(
    post, path = "/events",
    params((
        "Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255, pattern = "^[ -~]+$",
        description = "As `idempotency_key`, which must not differ.",
    )),
    request_body = EventRequest,
    responses(
        (status = 202, body = AcceptedEvent, description = "It is committed; the same key and body again give the same id."),
        (status = 409, description = "The idempotency key stands for another event."),
    ),
))]
async fn enqueue(
    caller: Caller,
    headers: HeaderMap,
    Json(mut request): Json<EventRequest>,
) -> Result<Response, ApiError> {
    request.take_key(&headers)?;
    let event = with_trace(request.event(&caller)?, trace_of(&headers));
    let event_id = caller.dispatcher().enqueue(event).await?;
    Ok(accepted(AcceptedEvent {
        status: "accepted",
        event_id,
    }))
}

/// Accepts events together, all or none.
///
/// At most 1,000 events and 16 MiB. An error names the index of the event that it is about.
#[cfg_attr(feature = "openapi", utoipa::path(
    post, path = "/events/batch",
    request_body = Batch,
    responses(
        (status = 202, body = AcceptedBatch, description = "They are committed."),
        (status = 409, description = "An idempotency key stands for another event."),
    ),
))]
async fn enqueue_batch(
    caller: Caller,
    headers: HeaderMap,
    Json(batch): Json<Batch>,
) -> Result<Response, ApiError> {
    if headers.contains_key(IDEMPOTENCY_KEY) {
        return Err(ApiError::invalid_request(
            "the header Idempotency-Key is for one event; give each event of a batch its own \
             idempotency_key",
        ));
    }
    let trace = trace_of(&headers);
    let events = batch.events(&caller)?.into_iter();
    let events = events.map(|event| with_trace(event, trace)).collect();
    let event_ids = caller.dispatcher().enqueue_batch(events).await?;
    Ok(accepted(AcceptedBatch {
        status: "accepted",
        event_ids,
    }))
}

/// Events.
#[cfg_attr(feature = "openapi", utoipa::path(
    get, path = "/events",
    params(ListEvents),
    responses((status = 200, body = List<EventSummary>)),
))]
async fn list(
    caller: Caller,
    Query(query): Query<ListEvents>,
) -> Result<List<EventSummary>, ApiError> {
    let (limit, cursor) = (query.limit, query.cursor);
    let (tenant, filter) = query.filter(caller.now())?;
    let caller = caller.narrowed(tenant)?;
    let page = caller
        .events()
        .list(&filter, page_request(limit, cursor))
        .await?;
    Ok(List::of(&page, EventSummary::of))
}

/// An event, its deliveries, and why each endpoint got it or did not.
#[cfg_attr(feature = "openapi", utoipa::path(
    get, path = "/events/{id}",
    responses((status = 200, body = EventDetail)),
))]
async fn show(caller: Caller, Id(id): Id, _: NoQuery) -> Result<axum::Json<EventDetail>, ApiError> {
    let why = caller.events().why(id).await?;
    let deliveries = why.deliveries.iter();
    let deliveries = deliveries.map(|one| DeliveryView::of(one, caller.audience()));
    Ok(axum::Json(EventDetail {
        summary: EventSummary::of(&why.event),
        content: Content::of(&why.event),
        deliveries: deliveries.collect(),
        matching: Matching {
            as_of: why.as_of,
            endpoints: why.endpoints.iter().map(JudgementView::of).collect(),
            complete: why.is_complete,
        },
    }))
}

/// Sends an event again, to the endpoints that match now.
#[cfg_attr(feature = "openapi", utoipa::path(
    post, path = "/events/{id}/replay",
    request_body = Option<NoFields>,
    responses(
        (status = 202, body = Replayed, description = "The new deliveries are committed."),
        (status = 409, description = "It is a test event, or cannot be replayed now."),
    ),
))]
async fn replay(
    caller: Caller,
    Id(id): Id,
    _: OptionalJson<NoFields>,
) -> Result<Response, ApiError> {
    let delivery_ids = caller.events().replay(id).await?;
    Ok(accepted(Replayed {
        status: "accepted",
        delivery_ids,
    }))
}

fn accepted(answer: impl Serialize) -> Response {
    (StatusCode::ACCEPTED, axum::Json(answer)).into_response()
}

#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
struct AcceptedEvent {
    /// `accepted`.
    status: &'static str,
    event_id: Uuid,
}

#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
struct AcceptedBatch {
    /// `accepted`.
    status: &'static str,
    event_ids: Vec<Uuid>,
}

#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
struct Replayed {
    /// `accepted`.
    status: &'static str,
    delivery_ids: Vec<Uuid>,
}

/// The trace that a request belongs to. One that cannot be read is ignored, as the standard asks.
fn trace_of(headers: &HeaderMap) -> Option<TraceParent> {
    let mut values = headers.get_all(TraceParent::HEADER).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return None;
    };
    value.to_str().ok()?.parse().ok()
}

fn with_trace(event: NewEvent, trace: Option<TraceParent>) -> NewEvent {
    match trace {
        Some(trace) => event.traceparent(trace),
        None => event,
    }
}

const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// The body of `POST /events`. `data` is kept as the text it is.
#[derive(Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(
    feature = "openapi",
    schema(example = json!({"event_type": "order.paid", "data": {"order": 7}}))
)]
#[serde(deny_unknown_fields)]
struct EventRequest {
    event_type: EventType,
    /// Any JSON; sent byte for byte as it stands here.
    data: Box<RawValue>,
    /// The caller's own unless given, or `default`.
    tenant: Option<Tenant>,
    /// For 24 hours the same key stands for the same event.
    #[cfg_attr(
        feature = "openapi",
        schema(min_length = 1, max_length = 255, pattern = "^[ -~]+$")
    )]
    idempotency_key: Option<String>,
    /// Not before this time.
    deliver_at: Option<Timestamp>,
}

impl RequestBody for EventRequest {
    fn limit(dispatcher: &Dispatcher) -> usize {
        dispatcher.max_payload().saturating_add(ROOM)
    }
}

impl EventRequest {
    /// Takes the idempotency key from the header, unless the body has the same.
    fn take_key(&mut self, headers: &HeaderMap) -> Result<(), ApiError> {
        for value in headers.get_all(IDEMPOTENCY_KEY) {
            let key = value
                .to_str()
                .map_err(|_| webhook_core::InvalidEvent::IdempotencyKey)?;
            match &self.idempotency_key {
                Some(other) if other != key => {
                    return Err(ApiError::invalid_request(
                        "two idempotency keys are given, and they differ",
                    ));
                }
                _ => self.idempotency_key = Some(key.to_owned()),
            }
        }
        Ok(())
    }

    fn event(self, caller: &Caller) -> Result<NewEvent, ApiError> {
        let tenant = caller.tenant(self.tenant)?;
        let data: Box<str> = self.data.into();
        let mut event =
            NewEvent::data(self.event_type.as_str(), String::from(data))?.tenant(tenant);
        if let Some(key) = &self.idempotency_key {
            event = event.idempotency_key(key)?;
        }
        if let Some(at) = self.deliver_at {
            event = event.deliver_at(at);
        }
        Ok(event)
    }
}

/// The body of `POST /events/batch`: texts of events, read one by one so that an error can name its own.
enum Batch {
    Events(Vec<Box<RawValue>>),
    TooMany,
}

impl Batch {
    fn events(self, caller: &Caller) -> Result<Vec<NewEvent>, ApiError> {
        let Self::Events(texts) = self else {
            return Err(webhook_core::BatchError::TooMany.into());
        };
        let event = |(index, text): (usize, Box<RawValue>)| {
            parse_object::<EventRequest>(text.get().as_bytes())
                .and_then(|request| request.event(caller))
                .map_err(|error| error.at(index))
        };
        texts.into_iter().enumerate().map(event).collect()
    }
}

#[cfg(feature = "openapi")]
impl utoipa::PartialSchema for Batch {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        let events = crate::openapi::array_of::<EventRequest>();
        events.max_items(Some(MAX_BATCH)).into()
    }
}

#[cfg(feature = "openapi")]
impl utoipa::ToSchema for Batch {}

impl RequestBody for Batch {
    fn limit(_: &Dispatcher) -> usize {
        MAX_BATCH_BYTES
    }

    fn parse(text: &[u8]) -> Result<Self, ApiError> {
        parse(text)
    }
}

impl<'de> Deserialize<'de> for Batch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(OfEvents)
    }
}

struct OfEvents;

impl<'de> Visitor<'de> for OfEvents {
    type Value = Batch;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of events")
    }

    /// Keeps no more than a batch may have, however many there are.
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Batch, A::Error> {
        let mut events = Vec::new();
        while events.len() < MAX_BATCH {
            match items.next_element()? {
                Some(event) => events.push(event),
                None => return Ok(Batch::Events(events)),
            }
        }
        let mut more = false;
        while items.next_element::<IgnoredAny>()?.is_some() {
            more = true;
        }
        Ok(if more {
            Batch::TooMany
        } else {
            Batch::Events(events)
        })
    }
}

/// The query of `GET /events`.
#[derive(Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams), into_params(parameter_in = Query))]
#[serde(deny_unknown_fields)]
struct ListEvents {
    tenant: Option<Tenant>,
    event_type: Option<EventType>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    /// A text in the payload; needs `since`, and `until` within 24 hours of it.
    #[cfg_attr(feature = "openapi", param(min_length = 1))]
    q: Option<String>,
    #[serde(default)]
    limit: Limit,
    cursor: Option<Cursor>,
}

impl ListEvents {
    fn filter(self, now: Timestamp) -> Result<(Option<Tenant>, EventFilter), ApiError> {
        if let Some(text) = &self.q {
            check_search(text, self.since, self.until.unwrap_or(now))?;
        }
        let filter = EventFilter::default()
            .event_type(self.event_type)
            .since(self.since)
            .until(self.until)
            .text(self.q);
        Ok((self.tenant, filter))
    }
}

/// Payloads have no index: a search reads them all, so it must say which.
pub(crate) fn check_search(
    text: &str,
    since: Option<Timestamp>,
    until: Timestamp,
) -> Result<(), ApiError> {
    if text.is_empty() || text.contains('\0') {
        return Err(invalid_query("q must be a text, not empty and without NUL"));
    }
    match since {
        Some(since) if until.since(since) <= MAX_WINDOW => Ok(()),
        _ => Err(invalid_query(
            "q needs since, and until within 24 hours of it (now unless given)",
        )),
    }
}

/// An event in a list.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
struct EventSummary {
    id: Uuid,
    tenant: Tenant,
    event_type: EventType,
    created_at: Timestamp,
    deliver_at: Option<Timestamp>,
    idempotency_key: Option<String>,
}

impl EventSummary {
    fn of(event: &Event) -> Self {
        Self {
            id: event.id,
            tenant: event.tenant.clone(),
            event_type: event.event_type.clone(),
            created_at: event.created_at,
            deliver_at: event.deliver_at,
            idempotency_key: event.idempotency.as_ref().map(|given| given.key.clone()),
        }
    }
}

/// The answer of `GET /events/{id}`.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
struct EventDetail {
    #[serde(flatten)]
    summary: EventSummary,
    #[serde(flatten)]
    content: Content,
    deliveries: Vec<DeliveryView>,
    matching: Matching,
}

/// What is sent: `data` byte for byte, or the whole body if the host made that itself.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(untagged)]
enum Content {
    Data { data: Box<RawValue> },
    Text { body: String },
    Bytes { body_base64: String },
}

impl Content {
    fn of(event: &Event) -> Self {
        let text = event
            .data()
            .and_then(|data| String::from_utf8(data.to_vec()).ok());
        if let Some(data) = text.and_then(|text| RawValue::from_string(text).ok()) {
            return Self::Data { data };
        }
        match String::from_utf8(event.body.to_vec()) {
            Ok(body) => Self::Text { body },
            Err(error) => Self::Bytes {
                body_base64: STANDARD.encode(error.as_bytes()),
            },
        }
    }
}

/// Why each of the tenant's endpoints got the event or not.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
struct Matching {
    as_of: Timestamp,
    endpoints: Vec<JudgementView>,
    /// Whether these, and the deliveries, are all.
    complete: bool,
}

#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
struct JudgementView {
    endpoint_id: Uuid,
    matches: bool,
    reason: &'static str,
    explanation: String,
    /// `recorded` if it is what was decided, `current` if it is what the settings say now.
    basis: &'static str,
    delivery_id: Option<Uuid>,
    status: Option<DeliveryStatus>,
    next_retry_at: Option<Timestamp>,
    /// What the delivery waits for.
    waits: Option<String>,
}

impl JudgementView {
    fn of(judgement: &Judgement) -> Self {
        let delivery = judgement.delivery.as_ref();
        Self {
            endpoint_id: judgement.endpoint_id,
            matches: judgement.matches(),
            reason: judgement.reason.as_str(),
            explanation: judgement.reason.to_string(),
            basis: judgement.basis.as_str(),
            delivery_id: delivery.map(|delivery| delivery.id),
            status: delivery.map(|delivery| delivery.status),
            next_retry_at: delivery.and_then(|delivery| delivery.next_retry_at),
            waits: judgement.wait.map(|wait| wait.to_string()),
        }
    }
}

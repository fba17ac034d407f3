//! `/events`: enqueueing, looking at, and replaying what happened.

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
    Tenant, Timestamp,
};

use super::NoFields;
use super::deliveries::DeliveryView;
use crate::caller::Caller;
use crate::error::ApiError;
use crate::extract::{Id, Json, OptionalJson, Query, RequestBody, invalid_query};
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

async fn enqueue(
    caller: Caller,
    headers: HeaderMap,
    Json(mut request): Json<EventRequest>,
) -> Result<Response, ApiError> {
    request.take_key(&headers)?;
    let event = request.event(&caller)?;
    let event_id = caller.dispatcher().enqueue(event).await?;
    Ok(accepted(AcceptedEvent {
        status: "accepted",
        event_id,
    }))
}

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
    let event_ids = caller
        .dispatcher()
        .enqueue_batch(batch.events(&caller)?)
        .await?;
    Ok(accepted(AcceptedBatch {
        status: "accepted",
        event_ids,
    }))
}

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

async fn show(caller: Caller, Id(id): Id) -> Result<axum::Json<EventDetail>, ApiError> {
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
struct AcceptedEvent {
    status: &'static str,
    event_id: Uuid,
}

#[derive(Serialize)]
struct AcceptedBatch {
    status: &'static str,
    event_ids: Vec<Uuid>,
}

#[derive(Serialize)]
struct Replayed {
    status: &'static str,
    delivery_ids: Vec<Uuid>,
}

const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// The body of `POST /events`. `data` is kept as the text it is.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EventRequest {
    event_type: EventType,
    data: Box<RawValue>,
    tenant: Option<Tenant>,
    idempotency_key: Option<String>,
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
#[serde(deny_unknown_fields)]
struct ListEvents {
    tenant: Option<Tenant>,
    event_type: Option<EventType>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
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
        let filter = EventFilter {
            event_type: self.event_type,
            since: self.since,
            until: self.until,
            text: self.q,
        };
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
struct Matching {
    as_of: Timestamp,
    endpoints: Vec<JudgementView>,
    /// Whether these, and the deliveries, are all.
    complete: bool,
}

#[derive(Serialize)]
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

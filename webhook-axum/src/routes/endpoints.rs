//! `/endpoints`: where events go, and how.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::{HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use webhook_core::{
    Backlog, BreakerState, CustomHeaders, Endpoint, EndpointChange, EndpointFilter,
    EndpointSettings, EndpointState, EndpointUrl, EventPattern, Health, InvalidFilter,
    InvalidSecret, InvalidState, NewEndpoint, PayloadFilter, RateLimit, Secret, StateReason,
    Tenant, Timestamp,
};

use super::NoFields;
use crate::caller::Caller;
use crate::error::ApiError;
use crate::extract::{Id, Json, NoQuery, OptionalJson, Query, RequestBody};
use crate::json::{Object, Pairs, Patch, Seconds, Unambiguous, not_null};
use crate::page::{Cursor, Limit, List, page_request};

/// What stands for a secret value that is not shown.
pub(crate) const HIDDEN: &str = "***";
/// How long an old secret may go on signing after a rotation.
const MAX_OVERLAP: Duration = Duration::from_secs(30 * 86_400);

pub(super) fn routes() -> Router<crate::router::Api> {
    Router::new()
        .route("/endpoints", post(create).get(list))
        .route("/endpoints/{id}", get(show).patch(update).delete(delete))
        .route("/endpoints/{id}/rotate-secret", post(rotate_secret))
}

/// What the OpenAPI document says of them.
#[cfg(feature = "openapi")]
#[derive(utoipa::OpenApi)]
#[openapi(paths(create, list, show, update, delete, rotate_secret))]
pub(super) struct Document;

/// Creates an endpoint.
///
/// The answer alone shows its secret.
#[cfg_attr(feature = "openapi", utoipa::path(
    post, path = "/endpoints",
    request_body = NewEndpointBody,
    responses(
        (status = 201, body = WithSecret, description = "It is created, with this secret."),
        (status = 422, description = "The network policy forbids the URL, or the tenant has as many endpoints as it may have."),
    ),
))]
async fn create(
    caller: Caller,
    Json(request): Json<EndpointRequest>,
) -> Result<Response, ApiError> {
    let new = request.new_endpoint(&caller)?;
    let endpoint = caller.endpoints().create(new).await?;
    let mut view = EndpointView::of(&endpoint, Health::default());
    view.url = endpoint.url.to_string();
    Ok(with_secret(StatusCode::CREATED, view, &endpoint))
}

/// Endpoints.
#[cfg_attr(feature = "openapi", utoipa::path(
    get, path = "/endpoints",
    params(ListEndpoints),
    responses((status = 200, body = List<EndpointView>)),
))]
async fn list(
    caller: Caller,
    Query(query): Query<ListEndpoints>,
) -> Result<List<EndpointView>, ApiError> {
    let caller = caller.narrowed(query.tenant)?;
    let page = page_request(query.limit, query.cursor);
    let endpoints = caller.endpoints();
    let filter = EndpointFilter::default().state(query.state.map(|it| it.0));
    let page = endpoints.find(&filter, page).await?;
    let ids: Vec<_> = page.items.iter().map(|endpoint| endpoint.id).collect();
    let health = endpoints.health(&ids).await?;
    Ok(List::of(&page, |endpoint| {
        let health = health.get(&endpoint.id).copied();
        EndpointView::of(endpoint, health.unwrap_or_default())
    }))
}

/// An endpoint.
#[cfg_attr(feature = "openapi", utoipa::path(
    get, path = "/endpoints/{id}",
    responses((status = 200, body = EndpointView)),
))]
async fn show(
    caller: Caller,
    Id(id): Id,
    _: NoQuery,
) -> Result<axum::Json<EndpointView>, ApiError> {
    let endpoint = caller.endpoints().get(id).await?;
    let mut view = with_health(&caller, &endpoint).await?;
    view.backlog = Some(BacklogView::of(caller.endpoints().backlog(id).await?));
    Ok(axum::Json(view))
}

async fn with_health(caller: &Caller, endpoint: &Endpoint) -> Result<EndpointView, ApiError> {
    let health = caller.endpoints().health(&[endpoint.id]).await?;
    let health = health.get(&endpoint.id).copied();
    Ok(EndpointView::of(endpoint, health.unwrap_or_default()))
}

/// An endpoint after a change: that is told, and a new secret with it, even if its health cannot be read.
async fn changed(caller: &Caller, endpoint: &Endpoint) -> EndpointView {
    let view = with_health(caller, endpoint).await;
    view.unwrap_or_else(|_| EndpointView::of(endpoint, Health::default()))
}

/// Changes what is named; `null` brings the default back.
///
/// The state `enabled` also closes its breaker and forgets its failures.
#[cfg_attr(feature = "openapi", utoipa::path(
    patch, path = "/endpoints/{id}",
    request_body = EndpointPatch,
    responses(
        (status = 200, body = EndpointView),
        (status = 409, description = "Others change it at the same time; try again."),
        (status = 422, description = "The network policy forbids the URL."),
    ),
))]
async fn update(
    caller: Caller,
    Id(id): Id,
    Json(request): Json<EndpointRequest>,
) -> Result<axum::Json<EndpointView>, ApiError> {
    let endpoint = request.update(&caller, id).await?;
    Ok(axum::Json(changed(&caller, &endpoint).await))
}

/// Deletes an endpoint; deliveries that have not ended are cancelled.
#[cfg_attr(feature = "openapi", utoipa::path(
    delete, path = "/endpoints/{id}",
    request_body = Option<NoFields>,
    responses((status = 204, description = "It is deleted.")),
))]
async fn delete(
    caller: Caller,
    Id(id): Id,
    _: OptionalJson<NoFields>,
) -> Result<StatusCode, ApiError> {
    caller.endpoints().delete(id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Makes a new secret; the old one signs beside it for a while.
#[cfg_attr(feature = "openapi", utoipa::path(
    post, path = "/endpoints/{id}/rotate-secret",
    request_body = Option<Rotation>,
    responses(
        (status = 200, body = WithSecret, description = "The new secret, which nothing shows again."),
        (status = 409, description = "Others change it at the same time; try again."),
    ),
))]
async fn rotate_secret(
    caller: Caller,
    Id(id): Id,
    OptionalJson(request): OptionalJson<Rotation>,
) -> Result<Response, ApiError> {
    let overlap = request.overlap()?;
    let endpoint = caller.endpoints().rotate_secret(id, overlap).await?;
    let view = changed(&caller, &endpoint).await;
    Ok(with_secret(StatusCode::OK, view, &endpoint))
}

/// The two answers that show a secret. No cache may keep them.
fn with_secret(status: StatusCode, view: EndpointView, endpoint: &Endpoint) -> Response {
    let secret = endpoint.secrets.first();
    let answer = WithSecret {
        endpoint: view,
        secret: secret.map(|newest| newest.secret.expose()),
    };
    let mut response = (status, axum::Json(answer)).into_response();
    let no_store = HeaderValue::from_static("no-store");
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, no_store);
    response
}

/// The query of `GET /endpoints`.
#[derive(Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams), into_params(parameter_in = Query))]
#[serde(deny_unknown_fields)]
struct ListEndpoints {
    tenant: Option<Tenant>,
    #[cfg_attr(feature = "openapi", param(value_type = Option<EndpointState>))]
    state: Option<GivenState>,
    #[serde(default)]
    limit: Limit,
    cursor: Option<Cursor>,
}

/// The body of `POST /endpoints/{id}/rotate-secret`.
#[derive(Default, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
struct Rotation {
    /// 86400 unless given. At most 5 secrets sign at once: of more, the oldest no longer does.
    #[cfg_attr(feature = "openapi", schema(minimum = 0, maximum = 2592000))]
    overlap_seconds: Option<Seconds>,
}

impl RequestBody for Rotation {}

impl Rotation {
    fn overlap(&self) -> Result<Duration, ApiError> {
        let day = Duration::from_secs(86_400);
        match self.overlap_seconds.map_or(day, |given| given.0) {
            overlap if overlap <= MAX_OVERLAP => Ok(overlap),
            _ => Err(ApiError::invalid(
                "invalid_setting",
                "overlap_seconds must be at most 2592000",
            )),
        }
    }
}

/// The body of `POST /endpoints` and `PATCH /endpoints/{id}`. One type, because all settings are the same;
/// what only one of them takes is checked apart. No `Debug`: it holds secrets.
#[derive(Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct EndpointRequest {
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    #[serde(default, deserialize_with = "not_null")]
    url: Option<EndpointUrl>,
    /// The caller's own unless given, or `default`.
    tenant: Option<Tenant>,
    /// Made unless given.
    secret: Option<GivenSecret>,
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    #[serde(default, deserialize_with = "not_null")]
    state: Option<GivenState>,
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, max_length = 1024))]
    #[serde(default)]
    description: Patch<String>,
    /// All unless given.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Vec<EventPattern>>, max_items = 256))]
    #[serde(default)]
    event_types: Patch<Vec<EventPattern>>,
    #[cfg_attr(feature = "openapi", schema(value_type = Option<PayloadFilter>))]
    #[serde(default)]
    filter: Patch<GivenFilter>,
    /// Sent with each request. Together with `secret_headers` at most 32, and 8 KiB.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Pairs>))]
    #[serde(default)]
    headers: Patch<Pairs>,
    /// The same, and never shown.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Pairs>))]
    #[serde(default)]
    secret_headers: Patch<Pairs>,
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Rate>))]
    #[serde(default)]
    rate_limit: Patch<Object<Rate>>,
    #[cfg_attr(feature = "openapi", schema(value_type = Option<u32>, minimum = 1, maximum = 1000))]
    #[serde(default)]
    max_in_flight: Patch<u32>,
    /// One after the other, in the order of events.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<bool>))]
    #[serde(default)]
    ordered: Patch<bool>,
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Seconds>, minimum = 1, maximum = 60))]
    #[serde(default)]
    timeout_seconds: Patch<Seconds>,
    /// Seconds before each further attempt.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Vec<crate::openapi::types::RetryDelaySchema>>, max_items = 20))]
    #[serde(default)]
    retry_schedule: Patch<Vec<Seconds>>,
}

impl RequestBody for EndpointRequest {}

#[cfg(feature = "openapi")]
crate::openapi::part! {
    /// What of an [`EndpointRequest`] makes an endpoint.
    NewEndpointBody of EndpointRequest, without ["state"], with ["url"],
    as {"url": "https://example.com/hooks", "event_types": ["order.*"]}
}

#[cfg(feature = "openapi")]
crate::openapi::part! {
    /// What of an [`EndpointRequest`] changes one.
    EndpointPatch of EndpointRequest, without ["tenant", "secret"], with [],
    as {"description": "orders", "max_in_flight": 4}
}

impl EndpointRequest {
    pub(crate) fn new_endpoint(self, caller: &Caller) -> Result<NewEndpoint, ApiError> {
        if self.state.is_some() {
            let sentence = "a new endpoint is enabled; change its state afterwards";
            return Err(ApiError::invalid_request(sentence));
        }
        let settings = self.settings(&EndpointSettings::default())?;
        let url = self.url;
        let url = url.ok_or_else(|| ApiError::invalid_request("missing field `url`"))?;
        if has_hidden_query(&url) {
            return Err(nothing_hidden());
        }
        let mut new = NewEndpoint::with_settings(url, settings).tenant(caller.tenant(self.tenant)?);
        if let Some(GivenSecret(secret)) = self.secret {
            new = new.secret(secret);
        }
        Ok(new)
    }

    /// Changes all that is asked for of the endpoint with this id, or nothing.
    pub(crate) async fn update(&self, caller: &Caller, id: Uuid) -> Result<Endpoint, ApiError> {
        self.check_change()?;
        // A change that is refused leaves everything as it is, and that is not stored.
        let mut refused = None;
        let change = |wanted: &mut EndpointChange| refused = self.apply(wanted).err();
        let endpoint = caller.endpoints().update(id, change).await?;
        refused.map_or(Ok(endpoint), Err)
    }

    fn check_change(&self) -> Result<(), ApiError> {
        if self.tenant.is_some() {
            let sentence = "an endpoint's tenant cannot be changed";
            return Err(ApiError::invalid_request(sentence));
        }
        if self.secret.is_some() {
            let sentence = "a secret is changed with POST /endpoints/{id}/rotate-secret";
            return Err(ApiError::invalid_request(sentence));
        }
        Ok(())
    }

    /// Changes all that is asked for, or nothing.
    fn apply(&self, wanted: &mut EndpointChange) -> Result<(), ApiError> {
        let url = self.changed_url(&wanted.url)?;
        let is_elsewhere = url.as_url().origin() != wanted.url.as_url().origin();
        if is_elsewhere && self.keeps_a_secret(&wanted.settings.headers) {
            return Err(ApiError::invalid_request(
                "secret_headers: they were given for another scheme, host or port than the new URL has: give their values \
                 anew, or none",
            ));
        }
        wanted.settings = self.settings(&wanted.settings)?;
        wanted.url = url;
        if let Some(GivenState(state)) = self.state {
            wanted.state = state;
            // Also of one that is: whoever asks for it wants it to resume.
            wanted.recover = state == EndpointState::Enabled;
        }
        Ok(())
    }

    /// The URL as it shall be. One as answers show it, with its query hidden, stays as it is.
    fn changed_url(&self, current: &EndpointUrl) -> Result<EndpointUrl, ApiError> {
        match &self.url {
            None => Ok(current.clone()),
            Some(url) if !has_hidden_query(url) => Ok(url.clone()),
            Some(url) if url.as_str() == shown_url(current) => Ok(current.clone()),
            Some(_) => Err(nothing_hidden()),
        }
    }

    /// Whether a secret header would be sent on whose value the request does not have. Who changes an endpoint need not
    /// know it, and must not learn it from a server of their own.
    fn keeps_a_secret(&self, current: &CustomHeaders) -> bool {
        match &self.secret_headers {
            Patch::Keep => current.as_map().values().any(HeaderValue::is_sensitive),
            Patch::Reset => false,
            Patch::Set(Pairs(pairs)) => pairs.iter().any(|(_, value)| value == HIDDEN),
        }
    }

    /// `current` with what is asked for.
    fn settings(&self, current: &EndpointSettings) -> Result<EndpointSettings, ApiError> {
        let mut settings = EndpointSettings {
            headers: self.custom_headers(&current.headers)?,
            ..current.clone()
        };
        self.description
            .apply(&mut settings.description, |text| text);
        self.event_types.apply(&mut settings.event_types, |all| all);
        self.filter
            .apply(&mut settings.filter, |filter| Some(filter.0));
        self.rate_limit
            .apply(&mut settings.rate_limit, |rate| Some(rate.0.into()));
        self.max_in_flight.apply(&mut settings.max_in_flight, Some);
        self.ordered.apply(&mut settings.ordered, |ordered| ordered);
        self.timeout_seconds
            .apply(&mut settings.timeout, |seconds| Some(seconds.0));
        self.retry_schedule
            .apply(&mut settings.retry_schedule, |delays| {
                Some(delays.iter().map(|delay| delay.0).collect())
            });
        Ok(settings)
    }

    fn custom_headers(&self, current: &CustomHeaders) -> Result<CustomHeaders, ApiError> {
        let plain = wanted_headers(&self.headers, current, false)?;
        let secret = wanted_headers(&self.secret_headers, current, true)?;
        Ok(CustomHeaders::new(borrowed(&plain), borrowed(&secret))?)
    }
}

/// A URL as answers show it: its query may hold a token.
pub(crate) fn shown_url(url: &EndpointUrl) -> String {
    let mut shown = url.as_url().clone();
    if shown.query().is_some_and(|query| !query.is_empty()) {
        shown.set_query(Some(HIDDEN));
    }
    shown.into()
}

fn has_hidden_query(url: &EndpointUrl) -> bool {
    url.as_url().query() == Some(HIDDEN)
}

fn nothing_hidden() -> ApiError {
    ApiError::invalid_request("url: *** stands for a query that is there already")
}

/// The plain or the secret headers as they shall be. A secret's `***`, as answers show it, leaves it as it is.
fn wanted_headers(
    patch: &Patch<Pairs>,
    current: &CustomHeaders,
    secret: bool,
) -> Result<Vec<(String, String)>, ApiError> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let is_kept = |value: &HeaderValue| value.is_sensitive() == secret;
    match patch {
        Patch::Reset => Ok(Vec::new()),
        Patch::Keep => {
            let kept = current.as_map().iter().filter(|(_, value)| is_kept(value));
            Ok(kept
                .map(|(name, value)| (name.to_string(), text(value)))
                .collect())
        }
        Patch::Set(Pairs(pairs)) => pairs
            .iter()
            .map(|(name, value)| match current.as_map().get(name) {
                _ if !secret || value != HIDDEN => Ok((name.clone(), value.clone())),
                Some(now) if is_kept(now) => Ok((name.clone(), text(now))),
                _ => Err(ApiError::invalid_request(
                    "secret_headers: *** stands for a value that is there already",
                )),
            })
            .collect(),
    }
}

fn borrowed(pairs: &[(String, String)]) -> impl Iterator<Item = (&str, &str)> {
    pairs
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
}

/// `{"limit": 100, "per_seconds": 60}`.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
struct Rate {
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 1000000))]
    limit: u32,
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 86400))]
    per_seconds: Seconds,
}

impl From<Rate> for RateLimit {
    fn from(rate: Rate) -> Self {
        Self {
            limit: rate.limit,
            per: rate.per_seconds.0,
        }
    }
}

#[derive(Deserialize)]
#[serde(try_from = "String")]
struct GivenSecret(Secret);

impl TryFrom<String> for GivenSecret {
    type Error = InvalidSecret;

    fn try_from(text: String) -> Result<Self, InvalidSecret> {
        text.parse().map(Self)
    }
}

/// From a string only: serde would read `{"paused": null}` as well.
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct GivenState(pub(crate) EndpointState);

impl TryFrom<String> for GivenState {
    type Error = InvalidState;

    fn try_from(text: String) -> Result<Self, InvalidState> {
        text.parse().map(Self)
    }
}

#[derive(Clone, Deserialize)]
#[serde(try_from = "Unambiguous")]
struct GivenFilter(PayloadFilter);

impl TryFrom<Unambiguous> for GivenFilter {
    type Error = InvalidFilter;

    fn try_from(value: Unambiguous) -> Result<Self, InvalidFilter> {
        PayloadFilter::new(&value.0).map(Self)
    }
}

/// An endpoint as answers show it: without its secret and its URL's query, and with the names only of its secret
/// headers.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
struct EndpointView {
    id: Uuid,
    tenant: Tenant,
    url: String,
    event_types: Vec<EventPattern>,
    filter: Option<PayloadFilter>,
    description: String,
    headers: BTreeMap<String, String>,
    secret_headers: BTreeMap<String, &'static str>,
    rate_limit: Option<Rate>,
    max_in_flight: Option<u32>,
    ordered: bool,
    timeout_seconds: Option<Seconds>,
    retry_schedule: Option<Vec<Seconds>>,
    state: EndpointState,
    state_reason: Option<StateReason>,
    health: HealthView,
    breaker: BreakerView,
    /// Where one endpoint is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    backlog: Option<BacklogView>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

/// Both `null` for one that does well.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
struct HealthView {
    /// Since about when nothing but failures has come from it.
    failing_since: Option<Timestamp>,
    /// When the host was told of that.
    notified_at: Option<Timestamp>,
}

/// What waits for an endpoint, each counted up to 10,000.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
struct BacklogView {
    /// Deliveries that are due and not taken up.
    due: u64,
    /// Deliveries whose time has not come.
    parked: u64,
    /// When the first of them all is, or was, due.
    oldest_due: Option<Timestamp>,
}

impl BacklogView {
    fn of(backlog: Backlog) -> Self {
        Self {
            due: backlog.due,
            parked: backlog.parked,
            oldest_due: backlog.oldest_due,
        }
    }
}

#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
struct BreakerView {
    /// `closed`, `open` or `half_open`.
    #[cfg_attr(feature = "openapi", schema(pattern = "^(closed|open|half_open)$"))]
    state: &'static str,
    /// How often it has opened without having closed in between.
    trips: u32,
    opened_at: Option<Timestamp>,
    /// Until when it is open.
    until: Option<Timestamp>,
}

impl BreakerView {
    fn of(breaker: BreakerState) -> Self {
        let (state, trip) = match breaker {
            BreakerState::Closed => ("closed", None),
            BreakerState::Open(trip) => ("open", Some(trip)),
            BreakerState::HalfOpen(trip) => ("half_open", Some(trip)),
        };
        Self {
            state,
            trips: trip.map_or(0, |trip| trip.trips),
            opened_at: trip.map(|trip| trip.opened_at),
            until: trip.map(|trip| trip.until),
        }
    }
}

/// An endpoint and the secret that was just made for it.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
struct WithSecret<'a> {
    #[serde(flatten)]
    endpoint: EndpointView,
    secret: Option<&'a str>,
}

impl EndpointView {
    fn of(endpoint: &Endpoint, health: Health) -> Self {
        let settings = endpoint.settings.clone();
        let headers = settings.headers.as_map();
        let (secret, plain): (Vec<_>, Vec<_>) =
            headers.iter().partition(|(_, value)| value.is_sensitive());
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        Self {
            id: endpoint.id,
            tenant: endpoint.tenant.clone(),
            url: shown_url(&endpoint.url),
            event_types: settings.event_types,
            filter: settings.filter,
            description: settings.description,
            headers: plain
                .into_iter()
                .map(|(name, value)| (name.to_string(), text(value)))
                .collect(),
            secret_headers: secret
                .into_iter()
                .map(|(name, _)| (name.to_string(), HIDDEN))
                .collect(),
            rate_limit: settings.rate_limit.map(|rate| Rate {
                limit: rate.limit,
                per_seconds: Seconds(rate.per),
            }),
            max_in_flight: settings.max_in_flight,
            ordered: settings.ordered,
            timeout_seconds: settings.timeout.map(Seconds),
            retry_schedule: settings
                .retry_schedule
                .map(|delays| delays.into_iter().map(Seconds).collect()),
            state: endpoint.state,
            state_reason: endpoint.state_reason,
            health: HealthView {
                failing_since: health.failing_since,
                notified_at: health.notified_at,
            },
            breaker: BreakerView::of(health.breaker),
            backlog: None,
            created_at: endpoint.created_at,
            updated_at: endpoint.updated_at,
        }
    }
}

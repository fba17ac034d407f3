//! `/dashboard/endpoints`: where events go, and how.

use std::time::Duration;

use askama::Template;
use axum::Router;
use axum::response::Response;
use axum::routing::{get, post};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;
use webhook_core::{
    Backlog, BreakerState, Delivery, DeliveryFilter, Endpoint, EndpointChange, EndpointFilter,
    EndpointState, Health, PageRequest, RetryPolicy, Stats, Tenant, TestEvent, Timestamp,
};

use super::chart::Chart;
use super::deliveries::{Asked as Searched, cursor, query, read};
use super::format::{Shown, capital, count, percent, span};
use super::holds::{Hold, Holds};
use super::names::Names;
use super::overview::{Asked, figures, lateness, up_to};
use super::session::Fields;
use super::shell::{PageError, Shell, page, page_with};
use crate::caller::{Audience, Caller};
use crate::error::ApiError;
use crate::extract::{Id, Query, parse_object};
use crate::page::{Limit, page_request};
use crate::router::Api;
use crate::routes::endpoints::{EndpointRequest, GivenState, HIDDEN, shown_url};

/// What stands for a retry schedule without retries.
const NO_DELAYS: &str = "none";
/// How long the old secret may go on signing: what the form sends, what it shows, and how long that is. The first is
/// chosen unless another one is.
const OVERLAPS: [(&str, &str, Duration); 4] = [
    ("day", "a day", Duration::from_secs(86_400)),
    ("hour", "an hour", Duration::from_secs(3_600)),
    ("week", "a week", Duration::from_secs(7 * 86_400)),
    ("none", "no time at all", Duration::ZERO),
];

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/dashboard/endpoints", get(list).post(create))
        .route("/dashboard/endpoints/new", get(ask))
        .route("/dashboard/endpoints/{id}", get(show))
        .route("/dashboard/endpoints/{id}/edit", get(edit).post(update))
        .route("/dashboard/endpoints/{id}/state", post(set_state))
        .route("/dashboard/endpoints/{id}/test", post(test))
        .route("/dashboard/endpoints/{id}/rotate", post(rotate))
        .route("/dashboard/endpoints/{id}/delete", post(delete))
}

#[derive(Template)]
#[template(path = "endpoints.html")]
struct ListPage {
    shell: Shell,
    asked: Searched,
    states: [EndpointState; 3],
    rows: Vec<Row>,
    next: Option<String>,
}

struct Row {
    endpoint: Endpoint,
    url: String,
    breaker: &'static str,
    success: String,
    chart: Chart,
}

/// What the search asked for.
#[derive(Deserialize)]
struct Sought {
    tenant: Option<Tenant>,
    state: Option<GivenState>,
}

async fn list(
    shell: Shell,
    caller: Caller,
    Query(asked): Query<Searched>,
) -> Result<Response, PageError> {
    let Sought { tenant, state } = read(&asked, &["tenant", "state"])?;
    let caller = caller.narrowed(tenant)?;
    let filter = EndpointFilter::default().state(state.map(|it| it.0));
    let request = page_request(Limit::default(), cursor(&asked)?);
    let found = caller.endpoints().find(&filter, request).await?;
    let ids: Vec<_> = found.items.iter().map(|it| it.id).collect();
    let health = caller.endpoints().health(&ids).await?;
    let mut trends = caller.trends(&ids).await?;
    let now = caller.now();
    let rows = found.items.into_iter().filter_map(|endpoint| {
        let trend = trends.remove(&endpoint.id)?;
        let total = trend.total();
        Some(Row {
            url: shown_url(&endpoint.url),
            breaker: breaker(health.get(&endpoint.id)),
            success: percent(total.succeeded, total.attempts()),
            chart: Chart::trend(&trend, now),
            endpoint,
        })
    });
    Ok(page(&ListPage {
        shell,
        rows: rows.collect(),
        next: query(&asked, found.next),
        states: [
            EndpointState::Enabled,
            EndpointState::Paused,
            EndpointState::Disabled,
        ],
        asked,
    }))
}

pub(super) fn breaker(health: Option<&Health>) -> &'static str {
    health.map_or("closed", |it| breaker_of(it.breaker))
}

pub(super) fn breaker_of(state: BreakerState) -> &'static str {
    match state {
        BreakerState::Closed => "closed",
        BreakerState::Open(_) => "open",
        BreakerState::HalfOpen(_) => "half_open",
    }
}

/// The form of an endpoint, with what was typed.
#[derive(Template)]
#[template(path = "endpoint_form.html")]
struct FormPage {
    shell: Shell,
    id: Option<Uuid>,
    error: Option<String>,
    draft: Draft,
}

#[derive(Default)]
struct Draft {
    url: String,
    tenant: String,
    description: String,
    event_types: String,
    filter: String,
    headers: String,
    secret_headers: String,
    rate_limit: String,
    rate_seconds: String,
    max_in_flight: String,
    timeout_seconds: String,
    retry_schedule: String,
    ordered: bool,
}

impl Draft {
    fn of(endpoint: &Endpoint) -> Self {
        let settings = &endpoint.settings;
        let lines = |secret: bool| {
            let kept = settings
                .headers
                .as_map()
                .iter()
                .filter(|(_, it)| it.is_sensitive() == secret);
            let line = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
                let value = String::from_utf8_lossy(value.as_bytes());
                format!("{name}: {}", if secret { HIDDEN } else { &value })
            };
            kept.map(line).collect::<Vec<_>>().join("\n")
        };
        Self {
            url: shown_url(&endpoint.url),
            tenant: endpoint.tenant.to_string(),
            description: settings.description.clone(),
            event_types: settings
                .event_types
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(", "),
            filter: settings
                .filter
                .as_ref()
                .map_or_else(String::new, |it| it.to_json().to_string()),
            headers: lines(false),
            secret_headers: lines(true),
            rate_limit: settings
                .rate_limit
                .map_or_else(String::new, |it| it.limit.to_string()),
            rate_seconds: settings
                .rate_limit
                .map_or_else(String::new, |it| seconds(it.per)),
            max_in_flight: settings
                .max_in_flight
                .map_or_else(String::new, |it| it.to_string()),
            timeout_seconds: settings.timeout.map_or_else(String::new, seconds),
            retry_schedule: settings
                .retry_schedule
                .as_deref()
                .map_or_else(String::new, joined),
            ordered: settings.ordered,
        }
    }

    fn typed(fields: &Fields) -> Self {
        let text = |name| unified(fields.get(name).unwrap_or_default());
        Self {
            url: text("url"),
            tenant: text("tenant"),
            description: text("description"),
            event_types: text("event_types"),
            filter: text("filter"),
            headers: text("headers"),
            secret_headers: text("secret_headers"),
            rate_limit: text("rate_limit"),
            rate_seconds: text("rate_seconds"),
            max_in_flight: text("max_in_flight"),
            timeout_seconds: text("timeout_seconds"),
            retry_schedule: text("retry_schedule"),
            ordered: fields.get("ordered").is_some(),
        }
    }

    /// The request that the API takes, so that it is judged as one of the API's. What stands there as it was `shown` is
    /// left out: nobody asks for it.
    fn request(&self, shown: &Self) -> Result<EndpointRequest, ApiError> {
        let mut object = Map::new();
        let fields: [(_, _, _, Parse); 9] = [
            ("url", &self.url, &shown.url, text),
            ("tenant", &self.tenant, &shown.tenant, text),
            ("description", &self.description, &shown.description, text),
            ("event_types", &self.event_types, &shown.event_types, words),
            (
                "max_in_flight",
                &self.max_in_flight,
                &shown.max_in_flight,
                number,
            ),
            (
                "timeout_seconds",
                &self.timeout_seconds,
                &shown.timeout_seconds,
                number,
            ),
            (
                "retry_schedule",
                &self.retry_schedule,
                &shown.retry_schedule,
                delays,
            ),
            ("headers", &self.headers, &shown.headers, pairs),
            (
                "secret_headers",
                &self.secret_headers,
                &shown.secret_headers,
                pairs,
            ),
        ];
        for (name, typed, shown, parse) in fields {
            if *typed != unified(shown) {
                object.insert(name.to_owned(), parse(name, typed)?);
            }
        }
        if self.ordered != shown.ordered {
            object.insert("ordered".to_owned(), json!(self.ordered));
        }
        let rate = (&self.rate_limit, &self.rate_seconds);
        if rate != (&shown.rate_limit, &shown.rate_seconds) {
            object.insert("rate_limit".to_owned(), self.rate()?);
        }
        let mut text = Value::Object(object).to_string();
        if self.filter != unified(&shown.filter) {
            // It goes in as the text it is, so that a key that stands twice is found.
            let filter = if self.filter.is_empty() {
                "null"
            } else {
                &self.filter
            };
            serde_json::from_str::<&serde_json::value::RawValue>(filter)
                .map_err(|error| ApiError::invalid_request(format!("filter: {error}")))?;
            let comma = if text == "{}" { "" } else { "," };
            text.truncate(text.len() - 1);
            text.push_str(&format!("{comma}\"filter\":{filter}}}"));
        }
        parse_object(text.as_bytes()).map_err(without_place)
    }

    fn rate(&self) -> Result<Value, ApiError> {
        if self.rate_limit.is_empty() {
            return Ok(Value::Null);
        }
        let seconds = match &*self.rate_seconds {
            "" => "1",
            seconds => seconds,
        };
        let (limit, per) = (
            number("rate limit", &self.rate_limit)?,
            number("rate limit", seconds)?,
        );
        Ok(json!({"limit": limit, "per_seconds": per}))
    }
}

fn seconds(time: Duration) -> String {
    time.as_secs_f64().to_string()
}

/// A retry schedule as its field takes it.
fn joined(delays: &[Duration]) -> String {
    if delays.is_empty() {
        return NO_DELAYS.to_owned();
    }
    let delays = delays.iter().map(|it| seconds(*it));
    delays.collect::<Vec<_>>().join(", ")
}

/// A text as forms send it back: without spaces around it, and with its lines ended in one way.
fn unified(text: &str) -> String {
    text.trim().replace("\r\n", "\n").replace('\r', "\n")
}

/// Without where it stands in the request: that is our own, and nobody has seen it.
fn without_place(error: ApiError) -> ApiError {
    match error.sentence().rsplit_once(" at line ") {
        Some((sentence, _)) => ApiError::invalid_request(sentence.to_owned()),
        None => error,
    }
}

/// What was typed into the field of this name, as the API takes it.
type Parse = fn(&str, &str) -> Result<Value, ApiError>;

fn text(_: &str, typed: &str) -> Result<Value, ApiError> {
    Ok(json!(typed))
}

fn number(name: &str, typed: &str) -> Result<Value, ApiError> {
    if typed.is_empty() {
        return Ok(Value::Null);
    }
    let number = serde_json::from_str::<serde_json::Number>(typed);
    number
        .map(Value::Number)
        .map_err(|_| ApiError::invalid_request(format!("{name} must be a number")))
}

fn words(_: &str, typed: &str) -> Result<Value, ApiError> {
    Ok(split(typed).collect())
}

fn split(typed: &str) -> impl Iterator<Item = &str> {
    let words = typed.split([',', ' ', '\n']);
    words.filter(|it| !it.is_empty())
}

/// Nothing is the dispatcher's default; [`NO_DELAYS`] is a schedule without retries.
fn delays(name: &str, typed: &str) -> Result<Value, ApiError> {
    match typed {
        "" => Ok(Value::Null),
        NO_DELAYS => Ok(json!([])),
        _ => split(typed).map(|it| number(name, it)).collect(),
    }
}

/// `name: value`, one a line.
fn pairs(_: &str, typed: &str) -> Result<Value, ApiError> {
    let mut pairs = Map::new();
    for line in typed.lines().filter(|it| !it.trim().is_empty()) {
        let Some((name, value)) = line.split_once(':') else {
            return Err(ApiError::invalid_request(
                "headers are lines of `name: value`",
            ));
        };
        let name = name.trim();
        if pairs.insert(name.to_owned(), json!(value.trim())).is_some() {
            let sentence = format!("header {name:?} is given twice");
            return Err(ApiError::invalid_request(sentence));
        }
    }
    Ok(Value::Object(pairs))
}

async fn ask(shell: Shell, _: Caller) -> Response {
    page(&FormPage {
        shell,
        id: None,
        error: None,
        draft: Draft::default(),
    })
}

async fn create(shell: Shell, caller: Caller, fields: Fields) -> Response {
    let draft = Draft::typed(&fields);
    let made = async {
        let new = draft.request(&Draft::default())?.new_endpoint(&caller)?;
        Ok::<_, ApiError>(caller.endpoints().create(new).await?)
    };
    match made.await {
        Ok(endpoint) => secret_page(shell, &endpoint, "The endpoint is there"),
        Err(error) => refused(shell, None, &error, draft),
    }
}

async fn edit(shell: Shell, caller: Caller, Id(id): Id) -> Result<Response, PageError> {
    let endpoint = caller.endpoints().get(id).await?;
    Ok(page(&FormPage {
        shell,
        id: Some(id),
        error: None,
        draft: Draft::of(&endpoint),
    }))
}

async fn update(shell: Shell, caller: Caller, Id(id): Id, fields: Fields) -> Response {
    let mut draft = Draft::typed(&fields);
    let changed = async {
        let shown = Draft::of(&caller.endpoints().get(id).await?);
        // The form of one that is there does not ask for it.
        draft.tenant.clone_from(&shown.tenant);
        let request = draft.request(&shown)?;
        request.update(&caller, id).await
    };
    match changed.await {
        Ok(_) => shell.goto(&format!("endpoints/{id}")),
        Err(error) => refused(shell, Some(id), &error, draft),
    }
}

fn refused(shell: Shell, id: Option<Uuid>, error: &ApiError, draft: Draft) -> Response {
    let status = error.status();
    let error = Some(capital(error.sentence()));
    page_with(
        status,
        &FormPage {
            shell,
            id,
            error,
            draft,
        },
    )
}

#[derive(Template)]
#[template(path = "secret.html")]
struct SecretPage<'a> {
    shell: Shell,
    id: Uuid,
    title: &'a str,
    secret: &'a str,
}

/// The only page that shows a secret, right after it was made.
fn secret_page(shell: Shell, endpoint: &Endpoint, title: &str) -> Response {
    let secret = endpoint
        .secrets
        .first()
        .map_or("", |newest| newest.secret.expose());
    page(&SecretPage {
        shell,
        id: endpoint.id,
        title,
        secret,
    })
}

#[derive(Template)]
#[template(path = "endpoint.html")]
struct DetailPage {
    shell: Shell,
    endpoint: Endpoint,
    url: String,
    range: &'static str,
    breaker: &'static str,
    breaker_until: Option<Timestamp>,
    failing_since: Option<Timestamp>,
    settings: Vec<(&'static str, String)>,
    waiting: [(&'static str, String); 3],
    figures: Vec<(&'static str, String)>,
    chart: Chart,
    recent: Vec<Delivery>,
    /// None: all of them go to this endpoint.
    names: Names,
    holds: Holds,
    audience: Audience,
    overlaps: [(&'static str, &'static str, Duration); 4],
}

async fn show(
    shell: Shell,
    caller: Caller,
    Id(id): Id,
    Query(asked): Query<Asked>,
) -> Result<Response, PageError> {
    let (range, length) = asked.range();
    let endpoint = caller.endpoints().get(id).await?;
    let health = caller
        .endpoints()
        .health(&[id])
        .await?
        .remove(&id)
        .unwrap_or_default();
    let backlog = caller.endpoints().backlog(id).await?;
    let stats = caller.stats(length, Some(id)).await?;
    let filter = DeliveryFilter {
        endpoint_id: Some(id),
        ..DeliveryFilter::default()
    };
    let recent = caller
        .deliveries()
        .list(
            &filter,
            PageRequest {
                before: None,
                limit: 15,
            },
        )
        .await?;
    let until = match health.breaker {
        BreakerState::Open(trip) => Some(trip.until),
        BreakerState::Closed | BreakerState::HalfOpen(_) => None,
    };
    Ok(page(&DetailPage {
        shell,
        url: shown_url(&endpoint.url),
        range,
        breaker: breaker(Some(&health)),
        breaker_until: until,
        failing_since: health.failing_since,
        settings: settings(&endpoint, caller.dispatcher().retry_policy()),
        waiting: waiting(due(endpoint.state, health.breaker), &backlog, stats.now),
        figures: attempted(&stats),
        chart: Chart::attempts(&stats),
        holds: Holds::of(&caller, &recent.items, &Names::just(Some(&endpoint))).await?,
        recent: recent.items,
        names: Names::default(),
        audience: caller.audience(),
        overlaps: OVERLAPS,
        endpoint,
    }))
}

/// Nothing is accepted for one endpoint: its attempts stand there instead.
fn attempted(stats: &Stats) -> Vec<(&'static str, String)> {
    let mut figures = figures(stats);
    let attempts = ("Attempts", count(&stats.total.attempts()));
    if let Some(first) = figures.first_mut() {
        *first = attempts;
    }
    figures
}

fn waiting(
    (due, oldest): (&'static str, &'static str),
    backlog: &Backlog,
    now: Timestamp,
) -> [(&'static str, String); 3] {
    [
        (due, up_to(backlog.due)),
        (oldest, lateness(backlog.oldest_due, now)),
        ("For later", up_to(backlog.parked)),
    ]
}

/// What the deliveries are called whose time has come, and the oldest of them: not all of them go out.
fn due(state: EndpointState, breaker: BreakerState) -> (&'static str, &'static str) {
    match (state, breaker) {
        (EndpointState::Paused | EndpointState::Disabled, _) => {
            ("Due, kept until it is resumed", "Oldest held")
        }
        (EndpointState::Enabled, BreakerState::Closed) => ("Due", "Oldest due"),
        (EndpointState::Enabled, BreakerState::Open(_)) => {
            ("Due, held back by the breaker", "Oldest held")
        }
        (EndpointState::Enabled, BreakerState::HalfOpen(_)) => {
            ("Due, behind the one that tries", "Oldest held")
        }
    }
}

fn settings(endpoint: &Endpoint, policy: &RetryPolicy) -> Vec<(&'static str, String)> {
    let (draft, set) = (Draft::of(endpoint), &endpoint.settings);
    let or = |text: String, default: &str| {
        if text.is_empty() {
            default.to_owned()
        } else {
            text
        }
    };
    let rate = set
        .rate_limit
        .map(|it| format!("{} in {}", it.limit, span(it.per)));
    vec![
        ("Event types", or(draft.event_types, "all")),
        ("Filter", or(draft.filter, "none")),
        ("Rate limit", or(rate.unwrap_or_default(), "none")),
        (
            "At once",
            or(draft.max_in_flight, "the dispatcher's default"),
        ),
        ("Ordered", if set.ordered { "yes" } else { "no" }.to_owned()),
        (
            "Timeout, seconds",
            or(draft.timeout_seconds, "the dispatcher's default"),
        ),
        (
            "Retries after, seconds",
            or(
                draft.retry_schedule,
                &format!("{} (the dispatcher's default)", joined(policy.delays())),
            ),
        ),
        ("Headers", or(draft.headers, "none")),
        ("Secret headers", or(draft.secret_headers, "none")),
    ]
}

async fn set_state(
    shell: Shell,
    caller: Caller,
    Id(id): Id,
    fields: Fields,
) -> Result<Response, PageError> {
    let state = fields
        .get("state")
        .unwrap_or_default()
        .parse::<EndpointState>();
    let state = state.map_err(|error| ApiError::invalid_request(error.to_string()))?;
    let change = |wanted: &mut EndpointChange| {
        wanted.state = state;
        wanted.recover = state == EndpointState::Enabled;
    };
    caller.endpoints().update(id, change).await?;
    Ok(shell.goto(&format!("endpoints/{id}")))
}

#[derive(Template)]
#[template(path = "tested.html")]
struct TestedPage {
    shell: Shell,
    id: Uuid,
    delivery: Uuid,
    outcome: String,
    is_good: bool,
    took: String,
    body: Option<Shown>,
}

async fn test(
    shell: Shell,
    caller: Caller,
    Id(id): Id,
    fields: Fields,
) -> Result<Response, PageError> {
    let mut test = TestEvent::default();
    if let Some(name) = fields.get("event_type") {
        test.event_type = Some(name.parse()?);
    }
    test.data = fields.get("data").map(|it| it.to_owned().into());
    let tested = caller.endpoints().test(id, test).await?;
    let attempt = tested.attempt.as_ref();
    let (outcome, body) = match attempt.map(|it| &it.outcome) {
        Some(webhook_core::Outcome::Response { status, body, .. }) => {
            (format!("HTTP {status}"), Some(Shown::of(body)))
        }
        Some(webhook_core::Outcome::Failed(kind)) => {
            (caller.audience().error_kind(*kind).to_owned(), None)
        }
        None => ("no answer yet".to_owned(), None),
    };
    let template = TestedPage {
        shell,
        id,
        delivery: tested.delivery_id,
        outcome,
        is_good: attempt.is_some_and(|it| it.outcome.failure().is_none()),
        took: attempt
            .and_then(|it| caller.audience().duration(it))
            .map_or_else(String::new, span),
        body,
    };
    Ok(page_with(StatusCode::OK, &template))
}

async fn rotate(
    shell: Shell,
    caller: Caller,
    Id(id): Id,
    fields: Fields,
) -> Result<Response, PageError> {
    let chosen = fields.get("overlap").unwrap_or(OVERLAPS[0].0);
    let known = OVERLAPS.into_iter().find(|(name, ..)| *name == chosen);
    let (_, words, overlap) = known.ok_or_else(|| {
        ApiError::invalid_request("overlap must be one of those that the form offers")
    })?;
    let endpoint = caller.endpoints().rotate_secret(id, overlap).await?;
    let title = if overlap.is_zero() {
        "There is a new secret; the old one signs no more".to_owned()
    } else {
        format!("There is a new secret; the old one signs beside it for {words}")
    };
    Ok(secret_page(shell, &endpoint, &title))
}

async fn delete(shell: Shell, caller: Caller, Id(id): Id) -> Result<Response, PageError> {
    caller.endpoints().delete(id).await?;
    Ok(shell.goto("endpoints"))
}

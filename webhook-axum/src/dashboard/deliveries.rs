//! `/dashboard/deliveries`: deliveries, and each attempt at them.

use std::collections::BTreeMap;
use std::time::Duration;

use askama::Template;
use axum::Router;
use axum::extract::RawPathParams;
use axum::response::Response;
use axum::routing::{get, post};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use uuid::Uuid;
use webhook_core::{
    Attempt, Delivery, DeliveryFilter, DeliveryStatus, Endpoint, EndpointState, Event, ManageError,
    Outcome, PageRequest, Tenant, Timestamp,
};

use super::format::{Shown, from_form, headers, quoted, span};
use super::holds::{Hold, Holds};
use super::names::Names;
use super::shell::{PageError, Shell, download, page};
use crate::caller::{Audience, Caller};
use crate::error::ApiError;
use crate::extract::{Id, Query, invalid_query};
use crate::page::{Cursor, Limit, MAX_LIMIT, cursor_text, page_request, searched_back_to};
use crate::router::Api;
use crate::routes::deliveries::{Conditions, explanation};
use crate::routes::endpoints::shown_url;

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/dashboard/deliveries", get(list))
        .route("/dashboard/deliveries/{id}", get(show))
        .route(
            "/dashboard/deliveries/{id}/response/{number}",
            get(response),
        )
        .route("/dashboard/deliveries/{id}/replay", post(replay))
        .route("/dashboard/deliveries/{id}/cancel", post(cancel))
}

/// What a search form sent, by field: what is empty is not asked for.
pub(super) type Asked = BTreeMap<String, String>;

pub(super) fn text_of<'a>(asked: &'a Asked, name: &str) -> &'a str {
    asked.get(name).map_or("", |it| it.trim())
}

const FIELDS: [&str; 9] = [
    "tenant",
    "endpoint_id",
    "event_id",
    "event_type",
    "status",
    "error_kind",
    "cause",
    "since",
    "until",
];

/// The deliveries that a form asks for, read as the API reads its own.
pub(super) fn filter(
    asked: &Asked,
    audience: Audience,
) -> Result<(Option<Tenant>, DeliveryFilter), ApiError> {
    let conditions: Conditions = read(asked, &FIELDS)?;
    conditions.filter(audience).map_err(invalid_query)
}

/// Those of `fields` that say something, as the API reads its own query.
pub(super) fn read<T: DeserializeOwned>(asked: &Asked, fields: &[&str]) -> Result<T, ApiError> {
    let mut object = Map::new();
    for name in fields {
        match (*name, text_of(asked, name)) {
            (_, "") => {}
            ("since" | "until", text) => {
                drop(object.insert((*name).to_owned(), json!(from_form(text))));
            }
            (_, text) => drop(object.insert((*name).to_owned(), json!(text))),
        }
    }
    serde_json::from_value(Value::Object(object)).map_err(|it| invalid_query(it.to_string()))
}

pub(super) fn cursor(asked: &Asked) -> Result<Option<Cursor>, ApiError> {
    let text = text_of(asked, "cursor");
    let cursor = (!text.is_empty()).then(|| Cursor::try_from(text.to_owned()));
    cursor.transpose().map_err(invalid_query)
}

/// A link's query with what was asked for, and where to go on.
pub(super) fn query(asked: &Asked, next: Option<Uuid>) -> Option<String> {
    let next = cursor_text(next?);
    let kept = asked
        .iter()
        .filter(|(name, text)| *name != "cursor" && !text.is_empty());
    let mut query = url_query(kept);
    query.push_str("cursor=");
    query.push_str(&next);
    Some(query)
}

pub(super) fn url_query<'a>(pairs: impl Iterator<Item = (&'a String, &'a String)>) -> String {
    let mut query = String::new();
    for (name, text) in pairs {
        for (part, end) in [(name, '='), (text, '&')] {
            for byte in part.bytes() {
                match byte {
                    b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
                        query.push(char::from(byte));
                    }
                    _ => query.push_str(&format!("%{byte:02X}")),
                }
            }
            query.push(end);
        }
    }
    query
}

/// What of a search for deliveries is also one for events.
fn of_events(asked: &Asked) -> impl Iterator<Item = (&String, &String)> {
    let shared = ["tenant", "event_type", "since", "until"];
    let asked = asked.iter().filter(|(_, text)| !text.is_empty());
    asked.filter(move |(name, _)| shared.contains(&name.as_str()))
}

/// The query of a replay of what a search finds: of those that have ended, and not of everything.
fn of_replay(asked: &Asked, wanted: &DeliveryFilter) -> Option<String> {
    let can_have_ended = wanted.status.is_none_or(DeliveryStatus::is_final);
    let is_narrow = *wanted != DeliveryFilter::default();
    let kept = asked.iter().filter(|(name, text)| {
        let is_asked_for = FIELDS.contains(&name.as_str());
        is_asked_for && !text.trim().is_empty()
    });
    (can_have_ended && is_narrow).then(|| format!("of=deliveries&{}", url_query(kept)))
}

#[derive(Template)]
#[template(path = "deliveries.html")]
struct ListPage {
    shell: Shell,
    asked: Asked,
    statuses: [DeliveryStatus; 5],
    deliveries: Vec<Delivery>,
    names: Names,
    holds: Holds,
    audience: Audience,
    next: Option<String>,
    /// Back to when was looked, if there was not enough for a page.
    searched: Option<Timestamp>,
    /// The query of the same search among events, where payloads are searched.
    payloads: String,
    /// The query of a replay of all that match, if a replay can be of these.
    replayed: Option<String>,
}

async fn list(
    shell: Shell,
    caller: Caller,
    Query(asked): Query<Asked>,
) -> Result<Response, PageError> {
    let (tenant, wanted) = filter(&asked, caller.audience())?;
    let request = page_request(Limit::default(), cursor(&asked)?);
    let caller = caller.narrowed(tenant)?;
    let found = caller.deliveries().list(&wanted, request).await?;
    let names = Names::of(&caller, found.items.iter().map(|it| it.endpoint_id)).await?;
    Ok(page(&ListPage {
        shell,
        searched: searched_back_to(&found, Limit::default()),
        next: query(&asked, found.next),
        payloads: url_query(of_events(&asked)),
        replayed: of_replay(&asked, &wanted),
        asked,
        statuses: DeliveryStatus::ALL,
        holds: Holds::of(&caller, &found.items, &names).await?,
        deliveries: found.items,
        names,
        audience: caller.audience(),
    }))
}

#[derive(Template)]
#[template(path = "delivery.html")]
struct DetailPage {
    shell: Shell,
    delivery: Delivery,
    url: Option<String>,
    explanation: String,
    advice: &'static str,
    attempts: Vec<AttemptRow>,
    body: Option<Shown>,
    curl: Option<String>,
    signed: Option<Signed>,
    error: Option<String>,
    kin: Kin,
    holds: Holds,
    tried: Option<Tried>,
}

/// The other deliveries of the same event to the same endpoint.
struct Kin {
    /// The one that was there when this was made, if this is a replay.
    before: Option<Delivery>,
    /// Its replays, the first one first.
    after: Vec<Delivery>,
}

/// What became of a delivery's replays, taken together.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Replayed {
    Never,
    Delivered,
    UnderWay,
    InVain,
}

impl Kin {
    /// Of the newest, with one look at the store.
    async fn of(caller: &Caller, delivery: &Delivery) -> Result<Self, ManageError> {
        let same = DeliveryFilter {
            event_id: Some(delivery.event_id),
            endpoint_id: Some(delivery.endpoint_id),
            ..DeliveryFilter::default()
        };
        let newest = PageRequest {
            before: None,
            limit: MAX_LIMIT,
        };
        let mut found = caller.deliveries().list(&same, newest).await?.items;
        found.sort_by_key(|it| it.replay_no);
        let after = found.split_off(found.partition_point(|it| it.replay_no <= delivery.replay_no));
        let before = found
            .into_iter()
            .rfind(|it| it.replay_no < delivery.replay_no);
        Ok(Self { before, after })
    }

    fn outcome(&self) -> Replayed {
        let is = |status| move |it: &Delivery| it.status == status;
        if self.after.is_empty() {
            Replayed::Never
        } else if self.after.iter().any(is(DeliveryStatus::Succeeded)) {
            Replayed::Delivered
        } else if self.after.iter().any(|it| !it.status.is_final()) {
            Replayed::UnderWay
        } else {
            Replayed::InVain
        }
    }
}

struct AttemptRow {
    number: usize,
    started_at: Timestamp,
    outcome: String,
    is_good: bool,
    /// How long it took, where that is told.
    total: Option<String>,
    first_byte: Option<String>,
    rest: Option<String>,
    /// How much of its time, in percent, went by until the first byte, and after it.
    first_share: u32,
    rest_share: u32,
    request: Vec<(String, String)>,
    response: Vec<(String, String)>,
    body: Option<Shown>,
    truncated: bool,
}

/// How often a delivery was tried, and may be.
struct Tried {
    times: usize,
    most: usize,
    /// How many more attempts failed through us, and do not count.
    excused: usize,
}

/// What the last attempt's signature is over.
struct Signed {
    id: String,
    timestamp: String,
    signature: String,
    /// A shell's command that computes it.
    command: String,
}

async fn show(shell: Shell, caller: Caller, Id(id): Id) -> Result<Response, PageError> {
    let delivery = caller.deliveries().get(id).await?;
    let attempts = caller.deliveries().attempts(id).await?;
    let endpoint = there(caller.endpoints().get(delivery.endpoint_id).await)?;
    let event = there(caller.events().get(delivery.event_id).await)?;
    let audience = caller.audience();
    let state = endpoint.as_ref().map(|it| it.state);
    let kin = Kin::of(&caller, &delivery).await?;
    let names = Names::just(endpoint.as_ref());
    Ok(page(&DetailPage {
        shell,
        url: endpoint.as_ref().map(|it| shown_url(&it.url)),
        explanation: explanation(&caller, &delivery, endpoint.as_ref()).await?,
        advice: advice(&delivery, state, kin.outcome()),
        kin,
        holds: Holds::of(&caller, std::slice::from_ref(&delivery), &names).await?,
        tried: endpoint
            .as_ref()
            .map(|it| Tried::of(&caller, it, &attempts)),
        curl: curl(endpoint.as_ref(), event.as_ref(), attempts.last()),
        signed: attempts.last().and_then(signed),
        attempts: attempts
            .iter()
            .enumerate()
            .map(|(index, it)| row(index + 1, it, audience))
            .collect(),
        body: event.map(|it| Shown::of(&it.body)),
        error: delivery.last_error.map(|it| audience.failure(it)),
        delivery,
    }))
}

impl Tried {
    /// The first attempt, and one after each delay; those that failed through us come on top.
    fn of(caller: &Caller, endpoint: &Endpoint, attempts: &[Attempt]) -> Self {
        let failures = attempts.iter().filter_map(|it| it.outcome.failure());
        let excused = failures.filter(|it| it.is_ours()).count();
        let own = endpoint.settings.retry_schedule.as_deref();
        let delays = own.unwrap_or(caller.dispatcher().retry_policy().delays());
        Self {
            times: attempts.len() - excused,
            most: delays.len() + 1,
            excused,
        }
    }
}

/// What happens by itself, and what a person can do.
fn advice(
    delivery: &Delivery,
    endpoint: Option<EndpointState>,
    replayed: Replayed,
) -> &'static str {
    match delivery.status {
        DeliveryStatus::Pending if endpoint == Some(EndpointState::Paused) => {
            "Resume the endpoint, and it is attempted"
        }
        DeliveryStatus::Pending if endpoint == Some(EndpointState::Disabled) => {
            "Resume the endpoint once it is well, and it is attempted"
        }
        DeliveryStatus::Pending if delivery.attempts == 0 => {
            "Nothing to do: it is tried by itself. Cancel it if nobody needs it"
        }
        DeliveryStatus::Pending => {
            "Nothing to do: it is tried again by itself. Cancel it if nobody needs it"
        }
        DeliveryStatus::InProgress => "The answer, or the timeout, decides",
        DeliveryStatus::Succeeded => "Nothing; a replay sends it once more, as a new delivery",
        DeliveryStatus::Failed | DeliveryStatus::Cancelled => after_the_end(
            delivery.status == DeliveryStatus::Failed,
            endpoint.is_some(),
            replayed,
        ),
    }
}

/// What is left to do for one that did not get there.
fn after_the_end(is_dead: bool, has_endpoint: bool, replayed: Replayed) -> &'static str {
    match replayed {
        Replayed::Delivered => "Nothing to do: it was replayed since, and the replay was delivered",
        Replayed::UnderWay => "Nothing to do: it was replayed since, and the replay is under way",
        Replayed::Never | Replayed::InVain if !has_endpoint => "Nothing: its endpoint is deleted",
        Replayed::InVain => {
            "Nothing by itself: it was replayed since, in vain. Replay it once the endpoint is well"
        }
        Replayed::Never if is_dead => {
            "Nothing by itself: it is a dead letter. Replay it once the endpoint is well"
        }
        Replayed::Never => "Nothing by itself; a replay sends it, as a new delivery",
    }
}

/// What is gone is no reason to show nothing.
fn there<T>(found: Result<T, ManageError>) -> Result<Option<T>, ManageError> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(ManageError::NotFound(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn row(number: usize, attempt: &Attempt, audience: Audience) -> AttemptRow {
    let (outcome, response, body, truncated) = match &attempt.outcome {
        Outcome::Response {
            status,
            headers: log,
            body,
            truncated,
        } => (
            format!("HTTP {status}"),
            headers(log),
            Some(Shown::of(body)),
            *truncated,
        ),
        Outcome::Failed(kind) => (
            audience.error_kind(*kind).to_owned(),
            Vec::new(),
            None,
            false,
        ),
    };
    let first = attempt.first_byte.unwrap_or(attempt.duration);
    let first_share = share(first, attempt.duration);
    AttemptRow {
        first_share,
        rest_share: 100 - first_share,
        number,
        started_at: attempt.started_at,
        outcome,
        is_good: attempt.outcome.failure().is_none(),
        total: audience.duration(attempt).map(span),
        first_byte: attempt.first_byte.map(span),
        rest: attempt
            .first_byte
            .map(|first| span(attempt.duration.saturating_sub(first))),
        request: headers(&attempt.request_headers),
        response,
        body,
        truncated,
    }
}

/// In percent; all of nothing.
fn share(part: Duration, all: Duration) -> u32 {
    let all = all.as_micros().max(1);
    u32::try_from(part.as_micros() * 100 / all).map_or(100, |it| it.min(100))
}

fn signed(attempt: &Attempt) -> Option<Signed> {
    let header = |name: &str| {
        let value = attempt.request_headers.get(name)?;
        Some(String::from_utf8_lossy(value).into_owned())
    };
    let (id, timestamp) = (header("webhook-id")?, header("webhook-timestamp")?);
    Some(Signed {
        command: signing(&id, &timestamp),
        signature: header("webhook-signature")?,
        id,
        timestamp,
    })
}

/// Prints what must follow `v1,`, of the secret in `SECRET` and the bytes of `body.txt`.
fn signing(id: &str, timestamp: &str) -> String {
    let signed = quoted(&format!("{id}.{timestamp}."));
    format!(
        "key=$(printf %s \"${{SECRET#whsec_}}\" | base64 -d | od -An -v -tx1 | tr -d ' \\n')\n\
         {{ printf %s {signed}; cat body.txt; }} |\n  \
         openssl dgst -sha256 -mac HMAC -macopt hexkey:\"$key\" -binary | base64"
    )
}

/// The last attempt as a command: every word is quoted, whatever stands in it. Bytes that are no text come from a file.
fn curl(
    endpoint: Option<&Endpoint>,
    event: Option<&Event>,
    attempt: Option<&Attempt>,
) -> Option<String> {
    let (endpoint, event, attempt) = (endpoint?, event?, attempt?);
    let mut command = format!(
        "curl --request POST --url {}",
        quoted(&shown_url(&endpoint.url))
    );
    for (name, value) in headers(&attempt.request_headers) {
        if !["host", "content-length", "connection"].contains(&name.as_str()) {
            command.push_str(&format!(
                " \\\n  --header {}",
                quoted(&format!("{name}: {value}"))
            ));
        }
    }
    let body = std::str::from_utf8(&event.body)
        .ok()
        .filter(|it| !it.contains('\0') && !it.starts_with('@'));
    let body = body.map_or_else(|| "@body.txt".to_owned(), quoted);
    command.push_str(&format!(" \\\n  --data-binary {body}"));
    Some(command)
}

async fn response(
    caller: Caller,
    Id(id): Id,
    params: RawPathParams,
) -> Result<Response, PageError> {
    let number = params.iter().find(|(name, _)| *name == "number");
    let number = number.and_then(|(_, text)| text.parse::<usize>().ok()?.checked_sub(1));
    let attempts = caller.deliveries().attempts(id).await?;
    match number.and_then(|it| attempts.get(it)).map(|it| &it.outcome) {
        Some(Outcome::Response { body, .. }) => Ok(download("response.txt", body.clone())),
        Some(Outcome::Failed(_)) | None => Err(ManageError::NotFound("response").into()),
    }
}

async fn replay(shell: Shell, caller: Caller, Id(id): Id) -> Result<Response, PageError> {
    let new = caller.deliveries().replay(id).await?;
    Ok(shell.goto(&format!("deliveries/{new}")))
}

async fn cancel(shell: Shell, caller: Caller, Id(id): Id) -> Result<Response, PageError> {
    caller.deliveries().cancel(id).await?;
    Ok(shell.goto(&format!("deliveries/{id}")))
}

//! `/dashboard/live`: tells an open page that something has changed, so that it asks for itself again.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::stream;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use webhook_core::{DeliveryFilter, PageRequest, StatsRange};

use super::assets::tag;
use crate::caller::Caller;
use crate::extract::Query;
use crate::router::Api;

/// How often one page may hear something, and when it asks again after a stream has ended.
const PAUSE: Duration = Duration::from_secs(2);
/// How long a page waits for what its stream compares with.
const PATIENCE: Duration = Duration::from_secs(1);
/// How many times a stream looks before it ends, and its page asks anew. A stream ends with the engine beside it; where
/// none runs, this is what keeps a shutdown short.
const LOOKS: u32 = 5;
/// How many pages are told at once; the others go without.
const MOST: usize = 64;

/// The places of those that are told.
pub(super) struct Room(Arc<Semaphore>);

impl Default for Room {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MOST)))
    }
}

pub(super) fn routes() -> Router<Api> {
    Router::new().route("/dashboard/live", get(watch))
}

/// What a page knows when it first asks: the state before it was read, so that nothing is missed in between.
#[derive(Deserialize)]
struct Asked {
    known: Option<String>,
}

/// A page's place among those that are told, and what it was told last.
struct Watch {
    caller: Caller,
    /// The state that the page knows of, as the event's id: it comes back with the next request, so that nothing is
    /// missed between two streams.
    known: Option<String>,
    looks: u32,
    /// Whether the engine ran beside it when it began.
    was_running: bool,
    _room: OwnedSemaphorePermit,
}

async fn watch(
    State(api): State<Api>,
    caller: Caller,
    headers: HeaderMap,
    Query(asked): Query<Asked>,
) -> Response {
    let Ok(room) = Arc::clone(&api.limits.live.0).try_acquire_owned() else {
        return StatusCode::NO_CONTENT.into_response();
    };
    let last = headers.get("last-event-id");
    let last = last.and_then(|it| Some(it.to_str().ok()?.to_owned()));
    let watch = Watch {
        was_running: caller.dispatcher().is_running(),
        caller,
        known: last.or(asked.known).filter(|it| !it.is_empty()),
        looks: 0,
        _room: room,
    };
    Sse::new(stream::unfold(watch, next)).into_response()
}

async fn next(mut watch: Watch) -> Option<(Result<Event, Infallible>, Watch)> {
    if watch.looks == LOOKS {
        return None;
    }
    if watch.looks > 0 {
        watch.caller.dispatcher().clock().sleep(PAUSE).await;
    }
    if watch.was_running && !watch.caller.dispatcher().is_running() {
        return None;
    }
    watch.looks += 1;
    // What cannot be read now is no change.
    let state = state(&watch.caller).await.or(watch.known.clone());
    let is_new = watch.known.is_some() && watch.known != state;
    watch.known = state;
    let event = Event::default()
        .retry(PAUSE)
        .id(watch.known.as_deref().unwrap_or_default());
    let event = if is_new {
        // Browsers drop an event without data.
        event.event("changed").data("-")
    } else {
        event
    };
    Some((Ok(event), watch))
}

/// The [`state`] before a page is read, which does not wait for it long: a page without it is told less.
pub(super) async fn state_soon(caller: &Caller) -> Option<String> {
    tokio::select! {
        biased;
        state = state(caller) => state,
        () = caller.dispatcher().clock().sleep(PATIENCE) => None,
    }
}

/// Something that is another when something has happened.
async fn state(caller: &Caller) -> Option<String> {
    let stats = caller.stats(StatsRange::Hour, None).await.ok()?;
    let newest = PageRequest {
        before: None,
        limit: 5,
    };
    let newest = caller
        .deliveries()
        .list(&DeliveryFilter::default(), newest)
        .await
        .ok()?;
    let newest: Vec<_> = newest
        .items
        .iter()
        .map(|it| (it.id, it.status, it.updated_at))
        .collect();
    let state = format!("{:?} {:?} {newest:?}", stats.total, stats.depth);
    Some(tag(&state))
}

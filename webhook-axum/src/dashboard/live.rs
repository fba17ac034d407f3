//! `/dashboard/live`: tells an open page that something has changed, so that it asks for itself again.

use std::convert::Infallible;
use std::sync::LazyLock;
use std::time::Duration;

use axum::Router;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::stream;
use http::StatusCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use webhook_core::{DeliveryFilter, PageRequest, StatsRange};

use crate::caller::Caller;
use crate::router::Api;

/// How often one page may hear something.
const PAUSE: Duration = Duration::from_secs(2);
/// How many times a stream looks before it ends, and its page asks anew: so none holds up a shutdown for long.
const LOOKS: u32 = 8;
/// How many pages are told at once; the others go without.
const MOST: usize = 64;

static ROOM: LazyLock<std::sync::Arc<Semaphore>> = LazyLock::new(|| Semaphore::new(MOST).into());

pub(super) fn routes() -> Router<Api> {
    Router::new().route("/dashboard/live", get(watch))
}

/// A page's place among those that are told, and what it was told last.
struct Watch {
    caller: Caller,
    last: Option<String>,
    looks: u32,
    _room: OwnedSemaphorePermit,
}

async fn watch(caller: Caller) -> Response {
    let Ok(room) = ROOM.clone().try_acquire_owned() else {
        return StatusCode::NO_CONTENT.into_response();
    };
    let watch = Watch {
        caller,
        last: None,
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
        tokio::time::sleep(PAUSE).await;
    }
    watch.looks += 1;
    let now = state(&watch.caller).await;
    let is_new = watch.last.is_some() && watch.last != now;
    watch.last = now;
    let event = if is_new {
        // Browsers drop an event without data.
        Event::default().event("changed").data("-")
    } else {
        Event::default().comment("")
    };
    Some((Ok(event), watch))
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
    Some(format!("{:?} {:?} {newest:?}", stats.total, stats.depth))
}

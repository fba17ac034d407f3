//! `/dashboard/live`: tells an open page that something has changed, so that the page reloads its content.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::stream;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use uuid::Uuid;
use webhook_core::{DeliveryFilter, ErrorKind, ManageError, PageRequest, StatsRange, Tenant};

use super::assets::tag;
use crate::caller::Caller;
use crate::extract::Query;
use crate::router::Api;

/// How often one page may hear something, and when it asks again after a stream has ended.
const PAUSE: Duration = Duration::from_secs(2);
/// How long a page waits for what its stream compares with.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long the store may say nothing before it is away.
const SILENCE: Duration = Duration::from_secs(5);
/// How long it may then say nothing when asked whether it is there at all.
const PING_PATIENCE: Duration = Duration::from_secs(2);
/// The state while the store does not answer.
pub(super) const AWAY: &str = "away";
/// Before the state that a page knows of while nothing newer can be found out.
const BUSY: char = '~';
/// No word of ours for what a page shows is longer.
const MAX_STATE: usize = 256;
/// How many times a stream looks before it ends, and its page asks anew. A stream ends with the engine beside it; where
/// none runs, this is what keeps a shutdown short.
const LOOKS: u32 = 5;
/// How many pages are told at once; the others go without.
const MOST: usize = 64;
/// How many of them may be one holder's.
const MOST_OF_ONE: usize = 16;

/// The places of those that are told, and who tells them.
pub(super) struct Room {
    taken: Taken,
    teller: Uuid,
}

type Taken = Arc<Mutex<HashMap<Holder, usize>>>;

/// Who has a place.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Holder {
    /// All who are let in alike: they cannot be told apart.
    Anybody,
    /// One of those who may see every tenant.
    Named(String),
    /// The readers of one tenant, together: how many there are is for that tenant to say.
    Tenant(Tenant),
}

impl Holder {
    fn of(api: &Api, caller: &Caller) -> Self {
        match caller.only_tenant() {
            Some(tenant) => Self::Tenant(tenant.clone()),
            None if api.auth.tells_apart() => Self::Named(caller.name().to_owned()),
            None => Self::Anybody,
        }
    }

    fn most(&self) -> usize {
        match self {
            Self::Anybody => MOST,
            Self::Named(_) | Self::Tenant(_) => MOST_OF_ONE,
        }
    }
}

/// A place, free again once it is dropped.
struct Place {
    taken: Taken,
    holder: Holder,
}

impl Room {
    fn place(&self, holder: Holder) -> Option<Place> {
        let mut taken = lock(&self.taken);
        let own = taken.get(&holder).copied().unwrap_or_default();
        if own >= holder.most() || taken.values().sum::<usize>() >= MOST {
            return None;
        }
        taken.insert(holder.clone(), own + 1);
        let taken = Arc::clone(&self.taken);
        Some(Place { taken, holder })
    }
}

impl Default for Room {
    fn default() -> Self {
        Self {
            taken: Taken::default(),
            teller: Uuid::new_v4(),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        if let Some(own) = taken.get_mut(&self.holder) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.holder);
            }
        }
    }
}

fn lock(taken: &Taken) -> MutexGuard<'_, HashMap<Holder, usize>> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
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
    api: Api,
    caller: Caller,
    /// The state that the page knows of, as the event's id: it comes back with the next request, so that nothing is
    /// missed between two streams.
    known: Option<String>,
    looks: u32,
    /// Whether the engine ran beside it when it began.
    was_running: bool,
    _place: Place,
}

async fn watch(
    State(api): State<Api>,
    caller: Caller,
    headers: HeaderMap,
    Query(asked): Query<Asked>,
) -> Response {
    let Some(place) = api.limits.live.place(Holder::of(&api, &caller)) else {
        return StatusCode::NO_CONTENT.into_response();
    };
    let last = headers.get("last-event-id");
    let last = last.and_then(|it| Some(it.to_str().ok()?.to_owned()));
    let watch = Watch {
        was_running: caller.dispatcher().is_running(),
        api,
        caller,
        known: last.or(asked.known).filter(|it| is_state(it)),
        looks: 0,
        _place: place,
    };
    Sse::new(stream::unfold(watch, next)).into_response()
}

/// Whether a page's word for what it shows may be one of ours. What is no token goes into no event.
fn is_state(known: &str) -> bool {
    let is_short = (1..=MAX_STATE).contains(&known.len());
    is_short && known.bytes().all(|byte| byte.is_ascii_graphic())
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
    let state = state(&watch.api, &watch.caller).await;
    let known = watch.known.take().unwrap_or_default();
    let (was_busy, known) = match known.strip_prefix(BUSY) {
        Some(known) => (true, known),
        None => (false, known.as_str()),
    };
    let (id, name) = match state {
        None => (format!("{BUSY}{known}"), Some("busy")),
        Some(state) if !known.is_empty() && is_news(known, &state) => (state, Some("changed")),
        Some(state) => (state, was_busy.then_some("same")),
    };
    let event = Event::default().retry(PAUSE).id(&id);
    watch.known = Some(id);
    let event = match name {
        // Browsers drop an event without data.
        Some(name) => event.event(name).data("-"),
        None => event,
    };
    Some((Ok(event), watch))
}

/// The [`state`] before a page is read, which does not wait for it long: a page without it is told less.
pub(super) async fn state_soon(api: &Api, caller: &Caller) -> Option<String> {
    tokio::select! {
        biased;
        state = state(api, caller) => state,
        () = caller.dispatcher().clock().sleep(PATIENCE) => None,
    }
}

/// Whether something has happened since a page's state was `known`. What another process has counted says nothing:
/// which of them a stream comes from is for a load balancer to choose, each time anew.
fn is_news(known: &str, state: &str) -> bool {
    match (parts(known), parts(state)) {
        (Some(known), Some(state)) if known.teller != state.teller => known.stored != state.stored,
        _ => known != state,
    }
}

/// Of a state, who tells it, and what all who look at the store would tell.
struct Parts<'a> {
    teller: &'a str,
    stored: &'a str,
}

fn parts(state: &str) -> Option<Parts<'_>> {
    let (teller, rest) = state.split_once('.')?;
    let (stored, _counted) = rest.split_once('.')?;
    Some(Parts { teller, stored })
}

/// Something that is another when something has happened, or `None` while the store is there, but has too much to
/// look for.
async fn state(api: &Api, caller: &Caller) -> Option<String> {
    let read = tokio::select! {
        biased;
        read = read(api, caller) => Some(read),
        () = caller.dispatcher().clock().sleep(SILENCE) => None,
    };
    let state = match read {
        Some(Ok(state)) => Some(state),
        Some(Err(ManageError::Store(error))) if error.kind() == ErrorKind::Overloaded => None,
        None if is_there(caller).await => None,
        Some(Err(_)) | None => {
            api.limits.outage.goes_on(caller.now());
            return Some(AWAY.to_owned());
        }
    };
    api.limits.outage.is_over();
    state
}

/// Whether the store answers at all.
async fn is_there(caller: &Caller) -> bool {
    tokio::select! {
        biased;
        answer = caller.dispatcher().ping() => answer.is_ok(),
        () = caller.dispatcher().clock().sleep(PING_PATIENCE) => false,
    }
}

/// Who tells it, what is stored, and what was counted, which is in the memory of each process until a minute is over.
async fn read(api: &Api, caller: &Caller) -> Result<String, ManageError> {
    let stats = caller.stats(StatsRange::Hour, None).await?;
    let newest = PageRequest {
        before: None,
        limit: 5,
    };
    let newest = caller
        .deliveries()
        .list(&DeliveryFilter::default(), newest)
        .await?;
    let newest: Vec<_> = newest
        .items
        .iter()
        .map(|it| (it.id, it.status, it.updated_at))
        .collect();
    let stored = tag(&format!("{:?} {newest:?}", stats.depth));
    let counted = tag(&format!("{:?}", stats.total));
    let teller = api.limits.live.teller.simple();
    Ok(format!("{teller}.{stored}.{counted}"))
}

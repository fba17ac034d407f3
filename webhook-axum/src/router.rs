//! [`router`] puts the routes together. [`probes`] has only those that a process without an API needs.

use std::sync::Arc;

use axum::Router;
use axum::extract::FromRef;
use axum::middleware::{from_fn, from_fn_with_state};
use http::request::Parts;
use webhook_core::{Dispatcher, Scope};

use crate::auth::{Auth, Identity, authenticate};
use crate::error::ApiError;
use crate::finish::finish;
use crate::routes;

/// What every route works with.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) dispatcher: Dispatcher,
    pub(crate) auth: Arc<Auth>,
    #[cfg(feature = "dashboard")]
    pub(crate) limits: Arc<crate::dashboard::Limits>,
}

impl Api {
    pub(crate) fn new(dispatcher: impl Into<Dispatcher>, auth: Auth) -> Self {
        Self {
            dispatcher: dispatcher.into(),
            auth: Arc::new(auth),
            #[cfg(feature = "dashboard")]
            limits: Arc::default(),
        }
    }

    /// Who calls, unless they may not. What the system tenant gets tells of all the others, whoever has its name.
    pub(crate) async fn identify(&self, parts: &Parts) -> Result<Identity, ApiError> {
        let identity = self.auth.identify(parts).await?;
        match &identity.scope {
            Scope::Tenant(own) if own == self.dispatcher.system_tenant() => {
                let sentence =
                    "this tenant is the system's: who runs the engine manages it, for all tenants";
                Err(ApiError::forbidden(sentence))
            }
            _ => Ok(identity),
        }
    }
}

impl FromRef<Api> for Dispatcher {
    fn from_ref(api: &Api) -> Self {
        api.dispatcher.clone()
    }
}

/// The HTTP API of `dispatcher`, for the callers that `auth` lets in.
///
/// | route | does |
/// |---|---|
/// | `POST /events`, `POST /events/batch` | enqueues events; 202 once they are committed |
/// | `GET /events`, `GET /events/{id}`, `POST /events/{id}/replay` | shows events and where they went; sends one again |
/// | `POST /endpoints`, `GET /endpoints`, `GET`, `PATCH`, `DELETE /endpoints/{id}` | creates, shows, changes and deletes endpoints |
/// | `POST /endpoints/{id}/rotate-secret` | makes a new secret; the old one also signs for a while |
/// | `POST /endpoints/{id}/test` | `{event_type?, data?}`: sends a test event once; answers with the attempt, or 202 if it takes too long |
/// | `GET /deliveries`, `GET /deliveries/{id}` | shows deliveries, with every attempt |
/// | `POST /deliveries/{id}/replay`, `POST /deliveries/{id}/cancel` | sends a delivery again, or cancels it |
/// | `POST /endpoints/{id}/replay` | `{since, until?, status?}`: sends again what the endpoint got since then, and what it missed |
/// | `POST /deliveries/replay` | `{filter}`: sends again the deliveries that have ended and match |
/// | `GET /replays`, `GET /replays/{id}`, `POST /replays/{id}/cancel` | shows how far replays have come; cancels one |
/// | `GET /stats` | what happened in the last `?range=` of `1h`, `24h` (unless given), `7d` or `30d`, and what waits |
/// | `GET /event-types` | the catalogue of event types |
/// | `PUT /event-types/{name}` | `{description?, schema?, example?}`: events of a type with a JSON Schema must fit it |
/// | `GET /audit` | who did what through these routes: `?actor=`, `?action=`, `?target=`, `?since=`, `?until=`, `?tenant=` |
/// | `DELETE /tenants/{id}` | erases a tenant: 202; nothing goes out from then on, and its rows follow page by page |
/// | `GET /openapi.json` | describes the API to programs: see `openapi` (feature `openapi`) |
/// | `GET /dashboard/…` | the web UI, with the feature `dashboard`; sign in with the bearer token |
/// | `GET /health`, `GET /ready` | for orchestrators; everybody may call these |
///
/// Bodies and answers are JSON. Times are RFC 3339 in UTC. A failed request is answered with
/// `{"error": "a sentence", "code": "snake_case_kind"}`, also if no route matches. Lists are
/// `{"items": […], "next": "cursor" | null}`, newest first; get the next page with `?cursor=`, and set its size with `?limit=`
/// (1 to 200, 50 unless given). Requests are parsed strictly: unknown and duplicate fields and parameters are refused.
///
/// The filter of `POST /deliveries/replay` has the fields that `GET /deliveries` takes as parameters: `tenant`,
/// `endpoint_id`, `event_id`, `event_type`, `status`, `error_kind`, `cause` (`endpoint`, or `system` for failures of the
/// engine), `since`, `until`; at least one besides `tenant`. Both ways to start a replay also take `pace`, in deliveries a
/// second (500 unless given), and `dry_run`, which makes nothing and answers with a `count`. If a `total` or `count` would
/// take too long, it stops and says that it is not exact. See [`ReplaySelection`] for what a replay passes over.
///
/// The audit log names a caller by their [`Identity::name`](crate::Identity::name). A tenant sees who did something to it, also
/// if that was the host. `DELETE /tenants/{id}` takes the tenant's name. The answer is the same whether the tenant has anything
/// or not; see [`Tenants::delete`](webhook_core::Tenants::delete).
///
/// [`ReplaySelection`]: webhook_core::ReplaySelection
///
/// `GET /stats` also takes `tenant` and `endpoint_id`. Its answer has `accepted`, `delivered`, `failed` (dead letters),
/// `cancelled`, `attempts` by their result, and `latency_ms` and `delay_ms` with `p50`, `p95` and `p99`. It has them for the
/// whole range, for each step of it in `series`, and for the `endpoints` at which most attempts failed. It also has `backlog`,
/// `parked`, `in_flight` and `oldest_due`. These are `null` while the queue is away, and for one tenant; of one endpoint only
/// `in_flight` is. 10,000 or more means at least so many. See [`Dispatcher::stats`] for what is counted, and when.
///
/// `GET /events/{id}` shows an event with its `deliveries` and with `matching`, which has for each endpoint of the tenant:
/// whether the event went there (`matches`), the `reason` (`matches`, `deleted`, `event_type`, `filter`, `created_after`,
/// `disabled`, `changed`, `unreadable`), an `explanation`, and the `basis` (`recorded` if this was decided for the event,
/// `current` if it follows from the endpoint's present settings). For the last delivery there are `delivery_id`, `status`,
/// `next_retry_at` and what it `waits` for. If there are more than 1,000 endpoints or deliveries, it shows the newest, and
/// `complete` is `false`.
///
/// A test event has the type `webhook.test`, unless the request names another. It goes to this endpoint only, whatever event
/// types that wants. It is tried once, and counts for nothing else. A paused or disabled endpoint gets none (409). See
/// [`Endpoints::test`](webhook_core::Endpoints::test).
///
/// There is one catalogue of event types for all tenants. All callers may read it. Only operators whose scope is all tenants may
/// change it. If an event does not fit the schema of its type, the answer is 400 with the code `schema_violation`, and the
/// sentence names the place as a JSON Pointer into `data`. See [`EventTypes::put`](webhook_core::EventTypes::put).
///
/// If a client hangs up, its request is still carried out, and written to the audit log.
///
/// The router brings its own state and nests into a router with any other state. It limits the size of bodies by itself, whatever
/// axum's `DefaultBodyLimit` says.
pub fn router<T>(dispatcher: impl Into<Dispatcher>, auth: Auth) -> Router<T>
where
    T: Clone + Send + Sync + 'static,
{
    let api = Api::new(dispatcher, auth);
    // The layer stands before everything it guards: a handler cannot forget to ask.
    let routes = routes::guarded()
        .route_layer(from_fn_with_state(api.clone(), authenticate))
        .merge(routes::probes::routes());
    #[cfg(feature = "dashboard")]
    let routes = routes.merge(crate::dashboard::routes(&api));
    routes
        .route_layer(from_fn(finish))
        .fallback(|| async { ApiError::unknown_path() })
        .method_not_allowed_fallback(|| async { ApiError::method_not_allowed() })
        .with_state(api)
}

/// Only `GET /health` and `GET /ready`, for processes that only deliver.
///
/// A process is ready while the store answers. The body says how the queue is: if it is away, deliveries are only delayed.
pub fn probes<T>(dispatcher: impl Into<Dispatcher>) -> Router<T> {
    routes::probes::routes().with_state(dispatcher.into())
}

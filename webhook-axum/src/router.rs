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

/// The HTTP API of `dispatcher`, for those whom `auth` lets in.
///
/// | route | does |
/// |---|---|
/// | `POST /events`, `POST /events/batch` | enqueues; 202 once it is committed |
/// | `GET /events`, `GET /events/{id}`, `POST /events/{id}/replay` | what happened, and who wants it |
/// | `POST /endpoints`, `GET /endpoints`, `GET`, `PATCH`, `DELETE /endpoints/{id}` | where it goes |
/// | `POST /endpoints/{id}/rotate-secret` | a new secret beside the old one |
/// | `POST /endpoints/{id}/test` | `{event_type?, data?}`: one try of a test event; answers with the attempt, or 202 if it takes too long |
/// | `GET /deliveries`, `GET /deliveries/{id}` | what became of it, with every attempt |
/// | `POST /deliveries/{id}/replay`, `POST /deliveries/{id}/cancel` | once more, or no more |
/// | `POST /endpoints/{id}/replay` | `{since, until?, status?}`: what the endpoint got since then, and what it missed, once more |
/// | `POST /deliveries/replay` | `{filter}`: those that have ended and match, once more |
/// | `GET /replays`, `GET /replays/{id}`, `POST /replays/{id}/cancel` | how far these have come |
/// | `GET /stats` | what happened in the last `?range=` of `1h`, `24h` (unless given), `7d` or `30d`, and what waits |
/// | `GET /event-types` | the catalogue: what types of events there are |
/// | `PUT /event-types/{name}` | `{description?, schema?, example?}`: events of a type with a JSON Schema must fit it |
/// | `GET /audit` | who did what through these routes: `?actor=`, `?action=`, `?target=`, `?since=`, `?until=`, `?tenant=` |
/// | `DELETE /tenants/{id}` | erases a tenant: 202; nothing goes out from then on, and its rows follow page by page |
/// | `GET /openapi.json` | all of this for programs: see `openapi` (feature `openapi`) |
/// | `GET /dashboard/…` | the same for people, with the feature `dashboard`; a bearer token signs in there |
/// | `GET /health`, `GET /ready` | for orchestrators; open to all |
///
/// Bodies and answers are JSON; times are RFC 3339 in UTC. A failed request is answered with
/// `{"error": "a sentence", "code": "snake_case_kind"}`, also where no route matches. Lists are
/// `{"items": […], "next": "cursor" | null}`, newest first, read on with `?cursor=` and `?limit=` (1 to 200,
/// 50 unless given). What a caller sends is taken strictly: unknown and duplicate fields and parameters are
/// refused.
///
/// The filter of `POST /deliveries/replay` has the fields that `GET /deliveries` takes as parameters: `tenant`,
/// `endpoint_id`, `event_id`, `event_type`, `status`, `error_kind`, `cause` (`endpoint`, or `system` for what failed
/// through the engine), `since`, `until`; at least one besides `tenant`. Both ways to start a replay also take `pace`,
/// in deliveries a second (500 unless given), and `dry_run`, which makes nothing and answers with a `count`. A `total`
/// or `count` that would take too long is broken off, and says that it is not exact. See [`ReplaySelection`] for what
/// is passed over.
///
/// In the audit log, a caller is called by their [`Identity::name`](crate::Identity::name); a tenant sees who did something
/// to it, also if that was the host. `DELETE /tenants/{id}` takes the tenant's name, and answers alike whether there is
/// anything of it or not; see [`Tenants::delete`](webhook_core::Tenants::delete).
///
/// [`ReplaySelection`]: webhook_core::ReplaySelection
///
/// `GET /stats` takes `tenant` and `endpoint_id` besides. Its answer has `accepted`, `delivered`, `failed` (dead
/// letters), `cancelled`, `attempts` by what came of them, and `latency_ms` and `delay_ms` with `p50`, `p95` and
/// `p99`: for the whole range, for each step of it in `series`, and for those `endpoints` at which most attempts
/// failed. Beside them stand `backlog`, `parked`, `in_flight` and `oldest_due`, which are `null` while the queue
/// is away, and for one tenant or endpoint; 10,000 and more means at least so many. See [`Dispatcher::stats`] for what
/// is counted, and when.
///
/// One event comes with its `deliveries` and with `matching`: for each endpoint of its tenant whether the event went
/// there (`matches`), the `reason` (`matches`, `deleted`, `event_type`, `filter`, `created_after`, `disabled`, `changed`,
/// `unreadable`), an `explanation`, the `basis` (`recorded` if it is what was decided, `current` if only the settings of
/// now can tell), and of the last delivery `delivery_id`, `status`, `next_retry_at` and what it `waits` for. Of more than
/// 1,000 endpoints or deliveries it shows the newest, and `complete` is `false`.
///
/// A test is an event of the type `webhook.test`, unless the request names another, to this endpoint only and whatever it
/// wants. It is tried once, and counts for nothing else; a paused or disabled endpoint gets none (409). See
/// [`Endpoints::test`](webhook_core::Endpoints::test).
///
/// The catalogue of event types is one for all tenants: all may read it, and operators of no tenant change it. An event
/// that does not fit the schema of its type is refused with 400 and the code `schema_violation`; the sentence names the
/// place as a JSON Pointer into `data`. See [`EventTypes::put`](webhook_core::EventTypes::put).
///
/// What a request asks for is carried through, and written down, although its client hangs up meanwhile.
///
/// The router brings its own state and nests into a router with any other. It limits bodies by itself,
/// whatever axum's `DefaultBodyLimit` says.
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

/// `GET /health` and `GET /ready` alone: what an orchestrator asks a process that only delivers.
///
/// Ready while the store answers. The body tells of the queue: one that is away only delays deliveries.
pub fn probes<T>(dispatcher: impl Into<Dispatcher>) -> Router<T> {
    routes::probes::routes().with_state(dispatcher.into())
}

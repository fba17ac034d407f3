//! `/health` and `/ready`: for orchestrators.

use std::time::Duration;

use axum::extract::{FromRef, State};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use tokio::time::timeout;
use webhook_core::Dispatcher;

use crate::error::ApiError;

/// How long the store may take to answer a probe.
const STORE_PATIENCE: Duration = Duration::from_secs(2);
/// How long the queue may. Together with the store's answer it stays below a probe's usual second.
const QUEUE_PATIENCE: Duration = Duration::from_millis(500);

pub(crate) fn routes<S>() -> Router<S>
where
    S: Clone + Send + Sync + 'static,
    Dispatcher: FromRef<S>,
{
    Router::new()
        .route("/health", get(health))
        .route("/ready", get(ready))
}

/// What the OpenAPI document says of them.
#[cfg(feature = "openapi")]
#[derive(utoipa::OpenApi)]
#[openapi(paths(health, ready))]
pub(crate) struct Document;

#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
struct Health {
    status: &'static str,
}

#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(as = Readiness))]
struct Ready {
    status: &'static str,
    queue: QueueState,
}

#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
enum QueueState {
    Ok,
    Degraded,
}

/// The process is alive.
#[cfg_attr(feature = "openapi", utoipa::path(
    get, path = "/health",
    responses((status = 200, body = Health)),
))]
async fn health() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// Ready while events can be accepted.
///
/// A queue that is away only delays them: it must not take the process out of service.
#[cfg_attr(feature = "openapi", utoipa::path(
    get, path = "/ready",
    responses(
        (status = 200, body = Ready),
        (status = 503, description = "The store does not answer."),
    ),
))]
async fn ready(State(dispatcher): State<Dispatcher>) -> Result<Json<Ready>, ApiError> {
    match timeout(STORE_PATIENCE, dispatcher.ping()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return Err(ApiError::unavailable(&error)),
        Err(elapsed) => return Err(ApiError::unavailable(&elapsed)),
    }
    Ok(Json(Ready {
        status: "ready",
        queue: queue(&dispatcher).await,
    }))
}

async fn queue(dispatcher: &Dispatcher) -> QueueState {
    match timeout(QUEUE_PATIENCE, dispatcher.ping_queue()).await {
        Ok(Ok(())) => QueueState::Ok,
        Ok(Err(_)) | Err(_) => QueueState::Degraded,
    }
}

/// What answers, for people.
#[cfg(feature = "dashboard")]
pub(crate) struct Readiness {
    pub(crate) store: bool,
    pub(crate) queue: bool,
}

#[cfg(feature = "dashboard")]
impl Readiness {
    pub(crate) async fn of(dispatcher: &Dispatcher) -> Self {
        let store = timeout(STORE_PATIENCE, dispatcher.ping()).await;
        Self {
            store: matches!(store, Ok(Ok(()))),
            queue: matches!(queue(dispatcher).await, QueueState::Ok),
        }
    }
}

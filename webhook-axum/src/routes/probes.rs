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

#[derive(Serialize)]
struct Health {
    status: &'static str,
}

#[derive(Serialize)]
struct Readiness {
    status: &'static str,
    queue: QueueState,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum QueueState {
    Ok,
    Degraded,
}

async fn health() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// Ready while events can be accepted. A queue that is away only delays them: it must not take the process
/// out of service.
async fn ready(State(dispatcher): State<Dispatcher>) -> Result<Json<Readiness>, ApiError> {
    match timeout(STORE_PATIENCE, dispatcher.ping()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return Err(ApiError::unavailable(&error)),
        Err(elapsed) => return Err(ApiError::unavailable(&elapsed)),
    }
    let queue = match timeout(QUEUE_PATIENCE, dispatcher.ping_queue()).await {
        Ok(Ok(())) => QueueState::Ok,
        Ok(Err(_)) | Err(_) => QueueState::Degraded,
    };
    Ok(Json(Readiness {
        status: "ready",
        queue,
    }))
}

//! `/health` and `/ready`: for orchestrators.

use std::time::Duration;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use tokio::time::timeout;

use crate::error::ApiError;
use crate::router::Api;

/// How long the store may take to answer a probe.
const STORE_PATIENCE: Duration = Duration::from_secs(2);
/// How long the queue may. Together with the store's answer it stays below a probe's usual second.
const QUEUE_PATIENCE: Duration = Duration::from_millis(500);

pub(super) fn routes() -> Router<Api> {
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
async fn ready(State(api): State<Api>) -> Result<Json<Readiness>, ApiError> {
    match timeout(STORE_PATIENCE, api.dispatcher.ping()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return Err(ApiError::unavailable(&error)),
        Err(elapsed) => return Err(ApiError::unavailable(&elapsed)),
    }
    let queue = match timeout(QUEUE_PATIENCE, api.dispatcher.ping_queue()).await {
        Ok(Ok(())) => QueueState::Ok,
        Ok(Err(_)) | Err(_) => QueueState::Degraded,
    };
    Ok(Json(Readiness {
        status: "ready",
        queue,
    }))
}

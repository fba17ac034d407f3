//! The engine, the server, and the way down.

use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use webhook_delivery::{Auth, Dispatcher, MemoryStore, NetworkPolicy, RetryPolicy};

use crate::logging;
use crate::settings::{Role, Settings};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// How long API requests that are under way may take to end once the process is asked to stop.
const API_DRAIN: Duration = Duration::from_secs(10);

/// Serves until SIGTERM or SIGINT.
pub(crate) fn run(settings: Settings) -> Result<()> {
    logging::start(settings.log.clone(), settings.log_format);
    for warning in &settings.warnings {
        tracing::warn!("{warning}");
    }
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(serve(settings))
}

async fn serve(settings: Settings) -> Result<()> {
    let mut signals = Signals::new()?;
    let dispatcher = dispatcher(&settings)?;
    let app = app(&settings, dispatcher.clone())?;
    let listener = bind(settings.address).await?;
    say(&format!("listening on http://{}", listener.local_addr()?));

    let (stop_api, stop_worker) = (CancellationToken::new(), CancellationToken::new());
    let worker = (settings.role != Role::Api).then(|| {
        let stopped = stop_worker.clone().cancelled_owned();
        tokio::spawn(async move { dispatcher.run(stopped).await })
    });
    let api = axum::serve(listener, app)
        .with_graceful_shutdown(stop_api.clone().cancelled_owned())
        .into_future();
    let api = tokio::spawn(api);

    signals.recv().await;
    say("stopping");
    // First nothing more is accepted, then nothing more is claimed; what is under way ends.
    stop_api.cancel();
    if tokio::time::timeout(API_DRAIN, api).await.is_err() {
        tracing::warn!("API requests outlived the drain");
    }
    stop_worker.cancel();
    if let Some(worker) = worker {
        worker.await?;
    }
    say("stopped");
    Ok(())
}

fn dispatcher(settings: &Settings) -> Result<Dispatcher> {
    let policy = NetworkPolicy::builder()
        .allow_http(settings.allow_http)
        .allow_networks(settings.allow_networks.0.clone())
        .build();
    let dispatcher = Dispatcher::builder(MemoryStore::new())
        .network_policy(policy)
        .retry_policy(RetryPolicy::default().schedule(settings.retry_schedule.0.clone()))
        .request_timeout(settings.request_timeout)
        .max_in_flight(settings.max_in_flight)
        .observer(logging::notice)
        .build()?;
    Ok(dispatcher.erase())
}

fn app(settings: &Settings, dispatcher: Dispatcher) -> Result<Router> {
    if settings.role == Role::Worker {
        return Ok(probes(dispatcher));
    }
    let auth = match &settings.admin_token {
        Some(token) => Auth::bearer(token.as_str())?,
        None => Auth::none(),
    };
    Ok(webhook_delivery::router(dispatcher, auth))
}

/// What an orchestrator asks a worker.
fn probes(dispatcher: Dispatcher) -> Router {
    async fn ready(State(dispatcher): State<Dispatcher>) -> (StatusCode, Json<Value>) {
        match dispatcher.ping().await {
            Ok(()) => (StatusCode::OK, Json(json!({"status": "ready"}))),
            Err(_) => (
                StatusCode::SERVICE_UNAVAILABLE,
                Json(json!({"error": "the store does not answer", "code": "unavailable"})),
            ),
        }
    }
    Router::new()
        .route("/health", get(|| async { Json(json!({"status": "ok"})) }))
        .route("/ready", get(ready))
        .with_state(dispatcher)
}

async fn bind(address: SocketAddr) -> Result<TcpListener> {
    let bound = TcpListener::bind(address).await;
    bound.map_err(|error| format!("BIND, PORT: {address}: {error}").into())
}

/// A line on stdout, for people and scripts, whatever is logged.
fn say(line: &str) {
    writeln!(std::io::stdout(), "{line}").ok();
}

/// SIGTERM and SIGINT, noted from the moment this exists.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn recv(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

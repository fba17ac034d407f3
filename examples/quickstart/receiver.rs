//! The other side: a service that takes webhooks, verifies each, and handles each event once.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::{FromRef, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::post;
use bytes::Bytes;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use webhook_delivery::{
    Deduplicate, Endpoint, MemoryDeduplicator, Receiver, Verified, Verifier, deduplicate,
};

use crate::{Result, scenario};

/// As the receivers saw it, by endpoint.
pub(crate) type Seen = HashMap<String, Tally>;

/// What came to one endpoint.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// How often each `webhook-id` came.
    pub(crate) requests: HashMap<String, usize>,
    /// Requests without a valid signature.
    pub(crate) unverified: usize,
    /// The body of each event that was handled, by `webhook-id`, for each time it was.
    pub(crate) handled: HashMap<String, Vec<Bytes>>,
}

/// Sockets that are bound, so that the endpoints' URLs are known before their secrets are.
pub(crate) struct Receivers {
    listener: TcpListener,
    address: SocketAddr,
}

/// Receivers at work.
pub(crate) struct Serving {
    ledger: Ledger,
    fixed: Arc<AtomicBool>,
    stop: oneshot::Sender<()>,
    server: JoinHandle<std::io::Result<()>>,
}

impl Receivers {
    pub(crate) async fn bind() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves one route for each endpoint, each with that endpoint's secret.
    pub(crate) fn serve(self, endpoints: &[Endpoint]) -> Result<Serving> {
        let (ledger, fixed) = (Ledger::default(), Arc::new(AtomicBool::new(false)));
        let mut app = Router::new();
        for endpoint in endpoints {
            let name = endpoint.settings.description.clone();
            let secret = &endpoint.secrets.first().ok_or("no secret")?.secret;
            let desk = Desk {
                name: name.clone(),
                receiver: Receiver::builder(Verifier::new(secret.clone())).build(),
                ledger: ledger.clone(),
                fixed: Arc::clone(&fixed),
            };
            app = app.nest(&format!("/{name}"), desk.router());
        }
        let (stop, stopped) = oneshot::channel::<()>();
        let server = axum::serve(self.listener, app)
            .with_graceful_shutdown(async { stopped.await.unwrap_or(()) });
        Ok(Serving {
            ledger,
            fixed,
            stop,
            server: tokio::spawn(server.into_future()),
        })
    }
}

impl Serving {
    /// Mends the bug of `/payments`.
    pub(crate) fn fix(&self) {
        self.fixed.store(true, Ordering::SeqCst);
    }

    /// Ends the receivers, and tells what they saw.
    pub(crate) async fn stop(self) -> Seen {
        self.stop.send(()).ok();
        self.server.await.ok();
        std::mem::take(&mut self.ledger.seen())
    }
}

/// One endpoint's state.
#[derive(Clone)]
struct Desk {
    name: String,
    receiver: Receiver,
    ledger: Ledger,
    fixed: Arc<AtomicBool>,
}

/// Where [`Verified`] finds the receiver that verifies.
impl FromRef<Desk> for Receiver {
    fn from_ref(desk: &Desk) -> Self {
        desk.receiver.clone()
    }
}

/// The part of the body that is handled.
#[derive(Deserialize)]
struct Payload {
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    name: String,
    currency: Option<String>,
}

impl Desk {
    fn router(self) -> Router {
        let day = Duration::from_secs(86_400);
        let once = Deduplicate::new(self.receiver.clone(), MemoryDeduplicator::new(1_000, day));
        Router::new()
            .route("/", post(handle))
            .route_layer(from_fn_with_state(once, deduplicate))
            // Outermost, so that it sees what the layers inside refuse, too.
            .route_layer(from_fn_with_state(self.clone(), count))
            .with_state(self)
    }

    /// What this service makes of an event that has come `tries` times: 503 while it is down, 400 for what
    /// it cannot read.
    fn verdict(&self, data: &Data, tries: usize) -> StatusCode {
        let is_down = self.name == "everything" && tries <= scenario::failing_tries(&data.name);
        let is_odd = data.currency.as_deref().is_some_and(|it| it != "EUR");
        let has_bug = self.name == "payments" && !self.fixed.load(Ordering::SeqCst);
        if is_down {
            StatusCode::SERVICE_UNAVAILABLE
        } else if is_odd && has_bug {
            StatusCode::BAD_REQUEST
        } else {
            StatusCode::NO_CONTENT
        }
    }
}

/// Runs only for an event that is rightly signed and was not handled before.
async fn handle(State(desk): State<Desk>, webhook: Verified<Payload>) -> StatusCode {
    let mut seen = desk.ledger.seen();
    let tally = seen.entry(desk.name.clone()).or_default();
    let tries = tally.requests.get(&webhook.id).copied().unwrap_or(0);
    let status = desk.verdict(&webhook.event.data, tries);
    if status.is_success() {
        tally
            .handled
            .entry(webhook.id)
            .or_default()
            .push(webhook.body);
    }
    status
}

/// Counts every request, whatever comes of it.
async fn count(State(desk): State<Desk>, request: Request, next: Next) -> Response {
    let id = request.headers().get("webhook-id");
    let id = id
        .and_then(|id| id.to_str().ok())
        .unwrap_or("none")
        .to_owned();
    *desk
        .ledger
        .seen()
        .entry(desk.name.clone())
        .or_default()
        .requests
        .entry(id)
        .or_default() += 1;
    let response = next.run(request).await;
    if response.status() == StatusCode::UNAUTHORIZED {
        desk.ledger
            .seen()
            .entry(desk.name.clone())
            .or_default()
            .unverified += 1;
    }
    response
}

#[derive(Clone, Default)]
struct Ledger(Arc<Mutex<Seen>>);

impl Ledger {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

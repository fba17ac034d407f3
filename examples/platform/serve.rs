//! The server, and the way down.

use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::middleware::from_fn;
use axum::response::Redirect;
use axum::routing::get;
use hyper_util::rt::TokioTimer;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use webhook_delivery::{Auth, Dispatcher, Metrics};

use crate::settings::{Role, Settings};
use crate::traces::Traces;
use crate::value::Database;
use crate::{connections, host, logging, store};

pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// How long API requests that are under way may take to end once the process is asked to stop.
const API_DRAIN: Duration = Duration::from_secs(10);

/// Serves until SIGTERM or SIGINT.
pub(crate) fn run(settings: Settings) -> Result<()> {
    let traces = settings.collector.as_ref().map(Traces::to).transpose()?;
    logging::start(settings.log.clone(), settings.log_format, traces.as_ref());
    for warning in &settings.warnings {
        tracing::warn!("{warning}");
    }
    let served = runtime()?.block_on(serve(settings));
    if let Some(traces) = traces {
        traces.end();
    }
    if served.is_ok() {
        say("stopped");
    }
    served
}

/// Applies the database's migrations.
pub(crate) fn migrate(database: &Database) -> Result<()> {
    say(runtime()?.block_on(store::migrate(database))?);
    Ok(())
}

/// Seals what is stored with the current key.
pub(crate) fn rekey(settings: &Settings) -> Result<()> {
    logging::start(settings.log.clone(), settings.log_format, None);
    let done = runtime()?.block_on(store::rekey(settings))?;
    say(&format!("endpoints sealed anew: {}", done.rekeyed));
    match (done.unopened, done.changed) {
        (0, 0) => Ok(()),
        (0, changed) => Err(format!("{changed} endpoints changed meanwhile: try again").into()),
        (unopened, _) => Err(format!(
            "{unopened} endpoints cannot be opened: give the key that sealed them, after the current one and a comma"
        )
        .into()),
    }
}

fn runtime() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
}

async fn serve(settings: Settings) -> Result<()> {
    let mut signals = Signals::new()?;
    // Before the dispatcher, which looks up once where it reports to.
    let metrics = Metrics::install()?;
    tokio::spawn(metrics.clone().upkeep());
    let dispatcher = store::dispatcher(&settings).await?;
    let app = app(&settings, dispatcher.clone(), &metrics)?;
    let listener = bind(settings.address).await?;
    let address = listener.local_addr()?;
    say(&format!("listening on http://{address}"));
    if settings.role != Role::Worker {
        say(&format!("dashboard at http://{address}/dashboard/"));
    }

    let (stop_api, stop_worker) = (CancellationToken::new(), CancellationToken::new());
    let worker = (settings.role != Role::Api).then(|| {
        let stopped = stop_worker.clone().cancelled_owned();
        let dispatcher = dispatcher.clone();
        tokio::spawn(async move { dispatcher.run(stopped).await })
    });
    let api = tokio::spawn(connections::serve(
        listener,
        app,
        TokioTimer::new(),
        stop_api.clone(),
    ));

    signals.recv().await;
    say("stopping");
    // First nothing more is accepted, then nothing more is claimed; what is under way ends.
    stop_api.cancel();
    if tokio::time::timeout(API_DRAIN, api).await.is_err() {
        tracing::warn!("API requests outlived the drain");
    }
    stop_worker.cancel();
    match worker {
        Some(worker) => worker.await?,
        // What it counted last; no reason to fail or to stay.
        None => drop(tokio::time::timeout(API_DRAIN, dispatcher.flush_stats()).await),
    }
    Ok(())
}

fn app(settings: &Settings, dispatcher: Dispatcher, metrics: &Metrics) -> Result<Router> {
    let auth = match &settings.admin_token {
        Some(token) => Auth::bearer(token.as_str())?,
        None => Auth::none(),
    };
    let metrics = metrics.router(dispatcher.clone(), auth.clone());
    let routes = match settings.role {
        Role::Worker => webhook_delivery::probes(dispatcher),
        Role::All | Role::Api => webhook_delivery::router(dispatcher, auth)
            .route("/", get(async || Redirect::temporary("/dashboard/"))),
    };
    let app = routes.merge(metrics);
    Ok(match settings.admin_token {
        Some(_) => app,
        None => app.layer(from_fn(host::only_this_machine)),
    })
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

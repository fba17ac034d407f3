//! A host of the engine: a process that enqueues, delivers, or both. It is what gets killed.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use clap::Args;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::Level;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use webhook_delivery::{
    BreakerPolicy, Builder, Dispatcher, EndpointUrl, HttpTransport, NetworkPolicy, NewEndpoint,
    PgStore, RedisQueue, RetryPolicy, Secret, SqliteStore, Store, Tenant,
};

use crate::Result;
use crate::attempts::{Log, LoggingTransport};
use crate::load::{Kind, Route};
use crate::producer::{Producer, Production};
use crate::shop::Shop;
use crate::sink;

/// The most attempts at once of a process.
pub(crate) const MAX_IN_FLIGHT: usize = 32;

/// An attempt's deadline: with the margin, what a dead process's deliveries wait for.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(1);

/// For how long an endpoint is left alone.
const BREAK: Duration = Duration::from_secs(1);

/// When what failed is tried again.
const RETRY: Duration = Duration::from_millis(250);

/// What the engine calls the span of a claim.
pub(crate) const CLAIM: &str = "webhook.claim";

/// Tenants with two endpoints each; the first has the ordered one, too.
pub(crate) const TENANTS: u64 = 8;

/// Where nodes keep things.
#[derive(Clone, Debug, Args)]
pub(crate) struct Place {
    /// `sqlite:<path>` or a Postgres URL.
    #[arg(long)]
    pub(crate) store: String,
    /// A Redis URL, for a queue beside the store.
    #[arg(long)]
    pub(crate) queue: Option<String>,
    /// What the names of the queue's keys begin with.
    #[arg(long, default_value = "webhook")]
    pub(crate) key_prefix: String,
    /// How many seconds longer than its attempt a claim lasts.
    #[arg(long, default_value_t = 2)]
    pub(crate) lease_margin: u64,
}

/// What a node does.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Duties {
    #[command(flatten)]
    pub(crate) production: Option<Production>,
    /// Delivers, and writes its attempts down in this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) work: Option<PathBuf>,
}

/// Runs as a node until it gets SIGTERM, or its standard input ends: it never outlives its parent.
pub(crate) fn serve(place: &Place, duties: &Duties) -> Result {
    log(duties);
    let stop = CancellationToken::new();
    let orphaned = stop.clone();
    thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        orphaned.cancel();
    });
    Runtime::new()?.block_on(async {
        let dispatcher = place.open(duties.work.as_deref()).await?;
        let producing = match &duties.production {
            Some(production) => {
                let shop = Shop::open(place).await?;
                let producer = Producer::new(dispatcher.clone(), shop, production, stop.clone())?;
                tokio::spawn(producer.run())
            }
            None => tokio::spawn(async {}),
        };
        let working = match duties.work {
            Some(_) => {
                let stop = stop.clone();
                tokio::spawn(async move { dispatcher.run(stop.cancelled_owned()).await })
            }
            None => tokio::spawn(async {}),
        };
        println!("ready");
        let mut terminated = signal(SignalKind::terminate())?;
        tokio::select! {
            _ = terminated.recv() => stop.cancel(),
            () = stop.cancelled() => {}
        }
        producing.await?;
        working.await?;
        Ok(())
    })
}

/// A node that enqueues and delivers also says how many deliveries each of its claims took, before it attempts any of
/// them: what it attempts beyond these, it claimed with their insert.
fn log(duties: &Duties) {
    let does_both = duties.production.is_some() && duties.work.is_some();
    let spans = match does_both {
        true => FmtSpan::CLOSE,
        false => FmtSpan::NONE,
    };
    let logs = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_span_events(spans)
        .with_writer(std::io::stderr);
    let logged = logs.with_filter(filter_fn(move |it| match does_both && it.is_span() {
        true => it.name() == CLAIM,
        false => *it.level() <= Level::INFO,
    }));
    tracing_subscriber::registry().with(logged).init();
}

impl Place {
    /// With a file, what is attempted is written down there.
    pub(crate) async fn open(&self, attempts: Option<&Path>) -> Result<Dispatcher> {
        match self.store.split_once(':') {
            Some(("postgres", _)) => {
                let store = PgStore::connect(&self.store).await?;
                self.build(store, attempts).await
            }
            Some(("sqlite", path)) => {
                let store = SqliteStore::open(path).await?;
                self.build(store, attempts).await
            }
            _ => Err(format!("no store is at {}", self.store).into()),
        }
    }

    async fn build<S: Store + 'static>(
        &self,
        store: S,
        attempts: Option<&Path>,
    ) -> Result<Dispatcher> {
        let mut builder = self.configure(store).await?;
        if let Some(file) = attempts {
            let log = Log::start(file)?;
            let inner = HttpTransport::builder().policy(policy()?);
            let transport = LoggingTransport {
                log: log.clone(),
                inner: inner.max_idle_per_host(MAX_IN_FLIGHT).build()?,
            };
            builder = builder.transport(transport).observer(log);
        }
        Ok(builder.build()?.erase())
    }

    /// As every node of a fault is set.
    pub(crate) async fn configure<S: Store + 'static>(&self, store: S) -> Result<Builder<S>> {
        let mut builder = Dispatcher::builder(store);
        if let Some(url) = &self.queue {
            let queue = RedisQueue::builder(url).key_prefix(&self.key_prefix);
            builder = builder.queue(queue.connect().await?);
        }
        Ok(builder
            .network_policy(policy()?)
            .retry_policy(
                RetryPolicy::default()
                    .schedule(vec![RETRY; 1_000])
                    .jitter(0.0),
            )
            .max_in_flight(MAX_IN_FLIGHT)
            .request_timeout(REQUEST_TIMEOUT)
            // Breakers open here, too, but not for so long that it would be waited for in vain.
            .breaker(BreakerPolicy::default().open_for(BREAK, BREAK))
            .lease_margin(Duration::from_secs(self.lease_margin)))
    }
}

fn policy() -> Result<NetworkPolicy> {
    let policy = NetworkPolicy::builder().allow_http(true);
    Ok(policy.allow_networks(["127.0.0.0/8".parse()?]).build())
}

/// Makes the endpoints.
pub(crate) async fn create_endpoints(dispatcher: &Dispatcher, url: &str) -> Result {
    for tenant in 0..TENANTS {
        for route in Route::ALL {
            if route == Route::Ordered && tenant > 0 {
                continue;
            }
            let endpoint = endpoint(tenant, route, url)?;
            dispatcher.endpoints().create(endpoint).await?;
        }
    }
    Ok(())
}

fn endpoint(tenant: u64, route: Route, url: &str) -> Result<NewEndpoint> {
    let url: EndpointUrl = format!("{url}{}", route.path()).parse()?;
    let kinds = Kind::ALL.into_iter();
    let kinds = kinds.filter(|kind| kind.routes().contains(&route));
    let types = kinds.map(|kind| kind.event_type().parse());
    let secret: Secret = sink::SECRET.parse()?;
    let endpoint = NewEndpoint::new(url)
        .tenant(self::tenant(tenant)?)
        .event_types(types.collect::<std::result::Result<Vec<_>, _>>()?)
        .secret(secret);
    Ok(match route {
        Route::Ordered => endpoint.ordered(),
        _ => endpoint,
    })
}

pub(crate) fn tenant(number: u64) -> Result<Tenant> {
    Ok(Tenant::new(&format!("tenant-{number}"))?)
}

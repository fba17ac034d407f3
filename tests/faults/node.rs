//! A host of the engine: a process that enqueues, delivers, or both. It is what gets killed.

use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use clap::Args;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use webhook_delivery::{
    Builder, Dispatcher, EndpointUrl, NetworkPolicy, NewEndpoint, NewEvent, PgStore, RedisQueue,
    RetryPolicy, Secret, SqliteStore, Store, Tenant,
};

use crate::Result;
use crate::journal::{Entry, Journal};
use crate::sink;

/// The most attempts at once of a process.
pub(crate) const MAX_IN_FLIGHT: usize = 32;

/// An attempt's deadline: with the margin, what a dead process's deliveries wait for.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(1);

/// Tenants with an endpoint each.
const TENANTS: u64 = 8;

/// The most events that one producer is enqueueing at a time.
const ENQUEUEING: usize = 256;

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
    /// Enqueues so many events a second.
    #[arg(long)]
    pub(crate) rate: Option<u64>,
    /// Where it writes down which of them were accepted.
    #[arg(long, requires = "rate")]
    pub(crate) journal: Option<PathBuf>,
    /// Delivers.
    #[arg(long)]
    pub(crate) work: bool,
}

/// Runs as a node until it gets SIGTERM, or its standard input ends: it never outlives its parent.
pub(crate) fn serve(place: &Place, duties: &Duties) -> Result {
    tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .init();
    let stop = CancellationToken::new();
    let orphaned = stop.clone();
    thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        orphaned.cancel();
    });
    Runtime::new()?.block_on(async {
        let dispatcher = place.open().await?;
        let producing = match (duties.rate, &duties.journal) {
            (Some(rate), Some(journal)) => {
                let journal = Journal::start(File::create(journal)?);
                tokio::spawn(produce(dispatcher.clone(), rate, journal, stop.clone()))
            }
            _ => tokio::spawn(async {}),
        };
        let working = match duties.work {
            true => {
                let (dispatcher, stop) = (dispatcher.clone(), stop.clone());
                tokio::spawn(async move { dispatcher.run(stop.cancelled_owned()).await })
            }
            false => tokio::spawn(async {}),
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

impl Place {
    pub(crate) async fn open(&self) -> Result<Dispatcher> {
        match self.store.split_once(':') {
            Some(("postgres", _)) => {
                let store = PgStore::connect(&self.store).await?;
                Ok(self.configure(store).await?.build()?.erase())
            }
            Some(("sqlite", path)) => {
                let store = SqliteStore::open(path).await?;
                Ok(self.configure(store).await?.build()?.erase())
            }
            _ => Err(format!("no store is at {}", self.store).into()),
        }
    }

    async fn configure<S: Store + 'static>(&self, store: S) -> Result<Builder<S>> {
        let mut builder = Dispatcher::builder(store);
        if let Some(url) = &self.queue {
            let queue = RedisQueue::builder(url).key_prefix(&self.key_prefix);
            builder = builder.queue(queue.connect().await?);
        }
        let policy = NetworkPolicy::builder().allow_http(true);
        let policy = policy.allow_networks(["127.0.0.0/8".parse()?]);
        let often = vec![Duration::from_millis(250); 1_000];
        Ok(builder
            .network_policy(policy.build())
            .retry_policy(RetryPolicy::default().schedule(often).jitter(0.0))
            .max_in_flight(MAX_IN_FLIGHT)
            .request_timeout(REQUEST_TIMEOUT)
            .lease_margin(Duration::from_secs(self.lease_margin)))
    }
}

/// Makes the endpoints: each event goes to exactly one.
pub(crate) async fn create_endpoints(dispatcher: &Dispatcher, url: &str) -> Result {
    for tenant in 0..TENANTS {
        let url: EndpointUrl = url.parse()?;
        let secret: Secret = sink::SECRET.parse()?;
        let endpoint = NewEndpoint::new(url).tenant(of(tenant)?).secret(secret);
        dispatcher.endpoints().create(endpoint).await?;
    }
    Ok(())
}

/// Enqueues numbered events until it is to stop, whatever becomes of them. As many at a time as the store
/// needs to keep the rate.
async fn produce(dispatcher: Dispatcher, rate: u64, journal: Journal, stop: CancellationToken) {
    let journal = Arc::new(journal);
    let room = Arc::new(Semaphore::new(ENQUEUEING));
    let enqueueing = TaskTracker::new();
    let mut ticks =
        tokio::time::interval(Duration::from_secs(1) / u32::try_from(rate).unwrap_or(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for number in 0.. {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stop.cancelled() => break,
        }
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
            break;
        };
        let (dispatcher, journal) = (dispatcher.clone(), Arc::clone(&journal));
        enqueueing.spawn(async move {
            if let Err(error) = enqueue(&dispatcher, number, &journal).await {
                tracing::error!(%error, "an event is not accounted for");
            }
            drop(permit);
        });
    }
    enqueueing.close();
    enqueueing.wait().await;
}

/// Accepted is what `enqueue` said, after it said so.
async fn enqueue(dispatcher: &Dispatcher, number: u64, journal: &Journal) -> Result {
    let event = NewEvent::data("fault.tested", format!(r#"{{"number":{number}}}"#))?;
    let event = event.tenant(of(number % TENANTS)?);
    journal.note(Entry::Begun);
    match dispatcher.enqueue(event).await {
        Ok(id) => journal.write(Entry::accepted(id)).await,
        Err(error) => {
            tracing::warn!(?error, "refused");
            journal.write(Entry::Refused).await
        }
    }
}

fn of(number: u64) -> Result<Tenant> {
    Ok(Tenant::new(&format!("tenant-{number}"))?)
}

//! What the counted operations find: a store with some lanes, and an engine on one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use tokio::runtime::Runtime;
use tokio::sync::Notify;
use webhook_delivery::testing::{ManualClock, endpoint_for, event_for};
use webhook_delivery::{
    Attempt, ClaimOptions, Dispatcher, EndpointSettings, HeaderLog, Hold, InsertOptions, Lease,
    MemoryStore, NewEndpoint, NewEvent, Next, Notice, OnConflict, Outcome, Queue, Record, Settle,
    Store, Timestamp, Transport, TransportError,
};

use crate::Result;
use crate::count::{Cost, Counter};

/// How many are loaded, recorded and delivered together.
pub(crate) const BATCH: usize = 64;
/// What the clock shows.
pub(crate) const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);
const LANES: usize = 64;
/// What each lane has: more than is claimed and recorded in all.
const JOBS: usize = 10;
const LEASE: Duration = Duration::from_secs(30);

/// A store with lanes whose jobs are due.
pub(crate) struct Scene {
    runtime: Runtime,
    store: MemoryStore,
    queue: Arc<dyn Queue>,
}

impl Scene {
    /// Beside so many that are parked.
    pub(crate) fn new(parked: usize) -> Result<Self> {
        let runtime = runtime()?;
        let store = MemoryStore::new();
        let queue = store.queue().ok_or("the store is no queue")?;
        runtime.block_on(async {
            park(&store, &queue, parked).await?;
            for lane in 0..LANES {
                fill(&store, &format!("t{lane}"), JOBS).await?;
            }
            Result::Ok(())
        })?;
        Ok(Self {
            runtime,
            store,
            queue,
        })
    }

    /// Claims so many. They are given back.
    pub(crate) fn claim(&self, counter: &mut Counter, count: usize) -> Result<Cost> {
        self.give_back(&self.take(count)?)?;
        let (cost, leases) = counter.once(|| self.take(count))?;
        self.give_back(&leases)?;
        Ok(cost)
    }

    /// Loads so many. They are given back.
    pub(crate) fn load(&self, counter: &mut Counter, count: usize) -> Result<Cost> {
        let leases = self.take(count)?;
        let load = || Ok(self.runtime.block_on(self.store.load(&leases, Some(NOW)))?);
        let cost = counter.warm(load)?;
        self.give_back(&leases)?;
        Ok(cost)
    }

    /// Records so many that have succeeded.
    pub(crate) fn record(&self, counter: &mut Counter, count: usize) -> Result<Cost> {
        let leases = self.take(count)?;
        let records: Vec<_> = leases.iter().map(|lease| succeeded(*lease)).collect();
        let record = || {
            let recorded = self.store.record(&records, Some(NOW));
            Ok(self.runtime.block_on(recorded)?)
        };
        Ok(counter.once(record)?.0)
    }

    fn take(&self, count: usize) -> Result<Vec<Lease>> {
        let claim = self.queue.claim(ClaimOptions::new(count, LEASE), Some(NOW));
        let leases = self.runtime.block_on(claim)?.leases;
        if leases.len() == count {
            Ok(leases)
        } else {
            Err(format!("{} instead of {count} were claimed", leases.len()).into())
        }
    }

    fn give_back(&self, leases: &[Lease]) -> Result {
        let unused = Settle::Unused(Duration::ZERO);
        let unused: Vec<_> = leases.iter().map(|lease| (*lease, unused)).collect();
        let settle = self.queue.settle(&unused, Some(NOW));
        Ok(self.runtime.block_on(settle)?)
    }
}

/// A dispatcher on a store, at work whenever its runtime is.
pub(crate) struct Engine {
    runtime: Runtime,
    dispatcher: Dispatcher,
    delivered: Arc<Delivered>,
}

#[derive(Default)]
struct Delivered {
    count: AtomicUsize,
    another: Notify,
}

impl Engine {
    /// With so many endpoints, beside so many deliveries that are parked.
    pub(crate) fn new(endpoints: usize, parked: usize) -> Result<Self> {
        let runtime = runtime()?;
        let delivered = Arc::new(Delivered::default());
        let observed = Arc::clone(&delivered);
        let store = MemoryStore::new();
        let queue = store.queue().ok_or("the store is no queue")?;
        runtime.block_on(park(&store, &queue, parked))?;
        let dispatcher = Dispatcher::builder(store)
            .transport(Accepting)
            .clock(ManualClock::new(NOW))
            .seed(7)
            .observer(move |notice: &Notice<'_>| observed.hear(notice))
            .build()?
            .erase();
        for number in 0..endpoints {
            let url = format!("https://hooks.example.com/{number}").parse()?;
            let create = NewEndpoint::new(url);
            runtime.block_on(dispatcher.endpoints().create(create))?;
        }
        Ok(Self {
            runtime,
            dispatcher,
            delivered,
        })
    }

    /// Enqueues an event; nothing is delivered meanwhile.
    pub(crate) fn enqueue(&self, counter: &mut Counter) -> Result<Cost> {
        counter.warm(|| {
            let event = NewEvent::data("load.test", "1".to_owned())?;
            Ok(self.runtime.block_on(self.dispatcher.enqueue(event))?)
        })
    }

    /// Delivers from now on.
    pub(crate) fn start(self) -> Self {
        let worker = self.dispatcher.clone();
        let forever = async move { worker.run(std::future::pending()).await };
        self.runtime.spawn(forever);
        self
    }

    /// Enqueues so many at once, with so many bytes of data each, and waits for their records.
    pub(crate) fn deliver(
        &self,
        counter: &mut Counter,
        count: usize,
        bytes: usize,
    ) -> Result<Cost> {
        self.runtime.block_on(self.batch(data(count, bytes)))?;
        let mut data = data(count, bytes);
        let deliver = || self.runtime.block_on(self.batch(std::mem::take(&mut data)));
        Ok(counter.once(deliver)?.0)
    }

    async fn batch(&self, data: Vec<String>) -> Result {
        let target = self.delivered.count.load(Ordering::Relaxed) + data.len();
        for data in data {
            let dispatcher = self.dispatcher.clone();
            let event = NewEvent::data("load.test", data)?;
            tokio::spawn(async move { dispatcher.enqueue(event).await });
        }
        while self.delivered.count.load(Ordering::Relaxed) < target {
            self.delivered.another.notified().await;
        }
        Ok(())
    }
}

impl Delivered {
    fn hear(&self, notice: &Notice<'_>) {
        if matches!(notice, Notice::Delivered(_)) {
            self.count.fetch_add(1, Ordering::Relaxed);
            self.another.notify_one();
        }
    }
}

/// Takes whatever it is given, and keeps none of it.
struct Accepting;

#[async_trait]
impl Transport for Accepting {
    async fn send(
        &self,
        _: Request<Bytes>,
    ) -> std::result::Result<Response<Bytes>, TransportError> {
        Ok(Response::new(Bytes::new()))
    }
}

/// Everything happens on this thread, in an order that does not depend on the time that it takes.
fn runtime() -> Result<Runtime> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    Ok(builder.enable_all().build()?)
}

/// Brings a store a lane that is held, with so many jobs.
async fn park(store: &MemoryStore, queue: &Arc<dyn Queue>, count: usize) -> Result {
    if count == 0 {
        return Ok(());
    }
    let lane = fill(store, "parked", count).await?;
    let hold = Hold::new(Duration::from_secs(3_600));
    Ok(queue.hold(lane, hold, Some(NOW)).await?)
}

/// Brings a store a tenant with an endpoint, and events for it; answers which endpoint.
async fn fill(store: &MemoryStore, tenant: &str, count: usize) -> Result<uuid::Uuid> {
    let endpoint = endpoint_for(tenant, EndpointSettings::default());
    store.insert_endpoint(&endpoint, usize::MAX).await?;
    let events: Vec<_> = (0..count)
        .map(|_| event_for(tenant, "load.test", "1", NOW))
        .collect();
    let options = InsertOptions::new(OnConflict::Skip);
    store.insert_events(&events, &options, Some(NOW)).await?;
    Ok(endpoint.id)
}

fn succeeded(lease: Lease) -> Record {
    let headers = HeaderLog::from(&HeaderMap::new());
    let outcome = Outcome::Response {
        status: 200,
        headers: headers.clone(),
        body: Bytes::new(),
        truncated: false,
    };
    let attempt = Attempt {
        started_at: NOW,
        duration: Duration::from_millis(12),
        first_byte: None,
        request_headers: headers,
        outcome,
    };
    Record {
        lease,
        attempt: Some(Arc::new(attempt)),
        next: Next::Succeeded,
        disable: None,
        hold: None,
        health: None,
        event: None,
    }
}

/// JSON strings of so many bytes.
fn data(count: usize, bytes: usize) -> Vec<String> {
    vec![format!("\"{}\"", "x".repeat(bytes - 2)); count]
}

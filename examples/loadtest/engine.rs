//! The engine: the same events, accepted, kept, claimed, signed, sent and recorded.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::task::JoinHandle;
use webhook_delivery::{
    Builder, Dispatcher, NetworkPolicy, NewEndpoint, NewEvent, Notice, RetryPolicy, Store,
};

use crate::counters::Count;
use crate::report::{Latency, Round};
use crate::sink::{BESIDE, Seen, Sink, now_micros};
use crate::store::{self, Configure, Kept};
use crate::worker::Worker;
use crate::{Options, Result};

/// As much as the largest event takes.
static PADDING: LazyLock<String> = LazyLock::new(|| "x".repeat(200_000));

/// Room for new events is given and taken in steps, so that it costs next to nothing.
const ROOM_STEP: u64 = 16;

/// Events at a pace that are not counted.
const WARM_UP: u64 = 100;

/// A dispatcher, at work once it runs, and the count of what it has delivered.
pub(crate) struct Engine {
    dispatcher: Dispatcher,
    delivered: Arc<Delivered>,
    kept: Kept,
    worker: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
    /// Other processes that deliver, too.
    others: Vec<Worker>,
}

struct Delivered {
    /// Whether this process does not know of all.
    is_of_several: bool,
    /// For events that are accepted and not yet delivered.
    room: Arc<Semaphore>,
    count: AtomicU64,
    target: AtomicU64,
    reached: Notify,
}

/// An event's data: about `options.payload` bytes of JSON with the time in it. Made in one allocation: what
/// is measured is the engine, not this.
pub(crate) fn data(options: &Options, number: u64) -> String {
    let size = usize::try_from(options.payload).unwrap_or(usize::MAX);
    let mut data = String::with_capacity(size.max(128));
    write!(
        data,
        r#"{{"at":{},"number":{number},"padding":""#,
        now_micros()
    )
    .ok();
    data.push_str(&PADDING[..size.saturating_sub(data.len() + 2).min(PADDING.len())]);
    data.push_str(r#""}"#);
    data
}

/// Accepts and delivers the events as fast as it can, in as many processes as there should be.
pub(crate) async fn throughput(options: &Options, sink: &Sink) -> Result<Round> {
    let options = &options.shared();
    let mut engine = Engine::start(options, sink).await?;
    for _ in 1..options.processes {
        engine.others.push(Worker::start(options).await?);
    }
    engine.throughput(options, sink, 1).await
}

/// Enqueues so many events at a pace, and asks the receiver how long each was under way.
pub(crate) async fn latency(
    options: &Options,
    sink: &Sink,
    rate: u32,
    events: u64,
) -> Result<Option<Latency>> {
    let alone = &Options {
        processes: 1,
        ..options.clone()
    };
    let engine = Engine::start(alone, sink).await?;
    // What a process does for the first time takes longer.
    let warm_up = events.min(WARM_UP);
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / rate);
    for number in 0..warm_up + events {
        if number == warm_up {
            engine.wait_for(warm_up).await;
            sink.take_seen().await?;
            ticks.reset();
        }
        ticks.tick().await;
        let event = NewEvent::data("load.test", data(options, number))?;
        engine.enqueue(event).await?;
    }
    engine.wait_for(warm_up + events).await;
    engine.stop().await?;
    Ok(Latency::new(sink.take_seen().await?.latencies))
}

impl Engine {
    /// At work, with one endpoint.
    async fn start(options: &Options, sink: &Sink) -> Result<Self> {
        let mut engine = Self::build(options).await?;
        engine.create(NewEndpoint::new(sink.url().parse()?)).await?;
        engine.run();
        Ok(engine)
    }

    /// Without an endpoint, and not yet at work.
    pub(crate) async fn build(options: &Options) -> Result<Self> {
        Self::with_retries(options, RetryPolicy::default()).await
    }

    /// The same, retrying in another way.
    pub(crate) async fn with_retries(options: &Options, retries: RetryPolicy) -> Result<Self> {
        let delivered = Arc::new(Delivered::new(options));
        let settings = Settings {
            count: Arc::clone(&delivered),
            in_flight: usize::try_from(options.in_flight())?,
            retries,
        };
        let (dispatcher, kept) = store::build(options, settings).await?;
        Ok(Self {
            dispatcher,
            delivered,
            kept,
            worker: None,
            others: Vec::new(),
        })
    }

    /// Accepts events, each for so many endpoints, and makes `options.events` deliveries of them as fast as it can.
    pub(crate) async fn throughput(
        self,
        options: &Options,
        sink: &Sink,
        endpoints: u64,
    ) -> Result<Round> {
        let before = self.count().await?;
        let began = Instant::now();
        let enqueue = self.enqueue_all(options, endpoints);
        let (enqueued, mut seen) = tokio::try_join!(enqueue, self.deliver(options, sink))?;
        let elapsed = began.elapsed();
        let after = self.count().await?;
        self.stop().await?;
        seen.add(sink.take_seen().await?);
        Ok(Round {
            sent: options.events,
            received: seen.requests,
            repeated: seen.repeated(),
            seconds: elapsed.as_secs_f64(),
            enqueue_seconds: Some(enqueued.as_secs_f64()),
            spent: Count::spent(before, after, options.events),
        })
    }

    /// Until all are delivered: as this process says, or as the receiver says if there are others. What that has told so far.
    async fn deliver(&self, options: &Options, sink: &Sink) -> Result<Seen> {
        if self.others.is_empty() {
            self.delivered.wait_for(options.events).await;
            return Ok(Seen::default());
        }
        let seen = sink.wait_for(options.events, |new| self.delivered.add(new));
        let seen = seen.await?;
        if seen.requests < options.events {
            return Err("nothing more is delivered".into());
        }
        Ok(seen)
    }

    pub(crate) fn run(&mut self) {
        let (stop, stopped) = oneshot::channel::<()>();
        let worker = self.dispatcher.clone();
        let worker =
            tokio::spawn(async move { worker.run(async { stopped.await.unwrap_or(()) }).await });
        self.worker = Some((stop, worker));
    }

    pub(crate) async fn create(&self, endpoint: NewEndpoint) -> Result<()> {
        self.dispatcher.endpoints().create(endpoint).await?;
        Ok(())
    }

    pub(crate) async fn enqueue(&self, event: NewEvent) -> Result<()> {
        self.dispatcher.enqueue(event).await?;
        Ok(())
    }

    pub(crate) async fn enqueue_batch(&self, events: Vec<NewEvent>) -> Result<()> {
        self.dispatcher.enqueue_batch(events).await?;
        Ok(())
    }

    /// Until so many deliveries that count have succeeded in this process.
    pub(crate) async fn wait_for(&self, target: u64) {
        self.delivered.wait_for(target).await;
    }

    /// Enqueues from as many tasks as there is concurrency; returns how long that took.
    async fn enqueue_all(&self, options: &Options, endpoints: u64) -> Result<Duration> {
        let events = options.events / endpoints;
        let step = (ROOM_STEP / endpoints).max(1);
        let room_step = u32::try_from(step * endpoints)?;
        let next = Arc::new(AtomicU64::new(0));
        let began = Instant::now();
        let tasks: Vec<_> = (0..options.in_flight())
            .map(|_| {
                let (dispatcher, room) =
                    (self.dispatcher.clone(), Arc::clone(&self.delivered.room));
                let (next, options) = (Arc::clone(&next), options.clone());
                tokio::spawn(async move {
                    loop {
                        let first = next.fetch_add(step, Ordering::Relaxed);
                        if first >= events {
                            return Result::Ok(());
                        }
                        room.acquire_many(room_step).await?.forget();
                        for number in first..events.min(first + step) {
                            let event = NewEvent::data("load.test", data(&options, number))?;
                            dispatcher.enqueue(event).await?;
                        }
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await??;
        }
        Ok(began.elapsed())
    }

    /// What the databases have done so far, if there is one that counts.
    pub(crate) async fn count(&self) -> Result<Option<Count>> {
        match &self.kept {
            Kept::Counters(counters) => counters.read().await.map(Some),
            Kept::Nothing | Kept::File(_) => Ok(None),
        }
    }

    pub(crate) async fn stop(self) -> Result<()> {
        for other in self.others {
            other.stop().await?;
        }
        if let Some((stop, worker)) = self.worker {
            stop.send(()).ok();
            worker.await?;
        }
        Ok(())
    }
}

/// How the engine is set up.
struct Settings {
    count: Arc<Delivered>,
    in_flight: usize,
    retries: RetryPolicy,
}

impl Configure for Settings {
    fn finish<S: Store + 'static>(self, builder: Builder<S>) -> Result<Dispatcher> {
        let dispatcher = builder
            .network_policy(loopback()?)
            .max_in_flight(self.in_flight)
            .max_in_flight_per_endpoint(u32::try_from(self.in_flight)?)
            .retry_policy(self.retries)
            .observer(move |notice: &Notice<'_>| self.count.hear(notice))
            .build()?;
        Ok(dispatcher.erase())
    }
}

/// Allows what the receiver's URLs need.
pub(crate) fn loopback() -> Result<NetworkPolicy> {
    let policy = NetworkPolicy::builder().allow_http(true);
    Ok(policy.allow_networks(["127.0.0.0/8".parse()?]).build())
}

/// What goes beside the endpoints that are looked at does not count.
fn is_counted(notice: &Notice<'_>) -> bool {
    let Notice::Delivered(report) = notice else {
        return false;
    };
    !report.endpoint.url.as_url().path().starts_with(BESIDE)
}

impl Delivered {
    fn new(options: &Options) -> Self {
        Self {
            is_of_several: options.processes > 1,
            room: Arc::new(Semaphore::new(
                usize::try_from(options.outstanding).unwrap_or(usize::MAX),
            )),
            count: AtomicU64::new(0),
            target: AtomicU64::new(0),
            reached: Notify::new(),
        }
    }

    fn hear(&self, notice: &Notice<'_>) {
        if !self.is_of_several && is_counted(notice) {
            self.add(1);
        }
    }

    fn add(&self, new: u64) {
        let before = self.count.fetch_add(new, Ordering::SeqCst);
        let count = before + new;
        let steps = count / ROOM_STEP - before / ROOM_STEP;
        if steps > 0 {
            self.room.add_permits((steps * ROOM_STEP) as usize);
        }
        if count >= self.target.load(Ordering::SeqCst) {
            self.reached.notify_one();
        }
    }

    async fn wait_for(&self, target: u64) {
        self.target.store(target, Ordering::SeqCst);
        while self.count.load(Ordering::SeqCst) < target {
            self.reached.notified().await;
        }
    }
}

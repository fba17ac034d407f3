//! Whether what callers wait for grows with what is stored.
//!
//! The stores are asked in turns, so that all see the same machine. None of them runs meanwhile: what is enqueued waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use webhook_delivery::{
    ClaimOptions, DeliveryFilter, Dispatcher, PageRequest, PgStore, Queue, Scope, Settle,
    StatsRange, Store as _,
};

use super::{Finding, endpoint, event};
use crate::engine::{Engine, loopback};
use crate::report::{Latency, median};
use crate::sink::{Sink, now_micros};
use crate::{Options, Result, StoreKind, store};

const ENDPOINTS: u32 = 10;
/// Delivered in earnest, so that there are statistics to seed more from.
const DELIVERED: u32 = 1_000;
/// Deliveries that wait for the claims, which give back what they took.
const READY: u32 = 6_400;
const BATCH: usize = 128;
const LEASE: Duration = Duration::from_secs(30);
/// The most events of each round.
const ENQUEUED: u64 = 20_000;
/// How often a round asks for the rest, and claims each time.
const LOOKS: u32 = 50;
const CLAIMS_OF_LOOK: u32 = 4;
const PAGE: usize = 50;
/// How many deliveries are seeded at once.
const PIECE: usize = 250_000;
/// How far back the page in the middle begins: half of what is seeded.
const DEEP_MILLIS: u64 = 29 * 86_400_000 / 2;
const TABLES: [&str; 5] = [
    "events",
    "deliveries",
    "deliveries_history",
    "attempts",
    "stats",
];

/// A store with so much in it, and how long it took; in µs.
struct Grown {
    stored: u64,
    schema: String,
    store: PgStore,
    queue: Arc<dyn Queue>,
    dispatcher: Dispatcher,
    enqueued_per_second: Vec<f64>,
    claims: Vec<u32>,
    stats: Vec<u32>,
    first_pages: Vec<u32>,
    deep_pages: Vec<u32>,
}

pub(super) async fn measure(options: &Options) -> Result<Finding> {
    if matches!(options.store, StoreKind::Memory | StoreKind::Sqlite) {
        return Err("growth is seeded in Postgres: choose postgres or redis".into());
    }
    let sink = Sink::start().await?;
    let mut stores = Vec::new();
    for stored in &options.stored {
        stores.push(Grown::open(options, *stored, &sink).await?);
    }
    sink.stop().await?;
    // The first round is not counted: caches and connections get ready.
    for round in 0..=options.rounds {
        for _ in 0..LOOKS {
            for grown in &mut stores {
                grown.look().await?;
            }
        }
        for grown in &mut stores {
            let per_second = grown.enqueue(options).await?;
            grown.enqueued_per_second.push(per_second);
            if round == 0 {
                grown.forget();
            }
        }
    }
    let mut finding = Finding::new(options);
    let medians: Vec<_> = stores.iter().map(Grown::figures).collect();
    for (grown, figures) in stores.iter().zip(&medians) {
        for (name, unit, value) in figures {
            finding.figure(format!("{name}_at_{}", grown.stored), *value, unit);
        }
    }
    if let (Some(first), Some(last)) = (medians.first(), medians.last()) {
        for ((name, _, first), (.., last)) in first.iter().zip(last) {
            finding.figure(format!("{name}_ratio"), last / first, "last ÷ first");
        }
    }
    for grown in stores {
        let sql = format!("DROP SCHEMA {} CASCADE", grown.schema);
        store::run(&grown.store, sql).await?;
    }
    Ok(finding)
}

impl Grown {
    async fn open(options: &Options, stored: u64, sink: &Sink) -> Result<Self> {
        let schema = format!("{}_{stored}", options.schema);
        let options = &Options {
            schema: schema.clone(),
            ..options.shared()
        };
        deliver(options, sink).await?;
        let store = store::connect(options).await?;
        seed(&store, &schema, stored).await?;
        for table in TABLES {
            store::run(&store, format!("VACUUM ANALYZE {schema}.{table}")).await?;
        }
        store::run(&store, "CHECKPOINT".to_owned()).await?;

        let builder = Dispatcher::builder(store.clone()).network_policy(loopback()?);
        let (dispatcher, queue) = if options.store == StoreKind::Redis {
            let queue = store::redis(options).await?;
            let dispatcher = builder.queue(queue.clone()).build()?;
            (dispatcher, Arc::new(queue) as Arc<dyn Queue>)
        } else {
            let queue = store.queue().ok_or("the store is no queue")?;
            (builder.build()?, queue)
        };
        let grown = Self {
            stored,
            schema,
            store,
            queue,
            dispatcher: dispatcher.erase(),
            enqueued_per_second: Vec::new(),
            claims: Vec::new(),
            stats: Vec::new(),
            first_pages: Vec::new(),
            deep_pages: Vec::new(),
        };
        let ready = (0..READY).map(|number| event(options, number % ENDPOINTS));
        let ready = ready.collect::<Result<Vec<_>>>()?;
        for batch in ready.chunks(1_000) {
            grown.dispatcher.enqueue_batch(batch.to_vec()).await?;
        }
        Ok(grown)
    }

    /// Some claims, and one of everything else that is read.
    async fn look(&mut self) -> Result<()> {
        for _ in 0..CLAIMS_OF_LOOK {
            let took = self.claim().await?;
            self.claims.push(took);
        }
        let began = Instant::now();
        let stats = self.dispatcher.stats(&Scope::All, StatsRange::Day, None);
        stats.await?;
        self.stats.push(micros_since(began));
        let took = self.page(PageRequest::first(PAGE)).await?;
        self.first_pages.push(took);
        let half = now_micros() / 1_000 - DEEP_MILLIS;
        let half = uuid::Builder::from_unix_timestamp_millis(half, &[0; 10]).into_uuid();
        let deep = PageRequest {
            before: Some(half),
            limit: PAGE,
        };
        let took = self.page(deep).await?;
        self.deep_pages.push(took);
        Ok(())
    }

    /// How long a claim took; what it brought is given back.
    async fn claim(&self) -> Result<u32> {
        let began = Instant::now();
        let claim = ClaimOptions::new(BATCH, LEASE);
        let claimed = self.queue.claim(claim, None).await?;
        let took = micros_since(began);
        if claimed.leases.is_empty() {
            return Err("a claim brought nothing".into());
        }
        let unused = Settle::Unused(Duration::ZERO);
        let given_back: Vec<_> = claimed.leases.iter().map(|it| (*it, unused)).collect();
        self.queue.settle(&given_back, None).await?;
        Ok(took)
    }

    async fn page(&self, page: PageRequest) -> Result<u32> {
        let began = Instant::now();
        let deliveries = self.dispatcher.deliveries();
        let page = deliveries.list(&DeliveryFilter::default(), page).await?;
        let took = micros_since(began);
        if page.items.len() == PAGE {
            Ok(took)
        } else {
            Err(format!("a page of {} deliveries", page.items.len()).into())
        }
    }

    /// How many events a second are accepted from as many tasks as there is concurrency.
    async fn enqueue(&self, options: &Options) -> Result<f64> {
        let events = options.events.min(ENQUEUED);
        let next = Arc::new(AtomicU64::new(0));
        let began = Instant::now();
        let tasks: Vec<_> = (0..options.concurrency)
            .map(|_| {
                let (dispatcher, next) = (self.dispatcher.clone(), Arc::clone(&next));
                let options = options.clone();
                tokio::spawn(async move {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= events {
                            return Result::Ok(());
                        }
                        let tenant = u32::try_from(number)? % ENDPOINTS;
                        dispatcher.enqueue(event(&options, tenant)?).await?;
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await??;
        }
        Ok(events as f64 / began.elapsed().as_secs_f64())
    }

    fn forget(&mut self) {
        self.enqueued_per_second.clear();
        for times in [
            &mut self.claims,
            &mut self.stats,
            &mut self.first_pages,
            &mut self.deep_pages,
        ] {
            times.clear();
        }
    }

    /// Each with its name and unit.
    fn figures(&self) -> Vec<(&'static str, &'static str, f64)> {
        let latency = |times: &[u32]| Latency::new(times.to_vec());
        let p50 = |times: &[u32]| latency(times).map_or(f64::NAN, |it| it.p50_ms);
        let p99 = |times: &[u32]| latency(times).map_or(f64::NAN, |it| it.p99_ms);
        let enqueued = median(self.enqueued_per_second.iter().copied());
        vec![
            ("enqueued", "events/s, the median round", enqueued),
            ("claim_p50", "ms", p50(&self.claims)),
            ("claim_p99", "ms", p99(&self.claims)),
            ("stats_p50", "ms, of 24 hours", p50(&self.stats)),
            ("first_page_p50", "ms", p50(&self.first_pages)),
            ("deep_page_p50", "ms", p50(&self.deep_pages)),
        ]
    }
}

/// Brings a store so many deliveries that have ended, piece by piece, as all at once would be one long transaction.
async fn seed(store: &PgStore, schema: &str, stored: u64) -> Result<()> {
    let partitions = "SELECT webhook.make_partitions(now() - interval '29 days', 29)";
    let run = |sql: &str| store::run(store, sql.replace("webhook.", &format!("{schema}.")));
    run(partitions).await?;
    for first in (1..=stored).step_by(PIECE) {
        let last = stored.min(first + PIECE as u64 - 1);
        let piece = include_str!("growth.sql")
            .replace("$STORED", &stored.to_string())
            .replace("$FIRST", &first.to_string())
            .replace("$LAST", &last.to_string());
        run(&piece).await?;
        eprintln!("{last} of {stored} deliveries are seeded");
    }
    run(include_str!("growth_stats.sql")).await
}

/// Makes the store anew with its endpoints, and brings each of them some events.
async fn deliver(options: &Options, sink: &Sink) -> Result<()> {
    let mut engine = Engine::build(options).await?;
    for number in 0..ENDPOINTS {
        engine.create(endpoint(sink, "at", number)?).await?;
    }
    engine.run();
    let events = (0..DELIVERED).map(|number| event(options, number % ENDPOINTS));
    engine.enqueue_batch(events.collect::<Result<_>>()?).await?;
    engine.wait_for(u64::from(DELIVERED)).await;
    engine.stop().await
}

fn micros_since(began: Instant) -> u32 {
    u32::try_from(began.elapsed().as_micros()).unwrap_or(u32::MAX)
}

//! What a claim costs on Postgres beside a million finished deliveries and 100,000 parked ones, and without.
//!
//! `DATABASE_URL=postgres://… cargo bench --bench claim_cost --features postgres`
//!
//! The three stores are asked in turns, so that all see the same machine. Each claim takes 128 of 6,400 ready
//! deliveries in 64 lanes, which are then given back.

#![allow(clippy::disallowed_methods, reason = "what is measured is real time")]

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use webhook_delivery::{ClaimOptions, PgStore, PgStoreBuilder, Queue, Settle, Store as _};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Claims of each store: the first ones are not counted.
const CLAIMS: usize = 400;
const WARM_UP: usize = 50;
const BATCH: usize = 128;
const LEASE: Duration = Duration::from_secs(30);

struct Case {
    name: &'static str,
    finished: u32,
    parked: u32,
    lanes: u32,
}

const CASES: [Case; 3] = [
    Case {
        name: "nothing else",
        finished: 0,
        parked: 0,
        lanes: 0,
    },
    Case {
        name: "1M finished, 100k parked in one lane",
        finished: 1_000_000,
        parked: 100_000,
        lanes: 1,
    },
    Case {
        name: "1M finished, 100k parked in 10k lanes",
        finished: 1_000_000,
        parked: 100_000,
        lanes: 10_000,
    },
];

struct Measured {
    store: PgStore,
    schema: String,
    queue: Arc<dyn Queue>,
    times: Vec<Duration>,
}

fn main() -> Result<()> {
    let url = std::env::var("DATABASE_URL").map_err(|_| "DATABASE_URL names no Postgres server")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(measure(&url))
}

async fn measure(url: &str) -> Result<()> {
    let mut stores = Vec::new();
    for (number, case) in CASES.iter().enumerate() {
        stores.push(Measured::open(url, number, case).await?);
    }
    for round in 0..WARM_UP + CLAIMS {
        for store in &mut stores {
            let took = store.claim().await?;
            if round >= WARM_UP {
                store.times.push(took);
            }
        }
    }
    let base = stores[0].quantile(0.5);
    for (store, case) in stores.iter().zip(&CASES) {
        let (p50, p99) = (store.quantile(0.5), store.quantile(0.99));
        println!(
            "{:<40} p50 {:>6.2} ms  p99 {:>6.2} ms  ratio {:.2}",
            case.name,
            p50.as_secs_f64() * 1e3,
            p99.as_secs_f64() * 1e3,
            p50.as_secs_f64() / base.as_secs_f64(),
        );
    }
    for store in stores {
        store.drop_schema().await?;
    }
    Ok(())
}

impl Measured {
    async fn open(url: &str, number: usize, case: &Case) -> Result<Self> {
        let schema = format!("claim_cost_{number}");
        let builder = || PgStoreBuilder::default().schema(&schema).max_connections(4);
        let old = builder().connect(url).await?;
        run(&old, format!("DROP SCHEMA {schema} CASCADE")).await?;
        old.pool().close().await;

        let store = builder().connect(url).await?;
        let seed = include_str!("seed.sql")
            .replace("webhook.", &format!("{schema}."))
            .replace("$FINISHED", &case.finished.to_string())
            .replace("$PARKED", &case.parked.to_string())
            .replace("$LANES", &case.lanes.to_string());
        run(&store, seed).await?;
        for table in ["deliveries", "deliveries_history", "events", "attempts"] {
            run(&store, format!("VACUUM ANALYZE {schema}.{table}")).await?;
        }
        let queue = store.queue().ok_or("the store is no queue")?;
        Ok(Self {
            store,
            schema,
            queue,
            times: Vec::new(),
        })
    }

    /// How long a claim took; what it brought is given back.
    async fn claim(&self) -> Result<Duration> {
        let began = Instant::now();
        let claimed = self
            .queue
            .claim(ClaimOptions::new(BATCH, LEASE), None)
            .await?;
        let took = began.elapsed();
        if claimed.leases.len() != BATCH {
            return Err(format!("{} instead of {BATCH}", claimed.leases.len()).into());
        }
        let unused = Settle::Unused(Duration::ZERO);
        let given_back: Vec<_> = claimed.leases.iter().map(|it| (*it, unused)).collect();
        self.queue.settle(&given_back, None).await?;
        Ok(took)
    }

    fn quantile(&self, of: f64) -> Duration {
        let mut times = self.times.clone();
        times.sort_unstable();
        times[((times.len() - 1) as f64 * of) as usize]
    }

    async fn drop_schema(self) -> Result<()> {
        run(&self.store, format!("DROP SCHEMA {} CASCADE", self.schema)).await
    }
}

async fn run(store: &PgStore, sql: String) -> Result<()> {
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
        .execute(store.pool())
        .await?;
    Ok(())
}

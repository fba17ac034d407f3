//! Events accepted a second on Postgres by concurrent callers, beside rows committed one by one.
//!
//! `DATABASE_URL=postgres://… cargo bench --bench enqueue --features postgres`
//!
//! 64 tasks each and then 256, by turns: an `INSERT` of one row of the same size into a table with one index, committed
//! by itself; and `Dispatcher::enqueue` to one endpoint, which stores the event and its delivery. Both have 16
//! connections.

#![allow(clippy::disallowed_methods, reason = "what is measured is real time")]

use std::error::Error;
use std::future::Future;
use std::time::Instant;

use sqlx::{AssertSqlSafe, PgPool};
use webhook_delivery::{
    Dispatcher, EndpointSettings, NewEndpoint, NewEvent, PgStore, PgStoreBuilder,
};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const SCHEMA: &str = "enqueue_cost";
const TASKS: [usize; 2] = [64, 256];
const CONNECTIONS: u32 = 16;
const ROUNDS: usize = 5;
const EVENTS: usize = 20_480;
const PAYLOAD: usize = 1_024;

fn main() -> Result<()> {
    let url = std::env::var("DATABASE_URL").map_err(|_| "DATABASE_URL names no Postgres server")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(measure(&url))
}

async fn measure(url: &str) -> Result<()> {
    let store = store(url).await?;
    let pool = store.pool().clone();
    let dispatcher = Dispatcher::builder(store).build()?;
    let endpoint = NewEndpoint::new("https://example.com/".parse()?);
    let endpoint = endpoint.settings(EndpointSettings::default());
    dispatcher.endpoints().create(endpoint).await?;
    let data = format!("\"{}\"", "x".repeat(PAYLOAD));

    println!("tasks  single-row commits  enqueue  ratio");
    for tasks in TASKS {
        let (mut single, mut enqueued) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            single.push(rate(tasks, || commit_row(pool.clone(), data.clone())).await?);
            let enqueue = || enqueue(dispatcher.clone(), data.clone());
            enqueued.push(rate(tasks, enqueue).await?);
        }
        let (single, enqueued) = (median(single), median(enqueued));
        let ratio = enqueued / single;
        println!("{tasks:>5}  {single:>16.0}/s  {enqueued:>5.0}/s  {ratio:>5.2}");
    }
    run(&pool, format!("DROP SCHEMA {SCHEMA} CASCADE")).await
}

async fn store(url: &str) -> Result<PgStore> {
    let builder = || {
        PgStoreBuilder::default()
            .schema(SCHEMA)
            .max_connections(CONNECTIONS)
    };
    let old = builder().connect(url).await?;
    run(old.pool(), format!("DROP SCHEMA {SCHEMA} CASCADE")).await?;
    old.pool().close().await;
    let store = builder().connect(url).await?;
    let table = format!("CREATE TABLE {SCHEMA}.row (id uuid PRIMARY KEY, body text NOT NULL)");
    run(store.pool(), table).await?;
    Ok(store)
}

/// How many a second by so many tasks.
async fn rate<F>(tasks: usize, work: impl Fn() -> F) -> Result<f64>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let began = Instant::now();
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..tasks {
        let chain: Vec<F> = (0..EVENTS / tasks).map(|_| work()).collect();
        running.spawn(async move {
            for one in chain {
                one.await?;
            }
            Result::Ok(())
        });
    }
    while let Some(done) = running.join_next().await {
        done??;
    }
    Ok(EVENTS as f64 / began.elapsed().as_secs_f64())
}

async fn commit_row(pool: PgPool, body: String) -> Result<()> {
    sqlx::query("INSERT INTO enqueue_cost.row (id, body) VALUES ($1, $2)")
        .bind(uuid::Uuid::now_v7())
        .bind(body)
        .execute(&pool)
        .await?;
    Ok(())
}

async fn enqueue(dispatcher: Dispatcher<PgStore>, data: String) -> Result<()> {
    dispatcher
        .enqueue(NewEvent::data("load.test", data)?)
        .await?;
    Ok(())
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_unstable_by(f64::total_cmp);
    rates[rates.len() / 2]
}

async fn run(pool: &PgPool, sql: String) -> Result<()> {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(pool).await?;
    Ok(())
}

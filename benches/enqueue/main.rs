//! Events accepted a second on Postgres by concurrent callers, beside rows committed one by one; and by the batch.
//!
//! `DATABASE_URL=postgres://… cargo bench --bench enqueue --features postgres`
//!
//! One task, 64 and then 256, by turns: an `INSERT` of one row of the same size into a table with one index, committed
//! by itself; and `Dispatcher::enqueue` to one endpoint, which stores the event and its delivery. Both have 16
//! connections. Then, from one task, batches of 500 by turns as well: `Dispatcher::enqueue_batch`; what it writes, an
//! event and a delivery, as rows of two plain tables by two `INSERT … SELECT … FROM UNNEST` in one transaction; and
//! the first of the two by itself. A number behind `--` says how many events a round has.

#![allow(clippy::disallowed_methods, reason = "what is measured is real time")]

use std::error::Error;
use std::future::Future;
use std::time::Instant;

use sqlx::{AssertSqlSafe, PgExecutor, PgPool};
use uuid::Uuid;
use webhook_delivery::{Dispatcher, NewEndpoint, NewEvent, PgStore, PgStoreBuilder};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const SCHEMA: &str = "enqueue_cost";
const TASKS: [usize; 3] = [1, 64, 256];
const BATCH: usize = 500;
const CONNECTIONS: u32 = 16;
const ROUNDS: usize = 5;
const EVENTS: usize = 20_480;
const PAYLOAD: usize = 1_024;

fn main() -> Result<()> {
    let url = std::env::var("DATABASE_URL").map_err(|_| "DATABASE_URL names no Postgres server")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    // Cargo adds arguments of its own.
    let rows = std::env::args().find_map(|arg| arg.parse().ok());
    runtime.block_on(measure(&url, rows.unwrap_or(EVENTS)))
}

async fn measure(url: &str, rows: usize) -> Result<()> {
    let store = store(url).await?;
    let pool = store.pool().clone();
    let dispatcher = Dispatcher::builder(store).build()?;
    let endpoint = NewEndpoint::new("https://example.com/".parse()?);
    dispatcher.endpoints().create(endpoint).await?;
    let data = format!("\"{}\"", "x".repeat(PAYLOAD));

    println!("tasks  single-row commits  enqueue  ratio  p50 of each, ms  p50 added, ms");
    for tasks in TASKS {
        let (mut single, mut enqueued) = (Rounds::default(), Rounds::default());
        // One after the other takes as long as a round of many.
        let rows = if tasks == 1 { rows / 10 } else { rows };
        for _ in 0..ROUNDS {
            single.push(rate(tasks, rows, || commit_row(pool.clone(), data.clone())).await?);
            let enqueue = || enqueue(dispatcher.clone(), data.clone());
            enqueued.push(rate(tasks, rows, enqueue).await?);
        }
        let (plain, plain_ms) = single.medians();
        let (rate, ms) = enqueued.medians();
        println!(
            "{tasks:>5}  {plain:>16.0}/s  {rate:>5.0}/s  {:>5.2}  {plain_ms:>6.2}, {ms:>6.2}  {:>13.2}",
            rate / plain,
            ms - plain_ms
        );
    }
    bulk(&pool, &dispatcher, &data, rows.div_ceil(BATCH)).await?;
    run(&pool, format!("DROP SCHEMA {SCHEMA} CASCADE")).await
}

async fn bulk(
    pool: &PgPool,
    dispatcher: &Dispatcher<PgStore>,
    data: &str,
    batches: usize,
) -> Result<()> {
    let (mut events, mut both, mut batched) =
        (Rounds::default(), Rounds::default(), Rounds::default());
    for _ in 0..ROUNDS {
        let insert = || insert_events(pool.clone(), data.to_owned());
        events.push(rate(1, batches, insert).await?);
        let insert = || insert_both(pool.clone(), data.to_owned());
        both.push(rate(1, batches, insert).await?);
        let enqueue = || enqueue_batch(dispatcher.clone(), data.to_owned());
        batched.push(rate(1, batches, enqueue).await?);
    }
    let per_second = |rounds: Rounds| rounds.medians().0 * BATCH as f64;
    let (events, both, batched) = (per_second(events), per_second(both), per_second(batched));
    println!(
        "\nbatches of {BATCH}: enqueue_batch {batched:.0} events/s; UNNEST of an event and a delivery \
         {both:.0}/s, ratio {:.2}; of an event alone {events:.0}/s, ratio {:.2}",
        batched / both,
        batched / events
    );
    Ok(())
}

/// How many a second, and the median time of one in ms, of each round.
#[derive(Default)]
struct Rounds(Vec<(f64, f64)>);

impl Rounds {
    fn push(&mut self, round: (f64, f64)) {
        self.0.push(round);
    }

    fn medians(&self) -> (f64, f64) {
        let (rates, times) = self.0.iter().copied().unzip();
        (median(rates), median(times))
    }
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
    let event = format!("CREATE TABLE {SCHEMA}.row (id uuid PRIMARY KEY, body text NOT NULL)");
    run(store.pool(), event).await?;
    let delivery = format!(
        "CREATE TABLE {SCHEMA}.job (id uuid PRIMARY KEY, row_id uuid NOT NULL, due_at timestamptz NOT NULL)"
    );
    run(store.pool(), delivery).await?;
    Ok(store)
}

/// How many a second by so many tasks, and the median time that one takes, in ms.
async fn rate<F>(tasks: usize, count: usize, work: impl Fn() -> F) -> Result<(f64, f64)>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let began = Instant::now();
    let mut running = tokio::task::JoinSet::new();
    let each = count.div_ceil(tasks);
    for _ in 0..tasks {
        let chain: Vec<F> = (0..each).map(|_| work()).collect();
        running.spawn(async move {
            let mut times = Vec::with_capacity(chain.len());
            for one in chain {
                let began = Instant::now();
                one.await?;
                times.push(began.elapsed().as_secs_f64() * 1e3);
            }
            Result::Ok(times)
        });
    }
    let mut times = Vec::new();
    while let Some(done) = running.join_next().await {
        times.extend(done??);
    }
    let rate = (each * tasks) as f64 / began.elapsed().as_secs_f64();
    Ok((rate, median(times)))
}

async fn commit_row(pool: PgPool, body: String) -> Result<()> {
    sqlx::query("INSERT INTO enqueue_cost.row (id, body) VALUES ($1, $2)")
        .bind(Uuid::now_v7())
        .bind(body)
        .execute(&pool)
        .await?;
    Ok(())
}

async fn insert_events(pool: PgPool, body: String) -> Result<()> {
    insert_rows(&ids(), body, &pool).await
}

async fn insert_both(pool: PgPool, body: String) -> Result<()> {
    let events = ids();
    let mut tx = pool.begin().await?;
    insert_rows(&events, body, &mut *tx).await?;
    sqlx::query(
        "INSERT INTO enqueue_cost.job (id, row_id, due_at)
        SELECT id, row_id, now() FROM UNNEST($1::uuid[], $2::uuid[]) AS new (id, row_id)",
    )
    .bind(ids())
    .bind(events)
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(())
}

fn ids() -> Vec<Uuid> {
    (0..BATCH).map(|_| Uuid::now_v7()).collect()
}

async fn insert_rows(ids: &[Uuid], body: String, executor: impl PgExecutor<'_>) -> Result<()> {
    sqlx::query(
        "INSERT INTO enqueue_cost.row (id, body) SELECT * FROM UNNEST($1::uuid[], $2::text[])",
    )
    .bind(ids)
    .bind(vec![body; BATCH])
    .execute(executor)
    .await?;
    Ok(())
}

async fn enqueue_batch(dispatcher: Dispatcher<PgStore>, data: String) -> Result<()> {
    let event = || NewEvent::data("load.test", data.clone());
    let events = (0..BATCH)
        .map(|_| event())
        .collect::<std::result::Result<_, _>>()?;
    dispatcher.enqueue_batch(events).await?;
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

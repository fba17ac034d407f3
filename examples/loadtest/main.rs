//! Measures the engine against a bare loop: one default reqwest client, as many tasks as there is
//! concurrency, one HMAC a request, to the same receiver in the same run.
//!
//! `cargo run --release --example loadtest -- --store memory --events 200000 --payload 1024 --concurrency 64 --json`
//!
//! Both run with one allocator (mimalloc), and events are enqueued no further ahead of their delivery than
//! `--outstanding`. The two are interleaved, and medians and their ratio are printed: on a shared machine only the ratio
//! means something. The receiver is a process of its own, started and stopped by this one, on loopback.
//!
//! With `--processes N`, others deliver beside this one; what is delivered is then what the receiver has got.
//!
//! What else `--scenario` may be:
//!
//! - `latency`: `--rate` events a second for `--seconds`, and how long each is under way.
//! - `drain`: `--events` wait before anything runs, and then a process delivers them, beside steady runs of a tenth as many.
//! - `fanout`: each event goes to `--endpoints` endpoints, beside steady runs; `--events` counts deliveries.
//! - `idle`: what a process with 10 endpoints and nothing to do takes of the databases and of the processor.
//! - `idle-in-transaction`: steady runs beside a session that stays in a transaction, by turns with runs without it.
//! - `growth`: enqueue, claims, statistics and pages on stores with as many finished deliveries as each of `--stored` says.
//! - `fairness`: 100 of 1,000 endpoints hang; then 100 quiet ones beside one with a backlog.
//! - `ratelimit`: three processes, one endpoint with a rate limit.
//! - `catchup`: 100 endpoints come back from an outage, each with a backlog.

#![allow(clippy::disallowed_methods, reason = "what is measured is real time")]

mod bare;
mod counters;
mod engine;
mod report;
mod scenario;
mod sink;
mod store;
mod worker;

use std::error::Error;
use std::fmt;

use clap::{Parser, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use report::{Report, Round};
use sink::Sink;

/// For the bare loop and the engine alike. glibc's locks an arena whenever another thread frees what this
/// one allocated, which is most of what a queue does; hosts under load choose another, and so does this.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Events a second whose way the steady run measures as well.
const LATENCY_RATE: u32 = 100;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Measures the engine against a bare loop of signed requests.
#[derive(Clone, Debug, Parser)]
struct Options {
    /// Where the engine keeps its events.
    #[arg(long, value_enum, default_value = "memory")]
    store: StoreKind,
    /// What is measured.
    #[arg(long, value_enum, default_value = "steady")]
    scenario: Scenario,
    /// Events of each round.
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    events: u64,
    /// Bytes of each event's data, about.
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u64).range(64..=200_000))]
    payload: u64,
    /// Requests at once, in both.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    concurrency: u64,
    /// Attempts at once in the engine; if not given, those of the bare loop on memory, and 1,000 where outcomes wait
    /// for a disk, as they hold their places until they are recorded.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    in_flight: Option<u64>,
    /// The Postgres server.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database_url: Option<String>,
    /// The Redis server.
    #[arg(long, env = "REDIS_URL", hide_env_values = true)]
    redis_url: Option<String>,
    /// Where a SQLite file is made; it is removed in the end.
    #[arg(long)]
    folder: Option<std::path::PathBuf>,
    /// Events that may be accepted and not yet delivered; producers wait beyond that.
    #[arg(long, default_value_t = 1_500, value_parser = clap::value_parser!(u64).range(100..=10_000_000))]
    outstanding: u64,
    /// Rounds of each, interleaved.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=100))]
    rounds: u64,
    /// Processes that deliver in the steady run, on stores that they share: this one, and so many less one beside it.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=16))]
    processes: u64,
    /// Endpoints of each event in `fanout`.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    endpoints: u64,
    /// Events a second of `latency`.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rate: u32,
    /// How long `idle` looks, and a round of `latency` takes.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: u64,
    /// Finished deliveries of the stores that `growth` compares.
    #[arg(long, value_delimiter = ',', default_values_t = [10_000, 1_000_000], value_parser = clap::value_parser!(u64).range(1_000..=10_000_000))]
    stored: Vec<u64>,
    /// Events at 100 a second whose way from enqueue to receipt is measured.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(0..=60_000))]
    latency_events: u64,
    /// Prints one line of JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// Runs as the receiver; for this program's own use.
    #[arg(long, hide = true)]
    sink: bool,
    /// Runs as one more process that delivers; for this program's own use.
    #[arg(long, hide = true)]
    worker: bool,
    /// The schema that is made anew on Postgres; for this program's own use.
    #[arg(long, hide = true, default_value = "loadtest")]
    schema: String,
    /// What the stores of one run have in their names; for this program's own use.
    #[arg(long, hide = true)]
    run: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// As many events as it takes, to one endpoint, beside a bare loop.
    Steady,
    /// A backlog that a process finds when it starts, beside steady runs with a tenth of the events.
    Drain,
    /// `--rate` events a second for `--seconds`, from enqueue to receipt.
    Latency,
    /// Each event goes to `--endpoints` endpoints, beside steady runs with as many deliveries.
    Fanout,
    /// What a process with nothing to do takes in `--seconds`.
    Idle,
    /// Steady runs on Postgres beside a session that stays in a transaction, by turns with runs without it.
    IdleInTransaction,
    /// What callers wait for beside so many finished deliveries as each of `--stored` says. Seeds them: takes minutes
    /// and gigabytes.
    Growth,
    /// 100 of 1,000 endpoints hang; then 100 quiet ones beside one with a backlog.
    Fairness,
    /// Three processes, one endpoint that takes 50 requests a second.
    Ratelimit,
    /// 100 endpoints are down, each with a backlog, and come back together.
    Catchup,
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Steady => "steady",
            Self::Drain => "drain",
            Self::Latency => "latency",
            Self::Fanout => "fanout",
            Self::Idle => "idle",
            Self::IdleInTransaction => "idle-in-transaction",
            Self::Growth => "growth",
            Self::Fairness => "fairness",
            Self::Ratelimit => "ratelimit",
            Self::Catchup => "catchup",
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum StoreKind {
    /// This process's memory.
    Memory,
    /// A SQLite file in the folder for temporary files, or in `--folder`.
    Sqlite,
    /// A Postgres server; what it keeps of an earlier run is dropped.
    Postgres,
    /// A Postgres server and a Redis server beside it.
    Redis,
}

impl Options {
    fn in_flight(&self) -> u64 {
        let default = match self.store {
            StoreKind::Memory => self.concurrency,
            StoreKind::Sqlite | StoreKind::Postgres | StoreKind::Redis => 1_000,
        };
        self.in_flight.unwrap_or(default)
    }

    fn check(&self) -> Result<()> {
        let is_fit = self.scenario == Scenario::Steady && self.store != StoreKind::Memory;
        if self.processes == 1 || is_fit {
            Ok(())
        } else {
            Err("--processes is for the steady run on a store that several processes share".into())
        }
    }

    /// In the names of what this run makes.
    fn run(&self) -> String {
        let own = || std::process::id().to_string();
        self.run.clone().unwrap_or_else(own)
    }

    /// For several processes, on stores that nobody has used before.
    fn shared(&self) -> Self {
        Self {
            run: Some(uuid::Uuid::now_v7().simple().to_string()),
            ..self.clone()
        }
    }
}

fn main() -> Result<()> {
    let options = Options::parse();
    if options.sink {
        return sink::serve();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    if options.worker {
        return runtime.block_on(worker::serve(&options));
    }
    options.check()?;
    if options.scenario == Scenario::Steady {
        let report = runtime.block_on(measure(&options))?;
        print(&options, &report)?;
        report.check()
    } else {
        let finding = runtime.block_on(scenario::measure(&options))?;
        print(&options, &finding)?;
        finding.check()
    }
}

fn print(options: &Options, found: &(impl Serialize + fmt::Display)) -> Result<()> {
    if options.json {
        println!("{}", serde_json::to_string(found)?);
    } else {
        println!("{found}");
    }
    Ok(())
}

async fn measure(options: &Options) -> Result<Report> {
    let sink = Sink::start().await?;
    let progress = progress(options);
    let (mut bare, mut engine) = (Vec::new(), Vec::new());
    warm_up(options, &sink).await?;
    for round in 1..=options.rounds {
        progress.set_message(format!("bare loop, round {round}"));
        bare.push(bare::run(options, &sink).await?);
        progress.inc(options.events);
        progress.set_message(format!("engine, round {round}"));
        engine.push(engine::throughput(options, &sink).await?);
        progress.inc(options.events);
    }
    progress.set_message("latency");
    let latency = match options.latency_events {
        0 => None,
        events => engine::latency(options, &sink, LATENCY_RATE, events).await?,
    };
    progress.finish_and_clear();
    sink.stop().await?;
    Ok(Report::new(options, &bare, &engine, latency))
}

/// A twentieth of a round of each, not counted: connections, allocator and caches get ready.
async fn warm_up(options: &Options, sink: &Sink) -> Result<()> {
    let short = Options {
        events: (options.events / 20).max(100),
        ..options.clone()
    };
    bare::run(&short, sink).await?;
    let _: Round = engine::throughput(&short, sink).await?;
    Ok(())
}

/// A bar on a terminal, nothing elsewhere.
fn progress(options: &Options) -> ProgressBar {
    let bar = ProgressBar::new(options.events * options.rounds * 2);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} {msg}") {
        bar.set_style(style);
    }
    bar
}

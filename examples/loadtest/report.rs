//! What was measured: medians, and the ratio to the bare loop.

use std::fmt;

use serde::Serialize;

use crate::{Options, Result};

/// One round of either.
#[derive(Debug, Serialize)]
pub(crate) struct Round {
    /// Events enqueued, or requests sent.
    pub(crate) sent: u64,
    /// Requests that the receiver counted.
    pub(crate) received: u64,
    /// How many of those brought what had been received before; not looked at in the bare loop, whose requests are alike.
    pub(crate) repeated: u64,
    /// From the first to the last.
    pub(crate) seconds: f64,
    /// Until the last event was accepted; the engine's only.
    pub(crate) enqueue_seconds: Option<f64>,
    /// What each delivery took of the database, if there is one that counts.
    pub(crate) spent: Option<Spent>,
}

impl Round {
    /// Deliveries or requests a second.
    pub(crate) fn per_second(&self) -> f64 {
        self.sent as f64 / self.seconds
    }

    /// Whether each was received exactly once.
    pub(crate) fn is_complete(&self) -> bool {
        self.sent == self.received && self.repeated == 0
    }
}

/// What a delivery took of the databases, from its enqueue to its record; or a minute.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Spent {
    /// By the transactions of the whole database, also those of its own housekeeping.
    pub(crate) statements: f64,
    /// Those that name the schema, if `pg_stat_statements` is there to tell.
    pub(crate) statements_here: Option<f64>,
    pub(crate) wal_bytes: f64,
    /// As the server counts them: also those that scripts run there.
    pub(crate) redis_commands: Option<f64>,
    /// Of those, the scripts.
    pub(crate) redis_scripts: Option<f64>,
}

/// From enqueue to receipt at 100 events a second, in milliseconds.
#[derive(Debug, Serialize)]
pub(crate) struct Latency {
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) max_ms: f64,
}

/// The whole run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    store: String,
    events: u64,
    payload: u64,
    concurrency: u64,
    processes: u64,
    rounds: u64,
    /// Requests a second of the bare loop, the median.
    bare_per_second: f64,
    /// Events accepted a second, the median.
    events_per_second: f64,
    /// Deliveries a second, from the first enqueue to the last record, the median.
    deliveries_per_second: f64,
    /// Deliveries a second divided by the bare loop's.
    ratio: f64,
    /// The median round's.
    spent: Option<Spent>,
    latency: Option<Latency>,
    /// The most memory that this process had, in MiB.
    peak_rss_mib: f64,
    /// Whether every event was received exactly once.
    complete: bool,
}

impl Latency {
    /// From microseconds, unsorted; `None` if there are none.
    pub(crate) fn new(mut micros: Vec<u32>) -> Option<Self> {
        micros.sort_unstable();
        let at = |share: f64| {
            let index = (micros.len() as f64 * share) as usize;
            micros
                .get(index.min(micros.len().checked_sub(1)?))
                .map(|micros| f64::from(*micros) / 1_000.0)
        };
        Some(Self {
            p50_ms: at(0.5)?,
            p99_ms: at(0.99)?,
            max_ms: at(1.0)?,
        })
    }
}

impl Report {
    pub(crate) fn new(
        options: &Options,
        bare: &[Round],
        engine: &[Round],
        latency: Option<Latency>,
    ) -> Self {
        let bare_per_second = median(bare.iter().map(Round::per_second));
        let deliveries_per_second = median(engine.iter().map(Round::per_second));
        let accepted =
            |round: &Round| round.sent as f64 / round.enqueue_seconds.unwrap_or(round.seconds);
        Self {
            store: format!("{:?}", options.store).to_lowercase(),
            events: options.events,
            payload: options.payload,
            concurrency: options.concurrency,
            processes: options.processes,
            rounds: options.rounds,
            bare_per_second,
            events_per_second: median(engine.iter().map(accepted)),
            deliveries_per_second,
            ratio: deliveries_per_second / bare_per_second,
            spent: engine.get(engine.len() / 2).and_then(|round| round.spent),
            latency,
            peak_rss_mib: peak_rss_mib("self"),
            complete: bare.iter().chain(engine).all(Round::is_complete),
        }
    }

    /// Fails if an event was lost or doubled.
    pub(crate) fn check(&self) -> Result<()> {
        if self.complete {
            Ok(())
        } else {
            Err("sent and received differ".into())
        }
    }
}

pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The most memory that a process had, or `self`, in MiB. As the kernel counts it; Linux only.
pub(crate) fn peak_rss_mib(process: &str) -> f64 {
    let peak = || {
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))?;
        let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kib / 1_024.0)
    };
    peak().unwrap_or(f64::NAN)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            store,
            events,
            payload,
            concurrency,
            processes,
            rounds,
            ..
        } = self;
        writeln!(
            f,
            "{store}: {rounds} × {events} events of {payload} bytes, {concurrency} at once, processes: {processes}; medians"
        )?;
        writeln!(
            f,
            "  bare loop      {:>10.0} requests/s",
            self.bare_per_second
        )?;
        writeln!(
            f,
            "  accepted       {:>10.0} events/s",
            self.events_per_second
        )?;
        writeln!(
            f,
            "  delivered      {:>10.0} deliveries/s",
            self.deliveries_per_second
        )?;
        writeln!(f, "  ratio          {:>10.2} of the bare loop", self.ratio)?;
        if let Some(spent) = self.spent {
            writeln!(f, "{spent}")?;
        }
        if let Some(Latency {
            p50_ms,
            p99_ms,
            max_ms,
        }) = &self.latency
        {
            writeln!(
                f,
                "  at 100/s       p50 {p50_ms:.2} ms, p99 {p99_ms:.2} ms, max {max_ms:.2} ms from enqueue to receipt"
            )?;
        }
        writeln!(
            f,
            "  memory         {:>10.0} MiB at most",
            self.peak_rss_mib
        )?;
        write!(
            f,
            "  received       {}",
            if self.complete {
                "each exactly once"
            } else {
                "NOT what was sent"
            }
        )
    }
}

impl fmt::Display for Spent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            statements,
            wal_bytes,
            redis_commands,
            redis_scripts,
            ..
        } = self;
        write!(
            f,
            "  database       {statements:>10.3} statements and {wal_bytes:.0} bytes of WAL a delivery"
        )?;
        if let Some((commands, scripts)) = redis_commands.zip(*redis_scripts) {
            write!(
                f,
                "\n  Redis          {commands:>10.3} commands a delivery, {scripts:.3} of them scripts that run the others"
            )?;
        }
        Ok(())
    }
}

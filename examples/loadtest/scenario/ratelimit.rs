//! Whether an endpoint's rate limit holds over several processes, as the receiver sees it.

use std::time::Duration;

use webhook_delivery::RateLimit;

use super::{Finding, endpoint, event};
use crate::engine::Engine;
use crate::sink::{Arrival, Sink};
use crate::worker::Worker;
use crate::{Options, Result, StoreKind};

const LIMIT: u32 = 50;
/// What may come at once: a tenth of the limit.
const BURST: u64 = 5;
const PROCESSES: usize = 3;
const EVENTS: u32 = 1_000;
const WARM_UP: u32 = 300;
const WARM_UP_TIME: Duration = Duration::from_secs(2);
const SECOND: u64 = 1_000_000;
/// Twice as long as it takes at the limit.
const LOOKS: u32 = 400;
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);

pub(super) async fn measure(options: &Options) -> Result<Finding> {
    if matches!(options.store, StoreKind::Memory) {
        return Err("several processes share no memory: choose another store".into());
    }
    let options = &options.shared();
    let sink = Sink::start().await?;
    let engine = Engine::build(options).await?;
    let limit = RateLimit {
        limit: LIMIT,
        per: Duration::from_secs(1),
    };
    let limited = endpoint(&sink, "at", 0)?.rate_limit(limit);
    engine.create(limited).await?;
    engine.create(endpoint(&sink, "beside", 1)?).await?;
    let mut workers = Vec::new();
    for _ in 0..PROCESSES {
        workers.push(Worker::start(options).await?);
    }
    // What a process does for the first time takes longer than two requests are apart.
    enqueue(&engine, options, 1, WARM_UP).await?;
    tokio::time::sleep(WARM_UP_TIME).await;
    enqueue(&engine, options, 0, EVENTS).await?;
    let mut arrivals = Vec::new();
    for _ in 0..LOOKS {
        tokio::time::sleep(BETWEEN_LOOKS).await;
        arrivals.extend(sink.take_seen().await?.arrivals);
        if arrivals.len() >= EVENTS as usize {
            break;
        }
    }
    for worker in workers {
        worker.stop().await?;
    }
    // Whatever else is sent must be seen, too.
    arrivals.extend(sink.take_seen().await?.arrivals);
    sink.stop().await?;
    Ok(judge(options, arrivals))
}

async fn enqueue(engine: &Engine, options: &Options, to: u32, count: u32) -> Result<()> {
    let events = (0..count).map(|_| event(options, to));
    engine.enqueue_batch(events.collect::<Result<_>>()?).await
}

fn judge(options: &Options, mut arrivals: Vec<Arrival>) -> Finding {
    arrivals.sort_unstable_by_key(|arrival| arrival.at);
    let span = match (arrivals.first(), arrivals.last()) {
        (Some(first), Some(last)) => (last.at - first.at) as f64 / SECOND as f64,
        _ => f64::NAN,
    };
    let peak = busiest(&arrivals, SECOND);
    let allowed = u64::from(LIMIT) + BURST;
    let mut finding = Finding::new(options);
    finding.figure("processes", PROCESSES as f64, "");
    finding.figure("limit_per_second", f64::from(LIMIT), "and a burst of 5");
    finding.figure(
        "mean_per_second",
        arrivals.len() as f64 / span,
        "at the receiver",
    );
    finding.figure("peak_per_second", peak as f64, "in any second there");
    finding.figure(
        "requests_per_event",
        arrivals.len() as f64 / f64::from(EVENTS),
        "",
    );
    finding.expect(peak <= allowed, format!("{peak} requests within a second"));
    finding.expect(
        arrivals.len() == EVENTS as usize,
        "not each event was received once",
    );
    finding
}

/// The most arrivals within so many microseconds; they are sorted.
pub(super) fn busiest(arrivals: &[Arrival], window: u64) -> u64 {
    let mut first = 0;
    let mut most = 0;
    for (last, arrival) in arrivals.iter().enumerate() {
        while arrival.at - arrivals[first].at >= window {
            first += 1;
        }
        most = most.max(last - first + 1);
    }
    most as u64
}

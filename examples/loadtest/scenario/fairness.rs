//! Whether endpoints that hang, or that have a long backlog, are felt by the others.

use std::time::{Duration, Instant};

use super::{Finding, endpoint, event};
use crate::engine::Engine;
use crate::report::{Latency, median};
use crate::sink::Sink;
use crate::{Options, Result};

const ENDPOINTS: u32 = 1_000;
/// Of those, how many hang until the timeout.
const HANGING: u32 = 100;
const HEALTHY: u32 = ENDPOINTS - HANGING;
/// The backlog of each.
const EACH: u32 = 20;
/// What the healthy ones get afterwards, one after the other, while the others still hang.
const PACED: u32 = 5_000;
const PACE: Duration = Duration::from_millis(2);

/// The endpoints beside one with a backlog.
const QUIET: u32 = 100;
const LONGEST_BACKLOG: u64 = 100_000;
const QUIET_PACE: Duration = Duration::from_millis(20);

/// What the healthy ones had.
struct Share {
    per_second: f64,
    latency: Latency,
}

pub(super) async fn measure(options: &Options) -> Result<Finding> {
    let sink = Sink::start().await?;
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        alone.push(healthy(options, &sink, "beside").await?);
        beside.push(healthy(options, &sink, "hang").await?);
    }
    let quiet = quiet(options, &sink).await?;
    sink.stop().await?;

    let mut finding = Finding::new(options);
    let per_second = |shares: &[Share]| median(shares.iter().map(|it| it.per_second));
    let (without, with) = (per_second(&alone), per_second(&beside));
    finding.figure(
        "alone_per_second",
        without,
        "deliveries/s of 900 endpoints, none hangs; the median",
    );
    finding.figure(
        "beside_per_second",
        with,
        "deliveries/s of them beside 100 that hang",
    );
    finding.figure("throughput_ratio", with / without, "");
    let p99 = |shares: &[Share]| median(shares.iter().map(|it| it.latency.p99_ms));
    let (without, with) = (p99(&alone), p99(&beside));
    finding.figure(
        "alone_p99_ms",
        without,
        "ms from enqueue to receipt at 500/s; the median",
    );
    finding.figure("beside_p99_ms", with, "ms");
    finding.figure("p99_ratio", with / without, "");
    finding.figure(
        "quiet_p50_ms",
        quiet.p50_ms,
        "ms, 100 quiet endpoints beside a backlog",
    );
    finding.figure("quiet_max_ms", quiet.max_ms, "ms");
    finding.expect(
        quiet.max_ms <= 1_000.0,
        "a quiet endpoint waited for more than a second",
    );
    Ok(finding)
}

/// The healthy endpoints' backlog as fast as it goes, then their events at a pace; the others are at `path`.
async fn healthy(options: &Options, sink: &Sink, path: &str) -> Result<Share> {
    let mut engine = Engine::build(options).await?;
    for number in 0..ENDPOINTS {
        let path = if number < HEALTHY { "at" } else { path };
        engine.create(endpoint(sink, path, number)?).await?;
    }
    for _ in 0..EACH {
        let round = (0..ENDPOINTS).map(|number| event(options, number));
        engine.enqueue_batch(round.collect::<Result<_>>()?).await?;
    }
    engine.run();
    let began = Instant::now();
    let backlog = HEALTHY * EACH;
    engine.wait_for(u64::from(backlog)).await;
    let per_second = f64::from(backlog) / began.elapsed().as_secs_f64();
    sink.take_seen().await?;

    let mut ticks = tokio::time::interval(PACE);
    for number in 0..PACED {
        ticks.tick().await;
        engine.enqueue(event(options, number % HEALTHY)?).await?;
    }
    engine.wait_for(u64::from(backlog + PACED)).await;
    let latency = Latency::new(sink.take_seen().await?.latencies);
    engine.stop().await?;
    // What hangs is cut off by now.
    sink.take_seen().await?;
    Ok(Share {
        per_second,
        latency: latency.ok_or("nothing was received")?,
    })
}

/// How long an event of each quiet endpoint is under way while another one's backlog is worked off.
async fn quiet(options: &Options, sink: &Sink) -> Result<Latency> {
    let mut engine = Engine::build(options).await?;
    for number in 0..QUIET {
        engine.create(endpoint(sink, "at", number)?).await?;
    }
    engine.create(endpoint(sink, "beside", QUIET)?).await?;
    let backlog = options.events.min(LONGEST_BACKLOG) / 1_000;
    for _ in 0..backlog {
        let batch = (0..1_000).map(|_| event(options, QUIET));
        engine.enqueue_batch(batch.collect::<Result<_>>()?).await?;
    }
    engine.run();
    let mut ticks = tokio::time::interval(QUIET_PACE);
    for number in 0..QUIET {
        ticks.tick().await;
        engine.enqueue(event(options, number)?).await?;
    }
    engine.wait_for(u64::from(QUIET)).await;
    let latency = Latency::new(sink.take_seen().await?.latencies);
    engine.stop().await?;
    sink.take_seen().await?;
    Ok(latency.ok_or("nothing was received")?)
}

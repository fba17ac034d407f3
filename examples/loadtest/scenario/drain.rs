//! How fast a process works off the backlog that it finds, and how much memory it needs for that.

use std::time::Instant;

use webhook_delivery::{NewEndpoint, NewEvent};

use super::Finding;
use crate::counters::Count;
use crate::engine::{self, Engine, data};
use crate::report::{Round, peak_rss_mib};
use crate::sink::Sink;
use crate::worker::Worker;
use crate::{Options, Result, StoreKind, bare};

/// Of the backlog, what a steady run takes.
const PART: u64 = 10;
const BATCH: u64 = 1_000;

pub(super) async fn measure(options: &Options) -> Result<Finding> {
    let part = Options {
        events: options.events.div_ceil(PART),
        ..options.clone()
    };
    let sink = Sink::start().await?;
    let (mut bare, mut steady, mut drained) = (Vec::new(), Vec::new(), Vec::new());
    let mut peak = 0_f64;
    crate::warm_up(&part, &sink).await?;
    for _ in 0..options.rounds {
        bare.push(bare::run(&part, &sink).await?);
        steady.push(engine::throughput(&part, &sink).await?);
        let (round, rss) = drain(&options.shared(), &sink).await?;
        drained.push(round);
        peak = peak.max(rss);
    }
    sink.stop().await?;

    let mut finding = Finding::new(options);
    finding.figure("backlog", options.events as f64, "events");
    finding.compare(&bare, &steady, &drained);
    finding.figure(
        "peak_rss_mib",
        peak,
        "MiB at most of the process that delivers",
    );
    Ok(finding)
}

/// Works a backlog off, as the receiver sees it; also the most memory, in MiB, of the process that did.
async fn drain(options: &Options, sink: &Sink) -> Result<(Round, f64)> {
    let mut engine = Engine::build(options).await?;
    engine.create(NewEndpoint::new(sink.url().parse()?)).await?;
    enqueue(&engine, options).await?;
    let before = engine.count().await?;
    let worker = if options.store == StoreKind::Memory {
        engine.run();
        None
    } else {
        Some(Worker::start(options).await?)
    };
    let began = Instant::now();
    let mut seen = sink.wait_for(options.events, |_| {}).await?;
    let seconds = began.elapsed().as_secs_f64();
    let own = || peak_rss_mib("self");
    let peak = worker.as_ref().map_or_else(own, Worker::peak_rss_mib);
    if let Some(worker) = worker {
        worker.stop().await?;
    }
    let after = engine.count().await?;
    engine.stop().await?;
    // Whatever else is sent must be seen, too.
    seen.add(sink.take_seen().await?);
    let round = Round {
        sent: options.events,
        received: seen.requests,
        repeated: seen.repeated(),
        seconds,
        enqueue_seconds: None,
        spent: Count::spent(before, after, options.events),
    };
    Ok((round, peak))
}

async fn enqueue(engine: &Engine, options: &Options) -> Result<()> {
    for first in (0..options.events).step_by(BATCH as usize) {
        let batch = first..options.events.min(first + BATCH);
        let batch = batch.map(|number| Ok(NewEvent::data("load.test", data(options, number))?));
        engine.enqueue_batch(batch.collect::<Result<_>>()?).await?;
    }
    Ok(())
}

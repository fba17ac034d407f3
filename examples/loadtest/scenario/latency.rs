//! How long an event is under way where there is little to do.

use super::Finding;
use crate::report::median;
use crate::sink::Sink;
use crate::{Options, Result, engine};

pub(super) async fn measure(options: &Options) -> Result<Finding> {
    let sink = Sink::start().await?;
    let events = u64::from(options.rate) * options.seconds;
    let mut rounds = Vec::new();
    for _ in 0..options.rounds {
        let latency = engine::latency(options, &sink, options.rate, events).await?;
        rounds.push(latency.ok_or("nothing was received")?);
    }
    sink.stop().await?;

    let mut finding = Finding::new(options);
    finding.figure("rate", f64::from(options.rate), "events/s");
    finding.figure("events", events as f64, "of each round");
    let p50 = median(rounds.iter().map(|it| it.p50_ms));
    let p99 = median(rounds.iter().map(|it| it.p99_ms));
    let max = rounds.iter().map(|it| it.max_ms).fold(0.0, f64::max);
    finding.figure(
        "p50_ms",
        p50,
        "ms from enqueue to receipt, the median round",
    );
    finding.figure("p99_ms", p99, "ms, the median round");
    finding.figure("max_ms", max, "ms, of all rounds");
    Ok(finding)
}

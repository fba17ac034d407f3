//! What it costs to bring an event to many endpoints, beside as many events to one.

use webhook_delivery::NewEndpoint;

use super::Finding;
use crate::engine::{self, Engine};
use crate::report::{Round, peak_rss_mib};
use crate::sink::Sink;
use crate::{Options, Result, bare};

pub(super) async fn measure(options: &Options) -> Result<Finding> {
    let endpoints = options.endpoints;
    let options = &Options {
        // Whole events, and room for two of them.
        events: options.events.div_ceil(endpoints) * endpoints,
        outstanding: options.outstanding.max(2 * endpoints),
        ..options.clone()
    };
    let sink = Sink::start().await?;
    let (mut bare, mut steady, mut fanned) = (Vec::new(), Vec::new(), Vec::new());
    crate::warm_up(options, &sink).await?;
    for _ in 0..options.rounds {
        bare.push(bare::run(options, &sink).await?);
        steady.push(engine::throughput(options, &sink).await?);
        fanned.push(fan_out(options, &sink).await?);
    }
    sink.stop().await?;

    let mut finding = Finding::new(options);
    finding.figure("endpoints", endpoints as f64, "of each event");
    finding.figure("deliveries", options.events as f64, "of each round");
    finding.compare(&bare, &steady, &fanned);
    finding.figure("peak_rss_mib", peak_rss_mib("self"), "MiB at most");
    Ok(finding)
}

async fn fan_out(options: &Options, sink: &Sink) -> Result<Round> {
    let mut engine = Engine::build(options).await?;
    for number in 0..options.endpoints {
        let url = sink.url_of(&format!("at/{number}")).parse()?;
        engine.create(NewEndpoint::new(url)).await?;
    }
    engine.run();
    engine.throughput(options, sink, options.endpoints).await
}

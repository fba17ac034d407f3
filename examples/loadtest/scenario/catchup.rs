//! What endpoints get to see when they come back all at once after an outage.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use webhook_delivery::RetryPolicy;

use super::ratelimit::busiest;
use super::{Finding, endpoint, event};
use crate::engine::Engine;
use crate::sink::{Arrival, Sink};
use crate::{Options, Result};

const ENDPOINTS: u32 = 100;
/// The backlog of each.
const EACH: u32 = 200;
/// More than fall into the outage.
const RETRIES: usize = 20;
const RETRY: Duration = Duration::from_secs(3);
const OUTAGE: Duration = Duration::from_secs(20);
/// How often the receiver is asked what came, in microseconds.
const WINDOW: u64 = 100_000;

pub(super) async fn measure(options: &Options) -> Result<Finding> {
    let sink = Sink::start().await?;
    let retries = RetryPolicy::default().schedule(vec![RETRY; RETRIES]);
    let mut engine = Engine::with_retries(options, retries).await?;
    for number in 0..ENDPOINTS {
        engine.create(endpoint(&sink, "at", number)?).await?;
    }
    for _ in 0..EACH / 10 {
        let batch = (0..ENDPOINTS * 10).map(|number| event(options, number % ENDPOINTS));
        engine.enqueue_batch(batch.collect::<Result<_>>()?).await?;
    }
    sink.set_down(true).await?;
    engine.run();
    tokio::time::sleep(OUTAGE).await;
    let refused = sink.take_seen().await?.arrivals.len();
    sink.set_down(false).await?;
    let began = Instant::now();
    engine.wait_for(u64::from(ENDPOINTS * EACH)).await;
    let seconds = began.elapsed().as_secs_f64();
    engine.stop().await?;
    let mut arrivals = sink.take_seen().await?.arrivals;
    sink.stop().await?;
    arrivals.sort_unstable_by_key(|arrival| arrival.at);

    let mut finding = Finding::new(options);
    finding.figure(
        "refused_per_endpoint",
        refused as f64 / f64::from(ENDPOINTS),
        "requests in 20 s of outage",
    );
    finding.figure(
        "catchup_seconds",
        seconds,
        "until 200 events of each of 100 were delivered",
    );
    finding.figure(
        "first_window",
        busiest_of(&arrivals, true) as f64,
        "requests to one endpoint in its first 100 ms",
    );
    finding.figure(
        "peak_window",
        busiest_of(&arrivals, false) as f64,
        "in its busiest 100 ms",
    );
    finding.expect(
        arrivals.len() == (ENDPOINTS * EACH) as usize,
        "not each event was received once after the outage",
    );
    Ok(finding)
}

/// The most that one endpoint got, in its first window or in any.
fn busiest_of(arrivals: &[Arrival], first_only: bool) -> u64 {
    let mut lanes: BTreeMap<u32, Vec<Arrival>> = BTreeMap::new();
    for arrival in arrivals {
        lanes.entry(arrival.endpoint).or_default().push(*arrival);
    }
    let counts = lanes.values().map(|lane| {
        let end = lane[0].at + WINDOW;
        let first = lane.iter().take_while(|arrival| arrival.at < end).count();
        if first_only {
            first as u64
        } else {
            busiest(lane, WINDOW)
        }
    });
    counts.max().unwrap_or(0)
}

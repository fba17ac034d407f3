//! What a process takes that has nothing to do.

use std::time::{Duration, Instant};

use webhook_delivery::NewEndpoint;

use super::Finding;
use crate::counters::Count;
use crate::engine::Engine;
use crate::worker::Worker;
use crate::{Options, Result};

const ENDPOINTS: u32 = 10;
/// Until what a process does at its start is over.
const SETTLING: Duration = Duration::from_secs(15);

pub(super) async fn measure(options: &Options) -> Result<Finding> {
    let options = &options.shared();
    let engine = Engine::build(options).await?;
    prepare(&engine).await?;
    let worker = Worker::start(options).await?;
    tokio::time::sleep(SETTLING).await;
    let before = engine.count().await?;
    let (began, cpu_before) = (Instant::now(), worker.cpu_seconds());
    tokio::time::sleep(Duration::from_secs(options.seconds)).await;
    let cpu = worker.cpu_seconds() - cpu_before;
    let minutes = began.elapsed().as_secs_f64() / 60.0;
    let after = engine.count().await?;
    let peak = worker.peak_rss_mib();
    worker.stop().await?;
    engine.stop().await?;

    let mut finding = Finding::new(options);
    finding.figure("seconds", options.seconds as f64, "with nothing to do");
    let spent = Count::spent_per_minute(before, after);
    if let Some(spent) = spent {
        let (statements, unit) = match spent.statements_here {
            Some(here) => (here, "of the schema alone"),
            None => (spent.statements, "of the whole database"),
        };
        finding.figure("statements_per_second", statements / 60.0, unit);
    }
    finding.spent(spent, "a minute");
    finding.figure("cpu_seconds", cpu / minutes, "a minute");
    finding.figure("peak_rss_mib", peak, "MiB at most");
    Ok(finding)
}

/// Its endpoints: nothing is ever sent there.
pub(crate) async fn prepare(engine: &Engine) -> Result<()> {
    for _ in 0..ENDPOINTS {
        let endpoint = NewEndpoint::new("http://127.0.0.1/".parse()?);
        engine.create(endpoint).await?;
    }
    Ok(())
}

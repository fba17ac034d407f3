//! Other processes that deliver from the same store.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::engine::Engine;
use crate::report::peak_rss_mib;
use crate::{Options, Result, StoreKind, scenario};

/// Of Linux's clock in a second, as programs see it.
const TICKS: f64 = 100.0;

/// A process that delivers until its standard input ends.
pub(crate) struct Worker(Child);

impl Worker {
    /// Starts one, and waits until it is at work.
    pub(crate) async fn start(options: &Options) -> Result<Self> {
        let store = match options.store {
            StoreKind::Memory => "memory",
            StoreKind::Sqlite => "sqlite",
            StoreKind::Postgres => "postgres",
            StoreKind::Redis => "redis",
        };
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--worker", "--store", store, "--schema", &options.schema]);
        let settings = [
            ("--database-url", &options.database_url),
            ("--redis-url", &options.redis_url),
            ("--run", &options.run),
        ];
        for (name, value) in settings {
            command.args(value.iter().flat_map(|value| [name, value]));
        }
        if let Some(in_flight) = options.in_flight {
            command.args(["--in-flight", &in_flight.to_string()]);
        }
        if let Some(folder) = &options.folder {
            command.arg("--folder").arg(folder);
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdout = child.stdout.take().ok_or("a worker has no output")?;
        let line = BufReader::new(stdout).lines().next_line().await?;
        line.ok_or("a worker did not start")?;
        Ok(Self(child))
    }

    /// The most memory that it has had so far, in MiB.
    pub(crate) fn peak_rss_mib(&self) -> f64 {
        let id = self.0.id().map(|id| id.to_string());
        id.map_or(f64::NAN, |id| peak_rss_mib(&id))
    }

    /// The time that it has had of a processor so far, in seconds.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        let spent = || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id()?)).ok()?;
            // Behind its name, in parentheses: the 14th and 15th field of all.
            let (_, fields) = stat.rsplit_once(')')?;
            let ticks = fields.split_whitespace().skip(11).take(2);
            Some(ticks.filter_map(|ticks| ticks.parse::<f64>().ok()).sum())
        };
        spent().unwrap_or(f64::NAN) / TICKS
    }

    /// Lets it end what it has begun.
    pub(crate) async fn stop(mut self) -> Result<()> {
        drop(self.0.stdin.take());
        let status = self.0.wait().await?;
        if status.success() {
            Ok(())
        } else {
            Err(format!("a worker ended with {status}").into())
        }
    }
}

/// Runs as one, with what its parent has made; on memory, where nothing is shared, as an idle one.
pub(crate) async fn serve(options: &Options) -> Result<()> {
    let mut engine = Engine::build(options).await?;
    if options.store == StoreKind::Memory {
        scenario::idle::prepare(&engine).await?;
    }
    engine.run();
    println!("ready");
    let mut parent = BufReader::new(tokio::io::stdin()).lines();
    while parent.next_line().await?.is_some() {}
    engine.stop().await
}

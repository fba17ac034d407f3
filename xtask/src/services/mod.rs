//! Throwaway servers for tests: Postgres, and Redis alone, as a Cluster, and under Sentinels. They listen
//! on the loopback interface, keep what they have below the system's folder for such things, and end with
//! whoever started them.

use std::env;
use std::fmt;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use install::Programs;

use crate::Result;
use crate::process::{line, succeed};

mod driver;
pub(crate) mod install;
mod port;
mod postgres;
mod redis;
mod server;
mod user;

pub(crate) use driver::Driver;
pub(crate) use postgres::Durability;
pub use postgres::Postgres;
pub use redis::{Cluster, Redis, Sentinel};

/// Far more than any of their tools takes.
const LIMIT: Duration = Duration::from_secs(120);

/// The variables that tell tests where the servers are.
const VARIABLES: [(&str, Start); 4] = [
    ("DATABASE_URL", |it, durability| {
        Postgres::with(it, durability).map(Service::Postgres)
    }),
    ("REDIS_URL", |it, _| {
        Redis::with(it, &[]).map(Service::Redis)
    }),
    ("REDIS_CLUSTER_URL", |it, _| {
        Cluster::with(it).map(Service::Cluster)
    }),
    ("REDIS_SENTINEL_URL", |it, _| {
        Sentinel::with(it).map(Service::Sentinel)
    }),
];

type Start = fn(&Programs, Durability) -> Result<Service>;

/// One of each, but for those that whoever runs us has already.
#[derive(Default)]
pub(crate) struct Services {
    running: Vec<(&'static str, Service)>,
}

impl Services {
    /// Starts those whose variable is not set.
    pub(crate) fn start(durability: Durability) -> Result<Self> {
        let is_set = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
        let missing: Vec<_> = VARIABLES.iter().filter(|(name, _)| !is_set(name)).collect();
        if missing.is_empty() {
            return Ok(Self::default());
        }
        let programs = install::programs()?;
        let running = thread::scope(|scope| {
            let starting: Vec<_> = missing
                .into_iter()
                .map(|(name, start)| (*name, scope.spawn(|| start(&programs, durability))))
                .collect();
            let started = starting.into_iter().map(|(name, thread)| {
                let service = thread.join().map_err(|_| format!("{name}: a panic"))?;
                Ok((name, service?))
            });
            started.collect::<Result<_>>()
        })?;
        Ok(Self { running })
    }

    /// The variables to set for those who need the servers.
    pub(crate) fn environment(&self) -> Environment {
        let variables = self.running.iter();
        variables
            .map(|(name, service)| (*name, service.url()))
            .collect()
    }
}

/// Variables, and what they are set to.
pub(crate) type Environment = Vec<(&'static str, String)>;

/// `cargo xtask services`: keeps them running until it is ended itself, or while a command runs.
pub(crate) fn run(command: &[&str]) -> Result {
    let services = Services::start(Durability::Full)?;
    let environment = services.environment();
    if let [program, args @ ..] = command {
        return succeed(Command::new(program).args(args).envs(environment));
    }
    for (name, url) in environment {
        println!("export {name}='{url}'");
    }
    println!("# They run until this is interrupted.");
    loop {
        thread::park();
    }
}

enum Service {
    Postgres(Postgres),
    Redis(Redis),
    Cluster(Cluster),
    Sentinel(Sentinel),
}

impl Service {
    fn url(&self) -> String {
        match self {
            Self::Postgres(it) => it.url(),
            Self::Redis(it) => it.url(),
            Self::Cluster(it) => it.url(),
            Self::Sentinel(it) => it.url(),
        }
    }
}

/// What a tool says, without the last line's end.
fn output(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output();
    let failed = |said: &dyn fmt::Display| format!("`{}`: {said}", line(command));
    let output = output.map_err(|error| failed(&error))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    Err(failed(&String::from_utf8_lossy(&output.stderr).trim()))
}

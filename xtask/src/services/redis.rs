//! Redis of our own: alone, as a Cluster, and under Sentinels.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::install::Programs;
use super::port;
use super::server::{Server, wait_until};
use crate::Result;
use crate::process::{run_within, works};

/// One process of Redis on the loopback interface, with an append-only file.
#[derive(Debug)]
pub struct Redis {
    server: Server,
    port: u16,
    cli: PathBuf,
}

impl Redis {
    /// Makes a new one.
    ///
    /// # Errors
    /// When its programs are missing and cannot be installed, or it does not start.
    pub fn start() -> Result<Self> {
        Self::with(&super::install::programs()?, &[])
    }

    pub(super) fn with(programs: &Programs, settings: &[&str]) -> Result<Self> {
        let (mut redis, port) = Self::new(programs)?;
        let command = redis.server.command();
        command.args(["--port", &port, "--bind", "127.0.0.1"]);
        command.args(["--protected-mode", "no", "--save", ""]);
        command.args(["--appendonly", "yes", "--appendfsync", "everysec"]);
        // A replica joins at once.
        command.args(["--repl-diskless-sync-delay", "0"]);
        command.args(settings);
        redis.restart()?;
        Ok(redis)
    }

    /// One that watches others, as this configuration says. It writes what it learns into the file.
    fn sentinel(programs: &Programs, configuration: &str) -> Result<Self> {
        let (mut sentinel, port) = Self::new(programs)?;
        let file = sentinel.server.folder().join("sentinel.conf");
        let text = format!("port {port}\nbind 127.0.0.1\nprotected-mode no\n{configuration}");
        fs::write(&file, text).map_err(|error| format!("{}: {error}", file.display()))?;
        sentinel.server.command().arg(file).arg("--sentinel");
        sentinel.restart()?;
        Ok(sentinel)
    }

    fn new(programs: &Programs) -> Result<(Self, String)> {
        let port = port::free()?;
        let redis = Self {
            server: Server::new("redis", &programs.redis_server, None)?,
            port,
            cli: programs.redis_cli.clone(),
        };
        Ok((redis, port.to_string()))
    }

    /// As clients take it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    /// Where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Kills it as a crash would. What it has stays.
    ///
    /// # Errors
    /// When it does not run, or cannot be killed.
    pub fn kill(&mut self) -> Result {
        self.server.kill()
    }

    /// Starts it once more after it was killed, with what it had, and waits until it answers.
    ///
    /// # Errors
    /// When it does not start.
    pub fn restart(&mut self) -> Result {
        let (cli, port) = (self.cli.clone(), self.port.to_string());
        let ready = || works(Command::new(&cli).args(["-e", "-p", &port, "PING"]));
        self.server.start(ready)
    }

    /// Starts it once more after it was killed, without what it had.
    ///
    /// # Errors
    /// When it does not start.
    pub fn restart_empty(&mut self) -> Result {
        let data = self.server.folder().join("appendonlydir");
        fs::remove_dir_all(&data).map_err(|error| format!("{}: {error}", data.display()))?;
        self.restart()
    }

    /// Sends a command, and gives the answer as `redis-cli` prints it.
    ///
    /// # Errors
    /// When there is no answer, or the answer is an error.
    pub fn ask(&self, words: &[&str]) -> Result<String> {
        let mut ask = Command::new(&self.cli);
        ask.args(["-e", "-p", &self.port.to_string()]).args(words);
        super::output(&mut ask)
    }

    /// Whether the answer to a command contains this.
    fn says(&self, words: &[&str], part: &str) -> bool {
        self.ask(words).is_ok_and(|answer| answer.contains(part))
    }
}

/// A Redis Cluster of three masters with a replica each.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Redis>,
}

impl Cluster {
    const NODES: usize = 6;

    /// Makes a new one.
    ///
    /// # Errors
    /// When its programs are missing and cannot be installed, or it does not start.
    pub fn start() -> Result<Self> {
        Self::with(&super::install::programs()?)
    }

    pub(super) fn with(programs: &Programs) -> Result<Self> {
        let settings = ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"];
        let nodes = (0..Self::NODES).map(|_| Redis::with(programs, &settings));
        let nodes = nodes.collect::<Result<Vec<Redis>>>()?;
        let mut create = Command::new(&programs.redis_cli);
        create.args(["--cluster", "create"]);
        create.args(nodes.iter().map(Redis::address));
        create.args(["--cluster-replicas", "1", "--cluster-yes"]);
        let created = run_within(create, super::LIMIT);
        let created = created.map_err(|error| format!("redis-cli: {error}"))?;
        let cluster = Self { nodes };
        if !created.status.is_some_and(|status| status.success()) {
            return Err(format!("no Redis Cluster\n{}", created.output.trim()));
        }
        wait_until("the Redis Cluster is complete", || cluster.is_complete())?;
        Ok(cluster)
    }

    /// As fred takes it: the masters at its start.
    #[must_use]
    pub fn url(&self) -> String {
        let [first, second, third] = [0, 1, 2].map(|node| self.nodes[node].address());
        format!("redis-cluster://{first}?node={second}&node={third}")
    }

    /// Its processes: at its start the first three are the masters.
    pub fn nodes(&mut self) -> &mut [Redis] {
        &mut self.nodes
    }

    /// All know each other, all slots are served, and each master has its replica.
    fn is_complete(&self) -> bool {
        let is_complete = |node: &Redis| {
            let replicates = node.says(&["INFO", "replication"], "master_link_status:up")
                || node.says(&["INFO", "replication"], "connected_slaves:1");
            let known = format!("cluster_known_nodes:{}", Self::NODES);
            replicates
                && node.says(&["CLUSTER", "INFO"], "cluster_state:ok")
                && node.says(&["CLUSTER", "INFO"], &known)
        };
        self.nodes.iter().all(is_complete)
    }
}

/// A Redis master with a replica, and three Sentinels that watch them.
#[derive(Debug)]
pub struct Sentinel {
    sentinels: Vec<Redis>,
    servers: Vec<Redis>,
}

impl Sentinel {
    /// What the Sentinels call the master.
    const SERVICE: &str = "webhook";

    /// Makes a new trio.
    ///
    /// # Errors
    /// When its programs are missing and cannot be installed, or it does not start.
    pub fn start() -> Result<Self> {
        Self::with(&super::install::programs()?)
    }

    pub(super) fn with(programs: &Programs) -> Result<Self> {
        let master = Redis::with(programs, &[])?;
        let of = format!("127.0.0.1 {}", master.port);
        let replica = Redis::with(programs, &["--replicaof", &of])?;
        wait_until("Redis has its replica", || {
            replica.says(&["INFO", "replication"], "master_link_status:up")
        })?;
        let name = Self::SERVICE;
        let configuration = format!(
            "sentinel monitor {name} {of} 2\n\
             sentinel down-after-milliseconds {name} 1000\n\
             sentinel failover-timeout {name} 5000\n"
        );
        let sentinels = (0..3).map(|_| Redis::sentinel(programs, &configuration));
        let trio = Self {
            sentinels: sentinels.collect::<Result<_>>()?,
            servers: vec![master, replica],
        };
        wait_until("the Sentinels know each other", || trio.is_complete())?;
        Ok(trio)
    }

    /// As fred takes it.
    #[must_use]
    pub fn url(&self) -> String {
        let [first, second, third] = [0, 1, 2].map(|number| self.sentinels[number].address());
        let name = Self::SERVICE;
        format!("redis-sentinel://{first}/0?sentinelServiceName={name}&node={second}&node={third}")
    }

    /// The servers that are watched: at its start the first is the master.
    pub fn servers(&mut self) -> &mut [Redis] {
        &mut self.servers
    }

    fn is_complete(&self) -> bool {
        let is_complete = |sentinel: &Redis| {
            sentinel.says(&["INFO", "sentinel"], "status=ok,address=127.0.0.1:")
                && sentinel.says(&["INFO", "sentinel"], "slaves=1,sentinels=3")
        };
        self.sentinels.iter().all(is_complete)
    }
}

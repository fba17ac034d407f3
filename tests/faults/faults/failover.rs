//! A Redis that hands over to a replica which had not yet heard of all.

use std::time::Duration;

use xtask::services::Redis;

use super::begin;
use crate::Result;
use crate::arena::{Arena, wait_until};
use crate::journal::now;
use crate::oracle::Fired;
use crate::servers::{Servers, Setting};

/// How long a replica may take to be promoted, or to follow.
const TO_TURN: Duration = Duration::from_secs(30);

/// A master dies whose replica lags behind, and that one takes over without what its master had acknowledged.
pub(crate) fn failed_over(arena: &mut Arena, servers: &mut Servers) -> Result<Fired> {
    let nodes = match arena.setting() {
        Setting::Cluster => servers.cluster()?.nodes(),
        _ => servers.sentinel()?.servers(),
    };
    wait_until("all replicas follow", TO_TURN, || {
        Ok(nodes.iter().all(|node| is_master(node) || follows(node)))
    })?;
    begin(arena)?;
    arena.wait_for_deliveries(50)?;
    let all = masters(nodes);
    let victim = nodes.iter().position(is_master);
    let victim = victim.ok_or("there is no master")?;
    let port = nodes[victim].port().to_string();
    let replica = nodes.iter().position(|node| is_replica_of(node, &port));
    let replica = replica.ok_or("the master has no replica")?;

    let cut_off = CutOff::make(&nodes[victim], &nodes[replica])?;
    arena.wait_for_deliveries(50)?;
    arena.wait_for_traffic()?;
    let missing = cut_off.missing(&nodes[victim])?;
    let from = now();
    nodes[victim].kill()?;
    wait_until("a replica is promoted", TO_TURN, || {
        Ok(masters(nodes) == all && is_master(&nodes[replica]))
    })?;
    arena.harmed(from);
    arena.over();
    cut_off.prove(&nodes[replica])?;
    arena.wait_for_deliveries(50)?;
    nodes[victim].restart()?;
    wait_until("the old master follows", TO_TURN, || {
        Ok(masters(nodes) == all && follows(&nodes[victim]))
    })?;
    Ok(Fired {
        times: missing,
        what: "acknowledged writes unknown to the promoted replica",
        may_refuse: false,
    })
}

/// A replica that hears nothing of its master any more, although both run and are seen to.
struct CutOff {
    /// How far the replica can have heard of its master's writes.
    offset: u64,
    /// The writes that its master had made by then.
    writes: u64,
}

impl CutOff {
    /// A password that the master does not know keeps the replica from following it again.
    fn make(master: &Redis, replica: &Redis) -> Result<Self> {
        replica.ask(&["CONFIG", "SET", "masterauth", "unknown"])?;
        master.ask(&["CLIENT", "KILL", "TYPE", "replica"])?;
        wait_until("the replica is cut off", TO_TURN, || Ok(!follows(replica)))?;
        Ok(Self {
            offset: number(master, "replication", "master_repl_offset")?,
            writes: writes(master)?,
        })
    }

    /// The writes that the master has made since.
    fn missing(&self, master: &Redis) -> Result<u64> {
        Ok(writes(master)?.saturating_sub(self.writes))
    }

    /// That the replica which is a master now has not heard of them after all.
    fn prove(&self, promoted: &Redis) -> Result {
        // The first byte of its own history.
        let own = number(promoted, "replication", "second_repl_offset")?;
        promoted.ask(&["CONFIG", "SET", "masterauth", ""])?;
        match own <= self.offset + 1 {
            true => Ok(()),
            false => Err("void: the replica did not lag when it was promoted".into()),
        }
    }
}

/// Nothing ever saves a snapshot, so these are all.
fn writes(master: &Redis) -> Result<u64> {
    number(master, "persistence", "rdb_changes_since_last_save")
}

/// A number that Redis tells of itself.
fn number(redis: &Redis, section: &str, name: &str) -> Result<u64> {
    let told = redis.ask(&["INFO", section])?;
    let of_name = |line: &str| {
        line.trim()
            .strip_prefix(name)?
            .strip_prefix(':')?
            .parse()
            .ok()
    };
    let number = told.lines().find_map(of_name);
    Ok(number.ok_or_else(|| format!("Redis does not tell {name}"))?)
}

fn masters(nodes: &[Redis]) -> usize {
    nodes.iter().filter(|node| is_master(node)).count()
}

fn is_master(node: &Redis) -> bool {
    role(node).first().is_some_and(|role| role == "master")
}

fn is_replica_of(node: &Redis, port: &str) -> bool {
    let role = role(node);
    role.first().is_some_and(|role| role == "slave") && role.get(2).is_some_and(|it| it == port)
}

/// Whether it is a replica that hears of what its master does.
fn follows(node: &Redis) -> bool {
    role(node).get(3).is_some_and(|state| state == "connected")
}

/// What it is, and whom it follows.
fn role(node: &Redis) -> Vec<String> {
    let role = node.ask(&["ROLE"]).unwrap_or_default();
    role.lines().map(str::to_owned).collect()
}

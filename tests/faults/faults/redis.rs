//! A Redis that dies, forgets, or hands over to its replica. The store is the truth, and nobody restarts anything.

use std::time::Duration;

use xtask::services::Redis;

use crate::Result;
use crate::arena::{Arena, pause, wait_until};
use crate::node::MAX_IN_FLIGHT;
use crate::oracle::Fired;
use crate::servers::{Servers, Setting};

/// A job that was claimed, and not yet loaded, when Redis forgot it is claimed once more.
const DUPLICATES: u64 = 2 * MAX_IN_FLIGHT as u64;

/// How long a replica may take to be promoted.
const TO_PROMOTE: Duration = Duration::from_secs(30);

/// It is killed under load, stays away for a second, and comes back with what its file has.
pub(crate) fn killed(arena: &mut Arena, servers: &mut Servers) -> Result<Fired> {
    kill(arena, servers, Redis::restart)
}

/// It is killed under load, stays away for a second, and comes back with nothing.
pub(crate) fn emptied(arena: &mut Arena, servers: &mut Servers) -> Result<Fired> {
    kill(arena, servers, Redis::restart_empty)
}

fn kill(
    arena: &mut Arena,
    servers: &mut Servers,
    restart: fn(&mut Redis) -> std::result::Result<(), String>,
) -> Result<Fired> {
    const KILLS: u64 = 3;
    begin(arena)?;
    let redis = servers.redis()?;
    for _ in 0..KILLS {
        arena.wait_for_deliveries(50)?;
        pause(Duration::from_millis(arena.random(300)));
        arena.wait_for_traffic()?;
        redis.kill()?;
        arena.wait_for_complaints()?;
        pause(Duration::from_secs(1));
        restart(redis)?;
    }
    arena.over();
    Ok(Fired {
        times: KILLS,
        what: "kills under load",
        duplicates: KILLS * DUPLICATES,
    })
}

/// All that it knows is erased, again and again.
pub(crate) fn flushed(arena: &mut Arena, servers: &mut Servers) -> Result<Fired> {
    const FLUSHES: u64 = 8;
    begin(arena)?;
    let redis = servers.redis()?;
    let mut erased = 0;
    for _ in 0..FLUSHES {
        pause(Duration::from_millis(200 + arena.random(400)));
        arena.wait_for_traffic()?;
        erased += redis.ask(&["DBSIZE"])?.parse::<u64>()?;
        redis.ask(&["FLUSHALL"])?;
    }
    arena.over();
    Ok(Fired {
        times: erased,
        what: "keys erased",
        duplicates: FLUSHES * DUPLICATES,
    })
}

/// It forgets the scripts, as it does at a restart.
pub(crate) fn scripts_flushed(arena: &mut Arena, servers: &mut Servers) -> Result<Fired> {
    const FLUSHES: u64 = 15;
    begin(arena)?;
    let redis = servers.redis()?;
    let mut forgotten = 0;
    for _ in 0..FLUSHES {
        pause(Duration::from_millis(100 + arena.random(200)));
        arena.wait_for_traffic()?;
        forgotten += scripts(redis)?;
        redis.ask(&["SCRIPT", "FLUSH"])?;
    }
    arena.over();
    Ok(Fired {
        times: forgotten,
        what: "scripts forgotten",
        duplicates: 0,
    })
}

fn scripts(redis: &Redis) -> Result<u64> {
    let memory = redis.ask(&["INFO", "memory"])?;
    let count = memory
        .lines()
        .find_map(|line| line.strip_prefix("number_of_cached_scripts:"));
    Ok(count
        .ok_or("Redis does not say how many scripts it has")?
        .trim()
        .parse()?)
}

/// A master dies, and its replica takes over.
pub(crate) fn failed_over(arena: &mut Arena, servers: &mut Servers) -> Result<Fired> {
    begin(arena)?;
    arena.wait_for_deliveries(50)?;
    arena.wait_for_traffic()?;
    let nodes = match arena.setting() {
        Setting::Cluster => servers.cluster()?.nodes(),
        _ => servers.sentinel()?.servers(),
    };
    let masters = |nodes: &[Redis]| nodes.iter().filter(|node| is_master(node)).count();
    let all = masters(nodes);
    let victim = nodes
        .iter()
        .position(is_master)
        .ok_or("there is no master")?;
    nodes[victim].kill()?;
    wait_until("a replica is promoted", TO_PROMOTE, || {
        Ok(masters(nodes) == all)
    })?;
    arena.over();
    arena.wait_for_deliveries(50)?;
    nodes[victim].restart()?;
    wait_until("the old master follows", TO_PROMOTE, || {
        Ok(masters(nodes) == all && !is_master(&nodes[victim]))
    })?;
    Ok(Fired {
        times: 1,
        what: "replica promoted",
        duplicates: DUPLICATES,
    })
}

fn is_master(node: &Redis) -> bool {
    node.ask(&["ROLE"])
        .is_ok_and(|role| role.starts_with("master"))
}

fn begin(arena: &mut Arena) -> Result {
    arena.worker()?;
    arena.worker()?;
    arena.producer(150)?;
    Ok(())
}

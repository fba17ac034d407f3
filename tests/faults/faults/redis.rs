//! A Redis that dies, or forgets. The store is the truth, and nobody restarts anything.

use std::time::Duration;

use xtask::services::Redis;

use super::{begin, begin_with_both};
use crate::Result;
use crate::arena::{Arena, pause};
use crate::journal::now;
use crate::oracle::Fired;
use crate::servers::Servers;

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
    begin_with_both(arena)?;
    let redis = servers.redis()?;
    for _ in 0..KILLS {
        arena.wait_for_deliveries(50)?;
        pause(Duration::from_millis(arena.random(300)));
        arena.wait_for_traffic()?;
        let from = now();
        redis.kill()?;
        arena.wait_for_complaints()?;
        pause(Duration::from_secs(1));
        restart(redis)?;
        arena.harmed(from);
    }
    arena.over();
    Ok(Fired {
        times: KILLS,
        what: "kills under load",
        may_refuse: false,
    })
}

/// All that it knows is erased, again and again. What counts are the keys of this run's nodes.
pub(crate) fn flushed(arena: &mut Arena, servers: &mut Servers) -> Result<Fired> {
    const FLUSHES: u64 = 8;
    const ERASE: &str =
        "local own = #redis.call('KEYS', ARGV[1]); redis.call('FLUSHALL'); return own";
    begin(arena)?;
    let redis = servers.redis()?;
    let own = format!("{{{}:*", arena.name());
    let mut erased = 0;
    for _ in 0..FLUSHES {
        pause(Duration::from_millis(200 + arena.random(400)));
        arena.wait_for_traffic()?;
        let from = now();
        erased += redis.ask(&["EVAL", ERASE, "0", &own])?.parse::<u64>()?;
        arena.harmed(from);
    }
    arena.over();
    Ok(Fired {
        times: erased,
        what: "keys of the queue erased",
        may_refuse: false,
    })
}

/// It forgets the scripts, as it does at a restart.
pub(crate) fn scripts_flushed(arena: &mut Arena, servers: &mut Servers) -> Result<Fired> {
    const FLUSHES: u64 = 15;
    let redis = servers.redis()?;
    // From now on it has those of this run's nodes alone.
    redis.ask(&["SCRIPT", "FLUSH"])?;
    begin(arena)?;
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
        may_refuse: false,
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

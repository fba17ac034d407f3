//! The faults: each a function that does harm, and proves that it did.

use crate::Result;
use crate::arena::{Arena, NodeId};
use crate::oracle::Fired;
use crate::servers::{Servers, Setting};

mod disk;
mod failover;
mod network;
mod postgres;
mod process;
mod redis;
mod upgrade;

/// A kind of harm, and where it is done.
pub(crate) struct Fault {
    pub(crate) name: &'static str,
    pub(crate) settings: &'static [Setting],
    /// What a claim lasts beyond its attempt, in seconds: short where a fault makes others wait for it.
    pub(crate) lease_margin: u64,
    pub(crate) run: fn(&mut Arena, &mut Servers) -> Result<Fired>,
}

use Setting::{
    Cluster, Postgres, ProxiedPostgres, ProxiedRedis, ProxiedStore, Redis, Sentinel, SmallPostgres,
    SmallSqlite, Sqlite,
};

const STORES: &[Setting] = &[Sqlite, Postgres, Redis];
const PROXIED: &[Setting] = &[ProxiedPostgres, ProxiedStore, ProxiedRedis];

/// The calls that a producer makes in a second.
const RATE: u64 = 120;

/// Two workers, and a producer for them.
fn begin(arena: &mut Arena) -> Result<[NodeId; 2]> {
    let workers = [arena.worker()?, arena.worker()?];
    arena.producer(RATE)?;
    Ok(workers)
}

/// The same with a node that delivers and makes half of the calls itself, in the place of the first worker.
fn begin_with_both(arena: &mut Arena) -> Result<[NodeId; 2]> {
    let nodes = [arena.both(RATE / 2)?, arena.worker()?];
    arena.producer(RATE / 2)?;
    Ok(nodes)
}

/// Starts another like the one of them that has ended.
fn replace(arena: &mut Arena, nodes: &mut [NodeId; 2], ended: usize) -> Result {
    nodes[ended] = match ended {
        0 => arena.both_after(Some(nodes[0]), RATE / 2)?,
        _ => arena.worker()?,
    };
    Ok(())
}

pub(crate) const FAULTS: &[Fault] = &[
    Fault {
        name: "worker-killed",
        settings: STORES,
        lease_margin: 2,
        run: process::worker_killed,
    },
    Fault {
        name: "producer-killed",
        settings: STORES,
        lease_margin: 2,
        run: process::producer_killed,
    },
    Fault {
        name: "worker-frozen",
        settings: STORES,
        lease_margin: 1,
        run: process::worker_frozen,
    },
    Fault {
        name: "rolling-restarts",
        settings: STORES,
        lease_margin: 15,
        run: process::rolling_restarts,
    },
    Fault {
        name: "started-together",
        settings: &[Sqlite, Postgres],
        lease_margin: 15,
        run: upgrade::started_together,
    },
    Fault {
        name: "migrated",
        settings: &[Postgres, Redis],
        lease_margin: 15,
        run: upgrade::migrated,
    },
    Fault {
        name: "disk-full",
        settings: &[SmallSqlite, SmallPostgres],
        lease_margin: 2,
        run: disk::full,
    },
    Fault {
        name: "postgres-killed",
        settings: &[Postgres, Redis],
        lease_margin: 2,
        run: postgres::killed,
    },
    Fault {
        name: "backends-terminated",
        settings: &[Postgres, Redis],
        lease_margin: 2,
        run: postgres::backends_terminated,
    },
    Fault {
        name: "connections-cut",
        settings: PROXIED,
        lease_margin: 2,
        run: network::cut,
    },
    Fault {
        name: "connections-stalled",
        settings: PROXIED,
        lease_margin: 2,
        run: network::stalled,
    },
    Fault {
        name: "connections-lost",
        // Either costs as long as somebody waits for an answer, and both wait in the same way beside Redis.
        settings: &[ProxiedPostgres, ProxiedRedis],
        lease_margin: 2,
        run: network::lost,
    },
    Fault {
        name: "redis-killed",
        settings: &[Redis],
        lease_margin: 2,
        run: redis::killed,
    },
    Fault {
        name: "redis-emptied",
        settings: &[Redis],
        lease_margin: 2,
        run: redis::emptied,
    },
    Fault {
        name: "redis-flushed",
        settings: &[Redis],
        lease_margin: 2,
        run: redis::flushed,
    },
    Fault {
        name: "scripts-flushed",
        settings: &[Redis],
        lease_margin: 2,
        run: redis::scripts_flushed,
    },
    Fault {
        name: "failed-over",
        settings: &[Cluster, Sentinel],
        lease_margin: 2,
        run: failover::failed_over,
    },
];

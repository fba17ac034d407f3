//! A Postgres that dies, and one that drops its clients.

use std::time::Duration;

use super::begin;
use crate::Result;
use crate::arena::{Arena, pause};
use crate::journal::now;
use crate::oracle::Fired;
use crate::servers::Servers;

/// It is killed under load, stays away for a second, and comes back with what it had committed.
pub(crate) fn killed(arena: &mut Arena, servers: &mut Servers) -> Result<Fired> {
    const KILLS: u64 = 3;
    begin(arena)?;
    for _ in 0..KILLS {
        arena.wait_for_deliveries(50)?;
        pause(Duration::from_millis(arena.random(300)));
        arena.wait_for_traffic()?;
        let from = now();
        servers.postgres()?.kill()?;
        arena.wait_for_complaints()?;
        pause(Duration::from_secs(1));
        servers.postgres()?.restart()?;
        arena.harmed(from);
    }
    arena.over();
    Ok(Fired {
        times: KILLS,
        what: "kills under load",
        may_refuse: true,
    })
}

/// All connections of the nodes are ended from the other side, again and again.
pub(crate) fn backends_terminated(arena: &mut Arena, servers: &mut Servers) -> Result<Fired> {
    const STORM: u64 = 15;
    let terminate = format!(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
         WHERE application_name = 'webhook-delivery' AND datname = '{}'",
        arena.name()
    );
    begin(arena)?;
    let mut terminated = 0;
    for _ in 0..STORM {
        pause(Duration::from_millis(100 + arena.random(200)));
        arena.wait_for_traffic()?;
        let from = now();
        terminated += servers.postgres()?.sql(&terminate)?.parse::<u64>()?;
        arena.harmed(from);
    }
    arena.over();
    Ok(Fired {
        times: terminated,
        what: "connections terminated",
        may_refuse: true,
    })
}

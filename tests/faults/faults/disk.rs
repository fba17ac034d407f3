//! A disk that has no room left.

use std::time::Duration;

use super::RATE;
use crate::Result;
use crate::arena::{Arena, pause, wait_until};
use crate::journal::now;
use crate::oracle::Fired;
use crate::servers::Servers;

/// Nothing can be accepted or recorded for a while; then there is room again, and nobody restarts anything.
pub(crate) fn full(arena: &mut Arena, servers: &mut Servers) -> Result<Fired> {
    const TIMES: u64 = 2;
    arena.worker()?;
    arena.producer(RATE)?;
    let mut refused = 0;
    for _ in 0..TIMES {
        arena.wait_for_deliveries(50)?;
        arena.wait_for_traffic()?;
        let (from, before) = (now(), arena.account()?.refused.len());
        let writers = arena.processes();
        servers.disk()?.fill(&writers)?;
        wait_until("events are refused", Duration::from_secs(30), || {
            Ok(arena.account()?.refused.len() > before)
        })?;
        pause(Duration::from_secs(1));
        servers.disk()?.free(&writers)?;
        arena.harmed(from);
        refused += arena.account()?.refused.len() - before;
    }
    arena.over();
    Ok(Fired {
        times: refused as u64,
        what: "events refused by the full disk",
        may_refuse: true,
    })
}

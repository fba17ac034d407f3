//! A disk that has no room left.

use std::time::Duration;

use crate::Result;
use crate::arena::{Arena, pause, wait_until};
use crate::node::MAX_IN_FLIGHT;
use crate::oracle::Fired;
use crate::servers::Servers;

/// Nothing can be accepted or recorded for a while; then there is room again, and nobody restarts anything.
pub(crate) fn full(arena: &mut Arena, servers: &mut Servers) -> Result<Fired> {
    const TIMES: u64 = 2;
    arena.worker()?;
    arena.producer(150)?;
    for _ in 0..TIMES {
        arena.wait_for_deliveries(50)?;
        arena.wait_for_traffic()?;
        let refused = arena.account()?.refused;
        servers.disk()?.fill()?;
        wait_until("events are refused", Duration::from_secs(20), || {
            Ok(arena.account()?.refused > refused)
        })?;
        pause(Duration::from_secs(1));
        servers.disk()?.free()?;
    }
    arena.over();
    Ok(Fired {
        times: arena.account()?.refused,
        what: "events refused by the full disk",
        duplicates: TIMES * MAX_IN_FLIGHT as u64,
    })
}

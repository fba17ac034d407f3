//! A network between nodes and their server that breaks, and one that goes silent.

use std::time::Duration;

use crate::Result;
use crate::arena::{Arena, pause};
use crate::node::MAX_IN_FLIGHT;
use crate::oracle::Fired;
use crate::proxy::Mode;
use crate::servers::Servers;

/// Connections are cut, and for a moment no new ones are taken.
pub(crate) fn cut(arena: &mut Arena, servers: &mut Servers) -> Result<Fired> {
    const CUTS: u64 = 10;
    arena.worker()?;
    arena.worker()?;
    arena.producer(150)?;
    let mut cut = 0;
    for _ in 0..CUTS {
        pause(Duration::from_millis(200 + arena.random(200)));
        arena.wait_for_traffic()?;
        servers.proxy()?.set(Mode::Refuse);
        cut += servers.proxy()?.cut();
        pause(Duration::from_millis(arena.random(300)));
        servers.proxy()?.set(Mode::Pass);
    }
    arena.over();
    Ok(Fired {
        times: cut,
        what: "connections cut",
        duplicates: CUTS * 2 * MAX_IN_FLIGHT as u64,
    })
}

/// Connections stay open, and nothing comes through for longer than claims last.
pub(crate) fn stalled(arena: &mut Arena, servers: &mut Servers) -> Result<Fired> {
    const STALLS: u64 = 2;
    arena.worker()?;
    arena.worker()?;
    arena.producer(150)?;
    for _ in 0..STALLS {
        arena.wait_for_deliveries(50)?;
        arena.wait_for_traffic()?;
        servers.proxy()?.set(Mode::Stall);
        pause(Duration::from_secs(4));
        servers.proxy()?.set(Mode::Pass);
    }
    arena.over();
    Ok(Fired {
        times: STALLS,
        what: "stalls under load",
        duplicates: STALLS * 2 * MAX_IN_FLIGHT as u64,
    })
}

//! A network between nodes and their server that breaks, one that goes silent, and one that forgets.

use std::time::Duration;

use super::begin;
use crate::Result;
use crate::arena::{Arena, pause, wait_until};
use crate::journal::now;
use crate::oracle::Fired;
use crate::proxy::Mode;
use crate::servers::{Servers, Setting};

/// Longer than claims last in these faults, and than a command to Redis may take.
const SILENCE: Duration = Duration::from_secs(4);

/// More than a client waits for an answer.
const TO_GIVE_UP: Duration = Duration::from_secs(60);

/// Connections are cut, and for a moment no new ones are taken.
pub(crate) fn cut(arena: &mut Arena, servers: &mut Servers) -> Result<Fired> {
    const CUTS: u64 = 10;
    begin(arena)?;
    let mut cut = 0;
    for _ in 0..CUTS {
        pause(Duration::from_millis(200 + arena.random(200)));
        arena.wait_for_traffic()?;
        let from = now();
        servers.proxy()?.set(Mode::Refuse);
        cut += servers.proxy()?.cut();
        pause(Duration::from_millis(arena.random(300)));
        servers.proxy()?.set(Mode::Pass);
        arena.harmed(from);
    }
    arena.over();
    Ok(fired(arena, cut, "connections cut"))
}

/// Connections stay open, and what they carry comes through when the claims have ended.
pub(crate) fn stalled(arena: &mut Arena, servers: &mut Servers) -> Result<Fired> {
    const STALLS: u64 = 2;
    begin(arena)?;
    for _ in 0..STALLS {
        arena.wait_for_deliveries(50)?;
        arena.wait_for_traffic()?;
        let from = now();
        servers.proxy()?.set(Mode::Stall);
        pause(SILENCE);
        servers.proxy()?.set(Mode::Pass);
        arena.harmed(from);
    }
    arena.over();
    let held = servers.proxy()?.held();
    Ok(fired(arena, held, "requests and answers held back"))
}

/// Connections stay open, and nothing ever comes through again: the other side is gone, and nobody says so.
/// After a while new ones work. The harm lasts until the last dead one is given up.
pub(crate) fn lost(arena: &mut Arena, servers: &mut Servers) -> Result<Fired> {
    begin(arena)?;
    arena.wait_for_deliveries(50)?;
    arena.wait_for_traffic()?;
    let from = now();
    let proxy = servers.proxy()?;
    proxy.set(Mode::Lose);
    pause(SILENCE);
    proxy.set(Mode::Pass);
    arena.over();
    wait_until("dead connections are given up", TO_GIVE_UP, || {
        let (unanswered, given_up) = proxy.unanswered_and_given_up();
        Ok(unanswered == given_up)
    })?;
    arena.harmed(from);
    let (_, given_up) = proxy.unanswered_and_given_up();
    Ok(fired(arena, given_up, "dead connections given up"))
}

fn fired(arena: &Arena, times: u64, what: &'static str) -> Fired {
    Fired {
        times,
        what,
        may_refuse: arena.setting() != Setting::ProxiedRedis,
    }
}

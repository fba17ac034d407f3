//! Nodes that are killed, frozen and restarted.

use std::time::Duration;

use crate::Result;
use crate::arena::{Arena, NodeId, pause, wait_until};
use crate::node::MAX_IN_FLIGHT;
use crate::oracle::Fired;
use crate::servers::Servers;

/// Twice in a second, a worker dies in the middle of its work, and another takes its place.
pub(crate) fn worker_killed(arena: &mut Arena, _: &mut Servers) -> Result<Fired> {
    const KILLS: u64 = 6;
    let mut workers = [arena.worker()?, arena.worker()?];
    arena.producer(150)?;
    for _ in 0..KILLS {
        pause(Duration::from_millis(300 + arena.random(400)));
        let victim = usize::try_from(arena.random(2))?;
        arena.wait_for_traffic()?;
        arena.kill(workers[victim])?;
        workers[victim] = arena.worker()?;
    }
    arena.over();
    Ok(Fired {
        times: arena.cut()?,
        what: "requests cut off by kills",
        duplicates: KILLS * MAX_IN_FLIGHT as u64,
    })
}

/// A producer dies while it enqueues.
pub(crate) fn producer_killed(arena: &mut Arena, _: &mut Servers) -> Result<Fired> {
    const KILLS: u64 = 5;
    arena.worker()?;
    for _ in 0..KILLS {
        let producer = arena.producer(300)?;
        pause(Duration::from_millis(200 + arena.random(400)));
        wait_until("events are being enqueued", Duration::from_secs(10), || {
            Ok(open_calls(arena)? > 0)
        })?;
        arena.kill(producer)?;
    }
    arena.over();
    Ok(Fired {
        times: open_calls(arena)?,
        what: "enqueues without an answer",
        duplicates: 0,
    })
}

/// Events that were begun and neither accepted nor refused.
fn open_calls(arena: &Arena) -> Result<u64> {
    let account = arena.account()?;
    let answered = account.accepted.len() as u64 + account.refused;
    Ok(account.begun.saturating_sub(answered))
}

/// A worker stands still for longer than its claims last, and wakes up as their owner of old.
pub(crate) fn worker_frozen(arena: &mut Arena, _: &mut Servers) -> Result<Fired> {
    const FREEZES: u64 = 2;
    let workers = [arena.worker()?, arena.worker()?];
    arena.producer(150)?;
    for worker in workers {
        arena.wait_for_deliveries(50)?;
        let fenced = arena.fenced()?;
        arena.wait_for_traffic()?;
        arena.signal(worker, "STOP")?;
        // Beyond the request timeout and the margin, and time for the other worker to deliver.
        pause(Duration::from_millis(3_500));
        arena.signal(worker, "CONT")?;
        wait_until("stale writes are refused", Duration::from_secs(10), || {
            Ok(arena.fenced()? > fenced)
        })?;
    }
    arena.over();
    Ok(Fired {
        times: arena.fenced()?,
        what: "stale writes refused",
        duplicates: FREEZES * MAX_IN_FLIGHT as u64,
    })
}

/// Workers are asked to end and replaced, one after the other, as a deployment does it.
pub(crate) fn rolling_restarts(arena: &mut Arena, _: &mut Servers) -> Result<Fired> {
    const RESTARTS: usize = 20;
    let mut workers: [NodeId; 2] = [arena.worker()?, arena.worker()?];
    arena.producer(150)?;
    for restart in 0..RESTARTS {
        let worker = &mut workers[restart % 2];
        arena.wait_for_deliveries(15)?;
        arena.wait_for_traffic()?;
        arena.terminate(*worker)?;
        *worker = arena.worker()?;
    }
    arena.over();
    Ok(Fired {
        times: RESTARTS as u64,
        what: "restarts under load",
        duplicates: 0,
    })
}

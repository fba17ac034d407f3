//! Nodes that are killed, frozen and restarted.

use std::collections::HashSet;
use std::time::Duration;

use super::{RATE, begin_with_both, replace};
use crate::Result;
use crate::arena::{Arena, NodeId, pause, wait_until};
use crate::journal::now;
use crate::load::Delivery;
use crate::oracle::Fired;
use crate::servers::Servers;

/// How long it may take until the consequences of harm are seen.
const TO_NOTICE: Duration = Duration::from_secs(10);

/// More than claims last in a fault that waits for their end.
const TO_TAKE_OVER: Duration = Duration::from_secs(4);

/// Twice in a second, a worker dies in the middle of its work, and another takes its place. One of the two enqueues, too.
pub(crate) fn worker_killed(arena: &mut Arena, _: &mut Servers) -> Result<Fired> {
    const KILLS: u64 = 6;
    let mut nodes = begin_with_both(arena)?;
    for _ in 0..KILLS {
        pause(Duration::from_millis(300 + arena.random(400)));
        let victim = usize::try_from(arena.random(2))?;
        arena.wait_for_traffic()?;
        arena.kill(nodes[victim])?;
        replace(arena, &mut nodes, victim)?;
    }
    arena.over();
    Ok(Fired {
        times: arena.cut()?,
        what: "requests cut off by kills",
        may_refuse: true,
    })
}

/// A producer dies while it enqueues. The next one enqueues again, under the same keys, what was left open.
pub(crate) fn producer_killed(arena: &mut Arena, _: &mut Servers) -> Result<Fired> {
    const KILLS: u64 = 5;
    arena.worker()?;
    let (mut last, mut open) = (None, 0);
    for _ in 0..KILLS {
        let producer = arena.producer_after(last, 2 * RATE)?;
        pause(Duration::from_millis(200 + arena.random(400)));
        wait_until("events are being enqueued", TO_NOTICE, || {
            Ok(arena.open_calls(producer)? > 0)
        })?;
        arena.kill(producer)?;
        open += arena.open_calls(producer)?;
        last = Some(producer);
    }
    // One that lives, for what the last one left.
    arena.producer_after(last, RATE)?;
    arena.over();
    arena.wait_for_deliveries(50)?;
    Ok(Fired {
        times: open,
        what: "enqueues without an answer",
        may_refuse: true,
    })
}

/// A worker stands still for longer than its claims last. When the other has taken them over and is in the
/// middle of them, that one stands still, and the first wakes up as their owner of old.
pub(crate) fn worker_frozen(arena: &mut Arena, _: &mut Servers) -> Result<Fired> {
    const FREEZES: u64 = 2;
    const TRIES: u64 = 4 * FREEZES;
    let mut nodes = begin_with_both(arena)?;
    let (mut done, mut tried) = (0, 0);
    while done < FREEZES && tried < TRIES {
        tried += 1;
        // What the last try left behind has ended by then.
        pause(TO_TAKE_OVER);
        if freeze(arena, nodes)? {
            done += 1;
            nodes.reverse();
        }
    }
    arena.over();
    Ok(Fired {
        times: arena.fenced()?,
        what: "stale writes refused",
        may_refuse: true,
    })
}

/// Whether the second worker took over from the first: one that freezes with a lock of SQLite's file stops both.
fn freeze(arena: &mut Arena, [first, second]: [NodeId; 2]) -> Result<bool> {
    let fenced = arena.fenced()?;
    let known: HashSet<Delivery> = arena.account()?.doubled().collect();
    arena.wait_for_traffic()?;
    let frozen_at = now();
    arena.freeze(first)?;
    let waited = wait_until("claims are taken over", TO_TAKE_OVER, || {
        Ok(arena.account()?.doubled().any(|id| !known.contains(&id)))
    });
    if waited.is_err() {
        arena.thaw(first)?;
        return Ok(false);
    }
    arena.freeze(second)?;
    let doubled: HashSet<Delivery> = arena.account()?.doubled().collect();
    arena.taken_over(doubled.difference(&known).copied(), frozen_at..now());
    arena.thaw(first)?;
    let refused = wait_until("stale writes are refused", TO_NOTICE, || {
        Ok(arena.fenced()? > fenced)
    });
    arena.thaw(second)?;
    Ok(refused.is_ok())
}

/// Workers are asked to end and replaced, one after the other, as a deployment does it. One of the two enqueues, too.
pub(crate) fn rolling_restarts(arena: &mut Arena, _: &mut Servers) -> Result<Fired> {
    const RESTARTS: usize = 20;
    let mut nodes = begin_with_both(arena)?;
    for restart in 0..RESTARTS {
        let next = restart % 2;
        arena.wait_for_deliveries(15)?;
        arena.wait_for_traffic()?;
        arena.terminate(nodes[next])?;
        replace(arena, &mut nodes, next)?;
    }
    arena.over();
    Ok(Fired {
        times: RESTARTS as u64,
        what: "restarts under load",
        may_refuse: true,
    })
}

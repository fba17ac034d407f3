//! Migrations beside those who work.

use crate::Result;
use crate::arena::Arena;
use crate::oracle::Fired;
use crate::servers::Servers;

/// Processes that start at once on an empty store all find it migrated, and so do those that start, and
/// migrate, while others work.
pub(crate) fn migrated_together(arena: &mut Arena, servers: &mut Servers) -> Result<Fired> {
    const ROUNDS: u64 = 3;
    const TOGETHER: u64 = 6;
    arena.worker()?;
    arena.producer(150)?;
    for _ in 0..ROUNDS {
        arena.wait_for_traffic()?;
        let working = arena.workers(TOGETHER)?;
        let empty = arena.elsewhere(servers)?;
        let starting = arena.workers_at(&empty, TOGETHER)?;
        for worker in working.into_iter().chain(starting) {
            arena.terminate(worker)?;
        }
    }
    arena.over();
    Ok(Fired {
        times: 2 * ROUNDS * TOGETHER,
        what: "migrations, half of them under load",
        duplicates: 0,
    })
}

//! Schemas that are made, and changed, beside those who work.

use std::time::Duration;

use super::{RATE, begin};
use crate::Result;
use crate::arena::{Arena, wait_until};
use crate::oracle::Fired;
use crate::servers::Servers;

/// How long a migration may wait for those who work, and its consequences for being seen.
const TO_MIGRATE: Duration = Duration::from_secs(20);

/// Processes that start at once on an empty store make its schema together, and each finds it whole. Beside
/// them others join those who work, and find nothing to do.
pub(crate) fn started_together(arena: &mut Arena, servers: &mut Servers) -> Result<Fired> {
    const ROUNDS: u64 = 3;
    const TOGETHER: u64 = 6;
    arena.worker()?;
    arena.producer(RATE)?;
    for _ in 0..ROUNDS {
        arena.wait_for_traffic()?;
        let joining = arena.workers(TOGETHER)?;
        let empty = arena.elsewhere(servers)?;
        let starting = arena.workers_at(&empty, TOGETHER)?;
        for worker in joining.into_iter().chain(starting) {
            arena.terminate(worker)?;
        }
    }
    arena.over();
    Ok(Fired {
        times: ROUNDS * TOGETHER,
        what: "processes that made three schemas, and as many that joined under load",
        in_order: true,
    })
}

/// A newer version changes the schema under the workers and the producer of this one, which go on with the
/// statements that they had prepared. Each change adds what a migration may add; it also turns a column to
/// another type of text, so that Postgres refuses what was prepared for the one before.
pub(crate) fn migrated(arena: &mut Arena, servers: &mut Servers) -> Result<Fired> {
    const REFUSED: &str = "cached plan must not change result type";
    const TYPES: [&str; 4] = ["varchar", "text", "varchar", "text"];
    begin(arena)?;
    let postgres = servers.postgres()?;
    let before = postgres.logged(REFUSED)?;
    for (number, text) in (1..).zip(TYPES) {
        let migration = include_str!("migration.sql");
        let migration = migration.replace("{number}", &number.to_string());
        let migration = migration.replace("{text}", text);
        arena.wait_for_deliveries(50)?;
        arena.wait_for_traffic()?;
        let refused = postgres.logged(REFUSED)?;
        // One that Postgres ends to resolve a deadlock is run again, as a process that starts would.
        wait_until("the schema is migrated", TO_MIGRATE, || {
            Ok(postgres.sql_in(arena.name(), &migration).is_ok())
        })?;
        wait_until("old statements are refused", TO_MIGRATE, || {
            Ok(postgres.logged(REFUSED)? > refused)
        })?;
    }
    arena.over();
    arena.wait_for_deliveries(50)?;
    Ok(Fired {
        times: postgres.logged(REFUSED)? - before,
        what: "prepared statements refused after four migrations under load",
        in_order: true,
    })
}

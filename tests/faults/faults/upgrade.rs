//! Schemas that are made, and changed, beside those who work.

use std::time::Duration;

use xtask::services::Postgres;

use super::{RATE, begin};
use crate::Result;
use crate::arena::{Arena, pause, wait_until};
use crate::oracle::Fired;
use crate::servers::Servers;

/// How long the consequences of a migration may wait for being seen.
const TO_BE_SEEN: Duration = Duration::from_secs(20);

/// How often a migration is tried that gets no lock in time or is ended to resolve a deadlock, and the pause between: as
/// by a process that starts.
const TRIES: u32 = 60;
const BETWEEN_TRIES: Duration = Duration::from_secs(1);

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
        may_refuse: true,
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
        migrate(postgres, arena.name(), &migration)?;
        wait_until("old statements are refused", TO_BE_SEEN, || {
            Ok(postgres.logged(REFUSED)? > refused)
        })?;
    }
    arena.over();
    arena.wait_for_deliveries(50)?;
    Ok(Fired {
        times: postgres.logged(REFUSED)? - before,
        what: "prepared statements refused after four migrations under load",
        may_refuse: true,
    })
}

/// Changes the schema as a process does that starts: no lock that is not to be had soon is waited for, as everybody else
/// waits behind it.
fn migrate(postgres: &Postgres, database: &str, migration: &str) -> Result {
    const LOCKED_OUT: [&str; 2] = ["deadlock detected", "due to lock timeout"];
    let migration = format!("SET lock_timeout = '2s';\n{migration}");
    for _ in 0..TRIES {
        match postgres.sql_in(database, &migration) {
            Ok(_) => return Ok(()),
            Err(error) if LOCKED_OUT.iter().any(|it| error.to_string().contains(it)) => {}
            Err(error) => return Err(error.into()),
        }
        pause(BETWEEN_TRIES);
    }
    Err("the migration is locked out each time".into())
}

//! Creates and migrates the schema, forward only.

use sqlx::sqlite::{SqliteConnection, SqlitePool};

use crate::builder::OpenError;
use crate::database::Write;
use crate::sql::with_prefix;

/// In order; the first makes version 1. One that was released is never changed.
pub(crate) const MIGRATIONS: [&str; 5] = [
    include_str!("../migrations/0001_init.sql"),
    include_str!("../migrations/0002_health.sql"),
    include_str!("../migrations/0003_event_types.sql"),
    include_str!("../migrations/0004_management.sql"),
    include_str!("../migrations/0005_traceparent.sql"),
];

/// The version that this build knows.
const CURRENT: i64 = MIGRATIONS.len() as i64;

const TABLE: &str = "CREATE TABLE IF NOT EXISTS webhook_migrations
    (version INTEGER PRIMARY KEY, applied_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP) STRICT";
const EXISTS: &str = "SELECT count(*) FROM sqlite_schema WHERE name = 'webhook_migrations'";
const VERSION: &str = "SELECT coalesce(max(version), 0) FROM webhook_migrations";
const APPLIED: &str = "INSERT INTO webhook_migrations (version) VALUES (?1)";

/// Brings the schema up to date, once, whoever else does it at the same time.
pub(crate) async fn migrate(pool: &SqlitePool, prefix: &str) -> Result<(), OpenError> {
    let found = version(&mut *pool.acquire().await?, prefix).await?;
    check(found)?;
    if found == CURRENT {
        return Ok(());
    }
    let mut tx = Write::begin(pool).await?;
    sqlx::query(with_prefix(TABLE, prefix))
        .execute(&mut *tx)
        .await?;
    let found = version(&mut tx, prefix).await?;
    check(found)?;
    for (version, migration) in (1..)
        .zip(MIGRATIONS)
        .filter(|(version, _)| *version > found)
    {
        sqlx::raw_sql(with_prefix(migration, prefix))
            .execute(&mut *tx)
            .await?;
        sqlx::query(with_prefix(APPLIED, prefix))
            .bind(version)
            .execute(&mut *tx)
            .await?;
    }
    Ok(tx.commit().await?)
}

async fn version(connection: &mut SqliteConnection, prefix: &str) -> sqlx::Result<i64> {
    let exists: i64 = sqlx::query_scalar(with_prefix(EXISTS, prefix))
        .fetch_one(&mut *connection)
        .await?;
    if exists == 0 {
        return Ok(0);
    }
    sqlx::query_scalar(with_prefix(VERSION, prefix))
        .fetch_one(connection)
        .await
}

fn check(found: i64) -> Result<(), OpenError> {
    if found > CURRENT {
        return Err(OpenError::NewerSchema {
            found,
            known: CURRENT,
        });
    }
    Ok(())
}

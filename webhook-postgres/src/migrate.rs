//! The tables, and how they came to be: forward only, each step runs beside the version before it.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, PgPool, Row};

use webhook_core::BoxError;

use crate::connect::ConnectError;
use crate::statements::Statement;

/// Every migration, in order; the first is version 1.
pub(crate) const MIGRATIONS: &[&str] = &[
    include_str!("../migrations/0001_init.sql"),
    include_str!("../migrations/0002_health.sql"),
    include_str!("../migrations/0003_event_types.sql"),
    include_str!("../migrations/0004_management.sql"),
    include_str!("../migrations/0005_traceparent.sql"),
];

/// How often a migration is tried that does not get its locks, and the pause between.
const LOCK_TRIES: u32 = 60;
const LOCK_PAUSE: Duration = Duration::from_secs(1);

/// The version that this library needs, and the newest that it knows.
fn known() -> i32 {
    i32::try_from(MIGRATIONS.len()).unwrap_or(i32::MAX)
}

/// All that is to be run, in order, where nothing is.
pub(crate) fn scripts(schema: &str) -> Vec<String> {
    let mut scripts: Vec<_> = missing(schema, 0).collect();
    if let Some(first) = scripts.first_mut() {
        *first = format!("{};\n{first}", preamble(schema));
    }
    scripts
}

/// Brings the schema to the known version, one process at a time.
pub(crate) async fn run(pool: &PgPool, schema: &str) -> Result<(), ConnectError> {
    let mut connection = pool.acquire().await.map_err(server)?;
    for tries_left in (0..LOCK_TRIES).rev() {
        if version(&mut connection, schema).await? >= known() {
            break;
        }
        match migrate(&mut connection, schema).await {
            Err(ConnectError::Server(error)) if tries_left > 0 && is_locked_out(&error) => {
                tracing::info!("the schema is in use; its migration waits");
                tokio::time::sleep(LOCK_PAUSE).await;
            }
            ended => ended?,
        }
    }
    check_version(version(&mut connection, schema).await?)
}

/// Sees to it that the schema fits.
pub(crate) async fn check(pool: &PgPool, schema: &str) -> Result<(), ConnectError> {
    let mut connection = pool.acquire().await.map_err(server)?;
    check_version(version(&mut connection, schema).await?)
}

fn check_version(found: i32) -> Result<(), ConnectError> {
    let known = known();
    match found {
        _ if found > known => Err(ConnectError::TooNew { found, known }),
        _ if found < known => Err(ConnectError::TooOld {
            found,
            needed: known,
        }),
        _ => Ok(()),
    }
}

async fn migrate(connection: &mut PgConnection, schema: &str) -> Result<(), ConnectError> {
    let mut tx = connection.begin().await.map_err(server)?;
    // A migration takes as long as it takes.
    sqlx::query("SET LOCAL statement_timeout = 0")
        .execute(&mut *tx)
        .await
        .map_err(server)?;
    // Whoever comes second waits here, and finds the work done.
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))")
        .bind(format!("webhook.migrations {schema}"))
        .execute(&mut *tx)
        .await
        .map_err(server)?;
    // Rather not now than behind a long transaction, with everybody else waiting behind this.
    sqlx::query("SET LOCAL lock_timeout = '2s'")
        .execute(&mut *tx)
        .await
        .map_err(server)?;
    let apply =
        async |tx: &mut PgConnection, text| tx.execute(sqlx::raw_sql(AssertSqlSafe(text))).await;
    apply(&mut tx, preamble(schema)).await.map_err(server)?;
    // Asked only now: until it locks a table, this connection remembers that there was none.
    let done = version(&mut tx, schema).await?;
    for text in missing(schema, done) {
        apply(&mut tx, text).await.map_err(server)?;
    }
    tx.commit().await.map_err(server)
}

fn preamble(schema: &str) -> String {
    let text = "CREATE TABLE IF NOT EXISTS webhook.migrations (
        version integer PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now()
    )";
    let table = Statement::new(text, schema);
    format!("CREATE SCHEMA IF NOT EXISTS \"{schema}\"; {}", table.text())
}

fn missing(schema: &str, done: i32) -> impl Iterator<Item = String> {
    let all = MIGRATIONS
        .iter()
        .zip(1..)
        .filter(move |(_, version)| *version > done);
    all.map(move |(text, version)| {
        let note = format!("INSERT INTO webhook.migrations (version) VALUES ({version})");
        let (text, note) = (Statement::new(text, schema), Statement::new(&note, schema));
        format!("{};\n{}", text.text(), note.text())
    })
}

/// What the schema is at; 0 if it is not there.
async fn version(connection: &mut PgConnection, schema: &str) -> Result<i32, ConnectError> {
    // Not `to_regclass`: that may not see yet what another process has just committed.
    let table =
        "SELECT EXISTS (SELECT FROM pg_tables WHERE schemaname = $1 AND tablename = 'migrations')";
    let there: bool = sqlx::query_scalar(table)
        .bind(schema)
        .fetch_one(&mut *connection)
        .await
        .map_err(server)?;
    if !there {
        return Ok(0);
    }
    let text = format!("SELECT coalesce(max(version), 0) FROM \"{schema}\".migrations");
    let row = sqlx::query(AssertSqlSafe(text))
        .fetch_one(connection)
        .await
        .map_err(server)?;
    row.try_get(0).map_err(server)
}

/// Whether a lock was not to be had in time.
fn is_locked_out(error: &BoxError) -> bool {
    let error = error.downcast_ref::<sqlx::Error>();
    let code = error
        .and_then(sqlx::Error::as_database_error)
        .and_then(sqlx::error::DatabaseError::code);
    code.as_deref() == Some("55P03")
}

pub(crate) fn server(error: sqlx::Error) -> ConnectError {
    ConnectError::Server(error.into())
}

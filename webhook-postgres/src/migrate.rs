//! Creates and migrates the tables. Migrations go forward only, and each can run beside the version before it.
//!
//! Each migration is a transaction of its own. So a migration that waits for its locks does not hold the locks of earlier ones.

use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
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
    include_str!("../migrations/0006_enqueue_traceparent.sql"),
    include_str!("../migrations/0007_drop_day.sql"),
];

/// An index of a table that is in use: built before the migration that it belongs to, and beside all who write.
struct Index {
    version: i32,
    name: &'static str,
    text: &'static str,
}

const INDEXES: &[Index] = &[Index {
    version: 4,
    name: "deliveries_parked",
    text: include_str!("../migrations/indexes/0004_deliveries_parked.sql"),
}];

/// How often a migration is tried that does not get its locks, and the pause between.
const LOCK_TRIES: u32 = 60;
const LOCK_PAUSE: Duration = Duration::from_secs(1);
/// How often a process asks whether another one has done the work.
const BUSY_PAUSE: Duration = Duration::from_millis(200);

/// What a step came to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Done,
    /// Another process is at it.
    Busy,
}

/// The version that this library needs, and the newest that it knows.
fn known() -> i32 {
    i32::try_from(MIGRATIONS.len()).unwrap_or(i32::MAX)
}

/// All that is to be run, in order, where nothing is.
pub(crate) fn scripts(schema: &str) -> Vec<String> {
    let mut scripts: Vec<_> = (1..=known()).map(|it| whole_script(schema, it)).collect();
    if let Some(first) = scripts.first_mut() {
        *first = format!("{};\n{first}", preamble(schema));
    }
    scripts
}

/// Brings the schema to the known version, one process and one migration at a time. `direct` leads to the server itself.
pub(crate) async fn run(
    pool: &PgPool,
    schema: &str,
    direct: &PgConnectOptions,
) -> Result<(), ConnectError> {
    let mut connection = pool.acquire().await.map_err(server)?;
    let mut tries_left = LOCK_TRIES;
    loop {
        let found = version(&mut connection, schema).await?;
        if found >= known() {
            return check_version(found);
        }
        match step(&mut connection, schema, direct).await {
            Ok(Step::Done) => tries_left = LOCK_TRIES,
            Ok(Step::Busy) => tokio::time::sleep(BUSY_PAUSE).await,
            Err(ConnectError::Server(error)) if tries_left > 1 && is_locked_out(&error) => {
                tracing::info!("the schema is in use; its migration waits");
                tries_left -= 1;
                tokio::time::sleep(LOCK_PAUSE).await;
            }
            Err(error) => return Err(error),
        }
    }
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

/// Runs the next migration, or all of them where nothing is, in one transaction.
async fn step(
    connection: &mut PgConnection,
    schema: &str,
    direct: &PgConnectOptions,
) -> Result<Step, ConnectError> {
    let mut tx = connection.begin().await.map_err(server)?;
    // A migration takes as long as it takes. But rather not now than behind a long transaction, with everybody else
    // waiting behind this.
    let settings =
        "SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0;
        SET LOCAL lock_timeout = '2s'";
    apply(&mut tx, settings.to_owned()).await?;
    // Whoever comes second asks again, and does not wait in a statement: an index that is built beside others waits for
    // all that are under way.
    let is_first: bool =
        sqlx::query_scalar("SELECT pg_try_advisory_xact_lock(hashtextextended($1, 0))")
            .bind(format!("webhook.migrations {schema}"))
            .fetch_one(&mut *tx)
            .await
            .map_err(server)?;
    if !is_first {
        return Ok(Step::Busy);
    }
    apply(&mut tx, preamble(schema)).await?;
    // Asked only now: until it locks a table, this connection remembers that there was none.
    let done = version(&mut tx, schema).await?;
    if done == 0 {
        for version in 1..=known() {
            apply(&mut tx, whole_script(schema, version)).await?;
        }
    } else if done < known() {
        for index in indexes(done + 1) {
            if build(index, schema, direct).await.map_err(server)? == Step::Busy {
                return Ok(Step::Busy);
            }
        }
        apply(&mut tx, script(schema, done + 1)).await?;
    }
    tx.commit().await.map_err(server)?;
    Ok(Step::Done)
}

async fn apply(connection: &mut PgConnection, text: String) -> Result<(), ConnectError> {
    let ran = connection.execute(sqlx::raw_sql(AssertSqlSafe(text))).await;
    ran.map(drop).map_err(server)
}

/// Builds an index beside all who write, on a connection of its own, as that cannot be in a transaction. One that its
/// builder left unfinished is built anew.
async fn build(index: &Index, schema: &str, direct: &PgConnectOptions) -> sqlx::Result<Step> {
    let mut own = PgConnection::connect_with(direct).await?;
    for setting in ["SET statement_timeout = 0", "SET lock_timeout = 0"] {
        own.execute(setting).await?;
    }
    let name = format!("\"{schema}\".{}", index.name);
    let found = "SELECT indisvalid, EXISTS (
            SELECT FROM pg_stat_progress_create_index WHERE index_relid = indexrelid
        ) FROM pg_index WHERE indexrelid = to_regclass($1)";
    let found: Option<(bool, bool)> = sqlx::query_as(found)
        .bind(&name)
        .fetch_optional(&mut own)
        .await?;
    let step = match found {
        Some((true, _)) => Step::Done,
        // Its builder is gone, but the server goes on.
        Some((false, true)) => Step::Busy,
        Some((false, false)) | None => {
            let drop = format!("DROP INDEX CONCURRENTLY IF EXISTS {name}");
            own.execute(AssertSqlSafe(drop)).await?;
            tracing::info!(index = index.name, "an index is built");
            let text = Statement::new(index.text, schema);
            own.execute(AssertSqlSafe(text.text().to_owned())).await?;
            Step::Done
        }
    };
    own.close().await?;
    Ok(step)
}

fn indexes(version: i32) -> impl Iterator<Item = &'static Index> {
    INDEXES.iter().filter(move |it| it.version == version)
}

fn preamble(schema: &str) -> String {
    let text = "CREATE TABLE IF NOT EXISTS webhook.migrations (
        version integer PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now()
    )";
    let table = Statement::new(text, schema);
    format!("CREATE SCHEMA IF NOT EXISTS \"{schema}\"; {}", table.text())
}

/// What makes a version of the one before, and notes that it did; without the version's indexes.
fn script(schema: &str, version: i32) -> String {
    let place = usize::try_from(version - 1).unwrap_or(usize::MAX);
    let text = MIGRATIONS.get(place).copied().unwrap_or_default();
    let note = format!("INSERT INTO webhook.migrations (version) VALUES ({version})");
    let (text, note) = (Statement::new(text, schema), Statement::new(&note, schema));
    format!("{};\n{}", text.text(), note.text())
}

/// The same with the version's indexes, unless they are there already: for where nobody writes, or others do not mind.
fn whole_script(schema: &str, version: i32) -> String {
    let indexes = indexes(version).map(|index| {
        let text = index.text.replace(" CONCURRENTLY", "");
        format!("{};\n", Statement::new(&text, schema).text().trim_end())
    });
    let indexes: String = indexes.collect();
    format!("{indexes}{}", script(schema, version))
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

/// Whether a lock was not to be had in time, or never.
fn is_locked_out(error: &BoxError) -> bool {
    let error = error.downcast_ref::<sqlx::Error>();
    let code = error
        .and_then(sqlx::Error::as_database_error)
        .and_then(sqlx::error::DatabaseError::code);
    matches!(code.as_deref(), Some("55P03" | "40P01"))
}

pub(crate) fn server(error: sqlx::Error) -> ConnectError {
    ConnectError::Server(error.into())
}

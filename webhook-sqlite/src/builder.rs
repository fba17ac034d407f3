//! Opens a store.

use std::path::Path;
use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteSynchronous,
};

use webhook_core::KeyProvider;
use webhook_core::backend::Encryption;

use crate::database::Database;
use crate::migrate::migrate;
use crate::sql::Sql;
use crate::store::SqliteStore;

/// How long a statement waits for another process that writes.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a call waits for a connection: for the writers before it in this process.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);
const READERS: u32 = 4;
/// More than there are statements, in all their sizes.
const CACHED_STATEMENTS: usize = 512;
/// Of the file's pages, in KiB, for each connection.
const PAGE_CACHE: u32 = 16 * 1_024;
/// Pages that the log gathers before they go into the file.
const CHECKPOINT: &str = "4000";
/// Rows that SQLite's thread hands over at a time.
const ROW_BUFFER: usize = 256;

/// Opens a [`SqliteStore`].
///
/// ```
/// # async fn host(pool: sqlx::SqlitePool) -> Result<(), webhook_sqlite::OpenError> {
/// use webhook_sqlite::SqliteStore;
///
/// let beside_our_tables = SqliteStore::builder().table_prefix("hooks_").open_in(pool).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct SqliteStoreBuilder {
    prefix: String,
    encryption: Encryption,
}

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The prefix cannot be part of a table's name.
    #[error(transparent)]
    Prefix(#[from] InvalidPrefix),
    /// A newer version of this crate has migrated the file. Run that one, or restore a backup.
    #[error("the schema has version {found}, and this build knows {known}: run a newer build")]
    NewerSchema {
        /// The version of the file.
        found: i64,
        /// The newest that this build knows.
        known: i64,
    },
    /// SQLite cannot open or migrate the file.
    #[error("SQLite cannot open or migrate the file")]
    Sqlite(#[from] sqlx::Error),
}

/// The text cannot be the prefix of tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a table prefix is 1 to 32 of a-z 0-9 _, and does not begin with a digit or with sqlite_")]
pub struct InvalidPrefix;

impl Default for SqliteStoreBuilder {
    fn default() -> Self {
        Self {
            prefix: "webhook_".to_owned(),
            encryption: Encryption::default(),
        }
    }
}

impl SqliteStoreBuilder {
    /// The beginning of the names of the tables; `webhook_` unless set. Two stores in one file need different ones.
    #[must_use]
    pub fn table_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Seals the endpoints' signing secrets, secret headers and URL queries with these keys. Without keys, the file holds these
    /// secrets as plain text, and the store logs a warning when it opens. Secrets that were stored before there were keys stay
    /// readable; [`Dispatcher::rekey`](webhook_core::Dispatcher::rekey) seals them.
    ///
    /// ```
    /// # async fn host() -> Result<(), Box<dyn std::error::Error>> {
    /// use webhook_core::StaticKeys;
    /// use webhook_sqlite::SqliteStore;
    ///
    /// let keys: StaticKeys = std::env::var("WEBHOOKS_KEY")?.parse()?; // openssl rand -base64 32
    /// let store = SqliteStore::builder().encryption(keys).open("webhooks.db").await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn encryption(mut self, keys: impl KeyProvider + 'static) -> Self {
        self.encryption = Encryption::with(keys);
        self
    }

    /// Stores the endpoints' secrets as plain text on purpose, without a warning.
    #[must_use]
    pub fn plaintext(mut self) -> Self {
        self.encryption = Encryption::plaintext();
        self
    }

    /// Opens a file of the store's own. Creates it if it does not exist.
    ///
    /// # Errors
    /// When the file cannot be opened or migrated.
    pub async fn open(self, path: impl AsRef<Path>) -> Result<SqliteStore, OpenError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT)
            .pragma("cache_size", format!("-{PAGE_CACHE}"))
            .pragma("wal_autocheckpoint", CHECKPOINT)
            // What a row held before, a secret among it, does not stay in the page.
            .pragma("secure_delete", "fast")
            .statement_cache_capacity(CACHED_STATEMENTS)
            .row_buffer_size(ROW_BUFFER)
            .disable_statement_logging();
        let pool = |connections| {
            SqlitePoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(ACQUIRE_TIMEOUT)
                .test_before_acquire(false)
        };
        let writer = pool(1).connect_with(options.clone()).await?;
        let readers = pool(READERS).connect_lazy_with(options.pragma("query_only", "on"));
        self.build(writer, readers, false).await
    }

    /// Opens the store in a host's own database, so that `enqueue_in` can join its transactions.
    ///
    /// ```
    /// # use webhook_core::testing::ScriptedTransport;
    /// # use webhook_core::{Dispatcher, NewEvent};
    /// # use webhook_sqlite::SqliteStore;
    /// # async fn host(pool: sqlx::SqlitePool) -> Result<(), Box<dyn std::error::Error>> {
    /// let store = SqliteStore::builder().open_in(pool.clone()).await?;
    /// let dispatcher = Dispatcher::builder(store)
    /// #   .transport(ScriptedTransport::default())
    ///     .build()?;
    ///
    /// let mut tx = pool.begin_with("BEGIN IMMEDIATE").await?;
    /// sqlx::query("UPDATE orders SET paid = TRUE WHERE id = 7").execute(&mut *tx).await?;
    /// dispatcher.enqueue_in(&mut tx, NewEvent::data("order.paid", r#"{"order": 7}"#)?).await?;
    /// tx.commit().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// The settings of the pool's connections decide how durable the store is: use WAL, `synchronous=FULL` and a busy timeout. If
    /// a connection lacks one of these, the store logs a warning and leaves the setting as it is.
    ///
    /// ```
    /// # async fn host() -> Result<(), sqlx::Error> {
    /// use std::time::Duration;
    /// use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqliteSynchronous};
    ///
    /// let options = SqliteConnectOptions::new()
    ///     .filename("app.db")
    ///     .journal_mode(SqliteJournalMode::Wal)
    ///     .synchronous(SqliteSynchronous::Full)
    ///     .busy_timeout(Duration::from_secs(5));
    /// let pool = SqlitePool::connect_with(options).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When the pool has no connection to give, or the tables cannot be migrated.
    pub async fn open_in(self, pool: SqlitePool) -> Result<SqliteStore, OpenError> {
        for doubt in doubts(&mut *pool.acquire().await?).await? {
            tracing::warn!("the host's connections to SQLite {doubt}");
        }
        self.build(pool.clone(), pool, true).await
    }

    async fn build(
        self,
        writer: SqlitePool,
        readers: SqlitePool,
        is_hosted: bool,
    ) -> Result<SqliteStore, OpenError> {
        check_prefix(&self.prefix)?;
        migrate(&writer, &self.prefix).await?;
        self.encryption.warn_if_unsaid();
        let database = Database::new(writer, readers, is_hosted, Sql::new(&self.prefix));
        Ok(SqliteStore::new(database, self.encryption))
    }
}

/// What a host may not know about its connections.
async fn doubts(connection: &mut SqliteConnection) -> sqlx::Result<Vec<&'static str>> {
    const FULL: i64 = 2;
    let ask = sqlx::query_as(include_str!("../sql/open_in.sql"));
    let (journal, synchronous, timeout): (String, i64, i64) = ask.fetch_one(connection).await?;
    let doubts = [
        (
            journal != "wal",
            "do not use WAL: who writes waits for those who read; set journal_mode=WAL",
        ),
        (
            synchronous < FULL,
            "do not sync each commit: a crash of the machine may lose accepted events; set synchronous=FULL",
        ),
        (
            timeout == 0,
            "do not wait for each other: calls fail while another connection writes; set a busy_timeout",
        ),
    ];
    Ok(doubts
        .into_iter()
        .filter_map(|(is_so, doubt)| is_so.then_some(doubt))
        .collect())
}

/// The prefix goes into statements as it is.
fn check_prefix(prefix: &str) -> Result<(), InvalidPrefix> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    let fits = (1..=32).contains(&prefix.len()) && prefix.bytes().all(allowed);
    if fits && !prefix.starts_with(|c: char| c.is_ascii_digit()) && !prefix.starts_with("sqlite_") {
        Ok(())
    } else {
        Err(InvalidPrefix)
    }
}

#[cfg(test)]
mod tests {
    use sqlx::Connection as _;

    use super::*;

    #[test]
    fn a_connection_is_doubted_for_each_setting_that_it_lacks() {
        webhook_core::testing::run(async {
            let folder = tempfile::tempdir().unwrap();
            let good = SqliteConnectOptions::new()
                .filename(folder.path().join("doubts.db"))
                .create_if_missing(true)
                .journal_mode(SqliteJournalMode::Wal)
                .synchronous(SqliteSynchronous::Full)
                .busy_timeout(BUSY_TIMEOUT);
            let extra = good.clone().synchronous(SqliteSynchronous::Extra);
            let quick = good.clone().synchronous(SqliteSynchronous::Normal);
            let hasty = quick.clone().busy_timeout(Duration::ZERO);
            let worst = hasty.clone().journal_mode(SqliteJournalMode::Delete);
            for (expected, options) in (0..).zip([good, quick, hasty, worst]) {
                let mut connection = options.connect().await.unwrap();
                let doubts = doubts(&mut connection).await.unwrap();
                assert_eq!(doubts.len(), expected, "{doubts:?}");
                connection.close().await.unwrap();
            }
            let mut connection = extra.connect().await.unwrap();
            assert!(doubts(&mut connection).await.unwrap().is_empty());
            connection.close().await.unwrap();
        });
    }

    #[test]
    fn a_prefix_is_part_of_a_name_and_nothing_else() {
        for good in ["webhook_", "_", "a1"] {
            assert_eq!(check_prefix(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "1a",
            "A",
            "a-b",
            "a b",
            "a;",
            "a\"",
            "ä",
            "sqlite_x",
            &"x".repeat(33),
        ] {
            assert_eq!(check_prefix(bad), Err(InvalidPrefix), "{bad}");
        }
    }
}

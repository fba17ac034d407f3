//! The connections to the file, and transactions on them.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::sqlite::{SqliteConnection, SqlitePool};
use sqlx::{SqlStr, Sqlite};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;
use webhook_core::{Now, PoolUse, Timestamp};

use crate::error::overloaded;
use crate::sql::Sql;

/// What people look for has this part of the readers, so that deliveries need not wait for it.
const LOOKS_PART: u32 = 2;
/// How long a look waits for those before it.
const LOOK_PATIENCE: Duration = Duration::from_secs(5);
/// After so many of its steps SQLite asks whether anybody still waits for what a look finds.
const STEPS: i32 = 10_000;

/// The file, and the statements that run on it.
pub(crate) struct Database {
    /// Of one connection, unless the pool is the host's: writers would only wait for each other.
    pub(crate) writer: SqlitePool,
    pub(crate) readers: SqlitePool,
    /// Whether the connections are the host's, to keep and to close.
    pub(crate) is_hosted: bool,
    pub(crate) sql: Sql,
    looks: Semaphore,
    look_patience: Duration,
}

/// A connection to look for what people ask for, which may take long.
///
/// If it is dropped before it is [done](Self::done), nobody waits for it any longer: the statement stops.
pub(crate) struct Look<'d> {
    connection: PoolConnection<Sqlite>,
    /// `None` on connections of the host, whose handlers are its own.
    is_given_up: Option<Arc<AtomicBool>>,
    is_done: bool,
    _place: SemaphorePermit<'d>,
}

impl Database {
    pub(crate) fn new(writer: SqlitePool, readers: SqlitePool, is_hosted: bool, sql: Sql) -> Self {
        let looks = readers.options().get_max_connections() / LOOKS_PART;
        Self {
            writer,
            readers,
            is_hosted,
            sql,
            looks: Semaphore::new(looks.max(1) as usize),
            look_patience: LOOK_PATIENCE,
        }
    }

    pub(crate) async fn read(&self) -> sqlx::Result<PoolConnection<Sqlite>> {
        self.readers.acquire().await
    }

    /// A connection for what may take long, and is for people.
    pub(crate) async fn look(&self) -> sqlx::Result<Look<'_>> {
        let place = timeout(self.look_patience, self.looks.acquire()).await;
        let place = place.map_err(|_| overloaded())?;
        let mut look = Look {
            _place: place.map_err(|_| sqlx::Error::PoolClosed)?,
            connection: self.read().await?,
            is_given_up: (!self.is_hosted).then(Arc::default),
            is_done: false,
        };
        if let Some(is_given_up) = look.is_given_up.clone() {
            let goes_on = move || !is_given_up.load(Ordering::Relaxed);
            let mut handle = look.connection.lock_handle().await?;
            handle.set_progress_handler(STEPS, goes_on);
        }
        Ok(look)
    }

    pub(crate) async fn write(&self) -> sqlx::Result<Write> {
        Write::begin(&self.writer).await
    }

    /// Of readers and the writer together, unless they are one pool of the host.
    pub(crate) fn pool_use(&self) -> PoolUse {
        let readers = pool_use(&self.readers);
        if self.is_hosted {
            return readers;
        }
        let writer = pool_use(&self.writer);
        PoolUse {
            idle: readers.idle + writer.idle,
            in_use: readers.in_use + writer.in_use,
            max: readers.max + writer.max,
        }
    }

    /// Readers first: the log goes into the file as a whole only when nobody reads it.
    pub(crate) async fn close(&self) -> sqlx::Result<()> {
        if self.is_hosted {
            return Ok(());
        }
        self.readers.close().await;
        let checkpointed = self.checkpoint().await;
        self.writer.close().await;
        match checkpointed {
            Err(sqlx::Error::PoolClosed) => Ok(()),
            checkpointed => checkpointed,
        }
    }

    async fn checkpoint(&self) -> sqlx::Result<()> {
        let mut writer = self.writer.acquire().await?;
        let checkpoint = sqlx::query(self.sql.close.clone());
        checkpoint.execute(&mut *writer).await.map(drop)
    }

    /// The pinned time, or SQLite's.
    pub(crate) async fn now(
        &self,
        connection: &mut SqliteConnection,
        now: Now,
    ) -> sqlx::Result<Timestamp> {
        if let Some(now) = now {
            return Ok(now);
        }
        let now = sqlx::query_scalar(self.sql.now.clone())
            .bind(None::<i64>)
            .fetch_one(connection)
            .await?;
        Ok(Timestamp::from_micros(now))
    }
}

impl Look<'_> {
    /// What was looked for is found.
    pub(crate) fn done(mut self) {
        self.is_done = true;
    }
}

impl Deref for Look<'_> {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        &self.connection
    }
}

impl DerefMut for Look<'_> {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        &mut self.connection
    }
}

impl Drop for Look<'_> {
    fn drop(&mut self) {
        if let Some(is_given_up) = self.is_given_up.as_ref().filter(|_| !self.is_done) {
            is_given_up.store(true, Ordering::Relaxed);
            self.connection.close_on_drop();
        }
    }
}

fn pool_use(pool: &SqlitePool) -> PoolUse {
    let idle = u32::try_from(pool.num_idle()).unwrap_or(u32::MAX);
    PoolUse {
        idle,
        in_use: pool.size().saturating_sub(idle),
        max: pool.options().get_max_connections(),
    }
}

/// A transaction that writes, from its beginning on, so that it cannot fail half-way because another writes.
///
/// If it is only dropped its connection is closed, which rolls back: after an error SQLite may have ended the
/// transaction by itself, as when the disk is full, and sqlx would go on to count one.
pub(crate) struct Write {
    connection: PoolConnection<Sqlite>,
    ended: bool,
}

impl Write {
    pub(crate) async fn begin(pool: &SqlitePool) -> sqlx::Result<Self> {
        let mut write = Self {
            connection: pool.acquire().await?,
            ended: false,
        };
        write
            .execute(SqlStr::from_static("BEGIN IMMEDIATE"))
            .await?;
        Ok(write)
    }

    pub(crate) async fn commit(mut self) -> sqlx::Result<()> {
        self.execute(SqlStr::from_static("COMMIT")).await?;
        self.ended = true;
        Ok(())
    }

    pub(crate) async fn rollback(mut self) -> sqlx::Result<()> {
        self.execute(SqlStr::from_static("ROLLBACK")).await?;
        self.ended = true;
        Ok(())
    }

    async fn execute(&mut self, sql: SqlStr) -> sqlx::Result<()> {
        sqlx::query(sql).execute(&mut *self.connection).await?;
        Ok(())
    }
}

impl Deref for Write {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        &self.connection
    }
}

impl DerefMut for Write {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        &mut self.connection
    }
}

impl Drop for Write {
    fn drop(&mut self) {
        if !self.ended {
            self.connection.close_on_drop();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future as _;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};

    use webhook_core::ErrorKind;

    use super::*;
    use crate::error::failed;

    fn database(folder: &tempfile::TempDir) -> Database {
        let options = SqliteConnectOptions::new()
            .filename(folder.path().join("looks.db"))
            .create_if_missing(true);
        let pool = |connections| {
            let pool = SqlitePoolOptions::new().max_connections(connections);
            pool.connect_lazy_with(options.clone())
        };
        Database::new(pool(1), pool(4), false, Sql::new("webhook_"))
    }

    #[test]
    fn looks_leave_half_of_the_readers_to_deliveries() {
        webhook_core::testing::run(async {
            let folder = tempfile::tempdir().unwrap();
            let mut database = database(&folder);
            database.look_patience = Duration::ZERO;
            let looks = [
                database.look().await.unwrap(),
                database.look().await.unwrap(),
            ];
            let third = database.look().await.err().unwrap();
            assert_eq!(failed("events")(third).kind(), ErrorKind::Overloaded);
            let _readers = [
                database.read().await.unwrap(),
                database.read().await.unwrap(),
            ];
            looks.into_iter().for_each(Look::done);
            assert!(database.look().await.is_ok());
        });
    }

    #[test]
    fn a_look_that_nobody_waits_for_stops() {
        webhook_core::testing::run(async {
            let folder = tempfile::tempdir().unwrap();
            let database = database(&folder);
            let mut look = database.look().await.unwrap();
            {
                let endless = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) \
                               SELECT count(*) FROM n";
                let endless = sqlx::query(endless);
                let mut endless = pin!(endless.fetch_one(&mut *look));
                let begun = endless
                    .as_mut()
                    .poll(&mut Context::from_waker(Waker::noop()));
                assert!(begun.is_pending());
            }
            drop(look);
            // Waits for all that is under way.
            database.readers.close().await;
        });
    }
}

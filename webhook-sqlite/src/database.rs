//! The connections to the file, and transactions on them.

use std::ops::{Deref, DerefMut};

use sqlx::pool::PoolConnection;
use sqlx::sqlite::{SqliteConnection, SqlitePool};
use sqlx::{SqlStr, Sqlite};
use webhook_core::{Now, PoolUse, Timestamp};

use crate::sql::Sql;

/// The file, and the statements that run on it.
pub(crate) struct Database {
    /// Of one connection, unless the pool is the host's: writers would only wait for each other.
    pub(crate) writer: SqlitePool,
    pub(crate) readers: SqlitePool,
    /// Whether the connections are the host's, to keep and to close.
    pub(crate) is_hosted: bool,
    pub(crate) sql: Sql,
}

impl Database {
    pub(crate) async fn read(&self) -> sqlx::Result<PoolConnection<Sqlite>> {
        self.readers.acquire().await
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

//! A host's own database, which is the store's: events that are enqueued in its transactions.

use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqliteSynchronous};
use sqlx::{Connection as _, PgPool};
use tokio::time::timeout;
use uuid::Uuid;
use webhook_delivery::{Dispatcher, NewEvent, PgStore, SqliteStore};

use crate::Result;
use crate::node::Place;

/// How long the host waits for a transaction of its own: whether one that takes longer commits is left open.
const PATIENCE: Duration = Duration::from_secs(5);

/// How a transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Commit,
    Rollback,
}

/// A host that has its tables beside the store's.
pub(crate) enum Shop {
    Postgres(Dispatcher<PgStore>, PgPool),
    Sqlite(Dispatcher<SqliteStore>, SqlitePool),
}

impl Shop {
    pub(crate) async fn open(place: &Place) -> Result<Self> {
        if let Some(path) = place.store.strip_prefix("sqlite:") {
            let options = SqliteConnectOptions::new()
                .filename(path)
                .journal_mode(SqliteJournalMode::Wal)
                .synchronous(SqliteSynchronous::Full)
                .busy_timeout(PATIENCE);
            let pool = SqlitePool::connect_with(options).await?;
            let store = SqliteStore::builder().open_in(pool.clone()).await?;
            let dispatcher = place.configure(store).await?.build()?;
            return Ok(Self::Sqlite(dispatcher, pool));
        }
        let store = PgStore::connect(&place.store).await?;
        let pool = store.pool().clone();
        let dispatcher = place.configure(store).await?.build()?;
        Ok(Self::Postgres(dispatcher, pool))
    }

    /// Enqueues an event in a transaction. A connection that does not answer is not used again: what a host owes
    /// itself, as nothing of its transactions is the engine's.
    pub(crate) async fn enqueue(&self, event: NewEvent, end: End) -> Result<Uuid> {
        match self {
            Self::Postgres(dispatcher, pool) => {
                let mut connection = timeout(PATIENCE, pool.acquire()).await??;
                let transaction = async {
                    let mut tx = connection.begin().await?;
                    let id = dispatcher.enqueue_in(&mut tx, event).await?;
                    match end {
                        End::Commit => tx.commit().await?,
                        End::Rollback => tx.rollback().await?,
                    }
                    Ok(id)
                };
                let done = timeout(PATIENCE, transaction).await;
                if done.is_err() {
                    connection.close_on_drop();
                }
                done?
            }
            Self::Sqlite(dispatcher, pool) => {
                let mut tx = pool.begin_with("BEGIN IMMEDIATE").await?;
                let id = dispatcher.enqueue_in(&mut tx, event).await?;
                match end {
                    End::Commit => tx.commit().await?,
                    End::Rollback => tx.rollback().await?,
                }
                Ok(id)
            }
        }
    }
}

//! The store passes the suites: with its own queue, beside another, and in a host's database.

mod support;

use std::sync::Arc;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool};
use sqlx::{Sqlite, Transaction};
use webhook_core::testing::{Harness, TxHarness};
use webhook_core::{MemoryQueue, Queue};
use webhook_sqlite::SqliteStore;

use support::Folder;

struct Own {
    store: SqliteStore,
    _folder: Folder,
}

impl Harness for Own {
    type Store = SqliteStore;

    async fn start() -> Self {
        let folder = Folder::new();
        let store = SqliteStore::open(folder.file())
            .await
            .expect("a store opens");
        Self {
            store,
            _folder: folder,
        }
    }

    fn store(&self) -> &SqliteStore {
        &self.store
    }
}

struct Beside(Own, MemoryQueue);

impl Harness for Beside {
    type Store = SqliteStore;

    async fn start() -> Self {
        Self(Own::start().await, MemoryQueue::default())
    }

    fn store(&self) -> &SqliteStore {
        &self.0.store
    }

    fn queue(&self) -> Arc<dyn Queue> {
        Arc::new(self.1.clone())
    }
}

/// In a host's database, under another prefix.
struct Hosted {
    store: SqliteStore,
    pool: SqlitePool,
    _folder: Folder,
}

impl Harness for Hosted {
    type Store = SqliteStore;

    async fn start() -> Self {
        let folder = Folder::new();
        let options = SqliteConnectOptions::new()
            .filename(folder.file())
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal);
        let pool = SqlitePool::connect_with(options)
            .await
            .expect("a pool opens");
        let builder = SqliteStore::builder().table_prefix("hooks_");
        let store = builder.open_in(pool.clone()).await.expect("a store opens");
        Self {
            store,
            pool,
            _folder: folder,
        }
    }

    fn store(&self) -> &SqliteStore {
        &self.store
    }
}

impl TxHarness for Hosted {
    type Tx = Transaction<'static, Sqlite>;

    async fn begin(&self) -> Self::Tx {
        self.pool
            .begin_with("BEGIN IMMEDIATE")
            .await
            .expect("a transaction begins")
    }

    fn connection(tx: &mut Self::Tx) -> &mut SqliteConnection {
        tx
    }

    async fn commit(tx: Self::Tx) {
        tx.commit().await.expect("it commits");
    }
}

mod own_queue {
    webhook_core::store_conformance!(super::Own);
    webhook_core::queue_conformance!(super::Own);
}

mod queue_beside {
    webhook_core::store_conformance!(super::Beside);
    webhook_core::queue_conformance!(super::Beside);
}

mod hosted {
    webhook_core::store_conformance!(super::Hosted);
    webhook_core::queue_conformance!(super::Hosted);
    webhook_core::tx_conformance!(super::Hosted);
}

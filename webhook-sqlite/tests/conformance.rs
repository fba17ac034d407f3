//! The store passes the suites: with its own queue, beside another, and in a host's database.

mod support;

use std::sync::Arc;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool};
use sqlx::{Connection as _, Sqlite, Transaction};
use uuid::Uuid;
use webhook_core::testing::{Harness, KeyHarness, TxHarness};
use webhook_core::{EncryptionKey, KeyProvider, MemoryQueue, Queue, StaticKeys};
use webhook_sqlite::SqliteStore;

use support::Folder;

/// Sealing secrets, as it should be.
struct Own {
    store: SqliteStore,
    folder: Folder,
}

impl Harness for Own {
    type Store = SqliteStore;

    async fn start() -> Self {
        let folder = Folder::new();
        let keys = StaticKeys::new(EncryptionKey::random());
        let store = SqliteStore::builder().encryption(keys).open(folder.file());
        Self {
            store: store.await.expect("a store opens"),
            folder,
        }
    }

    fn store(&self) -> &SqliteStore {
        &self.store
    }
}

impl KeyHarness for Own {
    async fn reopen(&self, keys: Option<Arc<dyn KeyProvider>>) -> SqliteStore {
        let builder = SqliteStore::builder();
        let builder = match keys {
            Some(keys) => builder.encryption(keys),
            None => builder.plaintext(),
        };
        let store = builder.open(self.folder.file()).await;
        store.expect("a store opens")
    }

    async fn secrets(&self, endpoint: Uuid) -> Vec<u8> {
        let query = sqlx::query_scalar("SELECT secrets FROM webhook_endpoints WHERE id = ?");
        let read = query
            .bind(endpoint)
            .fetch_one(&mut self.connect().await)
            .await;
        read.expect("a row")
    }

    async fn set_secrets(&self, endpoint: Uuid, secrets: Vec<u8>) {
        let query = "UPDATE webhook_endpoints SET secrets = ? WHERE id = ?";
        let query = sqlx::query(query).bind(secrets).bind(endpoint);
        let written = query.execute(&mut self.connect().await).await;
        written.expect("a row");
    }
}

impl Own {
    async fn connect(&self) -> SqliteConnection {
        let options = SqliteConnectOptions::new().filename(self.folder.file());
        let connection = SqliteConnection::connect_with(&options).await;
        connection.expect("the file opens")
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

    fn beside(&self) -> Option<Arc<dyn Queue>> {
        Some(Arc::new(self.1.clone()))
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
    webhook_core::hostile_conformance!(super::Own);
    webhook_core::encryption_conformance!(super::Own);
    webhook_core::engine_conformance!(super::Own);
    webhook_core::store_conformance!(super::Own);
    webhook_core::queue_conformance!(super::Own);
}

mod queue_beside {
    webhook_core::engine_conformance!(super::Beside);
    webhook_core::store_conformance!(super::Beside);
    webhook_core::queue_conformance!(super::Beside);
}

mod hosted {
    webhook_core::store_conformance!(super::Hosted);
    webhook_core::queue_conformance!(super::Hosted);
    webhook_core::tx_conformance!(super::Hosted);
}

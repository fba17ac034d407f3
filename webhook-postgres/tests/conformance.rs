//! The store passes the suites: with its own queue, and beside another.

mod common;

use std::sync::Arc;

use common::Schema;
use sqlx::{PgConnection, Postgres, Transaction};
use uuid::Uuid;
use webhook_core::testing::{Harness, KeyHarness, TxHarness};
use webhook_core::{EncryptionKey, KeyProvider, MemoryQueue, Queue, StaticKeys};
use webhook_postgres::PgStore;

/// Sealing secrets, as it should be.
struct Own(Schema);

impl Harness for Own {
    type Store = PgStore;

    async fn start() -> Self {
        let keys = StaticKeys::new(EncryptionKey::random());
        Self(Schema::with(|builder| builder.encryption(keys)).await)
    }

    fn store(&self) -> &PgStore {
        &self.0.store
    }
}

impl TxHarness for Own {
    type Tx = Transaction<'static, Postgres>;

    async fn begin(&self) -> Self::Tx {
        self.0.pool.begin().await.expect("a transaction begins")
    }

    fn connection(tx: &mut Self::Tx) -> &mut PgConnection {
        tx
    }

    async fn commit(tx: Self::Tx) {
        tx.commit().await.expect("it commits");
    }
}

impl KeyHarness for Own {
    async fn reopen(&self, keys: Option<Arc<dyn KeyProvider>>) -> PgStore {
        let builder = PgStore::builder().schema(&self.0.name).without_listening();
        let builder = match keys {
            Some(keys) => builder.encryption(keys),
            None => builder.plaintext(),
        };
        let store = builder.open(self.0.pool.clone()).await;
        store.expect("a store opens")
    }

    async fn secrets(&self, endpoint: Uuid) -> Vec<u8> {
        let text = format!("SELECT secrets FROM webhook.endpoints WHERE id = '{endpoint}'");
        self.0.value(&text).await
    }

    async fn set_secrets(&self, endpoint: Uuid, secrets: Vec<u8>) {
        let text = self
            .0
            .sql("UPDATE webhook.endpoints SET secrets = $1 WHERE id = $2");
        let query = sqlx::query(text).bind(secrets).bind(endpoint);
        query.execute(&self.0.pool).await.expect("a row");
    }
}

/// As Redis stands beside it.
struct Beside(Schema, MemoryQueue);

impl Harness for Beside {
    type Store = PgStore;

    async fn start() -> Self {
        Self(Schema::new().await, MemoryQueue::default())
    }

    fn store(&self) -> &PgStore {
        &self.0.store
    }

    fn beside(&self) -> Option<Arc<dyn Queue>> {
        Some(Arc::new(self.1.clone()))
    }
}

mod own_queue {
    webhook_core::hostile_conformance!(super::Own);
    webhook_core::encryption_conformance!(super::Own);
    webhook_core::engine_conformance!(super::Own);
    webhook_core::store_conformance!(super::Own);
    webhook_core::queue_conformance!(super::Own);
    webhook_core::tx_conformance!(super::Own);
}

mod beside_a_queue {
    webhook_core::engine_conformance!(super::Beside);
    webhook_core::store_conformance!(super::Beside);
    webhook_core::queue_conformance!(super::Beside);
}

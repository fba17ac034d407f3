//! The store passes the suites: with its own queue, and beside another.

mod common;

use std::sync::Arc;

use common::Schema;
use sqlx::{PgConnection, Postgres, Transaction};
use webhook_core::testing::{Harness, TxHarness};
use webhook_core::{MemoryQueue, Queue};
use webhook_postgres::PgStore;

struct Own(Schema);

impl Harness for Own {
    type Store = PgStore;

    async fn start() -> Self {
        Self(Schema::new().await)
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

    fn queue(&self) -> Arc<dyn Queue> {
        Arc::new(self.1.clone())
    }
}

mod own_queue {
    webhook_core::store_conformance!(super::Own);
    webhook_core::queue_conformance!(super::Own);
    webhook_core::tx_conformance!(super::Own);
}

mod beside_a_queue {
    webhook_core::store_conformance!(super::Beside);
    webhook_core::queue_conformance!(super::Beside);
}

//! The memory backends pass the suites: the store with its own queue, and the store beside a queue.

use std::sync::Arc;

use webhook_core::testing::{Harness, TxHarness};
use webhook_core::{MemoryQueue, MemoryStore, MemoryTx, Queue};

struct Own(MemoryStore);

impl Harness for Own {
    type Store = MemoryStore;

    async fn start() -> Self {
        Self(MemoryStore::new())
    }

    fn store(&self) -> &MemoryStore {
        &self.0
    }
}

impl TxHarness for Own {
    type Tx = MemoryTx;

    async fn begin(&self) -> MemoryTx {
        self.0.begin()
    }

    fn connection(tx: &mut MemoryTx) -> &mut MemoryTx {
        tx
    }

    async fn commit(tx: MemoryTx) {
        tx.commit().expect("no key is used twice");
    }
}

/// As Redis stands beside Postgres.
struct Beside(MemoryStore, MemoryQueue);

impl Harness for Beside {
    type Store = MemoryStore;

    async fn start() -> Self {
        Self(MemoryStore::new(), MemoryQueue::default())
    }

    fn store(&self) -> &MemoryStore {
        &self.0
    }

    fn beside(&self) -> Option<Arc<dyn Queue>> {
        Some(Arc::new(self.1.clone()))
    }
}

mod own_queue {
    #[cfg(any(feature = "hyper", feature = "reqwest"))]
    webhook_core::hostile_conformance!(super::Own);
    webhook_core::engine_conformance!(super::Own);
    webhook_core::store_conformance!(super::Own);
    webhook_core::queue_conformance!(super::Own);
    webhook_core::tx_conformance!(super::Own);
}

mod queue_beside {
    webhook_core::engine_conformance!(super::Beside);
    webhook_core::store_conformance!(super::Beside);
    webhook_core::queue_conformance!(super::Beside);
}

//! Postgres and Redis as hosts run them together: the store passes its suites beside that queue, and the queue
//! beside that store.

use std::env;
use std::sync::Arc;

use webhook_core::testing::{Harness, event_for};
use webhook_core::{Queue, Timestamp, queue_conformance, store_conformance};
use webhook_postgres::PgStore;
use webhook_redis::RedisQueue;

/// A schema and keys of its own.
struct Together {
    store: PgStore,
    queue: RedisQueue,
}

impl Harness for Together {
    type Store = PgStore;

    async fn start() -> Self {
        let name = event_for("t", "t", "1", Timestamp::EPOCH)
            .id
            .simple()
            .to_string();
        let store = PgStore::builder().schema(format!("t_{name}"));
        let store = store
            .max_connections(4)
            .connect(&address("DATABASE_URL"))
            .await;
        // One shard: among more of them claims go round the tenants of each.
        let queue = RedisQueue::builder(&address("REDIS_URL")).key_prefix(&name);
        let queue = queue.shards(1).connect().await;
        Self {
            store: store.expect("the schema is made"),
            queue: queue.expect("the address is a Redis URL"),
        }
    }

    fn store(&self) -> &PgStore {
        &self.store
    }

    fn beside(&self) -> Option<Arc<dyn Queue>> {
        Some(Arc::new(self.queue.clone()))
    }
}

fn address(variable: &str) -> String {
    env::var(variable)
        .unwrap_or_else(|_| panic!("{variable} is not set: `cargo xtask test` starts the servers"))
}

store_conformance!(Together);
queue_conformance!(Together);

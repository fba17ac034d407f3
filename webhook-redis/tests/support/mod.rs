//! What the tests share: servers, and queues with keys of their own.
#![allow(dead_code, reason = "no test needs all of it")]

use std::sync::Arc;

use webhook_core::testing::Harness;
use webhook_core::{MemoryStore, Queue};
use webhook_redis::{RedisQueue, RedisQueueBuilder};

/// A single server.
pub(crate) struct Standalone;
/// A cluster, whose lanes are all in one shard.
pub(crate) struct Cluster;
/// A primary behind sentinels.
pub(crate) struct Sentinel;

/// Where a suite runs.
pub(crate) trait Topology {
    /// The variable that names it.
    const VARIABLE: &str;
}

impl Topology for Standalone {
    const VARIABLE: &str = "REDIS_URL";
}

impl Topology for Cluster {
    const VARIABLE: &str = "REDIS_CLUSTER_URL";
}

impl Topology for Sentinel {
    const VARIABLE: &str = "REDIS_SENTINEL_URL";
}

/// The address of a topology.
pub(crate) fn url<T: Topology>() -> String {
    let variable = T::VARIABLE;
    std::env::var(variable).unwrap_or_else(|_| {
        panic!("{variable} is not set: run `cargo xtask test`, which starts the servers, or set it")
    })
}

/// A name that nobody else uses.
pub(crate) fn prefix() -> String {
    uuid::Uuid::from_u128(rand::random()).to_string()
}

/// A queue with keys of its own.
pub(crate) fn builder<T: Topology>() -> RedisQueueBuilder {
    RedisQueue::builder(&url::<T>()).key_prefix(&prefix())
}

/// A memory store beside a queue in Redis.
pub(crate) struct Beside<T> {
    store: MemoryStore,
    queue: RedisQueue,
    topology: std::marker::PhantomData<T>,
}

impl<T: Topology> Harness for Beside<T> {
    type Store = MemoryStore;

    async fn start() -> Self {
        // One shard: among more of them claims go round the tenants of each.
        let queue = builder::<T>().shards(1).connect().await;
        Self {
            store: MemoryStore::new(),
            queue: queue.expect("the address is a Redis URL"),
            topology: std::marker::PhantomData,
        }
    }

    fn store(&self) -> &MemoryStore {
        &self.store
    }

    fn queue(&self) -> Arc<dyn Queue> {
        Arc::new(self.queue.clone())
    }
}

//! What the tests share: servers, and queues with keys of their own.
#![allow(dead_code, reason = "no test needs all of it")]

pub(crate) mod log;
pub(crate) mod server;

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;
use webhook_core::testing::Harness;
use webhook_core::{
    ClaimOptions, Job, LaneLimits, Lease, MemoryStore, Now, Queue, Tenant, Timestamp,
};
use webhook_redis::{RedisQueue, RedisQueueBuilder};

/// A single server.
pub(crate) struct Standalone;
/// A cluster, whose lanes are all in one shard.
pub(crate) struct Cluster;
/// A cluster, whose lanes are spread over its nodes.
pub(crate) struct ShardedCluster;
/// A primary behind sentinels.
pub(crate) struct Sentinel;

/// Where a suite runs.
pub(crate) trait Topology {
    /// The variable that names it.
    const VARIABLE: &str;
    const SHARDS: usize = 1;
}

impl Topology for Standalone {
    const VARIABLE: &str = "REDIS_URL";
}

impl Topology for Cluster {
    const VARIABLE: &str = "REDIS_CLUSTER_URL";
}

impl Topology for ShardedCluster {
    const VARIABLE: &str = "REDIS_CLUSTER_URL";
    const SHARDS: usize = 7;
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
    Uuid::from_u128(rand::random()).to_string()
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
        let queue = builder::<T>().shards(T::SHARDS).connect().await;
        Self {
            store: MemoryStore::new(),
            queue: queue.expect("the address is a Redis URL"),
            topology: std::marker::PhantomData,
        }
    }

    fn store(&self) -> &MemoryStore {
        &self.store
    }

    fn beside(&self) -> Option<Arc<dyn Queue>> {
        Some(Arc::new(self.queue.clone()))
    }
}

/// `count` jobs of a lane, due at `due`, in the order of their sequences.
pub(crate) fn jobs(lane: Uuid, count: usize, due: Timestamp) -> Vec<Job> {
    let job = |sequence| Job {
        delivery: Uuid::from_u128(rand::random()),
        lane,
        tenant: Tenant::default(),
        due,
        fence: 0,
        sequence,
        limits: LaneLimits {
            max_in_flight: 10_000,
            ..LaneLimits::default()
        },
    };
    (0..).take(count).map(job).collect()
}

/// A new lane.
pub(crate) fn lane() -> Uuid {
    Uuid::from_u128(rand::random())
}

/// Of which generations a queue's shards are, all of which answer.
pub(crate) async fn generations(queue: &RedisQueue) -> Vec<i64> {
    let parts = queue.parts().await.expect("the server answers");
    let generations = parts.into_iter().map(|part| part.generation);
    generations
        .map(|it| it.expect("all shards answer"))
        .collect()
}

/// Claims at most `limit` jobs for a minute.
pub(crate) async fn claim(queue: &RedisQueue, limit: usize, now: Now) -> Vec<Lease> {
    let options = ClaimOptions::new(limit, Duration::from_secs(60));
    let claimed = queue.claim(options, now).await;
    claimed.expect("the server answers").leases
}

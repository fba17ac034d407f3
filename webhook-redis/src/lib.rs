//! Lanes, leases and delays in Redis: an index beside a store, which stays the truth.

mod builder;
mod client;
mod queue;
mod reply;
mod script;
mod shard;

pub use builder::RedisQueueBuilder;
pub use queue::RedisQueue;

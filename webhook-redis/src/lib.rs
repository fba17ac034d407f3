//! Lanes, leases and delays in Redis: an index beside a store, which stays the truth.
//!
//! For fleets whose store should not be asked for every claim. Redis holds what is live, in the order in which it is
//! due; the store holds everything. Lose all of Redis, and no delivery is lost, only some time.
//!
//! ```no_run
//! use webhook_core::{Dispatcher, MemoryStore};
//! use webhook_redis::RedisQueue;
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let queue = RedisQueue::connect("redis://localhost:6379").await?;
//! let dispatcher = Dispatcher::builder(MemoryStore::new()).queue(queue).build()?;
//! # Ok(())
//! # }
//! ```
//!
//! # What to run
//!
//! Redis 7.0 or later, alone, behind Sentinel or as a Cluster; see [`RedisQueue::builder`] for the URLs. TLS needs the
//! feature `tls-rustls`, and trusts whom the operating system trusts. A user needs the commands of scripts on keys
//! `~{<prefix>:*`, and `SUBSCRIBE` and `PUBLISH` on the channel `<prefix>:ready`.
//!
//! **`maxmemory-policy noeviction`.** Any other may drop a lane's keys when memory is short. They are made good by the
//! store's sweep, but later than need be. The queue warns of such a server when it connects.
//!
//! # What can be lost
//!
//! Whatever Redis forgets, the engine's sweep pushes again: what is missing is found page by page, within 30 s and a
//! second for each 1,000 live deliveries; and all of it is pushed at once when a server is seen that is empty,
//! restarted, or was a replica ([`Queue::epoch`]). Until then it is late.
//!
//! | persistence | a crash of Redis forgets | then |
//! |---|---|---|
//! | `appendonly yes`, `appendfsync always` | nothing | claims go on; leases end as they would have |
//! | `appendfsync everysec` | about a second | what was claimed in it is claimed again, under a greater fence |
//! | snapshots (`save`) | what came after the last one | jobs that have ended come back once, and end at `load` |
//! | none | everything | the store fills it anew |
//!
//! So persistence buys a quicker restart, not safety. A failover to a replica is the same as a crash with its lag.
//! What protects a delivery from a second owner is the fence, which the store checks: of two attempts that a loss may
//! let overlap, one counts. Receivers get both; the engine promises at least one. A job's next fence is greater than
//! any its shard has seen, than the store's, and not below the server's clock.
//!
//! What somebody else writes over the queue's keys is a loss, too: of a lane, or of its shard.
//!
//! # Cost
//!
//! Measured on Redis 7.0: 50 to 140 bytes a waiting job in lanes of ten or more, 550 for a job alone in its lane, its
//! lane included. A delivery's push, claim and settle cost Redis 10 µs of its one core in batches of 250 from one lane,
//! 15 µs from 50, and 45 µs where each job is of another lane. What is parked or held costs a claim nothing. No script
//! handles more than 250 jobs, so none holds up the server for long. An idle process sends a command every 30 s, and
//! one for each 250 live deliveries when the sweep makes its round: it hears through one subscription when there is
//! something to claim, and asks at other times only what its announcements may have missed.
//!
//! # In a cluster
//!
//! Lanes are spread over shards (16 unless set), each in one slot. A script touches one shard: its keys all carry the
//! hash tag `{<prefix>:<shard>/<count>}`, those of single lanes too, whose names are made inside of the script. Claims
//! give each shard with something to claim the same share, and go round the tenants within it.
//!
//! [`Queue::epoch`]: webhook_core::Queue::epoch

mod builder;
mod client;
mod queue;
mod reply;
mod script;
mod shard;
#[cfg(feature = "tls-rustls")]
mod tls;

pub use builder::RedisQueueBuilder;
pub use queue::RedisQueue;

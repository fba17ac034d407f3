//! A queue in Redis: an index beside a store, which remains the truth.
//!
//! It is for large fleets, where claims would load the store too much. Redis holds the live deliveries, in the order in which
//! they are due. The store holds everything. If Redis loses all its data, no delivery is lost, only some time.
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
//! Run Redis 7.0 or later as a single server, behind Sentinel or as a Cluster; see [`RedisQueue::builder`] for the URLs. TLS
//! needs the feature `tls-rustls`, and trusts the certificates that the operating system trusts. Without TLS, the queue logs
//! a warning if the server is not on this machine. A Redis user needs these rights, with the prefix `webhook`:
//!
//! ```text
//! ACL SETUSER webhook on >password ~{webhook:* &webhook:ready +@read +@write +@connection -@dangerous
//!     +eval +evalsha +subscribe +publish +time +info +cluster|slots
//! ```
//!
//! Without `INFO`, the queue cannot recognize a server that restarted from an old file, or that was a replica. Jobs that such
//! a server has missed come back only with the rounds of the sweeper.
//!
//! Set **`maxmemory-policy noeviction`**. With any other policy, Redis may drop a lane's keys when memory is short. The sweeper
//! pushes such jobs again, but late. The queue logs a warning about such a server when it connects.
//!
//! # What can be lost
//!
//! Whatever Redis forgets, the engine's sweeper pushes again. A shard gets a new generation ([`Queue::parts`]) if it is empty,
//! or if its server restarted, was a replica, or got the shard's slot from another node. The store remembers the generation
//! that was filled. If they differ, one process pushes the shard's jobs again, looking at 20,000 live deliveries a second. If
//! a single key is lost, the sweeper finds its jobs page by page: overdue ones within 15 s, the others within 30 s and a second
//! for each 1,000 live deliveries (`Dispatcher::audit_round`). Until then they are late.
//!
//! | persistence | a crash of Redis forgets | then |
//! |---|---|---|
//! | `appendonly yes`, `appendfsync always` | nothing | claims go on; leases end as they would have |
//! | `appendfsync everysec` | about a second | what was claimed in it is claimed again, under a greater fence |
//! | snapshots (`save`) | what came after the last one | jobs that have ended come back once, and end at `load` |
//! | none | everything | the store fills it anew |
//!
//! So persistence makes restarts quicker, not safer. A failover to a replica is like a crash that loses the replica's lag.
//! The fence, which the store checks, protects a delivery from a second owner. After a loss two attempts may overlap: the
//! receiver gets both, and one of them is recorded. A job's next fence is greater than any that its shard has seen, greater
//! than the store's, and not below the server's clock.
//!
//! If something else overwrites the queue's keys, that is also a loss: of a lane, or of a shard.
//!
//! # Cost
//!
//! Measured on Redis 7.0: a waiting job takes 50 to 140 bytes in lanes of ten jobs or more, and 550 bytes if it is alone in its
//! lane, with the lane itself. Push, claim and settle of a delivery take 10 µs of Redis's one core in batches of 250 jobs of one
//! lane, 15 µs with 50 lanes, and 45 µs if each job is of another lane. Jobs that are parked or held do not slow claims down.
//! No script handles more than 250 jobs, so that none holds up the server for long. An idle process sends a command every
//! 30 s, and one for each 250 live deliveries in a round of the sweeper. A subscription tells it when there is something to
//! claim. The other commands find what the subscription may have missed.
//!
//! # In a cluster
//!
//! Lanes are spread over shards (16 unless set), each in one slot. A script touches one shard. All its keys carry the hash tag
//! `{<prefix>:<shard>/<count>}`, also the keys of single lanes, whose names the script makes. Claims give each shard that has
//! something to claim the same share, and go round the tenants within it.
//!
//! While a slot moves to another node, a script may find only a part of its shard's keys. Then it fails, or ends halfway. The
//! next script does what it left undone, or the sweeper pushes it again. Other shards are not affected.
//!
//! [`Queue::parts`]: webhook_core::Queue::parts

#![cfg_attr(docsrs, feature(doc_cfg))]

mod builder;
mod client;
mod queue;
mod reply;
mod request;
mod script;
mod shard;
#[cfg(feature = "tls-rustls")]
mod tls;

pub use builder::RedisQueueBuilder;
pub use queue::RedisQueue;

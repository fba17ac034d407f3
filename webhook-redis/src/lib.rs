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
//! feature `tls-rustls`, and trusts whom the operating system trusts; without it, a server that is not on this machine
//! is warned of. What a user needs, with the prefix `webhook`:
//!
//! ```text
//! ACL SETUSER webhook on >password ~{webhook:* &webhook:ready +@read +@write +@connection -@dangerous
//!     +eval +evalsha +subscribe +publish +time +info +cluster|slots
//! ```
//!
//! Without `INFO`, the queue cannot tell a server that restarted from an old file, or was a replica, from the one it
//! knew: what such a one has missed comes back at the pace of the audit.
//!
//! **`maxmemory-policy noeviction`.** Any other may drop a lane's keys when memory is short. They are made good by the
//! store's sweep, but later than need be. The queue warns of such a server when it connects.
//!
//! # What can be lost
//!
//! Whatever Redis forgets, the engine's sweep pushes again. A shard that is empty, or on a server that restarted, was a
//! replica or got it by a move of its slot, is of another generation ([`Queue::parts`]) than the store remembers to have filled: then
//! one process pushes its jobs, looking at 20,000 live deliveries a second. A key that is lost alone is found page by
//! page: what is overdue in 15 s, the rest within 30 s and a second for each 1,000 live deliveries
//! (`Dispatcher::audit_round`). Until then it is late.
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
//! While a slot moves to another node, a script that meets a part of its shard's keys fails, or ends halfway: what it
//! left undone is done by the next one, or pushed again by the sweep. Other shards notice nothing.
//!
//! [`Queue::parts`]: webhook_core::Queue::parts

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

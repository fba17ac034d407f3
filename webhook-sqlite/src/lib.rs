//! Events, endpoints, deliveries and attempts in one SQLite file, where the deliveries are the queue.
//!
//! ```
//! # async fn host() -> Result<(), webhook_sqlite::OpenError> {
//! let store = webhook_sqlite::SqliteStore::open("webhooks.db").await?;
//! # Ok(())
//! # }
//! ```
//!
//! What `enqueue` accepted survives a crash of the process and of the machine: each write is a transaction of
//! its own, synced to the disk before it is answered. Several processes may open one file, on one machine and
//! not over a network file system.
//!
//! A host that keeps its own tables in SQLite gives its pool to [`SqliteStoreBuilder::open_in`]; then
//! `enqueue_in` joins its transactions.
//!
//! Finished events go when the dispatcher's retention is over.

mod audit;
mod builder;
mod catalogue;
mod claim;
mod database;
mod endpoints;
mod erasures;
mod error;
mod fill;
mod health;
mod insert;
mod lanes;
mod load;
mod migrate;
mod processes;
mod prune;
mod queue;
mod read;
mod record;
mod replay;
mod replays;
mod rows;
mod sql;
mod stats;
mod store;

pub use builder::{InvalidPrefix, OpenError, SqliteStoreBuilder};
pub use store::SqliteStore;

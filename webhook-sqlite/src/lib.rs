//! Events, endpoints, deliveries and attempts in one SQLite file, where the deliveries are the queue.
//!
//! ```
//! # async fn host() -> Result<(), webhook_sqlite::OpenError> {
//! let store = webhook_sqlite::SqliteStore::open("webhooks.db").await?;
//! # Ok(())
//! # }
//! ```
//!
//! An accepted event survives a crash of the process and of the machine: each write is a transaction of its own, which is
//! synced to the disk before the call returns. Several processes may open one file, if they are on one machine and the file is
//! not on a network file system.
//!
//! A host that keeps its own tables in SQLite gives its pool to [`SqliteStoreBuilder::open_in`]. Then `enqueue_in` joins the
//! host's transactions.
//!
//! Finished events are deleted when the dispatcher's retention is over.

#![cfg_attr(docsrs, feature(doc_cfg))]

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

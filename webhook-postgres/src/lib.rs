//! Events, endpoints, deliveries and attempts in Postgres, where the deliveries are the queue.
//!
//! [`PgStore`] is a [`Store`](webhook_core::Store) and a [`TxStore`](webhook_core::TxStore): an event that is enqueued in the
//! host's own transaction exists once that commits, and never if it does not commit.
//!
//! ```no_run
//! use webhook_core::{Dispatcher, NewEvent};
//! use webhook_postgres::PgStore;
//!
//! # async fn example(pool: sqlx::PgPool) -> Result<(), Box<dyn std::error::Error>> {
//! let store = PgStore::connect("postgres://app@db.internal/app").await?;
//! let dispatcher = Dispatcher::builder(store).build()?;
//!
//! let mut tx = pool.begin().await?;
//! sqlx::query("UPDATE orders SET paid = true WHERE id = 7").execute(&mut *tx).await?;
//! dispatcher.enqueue_in(&mut tx, NewEvent::data("order.paid", r#"{"order":7}"#)?).await?;
//! tx.commit().await?;
//! # Ok(())
//! # }
//! ```
//!
//! Everything is in a schema of its own, `webhook` unless set. An accepted event is as durable as a commit of your server:
//! keep `fsync` and `synchronous_commit` on. After a failover to an asynchronous replica, events that had not reached the
//! replica are lost.
//!
//! - `migrate.rs` creates and migrates the tables. `maintain.rs` makes partitions and drops old ones.
//! - `lent.rs` limits how long a server may take to answer, and closes connections that did not.
//! - `notify.rs` tells processes of each other's events.
//! - `insert.rs`, `queue.rs`, `load.rs` and `record.rs` are the way of an event. `manage.rs`, `read.rs` and `stats.rs` serve
//!   people.
//! - `../sql/` has every statement, one in each file, named after the method that runs it.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod audit;
mod catalogue;
mod column;
mod connect;
mod endpoints;
mod erasures;
mod error;
mod fill;
mod health;
mod insert;
mod job;
mod lent;
mod load;
mod maintain;
mod manage;
mod migrate;
mod notify;
#[cfg(test)]
mod outages;
mod processes;
mod queue;
mod read;
mod record;
mod replays;
mod statements;
mod stats;
mod store;

pub use connect::{ConnectError, PgStoreBuilder};
pub use store::PgStore;

//! The reference backend: everything in this process's memory, written to be read as the specification.
//!
//! - [`MemoryStore`] keeps events, endpoints, deliveries and attempts; its deliveries are their own queue, as
//!   in Postgres and SQLite.
//! - [`MemoryQueue`] is a queue beside any store, as Redis is, and can be erased.

mod erasures;
mod lanes;
mod queue;
mod replays;
mod state;
mod store;

pub use queue::MemoryQueue;
pub use store::{MemoryStore, MemoryTx};

use crate::time::{Now, Timestamp, system_now};

/// The backend's own clock is the operating system's.
fn at(now: Now) -> Timestamp {
    now.unwrap_or_else(system_now)
}

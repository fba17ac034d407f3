//! Processes that deliver, and report that they are alive.

use std::time::Duration;

use uuid::Uuid;

use crate::time::Timestamp;

/// A process that delivers, as it last reported itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its id, which is new for each start.
    pub id: Uuid,
    /// The name that the host [gave it](crate::Builder::role).
    pub role: String,
    /// The library's version.
    pub version: String,
    /// When it began to deliver.
    pub started_at: Timestamp,
    /// When it last reported itself, by the store's clock.
    pub seen_at: Timestamp,
    /// How many attempts were under way at that time.
    pub in_flight: u32,
    /// The most attempts that it makes at once.
    pub slots: u32,
}

impl Process {
    /// How often a process reports itself.
    pub const BEAT: Duration = Duration::from_secs(30);
    /// After how long without a report a process counts as gone.
    pub const ALIVE: Duration = Duration::from_secs(100);
}

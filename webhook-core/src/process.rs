//! Processes that deliver, as they say of themselves that they are alive.

use std::time::Duration;

use uuid::Uuid;

use crate::time::Timestamp;

/// A process that delivers, as it last said of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// A new one for each start.
    pub id: Uuid,
    /// What the host [calls it](crate::Builder::role).
    pub role: String,
    /// The library's version.
    pub version: String,
    /// When it began to deliver.
    pub started_at: Timestamp,
    /// When it last said so, by the store's clock.
    pub seen_at: Timestamp,
    /// Attempts that were under way then.
    pub in_flight: u32,
    /// How many there can be.
    pub slots: u32,
}

impl Process {
    /// How often a process says that it is alive.
    pub const BEAT: Duration = Duration::from_secs(30);
    /// How long it is believed: whoever has not been seen for so long is gone.
    pub const ALIVE: Duration = Duration::from_secs(100);
}

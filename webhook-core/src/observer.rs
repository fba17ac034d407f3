//! Callbacks into the host's process.

use crate::delivery::Outcome;
use crate::endpoint::{Endpoint, StateReason};
use crate::event::Event;
use crate::retry::Next;
use crate::time::Timestamp;
use std::time::Duration;
use uuid::Uuid;

/// Hears of what the engine of this process has recorded: at most once, after the commit, and only in the
/// process that did it.
///
/// It is called from the engine's own loop: it must return quickly and not block. A panic is caught and logged.
pub trait Observer: Send + Sync {
    /// Called once for each notice.
    fn notice(&self, notice: &Notice<'_>);
}

impl<F: Fn(&Notice<'_>) + Send + Sync> Observer for F {
    fn notice(&self, notice: &Notice<'_>) {
        self(notice);
    }
}

/// What was recorded.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Notice<'a> {
    /// The endpoint has it.
    Delivered(Report<'a>),
    /// An attempt failed, and another will follow.
    AttemptFailed(Report<'a>),
    /// The delivery was given up.
    DeadLettered(Report<'a>),
    /// The delivery ended without a verdict on the endpoint: its filter did not match.
    Cancelled(Report<'a>),
    /// The endpoint fails, and is left alone for a time.
    BreakerOpened {
        /// Which one.
        endpoint: &'a Endpoint,
        /// How often it has opened without having closed in between.
        trips: u32,
        /// For how long.
        by: Duration,
    },
    /// The endpoint works again.
    BreakerClosed {
        /// Which one.
        endpoint: &'a Endpoint,
    },
    /// Nothing but failures has come from the endpoint for half of the time after which it will be disabled.
    EndpointFailing {
        /// Which one.
        endpoint: &'a Endpoint,
        /// Since when.
        since: Timestamp,
    },
    /// The endpoint was disabled.
    EndpointDisabled {
        /// Which one.
        endpoint: &'a Endpoint,
        /// Why.
        reason: StateReason,
    },
}

/// A delivery and what became of it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Report<'a> {
    /// The delivery.
    pub delivery_id: Uuid,
    /// What was delivered.
    pub event: &'a Event,
    /// Where to.
    pub endpoint: &'a Endpoint,
    /// The number of the attempt that this is about, the first being 1; 0 if there was none.
    pub attempt: u32,
    /// What the attempt produced; `None` if there was none.
    pub outcome: Option<&'a Outcome>,
    /// What the delivery became.
    pub next: Next,
}

//! Callbacks into the host's process.

use crate::delivery::Outcome;
use crate::endpoint::{Endpoint, StateReason};
use crate::event::Event;
use crate::retry::Next;
use crate::time::Timestamp;
use std::time::Duration;
use uuid::Uuid;

/// Is called with what the engine of this process has recorded: at most once, after the commit, and only in the process that
/// recorded it.
///
/// The engine calls it from its own loop, so it must return quickly and not block. A panic is caught and logged.
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
    /// The endpoint accepted the delivery.
    Delivered(Report<'a>),
    /// An attempt failed, and another one will follow.
    AttemptFailed(Report<'a>),
    /// The delivery was given up.
    DeadLettered(Report<'a>),
    /// The delivery ended because the endpoint's filter did not match. This says nothing about the endpoint.
    Cancelled(Report<'a>),
    /// The endpoint fails, and its breaker opened: it is left alone for a time.
    BreakerOpened {
        /// Which one.
        endpoint: &'a Endpoint,
        /// How often the breaker has opened without closing in between.
        trips: u32,
        /// For how long.
        by: Duration,
    },
    /// The endpoint works again.
    BreakerClosed {
        /// Which one.
        endpoint: &'a Endpoint,
    },
    /// All attempts at the endpoint failed for half of the time after which it will be disabled.
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
    /// The event.
    pub event: &'a Event,
    /// The endpoint.
    pub endpoint: &'a Endpoint,
    /// The number of the attempt, from 1; 0 if there was none.
    pub attempt: u32,
    /// The result of the attempt; `None` if there was none.
    pub outcome: Option<&'a Outcome>,
    /// What the delivery became.
    pub next: Next,
}

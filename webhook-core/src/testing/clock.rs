//! Time in a test's hands.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;

use crate::dispatcher::Dispatcher;
use crate::error::Result;
use crate::store::Store;
use crate::time::{Clock, Now, Timestamp};

/// A clock that stands still until it is set. Backends use it too: every call is pinned to its time.
///
/// Clones are the same clock. The default begins in November 2023.
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    now: Mutex<Timestamp>,
    changed: Notify,
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new(Timestamp::from_seconds(1_700_000_000))
    }
}

impl ManualClock {
    /// A clock that shows `now`.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        Self(Arc::new(Shared {
            now: Mutex::new(now),
            changed: Notify::new(),
        }))
    }

    /// Sets the time, forward or back, and ends the sleeps that are over by then.
    pub fn set(&self, now: Timestamp) {
        *self.0.now.lock().unwrap_or_else(PoisonError::into_inner) = now;
        self.0.changed.notify_waiters();
    }

    /// Sets the time forward.
    pub fn advance(&self, by: Duration) {
        self.set(self.now() + by);
    }
}

#[async_trait]
impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.0.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pinned(&self) -> Now {
        Some(self.now())
    }

    async fn sleep(&self, by: Duration) {
        let until = self.now() + by;
        loop {
            let changed = self.0.changed.notified();
            tokio::pin!(changed);
            // Listening begins before the look at the time: a change in between is not lost.
            changed.as_mut().enable();
            if self.now() >= until {
                return;
            }
            changed.await;
        }
    }
}

/// Runs everything that falls due within `by`, jumping from one due time to the next, and leaves the clock
/// at the end of that span. The dispatcher must have been built with this clock, and must not be running.
///
/// # Errors
/// When the store or the queue fails.
pub async fn fast_forward<S: Store + ?Sized>(
    dispatcher: &Dispatcher<S>,
    clock: &ManualClock,
    by: Duration,
) -> Result<()> {
    let end = clock.now() + by;
    loop {
        let step = dispatcher.step().await?;
        match step.next_due {
            _ if step.claimed > 0 => {}
            Some(due) if due <= end => clock.set(due.max(clock.now())),
            _ => break,
        }
    }
    clock.set(end);
    Ok(())
}

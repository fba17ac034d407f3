//! Calls the store's housekeeping from time to time.

use std::time::Duration;

use super::Engine;
use super::worker::surviving;

/// Every process does it; the store sees to it that one at a time has something to do.
const EVERY: Duration = Duration::from_secs(3_600);
/// After a failure.
const AGAIN: Duration = Duration::from_secs(60);

impl Engine {
    /// Lets the store do its housekeeping until cancelled.
    pub(super) async fn maintain_all(&self) {
        loop {
            let pinned = self.clock.pinned();
            let done = surviving(self.store.maintain(self.config.retention, pinned)).await;
            let pause = match done {
                Some(Ok(())) => EVERY,
                Some(Err(error)) => {
                    tracing::warn!(%error, "housekeeping in the store failed");
                    AGAIN
                }
                None => AGAIN,
            };
            // Processes that start together do not meet again.
            self.clock
                .sleep(pause.mul_f64(1.0 + 0.2 * self.spread()))
                .await;
        }
    }
}

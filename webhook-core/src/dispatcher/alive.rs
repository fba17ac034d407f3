//! Reports that this process is alive, as long as it delivers.

use std::sync::{Arc, Weak};
use std::time::Duration;

use uuid::Uuid;

use super::Engine;
use super::worker::{Pool, surviving};
use crate::error::Result;
use crate::process::Process;

/// How long the store may take to hear that a process has ended.
const PATIENCE: Duration = Duration::from_secs(2);

impl Engine {
    /// Says so again and again, until cancelled.
    pub(super) async fn say_alive(&self, mut process: Process, pool: &Weak<Pool>) {
        loop {
            let in_flight = pool.upgrade().map_or(0, |pool| pool.in_flight());
            process.in_flight = u32::try_from(in_flight).unwrap_or(u32::MAX);
            let said = self.store.put_process(&process, self.clock.pinned());
            if let Some(Err(error)) = surviving(said).await {
                tracing::warn!(%error, "the store could not be told that this process is alive");
            }
            let pause = Process::BEAT.mul_f64(1.0 + 0.1 * self.spread());
            self.clock.sleep(pause).await;
        }
    }

    /// Says that this process has ended.
    pub(super) async fn say_ended(&self, id: Uuid) {
        let removed = surviving(self.store.remove_process(id));
        if !matches!(self.within(PATIENCE, removed).await, Some(Some(Ok(())))) {
            tracing::warn!("the store could not be told that this process has ended");
        }
    }

    /// This process, just started.
    pub(super) fn process(self: &Arc<Self>) -> Process {
        let now = self.clock.now();
        Process {
            id: self.new_id(),
            role: self.config.role.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: now,
            seen_at: now,
            in_flight: 0,
            slots: u32::try_from(self.config.max_in_flight).unwrap_or(u32::MAX),
        }
    }

    /// The processes that are alive, those that started last first.
    pub(super) async fn processes(&self) -> Result<Vec<Process>> {
        self.store.processes(self.clock.pinned()).await
    }
}

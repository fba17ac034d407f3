//! Repairs an index queue from the store, all the time: what it forgot, and what was never pushed.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use uuid::Uuid;

use super::Engine;
use crate::error::Result;
use crate::queue::Job;
use crate::time::Timestamp;

/// How often the sweeper looks.
const TICK: Duration = Duration::from_secs(1);
/// How many live deliveries a tick looks at. With `TICK`, this bounds how long a forgotten job stays so.
const PAGE: usize = 1_000;
/// How long the sweeper looks for the commit of an `enqueue_in`; a later one is found by the rolling audit.
const EXPECT_FOR: Duration = Duration::from_secs(10);

/// What the sweeper remembers between ticks.
#[derive(Default)]
pub(super) struct Sweeper(Mutex<Sweep>);

#[derive(Default)]
struct Sweep {
    /// Deliveries of transactions that may commit, and until when they are looked for.
    expected: Vec<(Uuid, Timestamp)>,
    /// Where the rolling audit stands.
    after: Option<Uuid>,
    epoch: Option<u64>,
}

impl Sweeper {
    fn state(&self) -> MutexGuard<'_, Sweep> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine {
    /// Remembers deliveries that will exist once a host's transaction commits, and wakes the worker.
    pub(super) fn expect(&self, jobs: &[Job]) {
        if self.has_index {
            let until = self.clock.now() + EXPECT_FOR;
            self.sweeper
                .state()
                .expected
                .extend(jobs.iter().map(|job| (job.delivery, until)));
        }
        self.nudge.notify_one();
    }

    /// Sweeps until cancelled.
    pub(super) async fn sweep_all(&self) {
        loop {
            if let Err(error) = self.sweep().await {
                tracing::warn!(%error, "sweeping failed");
            }
            self.clock.sleep(self.until_next_sweep()).await;
        }
    }

    /// One tick: pushes what is expected and has committed, and the next page of live deliveries. After
    /// the queue has lost everything the audit begins anew and does not pause between pages.
    pub(super) async fn sweep(&self) -> Result<()> {
        let epoch = self.queue.epoch().await?;
        if self
            .sweeper
            .state()
            .epoch
            .replace(epoch)
            .is_some_and(|before| before != epoch)
        {
            tracing::warn!("the queue has lost its jobs; pushing them again");
            self.sweeper.state().after = None;
            while !self.audit().await? {}
            return Ok(());
        }
        self.push_expected().await?;
        self.audit().await.map(drop)
    }

    async fn push_expected(&self) -> Result<()> {
        let expected: Vec<Uuid> = self
            .sweeper
            .state()
            .expected
            .iter()
            .map(|(id, _)| *id)
            .collect();
        if expected.is_empty() {
            return Ok(());
        }
        let committed = self.store.jobs(&expected).await?;
        self.queue.push(&committed, self.clock.pinned()).await?;
        let now = self.clock.now();
        let found = |id: &Uuid| committed.iter().any(|job| job.delivery == *id);
        self.sweeper
            .state()
            .expected
            .retain(|(id, until)| now < *until && !found(id));
        Ok(())
    }

    /// Pushes one page; answers whether it was the last.
    async fn audit(&self) -> Result<bool> {
        let after = self.sweeper.state().after;
        let page = self.store.unqueued(after, PAGE).await?;
        self.queue.push(&page, self.clock.pinned()).await?;
        let is_last = page.len() < PAGE;
        self.sweeper.state().after = page.last().map(|job| job.delivery).filter(|_| !is_last);
        Ok(is_last)
    }

    /// Short while a transaction is about to commit.
    fn until_next_sweep(&self) -> Duration {
        if self.sweeper.state().expected.is_empty() {
            TICK
        } else {
            Duration::from_millis(20)
        }
    }
}

//! [`MemoryQueue`]: lanes beside a store, as Redis is beside Postgres.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;
use uuid::Uuid;

use super::at;
use super::lanes::Lanes;
use crate::error::Result;
use crate::queue::{ClaimOptions, Claimed, Depth, Job, Lease, Queue, Settle};
use crate::time::Now;

/// A queue in this process's memory, beside any store: an index of jobs that may be lost at any time.
///
/// For tests of what happens when a queue forgets, and for hosts that run one process on a store whose own
/// queue they want to spare. Clones are the same queue.
#[derive(Clone, Debug, Default)]
pub struct MemoryQueue(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct State {
    lanes: Lanes,
    epoch: u64,
}

impl MemoryQueue {
    /// Forgets every job, hold and lease, as a Redis that restarts empty does.
    pub fn erase(&self) {
        let mut state = self.state();
        state.lanes = Lanes::default();
        state.epoch += 1;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Queue for MemoryQueue {
    async fn push(&self, jobs: &[Job], now: Now) -> Result<()> {
        let mut state = self.state();
        for job in jobs {
            state.lanes.push(job, at(now));
        }
        drop(state);
        self.0.wake.notify_one();
        Ok(())
    }

    async fn claim(&self, options: ClaimOptions, now: Now) -> Result<Claimed> {
        Ok(self.state().lanes.claim(&options, at(now)))
    }

    async fn extend(&self, leases: &[Lease], by: Duration, now: Now) -> Result<Vec<Lease>> {
        let mut state = self.state();
        Ok(leases
            .iter()
            .filter_map(|lease| state.lanes.extend(lease, at(now) + by))
            .collect())
    }

    async fn settle(&self, settled: &[(Lease, Settle)], now: Now) -> Result<()> {
        let mut state = self.state();
        for (lease, settle) in settled {
            state.lanes.settle(lease, *settle, at(now));
        }
        drop(state);
        self.0.wake.notify_one();
        Ok(())
    }

    async fn hold(&self, lane: Uuid, by: Duration, now: Now) -> Result<()> {
        self.state().lanes.hold(lane, at(now) + by, at(now));
        Ok(())
    }

    async fn release(&self, lane: Uuid) -> Result<()> {
        self.state().lanes.release(lane);
        self.0.wake.notify_one();
        Ok(())
    }

    async fn ready(&self) {
        self.0.wake.notified().await;
    }

    async fn epoch(&self) -> Result<u64> {
        Ok(self.state().epoch)
    }

    async fn depth(&self, now: Now) -> Result<Depth> {
        Ok(self.state().lanes.depth(at(now)))
    }
}

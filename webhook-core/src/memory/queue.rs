//! [`MemoryQueue`]: lanes beside a store, as Redis is beside Postgres.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;
use uuid::Uuid;

use super::at;
use super::lanes::Lanes;
use crate::error::Result;
use crate::queue::{ClaimOptions, Claimed, Depth, Hold, Job, Lease, Queue, QueuePart, Settle};
use crate::time::Now;

/// A queue in this process's memory, beside any store: an index of jobs that may be lost at any time.
///
/// For tests of what happens when a queue forgets, and for hosts that run one process on a store whose own
/// queue they want to spare. Clones are the same queue.
#[derive(Clone, Debug)]
pub struct MemoryQueue(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Debug)]
struct State {
    lanes: Lanes,
    /// Of each part.
    generations: Vec<i64>,
}

impl Default for MemoryQueue {
    fn default() -> Self {
        Self::in_parts(1)
    }
}

impl MemoryQueue {
    /// An empty queue that can lose its lanes in `count` parts.
    #[must_use]
    pub fn in_parts(count: usize) -> Self {
        // A store that has seen another queue of this name does not take this one for filled.
        let generation = rand::random::<u32>();
        Self(Arc::new(Shared {
            state: Mutex::new(State {
                lanes: Lanes::default(),
                generations: vec![i64::from(generation) << 31; count.max(1)],
            }),
            wake: Notify::new(),
        }))
    }

    /// Forgets every job, hold and lease, as a Redis that restarts empty does.
    pub fn erase(&self) {
        let mut state = self.state();
        state.lanes = Lanes::default();
        state.generations.iter_mut().for_each(|it| *it += 1);
    }

    /// Forgets those of one part, as a node of a cluster does.
    pub fn erase_part(&self, part: usize) {
        let mut state = self.state();
        let count = state.generations.len();
        state.lanes.forget(|lane| part_of(lane, count) == part);
        if let Some(generation) = state.generations.get_mut(part) {
            *generation += 1;
        }
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

    async fn hold(&self, lane: Uuid, hold: Hold, now: Now) -> Result<()> {
        self.state().lanes.hold(lane, hold, at(now));
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

    async fn parts(&self) -> Result<Vec<QueuePart>> {
        let state = self.state();
        let count = state.generations.len();
        let generations = state.generations.iter().enumerate();
        let part = |(part, generation): (usize, &i64)| QueuePart {
            name: format!("memory:{part}/{count}"),
            generation: Some(*generation),
        };
        Ok(generations.map(part).collect())
    }

    fn part_of(&self, lane: Uuid) -> usize {
        part_of(lane, self.state().generations.len())
    }

    async fn depth(&self, now: Now) -> Result<Depth> {
        Ok(self.state().lanes.depth(at(now)))
    }
}

/// The ids of endpoints end with what is random in them.
fn part_of(lane: Uuid, count: usize) -> usize {
    usize::try_from(lane.as_u128() % count as u128).unwrap_or(0)
}

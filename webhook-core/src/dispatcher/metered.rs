//! Wrappers of the store and the queue that measure their calls.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use super::meter::{Calls, Meter};
use crate::error::{Error, ErrorKind, Result};
use crate::queue::{ClaimOptions, Claimed, Depth, Hold, Job, Lease, Queue, QueuePart, Settle};
use crate::time::{Clock, Now};

/// A store whose calls are measured; `forward.rs` passes them on.
pub(crate) struct MeteredStore<S> {
    store: Arc<S>,
    stopwatch: Stopwatch,
}

/// A queue whose calls are measured.
pub(super) struct MeteredQueue {
    queue: Arc<dyn Queue>,
    stopwatch: Stopwatch,
}

struct Stopwatch {
    meter: Arc<Meter>,
    clock: Arc<dyn Clock>,
}

impl<S> MeteredStore<S> {
    pub(super) fn new(store: Arc<S>, meter: &Arc<Meter>, clock: &Arc<dyn Clock>) -> Self {
        let stopwatch = Stopwatch::new(meter, clock);
        Self { store, stopwatch }
    }

    pub(crate) async fn call<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let calls = &self.stopwatch.meter.store;
        self.stopwatch.measure(calls, operation, call).await
    }
}

impl<S> Deref for MeteredStore<S> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.store
    }
}

impl MeteredQueue {
    pub(super) fn new(queue: Arc<dyn Queue>, meter: &Arc<Meter>, clock: &Arc<dyn Clock>) -> Self {
        let stopwatch = Stopwatch::new(meter, clock);
        Self { queue, stopwatch }
    }

    async fn call<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let calls = &self.stopwatch.meter.queue;
        self.stopwatch.measure(calls, operation, call).await
    }
}

impl Stopwatch {
    fn new(meter: &Arc<Meter>, clock: &Arc<dyn Clock>) -> Self {
        Self {
            meter: Arc::clone(meter),
            clock: Arc::clone(clock),
        }
    }

    async fn measure<T>(
        &self,
        calls: &Calls,
        operation: &'static str,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let began = calls.times(operation).then(|| self.clock.now());
        let answer = call.await;
        if let Some(began) = began {
            calls.took(operation, self.clock.now().since(began));
        }
        // People who have to wait for each other are nobody's fault, and nothing to be woken for.
        let is_fault =
            |error: &Error| !matches!(error.kind(), ErrorKind::Overloaded | ErrorKind::Locked);
        answer.inspect_err(|error| {
            if is_fault(error) {
                calls.failed(operation);
            }
        })
    }
}

#[async_trait]
impl Queue for MeteredQueue {
    async fn push(&self, jobs: &[Job], now: Now) -> Result<()> {
        self.call("push", self.queue.push(jobs, now)).await
    }

    async fn claim(&self, options: ClaimOptions, now: Now) -> Result<Claimed> {
        self.call("claim", self.queue.claim(options, now)).await
    }

    async fn extend(&self, leases: &[Lease], by: Duration, now: Now) -> Result<Vec<Lease>> {
        let call = self.queue.extend(leases, by, now);
        self.call("extend", call).await
    }

    async fn settle(&self, settled: &[(Lease, Settle)], now: Now) -> Result<()> {
        self.call("settle", self.queue.settle(settled, now)).await
    }

    async fn hold(&self, lane: Uuid, hold: Hold, now: Now) -> Result<()> {
        self.call("hold", self.queue.hold(lane, hold, now)).await
    }

    async fn release(&self, lane: Uuid) -> Result<()> {
        self.call("release", self.queue.release(lane)).await
    }

    async fn ready(&self) {
        self.queue.ready().await;
    }

    async fn parts(&self) -> Result<Vec<QueuePart>> {
        self.call("parts", self.queue.parts()).await
    }

    fn part_of(&self, lane: Uuid) -> usize {
        self.queue.part_of(lane)
    }

    async fn depth(&self, now: Now) -> Result<Depth> {
        self.call("depth", self.queue.depth(now)).await
    }
}

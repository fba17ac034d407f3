//! What the suites share: times, and short ways to set a scene.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use uuid::Uuid;

use super::{Harness, endpoint_for, event_for};
use crate::delivery::{Attempt, Delivery, Outcome};
use crate::endpoint::{Endpoint, EndpointSettings, StateReason};
use crate::event::Event;
use crate::header_log::HeaderLog;
use crate::queue::{ClaimOptions, Job, Lease, Queue};
use crate::retry::Next;
use crate::store::{InsertOptions, Loaded, OnConflict, Record, Recorded, Store, Verdict};
use crate::tenant::{PageRequest, Scope};
use crate::time::{Now, Timestamp};

/// When every scene begins.
pub(super) const T0: Timestamp = Timestamp::from_seconds(1_700_000_000);
/// How long the leases of a scene last.
pub(super) const LEASE: Duration = Duration::from_secs(60);
pub(super) const ALL: Scope = Scope::All;
/// A page that holds everything a scene has.
pub(super) const PAGE: PageRequest = PageRequest {
    before: None,
    limit: 1_000,
};

/// `T0` and some seconds.
pub(super) fn at(seconds: u64) -> Now {
    Some(T0 + Duration::from_secs(seconds))
}

pub(super) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A backend under test with what is in it.
pub(super) struct Scene<H> {
    pub(super) harness: H,
    pub(super) queue: Arc<dyn Queue>,
    /// Whether all of its lanes are in one part of the queue.
    is_whole: bool,
}

impl<H: Harness> Scene<H> {
    pub(super) fn new(harness: H) -> Self {
        Self {
            queue: harness.queue(),
            harness,
            is_whole: false,
        }
    }

    /// One whose lanes are all in one part of the queue: within it claims are fair.
    pub(super) fn in_one_part(harness: H) -> Self {
        Self {
            is_whole: true,
            ..Self::new(harness)
        }
    }

    pub(super) fn store(&self) -> &H::Store {
        self.harness.store()
    }

    pub(super) async fn endpoint(&self, tenant: &str, settings: EndpointSettings) -> Endpoint {
        let mut endpoint = endpoint_for(tenant, settings);
        while self.is_whole && self.queue.part_of(endpoint.id) > 0 {
            endpoint.id = Uuid::from_u128(rand::random());
        }
        self.store()
            .insert_endpoint(&endpoint, usize::MAX)
            .await
            .expect("an endpoint is stored");
        endpoint
    }

    /// A lane of the `default` tenant.
    pub(super) async fn lane(&self, settings: EndpointSettings) -> Uuid {
        self.endpoint("default", settings).await.id
    }

    /// Stores events and pushes their jobs, `now`.
    pub(super) async fn insert(&self, events: &[Event], now: Now) -> Vec<Job> {
        let insertion = self
            .store()
            .insert_events(events, &InsertOptions::new(OnConflict::Skip), now)
            .await;
        let jobs = insertion.expect("events are stored").jobs;
        self.queue.push(&jobs, now).await.expect("jobs are pushed");
        jobs
    }

    /// Enqueues `count` events of a tenant at `T0`.
    pub(super) async fn enqueue(&self, tenant: &str, count: usize) -> Vec<Job> {
        let events: Vec<_> = (0..count)
            .map(|n| event_for(tenant, "order.paid", &n.to_string(), T0))
            .collect();
        self.insert(&events, at(0)).await
    }

    /// One event to one new endpoint.
    pub(super) async fn one_job(&self) -> Job {
        self.lane(EndpointSettings::default()).await;
        self.enqueue("default", 1).await.remove(0)
    }

    pub(super) async fn claim(&self, limit: usize, now: Now) -> Vec<Lease> {
        let claimed = self.queue.claim(ClaimOptions::new(limit, LEASE), now).await;
        claimed.expect("jobs are claimed").leases
    }

    pub(super) async fn oldest_due(&self, now: Now) -> Now {
        let depth = self.queue.depth(now).await;
        depth.expect("what waits is counted").oldest_due
    }

    pub(super) async fn load(&self, lease: Lease, now: Now) -> Option<Loaded> {
        self.store()
            .load(&[lease], now)
            .await
            .expect("claims are loaded")
            .pop()
    }

    /// Claims and loads, as a worker does.
    pub(super) async fn take(&self, now: Now) -> Lease {
        let lease = self.claim(1, now).await.pop().expect("a job is due");
        let loaded = self.load(lease, now).await.expect("the claim is current");
        let Verdict::Run(work) = loaded.verdict else {
            panic!("the delivery is live");
        };
        assert_eq!(Some(work.loaded_at), now, "by the store's clock");
        lease
    }

    /// Claims all there is and answers what may be attempted; the queue learns what is too early.
    pub(super) async fn runnable(&self, now: Now) -> Vec<Uuid> {
        let mut runnable = Vec::new();
        for lease in self.claim(100, now).await {
            match self.load(lease, now).await.map(|loaded| loaded.verdict) {
                Some(Verdict::Run(_)) => runnable.push(lease.delivery),
                Some(Verdict::Early(by)) => {
                    let early = [(lease, crate::queue::Settle::Unused(by))];
                    self.queue.settle(&early, now).await.expect("settles");
                }
                Some(
                    Verdict::Held(_)
                    | Verdict::Behind(_)
                    | Verdict::Ended
                    | Verdict::Dead(_)
                    | Verdict::Sealed(_),
                )
                | None => {}
            }
        }
        runnable
    }

    pub(super) async fn record(&self, lease: Lease, status: u16, next: Next, now: Now) -> Recorded {
        let recorded = self
            .store()
            .record(&[record(lease, status, next)], now)
            .await;
        recorded.expect("outcomes are recorded")[0]
    }

    /// Claims, loads and records one delivery, and settles it.
    pub(super) async fn attempt(&self, status: u16, next: Next, now: Now) -> Lease {
        let lease = self.take(now).await;
        assert_eq!(
            self.record(lease, status, next, now).await,
            Recorded::Written
        );
        let settle = match next {
            Next::RetryAfter(by) => crate::queue::Settle::After(by),
            _ => crate::queue::Settle::Done,
        };
        self.queue
            .settle(&[(lease, settle)], now)
            .await
            .expect("leases are settled");
        lease
    }

    pub(super) async fn delivery(&self, id: Uuid) -> Delivery {
        self.store()
            .delivery(&ALL, id)
            .await
            .expect("deliveries are read")
            .expect("the delivery is there")
    }

    pub(super) async fn attempts(&self, id: Uuid) -> Vec<Attempt> {
        self.store()
            .attempts(&ALL, id)
            .await
            .expect("attempts are read")
    }
}

/// An outcome with a response of `status`.
pub(super) fn record(lease: Lease, status: u16, next: Next) -> Record {
    let mut headers = HeaderMap::new();
    headers.insert("x-kept", HeaderValue::from_static("yes"));
    let headers = HeaderLog::from(&headers);
    let outcome = Outcome::Response {
        status,
        headers: headers.clone(),
        body: Bytes::from_static(b"\xff\0"),
        truncated: false,
    };
    let attempt = Attempt {
        started_at: T0,
        duration: Duration::from_millis(12),
        first_byte: None,
        request_headers: headers,
        outcome,
    };
    let disable = (status == 410).then_some(StateReason::Gone);
    Record {
        lease,
        attempt: Some(Arc::new(attempt)),
        next,
        disable,
        hold: None,
        health: None,
        event: None,
    }
}

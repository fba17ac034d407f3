//! [`Builder`]: how a host configures and builds a [`Dispatcher`].

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::HeaderValue;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::enqueue::Intake;
use super::lanes::Lanes;
use super::meter::Meter;
use super::metered::{MeteredQueue, MeteredStore};
use super::trouble::Trouble;
use super::{Dispatcher, Engine};
use crate::breaker::{BreakerPolicy, InvalidBreaker};
use crate::endpoint::{EndpointSettings, InvalidSetting};
use crate::event::Idempotency;
use crate::health::HealthPolicy;
use crate::id::IdGenerator;
use crate::network::NetworkPolicy;
use crate::observer::Observer;
use crate::queue::Queue;
use crate::retry::RetryPolicy;
use crate::signing::{Signer, StandardWebhooks};
use crate::store::Store;
use crate::tenant::Tenant;
use crate::time::{Clock, SystemClock};
use crate::trace::Propagation;
use crate::transport::Transport;

/// Builds a [`Dispatcher`]. Every setting has a default.
pub struct Builder<S> {
    store: S,
    queue: Option<Arc<dyn Queue>>,
    transport: Option<Arc<dyn Transport>>,
    signer: Arc<dyn Signer>,
    clock: Arc<dyn Clock>,
    policy: NetworkPolicy,
    observer: Option<Arc<dyn Observer>>,
    propagation: Option<Arc<dyn Propagation>>,
    seed: Option<u64>,
    config: Config,
}

/// The numbers of an engine.
#[derive(Clone, Debug)]
pub(super) struct Config {
    pub(super) max_in_flight: usize,
    pub(super) max_in_flight_per_endpoint: u32,
    /// Of one tenant.
    pub(super) max_endpoints: usize,
    pub(super) request_timeout: Duration,
    pub(super) lease_margin: Duration,
    pub(super) max_payload: usize,
    pub(super) max_response_body: usize,
    pub(super) max_age: Duration,
    pub(super) retention: Duration,
    pub(super) idempotency_window: Duration,
    pub(super) retry: RetryPolicy,
    pub(super) health: HealthPolicy,
    /// The tenant of the events that tell about endpoints.
    pub(super) system_tenant: Tenant,
    /// The name of this process in the list of those that are alive.
    pub(super) role: String,
    pub(super) user_agent: HeaderValue,
    /// Whether the transport is ours. One of the host's may not keep its deadline.
    pub(super) transport_is_ours: bool,
}

impl Config {
    const MOST_IN_FLIGHT: usize = 1_000_000;
    const REQUEST_TIMEOUT: RangeInclusive<Duration> =
        Duration::from_millis(1)..=Duration::from_secs(86_400);
    const LEASE_MARGIN: RangeInclusive<Duration> =
        Duration::from_secs(1)..=Duration::from_secs(86_400);
    const MIN_DISABLE_AFTER: Duration = Duration::from_secs(3_600);

    /// By how much the retention must exceed the maximum age, because partitions are dropped by the day.
    const RETENTION_MARGIN: Duration = Duration::from_secs(86_400);

    /// Refuses what no engine could work with, and what contradicts itself.
    fn validate(&self) -> Result<(), BuildError> {
        self.validate_bounds()?;
        self.retry.validate()?;
        if self.retention < self.max_age.saturating_add(Self::RETENTION_MARGIN) {
            return Err(BuildError::Retention);
        }
        if self.idempotency_window > self.retention {
            return Err(BuildError::IdempotencyWindow);
        }
        if let Some(policy) = &self.health.breaker {
            policy.validate()?;
        }
        match self.health.disable_after {
            Some(time) if time < Self::MIN_DISABLE_AFTER => Err(BuildError::DisableAfter),
            _ => Ok(()),
        }
    }

    fn validate_bounds(&self) -> Result<(), InvalidSetting> {
        let per_endpoint = usize::try_from(self.max_in_flight_per_endpoint).unwrap_or(usize::MAX);
        let in_flight = 1..=Self::MOST_IN_FLIGHT;
        let checks = [
            (
                in_flight.contains(&self.max_in_flight),
                "max_in_flight",
                "1 to 1000000",
            ),
            (
                in_flight.contains(&per_endpoint),
                "max_in_flight_per_endpoint",
                "1 to 1000000",
            ),
            (
                Self::REQUEST_TIMEOUT.contains(&self.request_timeout),
                "request_timeout",
                "1 millisecond to 1 day",
            ),
            (
                Self::LEASE_MARGIN.contains(&self.lease_margin),
                "lease_margin",
                "1 second to 1 day",
            ),
            (self.max_payload > 0, "max_payload", "at least 1 byte"),
            (!self.max_age.is_zero(), "max_age", "longer than nothing"),
            (
                !self.idempotency_window.is_zero(),
                "idempotency_window",
                "longer than nothing",
            ),
        ];
        match checks.into_iter().find(|(fits, ..)| !fits) {
            None => Ok(()),
            Some((_, field, expected)) => Err(InvalidSetting::new(field, expected)),
        }
    }

    /// How long an attempt owns its delivery at most, whatever timeout its endpoint sets.
    pub(super) fn longest_lease(&self) -> Duration {
        self.lease(self.request_timeout.max(EndpointSettings::LONGEST_TIMEOUT))
    }

    /// How long an attempt with this timeout owns its delivery.
    pub(super) fn lease(&self, timeout: Duration) -> Duration {
        timeout + self.lease_margin
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_in_flight: 256,
            max_in_flight_per_endpoint: 32,
            max_endpoints: 10_000,
            request_timeout: Duration::from_secs(15),
            lease_margin: Duration::from_secs(15),
            max_payload: 256 * 1024,
            max_response_body: 16 * 1024,
            max_age: Duration::from_secs(7 * 86_400),
            retention: Duration::from_secs(30 * 86_400),
            idempotency_window: Idempotency::DEFAULT_WINDOW,
            retry: RetryPolicy::default(),
            health: HealthPolicy::default(),
            system_tenant: Tenant::system(),
            role: "worker".to_owned(),
            user_agent: HeaderValue::from_static(concat!(
                "webhook-delivery/",
                env!("CARGO_PKG_VERSION")
            )),
            transport_is_ours: true,
        }
    }
}

/// Why a dispatcher cannot be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The store has no queue in itself, and no other one was given.
    #[error("this store has no queue of its own: give one with `queue`")]
    MissingQueue,
    /// No transport was given, and the crate is built without its own (features `hyper` and
    /// `reqwest`).
    #[error("no transport: give one with `transport`, or enable the feature `hyper`")]
    MissingTransport,
    /// The retention is too short: an event could be deleted while its delivery still waits.
    #[error("the retention must be longer than the maximum age, by a day at least")]
    Retention,
    /// The idempotency window is longer than the retention: a key could stand for an event that is deleted.
    #[error("an idempotency key must not stand for longer than the retention")]
    IdempotencyWindow,
    /// A setting of the builder is out of its bounds.
    #[error(transparent)]
    Setting(#[from] InvalidSetting),
    /// A setting of the circuit breaker is out of its bounds.
    #[error(transparent)]
    Breaker(#[from] InvalidBreaker),
    /// The time of [`Builder::disable_after`] is too short: an endpoint would be disabled by its first failures.
    #[error("an endpoint must not be disabled before it has failed for an hour")]
    DisableAfter,
    /// The HTTP client could not be made.
    #[error("the HTTP transport cannot be made")]
    Transport(#[source] crate::error::BoxError),
}

/// By hand: the seams need not be `Debug`.
impl<S> fmt::Debug for Builder<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("policy", &self.policy)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl<S: Store + 'static> Builder<S> {
    pub(super) fn new(store: S) -> Self {
        Self {
            store,
            queue: None,
            transport: None,
            signer: Arc::new(StandardWebhooks::new()),
            clock: Arc::new(SystemClock),
            policy: NetworkPolicy::default(),
            observer: None,
            propagation: None,
            seed: None,
            config: Config::default(),
        }
    }

    /// Uses a queue beside the store. It is only an index: the engine repairs it from the store.
    #[must_use]
    pub fn queue(mut self, queue: impl Queue + 'static) -> Self {
        self.queue = Some(Arc::new(queue));
        self
    }

    /// The queue of a conformance suite's harness, if that has one beside the store.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn queue_beside(mut self, queue: Option<Arc<dyn Queue>>) -> Self {
        self.queue = queue;
        self
    }

    /// Sends requests with another transport than the built-in one. That transport must then keep requests out of private
    /// networks, at each connection.
    #[must_use]
    pub fn transport(mut self, transport: impl Transport + 'static) -> Self {
        self.transport = Some(Arc::new(transport));
        self.config.transport_is_ours = false;
        self
    }

    /// Where requests may go; public https only unless set. The engine checks an endpoint's URL when it is registered and
    /// before each attempt. The built-in transport also checks the addresses behind the name at each connection.
    #[must_use]
    pub fn network_policy(mut self, policy: NetworkPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Signs requests with another scheme than Standard Webhooks.
    #[must_use]
    pub fn signer(mut self, signer: impl Signer + 'static) -> Self {
        self.signer = Arc::new(signer);
        self
    }

    /// Uses another source of time than the system.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Calls this observer for every outcome that was recorded.
    #[must_use]
    pub fn observer(mut self, observer: impl Observer + 'static) -> Self {
        self.observer = Some(Arc::new(observer));
        self
    }

    /// Ties the engine's spans to the traces of the host's tracer. Without it they belong to no trace.
    #[must_use]
    pub fn propagation(mut self, propagation: impl Propagation + 'static) -> Self {
        self.propagation = Some(Arc::new(propagation));
        self
    }

    /// When failed deliveries are tried again; after 5 s, 5 min, 30 min, 2 h and 12 h unless set.
    #[must_use]
    pub fn retry_policy(mut self, policy: RetryPolicy) -> Self {
        self.config.retry = policy;
        self
    }

    /// When an endpoint that fails is left alone, and for how long; [`BreakerPolicy::default`] unless set. With `None`, it is
    /// never left alone.
    #[must_use]
    pub fn breaker(mut self, policy: impl Into<Option<BreakerPolicy>>) -> Self {
        self.config.health.breaker = policy.into();
        self
    }

    /// After how long of nothing but failures an endpoint is disabled; 5 days unless set, and at least an hour. With `None`,
    /// it is never disabled. The engine tells the host when half of the time is over, and when the endpoint is disabled: by
    /// the [observer](Self::observer), and by events of the [system tenant](Self::system_tenant).
    #[must_use]
    pub fn disable_after(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.config.health.disable_after = time.into();
        self
    }

    /// The tenant of the events that tell the host about endpoints; `system` unless set. The host registers endpoints of
    /// this tenant, and they receive `endpoint.failing` and `endpoint.disabled`.
    ///
    /// These events tell about every tenant, so this must not be the name of a customer. The API refuses callers whose scope
    /// is this tenant; the host manages it with [`Scope::All`](crate::Scope::All).
    ///
    /// The data of the events is `{"endpoint_id", "tenant", "url", "reason", "since"}`, with the URL without its query. No
    /// events are made about the endpoints of this tenant itself.
    #[must_use]
    pub fn system_tenant(mut self, tenant: Tenant) -> Self {
        self.config.system_tenant = tenant;
        self
    }

    /// The name of this process in [`Dispatcher::processes`]; `worker` unless set. At most 64 characters are kept.
    #[must_use]
    pub fn role(mut self, name: &str) -> Self {
        let shown = name.chars().filter(|c| !c.is_control());
        self.config.role = shown.take(64).collect();
        self
    }

    /// The most attempts at once in this process, 1..=1,000,000; 256 unless set.
    #[must_use]
    pub fn max_in_flight(mut self, attempts: usize) -> Self {
        self.config.max_in_flight = attempts;
        self
    }

    /// The most attempts at once in this process to an endpoint that sets no cap of its own, 1..=1,000,000; 32 unless
    /// set. An endpoint begins with one attempt at a time, and earns more by succeeding.
    ///
    /// An endpoint that sets a cap of its own has at most that many attempts here. Nor may it have more than half of
    /// [`max_in_flight`](Self::max_in_flight), or more than this number if this is the larger one.
    #[must_use]
    pub fn max_in_flight_per_endpoint(mut self, attempts: u32) -> Self {
        self.config.max_in_flight_per_endpoint = attempts;
        self
    }

    /// The most endpoints of one tenant; 10,000 unless said. What exceeds it already stays. Each event of a tenant is
    /// stored in one transaction with a delivery for each of its endpoints that wants it, so this bounds that too.
    #[must_use]
    pub fn max_endpoints_per_tenant(mut self, endpoints: usize) -> Self {
        self.config.max_endpoints = endpoints;
        self
    }

    /// The total deadline of an attempt, the response's body included, 1 ms..=1 day; 15 s unless set. An endpoint may
    /// set its own.
    #[must_use]
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.config.request_timeout = timeout;
        self
    }

    /// How much longer than its attempt a claim lasts, 1 s..=1 day; 15 s unless set. In this time the engine loads the
    /// delivery before the attempt, and records the outcome after it.
    ///
    /// When a process dies, the deliveries that it had claimed are tried again after the request timeout and this margin.
    /// If the margin is too short, a store that is slow for a moment causes duplicates.
    #[must_use]
    pub fn lease_margin(mut self, margin: Duration) -> Self {
        self.config.lease_margin = margin;
        self
    }

    /// The most bytes of a body that is sent, at least 1; 256 KiB unless set.
    #[must_use]
    pub fn max_payload(mut self, bytes: usize) -> Self {
        self.config.max_payload = bytes;
        self
    }

    /// The most bytes of a response's body that are kept; 16 KiB unless set. With 0, none are kept.
    #[must_use]
    pub fn max_response_body(mut self, bytes: usize) -> Self {
        self.config.max_response_body = bytes;
        self
    }

    /// How long after a delivery was first due it is given up as `expired`; 7 days unless set, and more than nothing.
    /// Deliveries to a paused or disabled endpoint are kept. Their time begins anew when the endpoint is enabled or otherwise
    /// changed.
    #[must_use]
    pub fn max_age(mut self, age: Duration) -> Self {
        self.config.max_age = age;
        self
    }

    /// How long events, ended deliveries and their attempts are kept after the end; 30 days unless set. It must be longer
    /// than [`max_age`](Self::max_age) by at least a day.
    #[must_use]
    pub fn retention(mut self, time: Duration) -> Self {
        self.config.retention = time;
        self
    }

    /// How long an idempotency key stands for its event; 24 hours unless set. It must be more than nothing, and not longer
    /// than [`retention`](Self::retention).
    #[must_use]
    pub fn idempotency_window(mut self, time: Duration) -> Self {
        self.config.idempotency_window = time;
        self
    }

    /// Makes ids, secrets and jitter repeatable: for tests only.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Builds the dispatcher. This starts nothing: deliveries go out while [`Dispatcher::run`] is running. The dispatcher
    /// sends its [metrics](crate::metrics) to the recorder that is installed now.
    ///
    /// # Errors
    /// When a queue or a transport is missing, a setting is out of its bounds or contradicts another one, or the HTTP
    /// client cannot be made.
    pub fn build(self) -> Result<Dispatcher<S>, BuildError> {
        self.config.validate()?;
        let store = Arc::new(self.store);
        let has_index = self.queue.is_some();
        let rows = store.queue().filter(|_| has_index);
        let queue = self
            .queue
            .or_else(|| store.queue())
            .ok_or(BuildError::MissingQueue)?;
        let transport = match self.transport {
            Some(transport) => transport,
            None => default_transport(&self.policy, &self.config)?,
        };
        let lanes = Lanes::new(
            self.config.max_in_flight_per_endpoint,
            self.config.max_in_flight,
            self.config.health.breaker.clone(),
        );
        let meter = Arc::new(Meter::new());
        let metered = MeteredStore::new(Arc::clone(&store), &meter, &self.clock);
        let engine = Engine {
            store: Arc::new(metered),
            queue: Arc::new(MeteredQueue::new(queue, &meter, &self.clock)),
            has_index,
            rows,
            transport,
            signer: self.signer,
            clock: self.clock,
            policy: self.policy,
            propagation: self.propagation,
            observer: self.observer,
            config: self.config,
            ids: IdGenerator::new(),
            rng: Mutex::new(self.seed.map_or_else(rand::make_rng, StdRng::seed_from_u64)),
            intake: Intake::new(store.inserts_at_once()),
            lanes: Arc::new(lanes),
            running: Mutex::default(),
            sweeper: Arc::default(),
            gathered: Arc::default(),
            meter,
            known: super::schemas::Known::default(),
            trouble: Trouble::default(),
            tests: super::test::Tests::default(),
            unreleased: Mutex::default(),
            nudge: tokio::sync::Notify::new(),
            replay_started: tokio::sync::Notify::new(),
            erasure_started: tokio::sync::Notify::new(),
        };
        Ok(Dispatcher {
            store,
            engine: Arc::new(engine),
        })
    }
}

/// The transport keeps as many idle connections to a host as attempts may be in flight. With fewer, connections would be
/// closed and opened all the time. The idle timeout bounds them anyway.
#[cfg(any(feature = "hyper", feature = "reqwest"))]
fn default_transport(
    policy: &NetworkPolicy,
    config: &Config,
) -> Result<Arc<dyn Transport>, BuildError> {
    let transport = crate::HttpTransportBuilder::default()
        .policy(policy.clone())
        .max_idle_per_host(config.max_in_flight);
    #[cfg(feature = "hyper")]
    let transport = transport.build();
    #[cfg(not(feature = "hyper"))]
    let transport = transport.build_reqwest();
    Ok(Arc::new(
        transport.map_err(|error| BuildError::Transport(error.into()))?,
    ))
}

#[cfg(not(any(feature = "hyper", feature = "reqwest")))]
fn default_transport(_: &NetworkPolicy, _: &Config) -> Result<Arc<dyn Transport>, BuildError> {
    Err(BuildError::MissingTransport)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryStore;
    use crate::testing::ScriptedTransport;

    const DAY: Duration = Duration::from_secs(86_400);
    const MOMENT: Duration = Duration::from_micros(1);

    fn build(retention: Duration, window: Duration) -> Result<(), BuildError> {
        let builder = Dispatcher::builder(MemoryStore::new())
            .transport(ScriptedTransport::default())
            .max_age(DAY * 3)
            .retention(retention)
            .idempotency_window(window);
        builder.build().map(drop)
    }

    #[test]
    fn what_may_wait_longer_than_it_is_kept_is_refused() {
        assert!(build(DAY * 4, DAY).is_ok());
        assert!(matches!(
            build(DAY * 4 - MOMENT, DAY),
            Err(BuildError::Retention)
        ));
    }

    #[test]
    fn settings_that_no_engine_could_work_with_are_refused_by_name() {
        type Set = fn(Builder<MemoryStore>) -> Builder<MemoryStore>;
        let refused = |set: Set| {
            let builder = Dispatcher::builder(MemoryStore::new());
            match set(builder.transport(ScriptedTransport::default())).build() {
                Err(BuildError::Setting(invalid)) => Some(invalid.field()),
                _ => None,
            }
        };
        let cases: [(Set, &str); 15] = [
            (|it| it.max_in_flight(0), "max_in_flight"),
            (|it| it.max_in_flight(usize::MAX), "max_in_flight"),
            (
                |it| it.max_in_flight_per_endpoint(0),
                "max_in_flight_per_endpoint",
            ),
            (
                |it| it.max_in_flight_per_endpoint(u32::MAX),
                "max_in_flight_per_endpoint",
            ),
            (|it| it.request_timeout(Duration::ZERO), "request_timeout"),
            (|it| it.request_timeout(Duration::MAX), "request_timeout"),
            (
                |it| it.lease_margin(Duration::from_millis(999)),
                "lease_margin",
            ),
            (|it| it.lease_margin(Duration::MAX), "lease_margin"),
            (|it| it.max_payload(0), "max_payload"),
            (
                |it| it.retry_policy(RetryPolicy::default().jitter(1.1)),
                "jitter",
            ),
            (
                |it| it.retry_policy(RetryPolicy::default().jitter(-0.1)),
                "jitter",
            ),
            (
                |it| it.retry_policy(RetryPolicy::default().jitter(f64::NAN)),
                "jitter",
            ),
            (
                |it| it.retry_policy(RetryPolicy::default().schedule([Duration::MAX])),
                "schedule",
            ),
            (|it| it.max_age(Duration::ZERO), "max_age"),
            (
                |it| it.idempotency_window(Duration::ZERO),
                "idempotency_window",
            ),
        ];
        for (set, field) in cases {
            assert_eq!(refused(set), Some(field));
        }
        assert_eq!(refused(|it| it), None);
        let forever = Dispatcher::builder(MemoryStore::new()).max_age(Duration::MAX);
        let forever = forever.transport(ScriptedTransport::default()).build();
        assert!(matches!(forever, Err(BuildError::Retention)));
    }

    #[test]
    fn an_endpoint_that_would_be_left_alone_at_once_is_refused() {
        let builder = || {
            let builder = Dispatcher::builder(MemoryStore::new());
            builder.transport(ScriptedTransport::default())
        };
        let never = builder().breaker(None).disable_after(None);
        assert!(never.build().is_ok());
        let breaker = BreakerPolicy::default().failures_in_a_row(0);
        let refused = builder().breaker(breaker).build().map(drop);
        assert!(matches!(refused, Err(BuildError::Breaker(_))));
        let refused = builder().disable_after(MOMENT).build().map(drop);
        assert!(matches!(refused, Err(BuildError::DisableAfter)));
    }

    #[test]
    fn a_key_that_outlives_its_event_is_refused() {
        assert!(build(DAY * 4, DAY * 4).is_ok());
        assert!(matches!(
            build(DAY * 4, DAY * 4 + MOMENT),
            Err(BuildError::IdempotencyWindow)
        ));
    }
}

//! How a [`Dispatcher`] is put together.

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

/// Puts a [`Dispatcher`] together; every setting has a default.
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
    /// Whose the events are that tell of endpoints.
    pub(super) system_tenant: Tenant,
    /// What this process is called among those that are alive.
    pub(super) role: String,
    pub(super) user_agent: HeaderValue,
    /// Not one of the host's, which may not keep its deadline.
    pub(super) transport_is_ours: bool,
}

impl Config {
    const MIN_LEASE_MARGIN: Duration = Duration::from_secs(1);
    const MIN_DISABLE_AFTER: Duration = Duration::from_secs(3_600);

    /// By which what is kept outlives what may wait: partitions go by the day.
    const RETENTION_MARGIN: Duration = Duration::from_secs(86_400);

    /// How long an attempt of this length owns its delivery.
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
    /// The store's deliveries are no queue, and none was given.
    #[error("this store has no queue of its own: give one with `queue`")]
    MissingQueue,
    /// No transport was given, and the crate is built without its own (features `hyper` and
    /// `reqwest`).
    #[error("no transport: give one with `transport`, or enable the feature `hyper`")]
    MissingTransport,
    /// What is kept for a shorter time than it may wait would be gone before it is delivered.
    #[error("the retention must be longer than the maximum age, by a day at least")]
    Retention,
    /// An idempotency key would stand for an event that is not kept any more.
    #[error("an idempotency key must not stand for longer than the retention")]
    IdempotencyWindow,
    /// A setting of the circuit breaker is out of its bounds.
    #[error(transparent)]
    Breaker(#[from] InvalidBreaker),
    /// An endpoint would be disabled by its first failures.
    #[error("an endpoint must not be disabled before it has failed for an hour")]
    DisableAfter,
    /// The HTTP client could not be made.
    #[error("the HTTP transport cannot be made")]
    Transport(#[source] crate::error::BoxError),
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

    /// A queue beside the store, as an index: the store stays the truth and repairs it.
    #[must_use]
    pub fn queue(mut self, queue: impl Queue + 'static) -> Self {
        self.queue = Some(Arc::new(queue));
        self
    }

    /// Another way to send requests than the built-in one. It is then the transport that keeps
    /// requests out of private networks, at each connection.
    #[must_use]
    pub fn transport(mut self, transport: impl Transport + 'static) -> Self {
        self.transport = Some(Arc::new(transport));
        self.config.transport_is_ours = false;
        self
    }

    /// Where requests may go. An endpoint's URL is judged when it is registered and before each attempt, and by the
    /// built-in transport the addresses behind it at each connection. Public https only unless said.
    #[must_use]
    pub fn network_policy(mut self, policy: NetworkPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Another signature scheme than Standard Webhooks.
    #[must_use]
    pub fn signer(mut self, signer: impl Signer + 'static) -> Self {
        self.signer = Arc::new(signer);
        self
    }

    /// Another source of time than the system's.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Who hears of what was recorded.
    #[must_use]
    pub fn observer(mut self, observer: impl Observer + 'static) -> Self {
        self.observer = Some(Arc::new(observer));
        self
    }

    /// What ties the engine's spans to the traces of the host's tracer; nothing unless said.
    #[must_use]
    pub fn propagation(mut self, propagation: impl Propagation + 'static) -> Self {
        self.propagation = Some(Arc::new(propagation));
        self
    }

    /// When failed deliveries are tried again; 5 s, 5 min, 30 min, 2 h, 12 h unless said.
    #[must_use]
    pub fn retry_policy(mut self, policy: RetryPolicy) -> Self {
        self.config.retry = policy;
        self
    }

    /// When an endpoint that fails is left alone, and for how long; [`BreakerPolicy::default`] unless said, `None` for
    /// never.
    #[must_use]
    pub fn breaker(mut self, policy: impl Into<Option<BreakerPolicy>>) -> Self {
        self.config.health.breaker = policy.into();
        self
    }

    /// After how long of nothing but failures an endpoint is disabled; 5 days unless said, an hour at least, `None` for
    /// never. The host hears of it half-way, and then: by its [observer](Self::observer), and by events of the
    /// [system tenant](Self::system_tenant).
    #[must_use]
    pub fn disable_after(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.config.health.disable_after = time.into();
        self
    }

    /// Whose the events are by which the engine tells the host of its endpoints; `system` unless said. The host's own
    /// endpoints of this tenant receive `endpoint.failing` and `endpoint.disabled`. They tell of every tenant, so it must be
    /// no customer's name: the API lets in nobody whose scope is this tenant, and the host manages it with
    /// [`Scope::All`](crate::Scope::All).
    ///
    /// Their data is `{"endpoint_id", "tenant", "url", "reason", "since"}`, the URL without its query. What happens to
    /// endpoints of this tenant itself makes no events.
    #[must_use]
    pub fn system_tenant(mut self, tenant: Tenant) -> Self {
        self.config.system_tenant = tenant;
        self
    }

    /// What this process is called in [`Dispatcher::processes`]; `worker` unless said. At most 64 characters are kept.
    #[must_use]
    pub fn role(mut self, name: &str) -> Self {
        let shown = name.chars().filter(|c| !c.is_control());
        self.config.role = shown.take(64).collect();
        self
    }

    /// The most attempts at once in this process; 256 unless said.
    #[must_use]
    pub fn max_in_flight(mut self, attempts: usize) -> Self {
        self.config.max_in_flight = attempts.max(1);
        self
    }

    /// The most attempts at once in this process to an endpoint that sets no cap of its own; 32 unless said.
    /// It begins with one, and gets there by succeeding. One that sets a cap of its own has at most that here, and at
    /// most half of [`max_in_flight`](Self::max_in_flight), or this if it is more.
    #[must_use]
    pub fn max_in_flight_per_endpoint(mut self, attempts: u32) -> Self {
        self.config.max_in_flight_per_endpoint = attempts.max(1);
        self
    }

    /// The most endpoints of one tenant; 10,000 unless said. What exceeds it already stays. Each event of a tenant is
    /// stored in one transaction with a delivery for each of its endpoints that wants it, so this bounds that too.
    #[must_use]
    pub fn max_endpoints_per_tenant(mut self, endpoints: usize) -> Self {
        self.config.max_endpoints = endpoints;
        self
    }

    /// The total deadline of an attempt, the response's body included; 15 s unless said. An endpoint may
    /// set its own.
    #[must_use]
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.config.request_timeout = timeout;
        self
    }

    /// How much longer than its attempt a claim lasts: for loading before it, and for recording after it; 15 s
    /// unless said, and never less than 1 s. What a process held when it died is tried again after the request
    /// timeout and this. Too short, and a store that is slow for a moment makes duplicates.
    #[must_use]
    pub fn lease_margin(mut self, margin: Duration) -> Self {
        self.config.lease_margin = margin.max(Config::MIN_LEASE_MARGIN);
        self
    }

    /// The most bytes of a body that is sent; 256 KiB unless said.
    #[must_use]
    pub fn max_payload(mut self, bytes: usize) -> Self {
        self.config.max_payload = bytes;
        self
    }

    /// The most bytes of a response's body that are kept; 16 KiB unless said.
    #[must_use]
    pub fn max_response_body(mut self, bytes: usize) -> Self {
        self.config.max_response_body = bytes;
        self
    }

    /// How long after it was first due a delivery is given up as `expired`; 7 days unless said. Deliveries of a paused
    /// or disabled endpoint are kept: their time begins anew when it is enabled, or changed otherwise.
    #[must_use]
    pub fn max_age(mut self, age: Duration) -> Self {
        self.config.max_age = age;
        self
    }

    /// How long events, ended deliveries and their attempts are kept after the end; 30 days unless said. Must be
    /// longer than [`max_age`](Self::max_age) by a day.
    #[must_use]
    pub fn retention(mut self, time: Duration) -> Self {
        self.config.retention = time;
        self
    }

    /// How long an idempotency key stands for its event; 24 hours unless said. Not longer than
    /// [`retention`](Self::retention).
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

    /// The dispatcher. Starts nothing: deliveries go out while [`Dispatcher::run`] is running. What it
    /// [measures](crate::metrics) goes to the recorder that is installed now.
    ///
    /// # Errors
    /// When a queue or a transport is missing, the retention is too short for what else is set, or the HTTP client
    /// cannot be made.
    pub fn build(self) -> Result<Dispatcher<S>, BuildError> {
        if self.config.retention < self.config.max_age + Config::RETENTION_MARGIN {
            return Err(BuildError::Retention);
        }
        if self.config.idempotency_window > self.config.retention {
            return Err(BuildError::IdempotencyWindow);
        }
        let health = &self.config.health;
        if let Some(policy) = &health.breaker {
            policy.validate()?;
        }
        if health
            .disable_after
            .is_some_and(|it| it < Config::MIN_DISABLE_AFTER)
        {
            return Err(BuildError::DisableAfter);
        }
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

/// As many idle connections to a host are kept as may be in flight: fewer would be closed and opened
/// again all the time, and the idle timeout bounds them anyway.
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

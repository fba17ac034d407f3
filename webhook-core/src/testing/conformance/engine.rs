//! The suite of how two processes treat an endpoint's lane together: what holds it, and that waiting costs nothing.

use super::suite;

/// The checks of lanes: one list for the wrappers and for a backend's tests.
#[doc(hidden)]
#[macro_export]
macro_rules! __engine_checks {
    ([$($then:tt)*] $($args:tt)*) => {
        $($then)*! {
            $($args)*
            paused_endpoint_keeps_its_deliveries_until_it_is_enabled,
            disabled_endpoint_keeps_its_deliveries_until_it_is_enabled,
            deleted_endpoint_gets_nothing_more,
            open_breaker_holds_all_without_attempts,
            one_probe_goes_out_and_its_success_lets_the_rest_flow,
            probe_that_fails_opens_the_breaker_again_for_all,
            head_of_an_ordered_lane_is_retried_before_its_followers,
            rate_is_kept_together_and_waiting_uses_no_attempts,
            retry_after_holds_the_lane,
            gone_disables_the_endpoint_and_the_host_is_told_once,
        }
    };
}

/// A backend's `#[test]`s for what two dispatchers on it do with an endpoint together. Needs a
/// [`Harness`](crate::testing::Harness) with a store that is `Clone`.
#[macro_export]
macro_rules! engine_conformance {
    ($harness:ty) => {
        $crate::__engine_checks! { [$crate::__conformance_tests] engine, $harness, }
    };
}

__engine_checks! { [suite] EngineHarness, }

mod checks {
    use std::time::Duration;

    use async_trait::async_trait;
    use bytes::Bytes;
    use http::{Request, Response};
    use tokio::sync::watch;
    use uuid::Uuid;

    use super::super::EngineHarness;
    use crate::breaker::BreakerPolicy;
    use crate::delivery::{Delivery, DeliveryStatus};
    use crate::dispatcher::Dispatcher;
    use crate::endpoint::{EndpointSettings, EndpointState, NewEndpoint, RateLimit, StateReason};
    use crate::event::NewEvent;
    use crate::health::{BreakerState, Health};
    use crate::store::DeliveryFilter;
    use crate::tenant::{PageRequest, Tenant};
    use crate::testing::{ManualClock, Reply, ScriptedTransport};
    use crate::time::{Clock, Timestamp};
    use crate::transport::{Transport, TransportError};

    const INSTANT: Duration = Duration::from_micros(1);
    const DAY: Duration = Duration::from_secs(86_400);
    /// Time for some looks at a lane that takes nothing, of which each minute has one.
    const A_WHILE: Duration = seconds(150);
    /// How many failures in a row open the breaker.
    const FAILURES: usize = 10;
    /// How long it stays open at first.
    const OPEN: Duration = seconds(30);
    /// Where the host hears of its endpoints.
    const HOST: &str = "host.example.com";

    const fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    /// Answers as told, once it may.
    #[derive(Clone)]
    struct Receiver {
        script: ScriptedTransport,
        clock: ManualClock,
        /// When each request came.
        came: watch::Sender<Vec<Timestamp>>,
        answers: watch::Sender<bool>,
    }

    #[async_trait]
    impl Transport for Receiver {
        async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, TransportError> {
            let now = self.clock.now();
            self.came.send_modify(|came| came.push(now));
            let mut answers = self.answers.subscribe();
            answers.wait_for(|it| *it).await.expect("it is there");
            self.script.send(request).await
        }
    }

    /// Two processes on one backend, each with one slot, so that each step makes at most one attempt.
    struct World<H> {
        one: Dispatcher,
        two: Dispatcher,
        receiver: Receiver,
        clock: ManualClock,
        _harness: H,
    }

    impl<H: EngineHarness> World<H> {
        fn new<R: Into<Reply>>(harness: H, script: impl IntoIterator<Item = R>) -> Self {
            let clock = ManualClock::default();
            let receiver = Receiver {
                script: ScriptedTransport::new(script),
                clock: clock.clone(),
                came: watch::Sender::default(),
                answers: watch::Sender::new(true),
            };
            let [one, two] = [1, 2].map(|seed| {
                let dispatcher = harness
                    .dispatcher()
                    .transport(receiver.clone())
                    .clock(clock.clone())
                    .breaker(BreakerPolicy::default().jitter(0.0))
                    .max_in_flight(1)
                    .seed(seed);
                dispatcher.build().expect("all settings are valid").erase()
            });
            Self {
                one,
                two,
                receiver,
                clock,
                _harness: harness,
            }
        }

        async fn endpoint(&self, settings: EndpointSettings) -> Uuid {
            let url = "https://hooks.example.com/in".parse().expect("a URL");
            let new = NewEndpoint::with_settings(url, settings);
            let created = self.one.endpoints().create(new).await;
            created.expect("an endpoint is stored").id
        }

        /// Accepts events whose data are 1, 2, and so on.
        async fn enqueue(&self, count: usize) {
            for n in 1..=count {
                let event = NewEvent::raw("order.paid", n.to_string()).expect("valid data");
                self.one.enqueue(event).await.expect("is accepted");
            }
        }

        /// Runs what falls due within this time in both processes, as `fast_forward` does in one.
        async fn pass(&self, by: Duration) {
            let end = self.clock.now() + by;
            loop {
                let (mut claimed, mut due) = (0, Vec::new());
                for process in [&self.two, &self.one] {
                    let step = process.step().await.expect("the engine goes on");
                    claimed += step.claimed;
                    due.extend(step.next_due);
                }
                match due.into_iter().min() {
                    _ if claimed > 0 => {}
                    Some(due) if due <= end => self.clock.set(due.max(self.clock.now())),
                    _ => break,
                }
            }
            self.clock.set(end);
        }

        /// How many jobs a process claims in a step.
        async fn step(&self, process: &Dispatcher) -> usize {
            process.step().await.expect("the engine goes on").claimed
        }

        /// Two steps: the second process takes its while the first one's only request is without its answer.
        async fn step_beside_an_attempt(&self) {
            let before = self.sent();
            self.receiver.answers.send_replace(false);
            let other = async {
                let mut came = self.receiver.came.subscribe();
                let came = came.wait_for(|came| came.len() > before).await;
                drop(came.expect("it is there"));
                let mut came = self.receiver.came.subscribe();
                tokio::select! {
                    _ = self.step(&self.two) => {}
                    _ = came.wait_for(|came| came.len() > before + 1) => {}
                }
                assert_eq!(self.sent(), before + 1, "another one goes out beside it");
                self.receiver.answers.send_replace(true);
            };
            let (claimed, ()) = tokio::join!(self.step(&self.one), other);
            assert_eq!(claimed, 1);
        }

        async fn set(&self, endpoint: Uuid, state: EndpointState) {
            let endpoints = self.one.endpoints();
            let set = endpoints.update(endpoint, |it| it.state = state).await;
            set.expect("an endpoint changes");
        }

        fn sent(&self) -> usize {
            self.receiver.came.borrow().len()
        }

        /// What was sent, in order.
        fn bodies(&self) -> Vec<String> {
            let sent = self.receiver.script.requests();
            let bodies = sent
                .iter()
                .map(|it| String::from_utf8_lossy(&it.body).into());
            bodies.collect()
        }

        /// Oldest first.
        async fn deliveries(&self) -> Vec<Delivery> {
            let (filter, page) = (DeliveryFilter::default(), PageRequest::first(100));
            let page = self.one.deliveries().list(&filter, page).await;
            let mut deliveries = page.expect("deliveries are listed").items;
            deliveries.reverse();
            deliveries
        }

        /// How many are in this state after so many attempts.
        async fn count(&self, status: DeliveryStatus, attempts: u32) -> usize {
            let all = self.deliveries().await;
            let those = all.iter();
            let those = those.filter(|it| (it.status, it.attempts) == (status, attempts));
            those.count()
        }

        /// All attempts that are stored.
        async fn attempts(&self) -> usize {
            let mut count = 0;
            for delivery in self.deliveries().await {
                let attempts = self.one.deliveries().attempts(delivery.id).await;
                let attempts = attempts.expect("attempts are read");
                assert_eq!(attempts.len(), delivery.attempts as usize);
                count += attempts.len();
            }
            count
        }

        async fn health(&self, endpoint: Uuid) -> Health {
            let health = self.two.endpoints().health(&[endpoint]).await;
            let mut health = health.expect("health is read");
            health.remove(&endpoint).unwrap_or_default()
        }
    }

    /// What one process changes, the other one heeds.
    async fn keeps_its_deliveries<H: EngineHarness>(harness: H, state: EndpointState) {
        let world = World::new(harness, [200; 0]);
        let endpoint = world.endpoint(EndpointSettings::default()).await;
        world.enqueue(4).await;
        assert_eq!(world.step(&world.two).await, 1);
        world.set(endpoint, state).await;
        world.pass(A_WHILE).await;
        assert_eq!(world.sent(), 1);
        assert_eq!(world.count(DeliveryStatus::Pending, 0).await, 3);
        world.set(endpoint, EndpointState::Enabled).await;
        world.pass(seconds(1)).await;
        assert_eq!(world.sent(), 4);
        assert_eq!(world.count(DeliveryStatus::Succeeded, 1).await, 4);
    }

    pub(super) async fn paused_endpoint_keeps_its_deliveries_until_it_is_enabled<
        H: EngineHarness,
    >(
        harness: H,
    ) {
        keeps_its_deliveries(harness, EndpointState::Paused).await;
    }

    pub(super) async fn disabled_endpoint_keeps_its_deliveries_until_it_is_enabled<
        H: EngineHarness,
    >(
        harness: H,
    ) {
        keeps_its_deliveries(harness, EndpointState::Disabled).await;
    }

    pub(super) async fn deleted_endpoint_gets_nothing_more<H: EngineHarness>(harness: H) {
        let world = World::new(harness, [200; 0]);
        let endpoint = world.endpoint(EndpointSettings::default()).await;
        world.enqueue(4).await;
        assert_eq!(world.step(&world.two).await, 1);
        let deleted = world.one.endpoints().delete(endpoint).await;
        deleted.expect("an endpoint is deleted");
        world.pass(A_WHILE).await;
        assert_eq!(world.sent(), 1);
        assert_eq!(world.count(DeliveryStatus::Succeeded, 1).await, 1);
        assert_eq!(world.count(DeliveryStatus::Cancelled, 0).await, 3);
    }

    /// Two events more than failures, which one process has seen: the breaker is open in both.
    async fn opened<H: EngineHarness>(harness: H, then: &[u16]) -> (World<H>, Uuid) {
        let script = [&[500; FAILURES], then].concat();
        let world = World::new(harness, script);
        let endpoint = world.endpoint(EndpointSettings::default()).await;
        world.enqueue(FAILURES + 2).await;
        for _ in 0..FAILURES {
            assert_eq!(world.step(&world.one).await, 1);
        }
        let health = world.health(endpoint).await;
        let until = world.clock.now() + OPEN;
        assert!(
            matches!(health.breaker, BreakerState::Open(trip) if trip.until == until),
            "{health:?}"
        );
        (world, endpoint)
    }

    pub(super) async fn open_breaker_holds_all_without_attempts<H: EngineHarness>(harness: H) {
        let (world, _) = opened(harness, &[]).await;
        // Retries fall due meanwhile.
        world.pass(OPEN - INSTANT).await;
        assert_eq!(world.sent(), FAILURES);
        assert_eq!(world.attempts().await, FAILURES);
        assert_eq!(world.count(DeliveryStatus::Pending, 0).await, 2);
        assert_eq!(world.count(DeliveryStatus::Pending, 1).await, FAILURES);
    }

    pub(super) async fn one_probe_goes_out_and_its_success_lets_the_rest_flow<H: EngineHarness>(
        harness: H,
    ) {
        let (world, endpoint) = opened(harness, &[]).await;
        world.pass(OPEN - INSTANT).await;
        world.clock.advance(INSTANT);
        world.step_beside_an_attempt().await;
        assert_eq!(world.health(endpoint).await, Health::default());
        world.pass(Duration::ZERO).await;
        assert_eq!(world.sent(), FAILURES + FAILURES + 2);
        assert_eq!(world.attempts().await, world.sent());
        assert_eq!(world.count(DeliveryStatus::Succeeded, 1).await, 2);
        assert_eq!(world.count(DeliveryStatus::Succeeded, 2).await, FAILURES);
    }

    pub(super) async fn probe_that_fails_opens_the_breaker_again_for_all<H: EngineHarness>(
        harness: H,
    ) {
        let (world, endpoint) = opened(harness, &[500]).await;
        world.clock.advance(OPEN);
        world.step_beside_an_attempt().await;
        world.pass(2 * OPEN - INSTANT).await;
        assert_eq!(world.sent(), FAILURES + 1);
        assert_eq!(world.attempts().await, FAILURES + 1);
        world.pass(INSTANT).await;
        assert_eq!(world.health(endpoint).await, Health::default());
        assert!(world.sent() > FAILURES + 2);
    }

    pub(super) async fn head_of_an_ordered_lane_is_retried_before_its_followers<
        H: EngineHarness,
    >(
        harness: H,
    ) {
        let world = World::new(harness, [500, 500]);
        let settings = EndpointSettings {
            ordered: true,
            ..EndpointSettings::default()
        };
        world.endpoint(settings).await;
        world.enqueue(3).await;
        world.step_beside_an_attempt().await;
        world.pass(seconds(1)).await;
        assert_eq!(world.bodies(), ["1"]);
        world.pass(DAY).await;
        assert_eq!(world.bodies(), ["1", "1", "1", "2", "3"]);
        let attempts = world.deliveries().await;
        let attempts: Vec<_> = attempts.iter().map(|it| it.attempts).collect();
        assert_eq!(attempts, [3, 1, 1]);
    }

    pub(super) async fn rate_is_kept_together_and_waiting_uses_no_attempts<H: EngineHarness>(
        harness: H,
    ) {
        let world = World::new(harness, [200; 0]);
        let settings = EndpointSettings {
            // One after another: a tenth of the limit is the burst.
            rate_limit: Some(RateLimit {
                limit: 6,
                per: seconds(60),
            }),
            ..EndpointSettings::default()
        };
        world.endpoint(settings).await;
        world.enqueue(5).await;
        let began = world.clock.now();
        // Both look at the same time.
        tokio::join!(world.step(&world.one), world.step(&world.two));
        assert!(world.sent() <= 1);
        world.pass(seconds(60)).await;
        let came = world.receiver.came.borrow().clone();
        let came: Vec<_> = came.iter().map(|at| at.since(began)).collect();
        assert_eq!(came, [0, 10, 20, 30, 40].map(seconds));
        assert_eq!(world.count(DeliveryStatus::Succeeded, 1).await, 5);
        assert_eq!(world.attempts().await, 5);
    }

    pub(super) async fn retry_after_holds_the_lane<H: EngineHarness>(harness: H) {
        let mut busy = Response::new(Bytes::new());
        *busy.status_mut() = http::StatusCode::TOO_MANY_REQUESTS;
        let wait = http::HeaderValue::from_static("120");
        busy.headers_mut().insert(http::header::RETRY_AFTER, wait);
        let world = World::new(harness, [busy]);
        world.endpoint(EndpointSettings::default()).await;
        world.enqueue(3).await;
        assert_eq!(world.step(&world.one).await, 1);
        world.pass(seconds(120) - INSTANT).await;
        assert_eq!(world.sent(), 1);
        assert_eq!(world.count(DeliveryStatus::Pending, 0).await, 2);
        // Up to a fifth more, so that not all come back at the same time.
        world.pass(seconds(24) + INSTANT).await;
        assert_eq!(world.count(DeliveryStatus::Succeeded, 1).await, 2);
        world.pass(DAY).await;
        assert_eq!(world.count(DeliveryStatus::Succeeded, 2).await, 1);
        assert_eq!(world.attempts().await, 4);
    }

    pub(super) async fn gone_disables_the_endpoint_and_the_host_is_told_once<H: EngineHarness>(
        harness: H,
    ) {
        let world = World::new(harness, [410]);
        let host = format!("https://{HOST}/in").parse().expect("a URL");
        let host = NewEndpoint::new(host).tenant(Tenant::new("system").expect("a name"));
        let created = world.one.endpoints().create(host).await;
        created.expect("an endpoint is stored");
        let endpoint = world.endpoint(EndpointSettings::default()).await;
        world.enqueue(3).await;
        assert_eq!(world.step(&world.one).await, 1);
        let found = world.two.endpoints().get(endpoint).await;
        let found = found.expect("it is there");
        let gone = (EndpointState::Disabled, Some(StateReason::Gone));
        assert_eq!((found.state, found.state_reason), gone);
        world.pass(A_WHILE).await;

        let sent = world.receiver.script.requests();
        assert_eq!(
            sent.len(),
            2,
            "the one that was refused, and what tells of it"
        );
        assert_eq!(sent[1].uri.host(), Some(HOST));
        let told: serde_json::Value = serde_json::from_slice(&sent[1].body).expect("JSON");
        assert_eq!(told["type"], "endpoint.disabled");
        assert_eq!(told["data"]["endpoint_id"], endpoint.to_string());
        assert_eq!(told["data"]["reason"], "gone");
        assert_eq!(world.count(DeliveryStatus::Pending, 0).await, 2, "are kept");
    }
}

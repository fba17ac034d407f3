//! Endpoints that fail: left alone, probed, and at last disabled.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use uuid::Uuid;
use webhook_core::testing::{Intercepted, Reply, ScriptedTransport, fast_forward};
use webhook_core::{
    BreakerPolicy, BreakerState, Clock as _, DeliveryStatus, Dispatcher, EndpointSettings,
    EndpointState, Health, MemoryStore, NewEndpoint, NewEvent, Notice, Scope, StateReason, Store,
    Tenant, Trip,
};

use crate::{DAY, World};

/// What observers heard of endpoints.
type Heard = Arc<Mutex<Vec<String>>>;

fn second(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Without jitter, and one attempt at a time in each step.
fn world(receiver: ScriptedTransport) -> (World, Heard) {
    let mut world = World::new(receiver);
    let heard = Heard::default();
    world.dispatcher = dispatcher(&world, &heard, 1);
    (world, heard)
}

fn dispatcher(world: &World, heard: &Heard, seed: u64) -> Dispatcher<MemoryStore> {
    let heard = Arc::clone(heard);
    Dispatcher::builder(world.store.clone())
        .transport(world.receiver.clone())
        .clock(world.clock.clone())
        .breaker(BreakerPolicy::default().jitter(0.0))
        .max_in_flight(1)
        .seed(seed)
        .observer(move |notice: &Notice<'_>| {
            let mut heard = heard.lock().unwrap();
            match notice {
                Notice::BreakerOpened { trips, by, .. } => {
                    heard.push(format!("opened {trips} {}", by.as_secs()));
                }
                Notice::BreakerClosed { .. } => heard.push("closed".to_owned()),
                Notice::EndpointFailing { .. } => heard.push("failing".to_owned()),
                Notice::EndpointDisabled { reason, .. } => {
                    heard.push(format!("disabled {}", reason.as_str()));
                }
                _ => {}
            }
        })
        .build()
        .unwrap()
}

fn heard(heard: &Heard) -> Vec<String> {
    std::mem::take(&mut *heard.lock().unwrap())
}

fn failures(count: usize) -> ScriptedTransport {
    ScriptedTransport::new(vec![500; count])
}

/// Attempts what is due, one after another.
async fn attempt_all(world: &World) {
    fast_forward(&world.dispatcher, &world.clock, Duration::ZERO)
        .await
        .unwrap();
}

async fn enqueue(world: &World, count: usize) {
    for _ in 0..count {
        world.enqueue().await;
    }
}

async fn health(world: &World, endpoint: Uuid) -> Health {
    let health = world.dispatcher.endpoints().health(&[endpoint]).await;
    health.unwrap().remove(&endpoint).unwrap_or_default()
}

async fn state(world: &World, endpoint: Uuid) -> (EndpointState, Option<StateReason>) {
    let endpoint = world.dispatcher.endpoints().get(endpoint).await.unwrap();
    (endpoint.state, endpoint.state_reason)
}

fn sent(world: &World) -> usize {
    world.receiver.requests().len()
}

#[tokio::test]
async fn ten_failures_in_a_row_open_the_breaker_and_the_rest_waits_without_attempts() {
    let (world, notices) = world(failures(10));
    let endpoint = world.endpoint(EndpointSettings::default()).await.id;
    enqueue(&world, 15).await;
    let began = world.clock.now();
    attempt_all(&world).await;
    assert_eq!(sent(&world), 10);
    assert_eq!(heard(&notices), ["opened 1 30"]);
    let open = Trip {
        trips: 1,
        opened_at: began,
        until: began + second(30),
    };
    let found = health(&world, endpoint).await;
    assert_eq!(found.breaker, BreakerState::Open(open));
    // Retries fall due meanwhile, after 5 s.
    fast_forward(
        &world.dispatcher,
        &world.clock,
        second(30) - Duration::from_micros(1),
    )
    .await
    .unwrap();
    assert_eq!(sent(&world), 10);
    let waiting = world.deliveries().await;
    let attempts: u32 = waiting.iter().map(|it| it.attempts).sum();
    assert_eq!(attempts, 10);
    assert!(
        waiting
            .iter()
            .all(|it| it.status == DeliveryStatus::Pending)
    );
}

#[tokio::test]
async fn a_probe_closes_the_breaker_and_all_goes_out() {
    let (world, notices) = world(failures(10));
    let endpoint = world.endpoint(EndpointSettings::default()).await.id;
    enqueue(&world, 15).await;
    attempt_all(&world).await;
    fast_forward(&world.dispatcher, &world.clock, second(30))
        .await
        .unwrap();
    assert_eq!(heard(&notices), ["opened 1 30", "closed"]);
    assert_eq!(health(&world, endpoint).await, Health::default());
    assert_eq!(sent(&world), 10 + 15);
    let all = world.deliveries().await;
    assert!(all.iter().all(|it| it.status == DeliveryStatus::Succeeded));
}

#[tokio::test]
async fn one_probe_goes_out_at_a_time_from_all_processes() {
    let (world, notices) = world(failures(10));
    world.endpoint(EndpointSettings::default()).await;
    enqueue(&world, 15).await;
    attempt_all(&world).await;
    world.clock.advance(second(30));
    // Of three processes that look at the same time, before any has recorded.
    let others = [2, 3].map(|seed| dispatcher(&world, &notices, seed));
    let queue = webhook_core::Store::queue(&world.store).unwrap();
    let options = webhook_core::ClaimOptions::new(10, second(60));
    let claimed = queue.claim(options, world.clock.pinned()).await.unwrap();
    assert_eq!(claimed.leases.len(), 1);
    for other in others.iter().chain([&world.dispatcher]) {
        assert_eq!(other.step().await.unwrap().claimed, 0);
    }
    assert_eq!(sent(&world), 10);
    // The one who took it has died.
    world.clock.advance(second(60));
    assert_eq!(others[0].step().await.unwrap().claimed, 1);
    assert_eq!(sent(&world), 11);
}

#[tokio::test]
async fn each_probe_that_fails_doubles_the_time() {
    let (world, notices) = world(failures(17));
    let settings = EndpointSettings {
        retry_schedule: Some(vec![second(1); 20]),
        ..EndpointSettings::default()
    };
    let endpoint = world.endpoint(settings).await.id;
    enqueue(&world, 10).await;
    attempt_all(&world).await;
    heard(&notices);
    for (trips, open) in [(2, 60), (3, 120), (4, 240), (5, 480), (6, 900), (7, 900)] {
        let BreakerState::Open(trip) = health(&world, endpoint).await.breaker else {
            panic!("it is open");
        };
        world.clock.set(trip.until);
        let before = sent(&world);
        attempt_all(&world).await;
        assert_eq!(sent(&world), before + 1);
        assert_eq!(heard(&notices), [format!("opened {trips} {open}")]);
    }
    fast_forward(&world.dispatcher, &world.clock, DAY)
        .await
        .unwrap();
    assert_eq!(heard(&notices), ["opened 8 900", "closed"]);
    assert_eq!(health(&world, endpoint).await, Health::default());
}

#[tokio::test]
async fn half_of_twenty_in_a_minute_open_it() {
    let (world, notices) = world(ScriptedTransport::new([200, 500].repeat(10)));
    let settings = EndpointSettings {
        retry_schedule: Some(vec![]),
        ..EndpointSettings::default()
    };
    world.endpoint(settings).await;
    enqueue(&world, 30).await;
    attempt_all(&world).await;
    assert_eq!(sent(&world), 20);
    assert_eq!(heard(&notices), ["opened 1 30"]);
}

#[tokio::test]
async fn a_probe_that_is_refused_for_what_it_is_closes_the_breaker() {
    let (world, notices) = world(failures(10));
    world.receiver.push(422);
    let endpoint = world.endpoint(EndpointSettings::default()).await.id;
    enqueue(&world, 10).await;
    attempt_all(&world).await;
    world.clock.advance(second(30));
    world.dispatcher.step().await.unwrap();
    assert_eq!(heard(&notices), ["opened 1 30", "closed"]);
    let health = health(&world, endpoint).await;
    assert!(health.failing_since.is_some(), "it has taken nothing yet");
}

#[tokio::test]
async fn a_probe_that_fails_through_us_leaves_it_half_open() {
    let (world, notices) = world(failures(10));
    world.receiver.push(Reply::Panic);
    let endpoint = world.endpoint(EndpointSettings::default()).await.id;
    enqueue(&world, 10).await;
    attempt_all(&world).await;
    heard(&notices);
    world.clock.advance(second(30));
    world.dispatcher.step().await.unwrap();
    assert_eq!(heard(&notices), [] as [&str; 0]);
    let found = health(&world, endpoint).await;
    assert!(matches!(found.breaker, BreakerState::HalfOpen(_)));
    world.dispatcher.step().await.unwrap();
    assert_eq!(heard(&notices), ["closed"], "the next one decides");
}

#[tokio::test]
async fn without_a_breaker_every_attempt_is_made() {
    let (mut world, _) = world(failures(30));
    world.dispatcher = Dispatcher::builder(world.store.clone())
        .transport(world.receiver.clone())
        .clock(world.clock.clone())
        .breaker(None)
        .build()
        .unwrap();
    world.endpoint(EndpointSettings::default()).await;
    enqueue(&world, 30).await;
    attempt_all(&world).await;
    assert_eq!(sent(&world), 30);
}

/// A host's endpoint of the system tenant: all that is sent there is a story told in types.
async fn host(world: &World) -> Uuid {
    let url = "https://host.example.com/hooks".parse().unwrap();
    let new = NewEndpoint::new(url).tenant(Tenant::new("system").unwrap());
    world.dispatcher.endpoints().create(new).await.unwrap().id
}

fn told(world: &World) -> Vec<serde_json::Value> {
    let requests = world.receiver.requests();
    let told = requests
        .iter()
        .filter(|it| it.uri.host() == Some("host.example.com"));
    told.map(|it| serde_json::from_slice(&it.body).unwrap())
        .collect()
}

/// Answers 500 to all but the host.
#[derive(Clone, Default)]
struct Down(ScriptedTransport);

#[async_trait::async_trait]
impl webhook_core::Transport for Down {
    async fn send(
        &self,
        request: http::Request<bytes::Bytes>,
    ) -> Result<http::Response<bytes::Bytes>, webhook_core::TransportError> {
        let is_host = request.uri().host() == Some("host.example.com");
        let mut response = self.0.send(request).await?;
        if !is_host {
            *response.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
        }
        Ok(response)
    }
}

/// One in which all endpoints are down but the host's, and an event comes each hour.
fn world_that_is_down() -> (World, Heard) {
    let (mut world, notices) = world(ScriptedTransport::default());
    let heard = Arc::clone(&notices);
    world.dispatcher = Dispatcher::builder(world.store.clone())
        .transport(Down(world.receiver.clone()))
        .clock(world.clock.clone())
        .breaker(None)
        .seed(1)
        .observer(move |notice: &Notice<'_>| match notice {
            Notice::EndpointFailing { .. } => heard.lock().unwrap().push("failing".to_owned()),
            Notice::EndpointDisabled { reason, .. } => {
                heard
                    .lock()
                    .unwrap()
                    .push(format!("disabled {}", reason.as_str()));
            }
            _ => {}
        })
        .build()
        .unwrap();
    (world, notices)
}

async fn hours(world: &World, count: u32) {
    for _ in 0..count {
        world.enqueue().await;
        fast_forward(&world.dispatcher, &world.clock, second(3_600))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn five_days_of_failures_disable_an_endpoint_and_the_host_is_told_half_way() {
    let (world, notices) = world_that_is_down();
    let host = host(&world).await;
    let endpoint = world.endpoint(EndpointSettings::default()).await;
    hours(&world, 59).await;
    assert_eq!(heard(&notices), [] as [&str; 0]);
    hours(&world, 3).await;
    assert_eq!(heard(&notices), ["failing"]);
    hours(&world, 56).await;
    assert_eq!(state(&world, endpoint.id).await.0, EndpointState::Enabled);
    hours(&world, 4).await;
    assert_eq!(heard(&notices), ["disabled failing"]);
    let disabled = (EndpointState::Disabled, Some(StateReason::Failing));
    assert_eq!(state(&world, endpoint.id).await, disabled);
    let (before, told) = (sent(&world), told(&world));
    hours(&world, 24).await;
    assert_eq!(sent(&world), before, "nothing more goes out");

    let types: Vec<_> = told.iter().map(|it| it["type"].clone()).collect();
    assert_eq!(types, ["endpoint.failing", "endpoint.disabled"]);
    let data = &told[1]["data"];
    assert_eq!(data["endpoint_id"], endpoint.id.to_string());
    assert_eq!(data["tenant"], "default");
    assert_eq!(data["url"], "https://hooks.example.com/in");
    assert_eq!(data["reason"], "failing");
    assert_eq!(data["since"], told[0]["data"]["since"]);
    assert_eq!(state(&world, host).await.0, EndpointState::Enabled);
}

#[tokio::test]
async fn a_success_begins_the_time_anew() {
    let (world, notices) = world_that_is_down();
    let endpoint = world.endpoint(EndpointSettings::default()).await;
    hours(&world, 100).await;
    assert_eq!(heard(&notices), ["failing"]);
    let healthy = dispatcher(&world, &notices, 2);
    world.enqueue().await;
    healthy.step().await.unwrap();
    assert_eq!(health(&world, endpoint.id).await, Health::default());
    hours(&world, 50).await;
    assert_eq!(heard(&notices), [] as [&str; 0]);
    assert_eq!(state(&world, endpoint.id).await.0, EndpointState::Enabled);
}

/// What was under way while it recovered comes too late to disable it, and keeps nothing else back.
#[tokio::test]
async fn one_that_has_recovered_gets_the_rest_at_once_whoever_would_disable_it() {
    let (world, notices) = world_that_is_down();
    let endpoint = world.endpoint(EndpointSettings::default()).await.id;
    hours(&world, 118).await;
    world.clock.advance(second(10 * 3_600));
    heard(&notices);
    let store = world.store.clone();
    let late = Intercepted::new(world.store.clone(), move |operation| {
        let store = store.clone();
        async move {
            if operation == "record" {
                store.recover_endpoint(&Scope::All, endpoint).await?;
            }
            Ok(())
        }
    });
    let late = Dispatcher::builder(late)
        .transport(Down(world.receiver.clone()))
        .clock(world.clock.clone())
        .breaker(None)
        .max_in_flight(1)
        .build()
        .unwrap();
    enqueue(&world, 3).await;
    assert_eq!(late.step().await.unwrap().claimed, 1);
    assert_eq!(state(&world, endpoint).await.0, EndpointState::Enabled);
    let healthy = dispatcher(&world, &notices, 2);
    fast_forward(&healthy, &world.clock, Duration::ZERO)
        .await
        .unwrap();
    let untried = world.deliveries().await;
    let untried = untried.iter().filter(|it| it.attempts == 0);
    assert_eq!(untried.count(), 0);
}

#[tokio::test]
async fn one_that_was_disabled_and_is_enabled_begins_anew() {
    let (world, notices) = world_that_is_down();
    let endpoint = world.endpoint(EndpointSettings::default()).await.id;
    hours(&world, 122).await;
    heard(&notices);
    let set = async |state| {
        let endpoints = world.dispatcher.endpoints();
        endpoints
            .update(endpoint, |it| it.state = state)
            .await
            .unwrap();
    };
    let before = sent(&world);
    set(EndpointState::Enabled).await;
    assert_eq!(health(&world, endpoint).await, Health::default());
    hours(&world, 1).await;
    assert!(sent(&world) > before);
    assert_eq!(state(&world, endpoint).await.0, EndpointState::Enabled);
}

#[tokio::test]
async fn gone_is_told_too_and_what_tells_of_it_tells_nothing_of_itself() {
    let (world, notices) = world(ScriptedTransport::new([410, 410]));
    let host = host(&world).await;
    let endpoint = world.endpoint(EndpointSettings::default()).await.id;
    world.enqueue().await;
    attempt_all(&world).await;
    let told = told(&world);
    assert_eq!(told.len(), 1);
    assert_eq!(told[0]["type"], "endpoint.disabled");
    assert_eq!(told[0]["data"]["reason"], "gone");
    assert_eq!(told[0]["data"]["endpoint_id"], endpoint.to_string());
    // The host's endpoint answered 410 as well.
    assert_eq!(state(&world, host).await.0, EndpointState::Disabled);
    assert_eq!(heard(&notices), ["disabled gone", "disabled gone"]);
    assert_eq!(world.deliveries().await.len(), 2);
}

#[tokio::test]
async fn a_host_can_name_its_tenant() {
    let (mut world, _) = world(ScriptedTransport::new([410]));
    let ops = Tenant::new("ops").unwrap();
    world.dispatcher = Dispatcher::builder(world.store.clone())
        .transport(world.receiver.clone())
        .clock(world.clock.clone())
        .system_tenant(ops.clone())
        .build()
        .unwrap();
    let url = "https://host.example.com/hooks".parse().unwrap();
    let new = NewEndpoint::new(url).tenant(ops);
    world.dispatcher.endpoints().create(new).await.unwrap();
    world.endpoint(EndpointSettings::default()).await;
    world.enqueue().await;
    attempt_all(&world).await;
    assert_eq!(told(&world).len(), 1);
}

#[tokio::test]
async fn enabling_closes_the_breaker_and_all_goes_out_at_once() {
    let (world, _) = world(failures(10));
    let endpoint = world.endpoint(EndpointSettings::default()).await.id;
    enqueue(&world, 15).await;
    attempt_all(&world).await;
    assert_eq!(sent(&world), 10);
    let endpoints = world.dispatcher.endpoints();
    let recovered = endpoints.update(endpoint, |it| it.recover = true);
    recovered.await.unwrap();
    assert_eq!(health(&world, endpoint).await, Health::default());
    attempt_all(&world).await;
    assert_eq!(sent(&world), 15);
}

/// Another process changes the endpoint: no attempt begins after that.
async fn stops(change: EndpointState) {
    let (world, notices) = world(ScriptedTransport::default());
    let other = dispatcher(&world, &notices, 2);
    let endpoint = world.endpoint(EndpointSettings::default()).await.id;
    enqueue(&world, 5).await;
    other.step().await.unwrap();
    assert_eq!(sent(&world), 1);
    let set = async |state| {
        let endpoints = world.dispatcher.endpoints();
        let set = endpoints.update(endpoint, |it| it.state = state);
        set.await.unwrap();
    };
    set(change).await;
    fast_forward(&other, &world.clock, DAY).await.unwrap();
    assert_eq!(sent(&world), 1);
    let waiting = world.deliveries().await;
    let waiting = waiting
        .iter()
        .filter(|it| (it.status, it.attempts) == (DeliveryStatus::Pending, 0));
    assert_eq!(waiting.count(), 4, "they are kept");
    set(EndpointState::Enabled).await;
    fast_forward(&other, &world.clock, second(1)).await.unwrap();
    assert_eq!(sent(&world), 5);
}

#[tokio::test]
async fn a_paused_endpoint_gets_nothing_from_any_process_until_it_is_enabled() {
    stops(EndpointState::Paused).await;
}

#[tokio::test]
async fn a_disabled_endpoint_gets_nothing_from_any_process_until_it_is_enabled() {
    stops(EndpointState::Disabled).await;
}

#[tokio::test]
async fn a_deleted_endpoint_gets_nothing_more_and_its_deliveries_are_cancelled() {
    let (world, notices) = world(ScriptedTransport::default());
    let other = dispatcher(&world, &notices, 2);
    let endpoint = world.endpoint(EndpointSettings::default()).await.id;
    enqueue(&world, 3).await;
    world.dispatcher.endpoints().delete(endpoint).await.unwrap();
    fast_forward(&other, &world.clock, DAY).await.unwrap();
    assert_eq!(sent(&world), 0);
    let all = world.deliveries().await;
    assert!(all.iter().all(|it| it.status == DeliveryStatus::Cancelled));
}

#[tokio::test]
async fn beside_a_queue_that_forgets_an_open_breaker_stays_open() {
    let queue = webhook_core::MemoryQueue::default();
    let (mut world, notices) = world(failures(11));
    let heard_of = Arc::clone(&notices);
    world.dispatcher = Dispatcher::builder(world.store.clone())
        .queue(queue.clone())
        .transport(world.receiver.clone())
        .clock(world.clock.clone())
        .breaker(BreakerPolicy::default().jitter(0.0))
        .max_in_flight(1)
        .seed(1)
        .observer(move |notice: &Notice<'_>| {
            if let Notice::BreakerOpened { by, .. } = notice {
                heard_of.lock().unwrap().push(format!("{}", by.as_secs()));
            }
        })
        .build()
        .unwrap();
    world.endpoint(EndpointSettings::default()).await;
    enqueue(&world, 12).await;
    attempt_all(&world).await;
    assert_eq!(sent(&world), 10);
    queue.erase();
    fast_forward(&world.dispatcher, &world.clock, second(29))
        .await
        .unwrap();
    assert_eq!(sent(&world), 10);
    assert_eq!(heard(&notices), ["30"]);
    fast_forward(&world.dispatcher, &world.clock, second(60))
        .await
        .unwrap();
    assert_eq!(sent(&world), 11, "the probe, which failed");
    assert_eq!(heard(&notices), ["60"]);
    fast_forward(&world.dispatcher, &world.clock, DAY)
        .await
        .unwrap();
    assert_eq!(sent(&world), 11 + 12);
}

/// After an outage of all endpoints nothing rushes: they come back one after another, each with one attempt first.
#[tokio::test]
async fn after_an_outage_of_all_endpoints_they_come_back_one_by_one() {
    let (store, clock) = (
        MemoryStore::new(),
        webhook_core::testing::ManualClock::default(),
    );
    let receiver = failures(10 * 20);
    let dispatcher = Dispatcher::builder(store)
        .transport(receiver.clone())
        .clock(clock.clone())
        .max_in_flight(1)
        .seed(7)
        .build()
        .unwrap();
    let tenant = |n: u32| Tenant::new(&format!("t{n}")).unwrap();
    for n in 0..20 {
        let url = format!("https://hooks.example.com/{n}").parse().unwrap();
        let new = NewEndpoint::new(url).tenant(tenant(n));
        dispatcher.endpoints().create(new).await.unwrap();
        for _ in 0..12 {
            let event = NewEvent::data("order.paid", "1").unwrap();
            dispatcher.enqueue(event.tenant(tenant(n))).await.unwrap();
        }
    }
    fast_forward(&dispatcher, &clock, Duration::ZERO)
        .await
        .unwrap();
    assert_eq!(receiver.requests().len(), 200, "all are open");
    let mut first_at = Vec::new();
    let mut seen = 200;
    let began = clock.now();
    while first_at.len() < 20 {
        clock.advance(Duration::from_millis(10));
        while dispatcher.step().await.unwrap().claimed > 0 {}
        let requests = receiver.requests();
        for request in &requests[seen..] {
            if !first_at.iter().any(|(uri, _)| *uri == request.uri) {
                first_at.push((request.uri.clone(), clock.now()));
            }
        }
        seen = requests.len();
    }
    let times: Vec<_> = first_at.iter().map(|(_, at)| at.since(began)).collect();
    assert!(
        times
            .iter()
            .all(|at| (second(30)..=second(37)).contains(at))
    );
    let mut apart = times.clone();
    apart.dedup();
    assert!(apart.len() > 15, "not at the same time: {times:?}");
}

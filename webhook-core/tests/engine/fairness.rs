//! One endpoint's trouble does not become another's.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use tokio::sync::oneshot;
use webhook_core::testing::ManualClock;
use webhook_core::{
    Clock as _, Dispatcher, EndpointSettings, MemoryStore, NewEndpoint, NewEvent, Tenant,
    Transport, TransportError,
};

use crate::until;

const SLOTS: usize = 8;
const TIMEOUT: Duration = Duration::from_secs(15);
/// Most of our time.
const LATE: Duration = Duration::from_secs(10);

/// More than most receivers take, and far from hanging.
const UNHURRIED: Duration = Duration::from_secs(2);

/// Some hosts answer at once, some slowly, one late, the others never.
#[derive(Clone, Default)]
struct Network {
    clock: ManualClock,
    answered: Arc<AtomicUsize>,
    hanging: Arc<AtomicUsize>,
    has_hung: Arc<AtomicUsize>,
}

/// Counts until its request is given up.
struct Hanging(Arc<AtomicUsize>);

impl Drop for Hanging {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Network {
    fn hanging(&self) -> usize {
        self.hanging.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Transport for Network {
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, TransportError> {
        if request.uri().host() == Some("well.example.com") {
            self.answered.fetch_add(1, Ordering::SeqCst);
            return Ok(Response::new(Bytes::new()));
        }
        self.has_hung.fetch_add(1, Ordering::SeqCst);
        self.hanging.fetch_add(1, Ordering::SeqCst);
        let _hanging = Hanging(Arc::clone(&self.hanging));
        let answers_after = match request.uri().host() {
            Some("unhurried.example.com") => Some(UNHURRIED),
            Some("slow.example.com") => Some(LATE),
            _ => None,
        };
        if let Some(time) = answers_after {
            self.clock.sleep(time).await;
            self.answered.fetch_add(1, Ordering::SeqCst);
            return Ok(Response::new(Bytes::new()));
        }
        std::future::pending().await
    }
}

fn event(tenant: &str) -> NewEvent {
    let event = NewEvent::data("order.paid", "1").unwrap();
    event.tenant(Tenant::new(tenant).unwrap())
}

async fn endpoint(dispatcher: &Dispatcher, tenant: &str, host: &str) {
    let url = format!("https://{host}/in").parse().unwrap();
    let new = NewEndpoint::new(url).tenant(Tenant::new(tenant).unwrap());
    dispatcher.endpoints().create(new).await.unwrap();
}

#[tokio::test]
async fn endpoints_that_hang_leave_most_slots_to_the_others() {
    let (network, clock) = (Network::default(), ManualClock::default());
    let dispatcher = Dispatcher::builder(MemoryStore::new())
        .transport(network.clone())
        .clock(clock.clone())
        .request_timeout(TIMEOUT)
        .max_in_flight(SLOTS)
        .seed(1)
        .build()
        .unwrap();
    for _ in 0..12 {
        endpoint(&dispatcher.erase(), "hung", "hung.example.com").await;
    }
    endpoint(&dispatcher.erase(), "well", "well.example.com").await;
    let (stop, stopped) = oneshot::channel::<()>();
    let worker = dispatcher.clone();
    let worker =
        tokio::spawn(async move { worker.run(async { stopped.await.unwrap_or(()) }).await });
    for _ in 0..20 {
        dispatcher.enqueue(event("hung")).await.unwrap();
    }
    // Until each of them is known to hang.
    while network.has_hung.load(Ordering::SeqCst) < 4 * SLOTS {
        clock.advance(TIMEOUT + Duration::from_secs(2));
        for _ in 0..500 {
            tokio::task::yield_now().await;
        }
    }
    until(|| network.hanging() == SLOTS / 4).await;
    for n in 1..=100 {
        dispatcher.enqueue(event("well")).await.unwrap();
        // The clock stands still: nothing else comes free.
        until(|| network.answered.load(Ordering::SeqCst) == n).await;
        assert!(network.hanging() <= SLOTS / 4);
    }
    stop.send(()).ok();
    while !worker.is_finished() {
        clock.advance(TIMEOUT);
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_endpoint_that_allows_itself_more_time_and_slots_hangs_as_the_others() {
    let clock = ManualClock::default();
    let network = Network {
        clock: clock.clone(),
        ..Network::default()
    };
    let dispatcher = Dispatcher::builder(MemoryStore::new())
        .transport(network.clone())
        .clock(clock.clone())
        .request_timeout(TIMEOUT)
        .max_in_flight(SLOTS)
        .seed(1)
        .build()
        .unwrap();
    let greedy = EndpointSettings {
        timeout: Some(4 * TIMEOUT),
        max_in_flight: Some(1_000),
        ..EndpointSettings::default()
    };
    let url = "https://slow.example.com/in".parse().unwrap();
    let new = NewEndpoint::with_settings(url, greedy);
    dispatcher.endpoints().create(new).await.unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let worker = dispatcher.clone();
    let worker =
        tokio::spawn(async move { worker.run(async { stopped.await.unwrap_or(()) }).await });
    for _ in 0..40 {
        let event = NewEvent::data("order.paid", "1").unwrap();
        dispatcher.enqueue(event).await.unwrap();
    }
    // It succeeds again and again.
    while network.answered.load(Ordering::SeqCst) < 20 {
        clock.advance(LATE);
        for _ in 0..500 {
            tokio::task::yield_now().await;
        }
        assert!(network.hanging() <= SLOTS / 4);
    }
    stop.send(()).ok();
    while !worker.is_finished() {
        clock.advance(LATE);
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn endpoints_that_answer_slowly_leave_slots_to_the_quick_ones() {
    let clock = ManualClock::default();
    let network = Network {
        clock: clock.clone(),
        ..Network::default()
    };
    let dispatcher = Dispatcher::builder(MemoryStore::new())
        .transport(network.clone())
        .clock(clock.clone())
        .request_timeout(TIMEOUT)
        .max_in_flight(SLOTS)
        .seed(1)
        .build()
        .unwrap();
    for _ in 0..4 {
        endpoint(&dispatcher.erase(), "slow", "unhurried.example.com").await;
    }
    endpoint(&dispatcher.erase(), "well", "well.example.com").await;
    let (stop, stopped) = oneshot::channel::<()>();
    let worker = dispatcher.clone();
    let worker =
        tokio::spawn(async move { worker.run(async { stopped.await.unwrap_or(()) }).await });
    for _ in 0..40 {
        dispatcher.enqueue(event("slow")).await.unwrap();
    }
    // Each of them has shown that it could take more than all slots.
    while network.answered.load(Ordering::SeqCst) < 60 {
        clock.advance(UNHURRIED);
        for _ in 0..500 {
            tokio::task::yield_now().await;
        }
    }
    until(|| network.hanging() == SLOTS - 1).await;
    let answered = network.answered.load(Ordering::SeqCst);
    for n in 1..=100 {
        dispatcher.enqueue(event("well")).await.unwrap();
        // The clock stands still: nothing else comes free.
        until(|| network.answered.load(Ordering::SeqCst) == answered + n).await;
    }
    assert_eq!(network.hanging(), SLOTS - 1);
    stop.send(()).ok();
    while !worker.is_finished() {
        clock.advance(TIMEOUT);
        tokio::task::yield_now().await;
    }
}

//! What the engine does, seen from a host: with the clock, the network and the store in the test's hands.

#![allow(clippy::unwrap_used, reason = "all of it is tests")]

mod audit;
mod breaking;
#[cfg(feature = "schemas")]
mod catalogue;
mod delivering;
mod enqueueing;
mod erasing;
mod fairness;
mod managing;
mod repairing;
mod replaying;
mod running;
mod spans;
mod stats;
mod testing;
mod trouble;

use std::time::Duration;

use webhook_core::testing::{ManualClock, ScriptedTransport};
use webhook_core::{
    Delivery, DeliveryFilter, Dispatcher, Endpoint, EndpointSettings, MemoryStore, NewEndpoint,
    NewEvent, PageRequest,
};

const DAY: Duration = Duration::from_secs(86_400);

/// A dispatcher on memory with everything in the test's hands.
struct World {
    dispatcher: Dispatcher<MemoryStore>,
    store: MemoryStore,
    clock: ManualClock,
    receiver: ScriptedTransport,
}

impl World {
    fn new(receiver: ScriptedTransport) -> Self {
        let (store, clock) = (MemoryStore::new(), ManualClock::default());
        let dispatcher = Dispatcher::builder(store.clone())
            .transport(receiver.clone())
            .clock(clock.clone())
            .seed(1)
            .build()
            .unwrap();
        Self {
            dispatcher,
            store,
            clock,
            receiver,
        }
    }

    async fn endpoint(&self, settings: EndpointSettings) -> Endpoint {
        create_endpoint(&self.dispatcher.erase(), settings).await
    }

    async fn deliveries(&self) -> Vec<Delivery> {
        deliveries(&self.dispatcher.erase()).await
    }

    /// As many deliveries, newest first.
    async fn store_deliveries(&self, count: usize) -> Vec<Delivery> {
        let (filter, page) = (DeliveryFilter::default(), PageRequest::first(count));
        let deliveries = self.dispatcher.deliveries();
        deliveries.list(&filter, page).await.unwrap().items
    }

    /// Enqueues one event and returns its id.
    async fn enqueue(&self) -> uuid::Uuid {
        self.dispatcher.enqueue(event()).await.unwrap()
    }
}

async fn create_endpoint(dispatcher: &Dispatcher, settings: EndpointSettings) -> Endpoint {
    let url = "https://hooks.example.com/in".parse().unwrap();
    let new = NewEndpoint::with_settings(url, settings);
    dispatcher.endpoints().create(new).await.unwrap()
}

async fn deliveries(dispatcher: &Dispatcher) -> Vec<Delivery> {
    let page = PageRequest::first(1_000);
    dispatcher
        .deliveries()
        .list(&DeliveryFilter::default(), page)
        .await
        .unwrap()
        .items
}

fn event() -> NewEvent {
    NewEvent::data("order.paid", r#"{"order":7}"#).unwrap()
}

/// Lets other tasks of this thread go on until `done`, or fails: no time is involved.
async fn until(done: impl Fn() -> bool) {
    for _ in 0..10_000 {
        if done() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("it never came to that");
}

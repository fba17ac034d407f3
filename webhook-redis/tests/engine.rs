//! The engine beside a queue that loses everything while it runs.

mod support;

use std::collections::HashSet;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use support::server::{address, command, erase};
use support::{Standalone, prefix, url};
use tokio::sync::{oneshot, watch};
use webhook_core::testing::{ManualClock, ScriptedTransport};
use webhook_core::{
    Clock as _, Dispatcher, MemoryStore, NewEndpoint, NewEvent, Queue, Tenant, Transport,
    TransportError,
};
use webhook_redis::RedisQueue;

/// A receiver that is always well, and knows which events it has got.
#[derive(Clone)]
struct Receiver(watch::Sender<HashSet<HeaderValue>>);

impl Receiver {
    async fn has_got(&self, count: usize) {
        let mut got = self.0.subscribe();
        let enough = got.wait_for(|got| got.len() >= count).await;
        enough.expect("the receiver is there");
    }
}

#[async_trait]
impl Transport for Receiver {
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, TransportError> {
        let id = request.headers().get("webhook-id").cloned();
        self.0.send_modify(|got| got.extend(id));
        Ok(Response::new(Bytes::new()))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_redis_loses_is_delivered_all_the_same() {
    let (url, prefix) = (url::<Standalone>(), prefix());
    let queue = RedisQueue::builder(&url)
        .key_prefix(&prefix)
        .connect()
        .await;
    let receiver = Receiver(watch::Sender::new(HashSet::new()));
    let dispatcher = Dispatcher::builder(MemoryStore::new())
        .queue(queue.expect("the address is a Redis URL"))
        .transport(receiver.clone())
        .build()
        .expect("all settings are valid");
    let endpoint = NewEndpoint::new("https://hooks.example.com/in".parse().expect("a URL"));
    dispatcher
        .endpoints()
        .create(endpoint)
        .await
        .expect("creates");
    let enqueue = async |count: usize| {
        for n in 0..count {
            let event = NewEvent::data("order.paid", n.to_string()).expect("valid");
            dispatcher.enqueue(event).await.expect("is stored");
        }
    };

    let (stop, stopped) = oneshot::channel::<()>();
    let running = dispatcher.run(async { _ = stopped.await });
    let lose_and_stop = async {
        enqueue(200).await;
        receiver.has_got(50).await;
        erase(&address(&url), &prefix).await;
        enqueue(100).await;
        erase(&address(&url), &prefix).await;
        receiver.has_got(300).await;
        stop.send(()).expect("it runs");
    };
    tokio::join!(running, lose_and_stop);
}

#[tokio::test]
async fn keys_that_redis_loses_unnoticed_come_back_within_the_stated_time() {
    let (url, prefix) = (url::<Standalone>(), prefix());
    let queue = RedisQueue::builder(&url).key_prefix(&prefix);
    let queue = queue.connect().await.expect("a Redis URL");
    let (clock, receiver) = (ManualClock::default(), ScriptedTransport::default());
    let dispatcher = Dispatcher::builder(MemoryStore::new())
        .queue(queue.clone())
        .transport(receiver.clone())
        .clock(clock.clone())
        .build()
        .expect("all settings are valid");
    let tenant = |n: usize| Tenant::new(&format!("tenant-{n}")).expect("a valid name");
    let mut lanes = Vec::new();
    for n in 0..5 {
        let endpoint = NewEndpoint::new("https://hooks.example.com/in".parse().expect("a URL"));
        let endpoint = endpoint.tenant(tenant(n));
        lanes.push(
            dispatcher
                .endpoints()
                .create(endpoint)
                .await
                .expect("creates")
                .id,
        );
    }
    let event = || NewEvent::data("order.paid", "1").expect("valid");
    let later = clock.now() + Duration::from_secs(86_400);
    for n in 0..2_500 {
        let parked = event().tenant(tenant(n % 5)).deliver_at(later);
        dispatcher.enqueue(parked).await.expect("is stored");
    }
    let tick = async || {
        clock.advance(Duration::from_secs(1));
        dispatcher
            .enqueue(event().tenant(tenant(0)))
            .await
            .expect("is stored");
        dispatcher.step().await.expect("the servers answer");
        let depth = queue.depth(Some(clock.now())).await.expect("counts");
        depth.parked == 2_500
    };
    while !tick().await || dispatcher.audit_round().is_none() {}
    for (n, lane) in lanes.iter().enumerate() {
        // A single job, or all of a lane.
        let mut key = format!("{{{prefix}:0/1}}:waiting:").into_bytes();
        key.extend_from_slice(lane.as_bytes());
        let lose: &[&[u8]] = match n % 2 {
            0 => &[b"ZPOPMAX", &key],
            _ => &[b"DEL", &key],
        };
        command(&address(&url), &[lose]).await;
        let began = clock.now();
        while !tick().await {}
        let (took, stated) = (clock.now().since(began), dispatcher.audit_round());
        assert!(
            stated.is_some_and(|stated| took <= stated),
            "{took:?}, not {stated:?}"
        );
        // So that they are lost at different places of the round.
        for _ in 0..7 {
            tick().await;
        }
    }
}

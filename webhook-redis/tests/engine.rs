//! The engine beside a queue that loses everything while it runs.

mod support;

use std::collections::HashSet;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use support::server::{address, erase};
use support::{Standalone, prefix, url};
use tokio::sync::{oneshot, watch};
use webhook_core::{Dispatcher, MemoryStore, NewEndpoint, NewEvent, Transport, TransportError};
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

//! What goes out, through layers of the host's own: tracing headers, metrics, a budget.
//!
//! `cargo run --example layers --features tower`
//!
//! Any `tower` service can be the transport. Put the guarded one inside, and the layers around it: they see
//! and change each request, and none of them can make it go where the network policy forbids.

use std::net::Ipv4Addr;
use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Request};
use axum::routing::post;
use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tower::ServiceBuilder;
use tower_http::set_header::SetRequestHeaderLayer;
use webhook_delivery::{
    Dispatcher, HttpTransport, MemoryStore, NetworkPolicy, NewEndpoint, NewEvent, ServiceTransport,
    Transport, TransportService,
};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Result<()> {
    // Only public https addresses, unless set. This is for the receiver below; leave it out in production.
    let policy = NetworkPolicy::builder()
        .allow_http(true)
        .allow_networks(["127.0.0.0/8".parse()?])
        .build();

    // 1. The layers, and inside of them the transport that keeps to the policy.
    let guarded = HttpTransport::builder().policy(policy.clone()).build()?;
    let service = ServiceBuilder::new()
        .layer(SetRequestHeaderLayer::overriding(
            HeaderName::from_static("x-region"),
            HeaderValue::from_static("eu-1"),
        ))
        .service(TransportService::new(Arc::new(guarded)));
    let transport = ServiceTransport::new(service.clone());

    // 2. The dispatcher. It judges URLs by the same policy, when an endpoint is created and at each attempt.
    let dispatcher = Dispatcher::builder(MemoryStore::new())
        .network_policy(policy)
        .transport(transport)
        .build()?;

    // 3. An event, to a receiver that tells of each request's headers.
    let (url, mut received) = receiver().await?;
    let endpoint = NewEndpoint::new(url.parse()?);
    dispatcher.endpoints().create(endpoint).await?;
    let order = serde_json::json!({"order": 7});
    dispatcher
        .enqueue(NewEvent::json("order.paid", &order)?)
        .await?;
    let (stop, stopped) = oneshot::channel::<()>();
    let worker = dispatcher.clone();
    let running =
        tokio::spawn(async move { worker.run(async { stopped.await.unwrap_or(()) }).await });
    let headers = received.recv().await.ok_or("the receiver has ended")?;
    for name in ["x-region", "webhook-id", "webhook-signature"] {
        let value = headers
            .get(name)
            .map_or("-", |it| it.to_str().unwrap_or("?"));
        println!("{name}: {value}");
    }
    stop.send(()).ok();
    running.await?;

    // 4. The guard is still there, whoever asks.
    let request = Request::post("http://169.254.169.254/latest/meta-data/").body(Bytes::new())?;
    match ServiceTransport::new(service).send(request).await {
        Ok(answer) => Err(format!("a metadata service answered {}", answer.status()).into()),
        Err(error) => {
            println!("169.254.169.254: {error}");
            Ok(())
        }
    }
}

/// Where a receiver listens, and the headers of what it gets.
async fn receiver() -> Result<(String, mpsc::UnboundedReceiver<HeaderMap>)> {
    let (tell, received) = mpsc::unbounded_channel();
    let app = Router::new().route(
        "/in",
        post(move |headers: HeaderMap| async move {
            tell.send(headers).ok();
        }),
    );
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let url = format!("http://{}/in", listener.local_addr()?);
    tokio::spawn(axum::serve(listener, app).into_future());
    Ok((url, received))
}

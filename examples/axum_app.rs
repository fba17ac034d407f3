//! A shop that tells its customers about their orders: how a service embeds the engine.
//!
//! `cargo run --example axum_app`, and in a second terminal the commands that it prints.
//!
//! Four things make a service send webhooks: a dispatcher, a call of `enqueue` where something happens, the
//! management API mounted into the service's own router, and a worker that runs as long as the service does.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use webhook_delivery::{Auth, Dispatcher, MemoryStore, NetworkPolicy, NewEvent};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// The shop's own state. A dispatcher is cheap to clone: it goes wherever it is needed.
#[derive(Clone)]
struct Shop {
    dispatcher: Dispatcher,
    orders: Arc<AtomicU64>,
}

#[tokio::main]
async fn main() -> Result<()> {
    // 1. The dispatcher. `MemoryStore` keeps events as long as this process lives.
    let dispatcher = Dispatcher::builder(MemoryStore::new())
        // Only public https addresses, unless set. This is for the receiver on this machine; leave it
        // out in production.
        .network_policy(
            NetworkPolicy::builder()
                .allow_http(true)
                .allow_networks(["127.0.0.0/8".parse()?])
                .build(),
        )
        .build()?
        // Without its store's type: what handlers and routers hold.
        .erase();

    // 2. The shop's router, with the engine's HTTP API below /webhooks. Who may call it must be said;
    //    `Auth::custom` asks the service's own sessions, and can narrow callers to their tenant.
    let token = std::env::var("WEBHOOKS_TOKEN").unwrap_or_else(|_| "for-trials-only".to_owned());
    let shop = Shop {
        dispatcher: dispatcher.clone(),
        orders: Arc::default(),
    };
    let auth = Auth::bearer(token.as_str())?;
    let app = Router::new()
        .route("/orders", post(place_order))
        .nest(
            "/webhooks",
            webhook_delivery::router(dispatcher.clone(), auth),
        )
        .with_state(shop);

    // 3. The worker. It returns once `stopping` is cancelled and the attempts under way are recorded.
    let stopping = CancellationToken::new();
    let worker = tokio::spawn({
        let stopping = stopping.clone();
        async move { dispatcher.run(stopping.cancelled_owned()).await }
    });

    // 4. The server, until ctrl-c or SIGTERM. It ends before the worker, which delivers meanwhile.
    let port = std::env::var("PORT").map_or(Ok(3000), |port| port.parse())?;
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?;
    print_commands(listener.local_addr()?, &token);
    axum::serve(listener, app)
        .with_graceful_shutdown(shutdown_asked())
        .await?;
    stopping.cancel();
    worker.await?;
    println!("stopped");
    Ok(())
}

/// The body of `POST /orders`.
#[derive(Deserialize)]
struct Order {
    item: String,
    total: u32,
}

/// The answer.
#[derive(Serialize)]
struct Placed {
    order: u64,
    event_id: String,
}

/// Places an order, and tells whoever wants to know. Nothing is sent here: the request's time does not
/// depend on any receiver.
async fn place_order(
    State(shop): State<Shop>,
    Json(Order { item, total }): Json<Order>,
) -> std::result::Result<(StatusCode, Json<Placed>), StatusCode> {
    let order = shop.orders.fetch_add(1, Ordering::Relaxed) + 1;
    let data = json!({"order": order, "item": item, "total": total});
    let event = NewEvent::json("order.placed", &data)
        // Should this code run twice for one order, it is one event all the same.
        .and_then(|event| event.idempotency_key(&format!("order-{order}-placed")))
        .map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    match shop.dispatcher.enqueue(event).await {
        Ok(id) => {
            let event_id = id.to_string();
            Ok((StatusCode::CREATED, Json(Placed { order, event_id })))
        }
        Err(error) => {
            eprintln!("order {order} was not announced: {error}");
            Err(StatusCode::SERVICE_UNAVAILABLE)
        }
    }
}

/// Ready once the process is asked to stop.
async fn shutdown_asked() {
    let terminate = async {
        match signal(SignalKind::terminate()) {
            Ok(mut asked) => drop(asked.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminate => {}
    }
}

fn print_commands(address: SocketAddr, token: &str) {
    let secret = "whsec_dGhpcyBzZWNyZXQgaXMgZm9yIHRyaWFscyBvbmx5";
    println!(
        "\
listening on http://{address}

1. A receiver, in a second terminal:
   cargo run --example receiver -- --port 4000 --secret {secret}

2. Its endpoint, with the same secret (without one, a secret is made and answered):
   curl http://{address}/webhooks/endpoints -H 'authorization: Bearer {token}' \\
     -H 'content-type: application/json' \\
     -d '{{\"url\": \"http://127.0.0.1:4000/\", \"event_types\": [\"order.*\"], \"secret\": \"{secret}\"}}'

3. An order:
   curl http://{address}/orders -H 'content-type: application/json' \\
     -d '{{\"item\": \"tea\", \"total\": 12}}'

4. What became of it:
   curl http://{address}/webhooks/deliveries -H 'authorization: Bearer {token}'

Stop with ctrl-c."
    );
}

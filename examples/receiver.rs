//! A service that takes webhooks: verifies each, handles each event once, prints it.
//!
//! `cargo run --example receiver -- --secret whsec_…` (or `WEBHOOK_SECRET=whsec_…`), with the secret that
//! creating the endpoint answered.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::routing::post;
use clap::Parser;
use serde::Deserialize;
use serde_json::Value;
use tokio::net::TcpListener;
use webhook_delivery::{
    Deduplicate, MemoryDeduplicator, MemoryReplayGuard, Receiver, Verified, Verifier, VerifyingKey,
    deduplicate,
};

/// Takes webhooks at / on loopback, and prints them.
#[derive(Parser)]
struct Options {
    /// The endpoint's secret; during a rotation the old and the new one, with a comma between.
    #[arg(
        long,
        env = "WEBHOOK_SECRET",
        hide_env_values = true,
        value_delimiter = ',',
        required = true
    )]
    secret: Vec<VerifyingKey>,
    /// Where to listen; 0 takes a free port.
    #[arg(long, env = "PORT", default_value_t = 4000)]
    port: u16,
}

/// What of the body this service wants to know.
#[derive(Deserialize)]
struct Event {
    #[serde(rename = "type")]
    event_type: String,
    data: Value,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::parse();

    // Who signs. A change of secrets needs no downtime: both are accepted meanwhile.
    let mut keys = options.secret.into_iter();
    let first = keys.next().ok_or("no secret")?;
    let verifier = keys.fold(Verifier::new(first), Verifier::also);

    // A copy of a request that somebody recorded is refused; a sender's own retry is not a copy.
    let receiver = Receiver::builder(verifier)
        .replay_guard(MemoryReplayGuard::new(100_000))
        .build();

    // Webhooks come at least once; the handler runs once. With several processes, implement
    // `Deduplicator` on what they share.
    let week = Duration::from_secs(7 * 86_400);
    let once = Deduplicate::new(receiver.clone(), MemoryDeduplicator::new(100_000, week));

    let app = Router::new()
        .route("/", post(on_event))
        .route_layer(from_fn_with_state(once, deduplicate))
        .with_state(receiver);

    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, options.port));
    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}

/// Answers 2xx once the event is safe. Anything else, or no answer at all, and the sender tries again.
async fn on_event(webhook: Verified<Event>) -> StatusCode {
    let Event { event_type, data } = webhook.event;
    println!("{} {event_type} {data}", webhook.id);
    StatusCode::NO_CONTENT
}

//! The whole life of webhooks in two seconds, in one process, on a temporary SQLite file. It needs no set-up:
//!
//! `cargo run --example quickstart`
//!
//! A shop sends events to three endpoints of a real receiver, which verifies every signature. The receiver is down for some of
//! the first attempts, and one of its endpoints has a bug. The program prints what the engine reports as it happens. At the end
//! it compares the receiver's own count with the store.
//!
//! - `scenario.rs` has the shop's events and endpoints, and the expected results.
//! - `receiver.rs` is the other side: a service that receives webhooks would look like this.
//! - `watch.rs` is an observer that sees every delivery, and waits for them.
//! - `summary.rs`: compares, and prints the table.

mod receiver;
mod scenario;
mod summary;
mod watch;

use std::process::ExitCode;
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::oneshot;
use webhook_delivery::{
    DeliveryFilter, DeliveryStatus, Dispatcher, NetworkPolicy, PageRequest, RetryPolicy,
    SqliteStore,
};

use receiver::Receivers;
use summary::Summary;
use watch::Watch;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// The default schedule takes 14½ hours; this one is for people who watch.
const RETRY_AFTER: [Duration; 3] = [Duration::from_millis(200); 3];
/// Nothing here takes nearly as long. When it passes, something is broken.
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::main]
async fn main() -> ExitCode {
    match tokio::time::timeout(PATIENCE, run()).await {
        Ok(Ok(summary)) => {
            println!("{summary}");
            match summary.differences() {
                0 => ExitCode::SUCCESS,
                _ => ExitCode::FAILURE,
            }
        }
        Ok(Err(error)) => fail(&error.to_string()),
        Err(_) => fail(&format!("not done after {} s", PATIENCE.as_secs())),
    }
}

fn fail(why: &str) -> ExitCode {
    eprintln!("the quickstart failed: {why}");
    ExitCode::FAILURE
}

async fn run() -> Result<Summary> {
    let folder = TempDir::with_prefix("webhook-quickstart-")?;
    let (mut watch, observer) = Watch::new();
    let store = SqliteStore::open(folder.path().join("webhooks.db")).await?;
    let dispatcher = Dispatcher::builder(store.clone())
        .network_policy(loopback_only()?)
        .retry_policy(RetryPolicy::default().schedule(RETRY_AFTER))
        .observer(observer)
        .build()?
        .erase();

    let receivers = Receivers::bind().await?;
    println!("A receiver listens on http://{}\n", receivers.address());
    let endpoints = scenario::create_endpoints(&dispatcher, receivers.address()).await?;
    let receivers = receivers.serve(&endpoints)?;

    // Deliveries go out while `run` is running. It ends once `stop` is sent, or dropped.
    let (stop, stopped) = oneshot::channel::<()>();
    let worker = tokio::spawn({
        let dispatcher = dispatcher.clone();
        async move { dispatcher.run(async { stopped.await.unwrap_or(()) }).await }
    });

    let events = scenario::enqueue(&dispatcher).await?;
    println!("\nDeliveries, as they happen:");
    watch
        .until_ended(&deliveries(&dispatcher, None).await?)
        .await?;

    println!("\nThe bug is fixed. The dead letter is sent again:");
    receivers.fix();
    let dead = deliveries(&dispatcher, Some(DeliveryStatus::Failed)).await?;
    let dead = *dead.first().ok_or("there is no dead letter to replay")?;
    let replayed = dispatcher.deliveries().replay(dead).await?;
    watch.until_ended(&[replayed]).await?;

    println!(
        "\nIt is sent once more, by mistake. The receiver answers 200, and handles nothing twice:"
    );
    let doubled = dispatcher.deliveries().replay(replayed).await?;
    watch.until_ended(&[doubled]).await?;

    stop.send(()).ok();
    worker.await?;
    let summary =
        Summary::compare(&dispatcher, &endpoints, &events, &receivers.stop().await).await?;
    store.close().await?;
    folder.close()?;
    Ok(summary)
}

/// Webhooks go to public https addresses unless the host says otherwise, as here for a trial.
fn loopback_only() -> Result<NetworkPolicy> {
    Ok(NetworkPolicy::builder()
        .allow_http(true)
        .allow_networks(["127.0.0.0/8".parse()?])
        .build())
}

/// The ids of all deliveries with this status, or of all.
async fn deliveries(
    dispatcher: &Dispatcher,
    status: Option<DeliveryStatus>,
) -> Result<Vec<uuid::Uuid>> {
    let filter = DeliveryFilter {
        status,
        ..Default::default()
    };
    let page = PageRequest::first(100);
    let deliveries = dispatcher.deliveries().list(&filter, page).await?;
    Ok(deliveries.items.iter().map(|one| one.id).collect())
}

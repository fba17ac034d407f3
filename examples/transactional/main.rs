//! An order, and the webhook that tells of it, in one SQL transaction: both happen, or neither does.
//!
//! `cargo run --example transactional` uses a temporary SQLite file. On Postgres, in a schema of its own that
//! it drops in the end:
//!
//! `DATABASE_URL=postgres://… cargo run --features postgres --example transactional`
//!
//! - `sqlite.rs`, `postgres.rs`: the transaction, which is what a host writes.
//! - `receiver.rs`: whom the webhooks go to, in this process.
//! - below: the story, the same on both; in the end it compares what was ordered, stored and received.

#[cfg(feature = "postgres")]
mod postgres;
mod receiver;
mod sqlite;

use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;
use tokio::sync::oneshot;
use uuid::Uuid;
use webhook_delivery::{
    DeliveryFilter, Dispatcher, EventFilter, NetworkPolicy, NewEndpoint, NewEvent, PageRequest,
    TxStore,
};

use receiver::Receiver;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Nothing here takes nearly as long. When it passes, something is broken.
const PATIENCE: Duration = Duration::from_secs(30);

/// A shop that keeps its orders in SQL, and the webhooks beside them.
trait Shop {
    type Store: TxStore + 'static;

    /// The engine's store, in the shop's own database.
    fn store(&self) -> Self::Store;

    /// Places an order and announces it, in one transaction. `None` if the payment is declined, which
    /// comes out last: the order and its event are written by then, and both are rolled back.
    async fn place(
        &self,
        dispatcher: &Dispatcher<Self::Store>,
        order: Order,
    ) -> Result<Option<Uuid>>;

    /// The numbers of all orders.
    async fn orders(&self) -> Result<Vec<i64>>;
}

#[derive(Clone, Copy)]
struct Order {
    number: i64,
    pays: bool,
}

impl Order {
    fn event(self) -> Result<NewEvent> {
        Ok(NewEvent::json(
            "order.placed",
            &json!({"order": self.number}),
        )?)
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    match tokio::time::timeout(PATIENCE, run()).await {
        Ok(Ok(true)) => ExitCode::SUCCESS,
        Ok(Ok(false)) => ExitCode::FAILURE,
        Ok(Err(error)) => fail(&error.to_string()),
        Err(_) => fail(&format!("not done after {} s", PATIENCE.as_secs())),
    }
}

fn fail(why: &str) -> ExitCode {
    eprintln!("transactional: {why}");
    ExitCode::FAILURE
}

async fn run() -> Result<bool> {
    let url = std::env::var("DATABASE_URL").unwrap_or_default();
    if !url.starts_with("postgres") {
        let folder = TempDir::with_prefix("webhook-transactional-")?;
        return story(&sqlite::SqliteShop::open(folder.path()).await?).await;
    }
    #[cfg(feature = "postgres")]
    {
        let shop = postgres::PgShop::open(&url).await?;
        let told = story(&shop).await;
        shop.close().await?;
        told
    }
    #[cfg(not(feature = "postgres"))]
    Err("DATABASE_URL names Postgres: build this with --features postgres".into())
}

async fn story<S: Shop>(shop: &S) -> Result<bool> {
    let mut receiver = Receiver::open().await?;
    let dispatcher = Dispatcher::builder(shop.store())
        .network_policy(loopback_only()?)
        .build()?;
    let endpoint = NewEndpoint::new(receiver.url().parse()?).secret(receiver.secret()?);
    dispatcher.endpoints().create(endpoint).await?;

    // Delivers while the shop takes orders. It ends once `stop` is sent, or dropped.
    let (stop, stopped) = oneshot::channel::<()>();
    let worker = tokio::spawn({
        let dispatcher = dispatcher.erase();
        async move { dispatcher.run(async { stopped.await.unwrap_or(()) }).await }
    });

    let mut committed = Vec::new();
    for (number, pays) in [(1, false), (2, true), (3, false), (4, true)] {
        match shop.place(&dispatcher, Order { number, pays }).await? {
            Some(event) => {
                println!("order {number}: committed, with event {event}");
                committed.push(number);
            }
            None => println!("order {number}: payment declined, rolled back"),
        }
    }
    let mut received = receiver.orders(committed.len()).await?;
    // The worker finishes what it has before it ends. What came beside the expected is there by now.
    stop.send(()).ok();
    worker.await?;
    received.extend(receiver.rest());
    received.sort_unstable();

    compare(shop, &dispatcher.erase(), &received, &committed).await
}

/// Prints what there is, and returns whether it is what was committed, and nothing else.
async fn compare<S: Shop>(
    shop: &S,
    dispatcher: &Dispatcher,
    received: &[i64],
    committed: &[i64],
) -> Result<bool> {
    let (page, count) = (PageRequest::first(100), committed.len());
    let (any_event, any_delivery) = (EventFilter::default(), DeliveryFilter::default());
    let events = dispatcher.events().list(&any_event, page).await?;
    let deliveries = dispatcher.deliveries().list(&any_delivery, page).await?;
    println!();
    let checks = [
        check(
            "orders in the shop's table",
            &*shop.orders().await?,
            committed,
        ),
        check("orders that the receiver heard of", received, committed),
        check("events in the store", &events.items.len(), &count),
        check("deliveries in the store", &deliveries.items.len(), &count),
    ];
    let holds = checks.iter().all(|holds| *holds);
    let verdict = if holds {
        "All 4 checks hold."
    } else {
        "NOT as expected."
    };
    println!("{verdict}");
    Ok(holds)
}

fn check<T: PartialEq + std::fmt::Debug + ?Sized>(what: &str, found: &T, expected: &T) -> bool {
    let holds = found == expected;
    let verdict = if holds { "ok  " } else { "FAIL" };
    println!("{verdict} {what}: {found:?}, expected {expected:?}");
    holds
}

/// Webhooks go to public https addresses unless the host says otherwise, as here for a trial.
fn loopback_only() -> Result<NetworkPolicy> {
    Ok(NetworkPolicy::builder()
        .allow_http(true)
        .allow_networks(["127.0.0.0/8".parse()?])
        .build())
}

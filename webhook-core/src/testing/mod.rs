//! For tests: of hosts, and of backends.
//!
//! A host's test drives the engine itself, with time and the network in its hands. A clock that it sets, a
//! transport that answers as told, and [`fast_forward`], which runs everything that falls due in a span of
//! time, make the whole retry schedule of 14 hours a matter of milliseconds:
//!
//! ```
//! use std::time::Duration;
//! use webhook_core::testing::{ManualClock, ScriptedTransport, fast_forward, run};
//! use webhook_core::{DeliveryFilter, DeliveryStatus, Dispatcher, MemoryStore, NewEndpoint, NewEvent, PageRequest};
//! use webhook_core::assert_enqueued;
//!
//! // The code under test, as it stands in the host.
//! async fn pay(dispatcher: &Dispatcher, order: u32) -> Result<(), Box<dyn std::error::Error>> {
//!     dispatcher.enqueue(NewEvent::json("order.paid", &serde_json::json!({ "order": order }))?).await?;
//!     Ok(())
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! run(async {
//!     let clock = ManualClock::default();
//!     let receiver = ScriptedTransport::new([503, 503, 503, 503, 503]); // and 200 from then on
//!     let dispatcher = Dispatcher::builder(MemoryStore::new())
//!         .transport(receiver.clone())
//!         .clock(clock.clone())
//!         .seed(7)
//!         .build()?
//!         .erase();
//!     let url = "https://hooks.example.com/in".parse()?;
//!     dispatcher.endpoints().create(NewEndpoint::new(url)).await?;
//!
//!     pay(&dispatcher, 7).await?;
//!     assert_enqueued!(dispatcher, "order.paid", serde_json::json!({ "order": 7 }));
//!
//!     fast_forward(&dispatcher, &clock, Duration::from_secs(24 * 3_600)).await?;
//!     assert_eq!(receiver.requests().len(), 6);
//!     let page = PageRequest::first(1);
//!     let deliveries = dispatcher.deliveries().list(&DeliveryFilter::default(), page).await?;
//!     assert_eq!(deliveries.items[0].status, DeliveryStatus::Succeeded);
//!     Ok(())
//! })
//! # }
//! ```
//!
//! A backend proves that it is one by passing the conformance suites: see [`Harness`].

mod clock;
mod conformance;
mod events;
mod intercepted;
mod transport;

pub use clock::{ManualClock, fast_forward};
#[cfg(any(feature = "hyper", feature = "reqwest"))]
#[doc(hidden)]
pub use conformance::hostile;
pub use conformance::{EngineHarness, Harness, KeyHarness, TxHarness, endpoint_for, event_for};
#[doc(hidden)]
pub use conformance::{encryption, engine, queue, store, tx};
pub use events::{enqueued, find_enqueued};
pub use intercepted::Intercepted;
pub use transport::{Reply, ScriptedTransport, SentRequest};

/// Runs a future to its end on a runtime of its own, so that a test needs no runtime under a certain name.
///
/// # Panics
/// When the operating system refuses to start a runtime.
pub fn run<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime can be started").block_on(future)
}

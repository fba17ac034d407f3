//! What a backend must pass, whatever it is made of.
//!
//! Each check is an async function over a [`Harness`]; one list a suite makes both the checks that exist
//! and the `#[test]`s of a backend, so that a check that is forgotten in the list is dead code, and fails
//! the build.

mod audit;
mod catalogue;
mod checks;
pub mod encryption;
pub mod engine;
mod erasures;
mod health;
#[cfg(any(feature = "hyper", feature = "reqwest"))]
pub mod hostile;
pub mod queue;
#[cfg(any(feature = "hyper", feature = "reqwest"))]
mod receivers;
mod replays;
mod rooms;
mod stats;
pub mod store;
pub mod tx;
mod walls;

use std::sync::Arc;

use uuid::Uuid;

use crate::dispatcher::{Builder, Dispatcher};
use crate::encryption::KeyProvider;
use crate::endpoint::{Endpoint, EndpointSecret, EndpointSettings, EndpointState};
use crate::event::{Event, NewEvent};
use crate::queue::Queue;
use crate::signing::Secret;
use crate::store::{Store, TxStore};
use crate::tenant::Tenant;
use crate::time::Timestamp;

/// What a backend brings to the suites: a fresh, empty store for each check.
///
/// ```
/// use webhook_core::MemoryStore;
/// use webhook_core::testing::Harness;
///
/// struct Memory(MemoryStore);
///
/// impl Harness for Memory {
///     type Store = MemoryStore;
///
///     async fn start() -> Self {
///         Self(MemoryStore::new())
///     }
///
///     fn store(&self) -> &MemoryStore {
///         &self.0
///     }
/// }
///
/// webhook_core::store_conformance!(Memory);
/// webhook_core::queue_conformance!(Memory);
/// ```
///
/// Each macro expands to one `#[test]` a check; put two suites of one name into modules.
pub trait Harness: Sized {
    /// The store under test.
    type Store: Store;

    /// An empty backend of its own for each check.
    fn start() -> impl Future<Output = Self>;

    /// The store.
    fn store(&self) -> &Self::Store;

    /// The queue that stands beside the store. Without one, the store is its own queue.
    fn beside(&self) -> Option<Arc<dyn Queue>> {
        None
    }

    /// The queue under test.
    fn queue(&self) -> Arc<dyn Queue> {
        self.beside()
            .or_else(|| self.store().queue())
            .expect("a store without a queue is paired with one by its harness")
    }
}

/// A harness whose store dispatchers can own; all are whose store is `Clone`. They also own the queue
/// [beside](Harness::beside) it.
pub trait EngineHarness: Harness<Store: Clone + 'static> {
    /// A dispatcher on this backend, to be configured.
    #[doc(hidden)]
    fn dispatcher(&self) -> Builder<Self::Store> {
        let dispatcher = Dispatcher::builder(self.store().clone());
        dispatcher.queue_beside(self.beside())
    }
}

impl<H: Harness<Store: Clone + 'static>> EngineHarness for H {}

/// What a store that joins a host's transactions brings besides.
pub trait TxHarness: Harness<Store: TxStore> {
    /// A transaction of the host.
    type Tx;

    /// Begins one.
    fn begin(&self) -> impl Future<Output = Self::Tx>;

    /// What the transaction runs on.
    fn connection(tx: &mut Self::Tx) -> &mut <Self::Store as TxStore>::Connection;

    /// Commits it.
    fn commit(tx: Self::Tx) -> impl Future<Output = ()>;
}

/// What a store that seals secrets brings besides. Its deliveries are its queue.
pub trait KeyHarness: Harness {
    /// Another store on the same data, with these keys, or with secrets as they are.
    fn reopen(&self, keys: Option<Arc<dyn KeyProvider>>) -> impl Future<Output = Self::Store>;

    /// What is stored as the secrets of an endpoint.
    fn secrets(&self, endpoint: Uuid) -> impl Future<Output = Vec<u8>>;

    /// Puts something else in the place of its secrets, as whoever can write to the database could.
    fn set_secrets(&self, endpoint: Uuid, secrets: Vec<u8>) -> impl Future<Output = ()>;
}

/// An endpoint of `tenant` with these settings, enabled.
///
/// # Panics
/// When `tenant` cannot name a tenant.
#[must_use]
pub fn endpoint_for(tenant: &str, settings: EndpointSettings) -> Endpoint {
    let now = Timestamp::from_seconds(1_700_000_000);
    let secret = Secret::from_bytes(&[7; 32]).expect("32 bytes are a key");
    Endpoint {
        id: Uuid::from_u128(rand::random()),
        tenant: Tenant::new(tenant).expect("a valid name"),
        url: "https://hooks.example.com/in".parse().expect("a valid URL"),
        settings,
        secrets: vec![EndpointSecret {
            secret,
            expires_at: None,
        }],
        state: EndpointState::Enabled,
        state_reason: None,
        version: 1,
        created_at: now,
        updated_at: now,
    }
}

/// An event of `tenant` with some data, accepted at `now`.
///
/// # Panics
/// When a name or the data is invalid.
#[must_use]
pub fn event_for(tenant: &str, event_type: &str, data: &str, now: Timestamp) -> Event {
    let event = NewEvent::data(event_type, data.to_owned()).expect("valid data");
    let tenant = Tenant::new(tenant).expect("a valid name");
    event.tenant(tenant).stamp(new_id(now), now)
}

/// A new id that sorts by `now`.
fn new_id(now: Timestamp) -> Uuid {
    let millis = u64::try_from(now.as_micros() / 1_000).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(millis, &rand::random()).into_uuid()
}

/// From a list of checks: the wrappers that `#[test]`s call.
macro_rules! suite {
    ($bound:ident, $($check:ident),* $(,)?) => {
        $(
            #[doc(hidden)]
            pub async fn $check<H: $crate::testing::$bound>() {
                checks::$check(H::start().await).await;
            }
        )*
    };
}
use suite;

/// From a list of checks: a backend's `#[test]`s.
#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_tests {
    ($suite:ident, $harness:ty, $($check:ident),* $(,)?) => {
        $(
            #[test]
            fn $check() {
                $crate::testing::run($crate::testing::$suite::$check::<$harness>());
            }
        )*
    };
}

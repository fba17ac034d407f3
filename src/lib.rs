//! The webhook delivery engine that Rust services embed.
//!
//! It accepts events, sends each one to the endpoints that want it, signs the requests, retries what fails, keeps what it
//! has given up on, and sends that again when you ask. It runs in your process, on the store that you give it:
//!
//! ```no_run
//! use webhook_delivery::{Dispatcher, NewEndpoint, NewEvent, SqliteStore};
//!
//! # async fn host() -> Result<(), Box<dyn std::error::Error>> {
//! let dispatcher = Dispatcher::builder(SqliteStore::open("webhooks.db").await?).build()?;
//!
//! let endpoint = NewEndpoint::new("https://hooks.example.com/in".parse()?);
//! let endpoint = dispatcher.endpoints().create(endpoint.event_types(["order.*".parse()?])).await?;
//! println!("their secret: {}", endpoint.secrets[0].secret.expose());
//!
//! // Once this returns, the event and its deliveries are stored.
//! dispatcher.enqueue(NewEvent::data("order.paid", r#"{"order":7}"#)?).await?;
//!
//! // Delivers until ctrl-c, then finishes what is under way. A service spawns this.
//! dispatcher.run(async { tokio::signal::ctrl_c().await.unwrap_or(()) }).await;
//! # Ok(())
//! # }
//! ```
//!
//! - **Stores.** [`MemoryStore`] is for tests, [`SqliteStore`] for one machine, [`PgStore`] for many processes, and
//!   [`RedisQueue`] beside it for large fleets. With [`Dispatcher::enqueue_in`] an event joins your own transaction, on
//!   SQLite and Postgres.
//! - **The API.** [`router()`] goes into your axum router, with a web UI at `/dashboard/`. You say who may call it: [`Auth`].
//! - **Delivery.** Requests follow [Standard Webhooks](https://www.standardwebhooks.com). They are made at least once, so
//!   receivers may get doubles, with the same `webhook-id`. [`RetryPolicy`] and [`BreakerPolicy`] say when they are made.
//!   [`NetworkPolicy`] says where they may go: only to public https addresses, unless you allow more.
//! - **Receivers.** [`Verified`] is an axum extractor that refuses what is not signed. [`Receiver`] does it without axum.
//! - **Tests.** In [`testing`] are a clock and a network that your test controls, so that hours of retries take no time.
//!
//! # Crates and features
//!
//! This crate is a facade: you need only this one dependency, and find everything at its root.
//!
//! | feature | default | brings |
//! |---|---|---|
//! | `axum` | yes | [`webhook_axum`]: the API, and [`Verified`] |
//! | `dashboard`, `openapi`, `prometheus` | yes | the web UI, the API's document, and [`Metrics`], of that crate |
//! | `hyper` | yes | [`HttpTransport`] |
//! | `sqlite` | yes | [`webhook_sqlite`] |
//! | `postgres` | | [`webhook_postgres`] |
//! | `redis` | | [`webhook_redis`] |
//! | `tls-rustls` | | TLS to Postgres and Redis |
//! | `ed25519`, `schemas`, `reqwest`, `tower`, `testing` | | these features of [`webhook_core`] |

#![cfg_attr(docsrs, feature(doc_cfg))]
// What a feature brings can be linked only with this feature.
#![cfg_attr(
    not(all(
        feature = "axum",
        feature = "hyper",
        feature = "postgres",
        feature = "prometheus",
        feature = "redis",
        feature = "sqlite",
        feature = "testing"
    )),
    allow(rustdoc::broken_intra_doc_links)
)]

#[cfg(feature = "axum")]
#[doc(inline)]
pub use webhook_axum::*;
#[doc(inline)]
pub use webhook_core::*;
#[cfg(feature = "postgres")]
#[doc(inline)]
pub use webhook_postgres::{ConnectError, PgStore, PgStoreBuilder};
#[cfg(feature = "redis")]
#[doc(inline)]
pub use webhook_redis::{RedisQueue, RedisQueueBuilder};
#[cfg(feature = "sqlite")]
#[doc(inline)]
pub use webhook_sqlite::{OpenError, SqliteStore, SqliteStoreBuilder};

/// The examples of the README and of `docs/guides/`, which compile and run.
#[cfg(all(
    doctest,
    feature = "hyper",
    feature = "axum",
    feature = "sqlite",
    feature = "postgres",
    feature = "redis",
    feature = "testing"
))]
mod guides {
    #[doc = include_str!("../README.md")]
    struct Readme;
    #[doc = include_str!("../docs/guides/embed.md")]
    struct Embed;
    #[doc = include_str!("../docs/guides/transactions.md")]
    struct Transactions;
    #[doc = include_str!("../docs/guides/growing.md")]
    struct Growing;
    #[doc = include_str!("../docs/guides/testing.md")]
    struct Testing;
}

//! The webhook delivery engine that Rust services embed.
//!
//! This crate is a facade over [`webhook_core`] and, with a feature each, [`webhook_axum`] (`axum`),
//! [`webhook_sqlite`] (`sqlite`), [`webhook_postgres`] (`postgres`) and [`webhook_redis`] (`redis`): one
//! dependency, everything at its root. Of its own features, `hyper` brings the HTTP transport and `reqwest` the same on
//! that client, `ed25519`, `tower` and `testing` are those of `webhook_core`, and `tls-rustls` is TLS to Postgres and Redis.
#![cfg_attr(
    all(
        feature = "hyper",
        feature = "axum",
        feature = "sqlite",
        feature = "postgres"
    ),
    doc = ""
)]
#![cfg_attr(
    all(feature = "hyper", feature = "axum", feature = "sqlite", feature = "postgres"),
    doc = include_str!("../README.md")
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

/// The examples of `docs/guides/`, which compile and run as those of the README do.
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
    #[doc = include_str!("../docs/guides/embed.md")]
    struct Embed;
    #[doc = include_str!("../docs/guides/transactions.md")]
    struct Transactions;
    #[doc = include_str!("../docs/guides/growing.md")]
    struct Growing;
    #[doc = include_str!("../docs/guides/testing.md")]
    struct Testing;
}

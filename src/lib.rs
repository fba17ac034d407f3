//! The webhook delivery engine that Rust services embed.
//!
//! This crate is a facade over [`webhook_core`] and, each with a feature, [`webhook_axum`] (`axum`), [`webhook_sqlite`]
//! (`sqlite`), [`webhook_postgres`] (`postgres`) and [`webhook_redis`] (`redis`). You need only this one dependency, and find
//! everything at its root. The feature `hyper` brings the HTTP transport, and `reqwest` the same on the `reqwest` client.
//! `ed25519`, `schemas`, `tower` and `testing` turn on those features of `webhook_core`. `tls-rustls` brings TLS to Postgres and
//! Redis.
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

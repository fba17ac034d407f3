//! The webhook delivery engine that Rust services embed.
//!
//! This crate is a facade over [`webhook_core`] and, with a feature each, [`webhook_axum`] (`axum`),
//! [`webhook_sqlite`] (`sqlite`), [`webhook_postgres`] (`postgres`) and [`webhook_redis`] (`redis`): one
//! dependency, everything at its root.
#![cfg_attr(
    all(
        feature = "reqwest",
        feature = "axum",
        feature = "sqlite",
        feature = "postgres"
    ),
    doc = ""
)]
#![cfg_attr(
    all(feature = "reqwest", feature = "axum", feature = "sqlite", feature = "postgres"),
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

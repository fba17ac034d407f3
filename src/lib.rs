//! The webhook delivery engine that Rust services embed.
//!
//! This crate is a facade over [`webhook_core`] and, with the feature `axum`, [`webhook_axum`]: one
//! dependency, everything at its root.
#![cfg_attr(all(feature = "reqwest", feature = "axum"), doc = "")]
#![cfg_attr(
    all(feature = "reqwest", feature = "axum"),
    doc = include_str!("../README.md")
)]

#[cfg(feature = "axum")]
#[doc(inline)]
pub use webhook_axum::*;
#[doc(inline)]
pub use webhook_core::*;
#[cfg(feature = "postgres")]
#[doc(inline)]
pub use webhook_postgres::*;
#[cfg(feature = "redis")]
#[doc(inline)]
pub use webhook_redis::*;
#[cfg(feature = "sqlite")]
#[doc(inline)]
pub use webhook_sqlite::*;

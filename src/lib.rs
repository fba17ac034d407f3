//! The webhook delivery engine that Rust services embed.
//!
//! This crate is a facade over [`webhook_core`] and, with the features `axum` and `sqlite`, [`webhook_axum`]
//! and [`webhook_sqlite`]: one dependency, everything at its root.
#![cfg_attr(
    all(feature = "reqwest", feature = "axum", feature = "sqlite"),
    doc = ""
)]
#![cfg_attr(
    all(feature = "reqwest", feature = "axum", feature = "sqlite"),
    doc = include_str!("../README.md")
)]

#[cfg(feature = "axum")]
#[doc(inline)]
pub use webhook_axum::*;
#[doc(inline)]
pub use webhook_core::*;
#[cfg(feature = "sqlite")]
#[doc(inline)]
pub use webhook_sqlite::*;

//! The webhook delivery engine that Rust services embed.
#[doc(inline)]
pub use webhook_core::*;

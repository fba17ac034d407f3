//! The HTTP API of the engine as an axum router.

mod verified;

pub use verified::{Deduplicate, Verified, VerifiedBytes, VerifiedRejection, deduplicate};

//! Secrets at rest: sealed with keys that the host has, and the backends have not.
//!
//! - `key.rs`: a key and its id.
//! - `provider.rs`: where keys come from.
//! - `seal.rs`: XChaCha20-Poly1305, and what stands around it.

mod key;
mod provider;
mod seal;

pub use key::{EncryptionKey, InvalidKey, KeyId};
pub use provider::{KeyProvider, StaticKeys};
pub use seal::Encryption;
pub(crate) use seal::{CannotOpen, Context};

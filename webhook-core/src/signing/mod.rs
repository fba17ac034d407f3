//! Signing and verifying webhooks: [Standard Webhooks 1.0.0][spec].
//!
//! The sender keeps a [`Secret`] per endpoint and signs each attempt through a [`Signer`];
//! the receiver holds the [`VerifyingKey`] in a [`Verifier`].
//!
//! ```
//! use http::HeaderMap;
//! use webhook_core::{Secret, SignRequest, Signer, StandardWebhooks, Timestamp, Verifier, VerifyingKey};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let text = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
//! let body = br#"{"type":"invoice.paid","timestamp":"2021-02-25T15:02:10Z","data":{}}"#;
//! let now = Timestamp::from_seconds(1_614_265_330);
//!
//! // The sender.
//! let secrets = [text.parse::<Secret>()?];
//! let mut headers = HeaderMap::new();
//! StandardWebhooks::new().sign(&SignRequest::new("evt_1", now, body, &secrets), &mut headers)?;
//!
//! // The receiver.
//! let verifier = Verifier::new(text.parse::<VerifyingKey>()?);
//! let verified = verifier.verify(&headers, body, now)?;
//! assert_eq!(verified.id, "evt_1");
//! # Ok(())
//! # }
//! ```
//!
//! [spec]: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md

#[cfg(feature = "ed25519")]
mod ed25519;
mod encoding;
mod hmac_sha256;
mod message;
mod secret;
mod signer;
mod verifier;
mod verifying_key;

pub use encoding::InvalidSecret;
pub use message::{HeaderNames, InvalidHeaderPrefix};
pub use secret::{Scheme, Secret};
pub use signer::{SignError, SignRequest, Signer, StandardWebhooks};
pub use verifier::{DEFAULT_TOLERANCE, VerifiedHeaders, Verifier, VerifyError};
pub use verifying_key::VerifyingKey;

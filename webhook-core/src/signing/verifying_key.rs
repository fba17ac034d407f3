//! The key a receiver verifies with.

use std::fmt;
use std::str::FromStr;

#[cfg(feature = "ed25519")]
use super::ed25519::PublicKey;
use super::encoding::{self, Encoded, InvalidSecret};
use super::hmac_sha256::HmacKey;
use super::secret::{Scheme, Secret};

/// Bytes of an HMAC secret that a receiver accepts: it cannot choose what its sender made, but under
/// 128 bits a secret can be guessed.
const ACCEPTED_LEN: std::ops::RangeInclusive<usize> = 16..=75;

/// A key that verifies: the shared HMAC-SHA256 secret (`whsec_…`) or, with the feature `ed25519`, the
/// sender's Ed25519 public key (`whpk_…`).
///
/// The key fixes the algorithm: a `whpk_` key never checks a `v1` signature, nor `whsec_` a `v1a` one.
#[derive(Clone)]
pub struct VerifyingKey(Kind);

#[derive(Clone)]
pub(super) enum Kind {
    Hmac(HmacKey),
    #[cfg(feature = "ed25519")]
    Ed25519(PublicKey),
}

impl VerifyingKey {
    /// Which signatures this key checks.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        match &self.0 {
            Kind::Hmac(_) => Scheme::HmacSha256,
            #[cfg(feature = "ed25519")]
            Kind::Ed25519(_) => Scheme::Ed25519,
        }
    }

    pub(super) fn hmac(key: HmacKey) -> Self {
        Self(Kind::Hmac(key))
    }

    #[cfg(feature = "ed25519")]
    pub(super) fn ed25519(key: PublicKey) -> Self {
        Self(Kind::Ed25519(key))
    }

    pub(super) fn kind(&self) -> &Kind {
        &self.0
    }
}

/// Reads `whsec_…` (the prefix may be missing) or `whpk_…`.
///
/// More lenient than [`Secret`]'s: base64 may lack its padding, and 16 to 75 bytes are taken.
impl FromStr for VerifyingKey {
    type Err = InvalidSecret;

    fn from_str(text: &str) -> Result<Self, InvalidSecret> {
        match Encoded::parse(text) {
            Encoded::Hmac(base64) => {
                let key = encoding::decode_lenient(base64)?;
                if !ACCEPTED_LEN.contains(&key.as_slice().len()) {
                    return Err(InvalidSecret::Length);
                }
                Ok(Self::hmac(HmacKey::new(key.as_slice())))
            }
            Encoded::SigningKey(_) => Err(InvalidSecret::SigningKey),
            #[cfg(feature = "ed25519")]
            Encoded::PublicKey(base64) => {
                let key = encoding::decode_lenient(base64)?;
                Ok(Self::ed25519(PublicKey::from_bytes(key.as_slice())?))
            }
            #[cfg(not(feature = "ed25519"))]
            Encoded::PublicKey(_) => Err(InvalidSecret::Unsupported),
        }
    }
}

impl From<Secret> for VerifyingKey {
    fn from(secret: Secret) -> Self {
        Self::from(&secret)
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifyingKey({}, ..)", self.scheme().as_str())
    }
}

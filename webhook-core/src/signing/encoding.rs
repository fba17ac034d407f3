//! The text forms of keys: `whsec_`, `whsk_` and `whpk_` before base64.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, PAD_INDIFFERENT, STANDARD};
use zeroize::Zeroizing;

/// Before an HMAC-SHA256 secret.
pub(super) const HMAC_PREFIX: &str = "whsec_";
/// Before an Ed25519 private key: 32 bytes of seed, then the 32 bytes of the public key.
pub(super) const SIGNING_KEY_PREFIX: &str = "whsk_";
/// Before an Ed25519 public key of 32 bytes.
pub(super) const PUBLIC_KEY_PREFIX: &str = "whpk_";

/// No key is longer than 75 bytes, which is 100 characters; what is far longer is not looked at.
const MAX_BASE64: usize = 128;

/// Takes unpadded base64 and bits left over in the last character, as some receivers' libraries do.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    PAD_INDIFFERENT.with_decode_allow_trailing_bits(true),
);

/// The text is not a key that can be used here. Never holds any of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidSecret {
    /// Nothing is there, or nothing after the prefix.
    #[error("the secret is empty")]
    Empty,
    /// What follows the prefix is not base64 (standard alphabet, padded). White space counts.
    #[error("the secret is not `whsec_` and base64")]
    Base64,
    /// The key has too few or too many bytes.
    #[error("the secret has the wrong number of bytes")]
    Length,
    /// A `whpk_` public key where a key that can sign is needed.
    #[error("a public key cannot sign")]
    PublicKey,
    /// A `whsk_` private key where the receiver's `whpk_` public key belongs.
    #[error("a private signing key must not be given to a receiver")]
    SigningKey,
    /// An Ed25519 key that is no key: the halves do not belong together, or the point is weak.
    #[error("not a valid Ed25519 key")]
    KeyPair,
    /// An Ed25519 key, but the feature `ed25519` is not compiled in.
    #[error("Ed25519 keys need the feature `ed25519`")]
    Unsupported,
}

/// A key's text, told apart by its prefix; without one it is an HMAC secret.
#[cfg_attr(not(feature = "ed25519"), expect(dead_code, reason = "refused unread"))]
#[derive(Clone, Copy)]
pub(super) enum Encoded<'a> {
    Hmac(&'a str),
    SigningKey(&'a str),
    PublicKey(&'a str),
}

impl<'a> Encoded<'a> {
    pub(super) fn parse(text: &'a str) -> Self {
        if let Some(base64) = text.strip_prefix(SIGNING_KEY_PREFIX) {
            Self::SigningKey(base64)
        } else if let Some(base64) = text.strip_prefix(PUBLIC_KEY_PREFIX) {
            Self::PublicKey(base64)
        } else {
            Self::Hmac(text.strip_prefix(HMAC_PREFIX).unwrap_or(text))
        }
    }
}

pub(super) fn encode(prefix: &str, key: &[u8]) -> Zeroizing<String> {
    // Sized at once: a `String` that grows leaves a copy of the secret behind.
    let mut text = Zeroizing::new(String::with_capacity(
        prefix.len() + key.len().div_ceil(3) * 4,
    ));
    text.push_str(prefix);
    STANDARD.encode_string(key, &mut text);
    text
}

pub(super) fn decode_strict(base64: &str) -> Result<KeyBytes, InvalidSecret> {
    decode(&STANDARD, base64)
}

pub(super) fn decode_lenient(base64: &str) -> Result<KeyBytes, InvalidSecret> {
    decode(&LENIENT, base64)
}

/// A decoded key, erased on drop.
pub(super) struct KeyBytes {
    bytes: Zeroizing<[u8; MAX_BASE64]>,
    len: usize,
}

impl KeyBytes {
    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

fn decode(engine: &GeneralPurpose, base64: &str) -> Result<KeyBytes, InvalidSecret> {
    if base64.is_empty() {
        return Err(InvalidSecret::Empty);
    }
    if base64.len() > MAX_BASE64 {
        return Err(InvalidSecret::Length);
    }
    let mut bytes = Zeroizing::new([0; MAX_BASE64]);
    let len = engine
        .decode_slice(base64, bytes.as_mut_slice())
        .map_err(|_| InvalidSecret::Base64)?;
    Ok(KeyBytes { bytes, len })
}

//! Ed25519 (RFC 8032, pure) over the same content as HMAC; no copy of it is made.

use ed25519_dalek::ed25519::signature::{MultipartSigner as _, MultipartVerifier as _};
use ed25519_dalek::{Signature, SigningKey, VerifyingKey};

use super::encoding::InvalidSecret;

/// The sender's half. Erased on drop by `ed25519-dalek`.
pub(super) struct PrivateKey(SigningKey);

/// The receiver's half.
#[derive(Clone)]
pub(super) struct PublicKey(VerifyingKey);

impl PrivateKey {
    pub(super) fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// From 32 bytes of seed and 32 bytes of public key; a pair that does not match would leak the
    /// seed through its signatures, so it is refused.
    pub(super) fn from_pair(pair: &[u8]) -> Result<Self, InvalidSecret> {
        let pair = pair.try_into().map_err(|_| InvalidSecret::Length)?;
        SigningKey::from_keypair_bytes(pair)
            .map(Self)
            .map_err(|_| InvalidSecret::KeyPair)
    }

    pub(super) fn to_pair(&self) -> zeroize::Zeroizing<[u8; 64]> {
        zeroize::Zeroizing::new(self.0.to_keypair_bytes())
    }

    pub(super) fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    pub(super) fn sign(&self, parts: &[&[u8]]) -> [u8; 64] {
        self.0.multipart_sign(parts).to_bytes()
    }
}

impl PublicKey {
    /// Refuses weak keys, under which one signature fits many messages.
    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidSecret> {
        let bytes = bytes.try_into().map_err(|_| InvalidSecret::Length)?;
        match VerifyingKey::from_bytes(bytes) {
            Ok(key) if !key.is_weak() => Ok(Self(key)),
            _ => Err(InvalidSecret::KeyPair),
        }
    }

    pub(super) fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    pub(super) fn verifies(&self, parts: &[&[u8]], signature: &[u8; 64]) -> bool {
        let signature = Signature::from_bytes(signature);
        self.0.multipart_verify(parts, &signature).is_ok()
    }
}

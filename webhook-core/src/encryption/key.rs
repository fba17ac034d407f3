//! A key and its id.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rand::Rng as _;
use rand::rngs::StdRng;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// Before a key's bytes where its id is derived: so that the id is no plain hash of the key.
const ID_LABEL: &[u8] = b"webhook-delivery key id\0";
/// Bytes of the hash that make a derived id.
const ID_LEN: usize = 8;

/// A key that seals secrets: 256 bits, and the id by which what it sealed names it.
///
/// Read from the base64 of 32 bytes, as `openssl rand -base64 32` makes it. The bytes are erased when the last
/// clone is dropped; `Debug` shows the id, which tells nothing about the key.
///
/// ```
/// use webhook_core::EncryptionKey;
///
/// let key: EncryptionKey = "kNwOPmYTTpkcBbbGQTFRlpxbOHBmXr+ucdvFCP4l8AY=".parse()?;
/// assert_eq!(format!("{key:?}"), format!("EncryptionKey({}, ..)", key.id()));
/// # Ok::<(), webhook_core::InvalidKey>(())
/// ```
#[derive(Clone)]
pub struct EncryptionKey {
    id: KeyId,
    bytes: Arc<Zeroizing<[u8; Self::LEN]>>,
}

/// The name of a key, which is stored with what the key sealed: 1 to 64 visible ASCII characters.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct KeyId(Arc<str>);

/// The text is no key, or no name of one. Never holds any of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidKey {
    /// Not the base64 of 32 bytes.
    #[error("a key is the base64 of 32 bytes, as `openssl rand -base64 32` makes it")]
    Key,
    /// The same key twice, or two keys of one id.
    #[error("two of the keys have the same id")]
    Duplicate,
    /// Not 1 to 64 visible ASCII characters.
    #[error("the id of a key is 1 to 64 visible ASCII characters")]
    Id,
}

impl EncryptionKey {
    /// Bytes of a key.
    pub const LEN: usize = 32;

    /// A new key, from the operating system's randomness.
    #[must_use]
    pub fn random() -> Self {
        let mut bytes = Zeroizing::new([0; Self::LEN]);
        rand::make_rng::<StdRng>().fill_bytes(bytes.as_mut_slice());
        Self::of(bytes)
    }

    /// A key of these bytes, which must be random. Its id is derived from them.
    #[must_use]
    pub fn new(bytes: [u8; Self::LEN]) -> Self {
        Self::of(Zeroizing::new(bytes))
    }

    /// The same key under an id of the host's choice: a version's name in a key service, say. Two keys must not
    /// share one.
    #[must_use]
    pub fn named(mut self, id: KeyId) -> Self {
        self.id = id;
        self
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &KeyId {
        &self.id
    }

    /// The key as text: the base64 of its bytes. For whoever keeps it; never log it.
    #[must_use]
    pub fn expose(&self) -> String {
        STANDARD.encode(self.bytes())
    }

    pub(super) fn bytes(&self) -> &[u8; Self::LEN] {
        &self.bytes
    }

    fn of(bytes: Zeroizing<[u8; Self::LEN]>) -> Self {
        let hash = Sha256::new()
            .chain_update(ID_LABEL)
            .chain_update(bytes.as_slice())
            .finalize();
        let id: String = hash[..ID_LEN]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Self {
            id: KeyId(id.into()),
            bytes: Arc::new(bytes),
        }
    }
}

impl FromStr for EncryptionKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        // What decoding may write before it finds the text too long.
        let mut decoded = Zeroizing::new([0; Self::LEN + 1]);
        match STANDARD.decode_slice(text, decoded.as_mut_slice()) {
            Ok(Self::LEN) => {
                let mut bytes = Zeroizing::new([0; Self::LEN]);
                bytes.copy_from_slice(&decoded[..Self::LEN]);
                Ok(Self::of(bytes))
            }
            _ => Err(InvalidKey::Key),
        }
    }
}

impl fmt::Debug for EncryptionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EncryptionKey({}, ..)", self.id)
    }
}

impl KeyId {
    const MAX_LEN: usize = 64;

    /// Checks a name.
    ///
    /// # Errors
    /// [`InvalidKey::Id`].
    pub fn new(id: &str) -> Result<Self, InvalidKey> {
        let fits = (1..=Self::MAX_LEN).contains(&id.len());
        if fits && id.bytes().all(|byte| byte.is_ascii_graphic()) {
            Ok(Self(id.into()))
        } else {
            Err(InvalidKey::Id)
        }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_32_bytes_and_its_id_follows_from_them() {
        let key = EncryptionKey::random();
        let same: EncryptionKey = key.expose().parse().unwrap();
        assert_eq!((same.id(), same.bytes()), (key.id(), key.bytes()));
        assert_ne!(EncryptionKey::random().id(), key.id());
        for len in [0, 16, 31, 33, 64, 1_000] {
            let text = STANDARD.encode(vec![7; len]);
            assert_eq!(text.parse::<EncryptionKey>().unwrap_err(), InvalidKey::Key);
        }
        for text in [
            "plaintext",
            "not base64 at all!",
            &format!(" {}", key.expose()),
        ] {
            assert!(text.parse::<EncryptionKey>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_id_is_short_and_visible() {
        for good in ["a", "arn:aws:kms:eu-west-1:1:key/2#3", &"x".repeat(64)] {
            assert_eq!(KeyId::new(good).unwrap().as_str(), good);
        }
        for bad in ["", "a b", "a\n", "ä", &"x".repeat(65)] {
            assert_eq!(KeyId::new(bad), Err(InvalidKey::Id), "{bad}");
        }
    }

    #[test]
    fn debug_shows_the_id_and_nothing_of_the_key() {
        let key = EncryptionKey::new([0x41; 32]);
        let shown = format!("{key:?}");
        assert_eq!(shown, format!("EncryptionKey({}, ..)", key.id()));
        let named = key.named(KeyId::new("2026-01").unwrap());
        assert_eq!(format!("{named:?}"), "EncryptionKey(2026-01, ..)");
    }
}

//! [`Secret`]: the key that signs an endpoint's deliveries.

use std::fmt;
use std::hint::black_box;
use std::str::FromStr;
use std::sync::Arc;

use rand::CryptoRng;
use rand::rngs::StdRng;
use zeroize::Zeroizing;

#[cfg(feature = "ed25519")]
use super::ed25519::PrivateKey;
use super::encoding::{self, Encoded, HMAC_PREFIX, InvalidSecret};
use super::hmac_sha256::HmacKey;
use super::verifying_key::VerifyingKey;

/// Bytes of a secret that we make: as many as SHA-256 puts out.
const GENERATED_LEN: usize = 32;
/// Bytes of a secret that may be created, by the standard.
const CREATED_LEN: std::ops::RangeInclusive<usize> = 24..=64;
/// Bytes of a secret that may be brought along from elsewhere; Svix has allowed up to 75.
const IMPORTED_LEN: std::ops::RangeInclusive<usize> = 24..=75;

/// A key that signs: an HMAC-SHA256 secret (`whsec_…`) or, with the feature `ed25519`, an Ed25519
/// key pair (`whsk_…`).
///
/// It is parsed once and keeps the hash state after the key, so that an attempt hashes only its own content. Clones share this
/// state. The bytes are erased when the last clone is dropped. `Debug` shows only the scheme, and there is no `Display`: only
/// [`expose`](Self::expose) returns the text. Comparing two secrets takes the same time wherever they differ.
///
/// ```
/// use webhook_core::Secret;
///
/// let secret: Secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse()?;
/// assert_eq!(format!("{secret:?}"), "Secret(v1, ..)");
/// assert_eq!(secret.expose(), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
/// # Ok::<(), webhook_core::InvalidSecret>(())
/// ```
#[derive(Clone)]
pub struct Secret(Arc<Inner>);

struct Inner {
    text: Zeroizing<String>,
    key: Key,
}

pub(super) enum Key {
    Hmac(HmacKey),
    #[cfg(feature = "ed25519")]
    Ed25519(Box<PrivateKey>),
}

/// How a secret signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scheme {
    /// HMAC-SHA256, `v1`: sender and receiver hold the same secret.
    HmacSha256,
    /// Ed25519, `v1a`: the receiver holds only the public key.
    Ed25519,
}

impl Scheme {
    /// The identifier before a signature in `webhook-signature`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HmacSha256 => "v1",
            Self::Ed25519 => "v1a",
        }
    }
}

impl Secret {
    /// A new HMAC-SHA256 secret of 32 random bytes, from the operating system's randomness.
    #[must_use]
    pub fn random() -> Self {
        Self::generate(&mut rand::make_rng::<StdRng>())
    }

    /// A new Ed25519 key pair, from the operating system's randomness; the receiver gets its
    /// [`public_key`](Self::public_key).
    #[cfg(feature = "ed25519")]
    #[must_use]
    pub fn random_ed25519() -> Self {
        Self::generate_ed25519(&mut rand::make_rng::<StdRng>())
    }

    /// A new HMAC-SHA256 secret of 32 bytes of `rng`.
    pub(crate) fn generate<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        let mut key = Zeroizing::new([0; GENERATED_LEN]);
        rng.fill_bytes(key.as_mut_slice());
        Self::hmac(key.as_slice())
    }

    /// A new secret that signs as this one does, of bytes of `rng`.
    pub(crate) fn generate_alike<R: CryptoRng + ?Sized>(&self, rng: &mut R) -> Self {
        match self.key() {
            Key::Hmac(_) => Self::generate(rng),
            #[cfg(feature = "ed25519")]
            Key::Ed25519(_) => Self::generate_ed25519(rng),
        }
    }

    #[cfg(feature = "ed25519")]
    fn generate_ed25519<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        rng.fill_bytes(seed.as_mut_slice());
        Self::ed25519(PrivateKey::from_seed(&seed))
    }

    /// An HMAC-SHA256 secret from 24 to 64 raw bytes.
    ///
    /// # Errors
    /// [`InvalidSecret::Length`] for any other number of bytes.
    pub fn from_bytes(key: &[u8]) -> Result<Self, InvalidSecret> {
        if !CREATED_LEN.contains(&key.len()) {
            return Err(InvalidSecret::Length);
        }
        Ok(Self::hmac(key))
    }

    /// Reads a secret that another system made, as [`FromStr`] does, but up to 75 bytes long.
    ///
    /// Use it for migrations, and to read stored secrets back. Use [`FromStr`] for a new secret that a person types in: it
    /// allows at most the standard's 64 bytes.
    ///
    /// # Errors
    /// When the text is not a key that can sign.
    pub fn import(text: &str) -> Result<Self, InvalidSecret> {
        Self::parse(text, IMPORTED_LEN)
    }

    /// The secret in its text form: `whsec_…` or `whsk_…`, in canonical base64.
    ///
    /// Show it once, when it is made. Store it encrypted. Never log it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0.text
    }

    /// The `whpk_…` text with which a receiver verifies; `None` for HMAC, whose secret is shared.
    #[must_use]
    pub fn public_key(&self) -> Option<String> {
        match &self.0.key {
            Key::Hmac(_) => None,
            #[cfg(feature = "ed25519")]
            Key::Ed25519(key) => {
                let public = key.public();
                let mut text =
                    encoding::encode(encoding::PUBLIC_KEY_PREFIX, public.as_bytes().as_slice());
                Some(std::mem::take(&mut *text))
            }
        }
    }

    /// How this secret signs.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        match &self.0.key {
            Key::Hmac(_) => Scheme::HmacSha256,
            #[cfg(feature = "ed25519")]
            Key::Ed25519(_) => Scheme::Ed25519,
        }
    }

    /// HMAC-SHA256 over the parts in sequence, for a [`Signer`](super::Signer) of another scheme;
    /// `None` if this is no HMAC secret.
    ///
    /// The key is the decoded bytes. For a scheme whose key is the text of the secret, [import](Self::import) the base64 of
    /// that text.
    #[must_use]
    pub fn hmac_sha256(&self, parts: &[&[u8]]) -> Option<[u8; 32]> {
        match &self.0.key {
            Key::Hmac(key) => Some(key.sign(parts).into_bytes().into()),
            #[cfg(feature = "ed25519")]
            Key::Ed25519(_) => None,
        }
    }

    pub(super) fn key(&self) -> &Key {
        &self.0.key
    }

    fn parse(text: &str, len: std::ops::RangeInclusive<usize>) -> Result<Self, InvalidSecret> {
        match Encoded::parse(text) {
            Encoded::Hmac(base64) => {
                let key = encoding::decode_strict(base64)?;
                if !len.contains(&key.as_slice().len()) {
                    return Err(InvalidSecret::Length);
                }
                Ok(Self::hmac(key.as_slice()))
            }
            #[cfg(feature = "ed25519")]
            Encoded::SigningKey(base64) => {
                let pair = encoding::decode_strict(base64)?;
                Ok(Self::ed25519(PrivateKey::from_pair(pair.as_slice())?))
            }
            #[cfg(not(feature = "ed25519"))]
            Encoded::SigningKey(_) => Err(InvalidSecret::Unsupported),
            Encoded::PublicKey(_) => Err(InvalidSecret::PublicKey),
        }
    }

    fn hmac(key: &[u8]) -> Self {
        Self(Arc::new(Inner {
            text: encoding::encode(HMAC_PREFIX, key),
            key: Key::Hmac(HmacKey::new(key)),
        }))
    }

    #[cfg(feature = "ed25519")]
    fn ed25519(key: PrivateKey) -> Self {
        Self(Arc::new(Inner {
            text: encoding::encode(encoding::SIGNING_KEY_PREFIX, key.to_pair().as_slice()),
            key: Key::Ed25519(Box::new(key)),
        }))
    }
}

/// Reads `whsec_` and the base64 of 24 to 64 bytes, or `whsk_` and an Ed25519 key pair. The prefix
/// `whsec_` may be missing; base64 is taken strictly, and white space around it is an error.
impl FromStr for Secret {
    type Err = InvalidSecret;

    fn from_str(text: &str) -> Result<Self, InvalidSecret> {
        Self::parse(text, CREATED_LEN)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({}, ..)", self.scheme().as_str())
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        let (a, b) = (self.expose().as_bytes(), other.expose().as_bytes());
        let differing = a
            .iter()
            .zip(b)
            .fold(0, |bits, (a, b)| black_box(bits | (a ^ b)));
        a.len() == b.len() && differing == 0
    }
}

impl Eq for Secret {}

/// The key a receiver checks this secret's signatures with.
impl From<&Secret> for VerifyingKey {
    fn from(secret: &Secret) -> Self {
        match secret.key() {
            Key::Hmac(key) => Self::hmac(key.clone()),
            #[cfg(feature = "ed25519")]
            Key::Ed25519(key) => Self::ed25519(key.public()),
        }
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use rand::SeedableRng as _;

    use super::*;

    fn text_of(len: usize) -> String {
        format!("whsec_{}", STANDARD.encode(vec![7; len]))
    }

    #[test]
    fn created_secrets_have_24_to_64_bytes_and_imported_ones_up_to_75() {
        for (len, created, imported) in [
            (23, false, false),
            (24, true, true),
            (64, true, true),
            (65, false, true),
            (75, false, true),
            (76, false, false),
            (10_000, false, false),
        ] {
            let text = text_of(len);
            assert_eq!(text.parse::<Secret>().is_ok(), created, "{len}");
            assert_eq!(Secret::from_bytes(&vec![7; len]).is_ok(), created, "{len}");
            assert_eq!(Secret::import(&text).is_ok(), imported, "{len}");
        }
    }

    #[test]
    fn generated_secrets_differ_and_parse_back() {
        let mut rng = StdRng::seed_from_u64(1);
        let (one, two) = (Secret::generate(&mut rng), Secret::generate(&mut rng));
        assert_ne!(one, two);
        assert_eq!(one.expose().parse::<Secret>().unwrap(), one);
        assert_eq!(one.expose().len(), "whsec_".len() + 44);
    }

    #[cfg(feature = "ed25519")]
    #[test]
    fn generated_key_pairs_parse_back_and_name_their_public_key() {
        let secret = Secret::generate_ed25519(&mut StdRng::seed_from_u64(1));
        assert_eq!(secret.scheme(), Scheme::Ed25519);
        assert_eq!(secret.expose().parse::<Secret>().unwrap(), secret);
        let public = secret.public_key().unwrap();
        assert!(public.starts_with("whpk_"));
        assert!(public.parse::<VerifyingKey>().is_ok());
    }

    #[cfg(feature = "ed25519")]
    #[test]
    fn a_weak_public_key_is_refused() {
        let mut identity = [0; 32];
        identity[0] = 1;
        let text = format!("whpk_{}", STANDARD.encode(identity));
        let refused = text.parse::<VerifyingKey>();
        assert!(matches!(refused, Err(InvalidSecret::KeyPair)));
    }

    #[test]
    fn a_secret_is_not_equal_to_one_that_it_begins() {
        assert_eq!(Secret::from_bytes(&[7; 24]), Secret::from_bytes(&[7; 24]));
        assert_ne!(Secret::from_bytes(&[7; 24]), Secret::from_bytes(&[7; 27]));
        assert_ne!(Secret::from_bytes(&[7; 24]), Secret::from_bytes(&[8; 24]));
    }

    #[cfg(not(feature = "ed25519"))]
    #[test]
    fn ed25519_keys_are_refused_without_the_feature() {
        let text = format!("whsk_{}", STANDARD.encode([7; 64]));
        assert_eq!(text.parse::<Secret>(), Err(InvalidSecret::Unsupported));
    }

    #[test]
    fn debug_shows_nothing_of_the_secret() {
        let secret: Secret = text_of(32).parse().unwrap();
        assert_eq!(format!("{secret:?}"), "Secret(v1, ..)");
        let key = VerifyingKey::from(&secret);
        assert_eq!(format!("{key:?}"), "VerifyingKey(v1, ..)");
    }
}

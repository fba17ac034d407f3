//! XChaCha20-Poly1305, and what stands around it.
//!
//! Sealed bytes are: the version, the length of the key's id, the id, the nonce (24 bytes), then the ciphertext
//! with its tag. All before the nonce, and whose secrets these are, is authenticated with it. Nonces are random:
//! with 192 bits no two will ever be the same.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use chacha20poly1305::aead::AeadInOut as _;
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305, XNonce};
use rand::Rng as _;
use rand::rngs::StdRng;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::key::{EncryptionKey, KeyId};
use super::provider::KeyProvider;
use crate::error::BoxError;

/// The first byte of what is sealed in this form. JSON, which is what it is not, begins with another.
const VERSION: u8 = 1;
const NONCE_LEN: usize = 24;
/// What the ciphertext is longer by than the plaintext.
const TAG_LEN: usize = 16;
/// What this is sealed for: nothing else that a key may seal one day is taken for it.
const PURPOSE: &[u8] = b"webhook-delivery/endpoint-secrets";

/// How a store keeps secrets: sealed with keys of a [`KeyProvider`], or as they are.
#[derive(Clone, Default)]
pub struct Encryption(Mode);

#[derive(Clone, Default)]
enum Mode {
    /// As they are, and nobody said so.
    #[default]
    Unsaid,
    Plaintext,
    Sealed(Arc<dyn KeyProvider>),
}

impl Encryption {
    /// What a plaintext's buffer needs room for beside it, to be sealed in place.
    pub(crate) const OVERHEAD: usize = TAG_LEN;

    /// Secrets are sealed with the provider's current key, and opened with the one that sealed them. What was
    /// stored as it is before stays readable.
    pub fn with(keys: impl KeyProvider + 'static) -> Self {
        Self(Mode::Sealed(Arc::new(keys)))
    }

    /// Secrets are stored as they are, on purpose.
    #[must_use]
    pub fn plaintext() -> Self {
        Self(Mode::Plaintext)
    }

    /// Warns if secrets are stored as they are and nobody said so. For a store that is opened.
    pub fn warn_if_unsaid(&self) {
        if matches!(self.0, Mode::Unsaid) {
            tracing::warn!(
                "the endpoints' secrets are stored as they are: give the store's builder keys with \
                 `encryption`, or say `plaintext`"
            );
        }
    }

    /// Whether these stored bytes are what [`seal`](Self::seal) would make now, but for the nonce.
    pub(crate) fn is_current(&self, stored: &[u8]) -> bool {
        match &self.0 {
            Mode::Unsaid | Mode::Plaintext => true,
            Mode::Sealed(keys) => {
                let sealed = Sealed::parse(stored);
                let current = surviving(|| keys.current());
                let current = current.as_ref().map(EncryptionKey::id);
                sealed.is_ok_and(|it| it.is_some_and(|it| Some(&it.key) == current))
            }
        }
    }

    /// What to store of `plain`. Its buffer is used, and erased.
    pub(crate) fn seal(
        &self,
        mut plain: Zeroizing<Vec<u8>>,
        context: Context<'_>,
    ) -> Result<Vec<u8>, BoxError> {
        let Mode::Sealed(keys) = &self.0 else {
            return Ok(std::mem::take(&mut *plain));
        };
        let key = surviving(|| keys.current()).ok_or("the provider of keys panicked")?;
        let mut stored = header(key.id());
        let mut nonce = [0; NONCE_LEN];
        rand::make_rng::<StdRng>().fill_bytes(&mut nonce);
        // Else it would grow, and leave a copy behind.
        plain.reserve_exact(TAG_LEN);
        cipher(&key)
            .encrypt_in_place(
                &XNonce::from(nonce),
                &context.bound_to(&stored),
                &mut *plain,
            )
            .map_err(|_| "the secrets cannot be sealed")?;
        stored.extend_from_slice(&nonce);
        stored.extend_from_slice(&plain);
        Ok(stored)
    }

    /// What was sealed, or stored as it is.
    pub(crate) fn open(
        &self,
        stored: &[u8],
        context: Context<'_>,
    ) -> Result<Zeroizing<Vec<u8>>, CannotOpen> {
        let Some(sealed) = Sealed::parse(stored)? else {
            return Ok(Zeroizing::new(stored.to_vec()));
        };
        let keys = match &self.0 {
            Mode::Sealed(keys) => keys,
            Mode::Unsaid | Mode::Plaintext => return Err(CannotOpen::NoKeys(sealed.key)),
        };
        let key = match surviving(|| keys.key(&sealed.key)) {
            Some(Some(key)) => key,
            Some(None) => return Err(CannotOpen::NoKey(sealed.key)),
            None => return Err(CannotOpen::Panicked(sealed.key)),
        };
        let mut buffer = Zeroizing::new(sealed.ciphertext.to_vec());
        let nonce = XNonce::from(sealed.nonce);
        match cipher(&key).decrypt_in_place(&nonce, &context.bound_to(sealed.header), &mut *buffer)
        {
            Ok(()) => Ok(buffer),
            Err(_) => Err(CannotOpen::Refused(sealed.key)),
        }
    }
}

impl fmt::Debug for Encryption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Mode::Unsaid | Mode::Plaintext => "Encryption(plaintext)",
            Mode::Sealed(_) => "Encryption(sealed)",
        })
    }
}

/// Whose secrets are sealed: those of another endpoint, put in their place, do not open.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) tenant: &'a str,
    pub(crate) endpoint: Uuid,
}

impl Context<'_> {
    /// What is authenticated beside the ciphertext. Only the last part's length is not known from the rest.
    fn bound_to(self, header: &[u8]) -> Vec<u8> {
        [
            header,
            PURPOSE,
            self.endpoint.as_bytes(),
            self.tenant.as_bytes(),
        ]
        .concat()
    }
}

/// Why stored secrets do not open.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CannotOpen {
    #[error("they are sealed with the key {0}, and this store has no keys")]
    NoKeys(KeyId),
    #[error("they are sealed with the key {0}, which is not at hand")]
    NoKey(KeyId),
    #[error("they do not open with the key {0}: it is another, or they are not this endpoint's")]
    Refused(KeyId),
    #[error(
        "they are sealed with the key {0}, and the provider of keys panicked when it was asked for that"
    )]
    Panicked(KeyId),
    #[error("they are neither sealed nor plain")]
    Malformed,
}

/// Sealed bytes, taken apart.
struct Sealed<'a> {
    header: &'a [u8],
    key: KeyId,
    nonce: [u8; NONCE_LEN],
    ciphertext: &'a [u8],
}

impl<'a> Sealed<'a> {
    /// `None` if the bytes are not sealed.
    fn parse(stored: &'a [u8]) -> Result<Option<Self>, CannotOpen> {
        let Some((&VERSION, rest)) = stored.split_first() else {
            return Ok(None);
        };
        let parsed = || {
            let (&id_len, rest) = rest.split_first()?;
            let (id, rest) = rest.split_at_checked(id_len.into())?;
            let (nonce, ciphertext) = rest.split_first_chunk()?;
            Some(Self {
                header: &stored[..2 + id.len()],
                key: KeyId::new(std::str::from_utf8(id).ok()?).ok()?,
                nonce: *nonce,
                ciphertext,
            })
        };
        parsed().map(Some).ok_or(CannotOpen::Malformed)
    }
}

/// What a host's provider answers; nothing if it panics: its endpoints wait then as if the key were away, and all else
/// that is read with them does not.
fn surviving<T>(ask: impl FnOnce() -> T) -> Option<T> {
    let answer = catch_unwind(AssertUnwindSafe(ask));
    answer
        .inspect_err(|_| tracing::error!("the provider of keys panicked"))
        .ok()
}

fn header(id: &KeyId) -> Vec<u8> {
    let id = id.as_str().as_bytes();
    // An id has at most 64 bytes.
    let len = u8::try_from(id.len()).unwrap_or(u8::MAX);
    [&[VERSION, len], id].concat()
}

fn cipher(key: &EncryptionKey) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(key.bytes().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encryption::StaticKeys;

    const PLAIN: &[u8] = b"{\"canary\"}";

    fn context(tenant: &str, endpoint: u128) -> Context<'_> {
        Context {
            tenant,
            endpoint: Uuid::from_u128(endpoint),
        }
    }

    fn plain() -> Zeroizing<Vec<u8>> {
        Zeroizing::new(PLAIN.to_vec())
    }

    fn sealed_by(key: &EncryptionKey) -> Encryption {
        Encryption::with(StaticKeys::new(key.clone()))
    }

    #[test]
    fn what_is_sealed_opens_and_is_never_the_same_twice() {
        let encryption = sealed_by(&EncryptionKey::random());
        let seal = || encryption.seal(plain(), context("acme", 7)).unwrap();
        let (one, two) = (seal(), seal());
        assert_ne!(one, two);
        for stored in [one, two] {
            assert!(!stored.windows(6).any(|it| it == b"canary"));
            assert_eq!(
                *encryption.open(&stored, context("acme", 7)).unwrap(),
                PLAIN
            );
            assert!(encryption.is_current(&stored));
        }
    }

    #[test]
    fn nothing_opens_for_another_owner_or_when_a_bit_differs() {
        let encryption = sealed_by(&EncryptionKey::random());
        let stored = encryption.seal(plain(), context("acme", 7)).unwrap();
        for other in [context("acme", 8), context("acm", 7), context("acmee", 7)] {
            let refused = encryption.open(&stored, other);
            assert!(matches!(refused, Err(CannotOpen::Refused(_))));
        }
        for at in 0..stored.len() {
            let mut spoilt = stored.clone();
            spoilt[at] ^= 1;
            // The first byte says that it is sealed at all: without it these bytes are no JSON.
            let opened = encryption.open(&spoilt, context("acme", 7));
            assert!(opened.is_err() || at == 0, "{at}");
            assert!(opened.ok().is_none_or(|it| *it != PLAIN), "{at}");
        }
        for len in 1..stored.len() {
            assert!(
                encryption.open(&stored[..len], context("acme", 7)).is_err(),
                "{len}"
            );
        }
    }

    #[test]
    fn a_missing_key_and_a_wrong_one_are_told_apart() {
        let (key, other) = (EncryptionKey::random(), EncryptionKey::random());
        let stored = sealed_by(&key).seal(plain(), context("acme", 7)).unwrap();
        let open = |encryption: &Encryption| encryption.open(&stored, context("acme", 7));
        assert!(matches!(open(&sealed_by(&other)), Err(CannotOpen::NoKey(id)) if id == *key.id()));
        assert!(matches!(
            open(&Encryption::plaintext()),
            Err(CannotOpen::NoKeys(_))
        ));
        let wrong = sealed_by(&other.named(key.id().clone()));
        assert!(matches!(open(&wrong), Err(CannotOpen::Refused(_))));
    }

    #[test]
    fn a_provider_that_panics_opens_and_seals_nothing_and_takes_nobody_along() {
        struct Broken;
        impl KeyProvider for Broken {
            fn current(&self) -> EncryptionKey {
                panic!("a defect")
            }

            fn key(&self, _: &KeyId) -> Option<EncryptionKey> {
                panic!("a defect")
            }
        }
        let key = EncryptionKey::random();
        let stored = sealed_by(&key).seal(plain(), context("acme", 7)).unwrap();
        let broken = Encryption::with(Broken);
        let opened = broken.open(&stored, context("acme", 7));
        assert!(matches!(opened, Err(CannotOpen::Panicked(id)) if id == *key.id()));
        assert!(broken.seal(plain(), context("acme", 7)).is_err());
        assert!(!broken.is_current(&stored));
    }

    #[test]
    fn plaintext_stays_readable_and_is_not_current_once_there_is_a_key() {
        let stored = Encryption::plaintext()
            .seal(plain(), context("acme", 7))
            .unwrap();
        assert_eq!(stored, PLAIN);
        let encryption = sealed_by(&EncryptionKey::random());
        assert_eq!(
            *encryption.open(&stored, context("acme", 7)).unwrap(),
            PLAIN
        );
        assert!(!encryption.is_current(&stored) && Encryption::default().is_current(&stored));
    }
}

//! Where keys come from.

use std::str::FromStr;
use std::sync::Arc;

use super::key::{EncryptionKey, InvalidKey, KeyId};

/// Where a store gets the keys that seal secrets: [`StaticKeys`], or a key service that a host wraps.
///
/// The contract:
/// - **At once.** It is asked for each endpoint that is read or written, on the runtime's threads. One that
///   fetches keys from elsewhere does so beforehand, and keeps them.
/// - **What sealed once must open.** A key leaves the provider only when nothing is sealed with it any more:
///   [`Dispatcher::rekey`](crate::Dispatcher::rekey) sees to that. Until it is back, the endpoints that it sealed
///   wait with their deliveries.
/// - In a fleet every process must know a key before one of them makes it the current one.
///
/// ```
/// use webhook_core::{EncryptionKey, KeyId, KeyProvider};
///
/// /// Keys as a service handed them out.
/// struct Fetched(Vec<EncryptionKey>);
///
/// impl KeyProvider for Fetched {
///     fn current(&self) -> EncryptionKey {
///         self.0[0].clone()
///     }
///
///     fn key(&self, id: &KeyId) -> Option<EncryptionKey> {
///         self.0.iter().find(|key| key.id() == id).cloned()
///     }
/// }
/// ```
pub trait KeyProvider: Send + Sync {
    /// The key that seals from now on.
    fn current(&self) -> EncryptionKey;

    /// The key of this id, the current one among them; `None` if it is not there, or not now.
    fn key(&self, id: &KeyId) -> Option<EncryptionKey>;
}

impl<T: KeyProvider + ?Sized> KeyProvider for Arc<T> {
    fn current(&self) -> EncryptionKey {
        T::current(self)
    }

    fn key(&self, id: &KeyId) -> Option<EncryptionKey> {
        T::key(self, id)
    }
}

/// Keys that stay as they are: the one that seals, and older ones that still open.
///
/// Read from base64 with commas between, the current key first. To change a key: give the new one as an older one
/// to every process, then move it to the front, then re-key, then leave the old one out.
///
/// ```
/// use webhook_core::{EncryptionKey, KeyProvider, StaticKeys};
///
/// let (new, old) = (EncryptionKey::random(), EncryptionKey::random());
/// let keys: StaticKeys = format!("{},{}", new.expose(), old.expose()).parse()?;
/// assert_eq!(keys.current().id(), new.id());
/// assert!(keys.key(old.id()).is_some());
/// # Ok::<(), webhook_core::InvalidKey>(())
/// ```
#[derive(Clone, Debug)]
pub struct StaticKeys {
    current: EncryptionKey,
    older: Vec<EncryptionKey>,
}

impl StaticKeys {
    /// One key, which seals and opens.
    #[must_use]
    pub fn new(current: EncryptionKey) -> Self {
        Self {
            current,
            older: Vec::new(),
        }
    }

    /// Another key, which only opens.
    ///
    /// # Errors
    /// [`InvalidKey::Duplicate`] when there is one of its id already.
    pub fn older(mut self, key: EncryptionKey) -> Result<Self, InvalidKey> {
        if self.key(key.id()).is_some() {
            return Err(InvalidKey::Duplicate);
        }
        self.older.push(key);
        Ok(self)
    }
}

impl KeyProvider for StaticKeys {
    fn current(&self) -> EncryptionKey {
        self.current.clone()
    }

    fn key(&self, id: &KeyId) -> Option<EncryptionKey> {
        let mut keys = std::iter::once(&self.current).chain(&self.older);
        keys.find(|key| key.id() == id).cloned()
    }
}

impl FromStr for StaticKeys {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        let mut keys = text.split(',').map(|key| key.trim().parse());
        let current = keys.next().unwrap_or(Err(InvalidKey::Key))?;
        keys.try_fold(Self::new(current), |all, key| all.older(key?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_key_seals_and_all_open() {
        let [new, old, lost] = std::array::from_fn(|_| EncryptionKey::random());
        let keys: StaticKeys = format!("{}, {}\n", new.expose(), old.expose())
            .parse()
            .unwrap();
        assert_eq!(keys.current().id(), new.id());
        assert!(keys.key(new.id()).is_some() && keys.key(old.id()).is_some());
        assert!(keys.key(lost.id()).is_none());
        let twice = format!("{0},{0}", new.expose());
        assert_eq!(
            twice.parse::<StaticKeys>().unwrap_err(),
            InvalidKey::Duplicate
        );
        for bad in ["", ",", &format!("{},", new.expose()), "plaintext"] {
            assert_eq!(
                bad.parse::<StaticKeys>().unwrap_err(),
                InvalidKey::Key,
                "{bad}"
            );
        }
    }
}

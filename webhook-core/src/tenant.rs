//! Whose event or endpoint it is.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, LazyLock};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use uuid::Uuid;

/// A customer of the host: the wall between one customer's events and endpoints and another's.
///
/// 1 to 128 visible characters without white space, as the host names its customers. A host without
/// customers leaves it at [`Tenant::default`], which is `default`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tenant(Arc<str>);

/// The text cannot name a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a tenant is 1 to 128 characters, without white space and control characters")]
pub struct InvalidTenant;

impl Tenant {
    /// The tenant called `name`.
    ///
    /// # Errors
    /// When `name` is empty, longer than 128 bytes, or holds white space or control characters.
    pub fn new(name: &str) -> Result<Self, InvalidTenant> {
        let fits = (1..=128).contains(&name.len());
        if fits && !name.chars().any(|c| c.is_whitespace() || c.is_control()) {
            Ok(Self(name.into()))
        } else {
            Err(InvalidTenant)
        }
    }

    /// The host's own tenant, unless it is [another](crate::Builder::system_tenant).
    pub(crate) fn system() -> Self {
        Self("system".into())
    }

    /// The name as the host gave it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Tenant {
    fn default() -> Self {
        static DEFAULT: LazyLock<Tenant> = LazyLock::new(|| Tenant("default".into()));
        DEFAULT.clone()
    }
}

impl FromStr for Tenant {
    type Err = InvalidTenant;

    fn from_str(name: &str) -> Result<Self, InvalidTenant> {
        Self::new(name)
    }
}

impl fmt::Display for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl Serialize for Tenant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Tenant {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::new(&name).map_err(D::Error::custom)
    }
}

/// Whose rows a call may see or touch. What lies outside is as if it did not exist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// Every tenant: the host itself.
    #[default]
    All,
    /// One tenant only: not the [system tenant](crate::Builder::system_tenant), whose events tell of all others, where a
    /// customer asks.
    Tenant(Tenant),
}

impl Scope {
    /// Whether what belongs to `tenant` is inside.
    #[must_use]
    pub fn contains(&self, tenant: &Tenant) -> bool {
        match self {
            Self::All => true,
            Self::Tenant(own) => own == tenant,
        }
    }
}

impl From<Tenant> for Scope {
    fn from(tenant: Tenant) -> Self {
        Self::Tenant(tenant)
    }
}

/// The rows of a list that come next: newest first, keyed by id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRequest {
    /// Only what is older than this id.
    pub before: Option<Uuid>,
    /// The most rows to return.
    pub limit: usize,
}

impl PageRequest {
    /// The newest `limit` rows.
    #[must_use]
    pub fn first(limit: usize) -> Self {
        Self {
            before: None,
            limit,
        }
    }
}

impl Default for PageRequest {
    /// The newest 50 rows.
    fn default() -> Self {
        Self::first(50)
    }
}

/// One page of a list, newest first.
///
/// It may hold fewer rows than were asked for, or none, with a `next`: where a filter matches few rows, a backend looks at
/// no more than so many for one page. All that is newer than `next` has been looked at then.
#[derive(Clone, Debug, PartialEq)]
pub struct Page<T> {
    /// The rows.
    pub items: Vec<T>,
    /// Where the next page begins; `None` after the last.
    pub next: Option<Uuid>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_visible_and_short() {
        for good in ["default", "acme", "org_1:eu-west", "Zoë"] {
            assert_eq!(Tenant::new(good).unwrap().as_str(), good);
        }
        for bad in ["", " ", "a b", "a\n", "a\u{0}", &"x".repeat(129)] {
            assert_eq!(Tenant::new(bad), Err(InvalidTenant), "{bad:?}");
        }
    }

    #[test]
    fn a_scope_is_a_wall() {
        let (a, b) = (Tenant::new("a").unwrap(), Tenant::new("b").unwrap());
        assert!(Scope::All.contains(&a));
        assert!(Scope::from(a.clone()).contains(&a));
        assert!(!Scope::from(a).contains(&b));
    }
}

//! Tenants: to whom events and endpoints belong.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, LazyLock};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use uuid::Uuid;

/// A customer of the host. Nobody sees the events and endpoints of another tenant.
///
/// Its name is what the host calls the customer: 1 to 128 visible characters without white space. A host without customers uses
/// [`Tenant::default`], which is `default`. Cheap to clone.
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

    /// The tenant of the events that tell the host about endpoints, unless it [sets another](crate::Builder::system_tenant).
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

/// The rows that a call may see or touch. Rows outside the scope are as if they did not exist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// Every tenant: the host itself.
    #[default]
    All,
    /// One tenant only. If a customer asks, it must not be the [system tenant](crate::Builder::system_tenant), whose events tell
    /// about all other tenants.
    Tenant(Tenant),
}

impl Scope {
    /// Whether rows of `tenant` are inside the scope.
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

/// Which rows of a list to return. Lists go from the newest to the oldest id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRequest {
    /// Only rows with an older id than this.
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

//! The audit log: who did what.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};
use uuid::Uuid;

use crate::delivery::UnknownWord;
use crate::tenant::{Scope, Tenant};
use crate::time::Timestamp;

/// The most characters of an actor's name that are kept.
const MAX_ACTOR: usize = 256;

/// Something that somebody did through the management API. It holds no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// Its id, by which lists are paged.
    pub id: Uuid,
    /// When it was done.
    pub at: Timestamp,
    /// The name of who did it.
    pub actor: String,
    /// The tenant that it concerns; `None` if it concerns all tenants. Such entries are visible only with [`Scope::All`].
    pub tenant: Option<Tenant>,
    /// The action.
    pub action: AuditAction,
    /// What it was done to: an id, or a name.
    pub target: String,
    /// Details for people: `url, state: paused`. Empty if there is nothing to say.
    pub detail: String,
}

/// Which entries a list shows: those for which every field that is set holds. [`Default`] is all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuditFilter {
    /// Entries by this actor.
    pub actor: Option<String>,
    /// Entries of this action.
    pub action: Option<AuditAction>,
    /// Entries about this target.
    pub target: Option<String>,
    /// Entries of this time or later.
    pub since: Option<Timestamp>,
    /// Entries of before this time.
    pub until: Option<Timestamp>,
}

impl AuditFilter {
    /// Only entries by this actor.
    #[must_use]
    pub fn actor(mut self, name: impl Into<Option<String>>) -> Self {
        self.actor = name.into();
        self
    }

    /// Only entries of this action.
    #[must_use]
    pub fn action(mut self, action: impl Into<Option<AuditAction>>) -> Self {
        self.action = action.into();
        self
    }

    /// Only entries about this target.
    #[must_use]
    pub fn target(mut self, target: impl Into<Option<String>>) -> Self {
        self.target = target.into();
        self
    }

    /// Only entries of this time or later.
    #[must_use]
    pub fn since(mut self, time: impl Into<Option<Timestamp>>) -> Self {
        self.since = time.into();
        self
    }

    /// Only entries of before this time.
    #[must_use]
    pub fn until(mut self, time: impl Into<Option<Timestamp>>) -> Self {
        self.until = time.into();
        self
    }
}

/// What somebody did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AuditAction {
    /// Made an endpoint.
    EndpointCreate,
    /// Changed an endpoint.
    EndpointUpdate,
    /// Removed an endpoint.
    EndpointDelete,
    /// Gave an endpoint a new secret.
    EndpointRotateSecret,
    /// Sent an endpoint a test event.
    EndpointTest,
    /// Sent an event by hand.
    EventSend,
    /// Sent an event again.
    EventReplay,
    /// Sent a delivery again.
    DeliveryReplay,
    /// Cancelled a delivery.
    DeliveryCancel,
    /// Started a bulk replay.
    ReplayStart,
    /// Cancelled a bulk replay.
    ReplayCancel,
    /// Put an event type into the catalogue.
    EventTypePut,
    /// Erased a tenant.
    TenantDelete,
}

impl AuditAction {
    /// All there are.
    pub const ALL: [Self; 13] = [
        Self::EndpointCreate,
        Self::EndpointUpdate,
        Self::EndpointDelete,
        Self::EndpointRotateSecret,
        Self::EndpointTest,
        Self::EventSend,
        Self::EventReplay,
        Self::DeliveryReplay,
        Self::DeliveryCancel,
        Self::ReplayStart,
        Self::ReplayCancel,
        Self::EventTypePut,
        Self::TenantDelete,
    ];

    /// The word used in SQL and routes: `endpoint.create`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EndpointCreate => "endpoint.create",
            Self::EndpointUpdate => "endpoint.update",
            Self::EndpointDelete => "endpoint.delete",
            Self::EndpointRotateSecret => "endpoint.rotate_secret",
            Self::EndpointTest => "endpoint.test",
            Self::EventSend => "event.send",
            Self::EventReplay => "event.replay",
            Self::DeliveryReplay => "delivery.replay",
            Self::DeliveryCancel => "delivery.cancel",
            Self::ReplayStart => "replay.start",
            Self::ReplayCancel => "replay.cancel",
            Self::EventTypePut => "event_type.put",
            Self::TenantDelete => "tenant.delete",
        }
    }
}

impl fmt::Display for AuditAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for AuditAction {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        let mut all = Self::ALL.into_iter();
        all.find(|action| action.as_str() == word)
            .ok_or_else(|| UnknownWord::new(word, "action"))
    }
}

impl Serialize for AuditAction {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl AuditEntry {
    /// Whether it may be seen within a scope.
    #[must_use]
    pub fn is_in(&self, scope: &Scope) -> bool {
        match (scope, &self.tenant) {
            (Scope::All, _) => true,
            (Scope::Tenant(_), None) => false,
            (Scope::Tenant(own), Some(tenant)) => own == tenant,
        }
    }
}

impl AuditFilter {
    /// Whether an entry is one of those.
    #[must_use]
    pub fn matches(&self, entry: &AuditEntry) -> bool {
        fn is<T: PartialEq>(wanted: Option<&T>, found: &T) -> bool {
            wanted.is_none_or(|wanted| wanted == found)
        }
        is(self.actor.as_ref(), &entry.actor)
            && is(self.action.as_ref(), &entry.action)
            && is(self.target.as_ref(), &entry.target)
            && self.since.is_none_or(|since| entry.at >= since)
            && self.until.is_none_or(|until| entry.at < until)
    }
}

/// A name as every backend can keep it.
pub(crate) fn actor_name(name: &str) -> String {
    let shown = |c: char| match c.is_control() {
        true => char::REPLACEMENT_CHARACTER,
        false => c,
    };
    name.chars().take(MAX_ACTOR).map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_are_told_by_their_words() {
        for action in AuditAction::ALL {
            assert_eq!(action.as_str().parse(), Ok(action));
        }
        assert!("endpoint".parse::<AuditAction>().is_err());
    }

    #[test]
    fn names_are_short_and_without_control_characters() {
        assert_eq!(actor_name("Zoë\0\n"), "Zoë\u{fffd}\u{fffd}");
        assert_eq!(actor_name(&"ä".repeat(300)).chars().count(), 256);
    }
}

//! Endpoints: where a tenant's events go, and how.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::delivery::UnknownWord;
use crate::event::EventType;
use crate::filter::{EventPattern, FilterMiss, PayloadFilter};
use crate::headers::{CustomHeaders, InvalidHeader};
use crate::payload::Payload;
use crate::signing::Secret;
use crate::tenant::Tenant;
use crate::time::Timestamp;
use crate::url::EndpointUrl;

/// A tenant's URL with its secrets, event filter, limits and state.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Its id, which is also its lane's.
    pub id: Uuid,
    /// Whose it is.
    pub tenant: Tenant,
    /// Where its deliveries go.
    pub url: EndpointUrl,
    /// What it receives, and how.
    pub settings: EndpointSettings,
    /// The secrets that sign, the newest first.
    pub secrets: Vec<EndpointSecret>,
    /// Whether deliveries go out.
    pub state: EndpointState,
    /// Why it is not enabled.
    pub state_reason: Option<StateReason>,
    /// Counts its changes, so that two writers cannot overwrite each other unseen.
    pub version: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed. Its deliveries grow old from then on.
    pub updated_at: Timestamp,
}

/// What an endpoint receives, and how. [`Default`] is every event, at the dispatcher's defaults.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EndpointSettings {
    /// For people; at most 1,024 characters.
    pub description: String,
    /// The event types it receives; empty means all. At most 256.
    pub event_types: Vec<EventPattern>,
    /// Conditions on the payload.
    pub filter: Option<PayloadFilter>,
    /// Headers beside ours.
    pub headers: CustomHeaders,
    /// At most so many attempts in a time.
    pub rate_limit: Option<RateLimit>,
    /// At most so many attempts at once over all processes, 1..=1,000; the dispatcher's default if `None`.
    pub max_in_flight: Option<u32>,
    /// One attempt at a time, in the order of acceptance. A failed event is retried before those that follow it. So an
    /// event that waits, for its retry or for its [`deliver_at`](crate::NewEvent::deliver_at), holds up all that follow.
    pub ordered: bool,
    /// The total deadline of an attempt, 1 s..=60 s; the dispatcher's default if `None`.
    pub timeout: Option<Duration>,
    /// The delays between attempts, at most 20 of up to 7 days; the dispatcher's default if `None`.
    pub retry_schedule: Option<Vec<Duration>>,
}

/// At most `limit` attempts every `per`. A burst of a tenth of `limit`, at least one, is let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Attempts, 1..=1,000,000.
    pub limit: u32,
    /// In this time, 1 s..=1 day.
    pub per: Duration,
}

/// A secret of an endpoint, and until when it signs.
#[derive(Clone, Debug)]
pub struct EndpointSecret {
    /// The key.
    pub secret: Secret,
    /// When it stops signing, after a rotation; `None` for the current one.
    pub expires_at: Option<Timestamp>,
}

/// Whether an endpoint's deliveries go out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndpointState {
    /// They do.
    #[default]
    Enabled,
    /// They wait for as long as it takes, and new ones gather.
    Paused,
    /// They wait for as long as it takes, and no new ones are made.
    Disabled,
}

impl EndpointState {
    /// The `snake_case` word used in SQL, routes and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::Paused => "paused",
            Self::Disabled => "disabled",
        }
    }
}

impl fmt::Display for EndpointState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no state of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a state is one of enabled, paused, disabled")]
pub struct InvalidState;

impl FromStr for EndpointState {
    type Err = InvalidState;

    fn from_str(text: &str) -> Result<Self, InvalidState> {
        let all = [Self::Enabled, Self::Paused, Self::Disabled];
        all.into_iter()
            .find(|state| state.as_str() == text)
            .ok_or(InvalidState)
    }
}

/// Why an endpoint is not enabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum StateReason {
    /// A person or the host asked for it.
    Requested,
    /// It answered 410.
    Gone,
    /// Nothing but failures came from it for too long.
    Failing,
}

impl StateReason {
    /// The `snake_case` word used in SQL, routes and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Gone => "gone",
            Self::Failing => "failing",
        }
    }
}

impl FromStr for StateReason {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        [Self::Requested, Self::Gone, Self::Failing]
            .into_iter()
            .find(|reason| reason.as_str() == word)
            .ok_or_else(|| UnknownWord::new(word, "state reason"))
    }
}

/// How the queue schedules one endpoint's jobs. Travels with every job, so that a queue that was erased
/// learns it anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneLimits {
    /// At most so many jobs leased at once, over all processes; [`u32::MAX`] where the endpoint sets no cap.
    pub max_in_flight: u32,
    /// At most so many jobs claimed in a time, over all processes.
    pub rate: Option<RateLimit>,
    /// Strictly in the order of [`Job::sequence`](crate::Job::sequence), one at a time.
    pub ordered: bool,
}

impl Default for LaneLimits {
    fn default() -> Self {
        Self {
            max_in_flight: u32::MAX,
            rate: None,
            ordered: false,
        }
    }
}

impl Endpoint {
    /// Whether it receives events of this type: enabled or paused, and one of its patterns matches.
    #[must_use]
    pub fn accepts(&self, event_type: &EventType) -> bool {
        self.state != EndpointState::Disabled && self.wants(event_type)
    }

    /// Whether one of its patterns matches, whatever its state.
    pub(crate) fn wants(&self, event_type: &EventType) -> bool {
        let types = &self.settings.event_types;
        types.is_empty() || types.iter().any(|pattern| pattern.matches(event_type))
    }

    /// Whether the payload filter lets an event with this [payload](crate::Event::payload) through. Of several endpoints
    /// ask all with one: it is read once.
    #[must_use]
    pub fn lets_through(&self, payload: &Payload<'_>) -> bool {
        self.filter_miss(payload).is_none()
    }

    /// What of the payload filter does not hold for an event with this payload.
    pub(crate) fn filter_miss(&self, payload: &Payload<'_>) -> Option<FilterMiss> {
        self.settings.filter.as_ref()?.miss(payload)
    }

    /// The current secret: the one to show its owner, once.
    #[must_use]
    pub fn secret(&self) -> Option<&Secret> {
        self.secrets.first().map(|secret| &secret.secret)
    }

    /// The secrets that sign at `now`, the newest first.
    pub fn live_secrets(&self, now: Timestamp) -> impl Iterator<Item = &Secret> {
        let live = move |secret: &&EndpointSecret| secret.expires_at.is_none_or(|end| now < end);
        self.secrets
            .iter()
            .filter(live)
            .map(|secret| &secret.secret)
    }

    /// How its lane is scheduled.
    #[must_use]
    pub fn lane_limits(&self) -> LaneLimits {
        let ordered = self.settings.ordered;
        LaneLimits {
            max_in_flight: if ordered {
                1
            } else {
                self.settings.max_in_flight.unwrap_or(u32::MAX)
            },
            rate: self.settings.rate_limit,
            ordered,
        }
    }
}

/// An endpoint as a host asks for it.
///
/// ```
/// use webhook_core::{NewEndpoint, Tenant};
///
/// let endpoint = NewEndpoint::new("https://hooks.example.com/in".parse()?)
///     .tenant(Tenant::new("acme")?)
///     .event_types(["order.*".parse()?, "invoice.paid".parse()?]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct NewEndpoint {
    pub(crate) tenant: Tenant,
    pub(crate) url: EndpointUrl,
    pub(crate) settings: EndpointSettings,
    pub(crate) secret: Option<Secret>,
}

impl NewEndpoint {
    /// An endpoint that receives every event of the `default` tenant.
    #[must_use]
    pub fn new(url: EndpointUrl) -> Self {
        Self {
            tenant: Tenant::default(),
            url,
            settings: EndpointSettings::default(),
            secret: None,
        }
    }

    /// Whose it is.
    #[must_use]
    pub fn tenant(mut self, tenant: Tenant) -> Self {
        self.tenant = tenant;
        self
    }

    /// The event types it receives; all unless said.
    #[must_use]
    pub fn event_types(mut self, patterns: impl Into<Vec<EventPattern>>) -> Self {
        self.settings.event_types = patterns.into();
        self
    }

    /// Conditions on the payload.
    #[must_use]
    pub fn filter(mut self, filter: PayloadFilter) -> Self {
        self.settings.filter = Some(filter);
        self
    }

    /// For people.
    #[must_use]
    pub fn description(mut self, text: impl Into<String>) -> Self {
        self.settings.description = text.into();
        self
    }

    /// At most so many attempts in a time.
    #[must_use]
    pub fn rate_limit(mut self, rate: RateLimit) -> Self {
        self.settings.rate_limit = Some(rate);
        self
    }

    /// One attempt at a time, in the order of acceptance. An event that waits, for its retry or for its
    /// [`deliver_at`](crate::NewEvent::deliver_at), holds up all that follow.
    #[must_use]
    pub fn ordered(mut self) -> Self {
        self.settings.ordered = true;
        self
    }

    /// Sends `authorization: Bearer <token>` with each request, as a secret header.
    ///
    /// # Errors
    /// As [`CustomHeaders::bearer`].
    pub fn bearer(mut self, token: &str) -> Result<Self, InvalidHeader> {
        self.settings.headers = self.settings.headers.bearer(token)?;
        Ok(self)
    }

    /// Sends a user's name and password with each request (`authorization: Basic …`), as a secret header.
    ///
    /// # Errors
    /// As [`CustomHeaders::basic`].
    pub fn basic(mut self, user: &str, password: &str) -> Result<Self, InvalidHeader> {
        self.settings.headers = self.settings.headers.basic(user, password)?;
        Ok(self)
    }

    /// All settings at once; replaces what was set before.
    #[must_use]
    pub fn settings(mut self, settings: EndpointSettings) -> Self {
        self.settings = settings;
        self
    }

    /// The secret it signs with, for receivers that have one already; a new one is made unless said.
    #[must_use]
    pub fn secret(mut self, secret: Secret) -> Self {
        self.secret = Some(secret);
        self
    }
}

/// Why settings are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} must be {expected}")]
pub struct InvalidSetting {
    field: &'static str,
    expected: &'static str,
}

impl InvalidSetting {
    pub(crate) fn new(field: &'static str, expected: &'static str) -> Self {
        Self { field, expected }
    }

    /// The setting, by its name in the API.
    #[must_use]
    pub fn field(&self) -> &'static str {
        self.field
    }
}

impl EndpointSettings {
    /// Checks the bounds that each field documents.
    ///
    /// # Errors
    /// The first setting that is out of bounds.
    pub fn validate(&self) -> Result<(), InvalidSetting> {
        let seconds = |range: std::ops::RangeInclusive<u64>, time: Duration| {
            (Duration::from_secs(*range.start())..=Duration::from_secs(*range.end()))
                .contains(&time)
        };
        let day = 86_400;
        let rate_fits =
            |rate: RateLimit| (1..=1_000_000).contains(&rate.limit) && seconds(1..=day, rate.per);
        let schedule_fits = |delays: &Vec<Duration>| {
            delays.len() <= 20 && delays.iter().all(|delay| seconds(0..=7 * day, *delay))
        };
        let checks = [
            (
                self.description.chars().count() <= 1_024,
                "description",
                "at most 1024 characters",
            ),
            (
                self.event_types.len() <= 256,
                "event_types",
                "at most 256 patterns",
            ),
            (
                self.rate_limit.is_none_or(rate_fits),
                "rate_limit",
                "1 to 1000000 in 1 to 86400 seconds",
            ),
            (
                self.max_in_flight.is_none_or(|n| (1..=1_000).contains(&n)),
                "max_in_flight",
                "1 to 1000",
            ),
            (
                self.timeout.is_none_or(|t| seconds(1..=60, t)),
                "timeout_seconds",
                "1 to 60 seconds",
            ),
            (
                self.retry_schedule.as_ref().is_none_or(schedule_fits),
                "retry_schedule",
                "at most 20 delays of 0 to 604800 seconds",
            ),
        ];
        match checks.into_iter().find(|(fits, ..)| !fits) {
            None => Ok(()),
            Some((_, field, expected)) => Err(InvalidSetting { field, expected }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_out_of_bounds_name_their_field() {
        let check = |change: fn(&mut EndpointSettings)| {
            let mut settings = EndpointSettings::default();
            change(&mut settings);
            settings.validate().map_err(|invalid| invalid.field())
        };
        assert_eq!(check(|_| {}), Ok(()));
        assert_eq!(check(|s| s.max_in_flight = Some(0)), Err("max_in_flight"));
        assert_eq!(
            check(|s| s.timeout = Some(Duration::from_secs(61))),
            Err("timeout_seconds")
        );
        assert_eq!(
            check(|s| s.retry_schedule = Some(vec![Duration::ZERO; 21])),
            Err("retry_schedule")
        );
        assert_eq!(check(|s| s.retry_schedule = Some(vec![])), Ok(()));
        assert_eq!(
            check(|s| s.description = "x".repeat(1_025)),
            Err("description")
        );
        let rate = |limit, seconds| {
            Some(RateLimit {
                limit,
                per: Duration::from_secs(seconds),
            })
        };
        let mut settings = EndpointSettings {
            rate_limit: rate(50, 1),
            ..Default::default()
        };
        assert_eq!(settings.validate(), Ok(()));
        settings.rate_limit = rate(0, 1);
        assert!(settings.validate().is_err());
        settings.rate_limit = rate(1, 0);
        assert!(settings.validate().is_err());
    }
}

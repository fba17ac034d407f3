//! Endpoints: where a tenant's events go, and with which settings.

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
    /// Its id, which is also the id of its lane.
    pub id: Uuid,
    /// The tenant that it belongs to.
    pub tenant: Tenant,
    /// Where its deliveries go.
    pub url: EndpointUrl,
    /// What it receives, and with which limits.
    pub settings: EndpointSettings,
    /// The secrets that sign its requests, the newest first.
    pub secrets: Vec<EndpointSecret>,
    /// Whether its deliveries go out.
    pub state: EndpointState,
    /// Why it is not enabled.
    pub state_reason: Option<StateReason>,
    /// Counts the changes, so that two writers cannot overwrite each other unnoticed.
    pub version: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed. The age of its deliveries counts from this time, if they were due before.
    pub updated_at: Timestamp,
}

/// What an endpoint receives, and with which limits. [`Default`] is every event, with the dispatcher's defaults.
///
/// When an endpoint is created or changed, the times in its settings are rounded to whole milliseconds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EndpointSettings {
    /// For people; at most 1,024 characters.
    pub description: String,
    /// The event types it receives; empty means all. At most 256.
    pub event_types: Vec<EventPattern>,
    /// Conditions on the payload.
    pub filter: Option<PayloadFilter>,
    /// Headers that its requests carry beside ours.
    pub headers: CustomHeaders,
    /// The most attempts in a period of time.
    pub rate_limit: Option<RateLimit>,
    /// The most attempts at once over all processes, 1..=1,000; the dispatcher's default if `None`.
    pub max_in_flight: Option<u32>,
    /// One attempt at a time, in the order of acceptance. A failed event is retried before those that follow it. So an
    /// event that waits, for its retry or for its [`deliver_at`](crate::NewEvent::deliver_at), holds up all that follow.
    pub ordered: bool,
    /// The total deadline of an attempt, 1 s..=60 s; the dispatcher's default if `None`.
    pub timeout: Option<Duration>,
    /// The delays between attempts, at most 20 of up to 7 days; the dispatcher's default if `None`.
    pub retry_schedule: Option<Vec<Duration>>,
}

/// At most `limit` attempts every `per`. A tenth of `limit`, at least one, may go out as a burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// The number of attempts, 1..=1,000,000.
    pub limit: u32,
    /// The period, 1 s..=1 day.
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
    /// Its deliveries go out.
    #[default]
    Enabled,
    /// Its deliveries wait, however long it takes, and new events still make new deliveries.
    Paused,
    /// Its deliveries wait, however long it takes, and new events make no deliveries.
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
    /// The endpoint answered 410.
    Gone,
    /// All attempts at the endpoint failed for too long.
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

/// How the queue schedules one endpoint's jobs. Every job carries these limits, so that a queue that was erased learns them
/// again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneLimits {
    /// The most jobs leased at once, over all processes; [`u32::MAX`] if the endpoint sets no cap.
    pub max_in_flight: u32,
    /// The most jobs claimed in a period of time, over all processes.
    pub rate: Option<RateLimit>,
    /// Whether jobs are claimed strictly in the order of [`Job::sequence`](crate::Job::sequence), one at a time.
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

    /// Whether the payload filter lets an event with this [payload](crate::Event::payload) through. Use one `Payload` for all
    /// endpoints that you ask, because it parses the body only once.
    #[must_use]
    pub fn lets_through(&self, payload: &Payload<'_>) -> bool {
        self.filter_miss(payload).is_none()
    }

    /// The condition of the payload filter that does not hold for an event with this payload, if there is one.
    pub(crate) fn filter_miss(&self, payload: &Payload<'_>) -> Option<FilterMiss> {
        self.settings.filter.as_ref()?.miss(payload)
    }

    /// The current secret. Show it to the endpoint's owner once.
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
        Self::with_settings(url, EndpointSettings::default())
    }

    /// An endpoint of the `default` tenant with these settings. The methods below change single ones of them.
    #[must_use]
    pub fn with_settings(url: EndpointUrl, settings: EndpointSettings) -> Self {
        Self {
            tenant: Tenant::default(),
            url,
            settings,
            secret: None,
        }
    }

    /// The tenant that it belongs to; `default` unless set.
    #[must_use]
    pub fn tenant(mut self, tenant: Tenant) -> Self {
        self.tenant = tenant;
        self
    }

    /// The event types it receives; all unless set.
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

    /// The most attempts in a period of time.
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

    /// The most attempts at once over all processes, 1..=1,000.
    #[must_use]
    pub fn max_in_flight(mut self, attempts: u32) -> Self {
        self.settings.max_in_flight = Some(attempts);
        self
    }

    /// The total deadline of an attempt, 1 s..=60 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.settings.timeout = Some(timeout);
        self
    }

    /// The delays between attempts, at most 20 of up to 7 days each. Without a delay there is one attempt.
    #[must_use]
    pub fn retry_schedule(mut self, delays: impl Into<Vec<Duration>>) -> Self {
        self.settings.retry_schedule = Some(delays.into());
        self
    }

    /// The host's own headers, instead of those that were set before. [`bearer`](Self::bearer) and [`basic`](Self::basic)
    /// add to them.
    #[must_use]
    pub fn headers(mut self, headers: CustomHeaders) -> Self {
        self.settings.headers = headers;
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

    /// The secret that signs its requests, for receivers that have one already. Without it, a new secret is made.
    #[must_use]
    pub fn secret(mut self, secret: Secret) -> Self {
        self.secret = Some(secret);
        self
    }
}

/// Why a setting is refused.
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

    /// The setting, by its name in the HTTP API, or the builder's method.
    #[must_use]
    pub fn field(&self) -> &'static str {
        self.field
    }
}

impl EndpointSettings {
    /// The longest that an endpoint may let an attempt take.
    pub(crate) const LONGEST_TIMEOUT: Duration = Duration::from_secs(60);

    /// These settings as they are stored, if they are within the bounds that each field documents.
    pub(crate) fn checked(self) -> Result<Self, InvalidSetting> {
        self.validate()?;
        Ok(self.rounded())
    }

    /// With all times in whole milliseconds, as backends store them: otherwise an endpoint would be shown with other
    /// settings once it is read back.
    pub(crate) fn rounded(mut self) -> Self {
        self.timeout = self.timeout.map(to_millis);
        let delays = self.retry_schedule.iter_mut().flatten();
        delays.for_each(|delay| *delay = to_millis(*delay));
        if let Some(rate) = &mut self.rate_limit {
            rate.per = to_millis(rate.per);
        }
        self
    }

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
                self.timeout
                    .is_none_or(|t| seconds(1..=Self::LONGEST_TIMEOUT.as_secs(), t)),
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

/// The nearest whole number of milliseconds.
fn to_millis(time: Duration) -> Duration {
    let half = Duration::from_micros(500);
    let millis = time.saturating_add(half).as_millis();
    Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rounded_to_milliseconds() {
        let micros = Duration::from_micros;
        let settings = EndpointSettings {
            timeout: Some(micros(1_000_500)),
            retry_schedule: Some(vec![micros(499), micros(1_000), micros(7_500)]),
            rate_limit: Some(RateLimit {
                limit: 1,
                per: micros(1_499_499),
            }),
            ..Default::default()
        };
        let rounded = settings.rounded();
        assert_eq!(rounded.timeout, Some(micros(1_001_000)));
        let delays = vec![micros(0), micros(1_000), micros(8_000)];
        assert_eq!(rounded.retry_schedule, Some(delays));
        assert_eq!(rounded.rate_limit.unwrap().per, micros(1_499_000));
        assert_eq!(rounded.clone().rounded(), rounded);
    }

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

//! Time as the engine uses it: instants in UTC, and the clock they come from.

use std::fmt;
use std::ops::{Add, Sub};
use std::str::FromStr;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// An instant: microseconds since 1970-01-01T00:00:00Z, without leap seconds.
///
/// Shown, parsed and serialised as RFC 3339 in UTC with microseconds, always 27 characters for the
/// years 1970 to 9999: `2025-01-31T08:00:00.000000Z`. Arithmetic saturates at [`EPOCH`](Self::EPOCH) and
/// [`MAX`](Self::MAX).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// The time a backend shall work with: `None` asks the backend's own clock (production), `Some`
/// pins it (tests).
pub type Now = Option<Timestamp>;

impl Timestamp {
    /// The latest instant: 9999-12-30T22:00:00.999999Z. It is 26 hours before the year ends, so that it is still in the
    /// year 9999 in every time zone.
    pub const MAX: Self = Self(253_402_207_200_999_999);
    /// Bytes of the text form.
    pub(crate) const TEXT_LEN: usize = 27;
    /// The start of 1970.
    pub const EPOCH: Self = Self(0);

    /// From microseconds since 1970, clamped to [`EPOCH`](Self::EPOCH)..=[`MAX`](Self::MAX).
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        Self(if micros < 0 {
            0
        } else if micros > Self::MAX.0 {
            Self::MAX.0
        } else {
            micros
        })
    }

    /// From seconds since 1970, clamped to [`EPOCH`](Self::EPOCH)..=[`MAX`](Self::MAX).
    #[must_use]
    pub const fn from_seconds(seconds: i64) -> Self {
        Self::from_micros(seconds.saturating_mul(1_000_000))
    }

    /// Microseconds since 1970.
    #[must_use]
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Whole seconds since 1970, the unit of `webhook-timestamp`.
    #[must_use]
    pub const fn as_seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// The time from `earlier` to `self`; zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, by: Duration) -> Self {
        let by = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
        Self::from_micros(self.0.saturating_add(by))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;

    fn sub(self, by: Duration) -> Self {
        let by = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
        Self::from_micros(self.0.saturating_sub(by))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(at) => write!(f, "{at:.6}"),
            Err(_) => f.write_str("9999-12-30T22:00:00.999999Z"),
        }
    }
}

/// The text is not an RFC 3339 time between 1970 and 9999.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an RFC 3339 time between 1970 and 9999, such as 2025-01-31T08:00:00Z")]
pub struct InvalidTimestamp;

impl FromStr for Timestamp {
    type Err = InvalidTimestamp;

    fn from_str(text: &str) -> Result<Self, InvalidTimestamp> {
        let at: jiff::Timestamp = text.parse().map_err(|_| InvalidTimestamp)?;
        match at.as_microsecond() {
            micros if (0..=Self::MAX.0).contains(&micros) => Ok(Self(micros)),
            _ => Err(InvalidTimestamp),
        }
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

/// Where a process reads its time, and waits.
///
/// Production uses [`SystemClock`]; tests use [`ManualClock`](crate::testing::ManualClock).
#[async_trait]
pub trait Clock: Send + Sync {
    /// This process's time, for what only this process stamps (`webhook-timestamp`).
    fn now(&self) -> Timestamp;

    /// The time handed to every backend call: `None` lets the backend ask its own clock.
    fn pinned(&self) -> Now;

    /// Returns when `by` has passed.
    async fn sleep(&self, by: Duration);
}

/// The operating system's clock; backends use their own.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        system_now()
    }

    fn pinned(&self) -> Now {
        None
    }

    async fn sleep(&self, by: Duration) {
        tokio::time::sleep(by).await;
    }
}

/// The one place that reads the operating system's clock.
#[allow(clippy::disallowed_methods)]
pub(crate) fn system_now() -> Timestamp {
    let since_epoch = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::EPOCH + since_epoch
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_is_rfc_3339_with_microseconds_and_round_trips() {
        for micros in [0, 1, 1_765_432_109_876_543, Timestamp::MAX.0] {
            let at = Timestamp::from_micros(micros);
            let text = at.to_string();
            assert_eq!(text.len(), Timestamp::TEXT_LEN, "{text}");
            assert_eq!(text.parse::<Timestamp>().unwrap(), at);
        }
        assert_eq!(
            Timestamp::from_seconds(1_700_000_000).to_string(),
            "2023-11-14T22:13:20.000000Z"
        );
    }

    #[test]
    fn offsets_are_converted_and_nonsense_is_refused() {
        let at: Timestamp = "2023-11-14T23:13:20+01:00".parse().unwrap();
        assert_eq!(at, Timestamp::from_seconds(1_700_000_000));
        for bad in [
            "",
            "2023-11-14",
            "yesterday",
            "1700000000",
            "1969-12-31T23:59:59Z",
        ] {
            assert_eq!(bad.parse::<Timestamp>(), Err(InvalidTimestamp), "{bad}");
        }
    }

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(Timestamp::MAX + Duration::MAX, Timestamp::MAX);
        assert_eq!(Timestamp::EPOCH - Duration::from_secs(1), Timestamp::EPOCH);
        assert_eq!(Timestamp::EPOCH.since(Timestamp::MAX), Duration::ZERO);
    }
}

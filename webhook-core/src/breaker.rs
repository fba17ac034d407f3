//! The circuit breaker: when an endpoint is left alone, and for how long. Pure decisions, without I/O or clock.
//!
//! Each process collects evidence against an endpoint for itself, in memory. The [store](crate::Store) keeps whether the
//! breaker is open, so that all processes see it; see [`Health`](crate::Health).

use std::time::Duration;

use crate::delivery::{Failure, Outcome};
use crate::time::Timestamp;

/// When an endpoint's breaker opens, and how long it stays open.
///
/// The default opens after 10 failures in a row, or when half of at least 20 attempts in a minute fail. It stays open
/// for 30 s, then lets one attempt through as a probe. Each probe that fails doubles the time, up to 15 min. Each process
/// counts only its own attempts.
///
/// Failures are timeouts, connections that cannot be made, and answers outside of 2xx. Answers that refuse the event (400, 413,
/// 415, 422) show that the endpoint works. Failures on this side do not count at all.
///
/// ```
/// use std::time::Duration;
/// use webhook_core::BreakerPolicy;
///
/// let policy = BreakerPolicy::default()
///     .failures_in_a_row(5)
///     .open_for(Duration::from_secs(10), Duration::from_secs(300));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct BreakerPolicy {
    in_a_row: u32,
    rate: f64,
    attempts: u32,
    window: Duration,
    first: Duration,
    longest: Duration,
    jitter: f64,
}

impl Default for BreakerPolicy {
    fn default() -> Self {
        Self {
            in_a_row: 10,
            rate: 0.5,
            attempts: 20,
            window: Duration::from_secs(60),
            first: Duration::from_secs(30),
            longest: Duration::from_secs(15 * 60),
            jitter: 0.2,
        }
    }
}

/// Why a breaker's policy is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the breaker's {setting} must be {expected}")]
pub struct InvalidBreaker {
    setting: &'static str,
    expected: &'static str,
}

impl BreakerPolicy {
    /// After how many failures in a row the breaker opens, at least one.
    #[must_use]
    pub fn failures_in_a_row(mut self, failures: u32) -> Self {
        self.in_a_row = failures;
        self
    }

    /// The breaker also opens if there were at least `attempts` in `window` and this share of them failed. The share is above
    /// 0 and at most 1. The window is at least a second.
    #[must_use]
    pub fn failure_rate(mut self, share: f64, attempts: u32, window: Duration) -> Self {
        (self.rate, self.attempts, self.window) = (share, attempts, window);
        self
    }

    /// How long the breaker stays open the first time, at least a second, and the longest after it has opened repeatedly.
    #[must_use]
    pub fn open_for(mut self, first: Duration, longest: Duration) -> Self {
        (self.first, self.longest) = (first, longest);
        self
    }

    /// Up to which share of its time the breaker stays open longer, at random: 0 to 1, 0.2 unless set. So endpoints that
    /// failed together do not come back together.
    #[must_use]
    pub fn jitter(mut self, share: f64) -> Self {
        self.jitter = share;
        self
    }

    /// Checks the bounds that each setting documents.
    ///
    /// # Errors
    /// The first setting that is out of bounds.
    pub fn validate(&self) -> Result<(), InvalidBreaker> {
        let second = Duration::from_secs(1);
        let checks = [
            (self.in_a_row >= 1, "failures in a row", "at least 1"),
            (
                self.rate > 0.0 && self.rate <= 1.0,
                "failure rate",
                "above 0, and at most 1",
            ),
            (self.attempts >= 1, "attempts", "at least 1"),
            (self.window >= second, "window", "at least a second"),
            (self.first >= second, "open time", "at least a second"),
            (
                self.longest >= self.first,
                "longest open time",
                "as long as the first",
            ),
            (
                (0.0..=1.0).contains(&self.jitter),
                "jitter",
                "a share, 0 to 1",
            ),
        ];
        match checks.into_iter().find(|(fits, ..)| !fits) {
            None => Ok(()),
            Some((_, setting, expected)) => Err(InvalidBreaker { setting, expected }),
        }
    }

    /// How long a breaker stays open if it has opened `trips` times before without closing. `draw` in 0..=1 is the random draw
    /// for the jitter, which only makes the time longer, because the time is a promise to the endpoint.
    pub(crate) fn open_time(&self, trips: u32, draw: f64) -> Duration {
        let doubled = self.first.saturating_mul(2u32.saturating_pow(trips));
        longer(doubled.min(self.longest), self.jitter, draw)
    }
}

/// `time` and up to `share` of it.
pub(crate) fn longer(time: Duration, share: f64, draw: f64) -> Duration {
    let factor = 1.0 + share * draw.clamp(0.0, 1.0);
    Duration::try_from_secs_f64(time.as_secs_f64() * factor).unwrap_or(time)
}

/// What an outcome says about its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Says {
    /// The endpoint accepted the event.
    Took,
    /// The endpoint works but refuses this event. It may accept the next one.
    Refused,
    /// The endpoint does not work, or does not answer.
    Failed,
    /// Nothing, because the failure is ours.
    Nothing,
}

impl Says {
    pub(crate) fn of(outcome: &Outcome) -> Self {
        match outcome.failure() {
            None => Self::Took,
            Some(failure) if failure.is_ours() => Self::Nothing,
            Some(Failure::Status(400 | 413 | 415 | 422)) => Self::Refused,
            Some(Failure::Status(_) | Failure::Transport(_)) => Self::Failed,
        }
    }
}

/// Into how many parts the window is divided. It moves by one part at a time.
const PARTS: usize = 6;

/// What a process has lately seen of an endpoint.
#[derive(Debug, Default)]
pub(crate) struct Evidence {
    /// Failures since the last sign of life.
    in_a_row: u32,
    /// Attempts since the last one that was accepted.
    untaken: u32,
    /// What was seen in each part of the window. The current part is at `part % PARTS`.
    window: [Seen; PARTS],
    part: i64,
    /// Attempts that began before this time do not count again, because the breaker has opened since.
    since: Timestamp,
}

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    attempts: u32,
    failures: u32,
}

/// What an attempt adds to the evidence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    /// Whether it is enough to open the breaker. If so, this evidence is not used again.
    pub(crate) is_enough: bool,
    /// How many attempts failed since the last sign of life.
    pub(crate) in_a_row: u32,
    /// How many attempts there were since the last one that was accepted.
    pub(crate) untaken: u32,
}

impl Evidence {
    /// Adds an attempt that began at `began` and ended now.
    pub(crate) fn add(
        &mut self,
        policy: Option<&BreakerPolicy>,
        says: Says,
        began: Timestamp,
        now: Timestamp,
    ) -> Findings {
        // A clock that was ahead has gone back: what begins from now on counts.
        self.since = self.since.min(now);
        if says != Says::Nothing && began >= self.since {
            self.untaken = match says {
                Says::Took => 0,
                _ => self.untaken.saturating_add(1),
            };
            self.in_a_row = match says {
                Says::Failed => self.in_a_row.saturating_add(1),
                _ => 0,
            };
        }
        let mut findings = Findings {
            is_enough: false,
            in_a_row: self.in_a_row,
            untaken: self.untaken,
        };
        if let Some(policy) = policy.filter(|_| says != Says::Nothing && began >= self.since) {
            let rate = self.count(policy, says == Says::Failed, now);
            let too_many = self.in_a_row >= policy.in_a_row || rate;
            findings.is_enough = says == Says::Failed && too_many;
        }
        if findings.is_enough {
            self.begin_anew(now);
        }
        findings
    }

    /// Notes that the breaker opened, so that attempts under way do not open it again.
    pub(crate) fn begin_anew(&mut self, now: Timestamp) {
        (self.in_a_row, self.window, self.since) = (0, Default::default(), now);
    }

    /// Counts an attempt in the window, and returns whether too many failed.
    fn count(&mut self, policy: &BreakerPolicy, failed: bool, now: Timestamp) -> bool {
        let length = i64::try_from(policy.window.as_micros() / PARTS as u128).unwrap_or(i64::MAX);
        let part = now.as_micros() / length.max(1);
        if self.part.saturating_sub(part) >= PARTS as i64 {
            // So did the window.
            (self.window, self.part) = (Default::default(), part);
        }
        let passed = part.saturating_sub(self.part).clamp(0, PARTS as i64);
        self.part = self.part.max(part);
        for back in 0..passed {
            self.window[index(self.part - back)] = Seen::default();
        }
        let current = &mut self.window[index(self.part)];
        current.attempts = current.attempts.saturating_add(1);
        current.failures = current.failures.saturating_add(u32::from(failed));
        let attempts: u32 = self.window.iter().map(|seen| seen.attempts).sum();
        let failures: u32 = self.window.iter().map(|seen| seen.failures).sum();
        attempts >= policy.attempts && f64::from(failures) >= policy.rate * f64::from(attempts)
    }
}

fn index(part: i64) -> usize {
    usize::try_from(part.rem_euclid(PARTS as i64)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::TransportErrorKind;

    const T0: Timestamp = Timestamp::from_seconds(1_700_000_000);

    fn second(n: u64) -> Timestamp {
        T0 + Duration::from_secs(n)
    }

    /// Adds an attempt a second, and answers at which of them the breaker opened.
    fn opened(evidence: &mut Evidence, says: impl IntoIterator<Item = Says>) -> Vec<u64> {
        let policy = BreakerPolicy::default();
        let mut add = |(n, says)| {
            let at = second(n);
            let findings = evidence.add(Some(&policy), says, at, at);
            findings.is_enough.then_some(n)
        };
        (1..).zip(says).filter_map(&mut add).collect()
    }

    fn times(says: Says, n: usize) -> impl Iterator<Item = Says> + Clone {
        std::iter::repeat_n(says, n)
    }

    #[test]
    fn ten_failures_in_a_row_open_it_and_nine_do_not() {
        let nine = times(Says::Failed, 9).chain([Says::Took]);
        let ten = times(Says::Failed, 10);
        let opened = opened(&mut Evidence::default(), nine.chain(ten));
        // Of the first 19 attempts 18 failed: they are too few for a rate.
        assert_eq!(opened, [20]);
    }

    #[test]
    fn half_of_twenty_in_a_minute_open_it() {
        let pair = [Says::Took, Says::Failed].into_iter().cycle();
        let mut evidence = Evidence::default();
        assert_eq!(opened(&mut evidence, pair.clone().take(21)), [20]);
        let third = [Says::Took, Says::Failed, Says::Took].into_iter().cycle();
        let mut evidence = Evidence::default();
        assert_eq!(opened(&mut evidence, third.take(60)), [] as [u64; 0]);
    }

    #[test]
    fn what_was_more_than_a_minute_ago_does_not_count() {
        let policy = BreakerPolicy::default();
        let mut evidence = Evidence::default();
        for n in 0..40 {
            // One in four seconds: never twenty in a minute.
            let at = second(4 * n);
            let says = if n % 2 == 0 { Says::Took } else { Says::Failed };
            let findings = evidence.add(Some(&policy), says, at, at);
            assert!(!findings.is_enough, "{n}");
        }
    }

    #[test]
    fn what_was_under_way_when_it_opened_does_not_open_it_again() {
        let policy = BreakerPolicy::default();
        let mut evidence = Evidence::default();
        let opens = |evidence: &mut Evidence, began, ended| {
            let add = |_| evidence.add(Some(&policy), Says::Failed, began, ended);
            (0..32).map(add).filter(|it| it.is_enough).count()
        };
        assert_eq!(opens(&mut evidence, second(0), second(10)), 1);
        assert_eq!(opens(&mut evidence, second(11), second(12)), 1);
    }

    #[test]
    fn a_clock_that_was_ahead_for_a_time_does_not_silence_it() {
        let year = 365 * 86_400;
        let mut evidence = Evidence::default();
        let mut add = |says, at| {
            let policy = BreakerPolicy::default();
            evidence.add(Some(&policy), says, at, at).is_enough
        };
        let failures = (0..10).filter(|n| add(Says::Failed, second(year + n)));
        assert_eq!(failures.count(), 1, "it opens while the clock is ahead");
        let failures = (0..10).filter(|n| add(Says::Failed, second(*n)));
        assert_eq!(failures.collect::<Vec<_>>(), [9], "and after it is back");
        // What was more than a window ago is forgotten as before.
        let mut opened = (10..50).filter(|n| {
            let says = if n % 2 == 0 { Says::Took } else { Says::Failed };
            add(says, second(4 * n))
        });
        assert_eq!(opened.next(), None);
    }

    #[test]
    fn answers_that_refuse_a_payload_are_signs_of_life() {
        let status = |status| Outcome::Response {
            status,
            headers: crate::header_log::HeaderLog::default(),
            body: bytes::Bytes::new(),
            truncated: false,
        };
        for (outcome, says) in [
            (status(204), Says::Took),
            (status(400), Says::Refused),
            (status(422), Says::Refused),
            (status(401), Says::Failed),
            (status(404), Says::Failed),
            (status(429), Says::Failed),
            (status(302), Says::Failed),
            (status(503), Says::Failed),
            (Outcome::Failed(TransportErrorKind::Timeout), Says::Failed),
            (Outcome::Failed(TransportErrorKind::Internal), Says::Nothing),
        ] {
            assert_eq!(Says::of(&outcome), says, "{outcome:?}");
        }
        let mixed = times(Says::Failed, 9).chain([Says::Refused]);
        let mixed = mixed.chain(times(Says::Failed, 9));
        assert_eq!(opened(&mut Evidence::default(), mixed), [] as [u64; 0]);
        let ours = times(Says::Failed, 9).chain(times(Says::Nothing, 9));
        let ours = ours.chain([Says::Failed]);
        assert_eq!(opened(&mut Evidence::default(), ours), [19]);
    }

    #[test]
    fn it_stays_open_twice_as_long_each_time_and_longer_by_chance() {
        let policy = BreakerPolicy::default();
        let times = [0, 1, 4, 5, 6, 60].map(|trips| policy.open_time(trips, 0.0).as_secs());
        assert_eq!(times, [30, 60, 480, 900, 900, 900]);
        assert_eq!(policy.open_time(0, 0.5), Duration::from_secs(33));
        assert_eq!(policy.open_time(0, 1.0), Duration::from_secs(36));
        assert_eq!(policy.open_time(0, -1.0), Duration::from_secs(30));
    }

    #[test]
    fn without_a_policy_it_never_opens_and_still_counts() {
        let mut evidence = Evidence::default();
        let add = |_| evidence.add(None, Says::Failed, T0, T0);
        let last = (0..50).map(add).last();
        let counted = Findings {
            is_enough: false,
            in_a_row: 50,
            untaken: 50,
        };
        assert_eq!(last, Some(counted));
    }

    #[test]
    fn settings_out_of_bounds_are_refused() {
        let policy = BreakerPolicy::default();
        let second = Duration::from_secs(1);
        assert_eq!(policy.validate(), Ok(()));
        for policy in [
            policy.clone().failures_in_a_row(0),
            policy.clone().failure_rate(0.0, 20, second),
            policy.clone().failure_rate(f64::NAN, 20, second),
            policy.clone().failure_rate(1.1, 20, second),
            policy.clone().failure_rate(0.5, 0, second),
            policy.clone().failure_rate(0.5, 20, Duration::ZERO),
            policy.clone().open_for(Duration::ZERO, second),
            policy.clone().open_for(second * 2, second),
            policy.clone().jitter(-0.1),
        ] {
            assert!(policy.validate().is_err(), "{policy:?}");
        }
    }
}

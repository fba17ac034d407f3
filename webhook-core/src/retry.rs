//! Decides what follows an attempt. Pure: without I/O or clock.

use std::time::Duration;

use crate::breaker::longer;
use crate::delivery::{EndReason, Failure, Outcome};
use crate::endpoint::InvalidSetting;
use crate::header_log::HeaderLog;
use crate::time::Timestamp;
use crate::transport::TransportErrorKind;

/// When a failed delivery is tried again, and when it is not.
///
/// The default is delays of 5 s, 5 min, 30 min, 2 h and 12 h after the first try, each ±20 %: six
/// attempts over about 14½ hours.
#[derive(Clone, Debug, PartialEq)]
pub struct RetryPolicy {
    schedule: Vec<Duration>,
    jitter: f64,
    permanent: Vec<u16>,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            schedule: [5, 300, 1_800, 7_200, 43_200]
                .map(Duration::from_secs)
                .into(),
            jitter: 0.2,
            permanent: vec![400, 405, 410, 411, 413, 414, 415, 422, 431, 501, 505],
        }
    }
}

impl RetryPolicy {
    /// The delay before each attempt after the first, each at most 365 days. If it is empty, there is one attempt.
    #[must_use]
    pub fn schedule(mut self, delays: impl Into<Vec<Duration>>) -> Self {
        self.schedule = delays.into();
        self
    }

    /// By which share of its length a delay varies at random, 0 to 1: 0.2 is ±20 %.
    #[must_use]
    pub fn jitter(mut self, share: f64) -> Self {
        self.jitter = share;
        self
    }

    /// The statuses after which a delivery is not tried again.
    #[must_use]
    pub fn permanent(mut self, statuses: impl Into<Vec<u16>>) -> Self {
        self.permanent = statuses.into();
        self
    }

    /// The delays before each attempt after the first.
    #[must_use]
    pub fn delays(&self) -> &[Duration] {
        &self.schedule
    }

    /// Checks the bounds that each setting documents.
    ///
    /// # Errors
    /// The first setting that is out of bounds.
    pub fn validate(&self) -> Result<(), InvalidSetting> {
        if !(0.0..=1.0).contains(&self.jitter) {
            return Err(InvalidSetting::new("jitter", "a share, 0 to 1"));
        }
        if self.schedule.iter().any(|delay| *delay > LONGEST_DELAY) {
            return Err(InvalidSetting::new(
                "schedule",
                "delays of at most 365 days",
            ));
        }
        Ok(())
    }

    fn is_permanent(&self, outcome: &Outcome) -> bool {
        matches!(outcome, Outcome::Response { status, .. } if self.permanent.contains(status))
    }
}

/// What a delivery becomes after an attempt, or instead of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The endpoint has accepted it.
    Succeeded,
    /// It is `pending` again, and due after this time.
    RetryAfter(Duration),
    /// It is given up, and becomes a dead letter.
    Failed(EndReason),
    /// It ends, and this says nothing about the endpoint.
    Cancelled(EndReason),
}

/// All that follows from one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Decision {
    /// What the delivery becomes.
    pub next: Next,
    /// How long nothing of the endpoint's lane goes out, because the endpoint asked for that (`Retry-After`). A random part is
    /// added.
    pub hold_lane: Option<Duration>,
    /// Whether the endpoint is overloaded or slow: timeout, 429, 502, 503, 504.
    pub slow_lane: bool,
    /// Whether the endpoint says that it is gone for good: 410.
    pub disable_endpoint: bool,
}

impl Decision {
    /// The decision for a test event: it is not tried again, and does not change the endpoint.
    #[must_use]
    pub(crate) fn of_test(self) -> Self {
        Self {
            next: match self.next {
                Next::RetryAfter(_) => Next::Failed(EndReason::Exhausted),
                next => next,
            },
            hold_lane: None,
            disable_endpoint: false,
            ..self
        }
    }
}

/// The bounds of an endpoint's `Retry-After`.
const RETRY_AFTER: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(24 * 3_600);

/// The longest delay of a schedule.
const LONGEST_DELAY: Duration = Duration::from_secs(365 * 86_400);

/// The delay after the first failure that is our fault. Each further delay is twice as long, up to the longest.
const FIRST_OWN_DELAY: Duration = Duration::from_secs(5);
const LONGEST_OWN_DELAY: Duration = Duration::from_secs(15 * 60);

/// Decides what follows `outcome`, the result of attempt number `attempts` (the first is 1). `excused` of the attempts before
/// it failed [through our fault](Failure::is_ours). Such attempts do not count against the schedule; only the dispatcher's
/// `max_age` ends them.
///
/// `delays` is the endpoint's own schedule, if it has one. `now` is when the response came, for a `Retry-After` that is a
/// date. `spread` in −1..=1 is the random draw for the jitter.
#[must_use]
pub fn decide(
    outcome: &Outcome,
    attempts: u32,
    excused: u32,
    policy: &RetryPolicy,
    delays: Option<&[Duration]>,
    now: Timestamp,
    spread: f64,
) -> Decision {
    let asked = retry_after(outcome, now);
    let next = if outcome.failure().is_some_and(Failure::is_ours) {
        Next::RetryAfter(jittered(own_delay(excused), policy.jitter, spread))
    } else {
        let attempts = attempts.saturating_sub(excused);
        next(outcome, attempts, policy, delays, asked, spread)
    };
    Decision {
        next,
        hold_lane: asked.map(|it| longer(it, policy.jitter, spread.abs()).min(*RETRY_AFTER.end())),
        slow_lane: is_slow(outcome),
        disable_endpoint: matches!(outcome, Outcome::Response { status: 410, .. }),
    }
}

fn next(
    outcome: &Outcome,
    attempts: u32,
    policy: &RetryPolicy,
    delays: Option<&[Duration]>,
    asked: Option<Duration>,
    spread: f64,
) -> Next {
    if outcome.failure().is_none() {
        return Next::Succeeded;
    }
    if policy.is_permanent(outcome) {
        return Next::Failed(EndReason::Permanent);
    }
    let delays = delays.unwrap_or(&policy.schedule);
    match delays.get((attempts as usize).saturating_sub(1)) {
        None => Next::Failed(EndReason::Exhausted),
        Some(delay) => {
            let delay = jittered(*delay, policy.jitter, spread);
            Next::RetryAfter(asked.map_or(delay, |asked| asked.max(delay)))
        }
    }
}

fn own_delay(excused: u32) -> Duration {
    let longer = FIRST_OWN_DELAY.saturating_mul(2u32.saturating_pow(excused));
    longer.min(LONGEST_OWN_DELAY)
}

fn jittered(delay: Duration, share: f64, spread: f64) -> Duration {
    let factor = 1.0 + share * spread.clamp(-1.0, 1.0);
    Duration::try_from_secs_f64(delay.as_secs_f64() * factor).unwrap_or(delay)
}

fn is_slow(outcome: &Outcome) -> bool {
    matches!(
        outcome,
        Outcome::Response {
            status: 429 | 502 | 503 | 504,
            ..
        } | Outcome::Failed(TransportErrorKind::Timeout)
    )
}

/// The time for which an unsuccessful response asks, clamped to 1 s..=24 h
/// ([RFC 9110, 10.2.3](https://www.rfc-editor.org/rfc/rfc9110#section-10.2.3)); `None` if it asks for none, or not in a valid
/// form.
fn retry_after(outcome: &Outcome, now: Timestamp) -> Option<Duration> {
    match outcome {
        Outcome::Response {
            status: 200..=299, ..
        }
        | Outcome::Failed(_) => None,
        Outcome::Response { headers, .. } => parse_retry_after(headers, now),
    }
}

fn parse_retry_after(headers: &HeaderLog, now: Timestamp) -> Option<Duration> {
    let value = std::str::from_utf8(headers.get("retry-after")?)
        .ok()?
        .trim();
    let is_seconds = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
    let asked = if is_seconds {
        value.parse().map_or(Duration::MAX, Duration::from_secs)
    } else {
        let at = httpdate::parse_http_date(value).ok()?;
        let at = at.duration_since(std::time::UNIX_EPOCH).ok()?;
        (Timestamp::EPOCH + at).since(now)
    };
    Some(asked.clamp(*RETRY_AFTER.start(), *RETRY_AFTER.end()))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, header};

    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);

    fn response(status: u16) -> Outcome {
        Outcome::Response {
            status,
            headers: HeaderLog::default(),
            body: Bytes::new(),
            truncated: false,
        }
    }

    fn asking(status: u16, retry_after: &str) -> Outcome {
        let mut headers = HeaderMap::new();
        headers.insert(header::RETRY_AFTER, retry_after.parse().unwrap());
        Outcome::Response {
            status,
            headers: HeaderLog::from(&headers),
            body: Bytes::new(),
            truncated: false,
        }
    }

    fn decided(outcome: &Outcome, attempts: u32, spread: f64) -> Decision {
        decide(
            outcome,
            attempts,
            0,
            &RetryPolicy::default(),
            None,
            NOW,
            spread,
        )
    }

    #[test]
    fn only_2xx_is_success() {
        for status in 100..=599 {
            let succeeded = decided(&response(status), 1, 0.0).next == Next::Succeeded;
            assert_eq!(succeeded, (200..=299).contains(&status), "{status}");
        }
    }

    #[test]
    fn the_schedule_is_followed_and_then_given_up() {
        let delays: Vec<_> = (1..=6)
            .map(|attempt| decided(&response(500), attempt, 0.0).next)
            .collect();
        let after = |seconds| Next::RetryAfter(Duration::from_secs(seconds));
        let schedule = [
            after(5),
            after(300),
            after(1_800),
            after(7_200),
            after(43_200),
        ];
        assert_eq!(delays[..5], schedule);
        assert_eq!(delays[5], Next::Failed(EndReason::Exhausted));
    }

    #[test]
    fn jitter_is_exactly_a_fifth_at_its_ends() {
        let delay = |spread| decided(&response(500), 2, spread).next;
        assert_eq!(delay(-1.0), Next::RetryAfter(Duration::from_secs(240)));
        assert_eq!(delay(0.0), Next::RetryAfter(Duration::from_secs(300)));
        assert_eq!(delay(1.0), Next::RetryAfter(Duration::from_secs(360)));
        assert_eq!(delay(99.0), Next::RetryAfter(Duration::from_secs(360)));
    }

    #[test]
    fn permanent_statuses_end_at_once_and_410_disables() {
        let permanent = [400, 405, 410, 411, 413, 414, 415, 422, 431, 501, 505];
        for status in 300..=599 {
            let decision = decided(&response(status), 1, 0.0);
            let ended = decision.next == Next::Failed(EndReason::Permanent);
            assert_eq!(ended, permanent.contains(&status), "{status}");
            assert_eq!(decision.disable_endpoint, status == 410, "{status}");
            assert_eq!(
                decision.slow_lane,
                [429, 502, 503, 504].contains(&status),
                "{status}"
            );
        }
    }

    #[test]
    fn transport_failures_are_retried() {
        for kind in [
            TransportErrorKind::Dns,
            TransportErrorKind::Timeout,
            TransportErrorKind::Blocked,
        ] {
            let decision = decided(&Outcome::Failed(kind), 1, 0.0);
            assert_eq!(decision.next, Next::RetryAfter(Duration::from_secs(5)));
            assert_eq!(decision.slow_lane, kind == TransportErrorKind::Timeout);
        }
    }

    #[test]
    fn what_fails_through_us_uses_up_no_attempt() {
        let policy = RetryPolicy::default().schedule([]);
        let next = |outcome: &Outcome, attempts, excused| {
            decide(outcome, attempts, excused, &policy, None, NOW, 0.0).next
        };
        let ours = Outcome::Failed(TransportErrorKind::Internal);
        let delays = [0, 1, 2, 7, 8, 600].map(|excused| next(&ours, excused + 1, excused));
        let after = |seconds| Next::RetryAfter(Duration::from_secs(seconds));
        let doubled = [
            after(5),
            after(10),
            after(20),
            after(640),
            after(900),
            after(900),
        ];
        assert_eq!(delays, doubled);

        let schedule = RetryPolicy::default();
        let theirs = decide(&response(500), 4, 3, &schedule, None, NOW, 0.0);
        assert_eq!(theirs.next, after(5), "the endpoint's first");
        let last = next(&response(500), 4, 3);
        assert_eq!(last, Next::Failed(EndReason::Exhausted));
    }

    #[test]
    fn retry_after_lengthens_the_delay_within_bounds() {
        let hour = 3_600;
        for (value, seconds) in [
            ("120", Some(120)),
            ("0", Some(1)),
            ("99999999999999999999999", Some(24 * hour)),
            ("Tue, 14 Nov 2023 22:14:20 GMT", Some(60)),
            ("Tue, 14 Nov 2000 22:14:20 GMT", Some(1)),
            ("Fri, 31 Dec 9999 23:59:59 GMT", Some(24 * hour)),
            ("1e300", None),
            ("-1", None),
            ("inf", None),
            ("", None),
            ("soon", None),
        ] {
            let decision = decided(&asking(503, value), 1, 0.0);
            assert_eq!(
                decision.hold_lane,
                seconds.map(Duration::from_secs),
                "{value:?}"
            );
            let delay = Duration::from_secs(seconds.unwrap_or(0).max(5));
            assert_eq!(decision.next, Next::RetryAfter(delay), "{value:?}");
        }
    }

    #[test]
    fn retry_after_neither_delays_success_nor_adds_attempts() {
        assert_eq!(decided(&asking(200, "60"), 1, 0.0).hold_lane, None);
        assert_eq!(
            decided(&asking(503, "60"), 6, 0.0).next,
            Next::Failed(EndReason::Exhausted)
        );
    }

    #[test]
    fn endpoints_that_ask_for_the_same_time_do_not_come_back_together() {
        let asked = asking(503, "100");
        let hold = |spread| decided(&asked, 1, spread).hold_lane;
        assert_eq!(hold(0.0), Some(Duration::from_secs(100)));
        for spread in [-1.0, 1.0] {
            assert_eq!(hold(spread), Some(Duration::from_secs(120)), "never before");
        }
    }

    #[test]
    fn an_endpoint_may_have_its_own_schedule() {
        let own = [Duration::from_secs(1)];
        let next = |attempts| {
            decide(
                &response(500),
                attempts,
                0,
                &RetryPolicy::default(),
                Some(&own),
                NOW,
                0.0,
            )
            .next
        };
        assert_eq!(next(1), Next::RetryAfter(Duration::from_secs(1)));
        assert_eq!(next(2), Next::Failed(EndReason::Exhausted));
    }
}

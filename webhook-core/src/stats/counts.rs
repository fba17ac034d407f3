//! [`StatsCounts`]: what is counted, and its bytes.

use super::Histogram;
use crate::delivery::{Outcome, OutcomeClass};
use crate::error::{Error, ErrorKind, Result};

/// What was counted in some time: sums and histograms, which can be added up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StatsCounts {
    /// Events that were accepted, `enqueue_in` included: also those whose transaction was rolled back.
    pub accepted: u64,
    /// Deliveries that succeeded. Each has one attempt that was answered with 2xx.
    pub delivered: u64,
    /// Deliveries that were given up.
    pub dead_lettered: u64,
    /// Deliveries that ended because their endpoint's payload filter did not match.
    pub cancelled: u64,
    /// Attempts that were answered with 3xx.
    pub redirects: u64,
    /// Attempts that were answered with 4xx.
    pub client_errors: u64,
    /// Attempts that were answered with 5xx, or with what is no status at all.
    pub server_errors: u64,
    /// Attempts that were not answered in time.
    pub timeouts: u64,
    /// Attempts that were not answered for another reason.
    pub unanswered: u64,
    /// How long attempts took, whatever came of them.
    pub latency: Histogram,
    /// How long deliveries that succeeded took from when they first were due: the event's acceptance, its
    /// `deliver_at`, or the replay.
    pub delay: Histogram,
}

impl StatsCounts {
    /// How many attempts were made.
    #[must_use]
    pub fn attempts(&self) -> u64 {
        self.delivered.saturating_add(self.failed_attempts())
    }

    /// How many attempts failed.
    #[must_use]
    pub fn failed_attempts(&self) -> u64 {
        let failures = [
            self.redirects,
            self.client_errors,
            self.server_errors,
            self.timeouts,
            self.unanswered,
        ];
        failures.into_iter().fold(0, u64::saturating_add)
    }

    /// Adds what was counted elsewhere.
    pub fn merge(&mut self, other: &Self) {
        for (sum, more) in self.sums_mut().into_iter().zip(other.sums()) {
            *sum = sum.saturating_add(more);
        }
        self.latency.merge(&other.latency);
        self.delay.merge(&other.delay);
    }

    /// Counts what an attempt failed with.
    pub(crate) fn count_failure(&mut self, outcome: &Outcome) {
        let class = match outcome.class() {
            OutcomeClass::Succeeded => return,
            OutcomeClass::Redirect => &mut self.redirects,
            OutcomeClass::ClientError => &mut self.client_errors,
            OutcomeClass::ServerError => &mut self.server_errors,
            OutcomeClass::Timeout => &mut self.timeouts,
            OutcomeClass::Unanswered => &mut self.unanswered,
        };
        *class += 1;
    }

    /// As a backend stores it: LEB128 numbers. What is added in later versions goes to the end, so that
    /// earlier ones read on.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(64);
        for sum in self.sums() {
            put(&mut bytes, sum);
        }
        for histogram in [&self.latency, &self.delay] {
            let buckets = histogram.buckets();
            put(&mut bytes, buckets.len() as u64);
            for (bucket, count) in buckets {
                bytes.push(*bucket);
                put(&mut bytes, *count);
            }
        }
        bytes
    }

    /// What [`to_bytes`](Self::to_bytes) wrote, in this version or another.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] when it wrote something else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        parse(bytes).ok_or_else(|| Error::new(ErrorKind::Corrupt, "stats"))
    }

    /// In the order of the stored form.
    fn sums(&self) -> [u64; 9] {
        [
            self.accepted,
            self.delivered,
            self.dead_lettered,
            self.cancelled,
            self.redirects,
            self.client_errors,
            self.server_errors,
            self.timeouts,
            self.unanswered,
        ]
    }

    fn sums_mut(&mut self) -> [&mut u64; 9] {
        [
            &mut self.accepted,
            &mut self.delivered,
            &mut self.dead_lettered,
            &mut self.cancelled,
            &mut self.redirects,
            &mut self.client_errors,
            &mut self.server_errors,
            &mut self.timeouts,
            &mut self.unanswered,
        ]
    }
}

fn parse(mut bytes: &[u8]) -> Option<StatsCounts> {
    let mut counts = StatsCounts::default();
    for sum in counts.sums_mut() {
        *sum = take(&mut bytes)?;
    }
    for histogram in [&mut counts.latency, &mut counts.delay] {
        for _ in 0..take(&mut bytes)? {
            let (bucket, rest) = bytes.split_first()?;
            bytes = rest;
            histogram.add(*bucket, take(&mut bytes)?);
        }
    }
    Some(counts)
}

/// Writes a number as [LEB128](https://dwarfstd.org/doc/DWARF5.pdf), 7.6.
fn put(bytes: &mut Vec<u8>, mut number: u64) {
    loop {
        let [low, ..] = number.to_le_bytes();
        number >>= 7;
        if number == 0 {
            return bytes.push(low & 0x7f);
        }
        bytes.push(low | 0x80);
    }
}

fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::transport::TransportErrorKind;

    fn counted() -> StatsCounts {
        let mut counts = StatsCounts::default();
        for (n, sum) in counts.sums_mut().into_iter().enumerate() {
            *sum = 1 << (7 * n);
        }
        for millis in [0, 1, 12, 900, u64::MAX] {
            counts.latency.record(Duration::from_millis(millis));
            counts.delay.record(Duration::from_millis(millis / 3));
        }
        counts
    }

    #[test]
    fn the_stored_form_is_read_back() {
        for mut counts in [StatsCounts::default(), counted()] {
            counts.accepted = u64::MAX;
            let mut bytes = counts.to_bytes();
            assert_eq!(StatsCounts::from_bytes(&bytes).unwrap(), counts);
            bytes.push(7);
            let read = StatsCounts::from_bytes(&bytes);
            assert_eq!(read.unwrap(), counts, "a later version says more");
        }
    }

    #[test]
    fn what_broke_off_is_not_read() {
        let bytes = counted().to_bytes();
        for len in 0..bytes.len() {
            assert!(StatsCounts::from_bytes(&bytes[..len]).is_err(), "{len}");
        }
        assert!(StatsCounts::from_bytes(&[0xff; 100]).is_err());
    }

    #[test]
    fn merging_adds_everything_up() {
        let (mut twice, once) = (counted(), counted());
        twice.merge(&once);
        for (two, one) in twice.sums().into_iter().zip(once.sums()) {
            assert_eq!(two, 2 * one);
        }
        assert_eq!((twice.latency.count(), twice.delay.count()), (10, 10));
        assert_eq!(twice.attempts(), 2 * once.attempts());
    }

    #[test]
    fn failures_are_counted_by_class() {
        let mut counts = StatsCounts::default();
        for status in [200, 204, 301, 404, 410, 500, 599, 600, 999] {
            counts.count_failure(&Outcome::Response {
                status,
                headers: crate::HeaderLog::default(),
                body: bytes::Bytes::new(),
                truncated: false,
            });
        }
        for kind in TransportErrorKind::ALL {
            counts.count_failure(&Outcome::Failed(kind));
        }
        let classes = [
            counts.redirects,
            counts.client_errors,
            counts.server_errors,
            counts.timeouts,
            counts.unanswered,
        ];
        assert_eq!(classes, [1, 2, 4, 1, 7]);
        assert_eq!(counts.failed_attempts(), 15);
    }
}

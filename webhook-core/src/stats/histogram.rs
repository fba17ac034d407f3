//! [`Histogram`]: how long things took, in few bytes, and mergeable.

use std::time::Duration;

/// How often times were how long.
///
/// The buckets are the same everywhere, so that histograms can be added up: below 1.024 ms eight of 128 µs
/// each, then eight for each doubling, up to 2⁴⁰ µs (12.7 days); what is longer counts as that. So a
/// [`percentile`](Self::percentile) is at most 6.25 % off, or 64 µs. Only buckets that hold something take up room.
///
/// ```
/// use std::time::Duration;
/// use webhook_core::Histogram;
///
/// let mut histogram = Histogram::default();
/// for millis in 1..=100 {
///     histogram.record(Duration::from_millis(millis));
/// }
/// let p95 = histogram.percentile(95).unwrap_or_default();
/// assert!(p95.abs_diff(Duration::from_millis(95)) < Duration::from_millis(6));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// By bucket, ascending; none is zero.
    counts: Vec<(u8, u64)>,
}

/// Buckets of a doubling.
const SUB_BUCKETS: u64 = 8;
/// The width of the narrowest bucket, in µs.
const UNIT: u64 = 128;
/// The longest time that is told apart, in units.
const MAX_UNITS: u64 = (1 << 33) - 1;

impl Histogram {
    /// Counts one time.
    pub fn record(&mut self, time: Duration) {
        self.add(bucket_of(time), 1);
    }

    /// Adds what another one has counted.
    pub fn merge(&mut self, other: &Self) {
        for (bucket, count) in &other.counts {
            self.add(*bucket, *count);
        }
    }

    /// How many times were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        let counts = self.counts.iter().map(|(_, count)| *count);
        counts.fold(0, u64::saturating_add)
    }

    /// The time that `percent` of a hundred do not exceed; `None` if nothing was counted.
    #[must_use]
    pub fn percentile(&self, percent: u8) -> Option<Duration> {
        let rank = u128::from(self.count()) * u128::from(percent.min(100));
        let rank = rank.div_ceil(100).max(1);
        let mut below = 0_u128;
        let reached = self.counts.iter().find(|(_, count)| {
            below += u128::from(*count);
            below >= rank
        });
        reached.map(|(bucket, _)| middle_of(*bucket))
    }

    /// What was counted in each bucket, ascending.
    pub(super) fn buckets(&self) -> &[(u8, u64)] {
        &self.counts
    }

    pub(super) fn add(&mut self, bucket: u8, count: u64) {
        match self.counts.binary_search_by_key(&bucket, |(it, _)| *it) {
            Ok(place) => {
                let known = &mut self.counts[place].1;
                *known = known.saturating_add(count);
            }
            Err(_) if count == 0 => {}
            Err(place) => self.counts.insert(place, (bucket, count)),
        }
    }
}

fn bucket_of(time: Duration) -> u8 {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let units = (micros / UNIT).min(MAX_UNITS);
    let doublings = doublings(units);
    let bucket = u64::from(doublings) * SUB_BUCKETS + (units >> doublings);
    u8::try_from(bucket).unwrap_or(u8::MAX)
}

/// By how many doublings a bucket at `units` is wider than the narrowest.
fn doublings(units: u64) -> u32 {
    units
        .max(SUB_BUCKETS)
        .ilog2()
        .saturating_sub(SUB_BUCKETS.ilog2())
}

fn middle_of(bucket: u8) -> Duration {
    let bucket = u64::from(bucket);
    let doublings = (bucket / SUB_BUCKETS).saturating_sub(1);
    let first = (bucket - doublings * SUB_BUCKETS) << doublings;
    Duration::from_micros(first * UNIT + (UNIT << doublings) / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_narrow() {
        let mut micros = 0_u64;
        while micros < 1 << 40 {
            let middle = middle_of(bucket_of(Duration::from_micros(micros)));
            let off = middle.abs_diff(Duration::from_micros(micros));
            let allowed = Duration::from_micros((micros / 16).max(64));
            assert!(off <= allowed, "{micros} µs is shown as {middle:?}");
            micros += (micros / 37).max(1);
        }
    }

    #[test]
    fn buckets_ascend_and_end() {
        let bucket = |micros| bucket_of(Duration::from_micros(micros));
        assert_eq!((bucket(0), bucket(127), bucket(128)), (0, 0, 1));
        let mut last = 0;
        for power in 7..40 {
            for eighth in 0..8 {
                let next = bucket((1_u64 << power) + eighth * (1 << power) / 8);
                assert!(next >= last, "2^{power} and {eighth} eighths");
                last = next;
            }
        }
        assert_eq!((last, bucket(u64::MAX)), (247, 247));
        assert_eq!(bucket_of(Duration::MAX), 247);
    }

    #[test]
    fn percentiles_are_those_of_all_that_was_merged() {
        let (mut one, mut other) = (Histogram::default(), Histogram::default());
        assert_eq!(one.percentile(50), None);
        for _ in 0..98 {
            one.record(Duration::from_millis(10));
        }
        other.record(Duration::from_secs(1));
        other.record(Duration::from_secs(100));
        one.merge(&other);
        assert_eq!(one.count(), 100);
        let about = |percent, millis: u64| {
            let shown = one.percentile(percent).unwrap();
            shown.abs_diff(Duration::from_millis(millis)) <= Duration::from_millis(millis) / 16
        };
        assert!(about(0, 10) && about(50, 10) && about(98, 10));
        assert!(about(99, 1_000) && about(100, 100_000) && about(255, 100_000));
    }
}

//! Statistics: what each process counts in a minute, kept as rows that are added up later.
//!
//! They cost the same however many deliveries are stored, because nobody counts those. In return they are no
//! ledger: a process that dies takes what it counted since its last minute along.
//!
//! - `histogram.rs`, `counts.rs`: what is counted.
//! - Here: the rows that a store keeps, how they become coarser, and what is read of them.

mod counts;
mod histogram;

use std::collections::BTreeMap;
use std::time::Duration;

use uuid::Uuid;

pub use counts::StatsCounts;
pub use histogram::Histogram;

use crate::queue::Depth;
use crate::tenant::Tenant;
use crate::time::Timestamp;

/// What a process counted in a step of time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatsRow {
    /// When the step began: a multiple of its length since 1970.
    pub at: Timestamp,
    /// How long it is: [`StatsRow::MINUTE`] as it comes from a process, and then as [`STATS_TIERS`] say.
    pub step: Duration,
    /// Whose it is.
    pub tenant: Tenant,
    /// Of which endpoint; `None` for what concerns none, such as accepted events.
    pub endpoint: Option<Uuid>,
    /// What was counted.
    pub counts: StatsCounts,
}

impl StatsRow {
    /// The step in which processes count.
    pub const MINUTE: Duration = Duration::from_secs(60);
}

/// How rows become coarser as they age.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatsTier {
    /// Rows of this length …
    pub from: Duration,
    /// … are merged to this length …
    pub to: Duration,
    /// … this long after they began.
    pub after: Duration,
}

/// What [`Store::maintain`](crate::Store::maintain) makes of statistics: enough points for a chart of an hour,
/// a day or a week, and few rows.
pub const STATS_TIERS: [StatsTier; 2] = [
    StatsTier {
        from: StatsRow::MINUTE,
        to: TEN_MINUTES,
        after: Duration::from_secs(2 * 3_600),
    },
    StatsTier {
        from: TEN_MINUTES,
        to: HOUR,
        after: Duration::from_secs(2 * 86_400),
    },
];

const TEN_MINUTES: Duration = Duration::from_secs(600);
const HOUR: Duration = Duration::from_secs(3_600);

impl StatsTier {
    /// Rows of this tier that began before this time are to be merged: only whole steps.
    #[must_use]
    pub fn due_before(&self, now: Timestamp) -> Timestamp {
        floor(now - self.after, self.to)
    }

    /// The sums of `rows` in steps of this tier's length, in order.
    #[must_use]
    pub fn merge(&self, rows: impl IntoIterator<Item = StatsRow>) -> Vec<StatsRow> {
        let mut merged = BTreeMap::<_, StatsCounts>::new();
        for row in rows {
            let key = (floor(row.at, self.to), row.tenant, row.endpoint);
            merged.entry(key).or_default().merge(&row.counts);
        }
        let row = |((at, tenant, endpoint), counts)| StatsRow {
            at,
            step: self.to,
            tenant,
            endpoint,
            counts,
        };
        merged.into_iter().map(row).collect()
    }
}

/// Which statistics are read, and how finely.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatsQuery {
    /// Rows that began at this time or later.
    pub since: Timestamp,
    /// Rows that began before this time.
    pub until: Timestamp,
    /// How long the steps are that rows are added up to.
    pub step: Duration,
    /// Only what concerns this endpoint.
    pub endpoint: Option<Uuid>,
    /// Whether the attempts at each endpoint are added up by step, too.
    pub trends: bool,
}

/// The rows of a time, added up twice: by step, and by endpoint; or thrice, by both. As large as these are many, whatever
/// the number of rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rollup {
    /// By the step's beginning. Steps in which nothing happened are not there.
    pub steps: BTreeMap<Timestamp, StatsCounts>,
    /// By endpoint.
    pub endpoints: BTreeMap<Uuid, (Tenant, StatsCounts)>,
    /// By endpoint and step, if the query [asks](StatsQuery::trends) for it.
    pub trends: BTreeMap<Uuid, BTreeMap<Timestamp, Tally>>,
}

/// How many attempts there were, by whether they succeeded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Those that did.
    pub succeeded: u64,
    /// Those that did not.
    pub failed: u64,
}

/// How attempts at an endpoint went, step by step. From [`Dispatcher::trends`](crate::Dispatcher::trends).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Trend {
    /// Every step with its beginning, oldest first. The last is not over.
    pub steps: Vec<(Timestamp, Tally)>,
}

impl Rollup {
    /// Adds a row, if the query asks for it; whether it is in the scope is the caller's to see.
    pub fn add(&mut self, query: &StatsQuery, row: &StatsRow) {
        let in_time = query.since <= row.at && row.at < query.until;
        if !in_time || query.endpoint.is_some() && query.endpoint != row.endpoint {
            return;
        }
        let at = floor(row.at, query.step);
        self.steps.entry(at).or_default().merge(&row.counts);
        if let Some(endpoint) = row.endpoint {
            if query.trends {
                let tally = self.trends.entry(endpoint).or_default();
                tally.entry(at).or_default().add((&row.counts).into());
            }
            let known = self.endpoints.entry(endpoint);
            let (_, counts) = known.or_insert_with(|| (row.tenant.clone(), Default::default()));
            counts.merge(&row.counts);
        }
    }
}

impl Tally {
    /// All of them.
    #[must_use]
    pub fn attempts(&self) -> u64 {
        self.succeeded + self.failed
    }

    fn add(&mut self, more: Self) {
        self.succeeded += more.succeeded;
        self.failed += more.failed;
    }
}

impl From<&StatsCounts> for Tally {
    fn from(counts: &StatsCounts) -> Self {
        Self {
            succeeded: counts.delivered,
            failed: counts.failed_attempts(),
        }
    }
}

impl Trend {
    /// The last 24 hours, by the hour.
    pub(crate) fn query(now: Timestamp) -> StatsQuery {
        let until = floor(now, HOUR) + HOUR;
        StatsQuery {
            since: until - 24 * HOUR,
            until,
            step: HOUR,
            endpoint: None,
            trends: true,
        }
    }

    /// With a step for each in which nothing happened.
    pub(crate) fn new(query: &StatsQuery, tallies: &BTreeMap<Timestamp, Tally>) -> Self {
        let mut steps = Vec::new();
        let mut at = query.since;
        while at < query.until {
            steps.push((at, tallies.get(&at).copied().unwrap_or_default()));
            at = at + query.step;
        }
        Self { steps }
    }

    /// The sum of all steps.
    #[must_use]
    pub fn total(&self) -> Tally {
        let mut sum = Tally::default();
        self.steps.iter().for_each(|(_, step)| sum.add(*step));
        sum
    }
}

/// How far back statistics go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StatsRange {
    /// The last hour, by the minute.
    Hour,
    /// The last 24 hours, by ten minutes.
    #[default]
    Day,
    /// The last 7 days, by the hour.
    Week,
    /// The last 30 days, by six hours.
    Month,
}

impl StatsRange {
    /// How long it is.
    #[must_use]
    pub fn length(self) -> Duration {
        match self {
            Self::Hour => HOUR,
            Self::Day => 24 * HOUR,
            Self::Week => 7 * 24 * HOUR,
            Self::Month => 30 * 24 * HOUR,
        }
    }

    /// How long its steps are.
    #[must_use]
    pub fn step(self) -> Duration {
        match self {
            Self::Hour => StatsRow::MINUTE,
            Self::Day => TEN_MINUTES,
            Self::Week => HOUR,
            Self::Month => 6 * HOUR,
        }
    }

    /// Whole steps, of which the last is the one that `now` is in.
    pub(crate) fn query(self, now: Timestamp, endpoint: Option<Uuid>) -> StatsQuery {
        let until = floor(now, self.step()) + self.step();
        StatsQuery {
            since: until - self.length(),
            until,
            step: self.step(),
            endpoint,
            trends: false,
        }
    }
}

/// What happened in a range of time, and what waits now. From [`Dispatcher::stats`](crate::Dispatcher::stats).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Stats {
    /// When the first step begins.
    pub since: Timestamp,
    /// When they were made. The last step is not over.
    pub now: Timestamp,
    /// How long a step is.
    pub step: Duration,
    /// The sums of all steps.
    pub total: StatsCounts,
    /// Every step with its beginning, oldest first.
    pub series: Vec<(Timestamp, StatsCounts)>,
    /// The endpoints that were attempted, at most [`MAX_ENDPOINTS`](Self::MAX_ENDPOINTS): most failed attempts
    /// first, then most deliveries.
    pub endpoints: Vec<EndpointStats>,
    /// How many endpoints were attempted.
    pub endpoint_count: usize,
    /// What waits in the queue; `None` if it did not answer, and for a tenant or an endpoint alone: it counts
    /// everybody's.
    pub depth: Option<Depth>,
}

/// What happened at an endpoint.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct EndpointStats {
    /// Which one. It may be deleted by now.
    pub id: Uuid,
    /// Whose it is.
    pub tenant: Tenant,
    /// What was counted.
    pub counts: StatsCounts,
}

impl Stats {
    /// The most endpoints that are told apart.
    pub const MAX_ENDPOINTS: usize = 100;

    pub(crate) fn new(query: &StatsQuery, now: Timestamp, mut rollup: Rollup) -> Self {
        let mut stats = Self {
            since: query.since,
            now,
            step: query.step,
            total: StatsCounts::default(),
            series: Vec::new(),
            endpoints: Vec::new(),
            endpoint_count: rollup.endpoints.len(),
            depth: None,
        };
        let mut at = query.since;
        while at < query.until {
            let counts = rollup.steps.remove(&at).unwrap_or_default();
            stats.total.merge(&counts);
            stats.series.push((at, counts));
            at = at + query.step;
        }
        let endpoints = rollup.endpoints.into_iter();
        stats.endpoints = endpoints
            .map(|(id, (tenant, counts))| EndpointStats { id, tenant, counts })
            .collect();
        stats.endpoints.sort_by_key(|it| {
            std::cmp::Reverse((it.counts.failed_attempts(), it.counts.delivered))
        });
        stats.endpoints.truncate(Self::MAX_ENDPOINTS);
        stats
    }
}

/// The beginning of the step that a time is in.
pub(crate) fn floor(time: Timestamp, step: Duration) -> Timestamp {
    let step = i64::try_from(step.as_micros()).unwrap_or(i64::MAX).max(1);
    Timestamp::from_micros(time.as_micros() - time.as_micros() % step)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_700_000_123);

    fn row(at: Timestamp, endpoint: Option<u128>, delivered: u64) -> StatsRow {
        let counts = StatsCounts {
            delivered,
            ..StatsCounts::default()
        };
        StatsRow {
            at,
            step: StatsRow::MINUTE,
            tenant: Tenant::default(),
            endpoint: endpoint.map(Uuid::from_u128),
            counts,
        }
    }

    #[test]
    fn every_range_has_a_step_for_each_point_and_ends_now() {
        for range in [
            StatsRange::Hour,
            StatsRange::Day,
            StatsRange::Week,
            StatsRange::Month,
        ] {
            let query = range.query(NOW, None);
            let stats = Stats::new(&query, NOW, Rollup::default());
            assert!((60..=168).contains(&stats.series.len()), "{range:?}");
            let (last, _) = stats.series.last().unwrap();
            assert!(*last <= NOW && NOW < *last + range.step(), "{range:?}");
            assert_eq!(stats.since, stats.series[0].0);
        }
    }

    #[test]
    fn totals_are_the_sums_of_steps_and_endpoints_come_worst_first() {
        let query = StatsRange::Hour.query(NOW, None);
        let mut rollup = Rollup::default();
        let mut failing = row(NOW - Duration::from_secs(60), Some(3), 1);
        failing.counts.timeouts = 1;
        for row in [
            row(query.since, Some(1), 5),
            row(NOW, Some(1), 2),
            row(NOW, None, 0),
            row(NOW, Some(2), 9),
            failing,
            row(query.until, Some(1), 100),
            row(query.since - Duration::from_micros(1), Some(1), 100),
        ] {
            rollup.add(&query, &row);
        }
        let stats = Stats::new(&query, NOW, rollup);
        assert_eq!(stats.total.delivered, 17);
        assert_eq!(stats.series[0].1.delivered, 5);
        let ids = stats.endpoints.iter().map(|it| it.id.as_u128());
        assert_eq!(ids.collect::<Vec<_>>(), [3, 2, 1]);
        assert_eq!(stats.endpoint_count, 3);
    }

    #[test]
    fn a_trend_has_a_step_for_each_hour_and_is_of_its_endpoint_alone() {
        let query = Trend::query(NOW);
        let mut rollup = Rollup::default();
        let mut failed = row(NOW, Some(1), 2);
        failed.counts.timeouts = 1;
        for row in [row(query.since, Some(1), 5), failed, row(NOW, Some(2), 9)] {
            rollup.add(&query, &row);
        }
        let trend = Trend::new(&query, &rollup.trends[&Uuid::from_u128(1)]);
        assert_eq!(trend.steps.len(), 24);
        assert_eq!(trend.steps[0].1.succeeded, 5);
        let last = Tally {
            succeeded: 2,
            failed: 1,
        };
        assert_eq!(trend.steps[23].1, last);
        assert_eq!(trend.total().attempts(), 8);
        let without = StatsRange::Day.query(NOW, None);
        rollup = Rollup::default();
        rollup.add(&without, &row(NOW, Some(1), 1));
        assert!(rollup.trends.is_empty());
    }

    #[test]
    fn only_whole_steps_are_merged() {
        for tier in STATS_TIERS {
            let before = tier.due_before(NOW);
            assert_eq!(floor(before, tier.to), before);
            assert!(before + tier.after <= NOW && NOW < before + tier.after + tier.to);
        }
    }
}

//! The checks of a store's statistics, which are in its list.

use std::time::Duration;

use uuid::Uuid;

use super::Harness;
use super::checks::{ALL, T0, at, seconds};
use crate::stats::{Rollup, STATS_TIERS, StatsCounts, StatsQuery, StatsRow, floor};
use crate::store::Store;
use crate::tenant::{Scope, Tenant};
use crate::time::Timestamp;

const MINUTE: Duration = StatsRow::MINUTE;
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
const RETENTION: Duration = Duration::from_secs(30 * 86_400);

/// A minute's row, with a bit of everything in it.
pub(super) fn row(at: Timestamp, tenant: &str, endpoint: Option<u128>, delivered: u64) -> StatsRow {
    let mut counts = StatsCounts {
        accepted: u64::from(endpoint.is_none()),
        delivered,
        dead_lettered: 1,
        timeouts: 2,
        ..StatsCounts::default()
    };
    for n in 0..delivered {
        counts.latency.record(Duration::from_millis(1 << (n % 16)));
        counts.delay.record(Duration::from_secs(n));
    }
    StatsRow {
        at: floor(at, MINUTE),
        step: MINUTE,
        tenant: Tenant::new(tenant).expect("valid"),
        endpoint: endpoint.map(Uuid::from_u128),
        counts,
    }
}

fn sum<'a>(rows: impl IntoIterator<Item = &'a StatsRow>) -> StatsCounts {
    let mut sum = StatsCounts::default();
    rows.into_iter().for_each(|row| sum.merge(&row.counts));
    sum
}

fn total(rollup: &Rollup) -> StatsCounts {
    let mut total = StatsCounts::default();
    rollup.steps.values().for_each(|step| total.merge(step));
    total
}

fn query(since: Timestamp, until: Timestamp, step: Duration) -> StatsQuery {
    StatsQuery {
        since,
        until,
        step,
        endpoint: None,
        trends: false,
    }
}

/// All that there is, by the minute.
pub(super) fn everything() -> StatsQuery {
    query(T0 - 2 * RETENTION, T0 + 2 * RETENTION, MINUTE)
}

pub(super) async fn append<S: Store>(store: &S, rows: &[StatsRow]) {
    store.append_stats(rows).await.expect("rows are added");
}

async fn stats<S: Store>(store: &S, scope: &Scope, query: StatsQuery) -> Rollup {
    store.stats(scope, &query).await.expect("rows are read")
}

pub(super) async fn stats_of_all_processes_are_added_up<H: Harness>(harness: H) {
    let store = harness.store();
    assert_eq!(stats(store, &ALL, everything()).await, Rollup::default());
    append(store, &[]).await;
    let first = [row(T0, "a", None, 0), row(T0, "a", Some(1), 3)];
    let second = [row(T0, "a", Some(1), 4), row(T0, "a", Some(2), 5)];
    append(store, &first).await;
    append(store, &second).await;

    let found = stats(store, &ALL, everything()).await;
    let steps: Vec<_> = found.steps.keys().copied().collect();
    assert_eq!(steps, [floor(T0, MINUTE)]);
    assert_eq!(total(&found), sum(first.iter().chain(&second)));
    assert_eq!(found.endpoints.len(), 2);
    let (tenant, counts) = &found.endpoints[&Uuid::from_u128(1)];
    assert_eq!(tenant.as_str(), "a");
    assert_eq!(*counts, sum([&first[1], &second[0]]));
    assert_eq!(counts.latency.count(), 7);
}

pub(super) async fn stats_are_found_by_time_and_endpoint<H: Harness>(harness: H) {
    let store = harness.store();
    let begin = floor(T0, HOUR);
    let minute = |n: u32| begin + MINUTE * n;
    let rows: Vec<_> = (0..20_u8)
        .map(|n| {
            row(
                minute(n.into()),
                "a",
                (n > 0).then_some(u128::from(n % 2)),
                n.into(),
            )
        })
        .collect();
    append(store, &rows).await;

    let found = stats(store, &ALL, query(minute(3), minute(13), MINUTE)).await;
    assert_eq!(found.steps.len(), 10, "the end is not part of it");
    assert_eq!(total(&found), sum(&rows[3..13]));
    assert_eq!(found.steps[&minute(3)], rows[3].counts);

    let by_ten = stats(store, &ALL, query(begin, minute(20), MINUTE * 10)).await;
    assert_eq!(by_ten.steps[&begin], sum(&rows[..10]));
    assert_eq!(by_ten.steps[&minute(10)], sum(&rows[10..]));

    let mut with_trends = query(begin, minute(20), MINUTE * 10);
    assert!(stats(store, &ALL, with_trends).await.trends.is_empty());
    with_trends.trends = true;
    let trends = stats(store, &ALL, with_trends).await.trends;
    assert_eq!(trends.len(), 2);
    let odd_late = sum(rows[10..].iter().skip(1).step_by(2));
    let of_odd = &trends[&Uuid::from_u128(1)];
    assert_eq!(of_odd[&minute(10)], (&odd_late).into());

    let mut of_one = query(begin, minute(20), MINUTE * 20);
    of_one.endpoint = Some(Uuid::from_u128(1));
    let found = stats(store, &ALL, of_one).await;
    let odd = rows.iter().skip(1).step_by(2);
    assert_eq!(total(&found), sum(odd));
    assert_eq!(found.endpoints.len(), 1);
}

pub(super) async fn stats_of_another_tenant_are_not_seen<H: Harness>(harness: H) {
    let store = harness.store();
    let rows = [
        row(T0, "a", None, 0),
        row(T0, "a", Some(1), 3),
        row(T0, "b", None, 0),
        row(T0, "b", Some(2), 4),
    ];
    append(store, &rows).await;
    for (tenant, own, foreign) in [("a", &rows[..2], 2), ("b", &rows[2..], 1)] {
        let scope = Scope::Tenant(Tenant::new(tenant).expect("valid"));
        let found = stats(store, &scope, everything()).await;
        assert_eq!(total(&found), sum(own), "{tenant}");
        assert_eq!(found.endpoints.len(), 1);
        let mut of_another = everything();
        of_another.endpoint = Some(Uuid::from_u128(foreign));
        let found = stats(store, &scope, of_another).await;
        assert_eq!(found, Rollup::default(), "{tenant}");
    }
    let nobody = Scope::Tenant(Tenant::new("c").expect("valid"));
    let found = stats(store, &nobody, everything()).await;
    assert_eq!(found, Rollup::default());
}

pub(super) async fn stats_become_coarser_and_keep_their_sums<H: Harness>(harness: H) {
    let store = harness.store();
    let mut rows = Vec::new();
    for minutes in (0..3 * 24 * 60).step_by(7) {
        let at = T0 - MINUTE * minutes;
        rows.push(row(at, "a", None, 0));
        rows.push(row(at, "a", Some(1), 2));
        rows.push(row(at, "b", Some(2), 1));
    }
    // Two processes.
    append(store, &rows).await;
    append(store, &rows).await;
    let by_hour = query(T0 - 4 * DAY, T0 + HOUR, HOUR);
    let before = stats(store, &ALL, by_hour).await;
    // Once more changes nothing more.
    for _ in 0..2 {
        let maintained = store.maintain(RETENTION, at(0)).await;
        maintained.expect("the store maintains itself");
        let after = stats(store, &ALL, by_hour).await;
        assert!(after == before, "the sums are the same");
        let [to_ten, to_hour] = STATS_TIERS;
        let by_minute = stats(store, &ALL, everything()).await;
        for at in by_minute.steps.keys() {
            let step = if *at < to_hour.due_before(T0) {
                to_hour.to
            } else if *at < to_ten.due_before(T0) {
                to_ten.to
            } else {
                MINUTE
            };
            assert_eq!(floor(*at, step), *at, "a row of {step:?} was expected");
        }
    }
    let recent = stats(store, &ALL, query(T0 - HOUR, T0 + HOUR, MINUTE)).await;
    assert_eq!(recent.steps.len(), 9, "the last hour is told by the minute");
}

pub(super) async fn stats_end_with_the_retention<H: Harness>(harness: H) {
    let store = harness.store();
    let rows = [
        row(T0 - RETENTION - MINUTE, "a", Some(1), 1),
        row(T0 - RETENTION + DAY, "a", Some(1), 2),
        row(T0, "a", Some(1), 3),
    ];
    append(store, &rows).await;
    let maintain = async |now| {
        let maintained = store.maintain(RETENTION, now).await;
        maintained.expect("the store maintains itself");
        total(&stats(store, &ALL, everything()).await).delivered
    };
    assert_eq!(maintain(at(0)).await, 5);
    assert_eq!(maintain(Some(T0 + seconds(2 * 86_400))).await, 3);
}

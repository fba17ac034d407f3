//! Joins what was accepted with what was received, and judges.

use std::collections::HashMap;
use std::fmt;

use crate::journal::Account;
use crate::load::{BATCH, Call, Delivery, Kind, Route};

/// What a fault did: a run in which it did nothing proves nothing.
#[derive(Clone, Debug)]
pub(crate) struct Fired {
    /// How often.
    pub(crate) times: u64,
    /// What, for people.
    pub(crate) what: &'static str,
    /// Whether `enqueue` may say no, or leave it open. Not where only Redis is harmed: the store accepts.
    pub(crate) may_refuse: bool,
}

/// What came of it.
pub(crate) struct Verdict {
    pub(crate) fired: Fired,
    /// Deliveries that were claimed with their insert, where a node did enqueue and deliver.
    pub(crate) head_starts: Option<u64>,
    /// Attempts that harm was done to: each may be made once more.
    pub(crate) under_way: u64,
    /// Writes of stale owners that were refused.
    pub(crate) fenced: u64,
    /// Writes of stale owners that were not.
    pub(crate) stale: u64,
    pub(crate) forged: u64,
    /// When the fault was over.
    pub(crate) over: i64,
    /// Why it cannot be said that all ended.
    pub(crate) unsettled: Option<String>,
    pub(crate) account: Account,
}

impl Verdict {
    /// What is wrong; empty if nothing is.
    pub(crate) fn problems(&self) -> Vec<String> {
        let Self { fired, account, .. } = self;
        let (twice, most) = (self.twice(), self.under_way);
        let refused = match fired.may_refuse {
            true => 0,
            false => account.refused.len() as u64 + account.again,
        };
        let none = |count: u64, what: &str| (count == 0, format!("{count} {what}"));
        let checks = [
            (fired.times > 0, format!("void: no {}", fired.what)),
            (
                !account.accepted.is_empty(),
                "void: nothing accepted".into(),
            ),
            (
                self.head_starts != Some(0),
                "void: nothing claimed with its insert".into(),
            ),
            none(self.lost(), "lost"),
            none(self.stale, "stale writes accepted"),
            none(self.forged, "not signed by us"),
            none(self.twins(), "calls that made two events"),
            none(self.ghosts(), "delivered of what was rolled back"),
            none(self.torn(), "batches of which a part arrived"),
            none(self.early(), "delivered before their time"),
            none(self.disordered(), "delivered out of order"),
            none(refused, "calls refused, although the store was well"),
            (
                twice <= most,
                format!("{twice} received twice, where {most} were under way"),
            ),
        ];
        let checks = checks.into_iter().filter(|(holds, _)| !holds);
        let problems = checks.map(|(_, problem)| problem);
        problems.chain(self.unsettled.clone()).collect()
    }

    fn lost(&self) -> u64 {
        let received = &self.account.received;
        let owed = self.account.owed();
        owed.filter(|(_, it)| !received.contains_key(it)).count() as u64
    }

    fn twice(&self) -> u64 {
        let times = self.account.received.values();
        times.map(|times| times.len() as u64 - 1).sum()
    }

    /// Whatever became of a call, it is one event.
    fn twins(&self) -> u64 {
        let events = self.account.events.values();
        events.filter(|events| events.len() > 1).count() as u64
    }

    fn ghosts(&self) -> u64 {
        let known = self.account.events.keys();
        known.filter(|call| call.kind == Kind::Withdrawn).count() as u64
    }

    fn torn(&self) -> u64 {
        let mut parts: HashMap<Call, u8> = HashMap::new();
        for call in self.account.events.keys() {
            if call.kind == Kind::Batch {
                *parts.entry(Call { part: 0, ..*call }).or_default() += 1;
            }
        }
        parts.values().filter(|parts| **parts != BATCH).count() as u64
    }

    fn early(&self) -> u64 {
        let owed = self.account.owed();
        let is_early = |(call, delivery): &(Call, Delivery)| {
            let first = self.first_received(*delivery);
            first.is_some_and(|first| first < self.due(*call))
        };
        owed.filter(is_early).count() as u64
    }

    /// Ordered events that were requested before the one that was accepted before them had been received. Calls
    /// that overlapped have no order; those of one producer never do.
    fn disordered(&self) -> u64 {
        let account = &self.account;
        let ordered = account.owed().filter_map(|(call, delivery)| {
            let is_ordered = delivery.route == Route::Ordered;
            let accepted = account.accepted[&call].1;
            is_ordered.then(|| (account.begun.get(&call), accepted, delivery))
        });
        let mut ordered: Vec<(Option<&i64>, i64, Delivery)> = ordered.collect();
        ordered.sort_unstable();
        let is_wrong = |pair: &&[(Option<&i64>, i64, Delivery)]| {
            let [(_, accepted, head), (begun, _, follower)] = pair else {
                return false;
            };
            let overlap = begun.is_none_or(|begun| begun < accepted);
            !overlap && self.first_received(*head) > self.first_requested(*follower)
        };
        ordered.windows(2).filter(is_wrong).count() as u64
    }

    fn first_received(&self, delivery: Delivery) -> Option<i64> {
        self.account.received.get(&delivery)?.iter().min().copied()
    }

    fn first_requested(&self, delivery: Delivery) -> Option<i64> {
        let declined = self.account.declined.get(&delivery).into_iter().flatten();
        declined.copied().chain(self.first_received(delivery)).min()
    }

    /// The earliest time at which a call's event may arrive.
    fn due(&self, call: Call) -> i64 {
        self.account
            .begun
            .get(&call)
            .map_or(0, |at| at + call.delay())
    }

    /// From the end of the fault until all had arrived that was accepted, and due, before it, in seconds.
    fn recovery(&self) -> f64 {
        let account = &self.account;
        let before = account.owed().filter(|(call, _)| {
            let (_, accepted) = account.accepted[call];
            self.due(*call).max(accepted) <= self.over
        });
        let first = before.filter_map(|(_, delivery)| self.first_received(delivery));
        let took = first.max().map_or(0, |last| last - self.over);
        took.max(0) as f64 / 1e6
    }
}

/// The table's head, as the README has it.
pub(crate) fn head() -> String {
    let columns = format!(
        "| {:<20} | {:<19} | accepted | due  | received | refused | lost  | twice | at most | fenced | stale \
         | recovered | |",
        "fault", "store"
    );
    let rule: String = columns
        .split('|')
        .map(|column| "-".repeat(column.len()))
        .collect::<Vec<_>>()
        .join("|");
    format!("{columns}\n{rule}")
}

/// A row of the table, without the names.
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let account = &self.account;
        write!(
            f,
            "{:>8} | {:>4} | {:>8} | {:>7} | {:>5} | {:>5} | {:>7} | {:>6} | {:>5} | {:>7.1} s | {} {}",
            account.accepted.len(),
            account.owed().count(),
            account.received.len(),
            account.refused.len(),
            format!("**{}**", self.lost()),
            self.twice(),
            self.under_way,
            self.fenced,
            self.stale,
            self.recovery(),
            self.fired.times,
            self.fired.what,
        )?;
        if let Some(count) = self.head_starts {
            write!(f, "; {count} claimed with their insert")?;
        }
        write!(f, " |")
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn micros(seconds: &i64) -> i64 {
        seconds * 1_000_000
    }

    fn call(kind: Kind, number: u64) -> Call {
        Call {
            kind,
            producer: 0,
            number,
            part: 0,
        }
    }

    fn delivery(number: u64, route: Route) -> Delivery {
        Delivery {
            event: Uuid::from_u128(number.into()),
            route,
        }
    }

    /// A run in which nothing was accepted, and the fault was over at 10.
    fn empty() -> Verdict {
        Verdict {
            fired: Fired {
                times: 1,
                what: "test",
                may_refuse: true,
            },
            head_starts: None,
            under_way: 1,
            fenced: 0,
            stale: 0,
            forged: 0,
            over: micros(&10),
            unsettled: None,
            account: Account::default(),
        }
    }

    impl Verdict {
        /// An event of this kind that was begun and accepted at one second, and received at others.
        fn with(mut self, kind: Kind, number: u64, at: i64, received: &[i64]) -> Self {
            let (call, account) = (call(kind, number), &mut self.account);
            let event = delivery(number, Route::Steady).event;
            account.begun.insert(call, micros(&at));
            account.accepted.insert(call, (event, micros(&at)));
            account.events.entry(call).or_default().insert(event);
            for route in kind.routes() {
                if !received.is_empty() {
                    let times = received.iter().map(micros).collect();
                    account.received.insert(delivery(number, *route), times);
                }
            }
            self
        }
    }

    #[test]
    fn a_run_in_which_all_arrives_is_good_also_if_more_arrives_than_was_known_to_be_accepted() {
        let mut verdict = empty().with(Kind::Plain, 1, 1, &[3]);
        verdict = verdict
            .with(Kind::Plain, 2, 2, &[3, 4])
            .with(Kind::Plain, 3, 4, &[5]);
        verdict.account.accepted.remove(&call(Kind::Plain, 3));
        assert!(verdict.problems().is_empty(), "{:?}", verdict.problems());
        assert_eq!((verdict.lost(), verdict.twice()), (0, 1));
    }

    #[test]
    fn what_was_accepted_and_never_received_at_one_of_its_endpoints_is_lost() {
        let mut verdict = empty()
            .with(Kind::Plain, 1, 1, &[])
            .with(Kind::Wide, 2, 1, &[3]);
        let missing = delivery(2, Route::Flaky);
        verdict.account.received.remove(&missing);
        assert_eq!(verdict.problems(), ["2 lost"]);
    }

    #[test]
    fn more_duplicates_than_were_under_way_are_a_failure() {
        let verdict = empty().with(Kind::Plain, 1, 1, &[3, 4, 5]);
        assert_eq!(
            verdict.problems(),
            ["2 received twice, where 1 were under way"]
        );
    }

    #[test]
    fn a_run_without_harm_or_events_is_void() {
        let mut verdict = empty();
        verdict.fired.times = 0;
        verdict.head_starts = Some(0);
        let expected = [
            "void: no test",
            "void: nothing accepted",
            "void: nothing claimed with its insert",
        ];
        assert_eq!(verdict.problems(), expected);
    }

    #[test]
    fn writes_of_stale_owners_and_what_does_not_end_are_failures() {
        let mut verdict = empty().with(Kind::Plain, 1, 1, &[3]);
        (verdict.stale, verdict.forged) = (1, 2);
        verdict.unsettled = Some("it goes on".into());
        let expected = [
            "1 stale writes accepted",
            "2 not signed by us",
            "it goes on",
        ];
        assert_eq!(verdict.problems(), expected);
    }

    #[test]
    fn a_call_is_one_event_and_one_that_was_rolled_back_is_none() {
        let mut verdict = empty().with(Kind::Keyed, 1, 1, &[3]);
        let events = &mut verdict.account.events;
        events
            .entry(call(Kind::Keyed, 1))
            .or_default()
            .insert(Uuid::from_u128(9));
        events.insert(call(Kind::Withdrawn, 2), [Uuid::from_u128(2)].into());
        let expected = [
            "1 calls that made two events",
            "1 delivered of what was rolled back",
        ];
        assert_eq!(verdict.problems(), expected);
    }

    #[test]
    fn a_batch_arrives_whole_or_not_at_all_also_if_nobody_was_told() {
        let mut verdict = empty().with(Kind::Plain, 1, 1, &[3]);
        for part in 0..BATCH {
            let events = &mut verdict.account.events;
            events.insert(
                Call {
                    part,
                    ..call(Kind::Batch, 2)
                },
                [Uuid::from_u128(part.into())].into(),
            );
        }
        assert!(verdict.problems().is_empty());
        verdict.account.events.remove(&call(Kind::Batch, 2));
        assert_eq!(verdict.problems(), ["1 batches of which a part arrived"]);
    }

    #[test]
    fn what_is_due_later_must_not_arrive_before() {
        let verdict = empty().with(Kind::Delayed, 1, 3, &[4]);
        assert!(verdict.problems().is_empty());
        let verdict = empty().with(Kind::Delayed, 1, 3, &[3]);
        assert_eq!(verdict.problems(), ["1 delivered before their time"]);
    }

    #[test]
    fn an_ordered_event_waits_for_the_one_before_it_also_with_its_failures() {
        let ordered = |second: i64| {
            let verdict = empty().with(Kind::Ordered, 1, 1, &[5]);
            verdict.with(Kind::Ordered, 2, 2, &[second])
        };
        assert!(ordered(6).problems().is_empty());
        assert_eq!(ordered(4).problems(), ["1 delivered out of order"]);
        let mut declined = ordered(6);
        let follower = delivery(2, Route::Ordered);
        declined.account.declined.insert(follower, vec![micros(&4)]);
        assert_eq!(declined.problems(), ["1 delivered out of order"]);
    }

    #[test]
    fn a_call_is_refused_only_where_the_harm_may_be_the_reason() {
        let mut refused = empty().with(Kind::Plain, 1, 1, &[3]);
        refused.account.refused.insert(call(Kind::Plain, 2));
        let mut asked_again = empty().with(Kind::Keyed, 1, 1, &[3]);
        asked_again.account.again = 1;
        for mut verdict in [refused, asked_again] {
            assert!(verdict.problems().is_empty());
            verdict.fired.may_refuse = false;
            let expected = ["1 calls refused, although the store was well"];
            assert_eq!(verdict.problems(), expected);
        }
    }

    #[test]
    fn recovered_is_when_the_last_of_those_before_the_end_of_the_fault_first_arrived() {
        let verdict = empty().with(Kind::Plain, 1, 1, &[5, 40]);
        let verdict = verdict
            .with(Kind::Plain, 2, 9, &[13])
            .with(Kind::Plain, 3, 11, &[50]);
        assert_eq!(verdict.recovery(), 3.0);
        let early = empty().with(Kind::Plain, 1, 1, &[5]);
        assert_eq!(early.recovery(), 0.0);
    }
}

//! Joins what was accepted with what was received, and judges.

use std::fmt;

use crate::journal::Account;

/// What a fault did: a run in which it did nothing proves nothing.
#[derive(Clone, Debug)]
pub(crate) struct Fired {
    /// How often.
    pub(crate) times: u64,
    /// What, for people.
    pub(crate) what: &'static str,
    /// The most events that may be received twice because of it.
    pub(crate) duplicates: u64,
}

/// What came of it.
pub(crate) struct Verdict {
    pub(crate) fired: Fired,
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
    fn lost(&self) -> usize {
        let account = &self.account;
        let lost = |id| !account.received.contains_key(id);
        account.accepted.keys().filter(|id| lost(id)).count()
    }

    fn duplicates(&self) -> u64 {
        let more = self
            .account
            .received
            .values()
            .map(|times| times.len() as u64 - 1);
        more.sum()
    }

    /// From the end of the fault until all had arrived that was accepted before it, in seconds.
    fn recovery(&self) -> f64 {
        let account = &self.account;
        let before = account.accepted.iter().filter(|(_, at)| **at <= self.over);
        let first = before.filter_map(|(id, _)| account.received.get(id)?.iter().min());
        let took = first.max().map_or(0, |last| last - self.over);
        took.max(0) as f64 / 1e6
    }

    /// What is wrong; empty if nothing is.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut check = |holds: bool, problem: String| {
            if !holds {
                problems.push(problem);
            }
        };
        let Fired {
            times,
            what,
            duplicates,
        } = &self.fired;
        check(*times > 0, format!("void: no {what}"));
        check(
            !self.account.accepted.is_empty(),
            "void: nothing accepted".into(),
        );
        check(self.lost() == 0, format!("{} lost", self.lost()));
        check(
            self.stale == 0,
            format!("{} stale writes accepted", self.stale),
        );
        check(
            self.forged == 0,
            format!("{} not signed by us", self.forged),
        );
        check(
            self.duplicates() <= *duplicates,
            format!(
                "{} duplicates, where {duplicates} are the most",
                self.duplicates()
            ),
        );
        if let Some(unsettled) = &self.unsettled {
            check(false, unsettled.clone());
        }
        problems
    }
}

/// The table's head.
pub(crate) fn head() -> String {
    format!(
        "{:<34} {:>8} {:>8} {:>7} {:>5} {:>5} {:>6} {:>6} {:>9}  fault",
        "", "accepted", "received", "refused", "lost", "twice", "fenced", "stale", "recovered"
    )
}

/// A row of the table, without the name.
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let account = &self.account;
        write!(
            f,
            "{:>8} {:>8} {:>7} {:>5} {:>5} {:>6} {:>6} {:>7.1} s  {} {}",
            account.accepted.len(),
            account.received.len(),
            account.refused,
            self.lost(),
            self.duplicates(),
            self.fenced,
            self.stale,
            self.recovery(),
            self.fired.times,
            self.fired.what,
        )
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    /// A run in which these events were accepted and received, at these seconds, and the fault was over at 10.
    fn verdict(accepted: &[(u128, i64)], received: &[(u128, &[i64])]) -> Verdict {
        let micros = |seconds: &i64| seconds * 1_000_000;
        let mut account = Account::default();
        for (id, at) in accepted {
            account.accepted.insert(Uuid::from_u128(*id), micros(at));
        }
        for (id, times) in received {
            let times = times.iter().map(micros).collect();
            account.received.insert(Uuid::from_u128(*id), times);
        }
        Verdict {
            fired: Fired {
                times: 1,
                what: "test",
                duplicates: 1,
            },
            fenced: 0,
            stale: 0,
            forged: 0,
            over: micros(&10),
            unsettled: None,
            account,
        }
    }

    #[test]
    fn a_run_in_which_all_arrives_is_good_also_if_more_arrives_than_was_known_to_be_accepted() {
        let verdict = verdict(&[(1, 1), (2, 2)], &[(1, &[3]), (2, &[3, 4]), (3, &[5])]);
        assert!(verdict.problems().is_empty(), "{:?}", verdict.problems());
        assert_eq!((verdict.lost(), verdict.duplicates()), (0, 1));
    }

    #[test]
    fn what_was_accepted_and_never_received_is_lost() {
        let verdict = verdict(&[(1, 1), (2, 2)], &[(1, &[3]), (3, &[3])]);
        assert_eq!(verdict.problems(), ["1 lost"]);
    }

    #[test]
    fn more_duplicates_than_the_fault_explains_are_a_failure() {
        let verdict = verdict(&[(1, 1)], &[(1, &[3, 4, 5])]);
        assert_eq!(verdict.problems(), ["2 duplicates, where 1 are the most"]);
    }

    #[test]
    fn a_run_without_harm_or_events_is_void() {
        let mut verdict = verdict(&[], &[]);
        verdict.fired.times = 0;
        assert_eq!(
            verdict.problems(),
            ["void: no test", "void: nothing accepted"]
        );
    }

    #[test]
    fn writes_of_stale_owners_and_what_does_not_end_are_failures() {
        let mut verdict = verdict(&[(1, 1)], &[(1, &[3])]);
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
    fn recovered_is_when_the_last_of_those_before_the_end_of_the_fault_first_arrived() {
        let accepted = [(1, 1), (2, 9), (3, 11)];
        let received: [(u128, &[i64]); 3] = [(1, &[5, 40]), (2, &[13]), (3, &[50])];
        assert_eq!(verdict(&accepted, &received).recovery(), 3.0);
        assert_eq!(verdict(&[(1, 1)], &[(1, &[5])]).recovery(), 0.0);
    }
}

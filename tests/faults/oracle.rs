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

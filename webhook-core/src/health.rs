//! The health of endpoints: whether their breaker is open, and since when all their attempts fail.
//!
//! Stores keep a row only for endpoints that fail. This file decides, without I/O or clock, how an attempt changes the row. A
//! store applies the change with [`HealthRow::apply`], in the transaction that records the attempt.

use std::time::Duration;

use crate::breaker::{BreakerPolicy, Findings, Says};
use crate::endpoint::StateReason;
use crate::time::Timestamp;

/// The health of an endpoint. [`Default`] means that it does well, as most endpoints do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Since when all attempts at it fail. The first few failures may be older.
    pub failing_since: Option<Timestamp>,
    /// When the host was told that the endpoint will be disabled.
    pub notified_at: Option<Timestamp>,
    /// Its circuit breaker.
    pub breaker: BreakerState,
}

/// Whether an endpoint is left alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BreakerState {
    /// It is not: attempts go out.
    #[default]
    Closed,
    /// It is left alone for a time.
    Open(Trip),
    /// It was left alone, and now gets one attempt at a time as a probe.
    HalfOpen(Trip),
}

/// A breaker that has opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trip {
    /// How often it has opened without closing in between.
    pub trips: u32,
    /// When it first opened.
    pub opened_at: Timestamp,
    /// Until when it stays open.
    pub until: Timestamp,
}

/// How an attempt changes its endpoint's health.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HealthChange {
    /// Whether the endpoint fails. `true` begins a time of failures, unless one has begun; `false` ends it.
    pub is_failing: Option<bool>,
    /// How the breaker changes.
    pub breaker: Option<BreakerChange>,
    /// Whether the host is told that the endpoint will be disabled, unless it was told before.
    pub is_notice: bool,
}

/// How a breaker changes. If it has opened or closed since the attempt was loaded, it does not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerChange {
    /// It opens, and the endpoint's lane is held, then probed.
    Opens {
        /// How often it had opened when the attempt was loaded.
        trips: u32,
        /// How long it stays open.
        by: Duration,
    },
    /// It closes, and the endpoint's lane is free.
    Closes {
        /// How often it had opened when the attempt was loaded.
        trips: u32,
    },
}

/// The row that a store keeps for a failing endpoint.
///
/// ```
/// use std::time::Duration;
/// use webhook_core::backend::HealthRow;
/// use webhook_core::{BreakerChange, HealthChange, Timestamp};
///
/// let mut row = HealthRow::default();
/// let opens = BreakerChange::Opens { trips: 0, by: Duration::from_secs(30) };
/// let change = HealthChange { breaker: Some(opens), ..HealthChange::default() };
/// assert!(row.apply(&change, Timestamp::EPOCH).is_done);
/// assert!(!row.apply(&change, Timestamp::EPOCH).is_done, "it has opened already");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HealthRow {
    /// As in [`Health`].
    pub failing_since: Option<Timestamp>,
    /// As in [`Health`].
    pub notified_at: Option<Timestamp>,
    /// The breaker, unless it is closed.
    pub trip: Option<Trip>,
}

/// The result of applying a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Whether all of the change was applied. If not, somebody else was faster.
    pub is_done: bool,
    /// What happens to the endpoint's lane.
    pub lane: Option<LaneChange>,
}

/// What happens to a lane when its endpoint's breaker changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaneChange {
    /// It is held for this time, and then probed.
    Hold(Duration),
    /// It is released.
    Release,
}

impl HealthRow {
    /// Whether the row need not be kept.
    #[must_use]
    pub fn is_well(&self) -> bool {
        *self == Self::default()
    }

    /// Whether the endpoint may be disabled for this reason. It may be disabled for its failures only while it fails, and not
    /// after it has recovered.
    #[must_use]
    pub fn lets_disable(&self, reason: StateReason) -> bool {
        reason != StateReason::Failing || self.failing_since.is_some()
    }

    /// The health that the row stands for at `now`.
    #[must_use]
    pub fn at(&self, now: Timestamp) -> Health {
        Health {
            failing_since: self.failing_since,
            notified_at: self.notified_at,
            breaker: match self.trip {
                None => BreakerState::Closed,
                Some(trip) if now < trip.until => BreakerState::Open(trip),
                Some(trip) => BreakerState::HalfOpen(trip),
            },
        }
    }

    /// Applies the parts of a change that still fit.
    pub fn apply(&mut self, change: &HealthChange, now: Timestamp) -> Applied {
        let lane = change.breaker.and_then(|it| self.change_breaker(it, now));
        match change.is_failing {
            Some(true) => self.failing_since = Some(self.failing_since.unwrap_or(now)),
            Some(false) => (self.failing_since, self.notified_at) = (None, None),
            None => {}
        }
        let is_news = self.failing_since.is_some() && self.notified_at.is_none();
        let fits = change.breaker.is_some() == lane.is_some();
        // Whoever comes too late with the rest leaves the notice to the next failure.
        if change.is_notice && is_news && fits {
            self.notified_at = Some(now);
        }
        Applied {
            is_done: fits && (is_news || !change.is_notice),
            lane,
        }
    }

    fn change_breaker(&mut self, change: BreakerChange, now: Timestamp) -> Option<LaneChange> {
        let known = self.trip.map_or(0, |trip| trip.trips);
        match change {
            BreakerChange::Opens { trips, by } if trips == known => {
                self.trip = Some(Trip {
                    trips: trips.saturating_add(1),
                    opened_at: self.trip.map_or(now, |trip| trip.opened_at),
                    until: now + by,
                });
                Some(LaneChange::Hold(by))
            }
            BreakerChange::Closes { trips } if trips == known && trips > 0 => {
                self.trip = None;
                Some(LaneChange::Release)
            }
            BreakerChange::Opens { .. } | BreakerChange::Closes { .. } => None,
        }
    }
}

/// The settings that decide on an endpoint's health.
#[derive(Clone, Debug)]
pub(crate) struct HealthPolicy {
    /// With `None`, breakers never open.
    pub(crate) breaker: Option<BreakerPolicy>,
    /// After how long of nothing but failures an endpoint is disabled. With `None`, it never is.
    pub(crate) disable_after: Option<Duration>,
}

impl Default for HealthPolicy {
    fn default() -> Self {
        Self {
            breaker: Some(BreakerPolicy::default()),
            disable_after: Some(Duration::from_secs(5 * 86_400)),
        }
    }
}

/// What follows from an attempt for the endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Consequence {
    pub(crate) change: Option<HealthChange>,
    pub(crate) disable: Option<StateReason>,
}

/// An attempt, as far as its endpoint's health is concerned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Finding {
    pub(crate) says: Says,
    /// What the process has seen of the endpoint, with this attempt.
    pub(crate) findings: Findings,
    /// How many attempts of the same delivery there were before.
    pub(crate) attempts: u32,
}

/// After how many refused attempts something is stored. Most failures stay the only one, and so cost nothing.
const WORTH_STORING: u32 = 3;

impl HealthPolicy {
    /// What follows for an endpoint that had this health when the attempt was loaded. `draw` in 0..=1 is the random draw for
    /// the jitter.
    pub(crate) fn consequence(
        &self,
        found: &Health,
        attempt: Finding,
        now: Timestamp,
        draw: f64,
    ) -> Consequence {
        let Finding {
            says,
            findings,
            attempts,
        } = attempt;
        if says == Says::Nothing {
            return Consequence::default();
        }
        let breaker = self.breaker_change(found, says, findings, draw);
        let (is_failing, is_notice, disable) = if says == Says::Took {
            let ends = found.failing_since.is_some().then_some(false);
            (ends, false, None)
        } else {
            let opens = matches!(breaker, Some(BreakerChange::Opens { .. }));
            let untaken = findings.untaken.max(attempts.saturating_add(1));
            let begins = found.failing_since.is_none() && (opens || untaken >= WORTH_STORING);
            let (is_notice, disable) = self.end_of_patience(found, now);
            (begins.then_some(true), is_notice, disable)
        };
        let change = HealthChange {
            is_failing,
            breaker,
            is_notice,
        };
        Consequence {
            change: (change != HealthChange::default()).then_some(change),
            disable,
        }
    }

    fn breaker_change(
        &self,
        found: &Health,
        says: Says,
        findings: Findings,
        draw: f64,
    ) -> Option<BreakerChange> {
        let opens = |policy: &BreakerPolicy, trips| BreakerChange::Opens {
            trips,
            by: policy.open_time(trips, draw),
        };
        match (found.breaker, &self.breaker) {
            (BreakerState::Closed, Some(policy)) if findings.is_enough => Some(opens(policy, 0)),
            (BreakerState::HalfOpen(trip), Some(policy)) if says == Says::Failed => {
                Some(opens(policy, trip.trips))
            }
            (BreakerState::HalfOpen(trip), _) => Some(BreakerChange::Closes { trips: trip.trips }),
            // What was under way when it opened.
            (BreakerState::Open(_) | BreakerState::Closed, _) => None,
        }
    }

    /// Whether the host is told, and whether the endpoint is disabled, after one more failure. The host is told first, and then
    /// has half of the time left.
    fn end_of_patience(&self, found: &Health, now: Timestamp) -> (bool, Option<StateReason>) {
        let (Some(patience), Some(since)) = (self.disable_after, found.failing_since) else {
            return (false, None);
        };
        let half = patience / 2;
        let Some(notified_at) = found.notified_at else {
            return (now.since(since) >= half, None);
        };
        let is_over = now.since(since) >= patience && now.since(notified_at) >= half;
        (false, is_over.then_some(StateReason::Failing))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);
    const DAY: Duration = Duration::from_secs(86_400);
    const OPEN: Duration = Duration::from_secs(30);

    fn attempt(says: Says, untaken: u32) -> Finding {
        Finding {
            says,
            findings: Findings {
                untaken,
                ..Findings::default()
            },
            attempts: 0,
        }
    }

    fn change(found: &Health, attempt: Finding) -> Option<HealthChange> {
        let policy = HealthPolicy::default();
        let consequence = policy.consequence(found, attempt, NOW, 0.0);
        assert_eq!(consequence.disable, None);
        consequence.change
    }

    fn tripped(trips: u32, until: Timestamp) -> HealthRow {
        HealthRow {
            trip: Some(Trip {
                trips,
                opened_at: NOW - OPEN,
                until,
            }),
            ..HealthRow::default()
        }
    }

    fn failing(since: Duration, notified: Option<Duration>) -> Health {
        Health {
            failing_since: Some(NOW - since),
            notified_at: notified.map(|ago| NOW - ago),
            ..Health::default()
        }
    }

    #[test]
    fn nothing_is_stored_of_one_that_does_well_or_fails_now_and_then() {
        let well = Health::default();
        assert_eq!(change(&well, attempt(Says::Took, 0)), None);
        assert_eq!(change(&well, attempt(Says::Failed, 2)), None);
        assert_eq!(change(&well, attempt(Says::Nothing, 9)), None);
        let begins = change(&well, attempt(Says::Failed, 3)).unwrap();
        assert_eq!(begins.is_failing, Some(true));
        let third_of_one = Finding {
            attempts: 2,
            ..attempt(Says::Refused, 1)
        };
        assert_eq!(change(&well, third_of_one).unwrap().is_failing, Some(true));
        let known = failing(DAY, None);
        assert_eq!(change(&known, attempt(Says::Failed, 9)), None);
        let ends = change(&known, attempt(Says::Took, 0)).unwrap();
        assert_eq!(ends.is_failing, Some(false));
    }

    #[test]
    fn a_probe_decides_and_what_was_under_way_does_not() {
        let half_open = tripped(2, NOW).at(NOW);
        let open = tripped(2, NOW + OPEN).at(NOW);
        let breaker = |found, says| change(found, attempt(says, 0)).and_then(|it| it.breaker);
        let by = Duration::from_secs(120);
        let opens = Some(BreakerChange::Opens { trips: 2, by });
        let closes = Some(BreakerChange::Closes { trips: 2 });
        assert_eq!(breaker(&half_open, Says::Failed), opens);
        assert_eq!(breaker(&half_open, Says::Took), closes);
        assert_eq!(breaker(&half_open, Says::Refused), closes);
        for says in [Says::Failed, Says::Took, Says::Refused, Says::Nothing] {
            assert_eq!(breaker(&open, says), None, "{says:?}");
        }
        assert_eq!(breaker(&half_open, Says::Nothing), None);
    }

    #[test]
    fn of_two_that_open_it_one_does() {
        let mut row = HealthRow::default();
        let opens = |trips| HealthChange {
            breaker: Some(BreakerChange::Opens { trips, by: OPEN }),
            ..HealthChange::default()
        };
        let held = Applied {
            is_done: true,
            lane: Some(LaneChange::Hold(OPEN)),
        };
        let late = Applied {
            is_done: false,
            lane: None,
        };
        assert_eq!(row.apply(&opens(0), NOW), held);
        assert_eq!(row.apply(&opens(0), NOW), late);
        assert_eq!(row.apply(&opens(1), NOW + OPEN), held);
        let trip = row.trip.unwrap();
        assert_eq!((trip.trips, trip.opened_at), (2, NOW));
        let closes = |trips| HealthChange {
            breaker: Some(BreakerChange::Closes { trips }),
            ..HealthChange::default()
        };
        assert_eq!(row.apply(&closes(1), NOW), late, "of another opening");
        let released = Applied {
            is_done: true,
            lane: Some(LaneChange::Release),
        };
        assert_eq!(row.apply(&closes(2), NOW), released);
        assert!(row.is_well());
        assert_eq!(row.apply(&closes(0), NOW), late);
    }

    #[test]
    fn the_host_is_told_half_way_and_has_as_long_again() {
        let policy = HealthPolicy::default();
        let after = |found| {
            let consequence = policy.consequence(&found, attempt(Says::Failed, 9), NOW, 0.0);
            let is_notice = consequence.change.is_some_and(|it| it.is_notice);
            (is_notice, consequence.disable)
        };
        let half = DAY * 5 / 2;
        let moment = Duration::from_micros(1);
        let disabled = Some(StateReason::Failing);
        assert_eq!(after(failing(half - moment, None)), (false, None));
        assert_eq!(after(failing(half, None)), (true, None));
        assert_eq!(after(failing(half, Some(moment))), (false, None), "once");
        assert_eq!(after(failing(DAY * 5, Some(half))), (false, disabled));
        let short = DAY * 5 - moment;
        assert_eq!(after(failing(short, Some(half))), (false, None));
        // Nothing was sent for a long time.
        assert_eq!(after(failing(DAY * 9, None)), (true, None));
        assert_eq!(after(failing(DAY * 9, Some(DAY))), (false, None));
    }

    #[test]
    fn a_notice_is_given_once() {
        let mut row = HealthRow {
            failing_since: Some(NOW),
            ..HealthRow::default()
        };
        let notice = HealthChange {
            is_notice: true,
            ..HealthChange::default()
        };
        assert!(row.apply(&notice, NOW).is_done);
        assert!(!row.apply(&notice, NOW).is_done);
        let ends = HealthChange {
            is_failing: Some(false),
            ..HealthChange::default()
        };
        assert!(row.apply(&ends, NOW).is_done && row.is_well());
        assert!(!row.apply(&notice, NOW).is_done, "it does well");
    }

    #[test]
    fn without_a_breaker_one_that_is_open_closes_and_without_patience_nothing_is_disabled() {
        let policy = HealthPolicy {
            breaker: None,
            disable_after: None,
        };
        let found = tripped(1, NOW).at(NOW);
        let found = Health {
            failing_since: Some(NOW - DAY * 99),
            notified_at: Some(NOW - DAY * 50),
            ..found
        };
        let consequence = policy.consequence(&found, attempt(Says::Failed, 9), NOW, 0.0);
        let closes = HealthChange {
            breaker: Some(BreakerChange::Closes { trips: 1 }),
            ..HealthChange::default()
        };
        assert_eq!(consequence.change, Some(closes));
        assert_eq!(consequence.disable, None);
    }
}

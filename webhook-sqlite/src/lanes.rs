//! Decides which lanes a claim takes from, and how they share. Plain data, without I/O or clock.

use std::collections::VecDeque;
use std::time::Duration;

use uuid::Uuid;
use webhook_core::{LaneLimits, RateLimit, Timestamp};

/// A ready lane, as a claim finds it.
#[derive(Clone, Debug)]
pub(crate) struct Lane {
    pub(crate) endpoint_id: Uuid,
    pub(crate) tenant: String,
    pub(crate) turn: Timestamp,
    pub(crate) held_until: Timestamp,
    /// One job at a time.
    pub(crate) is_probed: bool,
    /// GCRA's theoretical arrival time.
    pub(crate) arrival: Timestamp,
    pub(crate) limits: LaneLimits,
    pub(crate) in_flight: usize,
    /// When its first job is due; `None` if it has none.
    pub(crate) head_due: Option<Timestamp>,
}

/// Where a lane belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// So many of its jobs may be claimed now, as far as its limits go.
    Ready(usize),
    /// Nothing before this time.
    Waiting(Timestamp),
    /// Nothing before a lease ends.
    Full,
    /// Nothing to claim.
    Empty,
}

impl Lane {
    pub(crate) fn standing(&self, now: Timestamp) -> Standing {
        let most = if self.is_probed { 1 } else { usize::MAX };
        let cap = most.min(self.limits.max_in_flight as usize);
        if self.in_flight >= cap {
            return Standing::Full;
        }
        let Some(due) = self.head_due else {
            return Standing::Empty;
        };
        let eligible_at = due.max(self.held_until).max(self.conforms_at());
        if eligible_at > now {
            return Standing::Waiting(eligible_at);
        }
        Standing::Ready(self.conforming(cap - self.in_flight, now))
    }

    /// Takes jobs off what the rate allows.
    pub(crate) fn spend(&mut self, jobs: usize, now: Timestamp) {
        if let Some(rate) = self.limits.rate {
            for _ in 0..jobs {
                self.arrival = self.arrival.max(now) + interval(rate);
            }
        }
    }

    /// How many of `most` jobs conform to the rate.
    fn conforming(&self, most: usize, now: Timestamp) -> usize {
        if self.limits.rate.is_none() {
            return most;
        }
        let mut after = self.clone();
        let mut jobs = 0;
        while jobs < most && after.conforms_at() <= now {
            after.spend(1, now);
            jobs += 1;
        }
        jobs
    }

    /// When the next job conforms to the rate: GCRA, with a burst of a tenth of the limit.
    fn conforms_at(&self) -> Timestamp {
        self.limits.rate.map_or(Timestamp::EPOCH, |rate| {
            let burst = (rate.limit / 10).max(1);
            self.arrival - interval(rate) * (burst - 1)
        })
    }
}

/// The time between two jobs at this rate.
pub(crate) fn interval(rate: RateLimit) -> Duration {
    rate.per / rate.limit.max(1)
}

/// Shares `limit` jobs among lanes, of each at most its `room`: round the tenants, in the order in which they
/// come, then round each one's lanes. Answers each lane's share and the tenant that was served last.
pub(crate) fn share<'a>(
    lanes: &[(&'a str, usize)],
    mut limit: usize,
) -> (Vec<usize>, Option<&'a str>) {
    let mut shares = vec![0; lanes.len()];
    let mut last = None;
    let mut turns: VecDeque<VecDeque<usize>> = VecDeque::new();
    for (index, (tenant, _)) in lanes.iter().enumerate().filter(|(_, (_, room))| *room > 0) {
        match turns.back_mut().filter(|own| lanes[own[0]].0 == *tenant) {
            Some(own) => own.push_back(index),
            None => turns.push_back(VecDeque::from([index])),
        }
    }
    while limit > 0
        && let Some(mut own) = turns.pop_front()
    {
        if let Some(lane) = own.pop_front() {
            shares[lane] += 1;
            limit -= 1;
            last = Some(lanes[lane].0);
            if shares[lane] < lanes[lane].1 {
                own.push_back(lane);
            }
        }
        if !own.is_empty() {
            turns.push_back(own);
        }
    }
    (shares, last)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);

    fn lane(limits: LaneLimits) -> Lane {
        Lane {
            endpoint_id: Uuid::nil(),
            tenant: "default".into(),
            turn: NOW,
            held_until: Timestamp::EPOCH,
            is_probed: false,
            arrival: Timestamp::EPOCH,
            limits,
            in_flight: 0,
            head_due: Some(NOW),
        }
    }

    #[test]
    fn a_lane_is_ready_up_to_its_cap() {
        let mut lane = lane(LaneLimits {
            max_in_flight: 32,
            ..LaneLimits::default()
        });
        lane.in_flight = 30;
        assert_eq!(lane.standing(NOW), Standing::Ready(2));
        lane.in_flight = 33;
        assert_eq!(lane.standing(NOW), Standing::Full, "the cap was lowered");
        (lane.in_flight, lane.head_due) = (0, None);
        assert_eq!(lane.standing(NOW), Standing::Empty);
    }

    #[test]
    fn a_lane_that_is_probed_has_one() {
        let mut lane = lane(LaneLimits::default());
        lane.is_probed = true;
        assert_eq!(lane.standing(NOW), Standing::Ready(1));
        lane.in_flight = 1;
        assert_eq!(lane.standing(NOW), Standing::Full);
    }

    #[test]
    fn a_lane_waits_for_what_comes_last() {
        let second = Duration::from_secs(1);
        let mut lane = lane(LaneLimits::default());
        lane.head_due = Some(NOW + second);
        assert_eq!(lane.standing(NOW), Standing::Waiting(NOW + second));
        lane.held_until = NOW + second * 5;
        assert_eq!(lane.standing(NOW), Standing::Waiting(NOW + second * 5));
    }

    #[test]
    fn a_burst_of_a_tenth_conforms_and_then_one_an_interval() {
        let rate = RateLimit {
            limit: 50,
            per: Duration::from_secs(1),
        };
        let mut lane = lane(LaneLimits {
            rate: Some(rate),
            ..LaneLimits::default()
        });
        assert_eq!(lane.standing(NOW), Standing::Ready(5));
        lane.spend(5, NOW);
        let next = NOW + Duration::from_millis(20);
        assert_eq!(lane.standing(NOW), Standing::Waiting(next));
        assert_eq!(lane.standing(next), Standing::Ready(1));
    }

    #[test]
    fn tenants_take_turns_and_then_their_lanes() {
        let lanes = [("a", 9), ("a", 9), ("a", 1), ("b", 3), ("c", 0)];
        assert_eq!(share(&lanes, 7), (vec![2, 1, 1, 3, 0], Some("a")));
        assert_eq!(share(&lanes, 1).1, Some("a"));
        assert_eq!(share(&lanes, 100), (vec![9, 9, 1, 3, 0], Some("a")));
        assert_eq!(share(&[], 5), (vec![], None));
    }
}

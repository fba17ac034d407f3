//! How many jobs of each lane a process has under way.

use std::time::Duration;

use hashbrown::HashMap;
use uuid::Uuid;

use crate::queue::Lease;
use crate::time::Timestamp;

/// Counts a process's own leases by lane, for queues that keep no count of an unlimited lane in the backend.
///
/// Plain data. A lease counts until it is [ended](Self::end), or for as long as it lasts: what a dead
/// task never gave back does not keep a lane full for ever.
#[derive(Debug, Default)]
pub struct InFlight {
    lanes: HashMap<Uuid, HashMap<Uuid, Timestamp>>,
}

impl InFlight {
    /// Counts leases that were claimed `now`, for at most `lease`.
    pub fn begin(&mut self, leases: &[Lease], lease: Duration, now: Timestamp) {
        for one in leases {
            let lane = self.lanes.entry(one.lane).or_default();
            lane.insert(one.delivery, now + lease);
        }
    }

    /// No longer counts a lease.
    pub fn end(&mut self, lease: &Lease) {
        if let Some(lane) = self.lanes.get_mut(&lease.lane) {
            lane.remove(&lease.delivery);
            if lane.is_empty() {
                self.lanes.remove(&lease.lane);
            }
        }
    }

    /// The lanes with `cap` leases or more.
    pub fn full(&mut self, cap: usize, now: Timestamp) -> Vec<Uuid> {
        let mut full = Vec::new();
        for (id, lane) in &mut self.lanes {
            if lane.len() >= cap {
                lane.retain(|_, until| now < *until);
            }
            if lane.len() >= cap {
                full.push(*id);
            }
        }
        full
    }

    /// The lanes with leases, and how many more each may have below `cap`.
    pub fn room(&mut self, cap: usize, now: Timestamp) -> Vec<(Uuid, usize)> {
        self.lanes.retain(|_, lane| {
            if lane.len() >= cap {
                lane.retain(|_, until| now < *until);
            }
            !lane.is_empty()
        });
        let room = |(id, lane): (&Uuid, &HashMap<_, _>)| (*id, cap.saturating_sub(lane.len()));
        self.lanes.iter().map(room).collect()
    }

    /// How many leases of a lane count.
    #[must_use]
    pub fn count(&self, lane: Uuid) -> usize {
        self.lanes.get(&lane).map_or(0, HashMap::len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(delivery: u128) -> Lease {
        Lease {
            delivery: Uuid::from_u128(delivery),
            lane: Uuid::nil(),
            fence: 1,
            until: Timestamp::EPOCH,
        }
    }

    #[test]
    fn a_lane_is_full_until_a_lease_ends_or_passes() {
        let (now, minute) = (Timestamp::EPOCH, Duration::from_secs(60));
        let mut in_flight = InFlight::default();
        in_flight.begin(&[lease(1), lease(2)], minute, now);
        assert_eq!(in_flight.full(2, now), [Uuid::nil()]);
        in_flight.end(&lease(1));
        assert!(in_flight.full(2, now).is_empty());
        in_flight.begin(&[lease(3)], minute, now + minute / 2);
        assert!(in_flight.full(2, now + minute).is_empty());
        assert_eq!(in_flight.count(Uuid::nil()), 1);
    }
}

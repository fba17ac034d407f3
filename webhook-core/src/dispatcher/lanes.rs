//! What this process knows about lanes: how many jobs of each it has under way, and how many it may have.
//!
//! A lane begins with one job at a time. Each success makes room for one more, up to the lane's cap. A timeout, or an answer that
//! says "too much", halves the room. All lanes that are slow share most of the slots, and those that hang a smaller part of
//! these, so that the rest stays free for the quick ones.

mod crowd;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hashbrown::HashMap;
use uuid::Uuid;

use self::crowd::Crowd;
use crate::breaker::{BreakerPolicy, Evidence, Findings, Says};
use crate::endpoint::Endpoint;
use crate::event::Event;
use crate::store::ClaimNew;
use crate::tenant::Tenant;
use crate::time::Timestamp;

/// How many jobs of a lane of which nothing is known.
const FIRST_CAP: u32 = 1;
/// After how many failures in a row a lane begins anew, whatever it could take before.
const CAREFUL_AFTER: u32 = 5;
/// Hung lanes together have at most this part of all slots.
const HUNG_PART: usize = 4;
/// This part of all slots is for quick lanes only.
const QUICK_PART: usize = 8;
/// An attempt that takes longer makes its lane a slow one, until a quicker one has ended.
const SLOW_AFTER: Duration = Duration::from_millis(500);
/// A lane has at most this part of all slots, whatever cap its endpoint sets; more only if the host's cap is more.
const LANE_PART: usize = 2;
/// How many lanes are known. Of more, those without jobs are forgotten.
const MAX_KNOWN: usize = 16_384;
/// At how many of a tenant's endpoints a new event is held to see whether it can be attempted at once.
const MAX_TRIED: usize = 64;

/// What an attempt says of its lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    /// It succeeded.
    Good,
    /// It failed, for a reason that says nothing about load.
    Bad,
    /// It was told that there is too much.
    Busy,
    /// It timed out, or took most of the time that it had.
    Hung,
}

/// What an attempt showed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Observed {
    pub(super) sign: Sign,
    pub(super) says: Says,
    /// Its breaker had opened before it.
    pub(super) is_probe: bool,
    pub(super) began: Timestamp,
    pub(super) now: Timestamp,
}

/// The lanes of an engine.
#[derive(Debug)]
pub(super) struct Lanes {
    known: Mutex<Known>,
    /// The most of a lane whose endpoint sets no cap.
    cap: u32,
    /// The most of a lane whose endpoint sets one.
    own_cap: u32,
    /// The most of all hung lanes together.
    hung_slots: usize,
    /// The most of all hung and slow lanes together.
    slow_slots: usize,
    breaker: Option<BreakerPolicy>,
}

#[derive(Debug, Default)]
struct Known {
    lanes: HashMap<Uuid, Lane>,
    /// Those with jobs under way.
    busy: BTreeSet<Uuid>,
    slow: Crowd,
    hung: Crowd,
    /// Those without limits whose last attempt succeeded.
    good: HashMap<Tenant, BTreeSet<Uuid>>,
}

/// How long the last attempt of a lane took, or one that is under way has taken so far: the longer of both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Pace {
    #[default]
    Quick,
    Slow,
    Hung,
}

/// When an attempt begins to be slow, and when to hang.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Started {
    slow_from: Timestamp,
    hangs_from: Timestamp,
}

#[derive(Debug)]
struct Lane {
    /// Known from its first attempt on.
    tenant: Option<Tenant>,
    in_flight: u32,
    /// Those under way.
    attempts: Vec<Started>,
    cap: u32,
    /// Up to here each success makes room for one more; beyond, each round of them.
    steady: u32,
    successes: u32,
    pace: Pace,
    /// What began before it does not count against the lane again.
    last_cut: Timestamp,
    evidence: Evidence,
    /// As it was when its last attempt succeeded.
    endpoint: Option<Arc<Endpoint>>,
}

/// A job under way counts in its lane until this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    lanes: Arc<Lanes>,
    lane: Uuid,
}

/// An attempt is under way until this is dropped.
#[derive(Debug)]
pub(super) struct UnderWay<'p> {
    place: &'p Place,
    started: Started,
}

/// How many more jobs a claim takes of lanes of which something is known.
#[derive(Debug, Default)]
pub(super) struct Rooms {
    pub(super) rooms: Vec<(Uuid, u32)>,
    /// Whether others of their pace take the turn of lanes that have room: these get theirs if this claim finds nothing.
    pub(super) others_wait: bool,
}

/// New deliveries that may be attempted at once.
#[derive(Debug, Default)]
pub(super) struct Lead {
    pub(super) claim: Vec<ClaimNew>,
    /// One for each of them.
    pub(super) places: HashMap<Uuid, Vec<Place>>,
    pub(super) endpoints: HashMap<Uuid, Arc<Endpoint>>,
}

impl Lanes {
    pub(super) fn new(cap: u32, slots: usize, breaker: Option<BreakerPolicy>) -> Self {
        let part = u32::try_from(slots / LANE_PART).unwrap_or(u32::MAX);
        Self {
            known: Mutex::default(),
            cap,
            own_cap: cap.max(part),
            hung_slots: (slots / HUNG_PART).max(1),
            slow_slots: (slots - slots / QUICK_PART).max(1),
            breaker,
        }
    }

    /// The most that a claim takes of a lane that is not among [`rooms`](Self::rooms).
    pub(super) const FIRST_ROOM: u32 = FIRST_CAP;

    /// What a claim takes of those lanes of which something is known. What is left for slow and for hung lanes goes
    /// round them.
    pub(super) fn rooms(&self, now: Timestamp) -> Rooms {
        let mut known = self.known();
        known.find_slow(now);
        let known = &mut *known;
        let mut rooms = Rooms::default();
        for (id, lane) in known
            .busy
            .iter()
            .filter_map(|id| Some((id, known.lanes.get(id)?)))
        {
            if lane.pace == Pace::Quick {
                rooms.rooms.push((*id, lane.room()));
            }
        }
        let left = self
            .slow_slots
            .saturating_sub(known.slow.in_flight + known.hung.in_flight);
        let of_hung = self
            .hung_slots
            .saturating_sub(known.hung.in_flight)
            .min(left);
        let taken = known.hung.share(of_hung, &known.lanes, &mut rooms);
        // What hung lanes do not use is not lost to the others: with few slots that would be all there is.
        let of_slow = (left - taken).max(1).min(left);
        known.slow.share(of_slow, &known.lanes, &mut rooms);
        rooms
    }

    /// Counts a job of a lane.
    pub(super) fn enter(self: &Arc<Self>, lane: Uuid) -> Place {
        self.known().enter(lane);
        Place {
            lanes: Arc::clone(self),
            lane,
        }
    }

    /// Which deliveries of new events may be attempted at once, at most `slots`: of lanes whose last attempt
    /// succeeded, which have room, and no limits that only the queue can keep.
    pub(super) fn lead(self: &Arc<Self>, events: &[Event], slots: usize) -> Lead {
        let mut lead = Lead::default();
        let mut wanted: HashMap<Uuid, u32> = HashMap::new();
        let mut known = self.known();
        let mut left = slots;
        for event in events.iter().filter(|event| event.deliver_at.is_none()) {
            let lanes = known.good.get(&event.tenant).into_iter().flatten();
            for id in lanes.take(MAX_TRIED) {
                let Some(lane) = known.lanes.get(id).filter(|_| left > 0) else {
                    continue;
                };
                let wanted = wanted.entry(*id).or_default();
                let is_wanted = |it: &&Arc<Endpoint>| it.accepts(&event.event_type);
                if let Some(endpoint) = lane.endpoint.as_ref().filter(is_wanted)
                    && *wanted < lane.room()
                {
                    *wanted += 1;
                    left -= 1;
                    if *wanted == 1 {
                        lead.endpoints.insert(*id, Arc::clone(endpoint));
                    }
                }
            }
        }
        wanted.retain(|_, room| *room > 0);
        for (id, room) in wanted {
            let places = lead.places.entry(id).or_default();
            for _ in 0..room {
                known.enter(id);
                places.push(Place {
                    lanes: Arc::clone(self),
                    lane: id,
                });
            }
            if let Some(endpoint) = lead.endpoints.get(&id) {
                lead.claim.push(ClaimNew {
                    endpoint: id,
                    version: endpoint.version,
                    room,
                });
            }
        }
        lead
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Learns from an attempt, and answers what is known with it.
    pub(super) fn learn(
        &self,
        observed: Observed,
        endpoint: &Arc<Endpoint>,
        may_lead: bool,
    ) -> Findings {
        let Observed {
            sign, began, now, ..
        } = observed;
        let most = match endpoint.lane_limits().max_in_flight {
            u32::MAX => self.lanes.cap,
            own => own.min(self.lanes.own_cap),
        };
        let mut known = self.lanes.known();
        let known = &mut *known;
        let Some(lane) = known.lanes.get_mut(&self.lane) else {
            return Findings::default();
        };
        lane.tenant.get_or_insert_with(|| endpoint.tenant.clone());
        let breaker = self.lanes.breaker.as_ref();
        let findings = lane.evidence.add(breaker, observed.says, began, now);
        if observed.is_probe || findings.in_a_row >= CAREFUL_AFTER {
            lane.begin_anew();
        }
        match sign {
            Sign::Good => lane.grow(most),
            Sign::Bad => {}
            Sign::Busy | Sign::Hung => lane.cut(began, now),
        }
        // What answers one attempt may let another hang.
        let own = match sign {
            Sign::Hung => Pace::Hung,
            _ if now > began + SLOW_AFTER => Pace::Slow,
            _ => Pace::Quick,
        };
        let pace = own.max(lane.pace_at(now));
        let leads = (may_lead && sign == Sign::Good && pace == Pace::Quick).then_some(endpoint);
        lane.set_endpoint(self.lane, leads, &mut known.good);
        known.set_pace(self.lane, pace);
        findings
    }

    /// An attempt for this tenant has begun, and hangs if it has not ended by then.
    pub(super) fn attempt(
        &self,
        tenant: &Tenant,
        began: Timestamp,
        hangs_from: Timestamp,
    ) -> UnderWay<'_> {
        let started = Started {
            slow_from: began + SLOW_AFTER,
            hangs_from,
        };
        if let Some(lane) = self.lanes.known().lanes.get_mut(&self.lane) {
            lane.tenant.get_or_insert_with(|| tenant.clone());
            lane.attempts.push(started);
        }
        UnderWay {
            place: self,
            started,
        }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut known = self.place.lanes.known();
        let lane = known.lanes.get_mut(&self.place.lane);
        let Some(attempts) = lane.map(|lane| &mut lane.attempts) else {
            return;
        };
        if let Some(own) = attempts.iter().position(|it| *it == self.started) {
            attempts.swap_remove(own);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.lanes.known().leave(self.lane);
    }
}

impl Known {
    fn enter(&mut self, id: Uuid) {
        if self.lanes.len() >= MAX_KNOWN && !self.lanes.contains_key(&id) {
            self.forget_idle();
        }
        let lane = self.lanes.entry(id).or_insert_with(Lane::new);
        lane.in_flight += 1;
        let (pace, is_first) = (lane.pace, lane.in_flight == 1);
        if let Some(crowd) = self.crowd(pace) {
            crowd.in_flight += 1;
        }
        if is_first {
            self.busy.insert(id);
        }
    }

    fn leave(&mut self, id: Uuid) {
        let Some(lane) = self.lanes.get_mut(&id) else {
            return;
        };
        lane.in_flight -= 1;
        let (pace, was_last) = (lane.pace, lane.in_flight == 0);
        if let Some(crowd) = self.crowd(pace) {
            crowd.in_flight -= 1;
        }
        if was_last {
            self.busy.remove(&id);
        }
    }

    /// The lanes of a pace, if these are counted.
    fn crowd(&mut self, pace: Pace) -> Option<&mut Crowd> {
        match pace {
            Pace::Quick => None,
            Pace::Slow => Some(&mut self.slow),
            Pace::Hung => Some(&mut self.hung),
        }
    }

    /// An attempt that is slow or hangs counts before it ends.
    fn find_slow(&mut self, now: Timestamp) {
        let busy = self.busy.iter();
        let busy = busy.filter_map(|id| Some((*id, self.lanes.get(id)?)));
        let slower = busy.map(|(id, lane)| (id, lane.pace, lane.pace_at(now)));
        let slower: Vec<_> = slower.filter(|(_, before, after)| after > before).collect();
        for (id, _, pace) in slower {
            self.set_pace(id, pace);
            if let Some(lane) = self.lanes.get_mut(&id) {
                lane.set_endpoint(id, None, &mut self.good);
            }
        }
    }

    fn set_pace(&mut self, id: Uuid, pace: Pace) {
        let Some(lane) = self.lanes.get_mut(&id) else {
            return;
        };
        let in_flight = lane.in_flight as usize;
        let before = std::mem::replace(&mut lane.pace, pace);
        if before == pace {
            return;
        }
        let tenant = lane.tenant.clone().unwrap_or_default();
        if let Some(crowd) = self.crowd(before) {
            crowd.in_flight -= in_flight;
            crowd.remove(&tenant, id);
        }
        if let Some(crowd) = self.crowd(pace) {
            crowd.in_flight += in_flight;
            crowd.insert(&tenant, id);
        }
    }

    /// They begin anew, carefully.
    fn forget_idle(&mut self) {
        self.lanes.retain(|_, lane| lane.in_flight > 0);
        let lanes = &self.lanes;
        for crowd in [&mut self.slow, &mut self.hung] {
            crowd.retain(|id| lanes.contains_key(&id));
        }
        self.good.retain(|_, good| {
            good.retain(|id| lanes.contains_key(id));
            !good.is_empty()
        });
    }
}

impl Started {
    fn pace_at(&self, now: Timestamp) -> Pace {
        if now > self.hangs_from {
            Pace::Hung
        } else if now > self.slow_from {
            Pace::Slow
        } else {
            Pace::Quick
        }
    }
}

impl Lane {
    fn new() -> Self {
        Self {
            tenant: None,
            in_flight: 0,
            attempts: Vec::new(),
            cap: FIRST_CAP,
            steady: u32::MAX,
            successes: 0,
            pace: Pace::default(),
            last_cut: Timestamp::EPOCH,
            evidence: Evidence::default(),
            endpoint: None,
        }
    }

    fn room(&self) -> u32 {
        self.cap.saturating_sub(self.in_flight)
    }

    /// The pace of what is under way.
    fn pace_at(&self, now: Timestamp) -> Pace {
        let paces = self.attempts.iter().map(|it| it.pace_at(now));
        paces.max().unwrap_or_default()
    }

    fn grow(&mut self, most: u32) {
        self.successes += 1;
        if self.cap < self.steady || self.successes >= self.cap {
            self.successes = 0;
            self.cap += 1;
        }
        self.cap = self.cap.min(most);
    }

    /// What it could take before says nothing any more.
    fn begin_anew(&mut self) {
        (self.cap, self.steady, self.successes) = (FIRST_CAP, u32::MAX, 0);
    }

    /// Once for all that was under way.
    fn cut(&mut self, began: Timestamp, now: Timestamp) {
        // Unless the clock was ahead then.
        self.last_cut = self.last_cut.min(now);
        if began >= self.last_cut {
            self.cap = (self.cap / 2).max(FIRST_CAP);
            self.steady = self.cap;
            self.successes = 0;
            self.last_cut = now;
        }
    }

    fn set_endpoint(
        &mut self,
        id: Uuid,
        endpoint: Option<&Arc<Endpoint>>,
        good: &mut HashMap<Tenant, BTreeSet<Uuid>>,
    ) {
        match (&self.endpoint, endpoint) {
            (None, Some(new)) => {
                good.entry(new.tenant.clone()).or_default().insert(id);
            }
            (Some(old), None) => {
                if let Some(lanes) = good.get_mut(&old.tenant) {
                    lanes.remove(&id);
                }
            }
            (Some(old), Some(new)) if Arc::ptr_eq(old, new) => return,
            _ => {}
        }
        self.endpoint = endpoint.cloned();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::endpoint::EndpointSettings;
    use crate::testing::{endpoint_for, event_for};

    const CAP: u32 = 4;
    const SLOTS: usize = 8;
    const SECOND: Duration = Duration::from_secs(1);
    const HOUR: Duration = Duration::from_secs(3_600);
    const T0: Timestamp = Timestamp::from_seconds(1_700_000_000);

    fn lanes() -> Arc<Lanes> {
        Arc::new(Lanes::new(CAP, SLOTS, Some(BreakerPolicy::default())))
    }

    fn endpoint() -> Arc<Endpoint> {
        Arc::new(endpoint_for("default", EndpointSettings::default()))
    }

    /// One attempt, a second after the one before.
    fn attempt(lanes: &Arc<Lanes>, endpoint: &Arc<Endpoint>, sign: Sign, second: i64) {
        let began = Timestamp::from_seconds(1_700_000_000 + second);
        let place = lanes.enter(endpoint.id);
        place.learn(observed(sign, began, began), endpoint, true);
    }

    fn attempt_of(place: &Place, hangs_from: Timestamp) -> UnderWay<'_> {
        place.attempt(&Tenant::default(), T0, hangs_from)
    }

    fn observed(sign: Sign, began: Timestamp, now: Timestamp) -> Observed {
        Observed {
            sign,
            says: match sign {
                Sign::Good => Says::Took,
                Sign::Bad | Sign::Busy | Sign::Hung => Says::Failed,
            },
            is_probe: false,
            began,
            now,
        }
    }

    fn room(lanes: &Arc<Lanes>, lane: Uuid) -> u32 {
        let _busy = lanes.enter(lane);
        let rooms = lanes.rooms(T0).rooms;
        let own = rooms.iter().find(|(id, _)| *id == lane);
        own.map_or(0, |(_, room)| *room)
    }

    #[test]
    fn a_lane_grows_by_succeeding_up_to_its_cap() {
        let (lanes, endpoint) = (lanes(), endpoint());
        assert_eq!(room(&lanes, endpoint.id), 0, "it begins with one");
        attempt(&lanes, &endpoint, Sign::Good, 0);
        assert_eq!(room(&lanes, endpoint.id), 1);
        for second in 1..10 {
            attempt(&lanes, &endpoint, Sign::Good, second);
        }
        assert_eq!(room(&lanes, endpoint.id), CAP - 1);
        attempt(&lanes, &endpoint, Sign::Bad, 10);
        assert_eq!(
            room(&lanes, endpoint.id),
            CAP - 1,
            "a plain failure says nothing"
        );
        attempt(&lanes, &endpoint, Sign::Busy, 11);
        assert_eq!(room(&lanes, endpoint.id), CAP / 2 - 1);
    }

    #[test]
    fn what_was_under_way_together_cuts_once() {
        let (lanes, endpoint) = (lanes(), endpoint());
        for second in 0..10 {
            attempt(&lanes, &endpoint, Sign::Good, second);
        }
        let places = [(); 4].map(|()| lanes.enter(endpoint.id));
        let ended = T0 + Duration::from_secs(60);
        for place in &places {
            place.learn(observed(Sign::Busy, T0, ended), &endpoint, true);
        }
        drop(places);
        assert_eq!(room(&lanes, endpoint.id), CAP / 2 - 1);
    }

    #[test]
    fn a_clock_that_was_ahead_for_a_time_keeps_no_lane_from_being_cut() {
        let (lanes, endpoint) = (lanes(), endpoint());
        attempt(&lanes, &endpoint, Sign::Busy, 1_000_000);
        for second in 0..10 {
            attempt(&lanes, &endpoint, Sign::Good, second);
        }
        let before = room(&lanes, endpoint.id);
        attempt(&lanes, &endpoint, Sign::Busy, 10);
        assert!(room(&lanes, endpoint.id) < before);
    }

    #[test]
    fn a_lane_that_failed_often_or_is_probed_begins_with_one() {
        let (lanes, endpoint) = (lanes(), endpoint());
        let grow = || (0..10).for_each(|second| attempt(&lanes, &endpoint, Sign::Good, second));
        grow();
        for second in 10..14 {
            attempt(&lanes, &endpoint, Sign::Bad, second);
        }
        assert_eq!(room(&lanes, endpoint.id), CAP - 1, "four say nothing");
        attempt(&lanes, &endpoint, Sign::Bad, 14);
        assert_eq!(room(&lanes, endpoint.id), 0);
        grow();
        let probe = Observed {
            is_probe: true,
            ..observed(Sign::Good, T0, T0)
        };
        lanes.enter(endpoint.id).learn(probe, &endpoint, true);
        assert_eq!(room(&lanes, endpoint.id), 1, "it succeeded once");
    }

    #[test]
    fn an_endpoint_can_set_a_cap_of_its_own() {
        let settings = EndpointSettings {
            max_in_flight: Some(2),
            ..EndpointSettings::default()
        };
        let (lanes, endpoint) = (lanes(), Arc::new(endpoint_for("default", settings)));
        for second in 0..10 {
            attempt(&lanes, &endpoint, Sign::Good, second);
        }
        assert_eq!(room(&lanes, endpoint.id), 1);
    }

    #[test]
    fn an_endpoint_has_at_most_half_of_the_slots_whatever_its_cap() {
        let settings = EndpointSettings {
            max_in_flight: Some(1_000),
            ..EndpointSettings::default()
        };
        let lanes = Arc::new(Lanes::new(1, 2 * SLOTS, None));
        let endpoint = Arc::new(endpoint_for("default", settings));
        for second in 0..100 {
            attempt(&lanes, &endpoint, Sign::Good, second);
        }
        assert_eq!(room(&lanes, endpoint.id) as usize, SLOTS - 1);
    }

    #[test]
    fn a_lane_is_hung_before_its_attempt_ends() {
        let (lanes, endpoint) = (lanes(), endpoint());
        for second in 0..10 {
            attempt(&lanes, &endpoint, Sign::Good, second);
        }
        let places = [(); 2].map(|()| lanes.enter(endpoint.id));
        let [first, second] = &places;
        let (hanging, _quick) = (attempt_of(first, T0), attempt_of(second, T0 + HOUR));
        let left = |at| lanes.rooms(at).rooms[0].1;
        assert_eq!(left(T0), CAP - 2);
        assert_eq!(
            left(T0 + SECOND),
            0,
            "both of the slots for hung lanes are taken"
        );
        let events = [event_for("default", "order.paid", "1", T0)];
        assert!(lanes.lead(&events, SLOTS).claim.is_empty());
        let good = observed(Sign::Good, T0 + SECOND, T0 + SECOND);
        second.learn(good, &endpoint, true);
        assert!(lanes.lead(&events, SLOTS).claim.is_empty());
        assert_eq!(left(T0 + SECOND), 0, "the other one hangs on");
        drop(hanging);
        second.learn(good, &endpoint, true);
        assert_eq!(left(T0 + SECOND), CAP - 2);
    }

    #[test]
    fn hung_lanes_share_a_quarter_of_the_slots_in_turns() {
        let lanes = lanes();
        let endpoints = [(); 5].map(|()| endpoint());
        for endpoint in &endpoints {
            attempt(&lanes, endpoint, Sign::Hung, 0);
        }
        let mut turns: HashMap<Uuid, u32> = HashMap::new();
        for _ in 0..5 {
            let Rooms { rooms, others_wait } = lanes.rooms(T0);
            assert!(others_wait);
            let total: u32 = rooms.iter().map(|(_, room)| room).sum();
            assert_eq!(total, 2);
            for (lane, room) in rooms {
                *turns.entry(lane).or_default() += room;
            }
        }
        assert!(turns.values().all(|turns| *turns == 2), "{turns:?}");
        let _under_way = [lanes.enter(endpoints[0].id), lanes.enter(endpoints[1].id)];
        let Rooms { rooms, others_wait } = lanes.rooms(T0);
        assert!(rooms.iter().all(|(_, room)| *room == 0));
        assert!(!others_wait, "asking again would change nothing");
        attempt(&lanes, &endpoints[2], Sign::Good, 1);
        assert_eq!(lanes.known().hung.len(), 4);
    }

    /// Whichever tenant comes first, and however its lanes and theirs are called.
    #[test]
    fn a_tenant_with_many_hung_lanes_leaves_each_other_turn_to_another() {
        let lanes = lanes();
        let endpoint_of = |tenant| Arc::new(endpoint_for(tenant, EndpointSettings::default()));
        let crowd = [(); 50].map(|()| endpoint_of("crowd"));
        let single = endpoint_of("single");
        for endpoint in crowd.iter().chain([&single]) {
            attempt(&lanes, endpoint, Sign::Hung, 0);
        }
        let _one_of_two_slots = lanes.enter(crowd[0].id);
        let turns = [(); 10].map(|()| {
            let rooms = lanes.rooms(T0).rooms;
            let given: Vec<_> = rooms.iter().filter(|(_, room)| *room > 0).collect();
            assert_eq!(given.len(), 1);
            given[0].0
        });
        let of_single = turns.iter().filter(|lane| **lane == single.id).count();
        assert_eq!(of_single, turns.len() / 2);
        let others: BTreeSet<_> = turns.iter().filter(|lane| **lane != single.id).collect();
        assert_eq!(others.len(), turns.len() / 2, "each has its own turn");
    }

    #[test]
    fn slow_lanes_leave_an_eighth_of_the_slots_to_quick_ones() {
        let lanes = lanes();
        let endpoints = [(); 20].map(|()| endpoint());
        let slowly = |second: i64, endpoint| {
            let began = T0 + SECOND * u32::try_from(second).unwrap();
            let place = lanes.enter(endpoint);
            (observed(Sign::Good, began, began + SECOND), place)
        };
        for endpoint in &endpoints {
            for second in 0..4 {
                let (observed, place) = slowly(second, endpoint.id);
                place.learn(observed, endpoint, true);
            }
        }
        let given = |rooms: &Rooms| {
            rooms
                .rooms
                .iter()
                .map(|(_, room)| *room as usize)
                .sum::<usize>()
        };
        let mut had_a_turn = std::collections::HashSet::new();
        for _ in 0..3 {
            let rooms = lanes.rooms(T0);
            assert_eq!(given(&rooms), SLOTS - 1);
            assert!(rooms.others_wait);
            had_a_turn.extend(rooms.rooms.iter().filter(|it| it.1 > 0).map(|it| it.0));
        }
        assert_eq!(
            had_a_turn.len(),
            20,
            "those without jobs keep nobody waiting"
        );
        let events = [event_for("default", "order.paid", "1", T0)];
        assert!(lanes.lead(&events, SLOTS).claim.is_empty());
        attempt(&lanes, &endpoints[0], Sign::Hung, 9);
        let _hangs = lanes.enter(endpoints[0].id);
        assert_eq!(
            given(&lanes.rooms(T0)),
            SLOTS - 2,
            "those that hang are slow ones too"
        );
        attempt(&lanes, &endpoints[1], Sign::Good, 10);
        assert_eq!(
            lanes.lead(&events, SLOTS).claim.len(),
            1,
            "it is quick again"
        );
    }

    #[test]
    fn hung_lanes_do_not_keep_the_only_slot_from_slow_ones() {
        let lanes = Arc::new(Lanes::new(CAP, 1, None));
        let (hung, slow) = (endpoint(), endpoint());
        attempt(&lanes, &hung, Sign::Hung, 0);
        let observed = observed(Sign::Good, T0, T0 + SECOND);
        lanes.enter(slow.id).learn(observed, &slow, true);
        let rooms = lanes.rooms(T0).rooms;
        assert!(rooms.iter().all(|(_, room)| *room > 0), "{rooms:?}");
    }

    #[test]
    fn a_lane_is_slow_before_its_attempt_ends() {
        let (lanes, endpoint) = (lanes(), endpoint());
        attempt(&lanes, &endpoint, Sign::Good, 0);
        let place = lanes.enter(endpoint.id);
        let _under_way = attempt_of(&place, T0 + HOUR);
        let events = [event_for("default", "order.paid", "1", T0)];
        lanes.rooms(T0 + SLOW_AFTER);
        assert_eq!(lanes.lead(&events, SLOTS).claim.len(), 1, "not yet");
        lanes.rooms(T0 + SECOND);
        assert!(lanes.lead(&events, SLOTS).claim.is_empty());
        assert_eq!(lanes.known().slow.in_flight, 1);
    }

    #[test]
    fn new_deliveries_begin_at_once_in_lanes_that_succeed() {
        let (lanes, endpoint) = (lanes(), endpoint());
        let events = [(); 3].map(|()| event_for("default", "order.paid", "1", T0));
        assert!(
            lanes.lead(&events, SLOTS).claim.is_empty(),
            "nothing is known"
        );
        attempt(&lanes, &endpoint, Sign::Good, 0);
        let lead = lanes.lead(&events, SLOTS);
        assert_eq!(lead.claim.len(), 1);
        assert_eq!(lead.claim[0].room, 2, "as many as there is room for");
        assert!(lanes.lead(&events, SLOTS).claim.is_empty(), "it is taken");
        drop(lead);
        assert_eq!(
            lanes.lead(&events, 1).claim[0].room,
            1,
            "as there are slots"
        );
        let foreign = [event_for("other", "order.paid", "1", T0)];
        assert!(lanes.lead(&foreign, SLOTS).claim.is_empty());
        attempt(&lanes, &endpoint, Sign::Bad, 1);
        assert!(lanes.lead(&events, SLOTS).claim.is_empty(), "it failed");
    }
}

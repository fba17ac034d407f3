//! Fair lanes as plain data: what every queue does, without I/O, locks or clock.
//!
//! Each lane is in one of three places: in the *ring* of lanes that may be eligible now, among the *timers*
//! until the time it becomes eligible, or *nowhere* (empty, or at its cap). A claim looks only at the ring,
//! so parked jobs and held lanes cost it nothing, however many there are.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use hashbrown::HashMap;
use uuid::Uuid;

use crate::endpoint::{LaneLimits, RateLimit};
use crate::queue::{ClaimOptions, Claimed, Depth, Hold, Job, Lease, Settle};
use crate::tenant::Tenant;
use crate::time::Timestamp;

/// How much later than the store says a job may be due.
const DUE_SLACK: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct Lanes {
    lanes: HashMap<Uuid, Lane>,
    jobs: HashMap<Uuid, Entry>,
    ring: Ring,
    timers: BTreeSet<(Timestamp, Uuid)>,
    leases: BTreeSet<(Timestamp, Uuid)>,
    /// The greatest fence so far. A job that was removed may be pushed again, by one who does not know of its
    /// leases; and after an erasure fences grow because time does.
    last_fence: i64,
}

#[derive(Debug)]
struct Lane {
    tenant: Tenant,
    limits: LaneLimits,
    waiting: BTreeSet<Place>,
    in_flight: u32,
    held_until: Timestamp,
    /// One job at a time, until it is released.
    is_probed: bool,
    /// GCRA's theoretical arrival time.
    arrival: Timestamp,
    scheduled: Scheduled,
}

/// The order within a lane: by due time and acceptance, or in an ordered lane by acceptance alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place(Timestamp, i64, Uuid);

#[derive(Debug)]
struct Entry {
    lane: Uuid,
    due: Timestamp,
    sequence: i64,
    fence: i64,
    leased_until: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheduled {
    Nowhere,
    InRing,
    At(Timestamp),
}

impl Lanes {
    pub(super) fn push(&mut self, job: &Job, now: Timestamp) {
        if self.enter(job, now) {
            self.wait(job.delivery);
        } else {
            self.bring_forward(job);
        }
        self.schedule(job.lane, now);
    }

    /// Lets a job that waits for too long fall due about when the store says.
    fn bring_forward(&mut self, job: &Job) {
        let due = job.due + DUE_SLACK;
        let waits = |it: &&Entry| it.leased_until.is_none() && it.due > due;
        if self.jobs.get(&job.delivery).filter(waits).is_none() {
            return;
        }
        self.unwait(job.delivery);
        if let Some(entry) = self.jobs.get_mut(&job.delivery) {
            entry.due = due;
        }
        self.wait(job.delivery);
    }

    /// Adds a new job that is leased from the beginning, if its lane is neither limited, ordered nor held.
    /// Otherwise it waits.
    pub(super) fn push_leased(
        &mut self,
        job: &Job,
        until: Timestamp,
        now: Timestamp,
    ) -> Option<Lease> {
        let is_new = self.enter(job, now);
        let is_free = |lane: &Lane| {
            lane.limits == LaneLimits::default() && lane.held_until <= now && !lane.is_probed
        };
        if is_new && job.due <= now && self.lanes.get(&job.lane).is_some_and(is_free) {
            return self.grant(job.lane, job.delivery, now, until);
        }
        if is_new {
            self.wait(job.delivery);
        }
        self.schedule(job.lane, now);
        None
    }

    /// Adds a job that neither waits nor is leased yet. Returns whether it was not there.
    fn enter(&mut self, job: &Job, now: Timestamp) -> bool {
        let lane = self.lanes.entry(job.lane).or_insert_with(Lane::new);
        lane.tenant = job.tenant.clone();
        self.set_limits(job.lane, job.limits, now);
        if self.jobs.contains_key(&job.delivery) {
            return false;
        }
        let entry = Entry {
            lane: job.lane,
            due: job.due,
            sequence: job.sequence,
            fence: job.fence,
            leased_until: None,
        };
        self.jobs.insert(job.delivery, entry);
        true
    }

    pub(super) fn claim(&mut self, options: &ClaimOptions, now: Timestamp) -> Claimed {
        let reclaimed = self.take_back_expired(now);
        self.wake_timers(now);
        let mut rooms: HashMap<Uuid, u32> = options.rooms.iter().copied().collect();
        let mut without_room = Vec::new();
        let mut leases = Vec::with_capacity(options.limit.min(self.jobs.len()));
        while leases.len() < options.limit {
            let Some(lane) = self.next_in_ring() else {
                break;
            };
            let room = rooms.entry(lane).or_insert(options.room);
            // Round robin, unless there is nobody to take turns with.
            while leases.len() < options.limit
                && *room > 0
                && let Some(lease) = self.claim_from(lane, now, now + options.lease)
            {
                leases.push(lease);
                *room -= 1;
                if !self.ring.is_empty() {
                    break;
                }
            }
            if *room > 0 {
                self.schedule(lane, now);
            } else {
                without_room.push(lane);
            }
        }
        // Others may have room for them.
        for lane in without_room {
            self.schedule(lane, now);
        }
        let next_due = if leases.is_empty() {
            self.next_due()
        } else {
            None
        };
        Claimed {
            leases,
            next_due,
            reclaimed,
        }
    }

    /// The first job of a lane that waits, if the lane is ordered.
    pub(super) fn head_of_ordered(&self, lane: Uuid) -> Option<Uuid> {
        let lane = self.lanes.get(&lane).filter(|it| it.limits.ordered)?;
        lane.waiting.first().map(|Place(_, _, head)| *head)
    }

    /// Whether this is the current lease of its delivery.
    pub(super) fn owns(&self, lease: &Lease) -> bool {
        let entry = self.jobs.get(&lease.delivery);
        entry.is_some_and(|entry| entry.fence == lease.fence && entry.leased_until.is_some())
    }

    pub(super) fn extend(&mut self, lease: &Lease, until: Timestamp) -> Option<Lease> {
        if !self.owns(lease) {
            return None;
        }
        let entry = self.jobs.get_mut(&lease.delivery)?;
        let before = entry.leased_until.replace(until)?;
        self.leases.remove(&(before, lease.delivery));
        self.leases.insert((until, lease.delivery));
        Some(Lease { until, ..*lease })
    }

    pub(super) fn settle(&mut self, lease: &Lease, settle: Settle, now: Timestamp) {
        if !self.owns(lease) {
            return;
        }
        match settle {
            Settle::Done => self.remove(lease.delivery, now),
            Settle::After(by) => self.put_back(lease.delivery, now + by, now),
            Settle::Unused(by) => {
                if let Some(lane) = self.lanes.get_mut(&lease.lane) {
                    lane.refund();
                }
                self.put_back(lease.delivery, now + by, now);
            }
        }
    }

    /// Forgets a job, leased or not.
    pub(super) fn remove(&mut self, delivery: Uuid, now: Timestamp) {
        self.end_lease(delivery);
        self.unwait(delivery);
        if let Some(entry) = self.jobs.remove(&delivery) {
            self.schedule(entry.lane, now);
            self.forget_if_idle(entry.lane, now);
        }
    }

    /// Forgets lanes with all that is of them, as if they had never been.
    pub(super) fn forget(&mut self, is_lost: impl Fn(Uuid) -> bool) {
        let jobs = &mut self.jobs;
        self.leases.retain(|(_, delivery)| {
            let entry = jobs.get(delivery);
            entry.is_some_and(|entry| !is_lost(entry.lane))
        });
        jobs.retain(|_, entry| !is_lost(entry.lane));
        self.lanes.retain(|lane, _| !is_lost(*lane));
        self.timers.retain(|(_, lane)| !is_lost(*lane));
        self.ring.forget(is_lost);
    }

    pub(super) fn hold(&mut self, id: Uuid, hold: Hold, now: Timestamp) {
        let lane = self.lanes.entry(id).or_insert_with(Lane::new);
        lane.held_until = lane.held_until.max(now + hold.by);
        lane.is_probed |= hold.then_probe;
        self.schedule(id, now);
    }

    /// Needs no time: the lane goes to the ring, where its turn decides.
    pub(super) fn release(&mut self, id: Uuid) {
        let Some(lane) = self.lanes.get_mut(&id) else {
            return;
        };
        lane.held_until = Timestamp::EPOCH;
        lane.is_probed = false;
        self.schedule(id, Timestamp::MAX);
    }

    /// Changes how a lane is scheduled, if it is there.
    pub(super) fn set_limits(&mut self, id: Uuid, limits: LaneLimits, now: Timestamp) {
        let Some(lane) = self.lanes.get_mut(&id).filter(|lane| lane.limits != limits) else {
            return;
        };
        lane.limits = limits;
        // What was spent at another rate does not keep the lane back longer than one turn of the new.
        let turn = limits.rate.map_or(Duration::ZERO, interval);
        lane.arrival = lane.arrival.min(now + turn);
        let waiting = std::mem::take(&mut lane.waiting);
        for Place(_, _, delivery) in waiting {
            self.wait(delivery);
        }
        self.schedule(id, now);
    }

    pub(super) fn depth(&self, now: Timestamp) -> Depth {
        let mut depth = Depth::default();
        for entry in self.jobs.values() {
            match entry {
                Entry {
                    leased_until: Some(_),
                    ..
                } => depth.leased += 1,
                Entry { due, .. } if *due <= now => depth.ready += 1,
                Entry { .. } => depth.parked += 1,
            }
        }
        let lanes = self.lanes.keys();
        depth.oldest_due = lanes.filter_map(|lane| self.eligible_at(*lane)).min();
        depth
    }

    fn next_in_ring(&mut self) -> Option<Uuid> {
        let id = self.ring.next()?;
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.scheduled = Scheduled::Nowhere;
        }
        Some(id)
    }

    /// One job of a lane, if it is eligible now.
    fn claim_from(&mut self, id: Uuid, now: Timestamp, until: Timestamp) -> Option<Lease> {
        let eligible = self.eligible_at(id).is_some_and(|at| at <= now);
        let lane = self.lanes.get_mut(&id).filter(|_| eligible)?;
        let Place(_, _, delivery) = lane.waiting.pop_first()?;
        self.grant(id, delivery, now, until)
    }

    /// Leases a job that is not among its lane's waiting.
    fn grant(
        &mut self,
        id: Uuid,
        delivery: Uuid,
        now: Timestamp,
        until: Timestamp,
    ) -> Option<Lease> {
        let lane = self.lanes.get_mut(&id)?;
        lane.in_flight += 1;
        lane.spend(now);
        let entry = self.jobs.get_mut(&delivery)?;
        entry.fence = (entry.fence.max(self.last_fence) + 1).max(now.as_micros());
        self.last_fence = entry.fence;
        entry.leased_until = Some(until);
        self.leases.insert((until, delivery));
        Some(Lease {
            delivery,
            lane: id,
            fence: entry.fence,
            until,
        })
    }

    /// When the lane's head may be claimed; `None` if there is none, or the lane is at its cap.
    fn eligible_at(&self, id: Uuid) -> Option<Timestamp> {
        let lane = self
            .lanes
            .get(&id)
            .filter(|lane| lane.in_flight < lane.cap())?;
        let Place(_, _, head) = lane.waiting.first()?;
        let due = self.jobs.get(head)?.due;
        Some(due.max(lane.held_until).max(lane.conforms_at()))
    }

    /// Puts a lane where it belongs. One in the ring stays there until its turn, which decides.
    fn schedule(&mut self, id: Uuid, now: Timestamp) {
        let eligible_at = self.eligible_at(id);
        let Some(lane) = self
            .lanes
            .get_mut(&id)
            .filter(|lane| lane.scheduled != Scheduled::InRing)
        else {
            return;
        };
        if let Scheduled::At(at) = lane.scheduled {
            self.timers.remove(&(at, id));
        }
        lane.scheduled = match eligible_at {
            None => Scheduled::Nowhere,
            Some(at) if at <= now => {
                self.ring.push(&lane.tenant, id);
                Scheduled::InRing
            }
            Some(at) => {
                self.timers.insert((at, id));
                Scheduled::At(at)
            }
        };
    }

    fn forget_if_idle(&mut self, id: Uuid, now: Timestamp) {
        if self.lanes.get(&id).is_some_and(|lane| lane.is_idle(now)) {
            self.lanes.remove(&id);
        }
    }

    /// Puts an unleased job among its lane's waiting.
    fn wait(&mut self, delivery: Uuid) {
        if let Some(entry) = self.jobs.get(&delivery)
            && let Some(lane) = self.lanes.get_mut(&entry.lane)
        {
            lane.waiting.insert(lane.place(entry, delivery));
        }
    }

    /// Takes a job from among its lane's waiting, if it is there: its lease may have ended before.
    fn unwait(&mut self, delivery: Uuid) {
        if let Some(entry) = self.jobs.get(&delivery)
            && let Some(lane) = self.lanes.get_mut(&entry.lane)
        {
            lane.waiting.remove(&lane.place(entry, delivery));
        }
    }

    /// Lets a job wait again, due at `due`, whoever leased it.
    pub(super) fn put_back(&mut self, delivery: Uuid, due: Timestamp, now: Timestamp) {
        self.end_lease(delivery);
        self.unwait(delivery);
        let Some(entry) = self.jobs.get_mut(&delivery) else {
            return;
        };
        entry.due = due;
        let lane = entry.lane;
        self.wait(delivery);
        self.schedule(lane, now);
    }

    fn end_lease(&mut self, delivery: Uuid) {
        let Some(entry) = self.jobs.get_mut(&delivery) else {
            return;
        };
        if let Some(until) = entry.leased_until.take() {
            self.leases.remove(&(until, delivery));
            if let Some(lane) = self.lanes.get_mut(&entry.lane) {
                lane.in_flight -= 1;
            }
        }
    }

    /// Returns how many leases had ended.
    fn take_back_expired(&mut self, now: Timestamp) -> usize {
        let mut count = 0;
        while let Some((_, delivery)) = self
            .leases
            .first()
            .copied()
            .filter(|(until, _)| *until <= now)
        {
            self.leases.pop_first();
            if let Some(due) = self.jobs.get(&delivery).map(|entry| entry.due) {
                self.put_back(delivery, due, now);
                count += 1;
            }
        }
        count
    }

    fn wake_timers(&mut self, now: Timestamp) {
        while let Some((_, lane)) = self.timers.first().copied().filter(|(at, _)| *at <= now) {
            self.schedule(lane, now);
        }
    }

    fn next_due(&self) -> Option<Timestamp> {
        let ends = [self.timers.first(), self.leases.first()];
        ends.into_iter().flatten().map(|(at, _)| *at).min()
    }
}

impl Lane {
    fn new() -> Self {
        Self {
            tenant: Tenant::default(),
            limits: LaneLimits::default(),
            waiting: BTreeSet::new(),
            in_flight: 0,
            held_until: Timestamp::EPOCH,
            is_probed: false,
            arrival: Timestamp::EPOCH,
            scheduled: Scheduled::Nowhere,
        }
    }

    fn place(&self, entry: &Entry, delivery: Uuid) -> Place {
        let due = if self.limits.ordered {
            Timestamp::EPOCH
        } else {
            entry.due
        };
        Place(due, entry.sequence, delivery)
    }

    /// The most jobs in flight.
    fn cap(&self) -> u32 {
        if self.is_probed {
            self.limits.max_in_flight.min(1)
        } else {
            self.limits.max_in_flight
        }
    }

    /// When the next job conforms to the rate: GCRA, with a burst of a tenth of the limit.
    fn conforms_at(&self) -> Timestamp {
        self.limits.rate.map_or(Timestamp::EPOCH, |rate| {
            self.arrival - interval(rate) * (burst(rate) - 1)
        })
    }

    fn spend(&mut self, now: Timestamp) {
        if let Some(rate) = self.limits.rate {
            self.arrival = self.arrival.max(now) + interval(rate);
        }
    }

    fn refund(&mut self) {
        if let Some(rate) = self.limits.rate {
            self.arrival = self.arrival - interval(rate);
        }
    }

    fn is_idle(&self, now: Timestamp) -> bool {
        self.waiting.is_empty()
            && self.in_flight == 0
            && self.held_until <= now
            && !self.is_probed
            && self.arrival <= now
            && self.scheduled == Scheduled::Nowhere
    }
}

fn interval(rate: RateLimit) -> Duration {
    rate.per / rate.limit.max(1)
}

fn burst(rate: RateLimit) -> u32 {
    (rate.limit / 10).max(1)
}

/// Lanes that may be eligible, to be visited round robin: the tenants in turn, then each one's lanes.
#[derive(Debug, Default)]
struct Ring {
    turns: VecDeque<Tenant>,
    lanes: HashMap<Tenant, VecDeque<Uuid>>,
}

impl Ring {
    fn push(&mut self, tenant: &Tenant, lane: Uuid) {
        if let Some(lanes) = self.lanes.get_mut(tenant) {
            lanes.push_back(lane);
        } else {
            self.lanes.insert(tenant.clone(), VecDeque::from([lane]));
            self.turns.push_back(tenant.clone());
        }
    }

    fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    fn forget(&mut self, is_lost: impl Fn(Uuid) -> bool) {
        self.lanes.retain(|_, lanes| {
            lanes.retain(|lane| !is_lost(*lane));
            !lanes.is_empty()
        });
        self.turns.retain(|tenant| self.lanes.contains_key(tenant));
    }

    /// Takes the lane whose turn it is out of the ring.
    fn next(&mut self) -> Option<Uuid> {
        let tenant = self.turns.pop_front()?;
        let lanes = self.lanes.get_mut(&tenant)?;
        let lane = lanes.pop_front();
        if lanes.is_empty() {
            self.lanes.remove(&tenant);
        } else {
            self.turns.push_back(tenant);
        }
        lane
    }
}

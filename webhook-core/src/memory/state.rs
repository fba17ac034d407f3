//! What a [`MemoryStore`](super::MemoryStore) holds, and how it changes: plain data, without locks or clock.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use uuid::Uuid;

use super::erasures::Erasure;
use super::lanes::Lanes;
use super::replays::ReplayRow;
use crate::audit::AuditEntry;
use crate::catalogue::{CatalogueEntry, Schemas};
use crate::delivery::{Attempt, Delivery, DeliveryStatus, EndReason, Failure};
use crate::endpoint::{Endpoint, EndpointState, StateReason};
use crate::event::{Event, EventType, Idempotency};
use crate::health::{BreakerState, Health, HealthRow, LaneChange};
use crate::id::delivery_id;
use crate::process::Process;
use crate::queue::{ClaimOptions, Claimed, Depth, Hold, Job, Lease, Settle};
use crate::retry::Next;
use crate::stats::{STATS_TIERS, StatsRow};
use crate::store::{
    Backlog, Changed, Fill, InsertOptions, Inserted, Insertion, Loaded, NewClaim, OnConflict,
    Record, Recorded, Verdict, Vitals, Work,
};
use crate::tenant::{Scope, Tenant};
use crate::time::Timestamp;

#[derive(Debug)]
pub(super) struct State {
    pub(super) events: BTreeMap<Uuid, EventRow>,
    pub(super) endpoints: BTreeMap<Uuid, Arc<Endpoint>>,
    pub(super) deliveries: BTreeMap<Uuid, DeliveryRow>,
    pub(super) lanes: Lanes,
    /// Of endpoints in trouble only.
    health: HashMap<Uuid, HealthRow>,
    by_tenant: HashMap<Tenant, Vec<Uuid>>,
    keys: HashMap<(Tenant, String), Key>,
    keys_by_end: BTreeSet<(Timestamp, Tenant, String)>,
    /// Events without a live delivery, by when they lost the last.
    finished: VecDeque<(u64, Uuid)>,
    finishes: u64,
    history: usize,
    /// What was dropped from the history, until it is [taken](Self::take_forgotten).
    forgotten: Vec<DeliveryRow>,
    sequence: i64,
    pub(super) stats: Vec<StatsRow>,
    pub(super) fills: HashMap<String, Fill>,
    pub(super) replays: BTreeMap<Uuid, ReplayRow>,
    /// By id. Few: nobody needs an index by name.
    pub(super) catalogue: BTreeMap<Uuid, CatalogueEntry>,
    /// Counts the changes of the catalogue.
    catalogue_version: i64,
    pub(super) audit: BTreeMap<Uuid, AuditEntry>,
    pub(super) erasures: HashMap<Tenant, Erasure>,
    pub(super) processes: BTreeMap<Uuid, Process>,
}

#[derive(Debug)]
pub(super) struct EventRow {
    pub(super) event: Arc<Event>,
    deliveries: Vec<Uuid>,
    live: usize,
    /// Which of the store's finishes is its last.
    finished: u64,
}

#[derive(Debug)]
pub(super) struct DeliveryRow {
    pub(super) delivery: Delivery,
    pub(super) attempts: Vec<Arc<Attempt>>,
    pub(super) event: Arc<Event>,
    /// How many attempts do not count against the schedule.
    excused: u32,
    fence: i64,
    lease_until: Option<Timestamp>,
    first_due: Timestamp,
    sequence: i64,
}

#[derive(Clone, Copy, Debug)]
struct Key {
    event: Uuid,
    fingerprint: [u8; 32],
    until: Timestamp,
}

/// What an insert may claim of each endpoint, by its version.
struct Rooms {
    rooms: HashMap<(Uuid, i64), u32>,
    until: Timestamp,
}

impl EventRow {
    fn new(event: Arc<Event>) -> Self {
        Self {
            event,
            deliveries: Vec::new(),
            live: 0,
            finished: 0,
        }
    }
}

impl Rooms {
    fn of(&mut self, endpoint: &Endpoint) -> Option<&mut u32> {
        let is_enabled = endpoint.state == EndpointState::Enabled;
        let room = self.rooms.get_mut(&(endpoint.id, endpoint.version));
        room.filter(|room| is_enabled && **room > 0)
    }
}

impl State {
    pub(super) fn new(history: usize) -> Self {
        Self {
            events: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            deliveries: BTreeMap::new(),
            lanes: Lanes::default(),
            health: HashMap::new(),
            by_tenant: HashMap::new(),
            keys: HashMap::new(),
            keys_by_end: BTreeSet::new(),
            finished: VecDeque::new(),
            finishes: 0,
            history,
            forgotten: Vec::new(),
            sequence: 0,
            stats: Vec::new(),
            fills: HashMap::new(),
            replays: BTreeMap::new(),
            catalogue: BTreeMap::new(),
            catalogue_version: 0,
            audit: BTreeMap::new(),
            erasures: HashMap::new(),
            processes: BTreeMap::new(),
        }
    }

    pub(super) fn insert(
        &mut self,
        events: &[Event],
        options: &InsertOptions,
        now: Timestamp,
    ) -> Insertion {
        self.forget_old_keys(now);
        let inserted = self.judge(events, now);
        let conflict = inserted
            .iter()
            .any(|one| matches!(one, Inserted::Conflict(_)));
        let mut insertion = Insertion::default();
        if !(conflict && options.on_conflict == OnConflict::Abort) {
            let rooms = options
                .claim
                .iter()
                .map(|new| ((new.endpoint, new.version), new.room));
            let mut rooms = Rooms {
                rooms: rooms.collect(),
                until: now + options.lease,
            };
            for (place, event) in events.iter().enumerate() {
                if inserted[place] == Inserted::New {
                    let first = insertion.claimed.len();
                    self.insert_event(event, &mut rooms, now, &mut insertion);
                    let own = &mut insertion.claimed[first..];
                    own.iter_mut().for_each(|claim| claim.event = place);
                }
            }
        }
        insertion.events = inserted;
        insertion
    }

    pub(super) fn insert_test(
        &mut self,
        event: &Event,
        endpoint: Uuid,
        now: Timestamp,
    ) -> Option<Job> {
        let endpoint = self.endpoints.get(&endpoint).filter(|endpoint| {
            endpoint.tenant == event.tenant && endpoint.state == EndpointState::Enabled
        });
        let endpoint = Arc::clone(endpoint?);
        let event = Arc::new(event.clone());
        self.spare(&event.tenant, event.id);
        self.events
            .insert(event.id, EventRow::new(Arc::clone(&event)));
        Some(self.replay(&event, &endpoint, now))
    }

    /// Drops statistics that are too old, and makes older ones coarser.
    pub(super) fn maintain_stats(&mut self, retention: Duration, now: Timestamp) {
        self.stats.retain(|row| row.at >= now - retention);
        for tier in STATS_TIERS {
            let is_due = |row: &StatsRow| row.step == tier.from && row.at < tier.due_before(now);
            let (due, rest): (Vec<_>, _) = std::mem::take(&mut self.stats)
                .into_iter()
                .partition(is_due);
            self.stats = rest;
            self.stats.extend(tier.merge(due));
        }
    }

    pub(super) fn put_event_type(&mut self, entry: &CatalogueEntry) -> CatalogueEntry {
        let mut entry = entry.clone();
        if let Some(before) = self.event_type(&entry.name) {
            (entry.id, entry.created_at) = (before.id, before.created_at);
        }
        self.catalogue.insert(entry.id, entry.clone());
        self.catalogue_version += 1;
        entry
    }

    pub(super) fn event_type(&self, name: &EventType) -> Option<&CatalogueEntry> {
        self.catalogue.values().find(|entry| entry.name == *name)
    }

    pub(super) fn schemas(&self, known: i64) -> Option<Schemas> {
        let entries = self.catalogue.values();
        let schemas = entries.filter_map(|entry| Some((entry.name.clone(), entry.schema.clone()?)));
        (self.catalogue_version != known).then(|| Schemas {
            version: self.catalogue_version,
            schemas: schemas.collect(),
        })
    }

    /// What was dropped from the history: freed by the caller, once it has let go of the lock.
    pub(super) fn take_forgotten(&mut self) -> Vec<DeliveryRow> {
        std::mem::take(&mut self.forgotten)
    }

    /// What each event of an insert would be, given what is stored and what stands before it.
    pub(super) fn judge(&self, events: &[Event], now: Timestamp) -> Vec<Inserted> {
        let mut before = HashMap::new();
        let mut judge = |event: &Event| {
            let Some(Idempotency {
                key,
                fingerprint,
                window,
            }) = &event.idempotency
            else {
                return Inserted::New;
            };
            let name = (event.tenant.clone(), key.clone());
            let stands = |key: &&Key| now < key.until && !self.is_erased(&event.tenant, key.event);
            let stored = self.keys.get(&name).filter(stands);
            let own = Key {
                event: event.id,
                fingerprint: *fingerprint,
                until: now + *window,
            };
            let known = *stored.unwrap_or_else(|| before.entry(name).or_insert(own));
            match known {
                known if known.event == event.id => Inserted::New,
                known if known.fingerprint == *fingerprint => Inserted::Existing(known.event),
                known => Inserted::Conflict(known.event),
            }
        };
        events.iter().map(&mut judge).collect()
    }

    /// Adds the jobs that an event would make.
    pub(super) fn fan_out(&self, event: &Event, now: Timestamp, jobs: &mut Vec<Job>) {
        let due = event.deliver_at.map_or(now, |at| at.max(now));
        let endpoints = self.by_tenant.get(&event.tenant).into_iter().flatten();
        let endpoints = endpoints.filter_map(|id| self.endpoints.get(id));
        let takers = endpoints.filter(|endpoint| endpoint.accepts(&event.event_type));
        jobs.extend(takers.map(|endpoint| {
            let id = delivery_id(event.created_at, event.id, endpoint.id, 0);
            Job::new(id, endpoint, due, 0)
        }));
    }

    /// Claims in the store's own queue: the claim itself raises the fence.
    pub(super) fn claim(&mut self, options: &ClaimOptions, now: Timestamp) -> Claimed {
        let claimed = self.lanes.claim(options, now);
        for lease in &claimed.leases {
            if let Some(row) = self.deliveries.get_mut(&lease.delivery) {
                row.begin(lease, now);
            }
        }
        claimed
    }

    pub(super) fn load(&mut self, lease: &Lease, now: Timestamp) -> Option<Loaded> {
        let loaded = |verdict| {
            Some(Loaded {
                lease: *lease,
                verdict,
            })
        };
        let Some(row) = self.deliveries.get_mut(&lease.delivery) else {
            return loaded(Verdict::Ended);
        };
        if row.delivery.status.is_final() {
            return loaded(Verdict::Ended);
        }
        if row.fence > lease.fence {
            return None;
        }
        // As long as another's lease runs, that one is believed.
        let due = row.lease_until.or(row.delivery.next_retry_at);
        if let Some(due) = due.filter(|due| *due > now && row.fence < lease.fence) {
            return loaded(Verdict::Early(due.since(now)));
        }
        // Beside another queue nothing is leased in the store's own, where all that is live waits.
        let head = self.lanes.head_of_ordered(row.delivery.endpoint_id);
        if let Some(head) = head.filter(|it| *it != lease.delivery && row.fence < lease.fence) {
            return loaded(Verdict::Behind(head));
        }
        let Some(endpoint) = self.endpoints.get(&row.delivery.endpoint_id) else {
            return loaded(Verdict::Ended);
        };
        let health = self.health.get(&endpoint.id);
        let health = health.map_or_else(Health::default, |it| it.at(now));
        if let BreakerState::Open(trip) = health.breaker
            && row.fence < lease.fence
        {
            return loaded(Verdict::Held(trip.until.since(now)));
        }
        if row.fence < lease.fence {
            row.begin(lease, now);
        }
        loaded(Verdict::Run(Work {
            attempts: row.delivery.attempts,
            excused: row.excused,
            first_due: row.first_due,
            loaded_at: now,
            event: Arc::clone(&row.event),
            endpoint: Arc::clone(endpoint),
            health,
        }))
    }

    pub(super) fn record(&mut self, record: &Record, now: Timestamp) -> Recorded {
        let id = record.lease.delivery;
        let Some(row) = self
            .deliveries
            .get_mut(&id)
            .filter(|row| row.is_owned_by(&record.lease))
        else {
            return Recorded::Fenced;
        };
        if let Some(attempt) = &record.attempt {
            row.delivery.attempts += 1;
            row.delivery.last_error = attempt.outcome.failure();
            row.excused += u32::from(row.delivery.last_error.is_some_and(Failure::is_ours));
            row.attempts.push(Arc::clone(attempt));
        }
        let endpoint = row.delivery.endpoint_id;
        match record.next {
            Next::Succeeded => self.end(id, DeliveryStatus::Succeeded, None, now),
            Next::Failed(reason) => self.end(id, DeliveryStatus::Failed, Some(reason), now),
            Next::Cancelled(reason) => self.end(id, DeliveryStatus::Cancelled, Some(reason), now),
            Next::RetryAfter(by) => {
                row.change(DeliveryStatus::Pending, now);
                row.delivery.next_retry_at = Some(now + by);
                self.lanes.put_back(id, now + by, now);
            }
        }
        if let Some(by) = record.hold {
            self.lanes.hold(endpoint, Hold::new(by), now);
        }
        let is_disabled = record
            .disable
            .map(|reason| self.disable(endpoint, reason, now));
        let is_changed = self.change_health(endpoint, record, now);
        let is_done = is_disabled.unwrap_or(is_changed);
        if let Some(event) = record.event.as_deref().filter(|_| is_done) {
            let options = InsertOptions::new(OnConflict::Skip);
            self.insert(std::slice::from_ref(event), &options, now);
        }
        if is_done && is_changed {
            Recorded::Written
        } else {
            Recorded::Overtaken
        }
    }

    /// Returns whether all of the change was done, or none was asked for.
    fn change_health(&mut self, endpoint: Uuid, record: &Record, now: Timestamp) -> bool {
        let Some(change) = &record.health else {
            return true;
        };
        if !self.endpoints.contains_key(&endpoint) {
            return false;
        }
        let row = self.health.entry(endpoint).or_default();
        let applied = row.apply(change, now);
        if row.is_well() {
            self.health.remove(&endpoint);
        }
        match applied.lane {
            Some(LaneChange::Hold(by)) => self.lanes.hold(endpoint, Hold::then_probe(by), now),
            Some(LaneChange::Release) => self.lanes.release(endpoint),
            None => {}
        }
        applied.is_done
    }

    pub(super) fn health_of(&self, scope: &Scope, id: Uuid) -> Option<&HealthRow> {
        let endpoint = self.endpoints.get(&id)?;
        let row = self.health.get(&id)?;
        scope.contains(&endpoint.tenant).then_some(row)
    }

    pub(super) fn vitals(&self, now: Timestamp) -> Vitals {
        let mut vitals = Vitals::default();
        for row in self.health.values() {
            let health = row.at(now);
            match health.breaker {
                BreakerState::Closed => {}
                BreakerState::Open(_) => vitals.breakers_open += 1,
                BreakerState::HalfOpen(_) => vitals.breakers_half_open += 1,
            }
            vitals.endpoints_failing += u64::from(health.failing_since.is_some());
        }
        vitals
    }

    pub(super) fn recover_endpoint(&mut self, scope: &Scope, id: Uuid) -> bool {
        let endpoint = self.endpoints.get(&id);
        let is_there = endpoint.is_some_and(|it| scope.contains(&it.tenant));
        if is_there {
            self.health.remove(&id);
            self.lanes.release(id);
        }
        is_there
    }

    pub(super) fn quarantine(&mut self, lease: &Lease, now: Timestamp) {
        let row = self.deliveries.get(&lease.delivery);
        if row.is_some_and(|row| !row.delivery.status.is_final() && row.fence <= lease.fence) {
            let corrupt = Some(EndReason::Corrupt);
            self.end(lease.delivery, DeliveryStatus::Failed, corrupt, now);
        }
    }

    /// Gives back a claim in the store's own queue that was not used.
    pub(super) fn unclaim(&mut self, lease: &Lease, by: Duration, now: Timestamp) {
        if let Some(row) = self
            .deliveries
            .get_mut(&lease.delivery)
            .filter(|row| row.is_owned_by(lease))
        {
            row.change(DeliveryStatus::Pending, now);
            row.delivery.next_retry_at = Some(now + by);
            self.lanes.settle(lease, Settle::Unused(by), now);
        }
    }

    pub(super) fn job(&self, row: &DeliveryRow) -> Option<Job> {
        let endpoint = self.endpoints.get(&row.delivery.endpoint_id)?;
        let due = row.lease_until.or(row.delivery.next_retry_at)?;
        let job = Job::new(row.delivery.id, endpoint, due, row.sequence);
        (!row.delivery.status.is_final()).then_some(Job {
            fence: row.fence,
            ..job
        })
    }

    pub(super) fn insert_endpoint(&mut self, endpoint: Endpoint, most: usize) -> bool {
        let ids = self.by_tenant.entry(endpoint.tenant.clone()).or_default();
        if !ids.contains(&endpoint.id) {
            if ids.len() >= most {
                return false;
            }
            ids.push(endpoint.id);
        }
        self.endpoints.insert(endpoint.id, Arc::new(endpoint));
        true
    }

    pub(super) fn update_endpoint(&mut self, endpoint: &Endpoint, now: Timestamp) -> bool {
        let Some(stored) = self.endpoints.get_mut(&endpoint.id) else {
            return false;
        };
        if stored.version + 1 != endpoint.version || stored.tenant != endpoint.tenant {
            return false;
        }
        *stored = Arc::new(endpoint.clone());
        self.lanes
            .set_limits(endpoint.id, endpoint.lane_limits(), now);
        true
    }

    pub(super) fn delete_endpoint(&mut self, scope: &Scope, id: Uuid, now: Timestamp) -> bool {
        if !self
            .endpoints
            .get(&id)
            .is_some_and(|endpoint| scope.contains(&endpoint.tenant))
        {
            return false;
        }
        let live =
            |row: &&DeliveryRow| row.delivery.endpoint_id == id && !row.delivery.status.is_final();
        self.lanes.release(id);
        let live: Vec<_> = self
            .deliveries
            .values()
            .filter(live)
            .map(|row| row.delivery.id)
            .collect();
        for delivery in live {
            self.end(
                delivery,
                DeliveryStatus::Cancelled,
                Some(EndReason::EndpointDeleted),
                now,
            );
        }
        self.health.remove(&id);
        if let Some(endpoint) = self.endpoints.remove(&id)
            && let Some(ids) = self.by_tenant.get_mut(&endpoint.tenant)
        {
            ids.retain(|other| *other != id);
        }
        true
    }

    pub(super) fn replay_delivery(
        &mut self,
        scope: &Scope,
        id: Uuid,
        now: Timestamp,
    ) -> Changed<Job> {
        let Some(row) = self
            .deliveries
            .get(&id)
            .filter(|row| scope.contains(&row.delivery.tenant))
        else {
            return Changed::NotFound;
        };
        let endpoint = self.endpoints.get(&row.delivery.endpoint_id).cloned();
        let (event, ended) = (Arc::clone(&row.event), row.delivery.status.is_final());
        match endpoint.filter(|endpoint| ended && !self.has_live(&event, endpoint.id)) {
            None => Changed::Refused,
            Some(endpoint) => Changed::Done(self.replay(&event, &endpoint, now)),
        }
    }

    pub(super) fn replay_event(
        &mut self,
        scope: &Scope,
        id: Uuid,
        now: Timestamp,
    ) -> Changed<Vec<Job>> {
        let Some(row) = self
            .events
            .get(&id)
            .filter(|row| scope.contains(&row.event.tenant))
        else {
            return Changed::NotFound;
        };
        let event = Arc::clone(&row.event);
        let endpoints = self.by_tenant.get(&event.tenant).into_iter().flatten();
        let endpoints = endpoints.filter_map(|id| self.endpoints.get(id));
        let payload = event.payload();
        let wanted = |endpoint: &&Arc<Endpoint>| {
            endpoint.accepts(&event.event_type)
                && endpoint.lets_through(&payload)
                && !self.has_live(&event, endpoint.id)
        };
        let endpoints: Vec<_> = endpoints.filter(wanted).cloned().collect();
        Changed::Done(
            endpoints
                .iter()
                .map(|endpoint| self.replay(&event, endpoint, now))
                .collect(),
        )
    }

    pub(super) fn cancel(&mut self, scope: &Scope, id: Uuid, now: Timestamp) -> Changed<()> {
        match self
            .deliveries
            .get(&id)
            .filter(|row| scope.contains(&row.delivery.tenant))
        {
            None => Changed::NotFound,
            Some(row) if row.delivery.status.is_final() => Changed::Refused,
            Some(_) => {
                self.end(
                    id,
                    DeliveryStatus::Cancelled,
                    Some(EndReason::Requested),
                    now,
                );
                Changed::Done(())
            }
        }
    }

    fn insert_event(
        &mut self,
        event: &Event,
        rooms: &mut Rooms,
        now: Timestamp,
        insertion: &mut Insertion,
    ) {
        if self.events.contains_key(&event.id) {
            return;
        }
        if let Some(Idempotency {
            key,
            fingerprint,
            window,
        }) = &event.idempotency
        {
            let (tenant, until) = (event.tenant.clone(), now + *window);
            let stands_for = Key {
                event: event.id,
                fingerprint: *fingerprint,
                until,
            };
            let name = (tenant.clone(), key.clone());
            if let Some(erased) = self.keys.insert(name, stands_for) {
                let end = (erased.until, tenant.clone(), key.clone());
                self.keys_by_end.remove(&end);
            }
            self.keys_by_end.insert((until, tenant, key.clone()));
        }
        self.spare(&event.tenant, event.id);
        let shared = Arc::new(event.clone());
        self.events
            .insert(event.id, EventRow::new(Arc::clone(&shared)));
        let jobs = &mut insertion.jobs;
        let first = jobs.len();
        self.fan_out(event, now, jobs);
        for (place, job) in jobs.iter_mut().enumerate().skip(first) {
            self.insert_row(&shared, job, 0, now);
            let until = rooms.until;
            let endpoint = self.endpoints.get(&job.lane);
            let endpoint = endpoint.filter(|it| !self.health.contains_key(&it.id));
            let Some(room) = endpoint.and_then(|it| rooms.of(it)) else {
                self.lanes.push(job, now);
                continue;
            };
            if let Some(lease) = self.lanes.push_leased(job, until, now) {
                *room -= 1;
                if let Some(row) = self.deliveries.get_mut(&lease.delivery) {
                    row.begin(&lease, now);
                }
                insertion.claimed.push(NewClaim {
                    event: 0,
                    job: place,
                    lease,
                });
            }
        }
        if jobs.len() == first
            && let Some(row) = self.events.get_mut(&event.id)
        {
            self.finishes += 1;
            row.finished = self.finishes;
            self.finish_event(event.id);
        }
    }

    /// Adds a delivery, whose job is not in the queue yet.
    fn insert_row(&mut self, event: &Arc<Event>, job: &mut Job, replay_no: u32, now: Timestamp) {
        self.sequence += 1;
        job.sequence = self.sequence;
        let delivery = Delivery {
            id: job.delivery,
            event_id: event.id,
            endpoint_id: job.lane,
            replay_no,
            tenant: event.tenant.clone(),
            event_type: event.event_type.clone(),
            status: DeliveryStatus::Pending,
            attempts: 0,
            next_retry_at: Some(job.due),
            last_error: None,
            end_reason: None,
            created_at: now,
            updated_at: now,
        };
        let row = DeliveryRow {
            delivery,
            attempts: Vec::new(),
            event: Arc::clone(event),
            excused: 0,
            fence: 0,
            lease_until: None,
            first_due: job.due,
            sequence: job.sequence,
        };
        self.deliveries.insert(job.delivery, row);
        if let Some(row) = self.events.get_mut(&event.id) {
            row.deliveries.push(job.delivery);
            row.live += 1;
        }
    }

    /// The first delivery to an endpoint that missed the event is the one that the event would have made.
    pub(super) fn replay(
        &mut self,
        event: &Arc<Event>,
        endpoint: &Endpoint,
        now: Timestamp,
    ) -> Job {
        let replay_no = self
            .deliveries_of(event, endpoint.id)
            .map(|row| row.delivery.replay_no + 1)
            .max()
            .unwrap_or(0);
        let made_at = if replay_no == 0 {
            event.created_at
        } else {
            now
        };
        let id = delivery_id(made_at, event.id, endpoint.id, replay_no);
        let mut job = Job::new(id, endpoint, now, 0);
        self.insert_row(event, &mut job, replay_no, now);
        self.lanes.push(&job, now);
        job
    }

    fn has_live(&self, event: &Event, endpoint: Uuid) -> bool {
        self.deliveries_of(event, endpoint)
            .any(|row| !row.delivery.status.is_final())
    }

    pub(super) fn deliveries_of(
        &self,
        event: &Event,
        endpoint: Uuid,
    ) -> impl Iterator<Item = &DeliveryRow> {
        let ids = self
            .events
            .get(&event.id)
            .map(|row| &row.deliveries)
            .into_iter()
            .flatten();
        ids.filter_map(|id| self.deliveries.get(id))
            .filter(move |row| row.delivery.endpoint_id == endpoint)
    }

    /// Moves a live delivery to a final state, and its job out of the queue.
    fn end(&mut self, id: Uuid, status: DeliveryStatus, reason: Option<EndReason>, now: Timestamp) {
        let Some(row) = self.deliveries.get_mut(&id) else {
            return;
        };
        row.change(status, now);
        row.delivery.end_reason = reason;
        row.delivery.next_retry_at = None;
        let event_id = row.delivery.event_id;
        self.lanes.remove(id, now);
        if let Some(event) = self.events.get_mut(&event_id) {
            event.live -= 1;
            if event.live == 0 {
                self.finishes += 1;
                event.finished = self.finishes;
                self.finish_event(event_id);
            }
        }
    }

    /// Returns whether it was not disabled before, nor has recovered.
    fn disable(&mut self, endpoint: Uuid, reason: StateReason, now: Timestamp) -> bool {
        let health = self.health.get(&endpoint).copied().unwrap_or_default();
        if !health.lets_disable(reason) {
            return false;
        }
        let endpoint = self.endpoints.get_mut(&endpoint);
        let Some(endpoint) = endpoint.filter(|it| it.state != EndpointState::Disabled) else {
            return false;
        };
        let changed = Arc::make_mut(endpoint);
        changed.state = EndpointState::Disabled;
        changed.state_reason = Some(reason);
        changed.version += 1;
        changed.updated_at = now;
        true
    }

    /// Drops the first events that go with a tenant, with all that there is of them. Returns how many they were.
    pub(super) fn forget_events(&mut self, tenant: &Tenant, limit: usize) -> u64 {
        let events = self.events.iter();
        let events =
            events.filter(|(id, row)| row.event.tenant == *tenant && self.is_erased(tenant, **id));
        let events: Vec<_> = events.map(|(id, _)| *id).take(limit).collect();
        for event in &events {
            let row = self.events.remove(event);
            for delivery in row.into_iter().flat_map(|row| row.deliveries) {
                self.deliveries.remove(&delivery);
            }
        }
        events.len() as u64
    }

    /// Drops the idempotency keys that go with a tenant. Returns how many they were.
    pub(super) fn forget_keys(&mut self, tenant: &Tenant, limit: usize) -> u64 {
        let keys = self.keys.iter();
        let keys =
            keys.filter(|((owner, _), key)| owner == tenant && self.is_erased(tenant, key.event));
        let keys: Vec<_> = keys.map(|(id, _)| id.clone()).take(limit).collect();
        for id in &keys {
            if let Some(key) = self.keys.remove(id) {
                let (tenant, text) = id.clone();
                self.keys_by_end.remove(&(key.until, tenant, text));
            }
        }
        keys.len() as u64
    }

    pub(super) fn backlog(&self, scope: &Scope, endpoint: Uuid, now: Timestamp) -> Option<Backlog> {
        let endpoint = self.endpoints.get(&endpoint)?;
        if !scope.contains(&endpoint.tenant) {
            return None;
        }
        let rows = self.deliveries.values().map(|row| &row.delivery);
        let pending =
            rows.filter(|it| it.endpoint_id == endpoint.id && it.status == DeliveryStatus::Pending);
        let mut backlog = Backlog::default();
        for due in pending.filter_map(|delivery| delivery.next_retry_at) {
            let count = match due <= now {
                true => &mut backlog.due,
                false => &mut backlog.parked,
            };
            *count = (*count + 1).min(Depth::MOST);
            backlog.oldest_due = Some(backlog.oldest_due.map_or(due, |oldest| oldest.min(due)));
        }
        Some(backlog)
    }

    fn forget_old_keys(&mut self, now: Timestamp) {
        while let Some((_, tenant, key)) = self
            .keys_by_end
            .first()
            .is_some_and(|(until, ..)| *until <= now)
            .then(|| self.keys_by_end.pop_first())
            .flatten()
        {
            self.keys.remove(&(tenant, key));
        }
    }

    /// Notes that an event, just numbered, has no live delivery, and drops the events that have had none the longest, beyond
    /// the history's size. One that was replayed since counts from its later end.
    fn finish_event(&mut self, event: Uuid) {
        self.finished.push_back((self.finishes, event));
        while self.finished.len() > self.history
            && let Some((number, oldest)) = self.finished.pop_front()
        {
            let row = self.events.get(&oldest);
            if row.is_some_and(|row| row.live == 0 && row.finished == number)
                && let Some(row) = self.events.remove(&oldest)
            {
                let deliveries = row.deliveries.iter();
                self.forgotten
                    .extend(deliveries.filter_map(|id| self.deliveries.remove(id)));
            }
        }
    }
}

impl DeliveryRow {
    /// Gives the delivery to the owner of `lease`, whoever had it before.
    fn begin(&mut self, lease: &Lease, now: Timestamp) {
        self.fence = lease.fence;
        self.lease_until = Some(lease.until);
        self.delivery.status = DeliveryStatus::InProgress;
        self.delivery.updated_at = now;
    }

    fn is_owned_by(&self, lease: &Lease) -> bool {
        self.fence == lease.fence && self.delivery.status == DeliveryStatus::InProgress
    }

    fn change(&mut self, status: DeliveryStatus, now: Timestamp) {
        debug_assert!(
            self.delivery.status.may_become(status),
            "{} -> {status}",
            self.delivery.status
        );
        self.delivery.status = status;
        self.delivery.updated_at = now;
        self.lease_until = None;
    }
}

//! What was seen at the seams, and the promises that can be judged at once.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;
use webhook_core::{
    BreakerState, Changed, Delivery, DeliveryStatus, EndpointFilter, Event, Health, Inserted,
    Insertion, Job, Lease, Loaded, NewClaim, Next, OnConflict, PageRequest, Record, Recorded,
    Scope, Settle, Store as _, Timestamp, Verdict,
};

use crate::replays::Selected;
use crate::world::{State, World, at_once};

/// What an HTTP request of some event to some endpoint is known by, at both ends.
pub(crate) type Attempted = (Uuid, Uuid, Timestamp);

#[derive(Default)]
pub(crate) struct Ledger {
    /// Events that were committed, and the endpoints that took them then.
    pub(crate) stored: BTreeMap<Uuid, Vec<Uuid>>,
    /// Events whose caller was told so.
    pub(crate) accepted: BTreeSet<Uuid>,
    /// Events in transactions that have not committed.
    pub(crate) open: BTreeMap<Uuid, Event>,
    /// What each idempotency key was answered.
    pub(crate) keys: BTreeMap<String, BTreeSet<Uuid>>,
    pub(crate) sends: Vec<Send>,
    /// Bulk replays, and what each selected when it was started.
    pub(crate) replays: BTreeMap<Uuid, Vec<Selected>>,
    /// The replays that made deliveries of an event to an endpoint.
    pub(crate) replayed: BTreeMap<(Uuid, Uuid, Uuid), u32>,
    /// Attempts whose outcome was written, with the lease that it was written under.
    pub(crate) written: BTreeMap<(Uuid, i64), u32>,
    /// Attempts whose outcome was refused for its fence.
    pub(crate) fenced: BTreeSet<Attempted>,
    pub(crate) fenced_leases: BTreeSet<(Uuid, i64)>,
    /// Attempts whose outcome the store did not take, the lease's end, when it was last tried, and whether
    /// trying again made sense.
    pub(crate) not_recorded: BTreeMap<Attempted, (Timestamp, Timestamp, bool)>,
    /// Deliveries whose outcome was refused for what it is, and those that were put aside.
    pub(crate) refused: BTreeSet<Uuid>,
    pub(crate) quarantined: BTreeSet<Uuid>,
    pub(crate) cancelled: BTreeSet<Uuid>,
    pub(crate) told: BTreeMap<Uuid, u32>,
    pub(crate) erasures: u32,
    /// Lanes that a person released, perhaps just after their breaker had opened once more.
    released: BTreeSet<Uuid>,
    /// When each process ended that did, and how.
    pub(crate) ends: BTreeMap<u32, (Timestamp, End)>,
    /// The leases of each delivery that may not have ended.
    leases: BTreeMap<Uuid, Vec<Seen>>,
    /// The greatest fence of each delivery that a queue gave.
    fences: BTreeMap<Uuid, i64>,
    /// And the greatest that the store knows of.
    begun: BTreeMap<Uuid, i64>,
    statuses: BTreeMap<Uuid, DeliveryStatus>,
}

/// An HTTP request as the transport saw it.
#[derive(Debug)]
pub(crate) struct Send {
    pub(crate) event: Uuid,
    pub(crate) endpoint: Uuid,
    pub(crate) started_at: Timestamp,
    pub(crate) incarnation: u32,
    pub(crate) reached: bool,
    /// What the engine was answered: a status, or 0 for none. Nothing if it did not wait for it.
    pub(crate) answer: Option<u16>,
}

impl Send {
    pub(crate) fn name(&self) -> Attempted {
        (self.event, self.endpoint, self.started_at)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Crashed,
    Stopped,
}

/// A lease as it was given out.
struct Seen {
    lease: Lease,
    incarnation: u32,
    ended: bool,
}

/// What callers put in.
impl World {
    /// The endpoints that take each of these events now.
    pub(crate) fn takers(&self, events: &[Event]) -> Vec<Vec<Uuid>> {
        let all = PageRequest::first(usize::MAX);
        let endpoints = at_once(self.store().endpoints(
            &Scope::All,
            &EndpointFilter::default(),
            all,
        ))
        .items;
        let takers = |event: &Event| {
            let takes = endpoints.iter();
            let takes =
                takes.filter(|it| it.tenant == event.tenant && it.accepts(&event.event_type));
            takes.map(|endpoint| endpoint.id).collect()
        };
        events.iter().map(takers).collect()
    }

    pub(crate) fn inserted(
        &self,
        events: &[Event],
        insertion: &Insertion,
        on_conflict: OnConflict,
        takers: Vec<Vec<Uuid>>,
    ) {
        let conflict = insertion
            .events
            .iter()
            .any(|one| matches!(one, Inserted::Conflict(_)));
        if conflict && on_conflict == OnConflict::Abort {
            return;
        }
        let mut state = self.state();
        for ((event, inserted), takers) in events.iter().zip(&insertion.events).zip(takers) {
            if *inserted == Inserted::New {
                state.ledger.stored.entry(event.id).or_insert(takers);
            }
        }
    }

    pub(crate) fn begun(&self, events: &[Event]) {
        let open = events.iter().map(|event| (event.id, event.clone()));
        self.state().ledger.open.extend(open);
    }

    pub(crate) fn committed(&self, ids: &[Uuid]) {
        for id in ids {
            let event = self.state().ledger.open.remove(id);
            let takers = self.takers(event.as_slice()).pop();
            self.state()
                .ledger
                .stored
                .insert(*id, takers.unwrap_or_default());
        }
    }

    pub(crate) fn cancelled(&self, delivery: Uuid, changed: &Changed<()>) {
        if *changed == Changed::Done(()) {
            let mut state = self.state();
            state.ledger.cancelled.insert(delivery);
            state.ledger.end_leases(delivery, |_| true);
        }
        self.observe([delivery]);
    }
}

/// What workers do with it.
impl World {
    /// A delivery as it stands in the store.
    pub(crate) fn delivery(&self, id: Uuid) -> Option<Delivery> {
        at_once(self.store().delivery(&Scope::All, id))
    }

    /// Judges what became of these deliveries.
    pub(crate) fn observe(&self, deliveries: impl IntoIterator<Item = Uuid>) {
        for id in deliveries {
            let Some(delivery) = self.delivery(id) else {
                continue;
            };
            let mut state = self.state();
            let now = delivery.status;
            let before = state
                .ledger
                .statuses
                .insert(id, now)
                .unwrap_or(DeliveryStatus::Pending);
            if before != now && !before.may_become(now) {
                state.violate(format!("{id} went from {before} to {now}"));
            }
        }
    }

    pub(crate) fn pushed(&self, jobs: &[Job]) {
        if let Some(job) = jobs
            .iter()
            .find(|job| self.delivery(job.delivery).is_none())
        {
            self.violate(format!(
                "{} was pushed before it was committed",
                job.delivery
            ));
        }
        let mut state = self.state();
        for job in jobs {
            // One that was claimed as it was made, and given back.
            let is_back = |lease: &Lease| lease.fence == job.fence && job.due < lease.until;
            state.ledger.end_leases(job.delivery, is_back);
        }
    }

    /// Claims that came with an insert, of which an index queue does not know.
    pub(crate) fn led(&self, claims: &[NewClaim], incarnation: u32) {
        let leases: Vec<Lease> = claims.iter().map(|claim| claim.lease).collect();
        for lease in &leases {
            self.state().claimed(lease, incarnation);
        }
        self.state().ledger.begin(&leases);
        self.observe(leases.iter().map(|lease| lease.delivery));
    }

    pub(crate) fn claimed(&self, leases: &[Lease], incarnation: u32) {
        for lease in leases {
            self.state().claimed(lease, incarnation);
        }
        if self.queue().is_none() {
            self.state().ledger.begin(leases);
        }
        self.observe(leases.iter().map(|lease| lease.delivery));
        let lanes: BTreeSet<Uuid> = leases.iter().map(|lease| lease.lane).collect();
        for lane in lanes {
            self.judge_cap(lane);
        }
    }

    pub(crate) fn loaded(&self, loaded: &[Loaded]) {
        let runs = loaded
            .iter()
            .filter(|it| matches!(it.verdict, Verdict::Run(_)));
        let leases: Vec<Lease> = runs.map(|it| it.lease).collect();
        self.state().ledger.begin(&leases);
        self.observe(leases.iter().map(|lease| lease.delivery));
    }

    pub(crate) fn extended(&self, leases: &[Lease]) {
        let mut state = self.state();
        for lease in leases {
            let all = state
                .ledger
                .leases
                .get_mut(&lease.delivery)
                .into_iter()
                .flatten();
            all.filter(|seen| seen.lease.fence == lease.fence)
                .for_each(|seen| seen.lease.until = lease.until);
        }
    }

    pub(crate) fn recorded(&self, records: &[Record], recorded: &[Recorded]) {
        for (record, recorded) in records.iter().zip(recorded) {
            let lease = record.lease;
            let attempted = self.attempted(record);
            let mut state = self.state();
            state.note(|| {
                format!(
                    "  {} of {} fence {}: {recorded:?}",
                    next(record.next),
                    lease.delivery,
                    lease.fence
                )
            });
            match recorded {
                Recorded::Fenced => {
                    state.ledger.fenced.extend(attempted);
                    state
                        .ledger
                        .fenced_leases
                        .insert((lease.delivery, lease.fence));
                }
                Recorded::Written | Recorded::Overtaken => {
                    state
                        .ledger
                        .end_leases(lease.delivery, |seen| seen.fence == lease.fence);
                    let times = state
                        .ledger
                        .written
                        .entry((lease.delivery, lease.fence))
                        .or_default();
                    *times += 1;
                    let times = *times;
                    if state.ledger.begun.get(&lease.delivery) != Some(&lease.fence) {
                        state.violate(format!("a stale outcome of {} was taken", lease.delivery));
                    }
                    if times > 1 {
                        state.violate(format!(
                            "two outcomes of {} under one lease",
                            lease.delivery
                        ));
                    }
                }
            }
        }
        self.observe(records.iter().map(|record| record.lease.delivery));
    }

    pub(crate) fn not_recorded(&self, records: &[Record], retryable: bool) {
        for record in records {
            let Some(attempted) = self.attempted(record) else {
                continue;
            };
            let mut state = self.state();
            if !retryable {
                state.ledger.refused.insert(record.lease.delivery);
            }
            let tried = (record.lease.until, state.now, retryable);
            state.ledger.not_recorded.insert(attempted, tried);
        }
    }

    pub(crate) fn quarantined(&self, leases: &[Lease]) {
        for lease in leases {
            let mut state = self.state();
            state.note(|| format!("  {} is put aside", lease.delivery));
            state.ledger.quarantined.insert(lease.delivery);
            state
                .ledger
                .end_leases(lease.delivery, |seen| seen.fence <= lease.fence);
        }
        self.observe(leases.iter().map(|lease| lease.delivery));
    }

    pub(crate) fn settled(&self, settled: &[(Lease, Settle)]) {
        for (lease, how) in settled {
            let ended = self
                .delivery(lease.delivery)
                .is_none_or(|it| it.status.is_final());
            let mut state = self.state();
            state.note(|| format!("  {how:?} of {} fence {}", lease.delivery, lease.fence));
            let written = state
                .ledger
                .written
                .contains_key(&(lease.delivery, lease.fence));
            let fenced = state
                .ledger
                .fenced_leases
                .contains(&(lease.delivery, lease.fence));
            let wrong = match how {
                Settle::Done => !ended,
                Settle::After(_) => !written && !fenced,
                Settle::Unused(_) => written,
            };
            if wrong {
                state.violate(format!(
                    "{} was settled as {how:?}, and is not",
                    lease.delivery
                ));
            }
            state
                .ledger
                .end_leases(lease.delivery, |seen| seen.fence == lease.fence);
        }
    }

    /// An observer heard that a delivery succeeded.
    pub(crate) fn told(&self, delivery: Uuid) {
        let succeeded = self
            .delivery(delivery)
            .is_some_and(|it| it.status == DeliveryStatus::Succeeded);
        let mut state = self.state();
        let times = state.ledger.told.entry(delivery).or_default();
        *times += 1;
        if *times > 1 || !succeeded {
            state.violate(format!(
                "an observer was told of {delivery} too early or twice"
            ));
        }
    }

    /// An endpoint that wants order gets the oldest first, whatever a queue beside the store knows of it.
    pub(crate) fn judge_order(&self, event: Uuid, endpoint: Uuid) {
        let ordered = at_once(self.store().endpoint(&Scope::All, endpoint));
        if !ordered.is_some_and(|it| it.settings.ordered) {
            return;
        }
        let live = at_once(self.store().unqueued(None, usize::MAX));
        let mut of_lane: Vec<_> = live.iter().filter(|job| job.lane == endpoint).collect();
        of_lane.sort_by_key(|job| job.sequence);
        let is_own = |job: &&Job| {
            self.delivery(job.delivery)
                .is_some_and(|it| it.event_id == event)
        };
        if of_lane
            .into_iter()
            .position(|job| is_own(&job))
            .is_some_and(|place| place > 0)
        {
            self.violate(format!("{event} went out before its turn"));
        }
    }

    pub(crate) fn released(&self, lane: Uuid) {
        self.state().ledger.released.insert(lane);
    }

    /// A queue has lost all: its leases with the rest.
    pub(crate) fn erased(&self) {
        let mut state = self.state();
        state.note(|| "the queue is erased".to_owned());
        state.ledger.erasures += 1;
        let all = state.ledger.leases.values_mut().flatten();
        all.for_each(|seen| seen.ended = true);
    }

    fn attempted(&self, record: &Record) -> Option<Attempted> {
        let delivery = self.delivery(record.lease.delivery)?;
        let attempt = record.attempt.as_ref()?;
        Some((delivery.event_id, delivery.endpoint_id, attempt.started_at))
    }

    /// An erased queue does not know of the leases before it: then a lane may have more.
    fn judge_cap(&self, lane: Uuid) {
        let endpoint = at_once(self.store().endpoint(&Scope::All, lane));
        let Some(endpoint) = endpoint else {
            return;
        };
        let mut cap = endpoint.lane_limits().max_in_flight as usize;
        let mut state = self.state();
        let now = state.now;
        // A queue beside the store hears of it later.
        let is_sure = self.queue().is_none() && !state.ledger.released.contains(&lane);
        if is_sure && self.is_half_open(lane, now) {
            cap = 1;
        }
        let all = state.ledger.leases.values().flatten();
        let taken = all
            .filter(|seen| seen.lease.lane == lane && seen.is_current(now))
            .count();
        if taken > cap && state.ledger.erasures == 0 {
            state.violate(format!(
                "{taken} jobs of {lane} are in flight, its cap is {cap}"
            ));
        }
    }
}

impl World {
    fn is_half_open(&self, endpoint: Uuid, now: Timestamp) -> bool {
        let health = at_once(self.store().health(&Scope::All, &[endpoint], Some(now)));
        let half_open = |it: &Health| matches!(it.breaker, BreakerState::HalfOpen(_));
        health.iter().any(|(_, health)| half_open(health))
    }
}

impl State {
    fn claimed(&mut self, lease: &Lease, incarnation: u32) {
        let now = self.now;
        self.note(|| {
            format!(
                "  #{incarnation} has {} fence {}",
                lease.delivery, lease.fence
            )
        });
        let seen = self.ledger.leases.entry(lease.delivery).or_default();
        seen.retain(|other| other.is_current(now));
        let current = !seen.is_empty();
        let before = self.ledger.fences.insert(lease.delivery, lease.fence);
        let stale = before.is_some_and(|fence| fence >= lease.fence);
        seen.push(Seen {
            lease: *lease,
            incarnation,
            ended: false,
        });
        if current {
            self.violate(format!(
                "{} was claimed under another's lease",
                lease.delivery
            ));
        }
        if stale {
            self.violate(format!(
                "{} was claimed with a fence that is not new",
                lease.delivery
            ));
        }
    }
}

impl Ledger {
    /// The deliveries that a process owns by leases that have not ended.
    pub(crate) fn owned_by(&self, incarnation: u32, now: Timestamp) -> Vec<Uuid> {
        let all = self.leases.values().flatten();
        let own = all.filter(|seen| seen.incarnation == incarnation && seen.is_current(now));
        own.map(|seen| seen.lease.delivery).collect()
    }

    fn begin(&mut self, leases: &[Lease]) {
        for lease in leases {
            let fence = self.begun.entry(lease.delivery).or_default();
            *fence = lease.fence.max(*fence);
        }
    }

    fn end_leases(&mut self, delivery: Uuid, which: impl Fn(&Lease) -> bool) {
        let all = self.leases.get_mut(&delivery).into_iter().flatten();
        all.filter(|seen| which(&seen.lease))
            .for_each(|seen| seen.ended = true);
    }
}

impl Seen {
    fn is_current(&self, now: Timestamp) -> bool {
        !self.ended && now < self.lease.until
    }
}

fn next(next: Next) -> &'static str {
    match next {
        Next::Succeeded => "success",
        Next::RetryAfter(_) => "retry",
        Next::Failed(_) => "end",
        Next::Cancelled(_) => "cancellation",
    }
}

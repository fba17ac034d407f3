//! [`MemoryStore`]: the state behind a lock, as a [`Store`] whose deliveries are its queue.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Notify;
use uuid::Uuid;

use super::at;
use super::state::State;
use crate::audit::{AuditEntry, AuditFilter};
use crate::catalogue::{CatalogueEntry, Schemas};
use crate::delivery::{Attempt, Delivery};
use crate::endpoint::Endpoint;
use crate::erasure::ErasureStep;
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Event, EventType};
use crate::health::Health;
use crate::process::Process;
use crate::queue::{ClaimOptions, Claimed, Depth, Hold, Job, Lease, Queue, QueuePart, Settle};
use crate::replay::{Replay, ReplayScan, ReplaySelection, ReplayStep};
use crate::stats::{Rollup, StatsQuery, StatsRow};
use crate::store::{
    Backlog, Changed, DeliveryFilter, EndpointFilter, EventFilter, Fill, InsertOptions, Inserted,
    Insertion, Loaded, OnConflict, Record, Recorded, Rekeyed, Store, TxStore, Vitals,
};
use crate::tenant::{Page, PageRequest, Scope, Tenant};
use crate::time::{Now, Timestamp};

/// Finished events that are kept unless set.
const DEFAULT_HISTORY: usize = 10_000;

/// A store in this process's memory: for tests, trials, and events that may die with the process.
///
/// Finished events are forgotten, oldest first, beyond [`with_history`](Self::with_history); unfinished ones
/// never. Clones are the same store.
#[derive(Clone, Debug)]
pub struct MemoryStore(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    wake: Notify,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::with_history(DEFAULT_HISTORY)
    }
}

impl MemoryStore {
    /// An empty store that keeps 10,000 events.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty store that keeps `events` events; the unfinished ones come on top.
    #[must_use]
    pub fn with_history(events: usize) -> Self {
        Self(Arc::new(Shared {
            state: Mutex::new(State::new(events)),
            wake: Notify::new(),
        }))
    }

    /// Begins a transaction, for [`Dispatcher::enqueue_in`](crate::Dispatcher::enqueue_in).
    #[must_use]
    pub fn begin(&self) -> MemoryTx {
        MemoryTx {
            store: self.clone(),
            events: Vec::new(),
            now: None,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        self.0.wake.notify_one();
    }
}

/// A transaction of a [`MemoryStore`]: what was enqueued in it exists once [`commit`](Self::commit) is
/// called; dropping it rolls back.
#[derive(Debug)]
pub struct MemoryTx {
    store: MemoryStore,
    events: Vec<Event>,
    now: Now,
}

impl MemoryTx {
    /// Makes the events exist, all or none.
    ///
    /// # Errors
    /// [`ErrorKind::Rejected`] when an idempotency key was used elsewhere since.
    pub fn commit(self) -> Result<()> {
        let insertion = self.store.state().insert(
            &self.events,
            &InsertOptions::new(OnConflict::Abort),
            at(self.now),
        );
        self.store.wake();
        if insertion.events.iter().all(|one| *one == Inserted::New) {
            Ok(())
        } else {
            Err(Error::new(ErrorKind::Rejected, "commit"))
        }
    }
}

#[async_trait]
impl Store for MemoryStore {
    fn inserts_at_once(&self) -> usize {
        1
    }

    async fn insert_events(
        &self,
        events: &[Event],
        options: &InsertOptions,
        now: Now,
    ) -> Result<Insertion> {
        let insertion = self.state().insert(events, options, at(now));
        if insertion.claimed.len() < insertion.jobs.len() {
            self.wake();
        }
        Ok(insertion)
    }

    async fn insert_test(&self, event: &Event, endpoint: Uuid, now: Now) -> Result<Option<Job>> {
        let job = self.state().insert_test(event, endpoint, at(now));
        self.wake();
        Ok(job)
    }

    async fn load(&self, leases: &[Lease], now: Now) -> Result<Vec<Loaded>> {
        let mut state = self.state();
        Ok(leases
            .iter()
            .filter_map(|lease| state.load(lease, at(now)))
            .collect())
    }

    async fn record(&self, records: &[Record], now: Now) -> Result<Vec<Recorded>> {
        let mut state = self.state();
        let recorded = records
            .iter()
            .map(|record| state.record(record, at(now)))
            .collect();
        let forgotten = state.take_forgotten();
        drop(state);
        drop(forgotten);
        self.wake();
        Ok(recorded)
    }

    async fn quarantine(&self, leases: &[Lease], now: Now) -> Result<()> {
        let mut state = self.state();
        for lease in leases {
            state.quarantine(lease, at(now));
        }
        Ok(())
    }

    async fn jobs(&self, deliveries: &[Uuid]) -> Result<Vec<Job>> {
        let state = self.state();
        let rows = deliveries.iter().filter_map(|id| state.deliveries.get(id));
        Ok(rows.filter_map(|row| state.job(row)).collect())
    }

    async fn unqueued(&self, after: Option<Uuid>, limit: usize) -> Result<Vec<Job>> {
        let state = self.state();
        let rows = state
            .deliveries
            .range(after.map_or(Uuid::nil(), next_id)..)
            .map(|(_, row)| row);
        Ok(rows.filter_map(|row| state.job(row)).take(limit).collect())
    }

    async fn overdue(&self, before: Timestamp, limit: usize) -> Result<Vec<Job>> {
        let state = self.state();
        let jobs = state.deliveries.values().filter_map(|row| state.job(row));
        let mut overdue: Vec<_> = jobs.filter(|job| job.due < before).collect();
        overdue.sort_by_key(|job| job.due);
        overdue.truncate(limit);
        Ok(overdue)
    }

    async fn fills(&self) -> Result<Vec<Fill>> {
        Ok(self.state().fills.values().cloned().collect())
    }

    async fn put_fills(&self, fills: &[Fill]) -> Result<Vec<String>> {
        let known = &mut self.state().fills;
        let mut stored = Vec::new();
        for fill in fills {
            let before = known.get(&fill.part);
            if before.is_none_or(|before| before.version + 1 == fill.version) {
                known.insert(fill.part.clone(), fill.clone());
                stored.push(fill.part.clone());
            }
        }
        Ok(stored)
    }

    fn queue(&self) -> Option<Arc<dyn Queue>> {
        Some(Arc::new(OwnQueue(self.clone())))
    }

    async fn ping(&self) -> Result<()> {
        Ok(())
    }

    /// The history is bounded by its size, not by time; bulk replays, statistics and the audit log by time.
    async fn maintain(&self, retention: Duration, now: Now) -> Result<()> {
        let mut state = self.state();
        state.maintain_stats(retention, at(now));
        state.forget_old_replays(at(now) - retention);
        let gone = at(now) - Process::ALIVE;
        state.processes.retain(|_, one| one.seen_at > gone);
        state
            .audit
            .retain(|_, entry| entry.at >= at(now) - retention);
        Ok(())
    }

    async fn insert_endpoint(&self, endpoint: &Endpoint, most: usize) -> Result<bool> {
        Ok(self.state().insert_endpoint(endpoint.clone(), most))
    }

    async fn update_endpoint(&self, endpoint: &Endpoint) -> Result<bool> {
        let updated = self.state().update_endpoint(endpoint, endpoint.updated_at);
        self.wake();
        Ok(updated)
    }

    async fn health(
        &self,
        scope: &Scope,
        endpoints: &[Uuid],
        now: Now,
    ) -> Result<Vec<(Uuid, Health)>> {
        let state = self.state();
        let health = |id: &Uuid| Some((*id, state.health_of(scope, *id)?.at(at(now))));
        Ok(endpoints.iter().filter_map(health).collect())
    }

    async fn vitals(&self, now: Now) -> Result<Vitals> {
        Ok(self.state().vitals(at(now)))
    }

    async fn recover_endpoint(&self, scope: &Scope, id: Uuid) -> Result<bool> {
        let recovered = self.state().recover_endpoint(scope, id);
        self.wake();
        Ok(recovered)
    }

    async fn delete_endpoint(&self, scope: &Scope, id: Uuid, now: Now) -> Result<bool> {
        Ok(self.state().delete_endpoint(scope, id, at(now)))
    }

    /// Memory seals nothing.
    async fn rekey(&self, _: PageRequest) -> Result<Rekeyed> {
        Ok(Rekeyed::default())
    }

    async fn endpoint(&self, scope: &Scope, id: Uuid) -> Result<Option<Endpoint>> {
        let endpoint = self
            .state()
            .endpoints
            .get(&id)
            .map(|endpoint| Endpoint::clone(endpoint));
        Ok(endpoint.filter(|endpoint| scope.contains(&endpoint.tenant)))
    }

    async fn endpoints(
        &self,
        scope: &Scope,
        filter: &EndpointFilter,
        page: PageRequest,
    ) -> Result<Page<Endpoint>> {
        let state = self.state();
        let newest_first =
            state.endpoints.values().rev().filter(|endpoint| {
                scope.contains(&endpoint.tenant) && filter.accepts(endpoint.state)
            });
        Ok(paged(
            newest_first.map(|endpoint| (endpoint.id, Endpoint::clone(endpoint))),
            page,
        ))
    }

    async fn event(&self, scope: &Scope, id: Uuid) -> Result<Option<Event>> {
        let event = self
            .state()
            .events
            .get(&id)
            .map(|row| Event::clone(&row.event));
        Ok(event.filter(|event| scope.contains(&event.tenant)))
    }

    async fn events(
        &self,
        scope: &Scope,
        filter: &EventFilter,
        page: PageRequest,
    ) -> Result<Page<Event>> {
        let state = self.state();
        let events = state.events.values().rev().map(|row| &row.event);
        let events =
            events.filter(|event| scope.contains(&event.tenant) && event_matches(filter, event));
        let without_body = |event: &Arc<Event>| Event {
            body: Bytes::new(),
            ..Event::clone(event)
        };
        Ok(paged(
            events.map(|event| (event.id, without_body(event))),
            page,
        ))
    }

    async fn delivery(&self, scope: &Scope, id: Uuid) -> Result<Option<Delivery>> {
        let delivery = self
            .state()
            .deliveries
            .get(&id)
            .map(|row| row.delivery.clone());
        Ok(delivery.filter(|delivery| scope.contains(&delivery.tenant)))
    }

    async fn deliveries(
        &self,
        scope: &Scope,
        filter: &DeliveryFilter,
        page: PageRequest,
    ) -> Result<Page<Delivery>> {
        let state = self.state();
        let deliveries = state.deliveries.values().rev().map(|row| &row.delivery);
        let deliveries =
            deliveries.filter(|one| scope.contains(&one.tenant) && filter.matches(one));
        Ok(paged(
            deliveries.map(|delivery| (delivery.id, delivery.clone())),
            page,
        ))
    }

    async fn attempts(&self, scope: &Scope, delivery: Uuid) -> Result<Vec<Attempt>> {
        let state = self.state();
        let row = state
            .deliveries
            .get(&delivery)
            .filter(|row| scope.contains(&row.delivery.tenant));
        Ok(row
            .into_iter()
            .flat_map(|row| &row.attempts)
            .map(|attempt| Attempt::clone(attempt))
            .collect())
    }

    async fn replay_delivery(
        &self,
        scope: &Scope,
        delivery: Uuid,
        now: Now,
    ) -> Result<Changed<Job>> {
        let changed = self.state().replay_delivery(scope, delivery, at(now));
        self.wake();
        Ok(changed)
    }

    async fn replay_event(
        &self,
        scope: &Scope,
        event: Uuid,
        now: Now,
    ) -> Result<Changed<Vec<Job>>> {
        let changed = self.state().replay_event(scope, event, at(now));
        self.wake();
        Ok(changed)
    }

    async fn cancel_delivery(
        &self,
        scope: &Scope,
        delivery: Uuid,
        now: Now,
    ) -> Result<Changed<()>> {
        Ok(self.state().cancel(scope, delivery, at(now)))
    }

    async fn insert_replay(&self, replay: &Replay, now: Now) -> Result<Replay> {
        Ok(self.state().insert_replay(replay.clone(), at(now)))
    }

    async fn replay(&self, scope: &Scope, id: Uuid) -> Result<Option<Replay>> {
        Ok(self.state().find_replay(scope, id).cloned())
    }

    async fn replays(&self, scope: &Scope, page: PageRequest) -> Result<Page<Replay>> {
        let state = self.state();
        let newest_first = state.replays_of(scope).rev();
        Ok(paged(
            newest_first.map(|replay| (replay.id, replay.clone())),
            page,
        ))
    }

    async fn cancel_replay(&self, scope: &Scope, id: Uuid, now: Now) -> Result<Changed<Replay>> {
        Ok(self.state().cancel_replay(scope, id, at(now)))
    }

    async fn scan_replay(
        &self,
        scope: &Scope,
        selection: &ReplaySelection,
        after: Option<Uuid>,
        limit: usize,
        now: Now,
    ) -> Result<ReplayScan> {
        let found = self
            .state()
            .look_at(scope, selection, at(now), after, limit);
        Ok(found.scan())
    }

    async fn step_replay(&self, limit: usize, now: Now) -> Result<ReplayStep> {
        let step = self.state().step_replay(limit, at(now));
        if !step.jobs.is_empty() {
            self.wake();
        }
        Ok(step)
    }

    async fn append_stats(&self, rows: &[StatsRow]) -> Result<()> {
        self.state().stats.extend_from_slice(rows);
        Ok(())
    }

    async fn stats(&self, scope: &Scope, query: &StatsQuery) -> Result<Rollup> {
        let (state, mut rollup) = (self.state(), Rollup::default());
        for row in state.stats.iter().filter(|row| scope.contains(&row.tenant)) {
            rollup.add(query, row);
        }
        Ok(rollup)
    }

    async fn put_event_type(&self, entry: &CatalogueEntry) -> Result<CatalogueEntry> {
        Ok(self.state().put_event_type(entry))
    }

    async fn event_type(&self, name: &EventType) -> Result<Option<CatalogueEntry>> {
        Ok(self.state().event_type(name).cloned())
    }

    async fn event_types(&self, page: PageRequest) -> Result<Page<CatalogueEntry>> {
        let state = self.state();
        let newest_first = state.catalogue.values().rev();
        Ok(paged(
            newest_first.map(|entry| (entry.id, entry.clone())),
            page,
        ))
    }

    async fn schemas(&self, known: i64) -> Result<Option<Schemas>> {
        Ok(self.state().schemas(known))
    }

    async fn append_audit(&self, entry: &AuditEntry) -> Result<()> {
        let log = &mut self.state().audit;
        log.entry(entry.id).or_insert_with(|| entry.clone());
        Ok(())
    }

    async fn audit(
        &self,
        scope: &Scope,
        filter: &AuditFilter,
        page: PageRequest,
    ) -> Result<Page<AuditEntry>> {
        let state = self.state();
        let newest_first = state.audit.values().rev();
        let shown = newest_first.filter(|entry| entry.is_in(scope) && filter.matches(entry));
        Ok(paged(shown.map(|entry| (entry.id, entry.clone())), page))
    }

    async fn erase_tenant(&self, tenant: &Tenant, now: Now) -> Result<()> {
        self.state().erase_tenant(tenant, at(now));
        Ok(())
    }

    async fn step_erasure(&self, limit: usize, now: Now) -> Result<ErasureStep> {
        Ok(self.state().step_erasure(limit, at(now)))
    }

    async fn put_process(&self, process: &Process, now: Now) -> Result<()> {
        let process = Process {
            seen_at: at(now),
            ..process.clone()
        };
        self.state().processes.insert(process.id, process);
        Ok(())
    }

    async fn remove_process(&self, id: Uuid) -> Result<()> {
        self.state().processes.remove(&id);
        Ok(())
    }

    async fn processes(&self, now: Now) -> Result<Vec<Process>> {
        let state = self.state();
        let newest_first = state.processes.values().rev();
        let alive = newest_first.filter(|one| one.seen_at > at(now) - Process::ALIVE);
        Ok(alive.take(1_000).cloned().collect())
    }

    async fn backlog(&self, scope: &Scope, endpoint: Uuid, now: Now) -> Result<Option<Backlog>> {
        Ok(self.state().backlog(scope, endpoint, at(now)))
    }
}

#[async_trait]
impl TxStore for MemoryStore {
    type Connection = MemoryTx;

    async fn insert_events_in(
        &self,
        tx: &mut MemoryTx,
        events: &[Event],
        now: Now,
    ) -> Result<Insertion> {
        let state = self.state();
        let before = tx.events.len();
        let together: Vec<_> = tx.events.iter().chain(events).cloned().collect();
        let inserted = state.judge(&together, at(now)).split_off(before);
        let mut jobs = Vec::new();
        for (event, _) in events
            .iter()
            .zip(&inserted)
            .filter(|(_, one)| **one == Inserted::New)
        {
            state.fan_out(event, at(now), &mut jobs);
            tx.events.push(event.clone());
        }
        tx.now = now;
        Ok(Insertion {
            events: inserted,
            jobs,
            claimed: Vec::new(),
        })
    }

    async fn schemas_in(&self, _: &mut MemoryTx, known: i64) -> Result<Option<Schemas>> {
        self.schemas(known).await
    }
}

/// The queue that a [`MemoryStore`]'s deliveries are. Only its store hands it out.
struct OwnQueue(MemoryStore);

#[async_trait]
impl Queue for OwnQueue {
    /// The rows are the jobs.
    async fn push(&self, _: &[Job], _: Now) -> Result<()> {
        self.0.wake();
        Ok(())
    }

    async fn claim(&self, options: ClaimOptions, now: Now) -> Result<Claimed> {
        Ok(self.0.state().claim(&options, at(now)))
    }

    async fn extend(&self, leases: &[Lease], by: Duration, now: Now) -> Result<Vec<Lease>> {
        let mut state = self.0.state();
        Ok(leases
            .iter()
            .filter_map(|lease| state.lanes.extend(lease, at(now) + by))
            .collect())
    }

    /// `record` has moved on what was attempted; only the unused go back here.
    async fn settle(&self, settled: &[(Lease, Settle)], now: Now) -> Result<()> {
        let mut state = self.0.state();
        for (lease, settle) in settled {
            if let Settle::Unused(by) = settle {
                state.unclaim(lease, *by, at(now));
            }
        }
        drop(state);
        self.0.wake();
        Ok(())
    }

    async fn hold(&self, lane: Uuid, hold: Hold, now: Now) -> Result<()> {
        self.0.state().lanes.hold(lane, hold, at(now));
        Ok(())
    }

    async fn release(&self, lane: Uuid) -> Result<()> {
        self.0.state().lanes.release(lane);
        self.0.wake();
        Ok(())
    }

    async fn ready(&self) {
        self.0.0.wake.notified().await;
    }

    async fn parts(&self) -> Result<Vec<QueuePart>> {
        Ok(QueuePart::of_store())
    }

    fn part_of(&self, _: Uuid) -> usize {
        0
    }

    async fn depth(&self, now: Now) -> Result<Depth> {
        Ok(self.0.state().lanes.depth(at(now)))
    }
}

fn paged<T>(newest_first: impl Iterator<Item = (Uuid, T)>, page: PageRequest) -> Page<T> {
    let mut rows = newest_first.filter(|(id, _)| page.before.is_none_or(|before| *id < before));
    let mut items = Vec::new();
    let mut last = None;
    for (id, item) in rows.by_ref().take(page.limit) {
        last = Some(id);
        items.push(item);
    }
    Page {
        items,
        next: last.filter(|_| rows.next().is_some()),
    }
}

fn event_matches(filter: &EventFilter, event: &Event) -> bool {
    let contains = |text: &String| {
        event
            .body
            .windows(text.len().max(1))
            .any(|part| part == text.as_bytes())
    };
    filter
        .event_type
        .as_ref()
        .is_none_or(|wanted| *wanted == event.event_type)
        && filter.since.is_none_or(|since| event.created_at >= since)
        && filter.until.is_none_or(|until| event.created_at < until)
        && filter.text.as_ref().is_none_or(contains)
}

/// The smallest id above `id`.
fn next_id(id: Uuid) -> Uuid {
    Uuid::from_u128(id.as_u128().saturating_add(1))
}

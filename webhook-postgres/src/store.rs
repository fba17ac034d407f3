//! [`PgStore`]: the methods of [`Store`] and [`TxStore`](webhook_core::TxStore).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use sqlx::{PgConnection, PgPool};
use tokio::sync::Semaphore;
use uuid::Uuid;
use webhook_core::backend::Encryption;
use webhook_core::{
    Attempt, AuditEntry, AuditFilter, Backlog, CatalogueEntry, Changed, Delivery, DeliveryFilter,
    EndReason, Endpoint, EndpointFilter, ErasureStep, Event, EventFilter, EventType, Fill, Health,
    InsertOptions, Insertion, Job, Lease, Loaded, Now, Page, PageRequest, Process, Queue, Record,
    Recorded, Rekeyed, Replay, ReplayScan, ReplaySelection, ReplayStep, Result, Rollup, Schemas,
    Scope, StatsQuery, StatsRow, Store, Tenant, Timestamp, TxStore, Vitals,
};

use crate::connect::{ConnectError, PgStoreBuilder};
use crate::error::{failed, is_misplaced};
use crate::lent::Patience;
use crate::notify::Announcements;
use crate::queue::{News, PgQueue, Round};
use crate::statements::Statements;

/// A store in Postgres, whose deliveries are its queue. Cheap to clone; clones are the same store.
#[derive(Clone)]
pub struct PgStore(pub(crate) Arc<Shared>);

pub(crate) struct Shared {
    pub(crate) pool: PgPool,
    /// Places for those who look for what people ask for, which may take long: deliveries need not wait for it.
    pub(crate) looks: Semaphore,
    pub(crate) patience: Patience,
    pub(crate) encryption: Encryption,
    pub(crate) sql: Statements,
    pub(crate) news: News,
    pub(crate) announcements: Announcements,
    /// One claim at a time.
    pub(crate) claiming: tokio::sync::Mutex<()>,
    /// Where this process's claims stand.
    pub(crate) round: Mutex<Round>,
    /// Endpoints as they were read last, by id: parsing one costs more than an attempt's bookkeeping.
    endpoints: Mutex<HashMap<Uuid, Arc<Endpoint>>>,
}

/// What people look for has this part of the pool's connections.
const LOOKS_PART: u32 = 3;
/// The most endpoints that are kept parsed.
const MAX_ENDPOINTS: usize = 10_000;

impl PgStore {
    /// Opens the store at `url`, with its tables in the schema `webhook`. Creates or migrates the schema.
    ///
    /// # Errors
    /// When the server does not answer, or the schema does not fit.
    pub async fn connect(url: &str) -> Result<Self, ConnectError> {
        Self::builder().connect(url).await
    }

    /// A builder, for other settings.
    #[must_use]
    pub fn builder() -> PgStoreBuilder {
        PgStoreBuilder::default()
    }

    /// The pool that the store uses. A host without a pool of its own may use it for its statements and transactions. If
    /// [`connect`](Self::connect) made it, set `SET LOCAL statement_timeout` for those that take longer than 25 seconds.
    #[must_use]
    pub fn pool(&self) -> &PgPool {
        &self.0.pool
    }

    pub(crate) fn new(
        pool: PgPool,
        schema: &str,
        patience: Patience,
        announcements: Announcements,
        encryption: Encryption,
    ) -> Self {
        let looks = pool.options().get_max_connections() / LOOKS_PART;
        Self(Arc::new(Shared {
            pool,
            looks: Semaphore::new(looks.max(1) as usize),
            patience,
            encryption,
            sql: Statements::new(schema),
            news: News::default(),
            announcements,
            claiming: tokio::sync::Mutex::default(),
            round: Mutex::default(),
            endpoints: Mutex::default(),
        }))
    }
}

impl std::fmt::Debug for PgStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PgStore").finish_non_exhaustive()
    }
}

impl Shared {
    pub(crate) fn known_endpoints(&self) -> MutexGuard<'_, HashMap<Uuid, Arc<Endpoint>>> {
        self.endpoints
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn remember(&self, endpoint: &Arc<Endpoint>) {
        let mut known = self.known_endpoints();
        if known.len() >= MAX_ENDPOINTS {
            known.clear();
        }
        known.insert(endpoint.id, Arc::clone(endpoint));
    }
}

/// While one insert waits for its commit to reach the disk, the next is worked on. More of them would be smaller, and
/// cost more than they gain.
const INSERTS: usize = 2;

#[async_trait]
impl Store for PgStore {
    fn inserts_at_once(&self) -> usize {
        INSERTS
    }

    async fn insert_events(
        &self,
        events: &[Event],
        options: &InsertOptions,
        now: Now,
    ) -> Result<Insertion> {
        let mut inserted = self.0.insert_events(events, options, now).await;
        if inserted.as_ref().is_err_and(is_misplaced) {
            inserted = self.0.insert_events(events, options, now).await;
        }
        let inserted = inserted.map_err(failed("insert_events"))?;
        if inserted.claimed.len() < inserted.jobs.len() {
            self.0.news.tell();
            self.0.announce();
        }
        Ok(inserted)
    }

    async fn insert_test(&self, event: &Event, endpoint: Uuid, now: Now) -> Result<Option<Job>> {
        let inserted = self.0.insert_test(event, endpoint, now).await;
        self.0.announce();
        inserted.map_err(failed("insert_test"))
    }

    async fn load(&self, leases: &[Lease], now: Now) -> Result<Vec<Loaded>> {
        self.0.load(leases, now).await
    }

    async fn record(&self, records: &[Record], now: Now) -> Result<Vec<Recorded>> {
        let recorded = self.0.record(records, now).await;
        let (recorded, has_events) = recorded.map_err(failed("record"))?;
        if has_events {
            self.0.news.tell();
            self.0.announce();
        }
        Ok(recorded)
    }

    async fn quarantine(&self, leases: &[Lease], now: Now) -> Result<()> {
        let ended = self.0.quarantine(leases, EndReason::Corrupt, now).await;
        ended.map_err(failed("quarantine"))
    }

    async fn jobs(&self, deliveries: &[Uuid]) -> Result<Vec<Job>> {
        self.0.jobs(deliveries).await.map_err(failed("jobs"))
    }

    async fn unqueued(&self, after: Option<Uuid>, limit: usize) -> Result<Vec<Job>> {
        self.0
            .unqueued(after, limit)
            .await
            .map_err(failed("unqueued"))
    }

    async fn overdue(&self, before: Timestamp, limit: usize) -> Result<Vec<Job>> {
        let overdue = self.0.overdue(before, limit).await;
        overdue.map_err(failed("overdue"))
    }

    async fn fills(&self) -> Result<Vec<Fill>> {
        self.0.fills().await.map_err(failed("fills"))
    }

    async fn put_fills(&self, fills: &[Fill]) -> Result<Vec<String>> {
        self.0.put_fills(fills).await.map_err(failed("put_fills"))
    }

    fn queue(&self) -> Option<Arc<dyn Queue>> {
        Some(Arc::new(PgQueue::new(Arc::clone(&self.0))))
    }

    async fn ping(&self) -> Result<()> {
        self.0.ping().await.map_err(failed("ping"))
    }

    async fn maintain(&self, retention: Duration, now: Now) -> Result<()> {
        let stats = self.0.maintain_stats(retention, now).await;
        let replays = self.0.prune_replays(retention, now).await;
        let audit = self.0.prune_audit(retention, now).await;
        let rest = self.0.maintain(retention, now).await;
        let processes = self.0.prune_processes(now).await;
        let ended = stats.and(replays).and(audit).and(processes).and(rest);
        ended.map_err(failed("maintain"))
    }

    async fn insert_endpoint(&self, endpoint: &Endpoint, most: usize) -> Result<bool> {
        let inserted = self.0.insert_endpoint(endpoint, most).await;
        inserted.map_err(failed("insert_endpoint"))
    }

    async fn update_endpoint(&self, endpoint: &Endpoint) -> Result<bool> {
        let updated = self.0.update_endpoint(endpoint).await;
        updated.map_err(failed("update_endpoint"))
    }

    async fn health(
        &self,
        scope: &Scope,
        endpoints: &[Uuid],
        now: Now,
    ) -> Result<Vec<(Uuid, Health)>> {
        let health = self.0.health(scope, endpoints, now).await;
        health.map_err(failed("health"))
    }

    async fn vitals(&self, now: Now) -> Result<Vitals> {
        self.0.vitals(now).await.map_err(failed("vitals"))
    }

    async fn recover_endpoint(&self, scope: &Scope, id: Uuid) -> Result<bool> {
        let recovered = self.0.recover_endpoint(scope, id).await;
        recovered.map_err(failed("recover_endpoint"))
    }

    async fn delete_endpoint(&self, scope: &Scope, id: Uuid, now: Now) -> Result<bool> {
        let deleted = self.0.delete_endpoint(scope, id, now).await;
        deleted.map_err(failed("delete_endpoint"))
    }

    async fn rekey(&self, page: PageRequest) -> Result<Rekeyed> {
        self.0.rekey(page).await.map_err(failed("rekey"))
    }

    async fn endpoint(&self, scope: &Scope, id: Uuid) -> Result<Option<Endpoint>> {
        Ok(self.0.endpoints(scope, &[id]).await?.pop())
    }

    async fn endpoints(
        &self,
        scope: &Scope,
        filter: &EndpointFilter,
        page: PageRequest,
    ) -> Result<Page<Endpoint>> {
        let found = self.0.endpoints_page(scope, filter, page).await;
        found.map_err(failed("endpoints"))
    }

    async fn event(&self, scope: &Scope, id: Uuid) -> Result<Option<Event>> {
        self.0.event(scope, id).await.map_err(failed("event"))
    }

    async fn events(
        &self,
        scope: &Scope,
        filter: &EventFilter,
        page: PageRequest,
    ) -> Result<Page<Event>> {
        let found = self.0.events(scope, filter, page).await;
        found.map_err(failed("events"))
    }

    async fn delivery(&self, scope: &Scope, id: Uuid) -> Result<Option<Delivery>> {
        self.0.delivery(scope, id).await.map_err(failed("delivery"))
    }

    async fn deliveries(
        &self,
        scope: &Scope,
        filter: &DeliveryFilter,
        page: PageRequest,
    ) -> Result<Page<Delivery>> {
        let found = self.0.deliveries(scope, filter, page).await;
        found.map_err(failed("deliveries"))
    }

    async fn attempts(&self, scope: &Scope, delivery: Uuid) -> Result<Vec<Attempt>> {
        self.0.attempts(scope, delivery).await
    }

    async fn replay_delivery(
        &self,
        scope: &Scope,
        delivery: Uuid,
        now: Now,
    ) -> Result<Changed<Job>> {
        let replayed = self.0.replay_delivery(scope, delivery, now).await;
        self.0.announce();
        replayed.map_err(failed("replay_delivery"))
    }

    async fn replay_event(
        &self,
        scope: &Scope,
        event: Uuid,
        now: Now,
    ) -> Result<Changed<Vec<Job>>> {
        let replayed = self.0.replay_event(scope, event, now).await;
        self.0.announce();
        replayed.map_err(failed("replay_event"))
    }

    async fn cancel_delivery(
        &self,
        scope: &Scope,
        delivery: Uuid,
        now: Now,
    ) -> Result<Changed<()>> {
        let cancelled = self.0.cancel_delivery(scope, delivery, now).await;
        cancelled.map_err(failed("cancel_delivery"))
    }

    async fn insert_replay(&self, replay: &Replay, now: Now) -> Result<Replay> {
        self.0.insert_replay(replay, now).await
    }

    async fn replay(&self, scope: &Scope, id: Uuid) -> Result<Option<Replay>> {
        self.0.replay_by_id(scope, id).await
    }

    async fn replays(&self, scope: &Scope, page: PageRequest) -> Result<Page<Replay>> {
        let found = self.0.replays(scope, page).await;
        found.map_err(failed("replays"))
    }

    async fn cancel_replay(&self, scope: &Scope, id: Uuid, now: Now) -> Result<Changed<Replay>> {
        self.0.cancel_replay(scope, id, now).await
    }

    async fn scan_replay(
        &self,
        scope: &Scope,
        selection: &ReplaySelection,
        after: Option<Uuid>,
        limit: usize,
        now: Now,
    ) -> Result<ReplayScan> {
        let scanned = self.0.scan_replay(scope, selection, after, limit, now);
        scanned.await.map_err(failed("scan_replay"))
    }

    async fn step_replay(&self, limit: usize, now: Now) -> Result<ReplayStep> {
        let step = self.0.step_replay(limit, now).await;
        let step = step.map_err(failed("step_replay"))?;
        if !step.jobs.is_empty() {
            self.0.announce();
        }
        Ok(step)
    }

    async fn append_stats(&self, rows: &[StatsRow]) -> Result<()> {
        let appended = self.0.append_stats(rows).await;
        appended.map_err(failed("append_stats"))
    }

    async fn stats(&self, scope: &Scope, query: &StatsQuery) -> Result<Rollup> {
        self.0.stats(scope, query).await.map_err(failed("stats"))
    }

    async fn put_event_type(&self, entry: &CatalogueEntry) -> Result<CatalogueEntry> {
        let put = self.0.put_event_type(entry).await;
        put.map_err(failed("put_event_type"))
    }

    async fn event_type(&self, name: &EventType) -> Result<Option<CatalogueEntry>> {
        let found = self.0.event_type(name).await;
        found.map_err(failed("event_type"))
    }

    async fn event_types(&self, page: PageRequest) -> Result<Page<CatalogueEntry>> {
        let found = self.0.event_types(page).await;
        found.map_err(failed("event_types"))
    }

    async fn schemas(&self, known: i64) -> Result<Option<Schemas>> {
        let changed = self.0.schemas(known).await;
        changed.map_err(failed("schemas"))
    }

    async fn append_audit(&self, entry: &AuditEntry) -> Result<()> {
        let appended = self.0.append_audit(entry).await;
        appended.map_err(failed("append_audit"))
    }

    async fn audit(
        &self,
        scope: &Scope,
        filter: &AuditFilter,
        page: PageRequest,
    ) -> Result<Page<AuditEntry>> {
        let found = self.0.audit(scope, filter, page).await;
        found.map_err(failed("audit"))
    }

    async fn erase_tenant(&self, tenant: &Tenant, now: Now) -> Result<()> {
        let erased = self.0.erase_tenant(tenant, now).await;
        erased.map_err(failed("erase_tenant"))
    }

    async fn step_erasure(&self, limit: usize, now: Now) -> Result<ErasureStep> {
        let step = self.0.step_erasure(limit, now).await;
        step.map_err(failed("step_erasure"))
    }

    async fn put_process(&self, process: &Process, now: Now) -> Result<()> {
        let put = self.0.put_process(process, now).await;
        put.map_err(failed("put_process"))
    }

    async fn remove_process(&self, id: Uuid) -> Result<()> {
        let removed = self.0.remove_process(id).await;
        removed.map_err(failed("remove_process"))
    }

    async fn processes(&self, now: Now) -> Result<Vec<Process>> {
        let found = self.0.processes(now).await;
        found.map_err(failed("processes"))
    }

    async fn backlog(&self, scope: &Scope, endpoint: Uuid, now: Now) -> Result<Option<Backlog>> {
        let found = self.0.backlog(scope, endpoint, now).await;
        found.map_err(failed("backlog"))
    }
}

#[async_trait]
impl TxStore for PgStore {
    type Connection = PgConnection;

    async fn insert_events_in(
        &self,
        tx: &mut PgConnection,
        events: &[Event],
        now: Now,
    ) -> Result<Insertion> {
        let inserted = self.0.insert_events_in(tx, events, now).await;
        self.0.news.expect_commit();
        self.0.announce_commit();
        inserted.map_err(failed("insert_events_in"))
    }
    async fn schemas_in(&self, tx: &mut PgConnection, known: i64) -> Result<Option<Schemas>> {
        let changed = self.0.schemas_in(tx, known).await;
        changed.map_err(failed("schemas_in"))
    }
}

//! [`SqliteStore`]: each method of the seam, with the name that its errors carry.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use std::time::Duration;

use async_trait::async_trait;
use sqlx::sqlite::SqliteConnection;
use tokio::sync::Notify;
use uuid::Uuid;
use webhook_core::backend::Encryption;
use webhook_core::{
    Attempt, AuditEntry, AuditFilter, Backlog, CatalogueEntry, Changed, Delivery, DeliveryFilter,
    Endpoint, EndpointFilter, ErasureStep, Event, EventFilter, EventType, Fill, Health,
    InsertOptions, Insertion, Job, Lease, Loaded, Now, Page, PageRequest, Process, Queue, Record,
    Recorded, Rekeyed, Replay, ReplayScan, ReplaySelection, ReplayStep, Result, Rollup, Schemas,
    Scope, StatsQuery, StatsRow, Store, Tenant, Timestamp, TxStore, Vitals,
};

use crate::builder::{OpenError, SqliteStoreBuilder};
use crate::database::Database;
use crate::endpoints::EndpointCache;
use crate::error::failed;
use crate::queue::OwnQueue;

/// A store in one SQLite file, whose deliveries are its queue.
///
/// Clones are the same store. Open a file once in a process: a second store on the same file works, but finds new jobs only by
/// polling.
///
/// If [`enqueue_in`](webhook_core::Dispatcher::enqueue_in) joins a host's transaction, begin that with `BEGIN IMMEDIATE`. A
/// transaction that reads first may be refused when it writes. If an event is refused, the transaction stays as it was.
#[derive(Clone)]
pub struct SqliteStore(pub(crate) Arc<Shared>);

/// What the clones of a store share.
pub(crate) struct Shared {
    pub(crate) database: Database,
    pub(crate) endpoints: EndpointCache,
    pub(crate) encryption: Encryption,
    /// The tenant that a claim served last: the next begins after it.
    last_tenant: Mutex<String>,
    wake: Notify,
}

impl Shared {
    pub(crate) fn last_tenant(&self) -> MutexGuard<'_, String> {
        self.last_tenant
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells who waits for jobs that there may be some.
    pub(crate) fn notify(&self) {
        self.wake.notify_one();
    }

    pub(crate) async fn notified(&self) {
        self.wake.notified().await;
    }
}

impl SqliteStore {
    /// Opens a file of the store's own, and creates it if it is not there.
    ///
    /// # Errors
    /// When the file cannot be opened or migrated.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        Self::builder().open(path).await
    }

    /// A store with another table prefix, or in a host's own database.
    #[must_use]
    pub fn builder() -> SqliteStoreBuilder {
        SqliteStoreBuilder::default()
    }

    pub(crate) fn new(database: Database, encryption: Encryption) -> Self {
        Self(Arc::new(Shared {
            database,
            encryption,
            endpoints: EndpointCache::default(),
            last_tenant: Mutex::default(),
            wake: Notify::new(),
        }))
    }

    /// Closes the file: waits for the calls under way, moves the log's content into the file, and closes the connections. Unless
    /// another process has the file open, it is then complete, and you may copy, move or delete it.
    ///
    /// End [`Dispatcher::run`](webhook_core::Dispatcher::run) before. Later calls, also of clones, fail as unavailable. You may
    /// close a store twice. In a host's own database ([`open_in`](SqliteStoreBuilder::open_in)) this does nothing, because the
    /// host closes its own pool.
    ///
    /// If you only drop a store, nothing is lost either: accepted events are in the file or in the log beside it, and the next
    /// process that opens the file finds them there.
    ///
    /// ```
    /// # async fn host(store: webhook_sqlite::SqliteStore) -> Result<(), Box<dyn std::error::Error>> {
    /// store.close().await?;
    /// std::fs::rename("webhooks.db", "webhooks-old.db")?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When the log cannot be moved into the file. The connections are closed, and the log stays.
    pub async fn close(&self) -> Result<()> {
        self.0.database.close().await.map_err(failed("close"))
    }

    /// Deletes events that were accepted before `older_than`, with their deliveries and attempts, and bulk replays that ended
    /// before it. It keeps an event if one of its deliveries is unfinished or ended later. Returns how many events it deleted.
    ///
    /// The engine does this by itself, with its retention. It works in batches, and others can write between them. The file does
    /// not shrink, but SQLite uses the freed space again.
    ///
    /// # Errors
    /// When the backend fails. What was deleted before stays deleted.
    pub async fn prune(&self, older_than: Timestamp) -> Result<u64> {
        self.0.prune(older_than).await.map_err(failed("prune"))
    }
}

impl std::fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteStore").finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for SqliteStore {
    fn inserts_at_once(&self) -> usize {
        1
    }

    async fn insert_events(
        &self,
        events: &[Event],
        options: &InsertOptions,
        now: Now,
    ) -> Result<Insertion> {
        let insertion = self.0.insert_events(events, options, now).await;
        let insertion = insertion.map_err(failed("insert_events"))?;
        if insertion.claimed.len() < insertion.jobs.len() {
            self.0.notify();
        }
        Ok(insertion)
    }

    async fn insert_test(&self, event: &Event, endpoint: Uuid, now: Now) -> Result<Option<Job>> {
        let inserted = self.0.insert_test(event, endpoint, now).await;
        self.0.notify();
        inserted.map_err(failed("insert_test"))
    }

    async fn load(&self, leases: &[Lease], now: Now) -> Result<Vec<Loaded>> {
        self.0.load(leases, now).await.map_err(failed("load"))
    }

    async fn record(&self, records: &[Record], now: Now) -> Result<Vec<Recorded>> {
        let recorded = self
            .0
            .record(records, now)
            .await
            .map_err(failed("record"))?;
        self.0.notify();
        Ok(recorded)
    }

    async fn quarantine(&self, leases: &[Lease], now: Now) -> Result<()> {
        let ended = self.0.quarantine(leases, now).await;
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
        Some(Arc::new(OwnQueue(Arc::clone(&self.0))))
    }

    async fn ping(&self) -> Result<()> {
        self.0.ping().await.map_err(failed("ping"))
    }

    async fn maintain(&self, retention: Duration, now: Now) -> Result<()> {
        let stats = self.0.maintain_stats(retention, now).await;
        let processes = self.0.prune_processes(now).await;
        let rest = self.0.maintain(retention, now).await;
        stats.and(processes).and(rest).map_err(failed("maintain"))
    }

    async fn insert_endpoint(&self, endpoint: &Endpoint, most: usize) -> Result<bool> {
        self.0
            .insert_endpoint(endpoint, most)
            .await
            .map_err(failed("insert_endpoint"))
    }

    async fn update_endpoint(&self, endpoint: &Endpoint) -> Result<bool> {
        let updated = self.0.update_endpoint(endpoint).await;
        let updated = updated.map_err(failed("update_endpoint"))?;
        self.0.notify();
        Ok(updated)
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
        let recovered = recovered.map_err(failed("recover_endpoint"))?;
        self.0.notify();
        Ok(recovered)
    }

    async fn delete_endpoint(&self, scope: &Scope, id: Uuid, now: Now) -> Result<bool> {
        let deleted = self.0.delete_endpoint(scope, id, now).await;
        deleted.map_err(failed("delete_endpoint"))
    }

    async fn rekey(&self, page: PageRequest) -> Result<Rekeyed> {
        self.0.rekey(page).await.map_err(failed("rekey"))
    }

    async fn endpoint(&self, scope: &Scope, id: Uuid) -> Result<Option<Endpoint>> {
        self.0.endpoint(scope, id).await.map_err(failed("endpoint"))
    }

    async fn endpoints(
        &self,
        scope: &Scope,
        filter: &EndpointFilter,
        page: PageRequest,
    ) -> Result<Page<Endpoint>> {
        self.0
            .endpoints(scope, filter, page)
            .await
            .map_err(failed("endpoints"))
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
        self.0
            .events(scope, filter, page)
            .await
            .map_err(failed("events"))
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
        self.0
            .deliveries(scope, filter, page)
            .await
            .map_err(failed("deliveries"))
    }

    async fn attempts(&self, scope: &Scope, delivery: Uuid) -> Result<Vec<Attempt>> {
        self.0
            .attempts(scope, delivery)
            .await
            .map_err(failed("attempts"))
    }

    async fn replay_delivery(
        &self,
        scope: &Scope,
        delivery: Uuid,
        now: Now,
    ) -> Result<Changed<Job>> {
        let changed = self.0.replay_delivery(scope, delivery, now).await;
        let changed = changed.map_err(failed("replay_delivery"))?;
        self.0.notify();
        Ok(changed)
    }

    async fn replay_event(
        &self,
        scope: &Scope,
        event: Uuid,
        now: Now,
    ) -> Result<Changed<Vec<Job>>> {
        let changed = self.0.replay_event(scope, event, now).await;
        let changed = changed.map_err(failed("replay_event"))?;
        self.0.notify();
        Ok(changed)
    }

    async fn cancel_delivery(
        &self,
        scope: &Scope,
        delivery: Uuid,
        now: Now,
    ) -> Result<Changed<()>> {
        let changed = self.0.cancel_delivery(scope, delivery, now).await;
        changed.map_err(failed("cancel_delivery"))
    }

    async fn insert_replay(&self, replay: &Replay, now: Now) -> Result<Replay> {
        let inserted = self.0.insert_replay(replay, now).await;
        inserted.map_err(failed("insert_replay"))
    }

    async fn replay(&self, scope: &Scope, id: Uuid) -> Result<Option<Replay>> {
        self.0.replay(scope, id).await.map_err(failed("replay"))
    }

    async fn replays(&self, scope: &Scope, page: PageRequest) -> Result<Page<Replay>> {
        let found = self.0.replays(scope, page).await;
        found.map_err(failed("replays"))
    }

    async fn cancel_replay(&self, scope: &Scope, id: Uuid, now: Now) -> Result<Changed<Replay>> {
        let cancelled = self.0.cancel_replay(scope, id, now).await;
        cancelled.map_err(failed("cancel_replay"))
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
            self.0.notify();
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
impl TxStore for SqliteStore {
    type Connection = SqliteConnection;

    async fn insert_events_in(
        &self,
        tx: &mut SqliteConnection,
        events: &[Event],
        now: Now,
    ) -> Result<Insertion> {
        self.0
            .insert_events_in(tx, events, now)
            .await
            .map_err(failed("insert_events_in"))
    }
    async fn schemas_in(&self, tx: &mut SqliteConnection, known: i64) -> Result<Option<Schemas>> {
        let changed = self.0.schemas_on(tx, known).await;
        changed.map_err(failed("schemas_in"))
    }
}

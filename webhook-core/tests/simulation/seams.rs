//! The engine's seams, with an await point before and after each call at which anything may happen.

use std::fmt::Debug;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use uuid::Uuid;
use webhook_core::{
    Attempt, AuditEntry, AuditFilter, Backlog, CatalogueEntry, Changed, ClaimOptions, Claimed,
    Clock, Delivery, DeliveryFilter, Depth, Endpoint, EndpointFilter, ErasureStep, Error,
    ErrorKind, Event, EventFilter, EventType, Fill, Health, Hold, InsertOptions, Insertion, Job,
    Lease, Loaded, MemoryStore, MemoryTx, Now, OnConflict, Page, PageRequest, Process, Queue,
    QueuePart, Record, Recorded, Rekeyed, Replay, ReplayScan, ReplaySelection, ReplayStep, Result,
    Rollup, Schemas, Scope, Settle, StatsQuery, StatsRow, Store, Tenant, Timestamp, TxStore,
    Vitals,
};

use crate::process::{Gate, Turn};
use crate::world::{Fault, Side, World};

/// What a process reaches the world through.
#[derive(Clone)]
pub(crate) struct Seam {
    pub(crate) world: World,
    pub(crate) incarnation: u32,
    /// How far this process's own clock goes ahead.
    pub(crate) ahead: Duration,
    pub(crate) gate: Arc<Gate>,
}

impl Seam {
    /// An await point.
    pub(crate) async fn pass(
        &self,
        operation: &'static str,
        side: Side,
        may_fail: bool,
    ) -> Result<()> {
        let Some((fault, time)) = self.world.fault((operation, side), may_fail) else {
            return Ok(());
        };
        self.note(|| format!("{operation} {side:?}: {fault:?}"));
        match fault {
            Fault::Delay => {
                self.world.delay(time).await;
                Ok(())
            }
            Fault::Failure => Err(Error::new(ErrorKind::Unavailable, operation)),
            Fault::Crash => {
                self.gate.end_turn(Turn::Crashed);
                std::future::pending().await
            }
        }
    }

    /// A call of a backend.
    pub(crate) async fn call<T: Debug>(
        &self,
        operation: &'static str,
        effect: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        self.pass(operation, Side::Before, true).await?;
        let Ok(answer) = AssertUnwindSafe(effect).catch_unwind().await else {
            self.world.violate(format!("{operation} panicked"));
            return Err(Error::new(ErrorKind::Internal, operation));
        };
        self.note(|| match &answer {
            Ok(_) => operation.to_owned(),
            Err(error) => format!("{operation}: {:?}", error.kind()),
        });
        self.pass(operation, Side::After, true).await?;
        answer
    }

    /// The backends' own clock, when a call takes effect.
    fn now(&self) -> Now {
        Some(self.world.now())
    }

    pub(crate) fn note(&self, what: impl FnOnce() -> String) {
        self.world
            .note(|| format!("#{} {}", self.incarnation, what()));
    }
}

/// A process's clock: it may go ahead of the backends'.
pub(crate) struct SimClock(pub(crate) Seam);

#[async_trait]
impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        self.0.world.now() + self.0.ahead
    }

    fn pinned(&self) -> Now {
        None
    }

    async fn sleep(&self, by: Duration) {
        self.0.pass("clock.sleep", Side::Before, false).await.ok();
        self.0.world.delay(by).await;
        self.0.pass("clock.sleep", Side::After, false).await.ok();
    }
}

/// A process's connection to the store.
#[derive(Clone)]
pub(crate) struct SimStore(pub(crate) Seam);

impl SimStore {
    fn inner(&self) -> &MemoryStore {
        self.0.world.store()
    }
}

#[async_trait]
impl Store for SimStore {
    fn inserts_at_once(&self) -> usize {
        2
    }

    fn queue(&self) -> Option<Arc<dyn Queue>> {
        let queue = self.inner().queue()?;
        Some(Arc::new(SimQueue::new(self.0.clone(), queue)))
    }

    async fn insert_events(
        &self,
        events: &[Event],
        options: &InsertOptions,
        _: Now,
    ) -> Result<Insertion> {
        let operation = match options.on_conflict {
            OnConflict::Skip => "insert_events",
            OnConflict::Abort => "insert_events.batch",
        };
        let effect = async {
            if events.iter().any(crate::scenario::is_bad) {
                return Err(Error::new(ErrorKind::Rejected, operation));
            }
            let endpoints = self.0.world.takers(events);
            let insertion = self
                .inner()
                .insert_events(events, options, self.0.now())
                .await?;
            self.0
                .world
                .inserted(events, &insertion, options.on_conflict, endpoints);
            let claimed = &insertion.claimed;
            self.0.world.led(claimed, self.0.incarnation);
            Ok(insertion)
        };
        self.0.call(operation, effect).await
    }

    async fn insert_test(&self, event: &Event, endpoint: Uuid, _: Now) -> Result<Option<Job>> {
        let effect = async {
            let now = self.0.now();
            self.inner().insert_test(event, endpoint, now).await
        };
        self.0.call("insert_test", effect).await
    }

    async fn load(&self, leases: &[Lease], _: Now) -> Result<Vec<Loaded>> {
        let effect = async {
            if self.0.world.has_unreadable(leases) {
                return Err(Error::new(ErrorKind::Corrupt, "load"));
            }
            let loaded = self.inner().load(leases, self.0.now()).await?;
            self.0.world.loaded(&loaded);
            Ok(loaded)
        };
        self.0.call("load", effect).await
    }

    async fn record(&self, records: &[Record], _: Now) -> Result<Vec<Recorded>> {
        let operation = match records {
            [_] => "record.one",
            _ => "record.many",
        };
        let effect = async {
            if records.iter().any(crate::transport::is_unrecordable) {
                return Err(Error::new(ErrorKind::Rejected, operation));
            }
            let recorded = self.inner().record(records, self.0.now()).await?;
            self.0.world.recorded(records, &recorded);
            Ok(recorded)
        };
        let answer = self.0.call(operation, effect).await;
        if let Err(error) = &answer {
            self.0.world.not_recorded(records, error.is_retryable());
        }
        answer
    }

    async fn quarantine(&self, leases: &[Lease], _: Now) -> Result<()> {
        let effect = async {
            self.inner().quarantine(leases, self.0.now()).await?;
            self.0.world.quarantined(leases);
            Ok(())
        };
        self.0.call("quarantine", effect).await
    }

    async fn jobs(&self, deliveries: &[Uuid]) -> Result<Vec<Job>> {
        self.0.call("jobs", self.inner().jobs(deliveries)).await
    }

    async fn unqueued(&self, after: Option<Uuid>, limit: usize) -> Result<Vec<Job>> {
        self.0
            .call("unqueued", self.inner().unqueued(after, limit))
            .await
    }

    async fn overdue(&self, before: Timestamp, limit: usize) -> Result<Vec<Job>> {
        self.0
            .call("overdue", self.inner().overdue(before, limit))
            .await
    }

    async fn fills(&self) -> Result<Vec<Fill>> {
        self.0.call("fills", self.inner().fills()).await
    }

    async fn put_fills(&self, fills: &[Fill]) -> Result<Vec<String>> {
        self.0
            .call("put_fills", self.inner().put_fills(fills))
            .await
    }

    async fn ping(&self) -> Result<()> {
        self.0.call("ping", self.inner().ping()).await
    }

    async fn maintain(&self, retention: Duration, _: Now) -> Result<()> {
        self.0
            .call("maintain", async {
                self.inner().maintain(retention, self.0.now()).await
            })
            .await
    }

    async fn insert_endpoint(&self, endpoint: &Endpoint, most: usize) -> Result<bool> {
        self.0
            .call(
                "insert_endpoint",
                self.inner().insert_endpoint(endpoint, most),
            )
            .await
    }

    async fn update_endpoint(&self, endpoint: &Endpoint) -> Result<bool> {
        self.0
            .call("update_endpoint", self.inner().update_endpoint(endpoint))
            .await
    }

    async fn health(
        &self,
        scope: &Scope,
        endpoints: &[Uuid],
        _: Now,
    ) -> Result<Vec<(Uuid, Health)>> {
        self.0
            .call("health", async {
                let health = self.inner().health(scope, endpoints, self.0.now());
                health.await
            })
            .await
    }

    async fn vitals(&self, _: Now) -> Result<Vitals> {
        let vitals = async { self.inner().vitals(self.0.now()).await };
        self.0.call("vitals", vitals).await
    }

    async fn recover_endpoint(&self, scope: &Scope, id: Uuid) -> Result<bool> {
        self.0
            .call("recover_endpoint", self.inner().recover_endpoint(scope, id))
            .await
    }

    async fn delete_endpoint(&self, scope: &Scope, id: Uuid, _: Now) -> Result<bool> {
        self.0
            .call("delete_endpoint", async {
                self.inner().delete_endpoint(scope, id, self.0.now()).await
            })
            .await
    }

    async fn rekey(&self, page: PageRequest) -> Result<Rekeyed> {
        self.0
            .call("rekey", async { self.inner().rekey(page).await })
            .await
    }

    async fn endpoint(&self, scope: &Scope, id: Uuid) -> Result<Option<Endpoint>> {
        self.0
            .call("endpoint", self.inner().endpoint(scope, id))
            .await
    }

    async fn endpoints(
        &self,
        scope: &Scope,
        filter: &EndpointFilter,
        page: PageRequest,
    ) -> Result<Page<Endpoint>> {
        self.0
            .call("endpoints", self.inner().endpoints(scope, filter, page))
            .await
    }

    async fn event(&self, scope: &Scope, id: Uuid) -> Result<Option<Event>> {
        self.0.call("event", self.inner().event(scope, id)).await
    }

    async fn events(
        &self,
        scope: &Scope,
        filter: &EventFilter,
        page: PageRequest,
    ) -> Result<Page<Event>> {
        self.0
            .call("events", self.inner().events(scope, filter, page))
            .await
    }

    async fn delivery(&self, scope: &Scope, id: Uuid) -> Result<Option<Delivery>> {
        self.0
            .call("delivery", self.inner().delivery(scope, id))
            .await
    }

    async fn deliveries(
        &self,
        scope: &Scope,
        filter: &DeliveryFilter,
        page: PageRequest,
    ) -> Result<Page<Delivery>> {
        self.0
            .call("deliveries", self.inner().deliveries(scope, filter, page))
            .await
    }

    async fn attempts(&self, scope: &Scope, delivery: Uuid) -> Result<Vec<Attempt>> {
        self.0
            .call("attempts", self.inner().attempts(scope, delivery))
            .await
    }

    async fn replay_delivery(&self, scope: &Scope, delivery: Uuid, _: Now) -> Result<Changed<Job>> {
        self.0
            .call("replay_delivery", async {
                self.inner()
                    .replay_delivery(scope, delivery, self.0.now())
                    .await
            })
            .await
    }

    async fn replay_event(&self, scope: &Scope, event: Uuid, _: Now) -> Result<Changed<Vec<Job>>> {
        self.0
            .call("replay_event", async {
                self.inner().replay_event(scope, event, self.0.now()).await
            })
            .await
    }

    async fn cancel_delivery(&self, scope: &Scope, delivery: Uuid, _: Now) -> Result<Changed<()>> {
        let effect = async {
            let changed = self
                .inner()
                .cancel_delivery(scope, delivery, self.0.now())
                .await?;
            self.0.world.cancelled(delivery, &changed);
            Ok(changed)
        };
        self.0.call("cancel_delivery", effect).await
    }

    async fn insert_replay(&self, replay: &Replay, _: Now) -> Result<Replay> {
        let effect = async {
            let replay = self.inner().insert_replay(replay, self.0.now()).await?;
            self.0.world.replay_started(&replay);
            Ok(replay)
        };
        self.0.call("insert_replay", effect).await
    }

    async fn replay(&self, scope: &Scope, id: Uuid) -> Result<Option<Replay>> {
        self.0.call("replay", self.inner().replay(scope, id)).await
    }

    async fn replays(&self, scope: &Scope, page: PageRequest) -> Result<Page<Replay>> {
        self.0
            .call("replays", self.inner().replays(scope, page))
            .await
    }

    async fn cancel_replay(&self, scope: &Scope, id: Uuid, _: Now) -> Result<Changed<Replay>> {
        self.0
            .call("cancel_replay", async {
                self.inner().cancel_replay(scope, id, self.0.now()).await
            })
            .await
    }

    async fn scan_replay(
        &self,
        scope: &Scope,
        selection: &ReplaySelection,
        after: Option<Uuid>,
        limit: usize,
        _: Now,
    ) -> Result<ReplayScan> {
        let effect = async {
            let now = self.0.now();
            let store = self.inner();
            store.scan_replay(scope, selection, after, limit, now).await
        };
        self.0.call("scan_replay", effect).await
    }

    /// In small steps: there is little to replay.
    async fn step_replay(&self, limit: usize, _: Now) -> Result<ReplayStep> {
        let effect = async {
            let limit = limit.min(2);
            let step = self.inner().step_replay(limit, self.0.now()).await?;
            self.0.world.replay_stepped(&step);
            Ok(step)
        };
        self.0.call("step_replay", effect).await
    }

    async fn append_stats(&self, rows: &[StatsRow]) -> Result<()> {
        self.0
            .call("append_stats", self.inner().append_stats(rows))
            .await
    }

    async fn stats(&self, scope: &Scope, query: &StatsQuery) -> Result<Rollup> {
        self.0.call("stats", self.inner().stats(scope, query)).await
    }

    async fn put_event_type(&self, entry: &CatalogueEntry) -> Result<CatalogueEntry> {
        self.0
            .call("put_event_type", self.inner().put_event_type(entry))
            .await
    }

    async fn event_type(&self, name: &EventType) -> Result<Option<CatalogueEntry>> {
        self.0
            .call("event_type", self.inner().event_type(name))
            .await
    }

    async fn event_types(&self, page: PageRequest) -> Result<Page<CatalogueEntry>> {
        self.0
            .call("event_types", self.inner().event_types(page))
            .await
    }

    async fn schemas(&self, known: i64) -> Result<Option<Schemas>> {
        self.0.call("schemas", self.inner().schemas(known)).await
    }

    async fn append_audit(&self, entry: &AuditEntry) -> Result<()> {
        self.0
            .call("append_audit", self.inner().append_audit(entry))
            .await
    }

    async fn audit(
        &self,
        scope: &Scope,
        filter: &AuditFilter,
        page: PageRequest,
    ) -> Result<Page<AuditEntry>> {
        self.0
            .call("audit", self.inner().audit(scope, filter, page))
            .await
    }

    async fn erase_tenant(&self, tenant: &Tenant, _: Now) -> Result<()> {
        let erase = self.inner().erase_tenant(tenant, self.0.now());
        self.0.call("erase_tenant", erase).await
    }

    async fn step_erasure(&self, limit: usize, _: Now) -> Result<ErasureStep> {
        let step = self.inner().step_erasure(limit, self.0.now());
        self.0.call("step_erasure", step).await
    }

    async fn put_process(&self, process: &Process, _: Now) -> Result<()> {
        let put = self.inner().put_process(process, self.0.now());
        self.0.call("put_process", put).await
    }

    async fn remove_process(&self, id: Uuid) -> Result<()> {
        let remove = self.inner().remove_process(id);
        self.0.call("remove_process", remove).await
    }

    async fn processes(&self, _: Now) -> Result<Vec<Process>> {
        let processes = self.inner().processes(self.0.now());
        self.0.call("processes", processes).await
    }

    async fn backlog(&self, scope: &Scope, endpoint: Uuid, _: Now) -> Result<Option<Backlog>> {
        let backlog = self.inner().backlog(scope, endpoint, self.0.now());
        self.0.call("backlog", backlog).await
    }
}

#[async_trait]
impl TxStore for SimStore {
    type Connection = MemoryTx;

    async fn insert_events_in(
        &self,
        tx: &mut MemoryTx,
        events: &[Event],
        _: Now,
    ) -> Result<Insertion> {
        let effect = async {
            let insertion = self
                .inner()
                .insert_events_in(tx, events, self.0.now())
                .await?;
            self.0.world.begun(events);
            Ok(insertion)
        };
        self.0.call("insert_events_in", effect).await
    }

    async fn schemas_in(&self, tx: &mut MemoryTx, known: i64) -> Result<Option<Schemas>> {
        self.0
            .call("schemas_in", self.inner().schemas_in(tx, known))
            .await
    }
}

/// A process's connection to a queue, the store's own or one beside it.
pub(crate) struct SimQueue {
    seam: Seam,
    inner: Arc<dyn Queue>,
}

impl SimQueue {
    pub(crate) fn new(seam: Seam, inner: Arc<dyn Queue>) -> Self {
        Self { seam, inner }
    }
}

#[async_trait]
impl Queue for SimQueue {
    async fn push(&self, jobs: &[Job], _: Now) -> Result<()> {
        let effect = async {
            self.seam.world.pushed(jobs);
            self.inner.push(jobs, self.seam.now()).await
        };
        self.seam.call("push", effect).await
    }

    async fn claim(&self, options: ClaimOptions, _: Now) -> Result<Claimed> {
        let effect = async {
            let claimed = self.inner.claim(options, self.seam.now()).await?;
            self.seam
                .world
                .claimed(&claimed.leases, self.seam.incarnation);
            Ok(claimed)
        };
        self.seam.call("claim", effect).await
    }

    async fn extend(&self, leases: &[Lease], by: Duration, _: Now) -> Result<Vec<Lease>> {
        let effect = async {
            let extended = self.inner.extend(leases, by, self.seam.now()).await?;
            self.seam.world.extended(&extended);
            Ok(extended)
        };
        self.seam.call("extend", effect).await
    }

    async fn settle(&self, settled: &[(Lease, Settle)], _: Now) -> Result<()> {
        let unused = settled
            .iter()
            .all(|(_, how)| matches!(how, Settle::Unused(_)));
        let operation = if unused { "settle.unused" } else { "settle" };
        let effect = async {
            self.seam.world.settled(settled);
            let answer = self.inner.settle(settled, self.seam.now()).await;
            self.seam
                .world
                .observe(settled.iter().map(|(lease, _)| lease.delivery));
            answer
        };
        self.seam.call(operation, effect).await
    }

    async fn hold(&self, lane: Uuid, hold: Hold, _: Now) -> Result<()> {
        self.seam
            .call("hold", async {
                self.inner.hold(lane, hold, self.seam.now()).await
            })
            .await
    }

    async fn release(&self, lane: Uuid) -> Result<()> {
        let effect = async {
            self.seam.world.released(lane);
            self.inner.release(lane).await
        };
        self.seam.call("release", effect).await
    }

    /// It may return early: that is all that a failure is here.
    async fn ready(&self) {
        if self.seam.pass("ready", Side::Before, true).await.is_ok() {
            self.inner.ready().await;
        }
        self.seam.pass("ready", Side::After, false).await.ok();
    }

    async fn parts(&self) -> Result<Vec<QueuePart>> {
        self.seam.call("parts", self.inner.parts()).await
    }

    fn part_of(&self, lane: Uuid) -> usize {
        self.inner.part_of(lane)
    }

    async fn depth(&self, _: Now) -> Result<Depth> {
        self.seam
            .call("depth", async { self.inner.depth(self.seam.now()).await })
            .await
    }
}

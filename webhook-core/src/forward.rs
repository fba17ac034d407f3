//! Stores that pass every call on: behind an `Arc`, to measure it, and for tests with something before it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use crate::audit::{AuditEntry, AuditFilter};
use crate::catalogue::{CatalogueEntry, Schemas};
use crate::delivery::{Attempt, Delivery};
use crate::dispatcher::MeteredStore;
use crate::endpoint::Endpoint;
use crate::erasure::ErasureStep;
use crate::error::Result;
use crate::event::{Event, EventType};
use crate::health::Health;
use crate::process::Process;
use crate::queue::{Job, Lease, Queue};
use crate::replay::{Replay, ReplayScan, ReplaySelection, ReplayStep};
use crate::stats::{Rollup, StatsQuery, StatsRow};
use crate::store::{
    Backlog, Changed, DeliveryFilter, EndpointFilter, EventFilter, Fill, InsertOptions, Insertion,
    Loaded, Record, Recorded, Rekeyed, Store, TxStore, Vitals,
};
use crate::tenant::{Page, PageRequest, Scope, Tenant};
use crate::time::{Now, Timestamp};

/// Implements [`Store`] for a type that derefs to one. Each call but `queue` and `inserts_at_once` goes through
/// `$through(self, operation, call)`, where `call` is the future of the store behind.
macro_rules! forward_store {
    ([$($generics:tt)*] $type:ty => $inner:ty, $through:path) => {
        #[async_trait]
        impl<$($generics)*> Store for $type {
            fn queue(&self) -> Option<Arc<dyn Queue>> {
                <$inner as Store>::queue(self)
            }

            fn inserts_at_once(&self) -> usize {
                <$inner as Store>::inserts_at_once(self)
            }

            async fn insert_events(&self, events: &[Event], options: &InsertOptions, now: Now) -> Result<Insertion> {
                $through(self, "insert_events", <$inner as Store>::insert_events(self, events, options, now)).await
            }

            async fn insert_test(&self, event: &Event, endpoint: Uuid, now: Now) -> Result<Option<Job>> {
                $through(self, "insert_test", <$inner as Store>::insert_test(self, event, endpoint, now)).await
            }

            async fn load(&self, leases: &[Lease], now: Now) -> Result<Vec<Loaded>> {
                $through(self, "load", <$inner as Store>::load(self, leases, now)).await
            }

            async fn record(&self, records: &[Record], now: Now) -> Result<Vec<Recorded>> {
                $through(self, "record", <$inner as Store>::record(self, records, now)).await
            }

            async fn quarantine(&self, leases: &[Lease], now: Now) -> Result<()> {
                $through(self, "quarantine", <$inner as Store>::quarantine(self, leases, now)).await
            }

            async fn jobs(&self, deliveries: &[Uuid]) -> Result<Vec<Job>> {
                $through(self, "jobs", <$inner as Store>::jobs(self, deliveries)).await
            }

            async fn unqueued(&self, after: Option<Uuid>, limit: usize) -> Result<Vec<Job>> {
                $through(self, "unqueued", <$inner as Store>::unqueued(self, after, limit)).await
            }

            async fn overdue(&self, before: Timestamp, limit: usize) -> Result<Vec<Job>> {
                $through(self, "overdue", <$inner as Store>::overdue(self, before, limit)).await
            }

            async fn fills(&self) -> Result<Vec<Fill>> {
                $through(self, "fills", <$inner as Store>::fills(self)).await
            }

            async fn put_fills(&self, fills: &[Fill]) -> Result<Vec<String>> {
                $through(self, "put_fills", <$inner as Store>::put_fills(self, fills)).await
            }

            async fn ping(&self) -> Result<()> {
                $through(self, "ping", <$inner as Store>::ping(self)).await
            }

            async fn vitals(&self, now: Now) -> Result<Vitals> {
                $through(self, "vitals", <$inner as Store>::vitals(self, now)).await
            }

            async fn maintain(&self, retention: Duration, now: Now) -> Result<()> {
                $through(self, "maintain", <$inner as Store>::maintain(self, retention, now)).await
            }

            async fn insert_endpoint(&self, endpoint: &Endpoint, most: usize) -> Result<bool> {
                $through(self, "insert_endpoint", <$inner as Store>::insert_endpoint(self, endpoint, most)).await
            }

            async fn update_endpoint(&self, endpoint: &Endpoint) -> Result<bool> {
                $through(self, "update_endpoint", <$inner as Store>::update_endpoint(self, endpoint)).await
            }

            async fn health(&self, scope: &Scope, endpoints: &[Uuid], now: Now) -> Result<Vec<(Uuid, Health)>> {
                $through(self, "health", <$inner as Store>::health(self, scope, endpoints, now)).await
            }

            async fn recover_endpoint(&self, scope: &Scope, id: Uuid) -> Result<bool> {
                $through(self, "recover_endpoint", <$inner as Store>::recover_endpoint(self, scope, id)).await
            }

            async fn delete_endpoint(&self, scope: &Scope, id: Uuid, now: Now) -> Result<bool> {
                $through(self, "delete_endpoint", <$inner as Store>::delete_endpoint(self, scope, id, now)).await
            }

            async fn rekey(&self, page: PageRequest) -> Result<Rekeyed> {
                $through(self, "rekey", <$inner as Store>::rekey(self, page)).await
            }

            async fn endpoint(&self, scope: &Scope, id: Uuid) -> Result<Option<Endpoint>> {
                $through(self, "endpoint", <$inner as Store>::endpoint(self, scope, id)).await
            }

            async fn endpoints(&self, scope: &Scope, filter: &EndpointFilter, page: PageRequest) -> Result<Page<Endpoint>> {
                $through(self, "endpoints", <$inner as Store>::endpoints(self, scope, filter, page)).await
            }

            async fn event(&self, scope: &Scope, id: Uuid) -> Result<Option<Event>> {
                $through(self, "event", <$inner as Store>::event(self, scope, id)).await
            }

            async fn events(&self, scope: &Scope, filter: &EventFilter, page: PageRequest) -> Result<Page<Event>> {
                $through(self, "events", <$inner as Store>::events(self, scope, filter, page)).await
            }

            async fn delivery(&self, scope: &Scope, id: Uuid) -> Result<Option<Delivery>> {
                $through(self, "delivery", <$inner as Store>::delivery(self, scope, id)).await
            }

            async fn deliveries(&self, scope: &Scope, filter: &DeliveryFilter, page: PageRequest) -> Result<Page<Delivery>> {
                $through(self, "deliveries", <$inner as Store>::deliveries(self, scope, filter, page)).await
            }

            async fn attempts(&self, scope: &Scope, delivery: Uuid) -> Result<Vec<Attempt>> {
                $through(self, "attempts", <$inner as Store>::attempts(self, scope, delivery)).await
            }

            async fn replay_delivery(&self, scope: &Scope, delivery: Uuid, now: Now) -> Result<Changed<Job>> {
                $through(self, "replay_delivery", <$inner as Store>::replay_delivery(self, scope, delivery, now)).await
            }

            async fn replay_event(&self, scope: &Scope, event: Uuid, now: Now) -> Result<Changed<Vec<Job>>> {
                $through(self, "replay_event", <$inner as Store>::replay_event(self, scope, event, now)).await
            }

            async fn cancel_delivery(&self, scope: &Scope, delivery: Uuid, now: Now) -> Result<Changed<()>> {
                $through(self, "cancel_delivery", <$inner as Store>::cancel_delivery(self, scope, delivery, now)).await
            }

            async fn insert_replay(&self, replay: &Replay, now: Now) -> Result<Replay> {
                $through(self, "insert_replay", <$inner as Store>::insert_replay(self, replay, now)).await
            }

            async fn replay(&self, scope: &Scope, id: Uuid) -> Result<Option<Replay>> {
                $through(self, "replay", <$inner as Store>::replay(self, scope, id)).await
            }

            async fn replays(&self, scope: &Scope, page: PageRequest) -> Result<Page<Replay>> {
                $through(self, "replays", <$inner as Store>::replays(self, scope, page)).await
            }

            async fn cancel_replay(&self, scope: &Scope, id: Uuid, now: Now) -> Result<Changed<Replay>> {
                $through(self, "cancel_replay", <$inner as Store>::cancel_replay(self, scope, id, now)).await
            }

            async fn scan_replay(
                &self,
                scope: &Scope,
                selection: &ReplaySelection,
                after: Option<Uuid>,
                limit: usize,
                now: Now,
            ) -> Result<ReplayScan> {
                $through(self, "scan_replay", <$inner as Store>::scan_replay(self, scope, selection, after, limit, now)).await
            }

            async fn step_replay(&self, limit: usize, now: Now) -> Result<ReplayStep> {
                $through(self, "step_replay", <$inner as Store>::step_replay(self, limit, now)).await
            }

            async fn append_stats(&self, rows: &[StatsRow]) -> Result<()> {
                $through(self, "append_stats", <$inner as Store>::append_stats(self, rows)).await
            }

            async fn stats(&self, scope: &Scope, query: &StatsQuery) -> Result<Rollup> {
                $through(self, "stats", <$inner as Store>::stats(self, scope, query)).await
            }

            async fn put_event_type(&self, entry: &CatalogueEntry) -> Result<CatalogueEntry> {
                $through(self, "put_event_type", <$inner as Store>::put_event_type(self, entry)).await
            }

            async fn event_type(&self, name: &EventType) -> Result<Option<CatalogueEntry>> {
                $through(self, "event_type", <$inner as Store>::event_type(self, name)).await
            }

            async fn event_types(&self, page: PageRequest) -> Result<Page<CatalogueEntry>> {
                $through(self, "event_types", <$inner as Store>::event_types(self, page)).await
            }

            async fn schemas(&self, known: i64) -> Result<Option<Schemas>> {
                $through(self, "schemas", <$inner as Store>::schemas(self, known)).await
            }

            async fn append_audit(&self, entry: &AuditEntry) -> Result<()> {
                $through(self, "append_audit", <$inner as Store>::append_audit(self, entry)).await
            }

            async fn audit(&self, scope: &Scope, filter: &AuditFilter, page: PageRequest) -> Result<Page<AuditEntry>> {
                $through(self, "audit", <$inner as Store>::audit(self, scope, filter, page)).await
            }

            async fn erase_tenant(&self, tenant: &Tenant, now: Now) -> Result<()> {
                $through(self, "erase_tenant", <$inner as Store>::erase_tenant(self, tenant, now)).await
            }

            async fn step_erasure(&self, limit: usize, now: Now) -> Result<ErasureStep> {
                $through(self, "step_erasure", <$inner as Store>::step_erasure(self, limit, now)).await
            }

            async fn put_process(&self, process: &Process, now: Now) -> Result<()> {
                $through(self, "put_process", <$inner as Store>::put_process(self, process, now)).await
            }

            async fn remove_process(&self, id: Uuid) -> Result<()> {
                $through(self, "remove_process", <$inner as Store>::remove_process(self, id)).await
            }

            async fn processes(&self, now: Now) -> Result<Vec<Process>> {
                $through(self, "processes", <$inner as Store>::processes(self, now)).await
            }

            async fn backlog(&self, scope: &Scope, endpoint: Uuid, now: Now) -> Result<Option<Backlog>> {
                $through(self, "backlog", <$inner as Store>::backlog(self, scope, endpoint, now)).await
            }
        }
    };
}

forward_store! { [T: Store + ?Sized] Arc<T> => T, plainly }

#[async_trait]
impl<T: TxStore + ?Sized> TxStore for Arc<T> {
    type Connection = T::Connection;

    async fn insert_events_in(
        &self,
        tx: &mut T::Connection,
        events: &[Event],
        now: Now,
    ) -> Result<Insertion> {
        T::insert_events_in(self, tx, events, now).await
    }

    async fn schemas_in(&self, tx: &mut T::Connection, known: i64) -> Result<Option<Schemas>> {
        T::schemas_in(self, tx, known).await
    }
}

fn plainly<S: ?Sized, F>(_: &S, _operation: &'static str, call: F) -> F {
    call
}

forward_store! { [S: Store] MeteredStore<S> => S, MeteredStore::call }

#[cfg(any(test, feature = "testing"))]
forward_store! { [S: Store] crate::testing::Intercepted<S> => S, crate::testing::Intercepted::call }

//! Stores that pass every call on: behind an `Arc`, and for tests with something before each call.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use crate::audit::{AuditEntry, AuditFilter};
use crate::catalogue::{CatalogueEntry, Schemas};
use crate::delivery::{Attempt, Delivery};
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
    Backlog, Changed, DeliveryFilter, EventFilter, Fill, InsertOptions, Insertion, Loaded, Record,
    Recorded, Rekeyed, Store, TxStore,
};
use crate::tenant::{Page, PageRequest, Scope, Tenant};
use crate::time::{Now, Timestamp};

/// Implements [`Store`] for a type that derefs to one. With `before`, `self.before(operation).await?` runs
/// ahead of each call but `queue`.
macro_rules! forward_store {
    ([$($generics:tt)*] $type:ty => $inner:ty $(, $before:ident)?) => {
        #[async_trait]
        impl<$($generics)*> Store for $type {
            fn queue(&self) -> Option<Arc<dyn Queue>> {
                <$inner as Store>::queue(self)
            }

            async fn insert_events(&self, events: &[Event], options: &InsertOptions, now: Now) -> Result<Insertion> {
                $(self.$before("insert_events").await?;)?
                <$inner as Store>::insert_events(self, events, options, now).await
            }

            async fn insert_test(&self, event: &Event, endpoint: Uuid, now: Now) -> Result<Option<Job>> {
                $(self.$before("insert_test").await?;)?
                <$inner as Store>::insert_test(self, event, endpoint, now).await
            }

            async fn load(&self, leases: &[Lease], now: Now) -> Result<Vec<Loaded>> {
                $(self.$before("load").await?;)?
                <$inner as Store>::load(self, leases, now).await
            }

            async fn record(&self, records: &[Record], now: Now) -> Result<Vec<Recorded>> {
                $(self.$before("record").await?;)?
                <$inner as Store>::record(self, records, now).await
            }

            async fn quarantine(&self, leases: &[Lease], now: Now) -> Result<()> {
                $(self.$before("quarantine").await?;)?
                <$inner as Store>::quarantine(self, leases, now).await
            }

            async fn jobs(&self, deliveries: &[Uuid]) -> Result<Vec<Job>> {
                $(self.$before("jobs").await?;)?
                <$inner as Store>::jobs(self, deliveries).await
            }

            async fn unqueued(&self, after: Option<Uuid>, limit: usize) -> Result<Vec<Job>> {
                $(self.$before("unqueued").await?;)?
                <$inner as Store>::unqueued(self, after, limit).await
            }

            async fn overdue(&self, before: Timestamp, limit: usize) -> Result<Vec<Job>> {
                $(self.$before("overdue").await?;)?
                <$inner as Store>::overdue(self, before, limit).await
            }

            async fn fills(&self) -> Result<Vec<Fill>> {
                $(self.$before("fills").await?;)?
                <$inner as Store>::fills(self).await
            }

            async fn put_fills(&self, fills: &[Fill]) -> Result<Vec<String>> {
                $(self.$before("put_fills").await?;)?
                <$inner as Store>::put_fills(self, fills).await
            }

            async fn ping(&self) -> Result<()> {
                $(self.$before("ping").await?;)?
                <$inner as Store>::ping(self).await
            }

            async fn maintain(&self, retention: Duration, now: Now) -> Result<()> {
                $(self.$before("maintain").await?;)?
                <$inner as Store>::maintain(self, retention, now).await
            }

            async fn insert_endpoint(&self, endpoint: &Endpoint) -> Result<()> {
                $(self.$before("insert_endpoint").await?;)?
                <$inner as Store>::insert_endpoint(self, endpoint).await
            }

            async fn update_endpoint(&self, endpoint: &Endpoint) -> Result<bool> {
                $(self.$before("update_endpoint").await?;)?
                <$inner as Store>::update_endpoint(self, endpoint).await
            }

            async fn health(&self, scope: &Scope, endpoints: &[Uuid], now: Now) -> Result<Vec<(Uuid, Health)>> {
                $(self.$before("health").await?;)?
                <$inner as Store>::health(self, scope, endpoints, now).await
            }

            async fn recover_endpoint(&self, scope: &Scope, id: Uuid) -> Result<bool> {
                $(self.$before("recover_endpoint").await?;)?
                <$inner as Store>::recover_endpoint(self, scope, id).await
            }

            async fn delete_endpoint(&self, scope: &Scope, id: Uuid, now: Now) -> Result<bool> {
                $(self.$before("delete_endpoint").await?;)?
                <$inner as Store>::delete_endpoint(self, scope, id, now).await
            }

            async fn rekey(&self, page: PageRequest) -> Result<Rekeyed> {
                $(self.$before("rekey").await?;)?
                <$inner as Store>::rekey(self, page).await
            }

            async fn endpoint(&self, scope: &Scope, id: Uuid) -> Result<Option<Endpoint>> {
                $(self.$before("endpoint").await?;)?
                <$inner as Store>::endpoint(self, scope, id).await
            }

            async fn endpoints(&self, scope: &Scope, page: PageRequest) -> Result<Page<Endpoint>> {
                $(self.$before("endpoints").await?;)?
                <$inner as Store>::endpoints(self, scope, page).await
            }

            async fn event(&self, scope: &Scope, id: Uuid) -> Result<Option<Event>> {
                $(self.$before("event").await?;)?
                <$inner as Store>::event(self, scope, id).await
            }

            async fn events(&self, scope: &Scope, filter: &EventFilter, page: PageRequest) -> Result<Page<Event>> {
                $(self.$before("events").await?;)?
                <$inner as Store>::events(self, scope, filter, page).await
            }

            async fn delivery(&self, scope: &Scope, id: Uuid) -> Result<Option<Delivery>> {
                $(self.$before("delivery").await?;)?
                <$inner as Store>::delivery(self, scope, id).await
            }

            async fn deliveries(&self, scope: &Scope, filter: &DeliveryFilter, page: PageRequest) -> Result<Page<Delivery>> {
                $(self.$before("deliveries").await?;)?
                <$inner as Store>::deliveries(self, scope, filter, page).await
            }

            async fn attempts(&self, scope: &Scope, delivery: Uuid) -> Result<Vec<Attempt>> {
                $(self.$before("attempts").await?;)?
                <$inner as Store>::attempts(self, scope, delivery).await
            }

            async fn replay_delivery(&self, scope: &Scope, delivery: Uuid, now: Now) -> Result<Changed<Job>> {
                $(self.$before("replay_delivery").await?;)?
                <$inner as Store>::replay_delivery(self, scope, delivery, now).await
            }

            async fn replay_event(&self, scope: &Scope, event: Uuid, now: Now) -> Result<Changed<Vec<Job>>> {
                $(self.$before("replay_event").await?;)?
                <$inner as Store>::replay_event(self, scope, event, now).await
            }

            async fn cancel_delivery(&self, scope: &Scope, delivery: Uuid, now: Now) -> Result<Changed<()>> {
                $(self.$before("cancel_delivery").await?;)?
                <$inner as Store>::cancel_delivery(self, scope, delivery, now).await
            }

            async fn insert_replay(&self, replay: &Replay, now: Now) -> Result<Replay> {
                $(self.$before("insert_replay").await?;)?
                <$inner as Store>::insert_replay(self, replay, now).await
            }

            async fn replay(&self, scope: &Scope, id: Uuid) -> Result<Option<Replay>> {
                $(self.$before("replay").await?;)?
                <$inner as Store>::replay(self, scope, id).await
            }

            async fn replays(&self, scope: &Scope, page: PageRequest) -> Result<Page<Replay>> {
                $(self.$before("replays").await?;)?
                <$inner as Store>::replays(self, scope, page).await
            }

            async fn cancel_replay(&self, scope: &Scope, id: Uuid, now: Now) -> Result<Changed<Replay>> {
                $(self.$before("cancel_replay").await?;)?
                <$inner as Store>::cancel_replay(self, scope, id, now).await
            }

            async fn scan_replay(
                &self,
                scope: &Scope,
                selection: &ReplaySelection,
                after: Option<Uuid>,
                limit: usize,
                now: Now,
            ) -> Result<ReplayScan> {
                $(self.$before("scan_replay").await?;)?
                <$inner as Store>::scan_replay(self, scope, selection, after, limit, now).await
            }

            async fn step_replay(&self, limit: usize, now: Now) -> Result<ReplayStep> {
                $(self.$before("step_replay").await?;)?
                <$inner as Store>::step_replay(self, limit, now).await
            }

            async fn append_stats(&self, rows: &[StatsRow]) -> Result<()> {
                $(self.$before("append_stats").await?;)?
                <$inner as Store>::append_stats(self, rows).await
            }

            async fn stats(&self, scope: &Scope, query: &StatsQuery) -> Result<Rollup> {
                $(self.$before("stats").await?;)?
                <$inner as Store>::stats(self, scope, query).await
            }

            async fn put_event_type(&self, entry: &CatalogueEntry) -> Result<CatalogueEntry> {
                $(self.$before("put_event_type").await?;)?
                <$inner as Store>::put_event_type(self, entry).await
            }

            async fn event_type(&self, name: &EventType) -> Result<Option<CatalogueEntry>> {
                $(self.$before("event_type").await?;)?
                <$inner as Store>::event_type(self, name).await
            }

            async fn event_types(&self, page: PageRequest) -> Result<Page<CatalogueEntry>> {
                $(self.$before("event_types").await?;)?
                <$inner as Store>::event_types(self, page).await
            }

            async fn schemas(&self, known: i64) -> Result<Option<Schemas>> {
                $(self.$before("schemas").await?;)?
                <$inner as Store>::schemas(self, known).await
            }

            async fn append_audit(&self, entry: &AuditEntry) -> Result<()> {
                $(self.$before("append_audit").await?;)?
                <$inner as Store>::append_audit(self, entry).await
            }

            async fn audit(&self, scope: &Scope, filter: &AuditFilter, page: PageRequest) -> Result<Page<AuditEntry>> {
                $(self.$before("audit").await?;)?
                <$inner as Store>::audit(self, scope, filter, page).await
            }

            async fn erase_tenant(&self, tenant: &Tenant, now: Now) -> Result<()> {
                $(self.$before("erase_tenant").await?;)?
                <$inner as Store>::erase_tenant(self, tenant, now).await
            }

            async fn step_erasure(&self, limit: usize, now: Now) -> Result<ErasureStep> {
                $(self.$before("step_erasure").await?;)?
                <$inner as Store>::step_erasure(self, limit, now).await
            }

            async fn put_process(&self, process: &Process, now: Now) -> Result<()> {
                $(self.$before("put_process").await?;)?
                <$inner as Store>::put_process(self, process, now).await
            }

            async fn remove_process(&self, id: Uuid) -> Result<()> {
                $(self.$before("remove_process").await?;)?
                <$inner as Store>::remove_process(self, id).await
            }

            async fn processes(&self, now: Now) -> Result<Vec<Process>> {
                $(self.$before("processes").await?;)?
                <$inner as Store>::processes(self, now).await
            }

            async fn backlog(&self, scope: &Scope, endpoint: Uuid, now: Now) -> Result<Option<Backlog>> {
                $(self.$before("backlog").await?;)?
                <$inner as Store>::backlog(self, scope, endpoint, now).await
            }
        }
    };
}

forward_store! { [T: Store + ?Sized] Arc<T> => T }

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

#[cfg(any(test, feature = "testing"))]
forward_store! { [S: Store] crate::testing::Intercepted<S> => S, before }

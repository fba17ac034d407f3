//! A store or a queue that fails: 503, and never 500.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use http::Method;
use serde_json::json;
use uuid::Uuid;
use webhook_axum::{Auth, AuthRejection, Authorizer, Identity};
use webhook_core::testing::{Intercepted, ScriptedTransport};
use webhook_core::{
    Attempt, AuditEntry, AuditFilter, Backlog, CatalogueEntry, Changed, ClaimOptions, Claimed,
    Delivery, DeliveryFilter, Depth, Dispatcher, Endpoint, EndpointFilter, ErasureStep, Error,
    ErrorKind, Event, EventFilter, EventType, Fill, Health, Hold, InsertOptions, Insertion, Job,
    Lease, Loaded, MemoryStore, Now, Page, PageRequest, Process, Queue, QueuePart, Record,
    Recorded, Rekeyed, Replay, ReplayScan, ReplaySelection, ReplayStep, Result, Rollup, Schemas,
    Scope, Settle, StatsQuery, StatsRow, Store, Tenant, Timestamp, Vitals,
};

use crate::support::{ROUTES, send};

/// A store whose every call fails in one way.
struct Broken(ErrorKind);

fn failure<T>(kind: ErrorKind) -> Result<T> {
    Err(Error::new(kind, "test").with_source("password=s3cret"))
}

#[async_trait]
impl Store for Broken {
    fn inserts_at_once(&self) -> usize {
        1
    }

    async fn insert_events(&self, _: &[Event], _: &InsertOptions, _: Now) -> Result<Insertion> {
        failure(self.0)
    }

    async fn insert_test(&self, _: &Event, _: Uuid, _: Now) -> Result<Option<Job>> {
        failure(self.0)
    }

    async fn load(&self, _: &[Lease], _: Now) -> Result<Vec<Loaded>> {
        failure(self.0)
    }

    async fn record(&self, _: &[Record], _: Now) -> Result<Vec<Recorded>> {
        failure(self.0)
    }

    async fn quarantine(&self, _: &[Lease], _: Now) -> Result<()> {
        failure(self.0)
    }

    async fn jobs(&self, _: &[Uuid]) -> Result<Vec<Job>> {
        failure(self.0)
    }

    async fn unqueued(&self, _: Option<Uuid>, _: usize) -> Result<Vec<Job>> {
        failure(self.0)
    }

    async fn overdue(&self, _: Timestamp, _: usize) -> Result<Vec<Job>> {
        failure(self.0)
    }

    async fn fills(&self) -> Result<Vec<Fill>> {
        failure(self.0)
    }

    async fn put_fills(&self, _: &[Fill]) -> Result<Vec<String>> {
        failure(self.0)
    }

    fn queue(&self) -> Option<Arc<dyn Queue>> {
        Some(Arc::new(BrokenQueue))
    }

    async fn ping(&self) -> Result<()> {
        failure(self.0)
    }

    async fn maintain(&self, _: std::time::Duration, _: Now) -> Result<()> {
        failure(self.0)
    }

    async fn insert_endpoint(&self, _: &Endpoint, _: usize) -> Result<bool> {
        failure(self.0)
    }

    async fn update_endpoint(&self, _: &Endpoint) -> Result<bool> {
        failure(self.0)
    }

    async fn health(&self, _: &Scope, _: &[Uuid], _: Now) -> Result<Vec<(Uuid, Health)>> {
        failure(self.0)
    }

    async fn vitals(&self, _: Now) -> Result<Vitals> {
        failure(self.0)
    }

    async fn recover_endpoint(&self, _: &Scope, _: Uuid) -> Result<bool> {
        failure(self.0)
    }

    async fn delete_endpoint(&self, _: &Scope, _: Uuid, _: Now) -> Result<bool> {
        failure(self.0)
    }

    async fn rekey(&self, _: PageRequest) -> Result<Rekeyed> {
        failure(self.0)
    }

    async fn endpoint(&self, _: &Scope, _: Uuid) -> Result<Option<Endpoint>> {
        failure(self.0)
    }

    async fn endpoints(
        &self,
        _: &Scope,
        _: &EndpointFilter,
        _: PageRequest,
    ) -> Result<Page<Endpoint>> {
        failure(self.0)
    }

    async fn event(&self, _: &Scope, _: Uuid) -> Result<Option<Event>> {
        failure(self.0)
    }

    async fn events(&self, _: &Scope, _: &EventFilter, _: PageRequest) -> Result<Page<Event>> {
        failure(self.0)
    }

    async fn delivery(&self, _: &Scope, _: Uuid) -> Result<Option<Delivery>> {
        failure(self.0)
    }

    async fn deliveries(
        &self,
        _: &Scope,
        _: &DeliveryFilter,
        _: PageRequest,
    ) -> Result<Page<Delivery>> {
        failure(self.0)
    }

    async fn attempts(&self, _: &Scope, _: Uuid) -> Result<Vec<Attempt>> {
        failure(self.0)
    }

    async fn replay_delivery(&self, _: &Scope, _: Uuid, _: Now) -> Result<Changed<Job>> {
        failure(self.0)
    }

    async fn replay_event(&self, _: &Scope, _: Uuid, _: Now) -> Result<Changed<Vec<Job>>> {
        failure(self.0)
    }

    async fn cancel_delivery(&self, _: &Scope, _: Uuid, _: Now) -> Result<Changed<()>> {
        failure(self.0)
    }

    async fn insert_replay(&self, _: &Replay, _: Now) -> Result<Replay> {
        failure(self.0)
    }

    async fn replay(&self, _: &Scope, _: Uuid) -> Result<Option<Replay>> {
        failure(self.0)
    }

    async fn replays(&self, _: &Scope, _: PageRequest) -> Result<Page<Replay>> {
        failure(self.0)
    }

    async fn cancel_replay(&self, _: &Scope, _: Uuid, _: Now) -> Result<Changed<Replay>> {
        failure(self.0)
    }

    async fn scan_replay(
        &self,
        _: &Scope,
        _: &ReplaySelection,
        _: Option<Uuid>,
        _: usize,
        _: Now,
    ) -> Result<ReplayScan> {
        failure(self.0)
    }

    async fn step_replay(&self, _: usize, _: Now) -> Result<ReplayStep> {
        failure(self.0)
    }

    async fn append_stats(&self, _: &[StatsRow]) -> Result<()> {
        failure(self.0)
    }

    async fn stats(&self, _: &Scope, _: &StatsQuery) -> Result<Rollup> {
        failure(self.0)
    }

    async fn put_event_type(&self, _: &CatalogueEntry) -> Result<CatalogueEntry> {
        failure(self.0)
    }

    async fn event_type(&self, _: &EventType) -> Result<Option<CatalogueEntry>> {
        failure(self.0)
    }

    async fn event_types(&self, _: PageRequest) -> Result<Page<CatalogueEntry>> {
        failure(self.0)
    }

    async fn schemas(&self, _: i64) -> Result<Option<Schemas>> {
        failure(self.0)
    }

    async fn append_audit(&self, _: &AuditEntry) -> Result<()> {
        failure(self.0)
    }

    async fn audit(&self, _: &Scope, _: &AuditFilter, _: PageRequest) -> Result<Page<AuditEntry>> {
        failure(self.0)
    }

    async fn erase_tenant(&self, _: &Tenant, _: Now) -> Result<()> {
        failure(self.0)
    }

    async fn step_erasure(&self, _: usize, _: Now) -> Result<ErasureStep> {
        failure(self.0)
    }

    async fn put_process(&self, _: &Process, _: Now) -> Result<()> {
        failure(self.0)
    }

    async fn remove_process(&self, _: Uuid) -> Result<()> {
        failure(self.0)
    }

    async fn processes(&self, _: Now) -> Result<Vec<Process>> {
        failure(self.0)
    }

    async fn backlog(&self, _: &Scope, _: Uuid, _: Now) -> Result<Option<Backlog>> {
        failure(self.0)
    }
}

/// A queue whose every call fails.
struct BrokenQueue;

#[async_trait]
impl Queue for BrokenQueue {
    async fn push(&self, _: &[Job], _: Now) -> Result<()> {
        failure(ErrorKind::Unavailable)
    }

    async fn claim(&self, _: ClaimOptions, _: Now) -> Result<Claimed> {
        failure(ErrorKind::Unavailable)
    }

    async fn extend(&self, _: &[Lease], _: Duration, _: Now) -> Result<Vec<Lease>> {
        failure(ErrorKind::Unavailable)
    }

    async fn settle(&self, _: &[(Lease, Settle)], _: Now) -> Result<()> {
        failure(ErrorKind::Unavailable)
    }

    async fn hold(&self, _: Uuid, _: Hold, _: Now) -> Result<()> {
        failure(ErrorKind::Unavailable)
    }

    async fn release(&self, _: Uuid) -> Result<()> {
        failure(ErrorKind::Unavailable)
    }

    async fn ready(&self) {
        std::future::pending::<()>().await;
    }

    async fn parts(&self) -> Result<Vec<QueuePart>> {
        failure(ErrorKind::Unavailable)
    }

    fn part_of(&self, _: Uuid) -> usize {
        0
    }

    async fn depth(&self, _: Now) -> Result<Depth> {
        failure(ErrorKind::Unavailable)
    }
}

/// A queue that does not answer.
struct HungQueue;

#[async_trait]
impl Queue for HungQueue {
    async fn push(&self, _: &[Job], _: Now) -> Result<()> {
        std::future::pending().await
    }

    async fn claim(&self, _: ClaimOptions, _: Now) -> Result<Claimed> {
        std::future::pending().await
    }

    async fn extend(&self, _: &[Lease], _: Duration, _: Now) -> Result<Vec<Lease>> {
        std::future::pending().await
    }

    async fn settle(&self, _: &[(Lease, Settle)], _: Now) -> Result<()> {
        std::future::pending().await
    }

    async fn hold(&self, _: Uuid, _: Hold, _: Now) -> Result<()> {
        std::future::pending().await
    }

    async fn release(&self, _: Uuid) -> Result<()> {
        std::future::pending().await
    }

    async fn ready(&self) {
        std::future::pending::<()>().await;
    }

    async fn parts(&self) -> Result<Vec<QueuePart>> {
        std::future::pending().await
    }

    fn part_of(&self, _: Uuid) -> usize {
        0
    }

    async fn depth(&self, _: Now) -> Result<Depth> {
        std::future::pending().await
    }
}

fn app(dispatcher: Dispatcher) -> Router {
    webhook_axum::router(dispatcher, Auth::none())
}

fn over(store: impl Store + 'static) -> Dispatcher {
    let transport = ScriptedTransport::default();
    let builder = Dispatcher::builder(store).transport(transport);
    builder.build().unwrap().erase()
}

fn with_queue(queue: impl Queue + 'static) -> Dispatcher {
    let builder = Dispatcher::builder(MemoryStore::new()).queue(queue);
    let builder = builder.transport(ScriptedTransport::default());
    builder.build().unwrap().erase()
}

#[tokio::test]
async fn a_store_that_fails_is_a_503_on_every_route() {
    let headers = [("content-type", "application/json")];
    for (kind, status, code) in [
        (ErrorKind::Unavailable, 503, "unavailable"),
        (ErrorKind::Corrupt, 503, "unavailable"),
        (ErrorKind::Internal, 503, "unavailable"),
        (ErrorKind::Overloaded, 503, "overloaded"),
        (ErrorKind::Sealed, 503, "sealed"),
        (ErrorKind::Rejected, 400, "rejected"),
    ] {
        let app = app(over(Broken(kind)));
        // The document of the API is in no store.
        let asks = |path: &str| path != "/openapi.json";
        for (method, path, body) in ROUTES.iter().filter(|(_, path, _)| asks(path)) {
            let id = Uuid::from_u128(7).to_string();
            let path = path.replace("{event}", &id).replace("{endpoint}", &id);
            let path = path.replace("{delivery}", &id).replace("{replay}", &id);
            let path = path.replace("{tenant}", &id);
            let headers = if body.is_empty() { &[][..] } else { &headers };
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let answer = send(&app, method.clone(), &path, headers, *body).await;
            assert_eq!(answer.error(), (status, code.into()), "{method} {path}");
            let again = answer.headers.contains_key("retry-after");
            assert_eq!(again, code == "overloaded", "{method} {path}");
            assert!(!answer.text.contains("s3cret"), "{}", answer.text);
        }
    }
}

#[tokio::test]
async fn searches_that_are_in_each_others_way_do_not_take_the_process_out_of_service() {
    let store = Intercepted::new(MemoryStore::new(), |operation| async move {
        match operation {
            "events" => Err(Error::new(ErrorKind::Overloaded, operation)),
            _ => Ok(()),
        }
    });
    let app = app(over(store));
    let answer = send(&app, Method::GET, "/events", &[], "").await;
    assert_eq!(answer.error(), (503, "overloaded".into()));
    assert!(
        answer.text.contains("the store is there"),
        "{}",
        answer.text
    );
    send(&app, Method::GET, "/ready", &[], "").await.expect(200);
}

#[tokio::test]
async fn ready_is_the_stores_answer() {
    let app = app(over(Broken(ErrorKind::Unavailable)));
    let ready = send(&app, Method::GET, "/ready", &[], "").await;
    assert_eq!(ready.error(), (503, "unavailable".into()));
    send(&app, Method::GET, "/health", &[], "")
        .await
        .expect(200);
}

#[tokio::test]
async fn a_queue_that_is_away_degrades_and_no_more() {
    let app = app(with_queue(BrokenQueue));
    let ready = send(&app, Method::GET, "/ready", &[], "").await.expect(200);
    assert_eq!(ready, json!({"status": "ready", "queue": "degraded"}));
    let stats = send(&app, Method::GET, "/stats", &[], "").await.expect(200);
    assert_eq!(stats["accepted"], 0);
    for of_the_queue in ["backlog", "parked", "in_flight", "oldest_due"] {
        assert!(stats[of_the_queue].is_null(), "{of_the_queue}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_does_not_answer_does_not_hold_up_the_probe() {
    let app = app(with_queue(HungQueue));
    let ready = send(&app, Method::GET, "/ready", &[], "").await.expect(200);
    assert_eq!(ready["queue"], "degraded");
}

struct Away;

#[async_trait]
impl Authorizer for Away {
    async fn authorize(&self, _: &http::request::Parts) -> Result<Identity, AuthRejection> {
        Err(AuthRejection::Unavailable(
            "the sessions do not answer".into(),
        ))
    }
}

#[tokio::test]
async fn an_authoriser_that_fails_lets_nobody_in() {
    let dispatcher = over(MemoryStore::new());
    let app = webhook_axum::router(dispatcher, Auth::custom(Away));
    let answer = send(&app, Method::GET, "/events", &[], "").await;
    assert_eq!(answer.error(), (503, "unavailable".into()));
}

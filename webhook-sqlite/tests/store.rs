//! What is SQLite's own: the file, its plans, its errors, and a host's transactions.
#![allow(clippy::unwrap_used, reason = "all of it is tests")]

mod support;

use std::collections::HashSet;
use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteSynchronous,
};
use sqlx::{Connection as _, Row as _};
use uuid::Uuid;
use webhook_core::testing::{
    ManualClock, ScriptedTransport, endpoint_for, event_for, fast_forward, run,
};
use webhook_core::{
    Attempt, ClaimOptions, DeliveryFilter, DeliveryStatus, Depth, Dispatcher, EncryptionKey,
    EndReason, Endpoint, EndpointFilter, EndpointSettings, ErrorKind, Event, EventFilter,
    HeaderLog, Idempotency, InsertOptions, Inserted, Job, Lease, NewEndpoint, NewEvent, Next,
    OnConflict, Outcome, Page, PageRequest, Record, Recorded, Replay, ReplaySelection, ReplayState,
    Scope, StaticKeys, Store, Timestamp, TransportErrorKind, TxStore, Verdict,
};
use webhook_sqlite::{OpenError, SqliteStore};

use support::Folder;

const T0: Timestamp = Timestamp::from_seconds(1_700_000_000);
const MINUTE: Duration = Duration::from_secs(60);

async fn endpoint(store: &SqliteStore, tenant: &str, settings: EndpointSettings) -> Endpoint {
    let endpoint = endpoint_for(tenant, settings);
    store.insert_endpoint(&endpoint, usize::MAX).await.unwrap();
    endpoint
}

async fn enqueue(store: &SqliteStore, tenant: &str, count: usize) -> Vec<Job> {
    let events: Vec<_> = (0..count)
        .map(|_| event_for(tenant, "a", "1", T0))
        .collect();
    store
        .insert_events(&events, &InsertOptions::new(OnConflict::Skip), Some(T0))
        .await
        .unwrap()
        .jobs
}

async fn claim(store: &SqliteStore, limit: usize) -> Vec<Lease> {
    let claim = store.queue().unwrap();
    let claimed = claim
        .claim(ClaimOptions::new(limit, MINUTE), Some(T0))
        .await;
    claimed.unwrap().leases
}

async fn connect(folder: &Folder) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(folder.file());
    SqliteConnection::connect_with(&options).await.unwrap()
}

async fn execute(connection: &mut SqliteConnection, sql: &'static str) {
    sqlx::raw_sql(sql).execute(connection).await.unwrap();
}

async fn count(connection: &mut SqliteConnection, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(connection).await.unwrap()
}

#[test]
fn stores_on_one_file_claim_exclusively_and_keep_to_the_cap_together() {
    run(async {
        let folder = Folder::new();
        let stores = [
            SqliteStore::open(folder.file()).await.unwrap(),
            SqliteStore::open(folder.file()).await.unwrap(),
        ];
        let capped = EndpointSettings {
            max_in_flight: Some(7),
            ..Default::default()
        };
        let capped = endpoint(&stores[0], "default", capped).await.id;
        for _ in 0..8 {
            endpoint(&stores[0], "default", EndpointSettings::default()).await;
        }
        enqueue(&stores[0], "default", 20).await;
        let claims = stores.iter().cycle().take(16).map(|store| {
            let store = store.clone();
            tokio::spawn(async move { claim(&store, 13).await })
        });
        let mut leases = Vec::new();
        for claim in claims.collect::<Vec<_>>() {
            leases.extend(claim.await.unwrap());
        }
        let distinct: HashSet<_> = leases.iter().map(|lease| lease.delivery).collect();
        assert_eq!((leases.len(), distinct.len()), (8 * 20 + 7, 8 * 20 + 7));
        assert_eq!(
            leases.iter().filter(|lease| lease.lane == capped).count(),
            7
        );
    });
}

#[test]
fn stores_on_one_file_make_one_event_of_one_key() {
    run(async {
        let folder = Folder::new();
        let stores = [
            SqliteStore::open(folder.file()).await.unwrap(),
            SqliteStore::open(folder.file()).await.unwrap(),
        ];
        for round in 0..20_u8 {
            let insert = async |store: &SqliteStore| {
                let mut event = event_for("default", "a", "1", T0);
                event.idempotency = Some(Idempotency {
                    key: round.to_string(),
                    fingerprint: [round; 32],
                    window: MINUTE,
                });
                let options = InsertOptions::new(OnConflict::Skip);
                let events = std::slice::from_ref(&event);
                let inserted = store.insert_events(events, &options, Some(T0)).await;
                (event.id, inserted.unwrap().events[0])
            };
            let ((a, first), (b, second)) = join(insert(&stores[0]), insert(&stores[1])).await;
            assert!(
                (first, second) == (Inserted::New, Inserted::Existing(a))
                    || (first, second) == (Inserted::Existing(b), Inserted::New),
                "{first:?} {second:?}"
            );
        }
    });
}

/// Literal states, or a partial index would be missed.
#[test]
fn a_claim_beside_100_000_parked_jobs_uses_the_indexes_of_what_is_ready() {
    const SEED: &str = include_str!("seed_parked.sql");
    run(async {
        let folder = Folder::new();
        let store = SqliteStore::open(folder.file()).await.unwrap();
        let parked = endpoint(&store, "parked", EndpointSettings::default()).await;
        let mut connection = connect(&folder).await;
        let later = (T0 + Duration::from_secs(86_400)).as_micros();
        let seed = sqlx::query(SEED).bind(parked.id).bind(later);
        assert_eq!(
            seed.execute(&mut connection).await.unwrap().rows_affected(),
            100_000
        );
        execute(&mut connection, "ANALYZE").await;
        let ready = endpoint(&store, "ready", EndpointSettings::default()).await;
        enqueue(&store, "ready", 1).await;
        let depth = store.queue().unwrap().depth(Some(T0)).await.unwrap();
        assert_eq!(depth.parked, Depth::MOST, "no more than these are counted");
        assert_eq!(depth.oldest_due, Some(T0), "and the oldest is found");
        assert_eq!(claim(&store, 10).await[0].lane, ready.id);

        for (explain, indexes) in [
            (
                concat!(
                    "EXPLAIN QUERY PLAN ",
                    include_str!("../sql/claim_lanes.sql")
                ),
                &[
                    "webhook_lanes_ready (tenant>?)",
                    "webhook_lanes_ready (tenant=?)",
                    "by_lane (endpoint_id=? AND leased=?)",
                ][..],
            ),
            (
                concat!("EXPLAIN QUERY PLAN ", include_str!("../sql/claim_jobs.sql")),
                &["by_lane (endpoint_id=? AND leased=? AND place<?)"],
            ),
            (
                concat!("EXPLAIN QUERY PLAN ", include_str!("../sql/wake_due.sql")),
                &["webhook_lanes_waiting (wake_at<?)"],
            ),
            (
                concat!("EXPLAIN QUERY PLAN ", include_str!("../sql/expire.sql")),
                &["webhook_deliveries_by_lease (lease_until<?)"],
            ),
        ] {
            let plan = plan(&mut connection, explain).await;
            assert!(!plan.contains("SCAN webhook_"), "{plan}");
            assert!(indexes.iter().all(|index| plan.contains(index)), "{plan}");
        }
    });
}

#[test]
fn lists_follow_an_index_and_sort_nothing() {
    run(async {
        let folder = Folder::new();
        SqliteStore::open(folder.file()).await.unwrap();
        let mut connection = connect(&folder).await;
        let plan = plan(
            &mut connection,
            concat!(
                "EXPLAIN QUERY PLAN ",
                include_str!("../sql/deliveries.sql"),
                " AND tenant = 'a' ORDER BY id DESC LIMIT 50"
            ),
        )
        .await;
        assert!(
            plan.contains("MERGE (UNION ALL)") && !plan.contains("TEMP B-TREE"),
            "{plan}"
        );
    });
}

async fn plan(connection: &mut SqliteConnection, explain: &'static str) -> String {
    let rows = sqlx::query(explain).fetch_all(connection).await.unwrap();
    let details = rows.iter().map(|row| row.get::<String, _>("detail"));
    details.collect::<Vec<_>>().join("\n")
}

/// A host's database, where no delivery can be stored.
async fn refusing_host(folder: &Folder) -> (SqlitePool, SqliteStore) {
    let options = SqliteConnectOptions::new()
        .filename(folder.file())
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal);
    let pool = SqlitePool::connect_with(options).await.unwrap();
    let store = SqliteStore::builder().open_in(pool.clone()).await.unwrap();
    endpoint(&store, "default", EndpointSettings::default()).await;
    let mut connection = pool.acquire().await.unwrap();
    let trigger = "CREATE TABLE orders (id INTEGER PRIMARY KEY);
        CREATE TRIGGER refuse BEFORE INSERT ON webhook_deliveries
        BEGIN SELECT RAISE(ABORT, 'refused'); END";
    execute(&mut connection, trigger).await;
    (pool, store)
}

async fn refused(store: &SqliteStore, host: &mut SqliteConnection) {
    let event: [Event; 1] = [event_for("default", "a", "1", T0)];
    let error = store
        .insert_events_in(host, &event, Some(T0))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Rejected, "{error:?}");
}

#[test]
fn a_hosts_task_enqueues_in_its_transaction() {
    run(async {
        let folder = Folder::new();
        let options = SqliteConnectOptions::new()
            .filename(folder.file())
            .create_if_missing(true);
        let pool = SqlitePool::connect_with(options).await.unwrap();
        let store = SqliteStore::builder().open_in(pool.clone()).await.unwrap();
        endpoint(&store, "default", EndpointSettings::default()).await;
        let receiver = ScriptedTransport::new([200]);
        let dispatcher = Dispatcher::builder(store)
            .transport(receiver.clone())
            .build()
            .unwrap();
        let host = dispatcher.clone();
        let task = tokio::spawn(async move {
            for commits in [false, true] {
                let mut tx = pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
                let event = NewEvent::data("order.paid", "7").unwrap();
                host.enqueue_in(&mut tx, event).await.unwrap();
                if commits {
                    tx.commit().await.unwrap();
                } else {
                    tx.rollback().await.unwrap();
                }
            }
        });
        task.await.unwrap();
        assert_eq!(dispatcher.step().await.unwrap().claimed, 1);
        assert_eq!(receiver.requests().len(), 1);
    });
}

#[test]
fn a_refused_insert_leaves_a_hosts_transaction_as_it_was() {
    run(async {
        let folder = Folder::new();
        let (pool, store) = refusing_host(&folder).await;
        let mut tx = pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
        execute(&mut tx, "INSERT INTO orders VALUES (1)").await;
        refused(&store, &mut tx).await;
        tx.commit().await.unwrap();

        // One that sqlx knows nothing of.
        let mut raw = pool.acquire().await.unwrap();
        execute(&mut raw, "BEGIN IMMEDIATE; INSERT INTO orders VALUES (2)").await;
        refused(&store, &mut raw).await;
        execute(&mut raw, "DROP TRIGGER refuse").await;
        let event = [event_for("default", "a", "1", T0)];
        store
            .insert_events_in(&mut raw, &event, Some(T0))
            .await
            .unwrap();
        execute(&mut raw, "COMMIT").await;

        assert_eq!(count(&mut raw, "SELECT count(*) FROM orders").await, 2);
        assert_eq!(
            count(&mut raw, "SELECT count(*) FROM webhook_events").await,
            1
        );
        assert_eq!(claim(&store, 10).await.len(), 1);
    });
}

#[test]
fn a_full_disk_is_unavailable_and_heals() {
    run(async {
        let folder = Folder::new();
        let options = SqliteConnectOptions::new()
            .filename(folder.file())
            .create_if_missing(true);
        let pool = SqlitePoolOptions::new().max_connections(1);
        let pool = pool.connect_with(options).await.unwrap();
        let store = SqliteStore::builder().open_in(pool.clone()).await.unwrap();
        // Holds for this connection. It is closed when it fails.
        execute(
            &mut pool.acquire().await.unwrap(),
            "PRAGMA max_page_count = 1",
        )
        .await;
        let data = format!("\"{}\"", "x".repeat(100_000));
        let event = [event_for("default", "a", &data, T0)];
        let error = store
            .insert_events(&event, &InsertOptions::new(OnConflict::Skip), None)
            .await
            .unwrap_err();
        assert!(error.is_retryable(), "{error:?}");
        store
            .insert_events(&event, &InsertOptions::new(OnConflict::Skip), None)
            .await
            .unwrap();
        assert!(
            store
                .event(&Scope::All, event[0].id)
                .await
                .unwrap()
                .is_some()
        );
    });
}

#[test]
fn a_newer_schema_is_refused() {
    run(async {
        let folder = Folder::new();
        SqliteStore::open(folder.file()).await.unwrap();
        SqliteStore::open(folder.file()).await.unwrap();
        let newer = "INSERT INTO webhook_migrations (version) VALUES (99)";
        execute(&mut connect(&folder).await, newer).await;
        let error = SqliteStore::open(folder.file()).await.unwrap_err();
        assert!(
            matches!(error, OpenError::NewerSchema { found: 99, .. }),
            "{error}"
        );
    });
}

#[test]
fn what_cannot_be_read_ends_as_a_dead_letter_and_keeps_nothing_back() {
    run(async {
        let folder = Folder::new();
        let store = SqliteStore::open(folder.file()).await.unwrap();
        let spoilt = endpoint(&store, "default", EndpointSettings::default()).await;
        endpoint(&store, "default", EndpointSettings::default()).await;
        let spoil = sqlx::query("UPDATE webhook_endpoints SET settings = '{' WHERE id = ?");
        spoil
            .bind(spoilt.id)
            .execute(&mut connect(&folder).await)
            .await
            .unwrap();
        // It gets every event: what it accepts cannot be told.
        assert_eq!(enqueue(&store, "default", 1).await.len(), 2);
        let leases = claim(&store, 10).await;
        for loaded in store.load(&leases, Some(T0)).await.unwrap() {
            let is_spoilt = loaded.lease.lane == spoilt.id;
            let is_dead = matches!(loaded.verdict, Verdict::Dead(EndReason::Corrupt));
            assert_eq!(is_dead, is_spoilt);
            let id = loaded.lease.delivery;
            let delivery = store.delivery(&Scope::All, id).await.unwrap().unwrap();
            let end = (delivery.status, delivery.end_reason);
            let expected = match is_spoilt {
                true => (DeliveryStatus::Failed, Some(EndReason::Corrupt)),
                false => (DeliveryStatus::InProgress, None),
            };
            assert_eq!(end, expected);
        }
    });
}

#[test]
fn a_job_that_cannot_be_read_does_not_end_the_queues_refill() {
    run(async {
        let folder = Folder::new();
        let store = SqliteStore::open(folder.file()).await.unwrap();
        endpoint(&store, "default", EndpointSettings::default()).await;
        let mut jobs = enqueue(&store, "default", 7).await;
        jobs.sort_by_key(|job| job.delivery);
        let mut connection = connect(&folder).await;
        for spoilt in [1, 2, 6] {
            let spoil = sqlx::query("UPDATE webhook_deliveries SET tenant = ' ' WHERE id = ?");
            let spoil = spoil.bind(jobs[spoilt].delivery);
            spoil.execute(&mut connection).await.unwrap();
        }
        let ids = |jobs: &[Job]| jobs.iter().map(|job| job.delivery).collect::<Vec<_>>();
        let all = ids(&jobs);
        let good = [all[0], all[3], all[4], all[5]];
        let first = ids(&store.unqueued(None, 2).await.unwrap());
        assert_eq!(
            first,
            good[..2],
            "a page that is not full would be the last"
        );
        let second = ids(&store.unqueued(Some(first[1]), 2).await.unwrap());
        assert_eq!(second, good[2..]);
        let last = store.unqueued(Some(second[1]), 2).await.unwrap();
        assert!(last.is_empty(), "{last:?}");
        assert_eq!(ids(&store.jobs(&all).await.unwrap()), good);
    });
}

#[test]
fn a_replay_passes_over_what_cannot_be_read_and_waits_for_no_other() {
    run(async {
        let folder = Folder::new();
        let store = SqliteStore::open(folder.file()).await.unwrap();
        endpoint(&store, "default", EndpointSettings::default()).await;
        enqueue(&store, "default", 3).await;
        for lease in claim(&store, 3).await {
            let record = Record {
                lease,
                attempt: None,
                next: Next::Failed(EndReason::Exhausted),
                disable: None,
                hold: None,
                health: None,
                event: None,
            };
            store.record(&[record], Some(T0)).await.unwrap();
        }
        let replay = |second| Replay {
            id: event_for("default", "a", "1", Timestamp::from_seconds(second)).id,
            tenant: None,
            selection: ReplaySelection::Deliveries(DeliveryFilter::default()),
            state: ReplayState::Running,
            pace: 500,
            total: 2,
            total_is_exact: true,
            done: 0,
            skipped: 0,
            created_by: None,
            created_at: T0,
            updated_at: T0,
        };
        let (bad, good) = (replay(1), replay(2));
        for replay in [&bad, &good] {
            store.insert_replay(replay, Some(T0)).await.unwrap();
        }
        let mut connection = connect(&folder).await;
        let spoil = "UPDATE webhook_deliveries_history SET event_type = ' '
            WHERE id = (SELECT max(id) FROM webhook_deliveries_history)";
        execute(&mut connection, spoil).await;
        // As of a version that knows more selections.
        let spoil = sqlx::query("UPDATE webhook_replays SET selection = '{}' WHERE id = ?");
        spoil.bind(bad.id).execute(&mut connection).await.unwrap();
        let first = store.step_replay(10, Some(T0)).await.unwrap();
        assert_eq!(first.replay, None);
        let done = store
            .step_replay(10, Some(T0))
            .await
            .unwrap()
            .replay
            .unwrap();
        assert_eq!((done.id, done.done, done.skipped), (good.id, 2, 1));
        let page = PageRequest::first(10);
        let seen = store.replays(&Scope::All, page).await.unwrap();
        assert_eq!(seen.items, [done]);
    });
}

#[test]
fn a_row_that_cannot_be_read_is_missing_in_its_list_and_takes_no_other_along() {
    const SPOIL: [&str; 5] = [
        "UPDATE webhook_endpoints SET settings = '{\"filter\": 8}' WHERE id = ?1",
        "UPDATE webhook_endpoints SET secrets = x'00' WHERE id = ?1",
        "UPDATE webhook_events SET event_type = ' ' WHERE id = ?1",
        "UPDATE webhook_deliveries SET last_error = 'of a later version' WHERE id = ?1",
        "UPDATE webhook_attempts SET request_headers = x'ff' WHERE delivery_id = ?1 AND number = 1",
    ];
    run(async {
        let folder = Folder::new();
        let store = SqliteStore::open(folder.file()).await.unwrap();
        for _ in 0..3 {
            endpoint(&store, "default", EndpointSettings::default()).await;
        }
        enqueue(&store, "default", 2).await;
        let tried = fail_twice(&store).await;
        let before = Lists::of(&store, tried).await;
        let [newest, newer, oldest] = before.endpoints[..] else {
            panic!("{before:?}")
        };
        let other = before.deliveries.iter().copied().find(|it| *it != tried);
        let other = other.unwrap();
        let ids = [newest, newer, before.events[0], other, tried];
        let mut connection = connect(&folder).await;
        for (spoil, id) in SPOIL.into_iter().zip(ids) {
            let spoilt = sqlx::query(spoil).bind(id).execute(&mut connection).await;
            assert_eq!(spoilt.unwrap().rows_affected(), 1, "{spoil}");
        }

        let after = Lists::of(&store, tried).await;
        assert_eq!(after.endpoints, [oldest]);
        assert_eq!(after.events, before.events[1..]);
        assert!(!after.deliveries.contains(&other));
        assert_eq!(after.deliveries.len(), before.deliveries.len() - 1);
        assert_eq!((before.attempts, after.attempts), (2, 1));
        let error = store.endpoint(&Scope::All, newest).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        let deleted = store.delete_endpoint(&Scope::All, newest, Some(T0)).await;
        assert!(deleted.unwrap());
    });
}

/// Attempts a delivery twice, which stays live.
async fn fail_twice(store: &SqliteStore) -> Uuid {
    let attempt = Arc::new(Attempt {
        started_at: T0,
        duration: Duration::ZERO,
        first_byte: None,
        request_headers: HeaderLog::default(),
        outcome: Outcome::Failed(TransportErrorKind::Timeout),
    });
    let mut tried = Uuid::nil();
    for _ in 0..2 {
        // The others are leased from the first time on.
        let lease = claim(store, 10).await[0];
        let record = Record {
            lease,
            attempt: Some(Arc::clone(&attempt)),
            next: Next::RetryAfter(Duration::ZERO),
            disable: None,
            hold: None,
            health: None,
            event: None,
        };
        store.record(&[record], Some(T0)).await.unwrap();
        tried = lease.delivery;
    }
    tried
}

/// What the lists show, by id.
#[derive(Debug)]
struct Lists {
    endpoints: Vec<Uuid>,
    events: Vec<Uuid>,
    deliveries: Vec<Uuid>,
    /// Of one delivery.
    attempts: usize,
}

impl Lists {
    async fn of(store: &SqliteStore, tried: Uuid) -> Self {
        let all = Scope::All;
        let every = EndpointFilter::default();
        let (events, deliveries) = (EventFilter::default(), DeliveryFilter::default());
        Self {
            endpoints: walk(|page| store.endpoints(&all, &every, page), |it| it.id).await,
            events: walk(|page| store.events(&all, &events, page), |it| it.id).await,
            deliveries: walk(|page| store.deliveries(&all, &deliveries, page), |it| it.id).await,
            attempts: store.attempts(&all, tried).await.unwrap().len(),
        }
    }
}

/// Reads a list to its end, one row a page.
async fn walk<T, F>(list: impl Fn(PageRequest) -> F, id: impl Fn(&T) -> Uuid) -> Vec<Uuid>
where
    F: Future<Output = webhook_core::Result<Page<T>>>,
{
    let (mut ids, mut next) = (Vec::new(), Some(PageRequest::first(1)));
    while let Some(request) = next {
        let page = list(request).await.unwrap();
        ids.extend(page.items.iter().map(&id));
        next = page.next.map(|before| PageRequest {
            before: Some(before),
            limit: 1,
        });
    }
    ids
}

#[test]
fn a_list_of_any_length_is_stored_in_order_and_once() {
    run(async {
        let folder = Folder::new();
        let store = SqliteStore::open(folder.file()).await.unwrap();
        let wide = EndpointSettings {
            max_in_flight: Some(1_000),
            ..Default::default()
        };
        endpoint(&store, "default", wide).await;
        // Sizes that there is a statement for, and those between.
        for count in [1, 2, 3, 5, 63, 64, 65, 127, 128, 129, 300] {
            let jobs = enqueue(&store, "default", count).await;
            assert!(jobs.is_sorted_by_key(|job| job.sequence));
            let jobs: Vec<_> = jobs.iter().map(|job| job.delivery).collect();
            let leases = claim(&store, 1_000).await;
            let claimed: Vec<_> = leases.iter().map(|lease| lease.delivery).collect();
            assert_eq!(claimed, jobs);
            let ended = |lease: &Lease| Record {
                lease: *lease,
                attempt: None,
                next: Next::Succeeded,
                disable: None,
                hold: None,
                health: None,
                event: None,
            };
            let records: Vec<_> = leases.iter().map(ended).collect();
            let recorded = store.record(&records, Some(T0)).await.unwrap();
            assert!(recorded.iter().all(|one| *one == Recorded::Written));
        }
        assert!(store.unqueued(None, 10).await.unwrap().is_empty());
    });
}

#[test]
fn a_closed_store_is_one_file_with_all_in_it() {
    run(async {
        let folder = Folder::new();
        let store = SqliteStore::open(folder.file()).await.unwrap();
        endpoint(&store, "default", EndpointSettings::default()).await;
        store.ping().await.unwrap();
        let clone = store.clone();
        let under_way = tokio::spawn(async move { enqueue(&clone, "default", 3).await });
        tokio::task::yield_now().await;
        store.close().await.unwrap();
        assert_eq!(under_way.await.unwrap().len(), 3);

        let files = std::fs::read_dir(folder.file().parent().unwrap()).unwrap();
        let files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        assert_eq!(files, [folder.file()], "the log is in the file");
        store.close().await.unwrap();
        let error = store.ping().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        let again = SqliteStore::open(folder.file()).await.unwrap();
        assert_eq!(again.unqueued(None, 10).await.unwrap().len(), 3);
    });
}

#[test]
fn a_hosts_pool_stays_open_and_says_what_it_lacks() {
    run(async {
        let folder = Folder::new();
        let options = SqliteConnectOptions::new()
            .filename(folder.file())
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Delete)
            .synchronous(SqliteSynchronous::Full);
        let pool = SqlitePool::connect_with(options).await.unwrap();
        let log = folder.file().with_extension("log");
        let subscriber =
            tracing_subscriber::fmt().with_writer(File::create(&log).map(Arc::new).unwrap());
        let guard = tracing::subscriber::set_default(subscriber.finish());
        let store = SqliteStore::builder().open_in(pool.clone()).await.unwrap();
        drop(guard);
        let log = std::fs::read_to_string(log).unwrap();
        assert!(
            log.contains("WARN") && log.contains("journal_mode=WAL"),
            "{log}"
        );
        assert!(
            !log.contains("synchronous") && !log.contains("timeout"),
            "{log}"
        );
        store.close().await.unwrap();
        store.ping().await.unwrap();
        assert!(!pool.is_closed());
    });
}

#[test]
fn prune_deletes_what_has_ended_and_nothing_that_is_needed() {
    run(async {
        let folder = Folder::new();
        let store = SqliteStore::open(folder.file()).await.unwrap();
        endpoint(&store, "default", EndpointSettings::default()).await;
        enqueue(&store, "default", 3).await;
        let leases = claim(&store, 2).await;
        let ended = |lease: &Lease| Record {
            lease: *lease,
            attempt: None,
            next: Next::Succeeded,
            disable: None,
            hold: None,
            health: None,
            event: None,
        };
        for (lease, at) in leases.iter().zip([T0, T0 + MINUTE]) {
            store.record(&[ended(lease)], Some(at)).await.unwrap();
        }
        let old = T0 + Duration::from_secs(1);
        assert_eq!(store.prune(T0).await.unwrap(), 0, "as old as that");
        assert_eq!(
            store.prune(old).await.unwrap(),
            1,
            "one is live, one ended later"
        );
        assert_eq!(store.prune(old).await.unwrap(), 0);
        assert!(
            store
                .delivery(&Scope::All, leases[0].delivery)
                .await
                .unwrap()
                .is_none()
        );
        assert!(
            store
                .delivery(&Scope::All, leases[1].delivery)
                .await
                .unwrap()
                .is_some()
        );
        assert_eq!(claim(&store, 10).await.len(), 1);
    });
}

#[test]
fn prune_passes_over_events_of_a_clock_that_was_ahead() {
    run(async {
        let folder = Folder::new();
        let store = SqliteStore::open(folder.file()).await.unwrap();
        let options = InsertOptions::new(OnConflict::Skip);
        let ahead = (0..600).map(|_| event_for("default", "a", "1", T0 + 100 * MINUTE));
        let lately = event_for("default", "a", "1", T0 + 3 * MINUTE);
        let old = event_for("default", "a", "1", T0);
        let events: Vec<_> = ahead.chain([lately.clone(), old.clone()]).collect();
        store
            .insert_events(&events, &options, Some(T0))
            .await
            .unwrap();
        store.maintain(MINUTE, Some(T0 + 3 * MINUTE)).await.unwrap();
        assert!(store.event(&Scope::All, old.id).await.unwrap().is_none());
        for kept in [&events[0], &lately] {
            assert!(store.event(&Scope::All, kept.id).await.unwrap().is_some());
        }
    });
}

#[test]
fn whoever_waits_hears_of_an_insert() {
    run(async {
        let folder = Folder::new();
        let store = SqliteStore::open(folder.file()).await.unwrap();
        endpoint(&store, "default", EndpointSettings::default()).await;
        let queue = store.queue().unwrap();
        let waiting = tokio::spawn(async move { queue.ready().await });
        enqueue(&store, "default", 1).await;
        waiting.await.unwrap();
    });
}

#[test]
fn stores_of_two_prefixes_share_a_file_and_nothing_else() {
    run(async {
        let folder = Folder::new();
        let open = |prefix: &str| {
            SqliteStore::builder()
                .table_prefix(prefix)
                .open(folder.file())
        };
        let (a, b) = (open("a_").await.unwrap(), open("b_").await.unwrap());
        endpoint(&a, "default", EndpointSettings::default()).await;
        assert_eq!(enqueue(&a, "default", 1).await.len(), 1);
        assert_eq!(enqueue(&b, "default", 1).await.len(), 0);
        let error = open("a-").await.unwrap_err();
        assert!(matches!(error, OpenError::Prefix(_)), "{error}");
    });
}

/// The engine on this file, with the first key for what it writes.
async fn engine(
    folder: &Folder,
    keys: &[&EncryptionKey],
    clock: &ManualClock,
    receiver: &ScriptedTransport,
) -> Dispatcher {
    let keys: Vec<_> = keys.iter().map(|key| key.expose()).collect();
    let keys: StaticKeys = keys.join(",").parse().unwrap();
    let store = SqliteStore::builder().encryption(keys).open(folder.file());
    Dispatcher::builder(store.await.unwrap())
        .clock(clock.clone())
        .transport(receiver.clone())
        .max_age(60 * MINUTE)
        .build()
        .unwrap()
        .erase()
}

#[test]
fn deliveries_wait_for_a_lost_key_no_longer_than_for_anything_else() {
    run(async {
        let (folder, clock, receiver) = (
            Folder::new(),
            ManualClock::default(),
            ScriptedTransport::default(),
        );
        let (lost, key) = (EncryptionKey::random(), EncryptionKey::random());
        let new = || NewEndpoint::new("https://hooks.example.com/in".parse().unwrap());
        let before = engine(&folder, &[&lost], &clock, &receiver).await;
        let sealed = before.endpoints().create(new()).await.unwrap().id;
        let without = engine(&folder, &[&key], &clock, &receiver).await;
        without.endpoints().create(new()).await.unwrap();
        let waiting = DeliveryFilter {
            endpoint_id: Some(sealed),
            ..DeliveryFilter::default()
        };
        let enqueue = async || {
            let event = NewEvent::data("a", "1").unwrap();
            without.enqueue(event).await.unwrap();
        };
        let status = async || {
            let deliveries = without.deliveries();
            let page = deliveries.list(&waiting, PageRequest::first(1)).await;
            let newest = page.unwrap().items.remove(0);
            (newest.status, newest.end_reason, newest.attempts)
        };

        enqueue().await;
        fast_forward(&without, &clock, 30 * MINUTE).await.unwrap();
        assert_eq!(receiver.requests().len(), 1, "the other's");
        assert_eq!(status().await, (DeliveryStatus::Pending, None, 0));
        let found = engine(&folder, &[&key, &lost], &clock, &receiver).await;
        fast_forward(&found, &clock, 2 * MINUTE).await.unwrap();
        assert_eq!(receiver.requests().len(), 2);
        assert_eq!(status().await, (DeliveryStatus::Succeeded, None, 1));

        enqueue().await;
        fast_forward(&without, &clock, 62 * MINUTE).await.unwrap();
        let expired = (DeliveryStatus::Failed, Some(EndReason::Expired), 0);
        assert_eq!(status().await, expired);
    });
}

/// Whoever can write to the file still cannot make us send what no endpoint may be set to.
#[test]
fn an_endpoint_that_was_changed_in_the_file_sends_nothing_that_is_forbidden() {
    run(async {
        for spoil in [
            r#"settings = '{"headers":{"host":"internal.example"}}'"#,
            r#"settings = '{"headers":{"x-a":"1\r\nhost: b"}}'"#,
            r#"settings = '{"headers":{"webhook-id":"forged"}}'"#,
            r#"settings = '{"headers":{"authorization":"Bearer t"}}'"#,
            "url = 'https://user@hooks.example.com/'",
            "url = 'file:///etc/passwd'",
            "url = 'http://hooks.example.com/'",
            "url = 'https://169.254.169.254/'",
            "url = 'https://[::ffff:10.0.0.1]/'",
            "url = 'https://metadata.google.internal/'",
        ] {
            let (folder, clock) = (Folder::new(), ManualClock::default());
            let receiver = ScriptedTransport::default();
            let key = EncryptionKey::random();
            let dispatcher = engine(&folder, &[&key], &clock, &receiver).await;
            let new = NewEndpoint::new("https://hooks.example.com/in".parse().unwrap());
            dispatcher.endpoints().create(new).await.unwrap();
            let event = NewEvent::data("a", "1").unwrap();
            dispatcher.enqueue(event).await.unwrap();

            // What an endpoint was in one version is remembered.
            let set = format!("{spoil}, version = version + 1");
            let spoil = format!("UPDATE webhook_endpoints SET {set}");
            let spoiled = sqlx::query(sqlx::AssertSqlSafe(spoil.as_str()))
                .execute(&mut connect(&folder).await)
                .await;
            assert_eq!(spoiled.unwrap().rows_affected(), 1);
            fast_forward(&dispatcher, &clock, 240 * MINUTE)
                .await
                .unwrap();
            assert_eq!(receiver.requests().len(), 0, "{spoil}");
            let (filter, page) = (DeliveryFilter::default(), PageRequest::first(1));
            let delivery = dispatcher.deliveries().list(&filter, page).await.unwrap();
            assert_eq!(delivery.items[0].status, DeliveryStatus::Failed, "{spoil}");
        }
    });
}

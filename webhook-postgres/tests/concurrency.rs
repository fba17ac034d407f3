//! What several processes do at the same time: here, stores with pools of their own on one schema.

mod common;

use std::collections::HashSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use common::{Schema, new_name, pool};
use sqlx::Executor;
use sqlx::postgres::PgListener;
use webhook_core::testing::{endpoint_for, event_for, run};
use webhook_core::{
    BreakerChange, ClaimOptions, DeliveryFilter, DeliveryStatus, EndReason, EndpointFilter,
    EndpointSettings, ErrorKind, HealthChange, Hold, InsertOptions, Lease, NewEvent, Next,
    OnConflict, PageRequest, RateLimit, Record, Recorded, Replay, ReplaySelection, ReplayState,
    Scope, Settle, StateReason, Store, Timestamp, TxStore,
};
use webhook_postgres::PgStore;

const T0: Timestamp = Timestamp::from_seconds(1_700_000_000);
const LEASE: Duration = Duration::from_secs(60);

async fn lane(store: &PgStore, settings: EndpointSettings) {
    let endpoint = endpoint_for("default", settings);
    store
        .insert_endpoint(&endpoint, usize::MAX)
        .await
        .expect("an endpoint is stored");
}

async fn enqueue(store: &PgStore, count: usize) {
    let event = |n: usize| event_for("default", "a", &n.to_string(), T0);
    let events: Vec<_> = (0..count).map(event).collect();
    let stored = store
        .insert_events(&events, &InsertOptions::new(OnConflict::Skip), Some(T0))
        .await;
    stored.expect("events are stored");
}

/// Claims from several stores at once, `rounds` times each.
async fn claim_at_once(
    schema: &Schema,
    claimers: usize,
    limit: usize,
    rounds: usize,
) -> Vec<Lease> {
    let mut tasks = Vec::new();
    for _ in 0..claimers {
        let store = PgStore::builder()
            .schema(&schema.name)
            .open(pool().await)
            .await;
        let queue = store.expect("it opens").queue().expect("its own");
        tasks.push(tokio::spawn(async move {
            let mut leases = Vec::new();
            for _ in 0..rounds {
                let options = ClaimOptions::new(limit, LEASE);
                leases.extend(
                    queue
                        .claim(options, Some(T0))
                        .await
                        .expect("it claims")
                        .leases,
                );
            }
            leases
        }));
    }
    let mut leases = Vec::new();
    for task in tasks {
        leases.extend(task.await.expect("no panic"));
    }
    leases
}

#[test]
fn each_job_goes_to_one_claimer() {
    run(async {
        let schema = Schema::new().await;
        for _ in 0..5 {
            lane(&schema.store, EndpointSettings::default()).await;
        }
        enqueue(&schema.store, 60).await;
        let leases = claim_at_once(&schema, 4, 25, 8).await;
        let distinct: HashSet<_> = leases.iter().map(|lease| lease.delivery).collect();
        assert_eq!(leases.len(), distinct.len(), "one was claimed twice");
        assert_eq!(leases.len(), 300, "all are claimed");
    });
}

/// What a claim takes, without waiting, while another transaction has done this: as far as a claim of another process gets
/// before it commits.
async fn claim_beside(schema: &Schema, taken: &str) -> Vec<Lease> {
    let mut other = schema.pool.begin().await.expect("a transaction");
    let taking: i32 = sqlx::query_scalar("SELECT pg_backend_pid()")
        .fetch_one(&mut *other)
        .await
        .expect("the server answers");
    let took = other.execute(sqlx::raw_sql(schema.sql(taken))).await;
    assert!(took.expect("it takes").rows_affected() > 0);
    let queue = schema.store.queue().expect("its own");
    let claimed = tokio::select! {
        claimed = queue.claim(ClaimOptions::new(10, LEASE), Some(T0)) => claimed,
        () = until_waited_for(schema, taking) => panic!("the claim waits for the other"),
    };
    other.commit().await.expect("it commits");
    claimed.expect("it claims").leases
}

/// As a claim does with the two that come first.
const TAKE_TWO: &str = "UPDATE webhook.deliveries
    SET status = 'in_progress', ready = false, fence = fence + 1
    WHERE id = ANY (ARRAY(SELECT id FROM webhook.deliveries ORDER BY sequence LIMIT 2));";

#[test]
fn a_claim_takes_only_what_no_other_is_taking() {
    run(async {
        let schema = Schema::new().await;
        lane(&schema.store, EndpointSettings::default()).await;
        enqueue(&schema.store, 5).await;
        let leases = claim_beside(&schema, TAKE_TWO).await;
        assert_eq!(leases.len(), 3);
        let claims = "SELECT count(*) FROM webhook.deliveries WHERE fence = 1";
        assert_eq!(schema.value::<i64>(claims).await, 5, "each is taken once");
    });
}

#[test]
fn a_claim_does_not_take_the_head_that_another_is_taking() {
    run(async {
        let schema = Schema::new().await;
        let ordered = EndpointSettings {
            ordered: true,
            ..Default::default()
        };
        lane(&schema.store, ordered).await;
        enqueue(&schema.store, 5).await;
        assert_eq!(claim_beside(&schema, TAKE_TWO).await, []);
    });
}

#[test]
fn a_claim_does_not_take_the_place_that_another_is_taking() {
    run(async {
        let schema = Schema::new().await;
        let capped = EndpointSettings {
            max_in_flight: Some(2),
            ..Default::default()
        };
        lane(&schema.store, capped).await;
        enqueue(&schema.store, 5).await;
        let spend = "UPDATE webhook.lane_state SET version = version + 1;";
        let leases = claim_beside(&schema, &format!("{TAKE_TWO} {spend}")).await;
        assert_eq!(leases, []);
    });
}

#[test]
fn a_probed_lane_gives_one_job_whoever_claims_at_the_same_time() {
    run(async {
        let schema = Schema::new().await;
        for _ in 0..5 {
            lane(&schema.store, EndpointSettings::default()).await;
        }
        enqueue(&schema.store, 20).await;
        let queue = schema.store.queue().expect("its own");
        let live = schema.store.unqueued(None, 1_000).await.expect("reads");
        let lanes: HashSet<_> = live.iter().map(|job| job.lane).collect();
        for lane in lanes {
            let hold = Hold::then_probe(Duration::ZERO);
            queue.hold(lane, hold, Some(T0)).await.expect("holds");
        }
        let leases = claim_at_once(&schema, 4, 25, 8).await;
        let distinct: HashSet<_> = leases.iter().map(|lease| lease.lane).collect();
        assert_eq!((leases.len(), distinct.len()), (5, 5));
    });
}

#[test]
fn of_processes_that_find_the_same_one_opens_the_breaker() {
    run(async {
        let schema = Schema::new().await;
        lane(&schema.store, EndpointSettings::default()).await;
        enqueue(&schema.store, 8).await;
        let leases = claim_at_once(&schema, 1, 8, 1).await;
        let mut tasks = Vec::new();
        for lease in leases {
            let store = PgStore::builder().schema(&schema.name);
            let store = store.open(pool().await).await.expect("it opens");
            let opens = BreakerChange::Opens {
                trips: 0,
                by: Duration::from_secs(30),
            };
            let record = Record {
                lease,
                attempt: None,
                next: Next::Failed(EndReason::Permanent),
                disable: None,
                hold: None,
                health: Some(HealthChange {
                    is_failing: Some(true),
                    breaker: Some(opens),
                    is_notice: false,
                }),
                event: None,
            };
            tasks.push(tokio::spawn(async move {
                let recorded = store.record(&[record], Some(T0)).await;
                recorded.expect("it records")[0]
            }));
        }
        let mut first = 0;
        for task in tasks {
            let recorded = task.await.expect("no panic");
            assert!(recorded.is_written());
            first += usize::from(recorded == Recorded::Written);
        }
        assert_eq!(first, 1);
    });
}

#[test]
fn an_endpoint_whose_recovery_is_being_committed_is_not_disabled() {
    run(async {
        let schema = Schema::new().await;
        lane(&schema.store, EndpointSettings::default()).await;
        enqueue(&schema.store, 1).await;
        let lease = claim_at_once(&schema, 1, 1, 1).await[0];
        schema
            .run(
                "INSERT INTO webhook.endpoint_health (endpoint_id, failing_since)
                SELECT id, created_at FROM webhook.endpoints",
            )
            .await;
        let mut other = schema.pool.begin().await.expect("a transaction");
        let recover = "UPDATE webhook.endpoint_health SET failing_since = NULL
            RETURNING pg_backend_pid()";
        let recovering: i32 = sqlx::query_scalar(schema.sql(recover))
            .fetch_one(&mut *other)
            .await
            .expect("it recovers");
        let record = [Record {
            lease,
            attempt: None,
            next: Next::Failed(EndReason::Permanent),
            disable: Some(StateReason::Failing),
            hold: None,
            health: None,
            event: None,
        }];
        let mut record = pin!(schema.store.record(&record, Some(T0)));
        let early = tokio::select! {
            recorded = &mut record => Some(recorded),
            () = until_waited_for(&schema, recovering) => None,
        };
        other.commit().await.expect("it commits");
        let recorded = match early {
            Some(recorded) => recorded,
            None => record.await,
        };
        assert_eq!(recorded.expect("it records"), [Recorded::Overtaken]);
        let state: String = schema.value("SELECT state FROM webhook.endpoints").await;
        assert_eq!(state, "enabled");
    });
}

/// Runs the change of an endpoint so that it and another transaction, which locks as one that records, wait for each other.
/// The change is the last to wait, and the other does not look for deadlocks: so it is the change that the server ends.
async fn while_another_records<T>(schema: &Schema, change: impl Future<Output = T>) -> T {
    let lock = async |which: &str| {
        let mut tx = schema.pool.begin().await.expect("a transaction");
        let lock = format!(
            "SELECT pg_backend_pid() FROM webhook.deliveries ORDER BY id {which} LIMIT 1 FOR UPDATE"
        );
        let pid: i32 = sqlx::query_scalar(schema.sql(&lock))
            .fetch_one(&mut *tx)
            .await
            .expect("it is locked");
        (tx, pid)
    };
    let (gate, gate_pid) = lock("ASC").await;
    let (mut other, other_pid) = lock("DESC").await;
    let patient = other.execute("SET LOCAL deadlock_timeout = '1h'").await;
    patient.expect("a superuser may");
    let hold = async {
        until_waited_for(schema, gate_pid).await;
        let lane = sqlx::raw_sql(schema.sql("SELECT FROM webhook.lane_state FOR UPDATE"));
        let held = other.execute(lane).await;
        held.expect("the change makes way");
        other.commit().await.expect("it commits");
    };
    let open = async {
        until(schema, "cardinality(pg_blocking_pids($1)) > 0", other_pid).await;
        gate.commit().await.expect("it commits");
    };
    let (changed, (), ()) = tokio::join!(change, hold, open);
    changed
}

#[test]
fn a_change_of_an_endpoint_that_meets_a_record_is_tried_again() {
    run(async {
        let schema = Schema::new().await;
        let capped = EndpointSettings {
            max_in_flight: Some(3),
            ..Default::default()
        };
        lane(&schema.store, capped).await;
        enqueue(&schema.store, 2).await;
        let page = schema
            .store
            .endpoints(
                &Scope::All,
                &EndpointFilter::default(),
                PageRequest::first(1),
            )
            .await;
        let mut endpoint = page.expect("reads").items.remove(0);
        endpoint.settings.max_in_flight = None;
        endpoint.version += 1;
        let change = schema.store.update_endpoint(&endpoint);
        let changed = while_another_records(&schema, change).await;
        assert!(changed.expect("it is tried again"));
        let capped: i64 = schema
            .value("SELECT count(*) FROM webhook.deliveries WHERE capped")
            .await;
        assert_eq!(capped, 0);
    });
}

/// A replay of one dead letter, at `T0`.
async fn replay_of_a_dead_letter(schema: &Schema) -> Replay {
    lane(&schema.store, EndpointSettings::default()).await;
    enqueue(&schema.store, 1).await;
    let end = "WITH ended AS (DELETE FROM webhook.deliveries RETURNING *)
        INSERT INTO webhook.deliveries_history (id, event_id, endpoint_id, replay_no, tenant, event_type,
            status, attempts, created_at, updated_at)
        SELECT id, event_id, endpoint_id, replay_no, tenant, event_type, 'failed', 1, created_at, updated_at
        FROM ended";
    schema.run(end).await;
    let failed = DeliveryFilter {
        status: Some(DeliveryStatus::Failed),
        ..DeliveryFilter::default()
    };
    let replay = Replay {
        id: event_for("default", "a", "1", T0).id,
        tenant: None,
        selection: ReplaySelection::Deliveries(failed),
        state: ReplayState::Running,
        pace: 500,
        total: 1,
        total_is_exact: true,
        done: 0,
        skipped: 0,
        created_by: None,
        created_at: T0,
        updated_at: T0,
    };
    let inserted = schema.store.insert_replay(&replay, Some(T0)).await;
    inserted.expect("it is stored")
}

/// Takes the step of a replay as the one who claimed it with this fence, and answers how many deliveries it made.
async fn take_step(schema: &Schema, replay: &Replay, fence: u8) -> usize {
    let history = "FROM webhook.deliveries_history)";
    let arguments = [
        "NULL".to_owned(),
        format!("'{}'", replay.id),
        fence.to_string(),
        "'completed'".to_owned(),
        "NULL".to_owned(),
        "0".to_owned(),
        format!("(SELECT array_agg(event_id) {history}"),
        format!("(SELECT array_agg(endpoint_id) {history}"),
        "ARRAY[0]".to_owned(),
    ];
    let mut text = include_str!("../sql/step_replay.sql").to_owned();
    for (index, argument) in arguments.iter().enumerate().rev() {
        text = text.replace(&format!("${}", index + 1), argument);
    }
    let made = schema.pool.fetch_all(sqlx::raw_sql(schema.sql(&text)));
    made.await.expect("it answers").len()
}

#[test]
fn a_step_of_a_replay_is_refused_to_whoever_has_lost_it() {
    run(async {
        let schema = Schema::new().await;
        let replay = replay_of_a_dead_letter(&schema).await;
        schema.run("UPDATE webhook.replays SET fence = 2").await;
        assert_eq!(take_step(&schema, &replay, 1).await, 0, "another has it");
        schema
            .run("UPDATE webhook.replays SET state = 'cancelled'")
            .await;
        assert_eq!(take_step(&schema, &replay, 2).await, 0, "it is cancelled");
        schema
            .run("UPDATE webhook.replays SET state = 'running'")
            .await;
        assert_eq!(take_step(&schema, &replay, 2).await, 1);
        assert_eq!(take_step(&schema, &replay, 2).await, 0, "it is through");
    });
}

#[test]
fn a_step_of_a_replay_whose_taker_died_is_taken_by_another() {
    run(async {
        let schema = Schema::new().await;
        replay_of_a_dead_letter(&schema).await;
        // What a process leaves that dies between its claim and its step.
        let claim = "UPDATE webhook.replays SET fence = 1, next_at = next_at + interval '30 s'";
        schema.run(claim).await;
        let early = schema.store.step_replay(10, Some(T0)).await.expect("asks");
        assert_eq!((early.replay, early.next_in), (None, Some(LEASE / 2)));
        let later = Some(T0 + LEASE / 2);
        let step = schema.store.step_replay(10, later).await.expect("a step");
        assert_eq!(step.jobs.len(), 1);
        assert_eq!(step.replay.map(|it| it.done), Some(1));
    });
}

#[test]
fn a_cap_holds_over_all_claimers() {
    run(async {
        let schema = Schema::new().await;
        let capped = EndpointSettings {
            max_in_flight: Some(3),
            ..Default::default()
        };
        lane(&schema.store, capped).await;
        enqueue(&schema.store, 100).await;
        assert_eq!(claim_at_once(&schema, 4, 10, 5).await.len(), 3);
    });
}

#[test]
fn a_rate_holds_over_all_claimers() {
    run(async {
        let schema = Schema::new().await;
        let limited = EndpointSettings {
            rate_limit: Some(RateLimit {
                limit: 100,
                per: Duration::from_secs(1),
            }),
            ..Default::default()
        };
        lane(&schema.store, limited).await;
        enqueue(&schema.store, 100).await;
        assert_eq!(
            claim_at_once(&schema, 4, 30, 5).await.len(),
            10,
            "the burst, at one time"
        );
    });
}

#[test]
fn an_ordered_lane_has_one_head() {
    run(async {
        let schema = Schema::new().await;
        let ordered = EndpointSettings {
            ordered: true,
            ..Default::default()
        };
        lane(&schema.store, ordered).await;
        enqueue(&schema.store, 50).await;
        let mut sequence = Vec::new();
        for _ in 0..5 {
            let leases = claim_at_once(&schema, 3, 10, 3).await;
            assert_eq!(leases.len(), 1);
            sequence.push(leases[0].delivery);
            // As if it was recorded: it leaves the lane.
            let cancelled = schema
                .store
                .cancel_delivery(&Scope::All, leases[0].delivery, Some(T0));
            cancelled.await.expect("it ends");
        }
        let (first, rest) = sequence.split_first().expect("five");
        assert!(!rest.contains(first));
    });
}

#[test]
fn a_key_is_won_by_one_of_those_who_race() {
    run(async {
        let schema = Schema::new().await;
        lane(&schema.store, EndpointSettings::default()).await;
        let dispatcher = webhook_core::Dispatcher::builder(schema.store.clone())
            .transport(webhook_core::testing::ScriptedTransport::default())
            .build()
            .expect("it builds");
        let mut tasks = Vec::new();
        for _ in 0..16 {
            let dispatcher = dispatcher.clone();
            tasks.push(tokio::spawn(async move {
                let event = NewEvent::data("a", "1").and_then(|it| it.idempotency_key("k"));
                dispatcher
                    .enqueue_batch(vec![event.expect("valid")])
                    .await
                    .expect("accepted")[0]
            }));
        }
        let mut ids = HashSet::new();
        for task in tasks {
            ids.insert(task.await.expect("no panic"));
        }
        assert_eq!(ids.len(), 1);
        let deliveries: i64 = schema
            .value("SELECT count(*) FROM webhook.all_deliveries")
            .await;
        assert_eq!(deliveries, 1);
    });
}

#[test]
fn a_key_that_a_transaction_holds_keeps_no_other_waiting() {
    run(async {
        let schema = Schema::new().await;
        lane(&schema.store, EndpointSettings::default()).await;
        let dispatcher = webhook_core::Dispatcher::builder(schema.store.clone())
            .transport(webhook_core::testing::ScriptedTransport::default())
            .build()
            .expect("it builds");
        let event = |key| {
            let event = NewEvent::data("a", "1").and_then(|it| it.idempotency_key(key));
            event.expect("valid")
        };
        let mut tx = schema.store.pool().begin().await.expect("begins");
        let first = dispatcher.enqueue_in(&mut tx, event("held"));
        let first = first.await.expect("accepted");
        let repeated: Vec<_> = (0..20)
            .map(|_| {
                let (dispatcher, event) = (dispatcher.clone(), event("held"));
                tokio::spawn(async move { dispatcher.enqueue(event).await })
            })
            .collect();
        for key in ["one", "two", "three"] {
            dispatcher.enqueue(event(key)).await.expect("accepted");
        }
        assert!(repeated.iter().all(|it| !it.is_finished()));
        tx.commit().await.expect("commits");
        for repeated in repeated {
            let id = repeated.await.expect("no panic").expect("accepted");
            assert_eq!(id, first);
        }
    });
}

#[test]
fn replays_that_race_make_one_delivery() {
    run(async {
        let schema = Schema::new().await;
        lane(&schema.store, EndpointSettings::default()).await;
        enqueue(&schema.store, 1).await;
        let lease = claim_at_once(&schema, 1, 1, 1).await[0];
        let cancelled = schema
            .store
            .cancel_delivery(&Scope::All, lease.delivery, Some(T0));
        cancelled.await.expect("it ends");
        let store = Arc::new(schema.store.clone());
        let tasks: Vec<_> = (0..8)
            .map(|n| {
                let store = Arc::clone(&store);
                let now = T0 + Duration::from_millis(n);
                tokio::spawn(async move {
                    store
                        .replay_delivery(&Scope::All, lease.delivery, Some(now))
                        .await
                })
            })
            .collect();
        let mut done = 0;
        for task in tasks {
            let changed = task.await.expect("no panic").expect("answers");
            done += usize::from(matches!(changed, webhook_core::Changed::Done(_)));
        }
        assert_eq!(done, 1);
    });
}

#[test]
fn what_is_given_back_is_seen_by_others() {
    run(async {
        let schema = Schema::new().await;
        lane(&schema.store, EndpointSettings::default()).await;
        enqueue(&schema.store, 1).await;
        let lease = claim_at_once(&schema, 1, 1, 1).await[0];
        let queue = schema.store.queue().expect("its own");
        let unused = [(lease, Settle::Unused(Duration::ZERO))];
        queue.settle(&unused, Some(T0)).await.expect("it settles");
        assert_eq!(claim_at_once(&schema, 2, 1, 1).await.len(), 1);
    });
}

#[test]
fn processes_that_start_together_migrate_once() {
    run(async {
        let name = new_name();
        let mut tasks = Vec::new();
        for _ in 0..6 {
            let (name, pool) = (name.clone(), pool().await);
            tasks.push(tokio::spawn(async move {
                PgStore::builder().schema(name).open(pool).await.map(drop)
            }));
        }
        for task in tasks {
            task.await.expect("no panic").expect("it opens");
        }
    });
}

#[test]
fn other_processes_hear_of_an_event() {
    run(async {
        let schema = Schema::new().await;
        lane(&schema.store, EndpointSettings::default()).await;
        let other = PgStore::builder()
            .schema(&schema.name)
            .open(pool().await)
            .await;
        let queue = other.expect("it opens").queue().expect("its own");
        let mut heard = tokio::spawn(async move { queue.ready().await });
        // The other may not listen yet: then it does for one of the next.
        loop {
            enqueue(&schema.store, 1).await;
            if tokio::time::timeout(Duration::from_millis(300), &mut heard)
                .await
                .is_ok()
            {
                break;
            }
        }
    });
}

/// Runs `insert` while another connection makes the partition of T0, for whose end it waits.
async fn while_a_partition_is_made<T>(schema: &Schema, insert: impl Future<Output = T>) -> T {
    let mut other = schema.pool.begin().await.expect("a transaction");
    let making = "SELECT webhook.make_partitions(to_timestamp(1700000000), 1), pg_backend_pid()";
    let (made, making): (i32, i32) = sqlx::query_as(schema.sql(making))
        .fetch_one(&mut *other)
        .await
        .expect("partitions are made");
    assert_eq!(made, 3);
    let is_waited_for = async {
        until_waited_for(schema, making).await;
        other.commit().await.expect("it commits");
    };
    let (inserted, ()) = tokio::join!(insert, is_waited_for);
    inserted
}

/// Waits until somebody waits for the end of this process' transaction.
async fn until_waited_for(schema: &Schema, pid: i32) {
    let waits = "EXISTS (SELECT FROM pg_stat_activity WHERE $1 = ANY (pg_blocking_pids(pid)))";
    until(schema, waits, pid).await;
}

/// Waits until this holds of a server's process.
async fn until(schema: &Schema, holds: &str, pid: i32) {
    while !sqlx::query_scalar::<_, bool>(schema.sql(&format!("SELECT {holds}")))
        .bind(pid)
        .fetch_one(&schema.pool)
        .await
        .expect("the server answers")
    {}
}

#[test]
fn an_event_finds_the_partition_that_is_made_meanwhile() {
    run(async {
        let schema = Schema::new().await;
        lane(&schema.store, EndpointSettings::default()).await;
        while_a_partition_is_made(&schema, enqueue(&schema.store, 2)).await;
        let stored: Vec<String> = schema
            .value("SELECT array_agg(DISTINCT tableoid::regclass::text) FROM webhook.events")
            .await;
        assert_eq!(stored, [format!("{}.events_20231114", schema.name)]);
        let deliveries = "SELECT count(*) FROM webhook.deliveries";
        assert_eq!(schema.value::<i64>(deliveries).await, 2);
    });
}

#[test]
fn a_transaction_that_met_a_partition_being_made_may_be_tried_again() {
    run(async {
        let schema = Schema::new().await;
        let mut tx = schema.pool.begin().await.expect("a transaction");
        let events = [event_for("default", "a", "1", T0)];
        let insert = schema.store.insert_events_in(&mut tx, &events, Some(T0));
        let refused = while_a_partition_is_made(&schema, insert).await;
        assert!(
            refused
                .expect_err("a row is in the wrong place")
                .is_retryable()
        );
        tx.rollback().await.expect("it ends");
        enqueue(&schema.store, 1).await;
    });
}

#[test]
fn a_check_of_a_table_is_not_tried_again() {
    run(async {
        let schema = Schema::new().await;
        schema
            .run("ALTER TABLE webhook.events_default ADD CHECK (tenant <> 'default')")
            .await;
        let events = [event_for("default", "a", "1", T0)];
        let refused = schema
            .store
            .insert_events(&events, &InsertOptions::new(OnConflict::Skip), Some(T0))
            .await;
        let refused = refused.expect_err("the host's rule holds");
        assert_eq!(refused.kind(), ErrorKind::Rejected);
    });
}

#[test]
fn other_processes_hear_of_what_sql_enqueues_at_its_commit() {
    run(async {
        let schema = Schema::new().await;
        lane(&schema.store, EndpointSettings::default()).await;
        let mut listener = PgListener::connect_with(&schema.pool)
            .await
            .expect("a connection");
        let channel = format!("{}_ready", schema.name);
        listener.listen(&channel).await.expect("it listens");
        let queue = schema.store.queue().expect("its own");
        let claim = async || {
            let options = ClaimOptions::new(9, LEASE);
            queue.claim(options, None).await.expect("it claims").leases
        };
        let waits = schema.store.queue().expect("its own");
        let heard = tokio::spawn(async move { waits.ready().await });
        // Its echo: from now on the store listens too.
        listener.recv().await.expect("a notification");
        assert_eq!(claim().await, []);

        let mut tx = schema.pool.begin().await.expect("a transaction");
        for _ in 0..2 {
            let enqueue = sqlx::query(schema.sql("SELECT webhook.enqueue('order.paid', '7')"));
            enqueue.execute(&mut *tx).await.expect("accepted");
        }
        tx.commit().await.expect("it commits");
        let end = sqlx::query("SELECT pg_notify($1, 'end')").bind(&channel);
        end.execute(&schema.pool).await.expect("it is sent");
        for expected in ["", "end"] {
            let said = listener.recv().await.expect("a notification");
            assert_eq!(said.payload(), expected, "one for both");
        }
        heard.await.expect("no panic");
        assert_eq!(claim().await.len(), 2);
    });
}

#[test]
fn what_is_blocked_is_claimed_as_soon_as_there_is_a_place() {
    run(async {
        let schema = Schema::new().await;
        let capped = EndpointSettings {
            max_in_flight: Some(1),
            ..EndpointSettings::default()
        };
        lane(&schema.store, capped).await;
        enqueue(&schema.store, 3).await;
        let queue = schema.store.queue().expect("its own");
        // By the server's clock, as only then a claim may take it that there is still nothing.
        let claim = async |rooms| {
            let options = ClaimOptions::new(8, LEASE).rooms(8, rooms);
            queue.claim(options, None).await.expect("it claims").leases
        };
        let first = claim(vec![]).await;
        let [lease] = first[..] else {
            panic!("{first:?}");
        };
        assert_eq!(claim(vec![]).await, [], "its cap");
        let record = Record {
            lease,
            attempt: None,
            next: Next::Failed(EndReason::Permanent),
            disable: None,
            hold: None,
            health: None,
            event: None,
        };
        let recorded = schema.store.record(&[record], None).await;
        recorded.expect("it is recorded");
        let settled = queue.settle(&[(lease, Settle::Done)], None).await;
        settled.expect("it is settled");
        assert_eq!(claim(vec![(lease.lane, 0)]).await, [], "no room here");
        assert_eq!(claim(vec![(lease.lane, 1)]).await.len(), 1);
    });
}

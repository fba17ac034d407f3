//! The schema over time: migrations, partitions, and the function for hosts that use SQL alone.

mod common;

use std::time::Duration;

use common::{Schema, new_name, pool};
use sqlx::{AssertSqlSafe, Executor, PgPool};
use webhook_core::testing::{
    ManualClock, ScriptedTransport, endpoint_for, event_for, fast_forward, run,
};
use webhook_core::{
    ClaimOptions, Delivery, DeliveryFilter, DeliveryStatus, Dispatcher, EndReason,
    EndpointSettings, Hold, InsertOptions, NewEndpoint, NewEvent, OnConflict, PageRequest,
    RetryPolicy, Scope, Store, Timestamp,
};
use webhook_postgres::{ConnectError, PgStore};

const DAY: Duration = Duration::from_secs(86_400);

#[test]
fn a_newer_schema_refuses_to_start() {
    run(async {
        let schema = Schema::new().await;
        schema
            .run("INSERT INTO webhook.migrations (version) VALUES (999)")
            .await;
        let opened = PgStore::builder()
            .schema(&schema.name)
            .open(schema.pool.clone())
            .await;
        assert!(matches!(
            opened,
            Err(ConnectError::TooNew { found: 999, .. })
        ));
    });
}

#[test]
fn what_was_prepared_before_a_migration_is_prepared_anew() {
    run(async {
        let schema = Schema::new().await;
        let (store, now) = (&schema.store, Timestamp::from_seconds(1_700_000_000));
        let endpoint = endpoint_for("default", EndpointSettings::default());
        store
            .insert_endpoint(&endpoint, usize::MAX)
            .await
            .expect("stored");
        let queue = store.queue().expect("its own");
        let claimed = async || {
            let events = [event_for("default", "a", "1", now)];
            let options = InsertOptions::new(OnConflict::Skip);
            let inserted = store.insert_events(&events, &options, Some(now)).await;
            inserted.expect("stored");
            let claimed = queue.claim(ClaimOptions::new(1, DAY), Some(now)).await;
            claimed.expect("claims").leases
        };
        let loaded = store.load(&claimed().await, Some(now)).await;
        assert_eq!(loaded.expect("prepared").len(), 1);
        schema
            .run("ALTER TABLE webhook.events ALTER COLUMN tenant TYPE varchar")
            .await;
        let (leases, mut refused) = (claimed().await, 0);
        for _ in 0..16 {
            match store.load(&leases, Some(now)).await {
                Ok(loaded) => assert_eq!(loaded.len(), 1),
                Err(error) => {
                    assert!(error.is_retryable(), "{error:?}");
                    refused += 1;
                }
            }
        }
        assert_eq!(refused, 1, "the one connection that had it finds out, once");
    });
}

#[test]
fn the_function_in_sql_keeps_its_callers_when_it_learns_of_traces() {
    run(async {
        let (name, owner) = (new_name(), pool().await);
        let execute = async |text: String| {
            let done = owner.execute(sqlx::raw_sql(AssertSqlSafe(text))).await;
            done.expect("executed");
        };
        let builder = || PgStore::builder().schema(&name);
        let scripts = builder().migrations().expect("the name is allowed");
        for script in &scripts[..5] {
            execute(script.clone()).await;
        }
        execute(format!(
            "CREATE ROLE {name}_app; CREATE ROLE \"{name} other\";
            REVOKE EXECUTE ON FUNCTION {name}.enqueue FROM PUBLIC;
            GRANT EXECUTE ON FUNCTION {name}.enqueue TO {name}_app;
            GRANT EXECUTE ON FUNCTION {name}.enqueue TO \"{name} other\" WITH GRANT OPTION;
            ALTER FUNCTION {name}.enqueue SECURITY DEFINER;
            ALTER FUNCTION {name}.enqueue SET search_path = pg_catalog, \"{name} other\";
            ALTER FUNCTION {name}.enqueue SET statement_timeout = '10s'"
        ))
        .await;
        let mut caller = owner.acquire().await.expect("a connection");
        let call = format!("PREPARE call AS SELECT {name}.enqueue('a', '1', 'acme')");
        let prepared = caller.execute(sqlx::raw_sql(AssertSqlSafe(call))).await;
        prepared.expect("prepared");
        caller.execute("EXECUTE call").await.expect("it is called");
        let migrated = builder().open(owner.clone()).await;
        migrated.expect("it migrates");
        caller.execute("EXECUTE call").await.expect("it goes on");
        caller.close_on_drop();

        let roles = [
            format!("{name}_app"),
            format!("{name} other"),
            "pg_monitor".to_owned(),
        ];
        let may = format!(
            "SELECT array_agg(concat_ws(
                ' ', has_function_privilege(role, function.oid, 'EXECUTE'),
                has_function_privilege(role, function.oid, 'EXECUTE WITH GRANT OPTION')
            ) ORDER BY place)
            FROM pg_proc AS function, unnest($1::text[]) WITH ORDINALITY AS input (role, place)
            WHERE function.pronamespace = '{name}'::regnamespace AND function.proname = 'enqueue'"
        );
        let may = sqlx::query_scalar::<_, Vec<String>>(AssertSqlSafe(may)).bind(&roles[..]);
        let may = may.fetch_one(&owner).await.expect("asked");
        assert_eq!(may, ["t f", "t t", "f f"], "one function, and as before");
        let runs = format!(
            "SELECT concat_ws(' ', prosecdef, proconfig) FROM pg_proc
            WHERE pronamespace = '{name}'::regnamespace AND proname = 'enqueue'"
        );
        let runs = sqlx::query_scalar::<_, String>(AssertSqlSafe(runs));
        let runs = runs.fetch_one(&owner).await.expect("asked");
        let path = format!(r#""search_path=pg_catalog, \"{name} other\"""#);
        assert_eq!(runs, format!("t {{{path},statement_timeout=10s}}"));
        let roles = format!("{name}_app, \"{name} other\"");
        execute(format!("DROP OWNED BY {roles}; DROP ROLE {roles}")).await;
    });
}

#[test]
fn without_migrations_nothing_is_made() {
    run(async {
        let name = new_name();
        let builder = || PgStore::builder().schema(&name).without_migrations();
        let opened = builder().open(pool().await).await;
        assert!(matches!(opened, Err(ConnectError::TooOld { found: 0, .. })));
        PgStore::builder()
            .schema(&name)
            .open(pool().await)
            .await
            .expect("it migrates");
        builder()
            .open(pool().await)
            .await
            .expect("it finds the tables");
    });
}

/// A schema at an older version.
async fn schema_at(version: usize) -> (String, PgPool) {
    let (name, pool) = (new_name(), pool().await);
    let scripts = PgStore::builder().schema(&name).migrations();
    for script in scripts.expect("the name is allowed").drain(..version) {
        raw(&pool, script).await;
    }
    (name, pool)
}

/// A new process.
async fn open(schema: &str) -> PgStore {
    let builder = PgStore::builder().schema(schema).plaintext();
    builder.open(pool().await).await.expect("it migrates")
}

/// The state and the predicate of an index, if it is there.
async fn index(pool: &PgPool, schema: &str) -> Option<(bool, Option<String>)> {
    let text = "SELECT indisvalid, pg_get_expr(indpred, indrelid) FROM pg_index
        WHERE indexrelid = to_regclass($1)";
    let index = sqlx::query_as(text).bind(format!("{schema}.deliveries_parked"));
    index.fetch_optional(pool).await.expect("the query answers")
}

/// Two deliveries of one endpoint.
fn two_deliveries(schema: &str) -> String {
    format!(
        "INSERT INTO {schema}.deliveries (id, event_id, endpoint_id, replay_no, tenant, event_type, ready,
            due_at, first_due, sequence, capped, ordered, created_at, updated_at)
        SELECT gen_random_uuid(), gen_random_uuid(), '00000000-0000-7000-8000-000000000001', 0, 'default',
            'a', true, now(), now(), n, false, false, now(), now()
        FROM generate_series(1, 2) AS n"
    )
}

#[test]
fn an_index_is_built_beside_all_who_write_however_many_processes_start() {
    run(async {
        let (name, pool) = schema_at(3).await;
        let mut writer = pool.begin().await.expect("a transaction");
        let write = two_deliveries(&name);
        writer
            .execute(AssertSqlSafe(write.clone()))
            .await
            .expect("stored");
        let writes = async {
            while index(&pool, &name).await.is_none() {}
            let lock = format!(
                "BEGIN; LOCK {name}.deliveries IN ROW EXCLUSIVE MODE NOWAIT; {write}; COMMIT"
            );
            raw(&pool, lock).await;
            assert_eq!(index(&pool, &name).await.map(|it| it.0), Some(false));
            writer.commit().await.expect("committed");
        };
        tokio::join!(open(&name), open(&name), writes);
        let (is_valid, predicate) = index(&pool, &name).await.expect("it is built");
        assert!(is_valid);
        assert!(predicate.is_some());
    });
}

#[test]
fn an_index_that_its_builder_left_is_built_anew() {
    run(async {
        let (name, pool) = schema_at(3).await;
        raw(&pool, two_deliveries(&name)).await;
        let fails = format!(
            "CREATE UNIQUE INDEX CONCURRENTLY deliveries_parked ON {name}.deliveries (endpoint_id)"
        );
        let built = pool.execute(AssertSqlSafe(fails)).await;
        built.expect_err("there are two");
        assert_eq!(index(&pool, &name).await, Some((false, None)));
        open(&name).await;
        let (is_valid, predicate) = index(&pool, &name).await.expect("it is built");
        assert!(is_valid);
        assert!(predicate.is_some());
    });
}

#[test]
fn a_migration_that_waits_for_a_reader_keeps_what_is_done() {
    run(async {
        let (name, pool) = schema_at(3).await;
        let mut reader = pool.begin().await.expect("a transaction");
        let read = format!("SELECT count(*) FROM {name}.events");
        reader.execute(AssertSqlSafe(read)).await.expect("read");
        let ends = async {
            let version = format!("SELECT max(version) FROM {name}.migrations");
            while sqlx::query_scalar::<_, i32>(AssertSqlSafe(version.clone()))
                .fetch_one(&pool)
                .await
                .expect("the query answers")
                < 4
            {}
            reader.commit().await.expect("committed");
        };
        tokio::join!(open(&name), ends);
    });
}

#[test]
fn one_call_deletes_all_keys_that_have_expired() {
    run(async {
        let schema = Schema::new().await;
        let expired = "INSERT INTO webhook.idempotency_keys
            SELECT 't', n::text, gen_random_uuid(), '', now() - interval '1 s'
            FROM generate_series(1, 25000) AS n";
        schema.run(expired).await;
        let kept = schema.store.maintain(30 * DAY, None).await;
        kept.expect("keeps house");
        let left: i64 = schema
            .value("SELECT count(*) FROM webhook.idempotency_keys")
            .await;
        assert_eq!(left, 0);
    });
}

#[test]
fn a_role_that_owns_nothing_works_on_what_another_has_migrated() {
    run(async {
        let (name, owner) = (new_name(), pool().await);
        let builder = || PgStore::builder().schema(&name).without_migrations();
        for script in builder().migrations().expect("the name is allowed") {
            raw(&owner, script).await;
        }
        let pool = app_role(&owner, &name).await;
        let store = builder().open(pool.clone()).await.expect("the schema fits");
        store.maintain(30 * DAY, None).await.expect("keeps house");
        assert_eq!(partitions(&owner, &name).await.len(), 1 + 4);

        let receiver = ScriptedTransport::new([503, 200]);
        let builder = Dispatcher::builder(store.clone()).transport(receiver.clone());
        let dispatcher = builder.retry_policy(RetryPolicy::default().schedule([Duration::ZERO]));
        let dispatcher = dispatcher.build().expect("it builds");
        let url = "https://hooks.example.com/".parse().expect("a URL");
        let endpoint = NewEndpoint::new(url).ordered();
        let endpoint = dispatcher
            .endpoints()
            .create(endpoint)
            .await
            .expect("created");
        let event = || NewEvent::data("order.paid", "7").expect("an event");
        let mut tx = pool.begin().await.expect("begun");
        dispatcher
            .enqueue_in(&mut tx, event())
            .await
            .expect("enqueued");
        tx.commit().await.expect("committed");
        for _ in 0..2 {
            assert_eq!(dispatcher.step().await.expect("a step").claimed, 1);
        }
        assert_eq!(receiver.requests().len(), 2);
        let deleted = dispatcher.endpoints().delete(endpoint.id).await;
        deleted.expect("deleted");

        let later = Timestamp::from_seconds(4_000_000_000);
        let kept = store.maintain(Duration::ZERO, Some(later)).await;
        kept.expect("keeps house");
        let left = partitions(&owner, &name).await;
        let is_later = |it: &&String| it.contains("_2096");
        assert_eq!(left.len(), 1 + 4, "{left:?}");
        assert_eq!(left.iter().filter(is_later).count(), 4, "{left:?}");
        pool.close().await;
        raw(
            &owner,
            format!("DROP OWNED BY {name}_app; DROP ROLE {name}_app"),
        )
        .await;
    });
}

/// A new role with what the README grants it, and nothing else.
async fn app_role(owner: &PgPool, schema: &str) -> PgPool {
    let role = format!("{schema}_app");
    let grants = format!(
        "CREATE ROLE {role};
        GRANT USAGE ON SCHEMA {schema} TO {role};
        GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role};
        GRANT USAGE ON ALL SEQUENCES IN SCHEMA {schema} TO {role};
        GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA {schema} TO {role};"
    );
    raw(owner, grants).await;
    let own = owner.connect_options().as_ref().clone();
    let pool = PgPool::connect_with(own.options([("role", &role)])).await;
    pool.expect("the server answers")
}

async fn raw(pool: &PgPool, text: String) {
    let ran = pool.execute(sqlx::raw_sql(AssertSqlSafe(text))).await;
    ran.expect("the statement runs");
}

async fn partitions(pool: &PgPool, schema: &str) -> Vec<String> {
    let text =
        "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = $1::text::regclass";
    let names = sqlx::query_scalar(text).bind(format!("{schema}.events"));
    names.fetch_all(pool).await.expect("the query answers")
}

#[test]
fn what_runs_with_the_rights_of_the_owner_is_not_for_everybody() {
    run(async {
        let schema = Schema::new().await;
        let definers = "SELECT array_agg(proname::text ORDER BY proname) FROM pg_proc
            JOIN pg_class ON pg_class.relnamespace = pronamespace
            WHERE pg_class.oid = 'webhook.events'::regclass AND prosecdef
                AND 'search_path=pg_catalog, pg_temp' = ANY (proconfig)
                AND NOT has_function_privilege('public', pg_proc.oid, 'EXECUTE')";
        let definers: Vec<String> = schema.value(definers).await;
        assert_eq!(definers, ["drop_day", "drop_partitions", "make_partitions"]);
    });
}

#[test]
fn partitions_are_made_ahead_and_dropped_by_retention() {
    run(async {
        let schema = Schema::new().await;
        let store = &schema.store;
        let partitions =
            "SELECT count(*) FROM pg_inherits WHERE inhparent = 'webhook.events'::regclass";
        assert_eq!(
            schema.value::<i64>(partitions).await,
            1 + 4,
            "the default, and four days"
        );
        let endpoint = endpoint_for("default", EndpointSettings::default());
        store
            .insert_endpoint(&endpoint, usize::MAX)
            .await
            .expect("stored");

        let now: i64 = schema
            .value("SELECT (extract(epoch FROM now()) * 1000000)::bigint")
            .await;
        let now = Timestamp::from_micros(now);
        let event = event_for("default", "a", "1", now);
        let events = std::slice::from_ref(&event);
        store
            .insert_events(events, &InsertOptions::new(OnConflict::Skip), Some(now))
            .await
            .expect("stored");
        let in_default: i64 = schema
            .value("SELECT count(*) FROM ONLY webhook.events_default")
            .await;
        assert_eq!(in_default, 0, "today has a partition");

        // Long after, while its delivery still waits.
        let later = now + 40 * DAY;
        store
            .maintain(30 * DAY, Some(later))
            .await
            .expect("keeps house");
        assert!(
            store
                .event(&Scope::All, event.id)
                .await
                .expect("reads")
                .is_some()
        );

        let queue = store.queue().expect("its own");
        let claimed = queue
            .claim(ClaimOptions::new(1, DAY), Some(later))
            .await
            .expect("claims");
        let delivery = claimed.leases[0].delivery;
        store
            .cancel_delivery(&Scope::All, delivery, Some(later))
            .await
            .expect("ends");
        for (passed, is_kept) in [(29 * DAY, true), (31 * DAY, false)] {
            store
                .maintain(30 * DAY, Some(later + passed))
                .await
                .expect("keeps house");
            let event = store.event(&Scope::All, event.id).await.expect("reads");
            let delivery = store.delivery(&Scope::All, delivery).await.expect("reads");
            assert_eq!(
                (event.is_some(), delivery.is_some()),
                (is_kept, is_kept),
                "{passed:?} after its end"
            );
        }
        assert!(
            schema.value::<i64>(partitions).await > 4,
            "the days ahead of then are there"
        );
    });
}

/// Of days without partitions: what ended lately stays, however long it was there before.
#[test]
fn what_is_in_the_default_partitions_is_kept_as_long() {
    run(async {
        let schema = Schema::new().await;
        let store = &schema.store;
        let endpoint = endpoint_for("default", EndpointSettings::default());
        store
            .insert_endpoint(&endpoint, usize::MAX)
            .await
            .expect("stored");
        let now = Timestamp::from_seconds(1_700_000_000);
        let event = event_for("default", "a", "1", now);
        let events = std::slice::from_ref(&event);
        let options = InsertOptions::new(OnConflict::Skip);
        let inserted = store.insert_events(events, &options, Some(now)).await;
        let job = inserted.expect("stored").jobs.remove(0);
        let ended = now + 40 * DAY;
        store
            .cancel_delivery(&Scope::All, job.delivery, Some(ended))
            .await
            .expect("ends");
        for (passed, is_kept) in [(29 * DAY, true), (31 * DAY, false)] {
            store
                .maintain(30 * DAY, Some(ended + passed))
                .await
                .expect("keeps house");
            let event = store.event(&Scope::All, event.id).await.expect("reads");
            let delivery = store.delivery(&Scope::All, job.delivery).await;
            let delivery = delivery.expect("reads");
            assert_eq!((event.is_some(), delivery.is_some()), (is_kept, is_kept));
        }
    });
}

#[test]
fn old_keys_and_idle_lanes_are_forgotten() {
    run(async {
        let schema = Schema::new().await;
        let now = Timestamp::from_seconds(1_700_000_000);
        let event = NewEvent::data("a", "1").and_then(|event| event.idempotency_key("k"));
        let dispatcher = dispatcher(&schema, &ManualClock::new(now), []);
        dispatcher
            .enqueue(event.expect("valid"))
            .await
            .expect("accepted");
        let queue = schema.store.queue().expect("its own");
        queue
            .hold(uuid::Uuid::from_u128(7), Hold::new(DAY), Some(now))
            .await
            .expect("holds");
        let rows = "SELECT (SELECT count(*) FROM webhook.idempotency_keys) + count(*) FROM webhook.lane_state";
        schema
            .store
            .maintain(30 * DAY, Some(now))
            .await
            .expect("keeps house");
        assert_eq!(schema.value::<i64>(rows).await, 2);
        schema
            .store
            .maintain(30 * DAY, Some(now + DAY))
            .await
            .expect("keeps house");
        assert_eq!(schema.value::<i64>(rows).await, 0);
    });
}

#[test]
fn enqueue_in_sql_does_what_the_library_does() {
    run(async {
        let schema = Schema::new().await;
        let store = &schema.store;
        for patterns in [&[][..], &["order.*"], &["invoice.*"]] {
            let event_types = patterns
                .iter()
                .map(|it| it.parse().expect("a pattern"))
                .collect();
            let settings = EndpointSettings {
                event_types,
                ..Default::default()
            };
            store
                .insert_endpoint(&endpoint_for("acme", settings), usize::MAX)
                .await
                .expect("stored");
        }
        let call = r#"SELECT webhook.enqueue('order.paid', '{"b":1,"a":1e400,"a":"\u0000"}', 'acme', 'k')"#;
        let id: uuid::Uuid = schema.value(call).await;
        assert_eq!(
            schema.value::<uuid::Uuid>(call).await,
            id,
            "the key stands for it"
        );
        let event = store
            .event(&Scope::All, id)
            .await
            .expect("reads")
            .expect("is there");
        assert_eq!(
            event.data().expect("data"),
            r#"{"b":1,"a":1e400,"a":"\u0000"}"#
        );
        let found = deliveries(store).await;
        assert_eq!(found.len(), 2);
        for delivery in found {
            let derived =
                webhook_core::delivery_id(event.created_at, event.id, delivery.endpoint_id, 0);
            assert_eq!(delivery.id, derived);
        }
        // The same key and content, by the library.
        let same = NewEvent::data("order.paid", r#"{"b":1,"a":1e400,"a":"\u0000"}"#)
            .and_then(|event| event.idempotency_key("k"))
            .expect("valid")
            .tenant("acme".parse().expect("a tenant"));
        let dispatcher = dispatcher(&schema, &ManualClock::new(event.created_at), []);
        assert_eq!(dispatcher.enqueue(same).await.expect("accepted"), id);
        let short = "SELECT webhook.enqueue('order.paid', '1', 'acme', 's', NULL, interval '0')";
        let ids: [uuid::Uuid; 2] = [schema.value(short).await, schema.value(short).await];
        assert_ne!(ids[0], ids[1], "a window of its own");
        for bad in [
            "SELECT webhook.enqueue('order paid', '1')",
            "SELECT webhook.enqueue('order.paid', '{')",
            "SELECT webhook.enqueue('order.paid', '1', 'a b')",
            "SELECT webhook.enqueue('order.paid', '2', 'acme', 'k')",
            "SELECT webhook.enqueue('order.paid', '\"' || repeat('x', 262144) || '\"')",
        ] {
            let refused = sqlx::query(schema.sql(bad)).execute(&schema.pool).await;
            assert!(refused.is_err(), "{bad}");
        }
    });
}

#[test]
fn a_row_that_cannot_be_read_is_put_aside() {
    run(async {
        let schema = Schema::new().await;
        let now = Timestamp::from_seconds(1_700_000_000);
        let clock = ManualClock::new(now);
        let dispatcher = dispatcher(&schema, &clock, [200]);
        let endpoint = endpoint_for("default", EndpointSettings::default());
        schema
            .store
            .insert_endpoint(&endpoint, usize::MAX)
            .await
            .expect("stored");
        for data in ["1", "2"] {
            dispatcher
                .enqueue(NewEvent::data("a", data).expect("valid"))
                .await
                .expect("accepted");
        }
        let spoil = "UPDATE webhook.events SET event_type = 'not a type'
            WHERE id = (SELECT min(id::text)::uuid FROM webhook.events)";
        schema.run(spoil).await;
        fast_forward(&dispatcher, &clock, DAY)
            .await
            .expect("it goes on");
        let mut ends: Vec<_> = deliveries(&schema.store)
            .await
            .iter()
            .map(|delivery| (delivery.status, delivery.end_reason, delivery.attempts))
            .collect();
        ends.sort_by_key(|(_, _, attempts)| *attempts);
        let corrupt = (DeliveryStatus::Failed, Some(EndReason::Corrupt), 0);
        assert_eq!(ends, [corrupt, (DeliveryStatus::Succeeded, None, 1)]);
    });
}

#[test]
fn a_delivery_goes_through_its_whole_life() {
    run(async {
        let schema = Schema::new().await;
        let now = Timestamp::from_seconds(1_700_000_000);
        let clock = ManualClock::new(now);
        let transport = ScriptedTransport::new([503, 503, 200]);
        let dispatcher = Dispatcher::builder(schema.store.clone())
            .transport(transport.clone())
            .clock(clock.clone())
            .build()
            .expect("it builds");
        let endpoint = endpoint_for("default", EndpointSettings::default());
        schema
            .store
            .insert_endpoint(&endpoint, usize::MAX)
            .await
            .expect("stored");
        let mut tx = schema.pool.begin().await.expect("a transaction");
        let event = NewEvent::data("a", r#"{"a":"\u0000"}"#).expect("valid");
        let id = dispatcher
            .enqueue_in(&mut tx, event)
            .await
            .expect("accepted");
        fast_forward(&dispatcher, &clock, DAY)
            .await
            .expect("it goes on");
        assert_eq!(transport.requests().len(), 0, "nothing before the commit");
        tx.commit().await.expect("it commits");
        fast_forward(&dispatcher, &clock, DAY)
            .await
            .expect("it goes on");
        assert_eq!(transport.requests().len(), 3);
        let delivered = deliveries(&schema.store).await;
        assert_eq!((delivered[0].event_id, delivered[0].attempts), (id, 3));
    });
}

async fn deliveries(store: &PgStore) -> Vec<Delivery> {
    let (all, page) = (DeliveryFilter::default(), PageRequest::first(9));
    let found = store.deliveries(&Scope::All, &all, page).await;
    found.expect("deliveries are read").items
}

fn dispatcher(
    schema: &Schema,
    clock: &ManualClock,
    answers: impl IntoIterator<Item = u16>,
) -> Dispatcher<PgStore> {
    Dispatcher::builder(schema.store.clone())
        .transport(ScriptedTransport::new(answers))
        .clock(clock.clone())
        .build()
        .expect("it builds")
}

//! Every statement prepares, and the hot ones keep to their indexes however much is stored.

mod common;

use std::fs;
use std::path::Path;

use common::Schema;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};
use webhook_core::testing::run;
use webhook_core::{Depth, Store};

/// The statements by the names of their files.
fn statements() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("sql");
    let files = fs::read_dir(folder).expect("the folder is there");
    let statement = |file: fs::DirEntry| {
        let name = file
            .path()
            .file_stem()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        (name, fs::read_to_string(file.path()).expect("a text"))
    };
    files.map(|file| statement(file.expect("a file"))).collect()
}

#[test]
fn every_statement_prepares() {
    run(async {
        let schema = Schema::new().await;
        let statements = statements();
        assert!(statements.len() > 25, "{}", statements.len());
        for (name, text) in statements {
            let text = schema.sql(&text).0;
            let prepared = sqlx::SqlSafeStr::into_sql_str(AssertSqlSafe(text));
            let prepared = schema.pool.prepare(prepared).await;
            prepared.unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    });
}

/// Live deliveries: each row of `job` is number, lane, and whether it is ready or waits for an hour.
const JOBS: &str = "
    INSERT INTO webhook.deliveries (id, event_id, endpoint_id, replay_no, tenant, event_type, ready,
        due_at, first_due, sequence, capped, ordered, created_at, updated_at)
    SELECT webhook.first_id(now() - n * interval '1 ms'), gen_random_uuid(),
        ('00000000-0000-7000-8000-' || lpad(to_hex(lane), 12, '0'))::uuid, 0, 'default', 'a', ready,
        now() + CASE WHEN ready THEN -1 ELSE 3600 END * interval '1 s', now(), n, false, false, now(), now()
    FROM (ROWS) AS job (n, lane, ready)";
/// 1,000 in 100 lanes.
const READY: &str = "SELECT n, n % 100 + 20000, true FROM generate_series(200001, 201000) AS n";
/// 100,000 in one lane, and as many in 10,000 lanes.
const PARKED: &str = "
    SELECT n, 1, false FROM generate_series(1, 100000) AS n
    UNION ALL
    SELECT n, n % 10000 + 2, false FROM generate_series(100001, 200000) AS n";
/// What has ended, endpoints of other tenants, and keys.
const HISTORY: &str = "
    INSERT INTO webhook.deliveries_history (id, event_id, endpoint_id, replay_no, tenant, event_type,
        status, attempts, created_at, updated_at)
    SELECT webhook.first_id(now() - n * interval '1 ms'), gen_random_uuid(), gen_random_uuid(), 0,
        'default', 'a', 'succeeded', 1, now(), now()
    FROM generate_series(300001, 500000) AS n;
    INSERT INTO webhook.events (id, tenant, event_type, body, created_at)
    SELECT id, 'default', 'a', '{}', now() FROM webhook.deliveries_history;
    INSERT INTO webhook.attempts (delivery_id, number, started_at, duration, request_headers, truncated)
    SELECT id, 1, now(), 1, '', false FROM webhook.deliveries_history;
    INSERT INTO webhook.endpoints (id, tenant, url, settings, secrets, exact_types, type_prefixes, state,
        version, created_at, updated_at)
    SELECT gen_random_uuid(), 't' || n % 50000, '', '', '', '{}', '{}', 'enabled', 1, now(), now()
    FROM generate_series(1, 200000) AS n;
    INSERT INTO webhook.idempotency_keys (tenant, key, event_id, fingerprint, expires_at)
    SELECT 'default', n::text, gen_random_uuid(), '', now() FROM generate_series(1, 100000) AS n;";
const TABLES: [&str; 8] = [
    "deliveries",
    "deliveries_history",
    "events",
    "attempts",
    "endpoints",
    "idempotency_keys",
    "lane_state",
    "stats",
];

/// Adds live deliveries.
async fn fill(schema: &Schema, rows: &str) {
    schema.run(&JOBS.replace("ROWS", rows)).await;
}

/// Lets the planner know what there is.
async fn analyze(schema: &Schema) {
    for table in TABLES {
        schema.run(&format!("VACUUM ANALYZE webhook.{table}")).await;
    }
}

/// The hot statements, and parameters for them.
const HOT: [(&str, &str); 14] = [
    (
        "claim",
        "NULL, 128, 30000000, '', '{}', '{}', '{}', '{}', 32, 128",
    ),
    ("wake", "NULL, 1000"),
    (
        "load",
        "NULL, IDS, \
         array_fill(1::bigint, ARRAY[128]), array_fill(now(), ARRAY[128])",
    ),
    (
        "record",
        "NULL, IDS, \
         array_fill(1::bigint, ARRAY[128]), array_fill('succeeded'::text, ARRAY[128]), \
         array_fill(NULL::text, ARRAY[128]), array_fill(NULL::bigint, ARRAY[128]), \
         array_fill(NULL::text, ARRAY[128]), \
         array_fill(now(), ARRAY[128]), array_fill(1::bigint, ARRAY[128]), \
         array_fill(1::bigint, ARRAY[128]), array_fill(''::bytea, ARRAY[128]), \
         array_fill(200::smallint, ARRAY[128]), array_fill(NULL::text, ARRAY[128]), \
         array_fill(''::bytea, ARRAY[128]), array_fill(''::bytea, ARRAY[128]), \
         array_fill(false, ARRAY[128]), array_fill(NULL::bigint, ARRAY[128])",
    ),
    (
        "settle",
        "NULL, IDS, \
         array_fill(1::bigint, ARRAY[128]), array_fill(0::bigint, ARRAY[128])",
    ),
    (
        "insert_events",
        "NULL, NEW, array_fill('default'::text, ARRAY[128]), array_fill('a'::text, ARRAY[128]), \
         array_fill(''::bytea, ARRAY[128]), array_fill(now(), ARRAY[128]), \
         array_fill(NULL::timestamptz, ARRAY[128]), array_fill('123456'::bytea, ARRAY[128]), \
         '{}', '{}', '{}', 30000000, array_fill(NULL::text, ARRAY[128])",
    ),
    (
        "insert_events_keyed",
        "NULL, NEW, array_fill('default'::text, ARRAY[128]), array_fill('a'::text, ARRAY[128]), \
         array_fill(''::bytea, ARRAY[128]), array_fill(now(), ARRAY[128]), \
         array_fill(NULL::timestamptz, ARRAY[128]), array_fill('123456'::bytea, ARRAY[128]), \
         NEW::text[], array_fill(''::bytea, ARRAY[128]), array_fill(86400000000::bigint, ARRAY[128]), \
         array_fill(NULL::text, ARRAY[128]), '200ms'",
    ),
    ("jobs", "IDS"),
    (
        "extend",
        "NULL, IDS, array_fill(1::bigint, ARRAY[128]), 30000000",
    ),
    (
        "endpoint_events",
        "'00000000-0000-7000-8000-000000000001', 'default', \
         '00000000-0000-0000-0000-000000000000', 'ffffffff-ffff-ffff-ffff-ffffffffffff', 250, false",
    ),
    (
        "step_replay",
        "NULL, '00000000-0000-7000-8000-000000000001', 1, 'running', NULL, 0, IDS, IDS, \
         array_fill(0, ARRAY[128])",
    ),
    ("unqueued", "'00000000-0000-0000-0000-000000000000', 1000"),
    ("depth", "NULL, 10000, 1000"),
    (
        "backlog",
        "NULL, '00000000-0000-7000-8000-000000000001', NULL, 10000",
    ),
];

/// Those that are planned each time for their parameters.
const PLANNED: [(&str, &str); 3] = [
    (
        "erasure_page",
        "'default', 'ffffffff-ffff-ffff-ffff-ffffffffffff', 200",
    ),
    (
        "erasure_page",
        "'small', 'ffffffff-ffff-ffff-ffff-ffffffffffff', 200",
    ),
    (
        "erase",
        "'default', 'ffffffff-ffff-ffff-ffff-ffffffffffff', now(), 200, \
         IDS, '00000000-0000-0000-0000-000000000000', 'ffffffff-ffff-ffff-ffff-ffffffffffff', IDS, \
         IDS, '00000000-0000-0000-0000-000000000000', 'ffffffff-ffff-ffff-ffff-ffffffffffff', \
         IDS, '00000000-0000-0000-0000-000000000000', 'ffffffff-ffff-ffff-ffff-ffffffffffff'",
    ),
];

/// Above this the server would compile the plan to machine code, where the host has left that on.
const JIT_ABOVE: f64 = 100_000.0;

#[test]
fn hot_statements_keep_to_their_indexes() {
    run(async {
        let schema = Schema::new().await;
        fill(&schema, READY).await;
        fill(&schema, PARKED).await;
        schema.run(HISTORY).await;
        analyze(&schema).await;
        let today: String = schema
            .value("SELECT to_char(now() AT TIME ZONE 'UTC', '_YYYYMMDD')")
            .await;
        let [history, events, attempts] =
            ["deliveries_history", "events", "attempts"].map(|table| format!("{table}{today}"));
        // Of partitions that are empty nobody minds.
        let large = [
            "deliveries",
            &history,
            &events,
            &attempts,
            "endpoints",
            "idempotency_keys",
        ];
        let hot = HOT.iter().map(|it| (it, &MODES[..]));
        let planned = PLANNED.iter().map(|it| (it, &CUSTOM[..]));
        for ((name, arguments), modes) in hot.chain(planned) {
            for mode in modes {
                let plan = explain(&schema, name, arguments, mode, "EXPLAIN").await;
                for table in large {
                    let scan = format!("Seq Scan on {table} ");
                    assert!(!plan.contains(&scan), "{name}, {mode}: {plan}");
                }
                let cost: f64 = plan
                    .split_once("..")
                    .and_then(|(_, rest)| rest.split_once(' ')?.0.parse().ok())
                    .expect("a cost");
                assert!(cost < JIT_ABOVE, "{name}, {mode}: {plan}");
            }
        }
        let queue = schema.store.queue().expect("its own");
        let depth = queue.depth(None).await.expect("counts");
        assert_eq!(depth.parked, Depth::MOST);
    });
}

#[test]
fn parked_jobs_cost_a_claim_nothing() {
    run(async {
        let schema = Schema::new().await;
        fill(&schema, READY).await;
        let without = pages_of_a_claim(&schema).await;
        fill(&schema, PARKED).await;
        let with = pages_of_a_claim(&schema).await;
        // Indexes have some more levels, for each of 128 jobs.
        assert_no_dearer(without, with, 5 * 128);
    });
}

#[test]
fn what_held_lanes_keep_costs_a_claim_nothing() {
    run(async {
        let schema = Schema::new().await;
        let held = async |lanes: usize, jobs: usize| {
            schema
                .run("TRUNCATE webhook.deliveries, webhook.lane_state")
                .await;
            fill(&schema, READY).await;
            let jobs = lanes * jobs;
            let rows =
                format!("SELECT n, n % {lanes} + 1, true FROM generate_series(1, {jobs}) AS n");
            fill(&schema, &rows).await;
            let hold = "INSERT INTO webhook.lane_state (endpoint_id, held_until)
                SELECT DISTINCT endpoint_id, now() + interval '1 hour' FROM webhook.deliveries
                WHERE endpoint_id < '00000000-0000-7000-8000-000000004e20'";
            schema.run(hold).await;
            pages_of_a_claim(&schema).await
        };
        // More than a claim looks at: whatever it reads is of those that are held.
        let few = held(600, 1).await;
        // One level of an index more, for each lane that it looks at.
        assert_no_dearer(few, held(3_000, 1).await, 512);
        assert_no_dearer(few, held(3_000, 30).await, 512);
    });
}

/// One each 20 seconds, for 23 days.
const DAYS: &str = "
    INSERT INTO webhook.deliveries_history (id, event_id, endpoint_id, replay_no, tenant, event_type,
        status, attempts, created_at, updated_at)
    SELECT webhook.first_id(at), webhook.first_id(at), gen_random_uuid(), 0, 'default', 'a', 'succeeded', 1, at, at
    FROM (SELECT now() - n * interval '20 s' AS at FROM generate_series(1, 100000) AS n) AS made";

#[test]
fn a_page_of_deliveries_costs_what_it_shows_however_old_it_is() {
    run(async {
        let schema = Schema::new().await;
        fill(&schema, READY).await;
        schema.run(DAYS).await;
        analyze(&schema).await;
        let pages = "SELECT sum(pg_relation_size(oid) / 8192)::bigint FROM pg_class
            WHERE relkind = 'r' AND relnamespace = 'webhook'::regnamespace AND relname LIKE 'deliveries_history%'";
        let pages = pages.replace("'webhook'", &format!("'{}'", schema.name));
        let stored: i64 = schema.value(&pages).await;
        let (then, no) = ("now() - interval '10 days'", "NULL");
        // A search that matches nothing looks back as far as it is told to.
        let (rare, floor) = ("'rare'", "webhook.first_id(now() - interval '2 days')");
        for (before, event, until, event_at, (event_type, floor)) in [
            (no, no, no, no, (no, no)),
            ("webhook.first_id(THEN)", no, no, no, (no, no)),
            (no, no, "THEN", no, (no, no)),
            (no, no, "THEN - interval '1 year'", no, (no, no)),
            (no, "webhook.first_id(THEN)", no, "THEN", (no, no)),
            (no, no, no, no, (rare, floor)),
        ] {
            let arguments = format!(
                "NULL, {before}, 51, NULL, {event}, {event_type}, NULL, NULL, NULL, {until}, NULL, {event_at}, {floor}"
            );
            let arguments = arguments.replace("THEN", then);
            let arguments = schema.sql(&arguments).0;
            let read = pages_read(&schema, "deliveries", &arguments, CUSTOM[0]).await;
            assert!(
                read * 5 < u64::try_from(stored).unwrap(),
                "{read} of {stored}: {arguments}"
            );
        }
    });
}

fn assert_no_dearer(before: [u64; 2], after: [u64; 2], more: u64) {
    for (mode, (before, after)) in MODES.iter().zip(before.into_iter().zip(after)) {
        assert!(
            after <= before * 6 / 5 + more,
            "{mode}: {before}, then {after}"
        );
    }
}

/// How many pages a claim reads, in each mode.
async fn pages_of_a_claim(schema: &Schema) -> [u64; 2] {
    analyze(schema).await;
    let (name, arguments) = HOT[0];
    let mut pages = [0; 2];
    for (pages, mode) in pages.iter_mut().zip(MODES) {
        *pages = pages_read(schema, name, arguments, mode).await;
    }
    pages
}

async fn pages_read(schema: &Schema, name: &str, arguments: &str, mode: &str) -> u64 {
    let analyzed = "EXPLAIN (ANALYZE, TIMING off, BUFFERS)";
    let plan = explain(schema, name, arguments, mode, analyzed).await;
    let line = plan
        .lines()
        .find_map(|line| line.trim().strip_prefix("Buffers: shared "));
    let counts = line.into_iter().flat_map(str::split_whitespace);
    let counts =
        counts.filter_map(|count| count.strip_prefix("hit=").or(count.strip_prefix("read=")));
    let pages = counts
        .map(|count| count.parse::<u64>().expect("a number"))
        .sum();
    assert!(pages > 0, "{plan}");
    pages
}

const MODES: [&str; 2] = ["force_custom_plan", "force_generic_plan"];
const CUSTOM: [&str; 1] = ["force_custom_plan"];

async fn explain(
    schema: &Schema,
    name: &str,
    arguments: &str,
    mode: &str,
    explain: &str,
) -> String {
    let statements = statements();
    let (_, text) = statements
        .iter()
        .find(|(it, _)| it == name)
        .expect("its file");
    let mut connection = schema.pool.acquire().await.expect("a connection");
    let mut tx = connection.begin().await.expect("a transaction");
    let set = AssertSqlSafe(format!("SET LOCAL plan_cache_mode = {mode}"));
    tx.execute(sqlx::raw_sql(set)).await.expect("it is set");
    prepare(schema, &mut tx, text).await;
    let ids = "SELECT quote_literal(array_agg(id)::text) FROM
        (SELECT id FROM webhook.deliveries ORDER BY id DESC LIMIT 128) AS newest";
    let new =
        "SELECT quote_literal(array_agg(gen_random_uuid())::text) FROM generate_series(1, 128)";
    let arguments = arguments.replace(
        "IDS",
        &format!("{}::uuid[]", schema.value::<String>(ids).await),
    );
    let arguments = arguments.replace(
        "NEW",
        &format!("{}::uuid[]", schema.value::<String>(new).await),
    );
    let plan = lines(&mut tx, format!("{explain} EXECUTE hot ({arguments})")).await;
    forget(&mut tx).await;
    plan
}

async fn prepare(schema: &Schema, connection: &mut PgConnection, text: &str) {
    let text = schema.sql(text).0;
    let prepared = connection.execute(sqlx::raw_sql(AssertSqlSafe(format!(
        "PREPARE hot AS {text}"
    ))));
    prepared.await.expect("it prepares");
}

async fn forget(connection: &mut PgConnection) {
    let forgotten = connection.execute(sqlx::raw_sql("DEALLOCATE hot"));
    forgotten.await.expect("it was prepared");
}

async fn lines(connection: &mut PgConnection, text: String) -> String {
    let rows = connection
        .fetch_all(sqlx::raw_sql(AssertSqlSafe(text)))
        .await
        .expect("a plan");
    let lines = rows.iter().map(|row| row.get::<String, _>(0));
    lines.collect::<Vec<_>>().join("\n")
}

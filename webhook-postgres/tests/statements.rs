//! Every statement prepares, and the hot ones keep to their indexes however much is stored.

mod common;

use std::fs;
use std::path::Path;

use common::Schema;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};
use webhook_core::testing::run;

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

/// 100,000 parked jobs in one lane and as many in 10,000 lanes, 1,000 ready ones, and 200,000 that ended.
const BACKLOG: &str = "
    INSERT INTO webhook.deliveries (id, event_id, endpoint_id, replay_no, tenant, event_type, ready,
        due_at, first_due, sequence, capped, ordered, created_at, updated_at)
    SELECT webhook.first_id(now() - n * interval '1 ms'), gen_random_uuid(),
        ('00000000-0000-7000-8000-' || lpad(to_hex(lane), 12, '0'))::uuid, 0, 'default', 'a', ready,
        now() + CASE WHEN ready THEN -1 ELSE 3600 END * interval '1 s', now(), n, false, false, now(), now()
    FROM (
        SELECT n, 1 AS lane, false AS ready FROM generate_series(1, 100000) AS n
        UNION ALL
        SELECT n, n % 10000 + 2, false FROM generate_series(100001, 200000) AS n
        UNION ALL
        SELECT n, n % 100 + 20000, true FROM generate_series(200001, 201000) AS n
    ) AS job;
    INSERT INTO webhook.deliveries_history (id, event_id, endpoint_id, replay_no, tenant, event_type,
        status, attempts, created_at, updated_at)
    SELECT webhook.first_id(now() - n * interval '1 ms'), gen_random_uuid(), gen_random_uuid(), 0,
        'default', 'a', 'succeeded', 1, now(), now()
    FROM generate_series(300001, 500000) AS n;
    INSERT INTO webhook.events (id, tenant, event_type, body, created_at)
    SELECT id, 'default', 'a', '{}', now() FROM webhook.deliveries_history;
    INSERT INTO webhook.attempts (delivery_id, number, started_at, duration, request_headers, truncated)
    SELECT id, 1, now(), 1, '', false FROM webhook.deliveries_history;
    ANALYZE webhook.deliveries; ANALYZE webhook.deliveries_history; ANALYZE webhook.events;
    ANALYZE webhook.attempts;";

/// The hot statements, and parameters for them.
const HOT: [(&str, &str); 6] = [
    (
        "claim",
        "NULL, 128, 30000000, '', '{}', '{}', '{}', '{}', 32",
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
         array_fill(NULL::text, ARRAY[128]), array_fill(NULL::text, ARRAY[128]), \
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
    ("unqueued", "'00000000-0000-0000-0000-000000000000', 1000"),
];

/// Above this the server would compile the plan to machine code, where the host has left that on.
const JIT_ABOVE: f64 = 100_000.0;

#[test]
fn hot_statements_keep_to_their_indexes() {
    run(async {
        let schema = Schema::new().await;
        schema.run(BACKLOG).await;
        let statements = statements();
        let today: String = schema
            .value("SELECT to_char(now() AT TIME ZONE 'UTC', '_YYYYMMDD')")
            .await;
        let [history, events, attempts] =
            ["deliveries_history", "events", "attempts"].map(|table| format!("{table}{today}"));
        for (name, arguments) in HOT {
            let text = &statements
                .iter()
                .find(|(it, _)| it == name)
                .expect("its file")
                .1;
            for mode in ["force_custom_plan", "force_generic_plan"] {
                let plan = explain(&schema, text, arguments, mode).await;
                // Of partitions that are empty nobody minds.
                for table in ["deliveries", &history, &events, &attempts] {
                    let scan = format!("Seq Scan on {table} ");
                    assert!(!plan.contains(&scan), "{name}, {mode}: {plan}");
                }
                let cost: f64 = plan
                    .split_once("..")
                    .and_then(|(_, rest)| rest.split_once(' ')?.0.parse().ok())
                    .expect("a cost");
                assert!(cost < JIT_ABOVE, "{name}, {mode}: {plan}");
            }
            if name == "claim" {
                claim_reads_no_parked_job(&schema, text).await;
            }
        }
    });
}

/// What a claim reads is what it takes, and a little for each lane that it hops to.
async fn claim_reads_no_parked_job(schema: &Schema, text: &str) {
    let mut connection = schema.pool.acquire().await.expect("a connection");
    let mut tx = connection.begin().await.expect("a transaction");
    prepare(schema, &mut tx, text).await;
    let explain = format!(
        "EXPLAIN (ANALYZE, TIMING off, BUFFERS) EXECUTE hot ({})",
        HOT[0].1
    );
    let plan = lines(&mut tx, explain).await;
    let buffers = plan
        .lines()
        .find_map(|line| line.trim().strip_prefix("Buffers: shared hit="));
    let buffers: u64 = buffers
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .expect("buffers");
    assert!(buffers < 10_000, "{plan}");
    forget(&mut tx).await;
}

async fn explain(schema: &Schema, text: &str, arguments: &str, mode: &str) -> String {
    let mut connection = schema.pool.acquire().await.expect("a connection");
    let mut tx = connection.begin().await.expect("a transaction");
    let set = AssertSqlSafe(format!("SET LOCAL plan_cache_mode = {mode}"));
    tx.execute(sqlx::raw_sql(set)).await.expect("it is set");
    prepare(schema, &mut tx, text).await;
    let ids = "SELECT quote_literal(array_agg(id)::text) FROM
        (SELECT id FROM webhook.deliveries ORDER BY id DESC LIMIT 128) AS newest";
    let arguments = arguments.replace("IDS", &schema.value::<String>(ids).await);
    let plan = lines(&mut tx, format!("EXPLAIN EXECUTE hot ({arguments})")).await;
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

//! The statements, one in each file.
//!
//! Limits are written as `+?`: if a limit is a plain parameter, SQLite parses the statement again at each run.

use std::sync::Arc;

use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr, Sqlite};

/// The prefix of tables as the files spell it.
const PLACEHOLDER: &str = "webhook_";

pub(crate) type Bound = Query<'static, Sqlite, SqliteArguments>;

/// A statement with the store's prefix.
pub(crate) fn with_prefix(text: &str, prefix: &str) -> SqlStr {
    let text: Arc<str> = text.replace(PLACEHOLDER, prefix).into();
    AssertSqlSafe(text).into_sql_str()
}

/// A statement over many rows: its file has one tuple after `VALUES`, which is repeated for each row.
///
/// There is a text for 1, 2, 4, … rows, and a list that is between two sizes is filled up with tuples of NULL,
/// which every such statement passes over. So each text is prepared once on a connection, and a list is one
/// statement, or few: sqlx takes longer to start one than SQLite for a row.
pub(crate) struct Batch {
    sizes: [SqlStr; SIZES],
    columns: usize,
}

const SIZES: usize = 8;

impl Batch {
    /// The most rows of one statement.
    const MOST: usize = 1 << (SIZES - 1);

    fn new(text: &str, prefix: &str) -> Self {
        let (start, end) = tuple(text).unwrap_or_default();
        let tuple = &text[start..end];
        let sizes = std::array::from_fn(|size| {
            let tuples = vec![tuple; 1 << size].join(", ");
            with_prefix(&[&text[..start], &tuples, &text[end..]].concat(), prefix)
        });
        let columns = tuple.matches('?').count();
        Self { sizes, columns }
    }

    /// Runs it over `rows`. `bind` binds a row's tuple, `bind_rest` what stands after the tuples. Returns
    /// what it selects or returns.
    pub(crate) async fn run<T>(
        &self,
        connection: &mut SqliteConnection,
        rows: &[T],
        bind: impl Fn(Bound, &T) -> Bound,
        bind_rest: impl Fn(Bound) -> Bound,
    ) -> sqlx::Result<Vec<SqliteRow>> {
        let mut results = Vec::new();
        for chunk in rows.chunks(Self::MOST) {
            let size = chunk.len().next_power_of_two();
            let text = self.sizes[size.ilog2() as usize].clone();
            let query = chunk.iter().fold(sqlx::query(text), &bind);
            let missing = (size - chunk.len()) * self.columns;
            let query = (0..missing).fold(query, |query, _| query.bind(None::<i64>));
            results.extend(bind_rest(query).fetch_all(&mut *connection).await?);
        }
        Ok(results)
    }
}

/// Where the first tuple after `VALUES` begins and ends.
fn tuple(text: &str) -> Option<(usize, usize)> {
    const KEYWORD: &str = "VALUES ";
    let start = text.find(KEYWORD)? + KEYWORD.len();
    Some((start, start + text[start..].find(')')? + 1))
}

macro_rules! statements {
    (one: { $($one:ident: $one_file:literal,)* } many: { $($many:ident: $many_file:literal,)* }) => {
        /// Every statement of a store, named as its file.
        pub(crate) struct Sql {
            $(pub(crate) $one: SqlStr,)*
            $(pub(crate) $many: Batch,)*
        }

        impl Sql {
            pub(crate) fn new(prefix: &str) -> Self {
                Self {
                    $($one: with_prefix(include_str!($one_file), prefix),)*
                    $($many: Batch::new(include_str!($many_file), prefix),)*
                }
            }

            #[cfg(test)]
            fn all(&self) -> Vec<(&'static str, SqlStr)> {
                let one = [$(($one_file, self.$one.clone()),)*];
                let many = [$(($many_file, &self.$many.sizes),)*];
                let many = many.iter().flat_map(|(file, sizes)| sizes.iter().map(|it| (*file, it.clone())));
                one.into_iter().chain(many).collect()
            }
        }
    };
}

statements! {
    one: {
        now: "../sql/now.sql",
        expire: "../sql/expire.sql",
        wake_due: "../sql/wake_due.sql",
        claim_lanes: "../sql/claim_lanes.sql",
        next_due: "../sql/next_due.sql",
        last_sequence: "../sql/last_sequence.sql",
        unqueued: "../sql/unqueued.sql",
        overdue: "../sql/overdue.sql",
        fills: "../sql/fills.sql",
        ping: "../sql/ping.sql",
        vitals: "../sql/vitals.sql",
        close: "../sql/close.sql",
        disable_endpoint: "../sql/disable_endpoint.sql",
        count_endpoints: "../sql/count_endpoints.sql",
        insert_endpoint: "../sql/insert_endpoint.sql",
        insert_lane: "../sql/insert_lane.sql",
        update_endpoint: "../sql/update_endpoint.sql",
        rekey: "../sql/rekey.sql",
        update_lane: "../sql/update_lane.sql",
        update_places: "../sql/update_places.sql",
        delete_endpoint: "../sql/delete_endpoint.sql",
        delete_lane: "../sql/delete_lane.sql",
        end_lane: "../sql/end_lane.sql",
        remove_lane: "../sql/remove_lane.sql",
        endpoints: "../sql/endpoints.sql",
        events: "../sql/events.sql",
        events_listed: "../sql/events_listed.sql",
        events_floor: "../sql/events_floor.sql",
        deliveries: "../sql/deliveries.sql",
        deliveries_floor: "../sql/deliveries_floor.sql",
        attempts: "../sql/attempts.sql",
        replay_numbers: "../sql/replay_numbers.sql",
        insert_replay: "../sql/insert_replay.sql",
        replays: "../sql/replays.sql",
        next_replay: "../sql/next_replay.sql",
        step_replay: "../sql/step_replay.sql",
        prune_replays: "../sql/prune_replays.sql",
        ended_deliveries: "../sql/ended_deliveries.sql",
        refund: "../sql/refund.sql",
        find_endpoint: "../sql/find_endpoint.sql",
        put_health: "../sql/put_health.sql",
        delete_health: "../sql/delete_health.sql",
        release: "../sql/release.sql",
        depth: "../sql/depth.sql",
        prune: "../sql/prune.sql",
        prune_idempotency_keys: "../sql/prune_idempotency_keys.sql",
        prune_stats: "../sql/prune_stats.sql",
        stats: "../sql/stats.sql",
        take_stats: "../sql/take_stats.sql",
        event_types: "../sql/event_types.sql",
        put_event_type: "../sql/put_event_type.sql",
        schemas: "../sql/schemas.sql",
        append_audit: "../sql/append_audit.sql",
        audit: "../sql/audit.sql",
        prune_audit: "../sql/prune_audit.sql",
        erase_tenant: "../sql/erase_tenant.sql",
        erase_health: "../sql/erase_health.sql",
        erase_lanes: "../sql/erase_lanes.sql",
        erase_endpoints: "../sql/erase_endpoints.sql",
        erase_replays: "../sql/erase_replays.sql",
        erase_spared: "../sql/erase_spared.sql",
        last_event: "../sql/last_event.sql",
        next_erasure: "../sql/next_erasure.sql",
        erase_attempts: "../sql/erase_attempts.sql",
        erase_history: "../sql/erase_history.sql",
        erase_live_attempts: "../sql/erase_live_attempts.sql",
        erase_deliveries: "../sql/erase_deliveries.sql",
        erase_events: "../sql/erase_events.sql",
        erase_idempotency_keys: "../sql/erase_idempotency_keys.sql",
        erase_stats: "../sql/erase_stats.sql",
        move_erasure: "../sql/move_erasure.sql",
        end_erasure: "../sql/end_erasure.sql",
        put_process: "../sql/put_process.sql",
        remove_process: "../sql/remove_process.sql",
        processes: "../sql/processes.sql",
        prune_processes: "../sql/prune_processes.sql",
        backlog: "../sql/backlog.sql",
    }
    many: {
        idempotency_keys: "../sql/idempotency_keys.sql",
        insert_idempotency_keys: "../sql/insert_idempotency_keys.sql",
        known_events: "../sql/known_events.sql",
        insert_events: "../sql/insert_events.sql",
        insert_deliveries: "../sql/insert_deliveries.sql",
        takers: "../sql/takers.sql",
        last_deliveries: "../sql/last_deliveries.sql",
        endpoints_by_id: "../sql/endpoints_by_id.sql",
        events_by_id: "../sql/events_by_id.sql",
        wake: "../sql/wake.sql",
        wake_full: "../sql/wake_full.sql",
        claim_jobs: "../sql/claim_jobs.sql",
        claim_turns: "../sql/claim_turns.sql",
        load: "../sql/load.sql",
        load_begin: "../sql/load_begin.sql",
        record_fenced: "../sql/record_fenced.sql",
        record_attempts: "../sql/record_attempts.sql",
        record_retry: "../sql/record_retry.sql",
        quarantine: "../sql/quarantine.sql",
        end: "../sql/end.sql",
        remove: "../sql/remove.sql",
        hold: "../sql/hold.sql",
        health: "../sql/health.sql",
        jobs: "../sql/jobs.sql",
        extend: "../sql/extend.sql",
        settle: "../sql/settle.sql",
        prune_attempts: "../sql/prune_attempts.sql",
        prune_deliveries: "../sql/prune_deliveries.sql",
        prune_events: "../sql/prune_events.sql",
        append_stats: "../sql/append_stats.sql",
        put_fills: "../sql/put_fills.sql",
    }
}

#[cfg(test)]
mod tests {
    use sqlx::{Connection, Executor};

    use super::*;

    #[test]
    fn each_row_gets_a_tuple() {
        let batch = Batch::new("WITH a (b) AS (VALUES (?, ?)) SELECT max(b, ?)", "x_");
        assert_eq!(batch.columns, 2);
        assert_eq!(
            batch.sizes[0],
            "WITH a (b) AS (VALUES (?, ?)) SELECT max(b, ?)"
        );
        assert_eq!(
            batch.sizes[1],
            "WITH a (b) AS (VALUES (?, ?), (?, ?)) SELECT max(b, ?)"
        );
    }

    #[test]
    fn every_statement_can_be_prepared_with_any_prefix() {
        webhook_core::testing::run(async {
            for prefix in ["webhook_", "a_"] {
                let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
                let schema = crate::migrate::MIGRATIONS.concat()
                    + "CREATE TABLE webhook_migrations (version);";
                sqlx::raw_sql(with_prefix(&schema, prefix))
                    .execute(&mut connection)
                    .await
                    .unwrap();
                for (file, sql) in Sql::new(prefix).all() {
                    assert!(prefix == PLACEHOLDER || !sql.as_str().contains(PLACEHOLDER));
                    assert!(!sql.as_str().contains("LIMIT ?"), "{file}");
                    if let Err(error) = connection.prepare(sql).await {
                        panic!("{file}: {error}");
                    }
                }
            }
        });
    }
}

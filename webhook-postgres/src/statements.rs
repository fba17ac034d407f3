//! The statements of `../sql/`, in the schema of a store.

use std::sync::Arc;

use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Postgres};

/// The schema that the files name.
const WRITTEN: &str = "webhook.";

/// A statement: its text, cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Statement(Arc<str>);

impl Statement {
    pub(crate) fn new(text: &str, schema: &str) -> Self {
        Self(text.replace(WRITTEN, &format!("\"{schema}\".")).into())
    }

    /// To be prepared once for each connection, and kept.
    pub(crate) fn query(&self) -> Query<'_, Postgres, PgArguments> {
        sqlx::query(AssertSqlSafe(Arc::clone(&self.0)))
    }

    /// To be planned each time for its parameters: for those whose filters may be absent.
    pub(crate) fn query_once(&self) -> Query<'_, Postgres, PgArguments> {
        self.query().persistent(false)
    }

    pub(crate) fn text(&self) -> &str {
        &self.0
    }
}

macro_rules! statements {
    ($($name:ident),* $(,)?) => {
        /// Every statement, by the name of its file.
        #[derive(Debug)]
        pub(crate) struct Statements {
            $(pub(crate) $name: Statement,)*
        }

        impl Statements {
            pub(crate) fn new(schema: &str) -> Self {
                Self {
                    $($name: Statement::new(
                        include_str!(concat!("../sql/", stringify!($name), ".sql")),
                        schema,
                    ),)*
                }
            }
        }
    };
}

statements! {
    append_audit,
    append_stats,
    attempts,
    audit,
    backlog,
    cancel_replay,
    claim,
    claim_erasure,
    claim_replay,
    count_endpoints,
    delete_endpoint,
    deliveries,
    deliveries_floor,
    delivery,
    depth,
    disable_endpoints,
    drop_day,
    end_deliveries,
    ended_deliveries,
    endpoint,
    endpoint_events,
    endpoints,
    endpoints_of_tenant,
    erase,
    erase_tenant,
    erasure_page,
    event,
    event_types,
    events,
    events_floor,
    extend,
    fills,
    health,
    hold,
    insert_endpoint,
    insert_events,
    insert_events_keyed,
    insert_replay,
    insert_test,
    jobs,
    load,
    lock_enabled,
    lock_event,
    lock_events,
    lock_health,
    lock_maintenance,
    lock_tenant,
    maintain,
    make_partitions,
    mark_lane,
    mark_strays,
    move_erasure,
    next_erasure,
    next_replay,
    now,
    old_days,
    overdue,
    ping,
    processes,
    prune_audit,
    prune_health,
    prune_processes,
    prune_replays,
    prune_stats,
    put_event_type,
    put_fills,
    put_health,
    put_process,
    quarantine,
    record,
    recover_endpoint,
    rekey,
    release,
    remove_process,
    replay,
    replays,
    schemas,
    set_limits,
    settle,
    stats,
    step_replay,
    take_stats,
    unqueued,
    update_endpoint,
    vitals,
    wake,
}

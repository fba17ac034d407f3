//! Housekeeping: partitions ahead, retention, and what nobody needs any longer.

use std::time::Duration;

use sqlx::{PgConnection, Row};
use webhook_core::Now;

use crate::column::{at, micros};
use crate::insert::KEY_WINDOW;
use crate::statements::Statements;

/// Beyond today. Long enough for a holiday without any process running.
const DAYS_AHEAD: i32 = 8;
const MAX_ROWS: i64 = 10_000;

/// What a round of housekeeping did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Maintained {
    pub(crate) made: i32,
    pub(crate) dropped: i32,
}

/// One round. What has been finished for longer than `retention` goes.
pub(crate) async fn maintain(
    connection: &mut PgConnection,
    sql: &Statements,
    retention: Duration,
    now: Now,
) -> sqlx::Result<Maintained> {
    let row = sql
        .maintain
        .query_once()
        .bind(at(now))
        .bind(DAYS_AHEAD)
        .bind(micros(retention))
        .bind(micros(KEY_WINDOW))
        .bind(MAX_ROWS)
        .fetch_one(connection)
        .await?;
    Ok(Maintained {
        made: row.try_get("made")?,
        dropped: row.try_get("dropped")?,
    })
}

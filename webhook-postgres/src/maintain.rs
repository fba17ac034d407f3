//! Housekeeping: partitions ahead, retention, and what nobody needs any longer.

use std::time::Duration;

use sqlx::{Connection, Executor, Row};
use webhook_core::Now;

use crate::column::{at, micros};
use crate::insert::KEY_WINDOW;
use crate::store::Shared;

/// Today and beyond. Long enough for a weekend without any process running; what comes after goes to the
/// default partitions.
const DAYS_AHEAD: i32 = 4;
/// Rows of each kind that are deleted in a call.
const MAX_ROWS: i64 = 10_000;

impl Shared {
    /// One round, unless another process is at it.
    pub(crate) async fn maintain(&self, retention: Duration, now: Now) -> sqlx::Result<()> {
        let mut connection = self.pool.acquire().await?;
        let mut tx = connection.begin().await?;
        // Rather not now than behind a long query, with everyone else behind us.
        tx.execute("SET LOCAL lock_timeout = '2s'").await?;
        // What is locked then is what everyone needs.
        tx.execute("SET LOCAL idle_in_transaction_session_timeout = '5s'")
            .await?;
        let lock = self.sql.lock_maintenance.query().fetch_one(&mut *tx);
        if !lock.await?.try_get::<bool, _>(0)? {
            return Ok(());
        }
        let query = self
            .sql
            .maintain
            .query_once()
            .bind(at(now))
            .bind(DAYS_AHEAD);
        let query = query
            .bind(micros(retention))
            .bind(micros(KEY_WINDOW))
            .bind(MAX_ROWS);
        let row = query.fetch_one(&mut *tx).await?;
        tx.commit().await?;
        drop(connection);
        self.mark_strays(false).await?;
        let (made, dropped): (i32, i32) = (row.try_get("made")?, row.try_get("dropped")?);
        if made + dropped > 0 {
            tracing::info!(made, dropped, "partitions were made and dropped");
        }
        Ok(())
    }

    /// Puts right what was accepted while its lane's limits changed.
    pub(crate) async fn mark_strays(&self, only_ready: bool) -> sqlx::Result<()> {
        let query = self.sql.mark_strays.query_once().bind(only_ready);
        let marked = query.execute(&self.pool).await?.rows_affected();
        if marked > 0 {
            tracing::info!(marked, "deliveries were told of their lanes' limits");
        }
        Ok(())
    }
}

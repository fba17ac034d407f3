//! Housekeeping: makes partitions ahead, drops old ones, and deletes rows that nobody needs any longer.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Postgres, Row, Transaction};
use tokio::time::timeout;
use webhook_core::Now;

use crate::column::{at, micros};
use crate::store::Shared;

/// Today and beyond. Long enough for a weekend without any process running; what comes after goes to the
/// default partitions.
const DAYS_AHEAD: i32 = 4;
/// Rows of each kind that are deleted in a transaction.
const MAX_ROWS: i64 = 10_000;
/// How many of these there are in a call: as many as an hour's worth may need.
const MAX_ROUNDS: usize = 1_000;

impl Shared {
    /// In rounds, until there is no more to delete, unless another process is at it.
    pub(crate) async fn maintain(&self, retention: Duration, now: Now) -> sqlx::Result<()> {
        for _ in 0..MAX_ROUNDS {
            let mut lent = self.lend().await?;
            let keep = self.keep_house(&mut lent, retention, now);
            let kept = timeout(self.patience.housekeeping, keep).await;
            if !lent.answered(kept)? {
                break;
            }
        }
        let mut lent = self.lend().await?;
        let marked = self.mark_all_strays(&mut lent);
        let marked = timeout(self.patience.housekeeping, marked).await;
        lent.answered(marked)
    }

    /// One round. Answers whether there may be more.
    async fn keep_house(
        &self,
        connection: &mut PgConnection,
        retention: Duration,
        now: Now,
    ) -> sqlx::Result<bool> {
        let mut tx = self.begin_housekeeping(connection).await?;
        let lock = self.sql.lock_maintenance.query().fetch_one(&mut *tx);
        if !lock.await?.try_get::<bool, _>(0)? {
            return Ok(false);
        }
        let query = self
            .sql
            .maintain
            .query_once()
            .bind(at(now))
            .bind(DAYS_AHEAD);
        let query = query.bind(micros(retention)).bind(MAX_ROWS);
        let row = query.fetch_one(&mut *tx).await?;
        tx.commit().await?;
        let (made, dropped): (i32, i32) = (row.try_get("made")?, row.try_get("dropped")?);
        if made + dropped > 0 {
            tracing::info!(made, dropped, "partitions were made and dropped");
        }
        Ok(row.try_get::<i64, _>("deleted")? >= MAX_ROWS)
    }

    async fn mark_all_strays(&self, connection: &mut PgConnection) -> sqlx::Result<()> {
        let mut tx = self.begin_housekeeping(connection).await?;
        let strays = self.sql.mark_strays.query_once().bind(false);
        say_marked(strays.execute(&mut *tx).await?.rows_affected());
        tx.commit().await
    }

    pub(crate) async fn prune_replays(&self, retention: Duration, now: Now) -> sqlx::Result<()> {
        let query = self.sql.prune_replays.query_once().bind(at(now));
        self.execute(query.bind(micros(retention))).await.map(drop)
    }

    async fn begin_housekeeping<'c>(
        &self,
        connection: &'c mut PgConnection,
    ) -> sqlx::Result<Transaction<'c, Postgres>> {
        let mut tx = connection.begin().await?;
        let patience = self.patience.housekeeping.as_millis();
        for setting in [
            // Rather not now than behind a long query, with everyone else behind us.
            "SET LOCAL lock_timeout = '2s'",
            // What is locked then is what everyone needs.
            "SET LOCAL idle_in_transaction_session_timeout = '5s'",
            &format!("SET LOCAL statement_timeout = {patience}"),
        ] {
            tx.execute(AssertSqlSafe(setting)).await?;
        }
        Ok(tx)
    }

    /// Puts right what was accepted while its lane's limits changed, as far as it is ready.
    pub(crate) async fn mark_ready_strays(&self) -> sqlx::Result<()> {
        let strays = self.sql.mark_strays.query_once().bind(true);
        self.execute(strays).await.map(say_marked)
    }
}

fn say_marked(marked: u64) {
    if marked > 0 {
        tracing::info!(marked, "deliveries were told of their lanes' limits");
    }
}

//! Housekeeping: makes partitions ahead, drops old ones, and deletes rows that nobody needs any longer.

use std::time::Duration;

use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Postgres, Row, Transaction};
use tokio::time::timeout;
use webhook_core::Now;

use crate::column::{At, at, micros};
use crate::error::is_cut_off;
use crate::store::Shared;

/// Today and beyond. Long enough for a weekend without any process running; what comes after goes to the
/// default partitions.
const DAYS_AHEAD: i32 = 4;
/// Rows of each kind that are deleted in a transaction.
const MAX_ROWS: i64 = 10_000;
/// How many of these there are in a call: as many as an hour's worth may need.
const MAX_ROUNDS: usize = 1_000;
/// The most rows of a kind, and bytes, that move when a day is dropped: everybody waits for them.
const MOST_MOVED: i32 = 10_000;
const MOST_BYTES: i64 = 64 << 20;
/// Up to which size of the default partitions rows move there. They are looked through when a day begins, and again
/// everybody waits.
const MOST_KEPT: i64 = 256 << 20;
/// How many days in a call may take too long. Each may have kept inserts waiting; but one must not keep all later days.
const MOST_CUT_OFF: u32 = 3;

impl Shared {
    /// Step by step, each a transaction, as far as no other process is at it.
    pub(crate) async fn maintain(&self, retention: Duration, now: Now) -> sqlx::Result<()> {
        self.make_room(now).await?;
        self.prune(retention, now).await?;
        self.drop_days(retention, now).await?;
        let mut lent = self.lend().await?;
        let marked = self.mark_all_strays(&mut lent);
        let marked = timeout(self.patience.housekeeping, marked).await;
        lent.answered(marked)
    }

    async fn make_room(&self, now: Now) -> sqlx::Result<()> {
        let make = self.sql.make_partitions.query_once().bind(at(now));
        if let Some(row) = self.keep_house(make.bind(DAYS_AHEAD)).await? {
            let made: i32 = row.try_get("made")?;
            if made > 0 {
                tracing::info!(made, "partitions were made");
            }
        }
        Ok(())
    }

    /// In rounds, until there is no more to delete.
    async fn prune(&self, retention: Duration, now: Now) -> sqlx::Result<()> {
        for _ in 0..MAX_ROUNDS {
            let round = self.sql.maintain.query_once().bind(at(now));
            let round = round.bind(micros(retention)).bind(MAX_ROWS);
            let Some(row) = self.keep_house(round).await? else {
                break;
            };
            if row.try_get::<i64, _>("deleted")? < MAX_ROWS {
                break;
            }
        }
        Ok(())
    }

    /// Each day by itself, so that nobody waits for longer than one of them takes. What is inserted meanwhile waits, and is
    /// to be stored before its own time is over.
    async fn drop_days(&self, retention: Duration, now: Now) -> sqlx::Result<()> {
        let days = self.sql.old_days.query_once().bind(at(now));
        let mut cut_off = 0;
        for row in self.rows(days.bind(micros(retention))).await? {
            let (day, start): (At, At) = (row.try_get("day")?, row.try_get("start")?);
            let drop = self.sql.drop_day.query_once().bind(day).bind(start);
            let drop = drop.bind(MOST_MOVED).bind(MOST_BYTES).bind(MOST_KEPT);
            let kept = self.keep_house_for(self.patience.statement / 2, drop);
            let kept = kept.await;
            if kept.as_ref().is_err_and(is_cut_off) {
                tracing::warn!(
                    day = %day.0,
                    "looking through an old day takes too long; it is dropped another time"
                );
                cut_off += 1;
                if cut_off == MOST_CUT_OFF {
                    break;
                }
                continue;
            }
            let Some(row) = kept? else {
                break;
            };
            let (dropped, moved): (Option<i32>, Option<i32>) =
                (row.try_get("dropped")?, row.try_get("moved")?);
            match dropped {
                None => {
                    tracing::debug!("old partitions are in use; they are dropped another time");
                    break;
                }
                Some(0) => {}
                Some(dropped) => tracing::info!(dropped, moved, "partitions were dropped"),
            }
        }
        Ok(())
    }

    /// Runs a statement that one process at a time may run. `None` if another one is at it.
    async fn keep_house(&self, query: PgQuery<'_>) -> sqlx::Result<Option<PgRow>> {
        self.keep_house_for(self.patience.housekeeping, query).await
    }

    /// As [`keep_house`](Self::keep_house), and the server ends a statement that takes longer than `most`.
    async fn keep_house_for(
        &self,
        most: Duration,
        query: PgQuery<'_>,
    ) -> sqlx::Result<Option<PgRow>> {
        let mut lent = self.lend().await?;
        let kept = async {
            let mut tx = self.begin_housekeeping(&mut lent, most).await?;
            let lock = self.sql.lock_maintenance.query().fetch_one(&mut *tx);
            if !lock.await?.try_get::<bool, _>(0)? {
                return Ok(None);
            }
            let row = query.fetch_one(&mut *tx).await?;
            tx.commit().await?;
            Ok(Some(row))
        };
        let kept = timeout(self.patience.housekeeping, kept).await;
        lent.answered(kept)
    }

    async fn mark_all_strays(&self, connection: &mut PgConnection) -> sqlx::Result<()> {
        let most = self.patience.housekeeping;
        let mut tx = self.begin_housekeeping(connection, most).await?;
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
        most: Duration,
    ) -> sqlx::Result<Transaction<'c, Postgres>> {
        // What is looked at once a lock is held is to be what there is then, whatever the server's default.
        let tx = connection.begin_with("BEGIN ISOLATION LEVEL READ COMMITTED");
        let mut tx = tx.await?;
        let most = most.as_millis();
        for setting in [
            // Rather not now than behind a long query, with everyone else behind us.
            "SET LOCAL lock_timeout = '2s'",
            // What is locked then is what everyone needs.
            "SET LOCAL idle_in_transaction_session_timeout = '5s'",
            &format!("SET LOCAL statement_timeout = {most}"),
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

type PgQuery<'q> = Query<'q, Postgres, PgArguments>;

fn say_marked(marked: u64) {
    if marked > 0 {
        tracing::info!(marked, "deliveries were told of their lanes' limits");
    }
}

//! Statistics: adds rows, reads their sums, and merges old rows into coarser ones.

use std::time::Duration;

use futures_util::TryStreamExt;
use sqlx::postgres::PgRow;
use sqlx::{Connection, PgConnection, Row};
use tokio::time::timeout;
use webhook_core::{
    Now, Rollup, STATS_TIERS, Scope, StatsCounts, StatsQuery, StatsRow, StatsTier, Tenant,
};

use crate::column::{At, at, micros, tenant};
use crate::store::Shared;

/// Rows that are merged, or dropped, in a transaction.
const MAX_ROWS: i64 = 10_000;
/// Transactions of each kind in a call: a week of ten minutes at a time.
const MAX_ROUNDS: usize = 1_000;

impl Shared {
    pub(crate) async fn append_stats(&self, rows: &[StatsRow]) -> sqlx::Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let mut lent = self.lend().await?;
        let insert = self.insert_stats(&mut lent, rows);
        let inserted = timeout(self.patience.statement, insert).await;
        lent.answered(inserted)
    }

    pub(crate) async fn stats(&self, scope: &Scope, query: &StatsQuery) -> sqlx::Result<Rollup> {
        let _place = self.look().await?;
        let mut lent = self.lend().await?;
        let sums = timeout(self.patience.statement, self.sums(&mut lent, scope, query)).await;
        lent.answered(sums)
    }

    /// Row by row: there may be many, and their sums are few.
    async fn sums(
        &self,
        connection: &mut PgConnection,
        scope: &Scope,
        query: &StatsQuery,
    ) -> sqlx::Result<Rollup> {
        let mut rollup = Rollup::default();
        let rows = self.sql.stats.query_once().bind(At(query.since));
        let rows = rows.bind(At(query.until)).bind(tenant(scope));
        let mut rows = rows.bind(query.endpoint).fetch(connection);
        while let Some(row) = rows.try_next().await? {
            if let Some(row) = readable(&row) {
                rollup.add(query, &row);
            }
        }
        Ok(rollup)
    }

    /// Merges what is due and drops what is too old, some rows at a time, unless another process is at it.
    pub(crate) async fn maintain_stats(&self, retention: Duration, now: Now) -> sqlx::Result<()> {
        for _ in 0..MAX_ROUNDS {
            let prune = self.sql.prune_stats.query_once().bind(at(now));
            let prune = prune.bind(micros(retention)).bind(MAX_ROWS);
            if self.execute(prune).await? < MAX_ROWS.unsigned_abs() {
                break;
            }
        }
        for tier in STATS_TIERS {
            for _ in 0..MAX_ROUNDS {
                let mut lent = self.lend().await?;
                let merge = self.merge_stats(&mut lent, &tier, now);
                let merged = timeout(self.patience.statement, merge).await;
                if !lent.answered(merged)? {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Merges some rows. Returns whether there were any.
    async fn merge_stats(
        &self,
        connection: &mut PgConnection,
        tier: &StatsTier,
        now: Now,
    ) -> sqlx::Result<bool> {
        let mut tx = connection.begin().await?;
        let lock = self.sql.lock_maintenance.query().fetch_one(&mut *tx);
        if !lock.await?.try_get::<bool, _>(0)? {
            return Ok(false);
        }
        let take = self.sql.take_stats.query_once().bind(at(now));
        let take = take.bind(seconds(tier.from)).bind(seconds(tier.to));
        let take = take.bind(seconds(tier.after)).bind(MAX_ROWS);
        let taken = take.fetch_all(&mut *tx).await?;
        let merged = tier.merge(taken.iter().filter_map(readable));
        self.insert_stats(&mut tx, &merged).await?;
        tx.commit().await?;
        Ok(!taken.is_empty())
    }

    async fn insert_stats(
        &self,
        connection: &mut PgConnection,
        rows: &[StatsRow],
    ) -> sqlx::Result<()> {
        let insert = self.sql.append_stats.query();
        let insert = insert
            .bind(of(rows, |row| At(row.at)))
            .bind(of(rows, |row| seconds(row.step)))
            .bind(of(rows, |row| row.tenant.as_str()))
            .bind(of(rows, |row| row.endpoint))
            .bind(of(rows, |row| row.counts.to_bytes()));
        insert.execute(connection).await.map(drop)
    }
}

fn of<'a, C>(rows: &'a [StatsRow], column: impl Fn(&'a StatsRow) -> C) -> Vec<C> {
    rows.iter().map(column).collect()
}

fn seconds(time: Duration) -> i32 {
    i32::try_from(time.as_secs()).unwrap_or(i32::MAX)
}

/// A row, unless it is damaged: the others still say something.
fn readable(row: &PgRow) -> Option<StatsRow> {
    stats_row(row)
        .inspect_err(|error| tracing::error!(%error, "a row of statistics cannot be read"))
        .ok()
}

fn stats_row(row: &PgRow) -> sqlx::Result<StatsRow> {
    let At(at) = row.try_get("at")?;
    let step: i32 = row.try_get("step")?;
    let tenant = Tenant::new(row.try_get("tenant")?);
    let counts = StatsCounts::from_bytes(row.try_get("counts")?);
    Ok(StatsRow {
        at,
        step: Duration::from_secs(step.unsigned_abs().into()),
        tenant: tenant.map_err(|error| sqlx::Error::Decode(error.into()))?,
        endpoint: row.try_get("endpoint_id")?,
        counts: counts.map_err(|error| sqlx::Error::Decode(error.into()))?,
    })
}

//! Statistics: adds rows, reads their sums, and merges old rows into coarser ones.

use std::time::Duration;

use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use webhook_core::{
    Now, Rollup, STATS_TIERS, Scope, StatsCounts, StatsQuery, StatsRow, StatsTier, Timestamp,
};

use crate::error::corrupt;
use crate::read::Select;
use crate::rows::{micros, tenant, time};
use crate::sql::Bound;
use crate::store::Shared;

/// Rows that are merged in a transaction.
const BATCH: i64 = 2_048;

impl Shared {
    pub(crate) async fn append_stats(&self, rows: &[StatsRow]) -> sqlx::Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let mut tx = self.database.write().await?;
        self.insert_stats(&mut tx, rows).await?;
        tx.commit().await
    }

    pub(crate) async fn stats(&self, scope: &Scope, query: &StatsQuery) -> sqlx::Result<Rollup> {
        let mut look = self.database.look().await?;
        let mut rollup = Rollup::default();
        Select::new(&self.database.sql.stats, scope)
            .and("at >=", Some(query.since.as_micros()))
            .and("at <", Some(query.until.as_micros()))
            .and("endpoint_id =", query.endpoint)
            .each(&mut look, |row| {
                if let Some(row) = readable(&row) {
                    rollup.add(query, &row);
                }
            })
            .await?;
        look.done();
        Ok(rollup)
    }

    /// Merges what is due and drops what is too old.
    pub(crate) async fn maintain_stats(&self, retention: Duration, now: Now) -> sqlx::Result<()> {
        let mut tx = self.database.write().await?;
        let now = self.database.now(&mut tx, now).await?;
        let prune = sqlx::query(self.database.sql.prune_stats.clone());
        prune
            .bind((now - retention).as_micros())
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        for tier in STATS_TIERS {
            while self.merge_stats(&tier, now).await? {}
        }
        Ok(())
    }

    /// Merges some rows. Answers whether there were any.
    async fn merge_stats(&self, tier: &StatsTier, now: Timestamp) -> sqlx::Result<bool> {
        let mut tx = self.database.write().await?;
        let take = sqlx::query(self.database.sql.take_stats.clone());
        let taken = take
            .bind(micros(tier.from))
            .bind(micros(tier.to))
            .bind(tier.due_before(now).as_micros())
            .bind(BATCH)
            .fetch_all(&mut *tx)
            .await?;
        let merged = tier.merge(taken.iter().filter_map(readable));
        self.insert_stats(&mut tx, &merged).await?;
        tx.commit().await?;
        Ok(!taken.is_empty())
    }

    async fn insert_stats(&self, tx: &mut SqliteConnection, rows: &[StatsRow]) -> sqlx::Result<()> {
        let bind = |query: Bound, row: &StatsRow| {
            query
                .bind(row.at.as_micros())
                .bind(micros(row.step))
                .bind(row.tenant.as_str().to_owned())
                .bind(row.endpoint)
                .bind(row.counts.to_bytes())
        };
        let batch = &self.database.sql.append_stats;
        batch.run(tx, rows, bind, |query| query).await.map(drop)
    }
}

/// A row, unless it is damaged: the others still say something.
fn readable(row: &SqliteRow) -> Option<StatsRow> {
    stats_row(row)
        .inspect_err(|error| tracing::error!(%error, "a row of statistics cannot be read"))
        .ok()
}

fn stats_row(row: &SqliteRow) -> sqlx::Result<StatsRow> {
    let step = row.try_get::<i64, _>("step")?.unsigned_abs();
    Ok(StatsRow {
        at: time(row, "at")?,
        step: Duration::from_micros(step),
        tenant: tenant(row)?,
        endpoint: row.try_get("endpoint_id")?,
        counts: StatsCounts::from_bytes(row.try_get("counts")?).map_err(corrupt)?,
    })
}

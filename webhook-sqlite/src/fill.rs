//! How far an index queue has been filled.

use sqlx::Row;
use sqlx::sqlite::SqliteRow;
use webhook_core::{Fill, Job, Timestamp};

use crate::rows::{self, readable};
use crate::sql::Bound;
use crate::store::Shared;

impl Shared {
    pub(crate) async fn overdue(&self, before: Timestamp, limit: usize) -> sqlx::Result<Vec<Job>> {
        let mut reader = self.database.read().await?;
        let rows = sqlx::query(self.database.sql.overdue.clone())
            .bind(before.as_micros())
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .fetch_all(&mut *reader)
            .await?;
        Ok(readable(&rows, "job", rows::job))
    }

    pub(crate) async fn fills(&self) -> sqlx::Result<Vec<Fill>> {
        let mut reader = self.database.read().await?;
        let fills = sqlx::query(self.database.sql.fills.clone());
        let rows = fills.fetch_all(&mut *reader).await?;
        Ok(readable(&rows, "fill", fill))
    }

    pub(crate) async fn put_fills(&self, fills: &[Fill]) -> sqlx::Result<Vec<String>> {
        let bind = |query: Bound, fill: &Fill| {
            query
                .bind(fill.part.clone())
                .bind(fill.version)
                .bind(fill.generation)
                .bind(fill.up_to)
                .bind(fill.is_complete)
        };
        let mut tx = self.database.write().await?;
        let batch = &self.database.sql.put_fills;
        let stored = batch.run(&mut tx, fills, bind, |query| query).await?;
        tx.commit().await?;
        stored.iter().map(|row| row.try_get("part")).collect()
    }
}

fn fill(row: &SqliteRow) -> sqlx::Result<Fill> {
    Ok(Fill {
        part: row.try_get("part")?,
        version: row.try_get("version")?,
        generation: row.try_get("generation")?,
        up_to: row.try_get("up_to")?,
        is_complete: row.try_get("is_complete")?,
    })
}

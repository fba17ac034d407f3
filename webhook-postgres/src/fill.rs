//! How far an index queue has been filled.

use sqlx::Row;
use sqlx::postgres::PgRow;
use webhook_core::{Fill, Job, Timestamp};

use crate::column::{At, count};
use crate::job::job;
use crate::read::readable;
use crate::store::Shared;

impl Shared {
    pub(crate) async fn overdue(&self, before: Timestamp, limit: usize) -> sqlx::Result<Vec<Job>> {
        let query = self.sql.overdue.query().bind(At(before));
        let rows = self.rows(query.bind(count(limit))).await?;
        Ok(readable(&rows, |row| job(row, 0)))
    }

    pub(crate) async fn fills(&self) -> sqlx::Result<Vec<Fill>> {
        let rows = self.rows(self.sql.fills.query()).await?;
        rows.iter().map(fill).collect()
    }

    pub(crate) async fn put_fills(&self, fills: &[Fill]) -> sqlx::Result<Vec<String>> {
        let query = self.sql.put_fills.query();
        let query = query
            .bind(of(fills, |fill| fill.part.as_str()))
            .bind(of(fills, |fill| fill.version))
            .bind(of(fills, |fill| fill.generation))
            .bind(of(fills, |fill| fill.up_to))
            .bind(of(fills, |fill| fill.is_complete));
        let rows = self.rows(query).await?;
        rows.iter().map(|row| row.try_get("part")).collect()
    }
}

fn of<'a, C>(fills: &'a [Fill], column: impl Fn(&'a Fill) -> C) -> Vec<C> {
    fills.iter().map(column).collect()
}

fn fill(row: &PgRow) -> sqlx::Result<Fill> {
    Ok(Fill {
        part: row.try_get("part")?,
        version: row.try_get("version")?,
        generation: row.try_get("generation")?,
        up_to: row.try_get("up_to")?,
        is_complete: row.try_get("is_complete")?,
    })
}

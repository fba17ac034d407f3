//! The queue that is part of a [`SqliteStore`](crate::SqliteStore). Only its store hands it out.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use uuid::Uuid;
use webhook_core::{
    ClaimOptions, Claimed, Depth, Hold, Job, Lease, Now, Queue, QueuePart, Result, Settle,
    Timestamp,
};

use crate::error::failed;
use crate::rows::{count, optional_time};
use crate::sql::Bound;
use crate::store::Shared;

pub(crate) struct OwnQueue(pub(crate) Arc<Shared>);

#[async_trait]
impl Queue for OwnQueue {
    /// The rows are the jobs.
    async fn push(&self, _: &[Job], _: Now) -> Result<()> {
        self.0.notify();
        Ok(())
    }

    async fn claim(&self, options: ClaimOptions, now: Now) -> Result<Claimed> {
        self.0.claim(options, now).await.map_err(failed("claim"))
    }

    async fn extend(&self, leases: &[Lease], by: Duration, now: Now) -> Result<Vec<Lease>> {
        self.0
            .extend(leases, by, now)
            .await
            .map_err(failed("extend"))
    }

    /// `record` has moved on what was attempted; only the unused go back here.
    async fn settle(&self, settled: &[(Lease, Settle)], now: Now) -> Result<()> {
        let unused = settled.iter().filter_map(|(lease, settle)| match settle {
            Settle::Unused(by) => Some((*lease, *by)),
            Settle::Done | Settle::After(_) => None,
        });
        let unused: Vec<_> = unused.collect();
        if !unused.is_empty() {
            self.0
                .unclaim(&unused, now)
                .await
                .map_err(failed("settle"))?;
            self.0.notify();
        }
        Ok(())
    }

    async fn hold(&self, lane: Uuid, hold: Hold, now: Now) -> Result<()> {
        self.0.hold(lane, hold, now).await.map_err(failed("hold"))
    }

    async fn release(&self, lane: Uuid) -> Result<()> {
        self.0.release(lane).await.map_err(failed("release"))?;
        self.0.notify();
        Ok(())
    }

    async fn ready(&self) {
        self.0.notified().await;
    }

    async fn parts(&self) -> Result<Vec<QueuePart>> {
        Ok(QueuePart::of_store())
    }

    fn part_of(&self, _: Uuid) -> usize {
        0
    }

    async fn depth(&self, now: Now) -> Result<Depth> {
        self.0.depth(now).await.map_err(failed("depth"))
    }
}

impl Shared {
    async fn extend(&self, leases: &[Lease], by: Duration, now: Now) -> sqlx::Result<Vec<Lease>> {
        let mut tx = self.database.write().await?;
        let until = self.database.now(&mut tx, now).await? + by;
        let rows = self
            .database
            .sql
            .extend
            .run(
                &mut tx,
                leases,
                |query, lease| query.bind(lease.delivery).bind(lease.fence),
                |query| query.bind(until.as_micros()),
            )
            .await?;
        tx.commit().await?;
        let is_kept = |row: &SqliteRow| Ok((row.try_get("id")?, row.try_get("fence")?));
        let kept: HashSet<(Uuid, i64)> = rows.iter().map(is_kept).collect::<sqlx::Result<_>>()?;
        let kept = leases
            .iter()
            .filter(|lease| kept.contains(&(lease.delivery, lease.fence)));
        Ok(kept.map(|lease| Lease { until, ..*lease }).collect())
    }

    async fn unclaim(&self, unused: &[(Lease, Duration)], now: Now) -> sqlx::Result<()> {
        let mut tx = self.database.write().await?;
        let now = self.database.now(&mut tx, now).await?;
        let rows = self
            .database
            .sql
            .settle
            .run(
                &mut tx,
                unused,
                |query, (lease, by)| {
                    query
                        .bind(lease.delivery)
                        .bind(lease.fence)
                        .bind((now + *by).as_micros())
                },
                |query| query.bind(now.as_micros()),
            )
            .await?;
        let lanes: Vec<Uuid> = rows
            .iter()
            .map(|row| row.try_get("endpoint_id"))
            .collect::<Result<_, _>>()?;
        for lane in &lanes {
            sqlx::query(self.database.sql.refund.clone())
                .bind(lane)
                .execute(&mut *tx)
                .await?;
        }
        self.wake(&mut tx, lanes, now).await?;
        tx.commit().await
    }

    async fn hold(&self, lane: Uuid, hold: Hold, now: Now) -> sqlx::Result<()> {
        let mut tx = self.database.write().await?;
        let now = self.database.now(&mut tx, now).await?;
        self.hold_all(&mut tx, &[(lane, hold)], now).await?;
        tx.commit().await
    }

    pub(crate) async fn hold_all(
        &self,
        tx: &mut SqliteConnection,
        holds: &[(Uuid, Hold)],
        now: Timestamp,
    ) -> sqlx::Result<()> {
        let bind = |query: Bound, (lane, hold): &(Uuid, Hold)| {
            let query = query.bind(*lane).bind((now + hold.by).as_micros());
            query.bind(hold.then_probe)
        };
        let statement = &self.database.sql.hold;
        statement.run(tx, holds, bind, |query| query).await?;
        Ok(())
    }

    async fn release(&self, lane: Uuid) -> sqlx::Result<()> {
        let mut tx = self.database.write().await?;
        sqlx::query(self.database.sql.release.clone())
            .bind(lane)
            .execute(&mut *tx)
            .await?;
        tx.commit().await
    }

    async fn depth(&self, now: Now) -> sqlx::Result<Depth> {
        let mut reader = self.database.read().await?;
        let now = self.database.now(&mut reader, now).await?;
        let row = sqlx::query(self.database.sql.depth.clone())
            .bind(now.as_micros())
            .bind(i64::try_from(Depth::MOST).unwrap_or(i64::MAX))
            .fetch_one(&mut *reader)
            .await?;
        Ok(Depth {
            ready: count(&row, "ready")?.into(),
            parked: count(&row, "parked")?.into(),
            leased: count(&row, "leased")?.into(),
            oldest_due: optional_time(&row, "oldest_due")?,
        })
    }
}

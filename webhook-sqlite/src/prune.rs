//! Deletes rows of deliveries and events that ended long ago.

use std::time::Duration;

use sqlx::Row;
use uuid::Uuid;
use webhook_core::{Now, Timestamp};

use crate::sql::Bound;
use crate::store::Shared;

/// Events that are looked at in a transaction.
const BATCH: i64 = 512;

impl Shared {
    pub(crate) async fn maintain(&self, retention: Duration, now: Now) -> sqlx::Result<()> {
        let mut tx = self.database.write().await?;
        let now = self.database.now(&mut tx, now).await?;
        tx.rollback().await?;
        self.prune_at(now - retention, now).await.map(drop)
    }

    pub(crate) async fn prune(&self, older_than: Timestamp) -> sqlx::Result<u64> {
        let mut reader = self.database.read().await?;
        let now = self.database.now(&mut reader, None).await?;
        drop(reader);
        self.prune_at(older_than, now).await
    }

    async fn prune_at(&self, older_than: Timestamp, now: Timestamp) -> sqlx::Result<u64> {
        self.prune_keys(now).await?;
        self.prune_replays(older_than).await?;
        self.prune_audit(older_than).await?;
        let (mut pruned, mut after) = (0, Some(0));
        while let Some(sequence) = after {
            let batch;
            (batch, after) = self.prune_batch(sequence, older_than, now).await?;
            pruned += batch;
        }
        Ok(pruned)
    }

    async fn prune_keys(&self, now: Timestamp) -> sqlx::Result<()> {
        let mut tx = self.database.write().await?;
        let keys = sqlx::query(self.database.sql.prune_idempotency_keys.clone());
        keys.bind(now.as_micros()).execute(&mut *tx).await?;
        tx.commit().await
    }

    async fn prune_replays(&self, older_than: Timestamp) -> sqlx::Result<()> {
        let mut tx = self.database.write().await?;
        let replays = sqlx::query(self.database.sql.prune_replays.clone());
        replays
            .bind(older_than.as_micros())
            .execute(&mut *tx)
            .await?;
        tx.commit().await
    }

    /// Looks at the events after a sequence. Answers how many it deleted, and where to go on.
    async fn prune_batch(
        &self,
        after: i64,
        older_than: Timestamp,
        now: Timestamp,
    ) -> sqlx::Result<(u64, Option<i64>)> {
        let sql = &self.database.sql;
        let mut tx = self.database.write().await?;
        let rows = sqlx::query(sql.prune.clone())
            .bind(after)
            .bind(older_than.as_micros())
            .bind(BATCH)
            .bind(now.as_micros())
            .fetch_all(&mut *tx)
            .await?;
        let (mut events, mut last, mut may_follow) = (Vec::<Uuid>::new(), None, false);
        for row in &rows {
            let is_old: bool = row.try_get("old")?;
            // In the order of acceptance: what follows those that are young is younger. But not each clock was right.
            may_follow |= is_old || row.try_get::<bool, _>("ahead")?;
            last = Some(row.try_get("sequence")?);
            if is_old && row.try_get("done")? {
                events.push(row.try_get("id")?);
            }
        }
        let bind = |query: Bound, id: &Uuid| query.bind(*id);
        for statement in [
            &sql.prune_attempts,
            &sql.prune_deliveries,
            &sql.prune_events,
        ] {
            statement.run(&mut tx, &events, bind, |query| query).await?;
        }
        tx.commit().await?;
        Ok((events.len() as u64, last.filter(|_| may_follow)))
    }
}

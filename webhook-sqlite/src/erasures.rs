//! The erasure of tenants.

use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{Row, SqlStr};
use uuid::Uuid;
use webhook_core::backend::last_id;
use webhook_core::{ErasureStep, Now, Tenant, Timestamp};

use crate::rows::{tenant, time};
use crate::store::Shared;

struct Erasure {
    tenant: Tenant,
    up_to: Uuid,
    requested_at: Timestamp,
    next_at: Timestamp,
}

impl Shared {
    pub(crate) async fn erase_tenant(&self, tenant: &Tenant, now: Now) -> sqlx::Result<()> {
        let sql = &self.database.sql;
        let mut tx = self.database.write().await?;
        let now = self.database.now(&mut tx, now).await?;
        for statement in [
            &sql.erase_health,
            &sql.erase_lanes,
            &sql.erase_endpoints,
            &sql.erase_replays,
            &sql.erase_spared,
        ] {
            let erase = sqlx::query(statement.clone()).bind(tenant.as_str());
            erase.execute(&mut *tx).await?;
        }
        let last = sqlx::query(sql.last_event.clone()).bind(tenant.as_str());
        let mut up_to = last_id(now);
        if let Some(last) = last.fetch_optional(&mut *tx).await? {
            // Those of its deliveries, too.
            let made_last = last_id(time(&last, "created_at")?);
            up_to = up_to.max(made_last).max(last.try_get("id")?);
        }
        let erase = sqlx::query(sql.erase_tenant.clone()).bind(tenant.as_str());
        let erase = erase.bind(up_to).bind(now.as_micros());
        erase.execute(&mut *tx).await?;
        tx.commit().await
    }

    pub(crate) async fn step_erasure(&self, limit: usize, now: Now) -> sqlx::Result<ErasureStep> {
        let mut reader = self.database.read().await?;
        let (now, next) = (
            self.database.now(&mut reader, now).await?,
            self.next_erasure(&mut reader).await?,
        );
        drop(reader);
        let mut step = ErasureStep::default();
        if next.as_ref().is_some_and(|erasure| erasure.next_at <= now) {
            let mut tx = self.database.write().await?;
            // Once more: another process may have been faster.
            let next = self.next_erasure(&mut tx).await?;
            if let Some(erasure) = next.filter(|erasure| erasure.next_at <= now) {
                step.erased = self.erase(&mut tx, &erasure, limit).await?;
                step.ended = self
                    .move_erasure(&mut tx, erasure, step.erased, now)
                    .await?;
            }
            step.next_in = wait(self.next_erasure(&mut tx).await?, now);
            tx.commit().await?;
        } else {
            step.next_in = wait(next, now);
        }
        Ok(step)
    }

    async fn erase(
        &self,
        tx: &mut SqliteConnection,
        erasure: &Erasure,
        limit: usize,
    ) -> sqlx::Result<u64> {
        let sql = &self.database.sql;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut erased = 0;
        for statement in [
            &sql.erase_attempts,
            &sql.erase_history,
            &sql.erase_live_attempts,
            &sql.erase_deliveries,
            &sql.erase_events,
            &sql.erase_idempotency_keys,
        ] {
            let erase = sqlx::query(SqlStr::clone(statement)).bind(erasure.tenant.as_str());
            let erase = erase.bind(erasure.up_to).bind(limit);
            erased += erase.execute(&mut *tx).await?.rows_affected();
        }
        let stats = sqlx::query(sql.erase_stats.clone()).bind(erasure.tenant.as_str());
        let stats = stats.bind(erasure.requested_at.as_micros()).bind(limit);
        erased += stats.execute(tx).await?.rows_affected();
        Ok(erased)
    }

    /// Answers the tenant, if that was the last step.
    async fn move_erasure(
        &self,
        tx: &mut SqliteConnection,
        erasure: Erasure,
        erased: u64,
        now: Timestamp,
    ) -> sqlx::Result<Option<Tenant>> {
        let sql = &self.database.sql;
        let last_look = erasure.requested_at + ErasureStep::LINGER;
        if erased == 0 && last_look <= now {
            for statement in [&sql.end_erasure, &sql.erase_spared] {
                let end = sqlx::query(statement.clone()).bind(erasure.tenant.as_str());
                end.execute(&mut *tx).await?;
            }
            return Ok(Some(erasure.tenant));
        }
        let next_at = if erased == 0 { last_look } else { now };
        let moved = sqlx::query(sql.move_erasure.clone()).bind(erasure.tenant.as_str());
        moved.bind(next_at.as_micros()).execute(tx).await?;
        Ok(None)
    }

    async fn next_erasure(
        &self,
        connection: &mut SqliteConnection,
    ) -> sqlx::Result<Option<Erasure>> {
        let next = sqlx::query(self.database.sql.next_erasure.clone());
        let row = next.fetch_optional(connection).await?;
        row.as_ref().map(erasure).transpose()
    }
}

fn wait(next: Option<Erasure>, now: Timestamp) -> Option<std::time::Duration> {
    next.map(|erasure| erasure.next_at.since(now))
}

fn erasure(row: &SqliteRow) -> sqlx::Result<Erasure> {
    Ok(Erasure {
        tenant: tenant(row)?,
        up_to: row.try_get("up_to")?,
        requested_at: time(row, "requested_at")?,
        next_at: time(row, "next_at")?,
    })
}

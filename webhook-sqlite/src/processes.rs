//! The processes that are alive, and what waits for an endpoint.

use sqlx::Row;
use sqlx::sqlite::SqliteRow;
use uuid::Uuid;
use webhook_core::{Backlog, Depth, Now, Process, Scope};

use crate::endpoints::tenant_of;
use crate::rows::{count, optional_time, readable, time};
use crate::store::Shared;

impl Shared {
    pub(crate) async fn put_process(&self, process: &Process, now: Now) -> sqlx::Result<()> {
        let mut tx = self.database.write().await?;
        let now = self.database.now(&mut tx, now).await?;
        let put = sqlx::query(self.database.sql.put_process.clone())
            .bind(process.id)
            .bind(process.role.clone())
            .bind(process.version.clone())
            .bind(process.started_at.as_micros())
            .bind(now.as_micros())
            .bind(i64::from(process.in_flight))
            .bind(i64::from(process.slots));
        put.execute(&mut *tx).await?;
        tx.commit().await
    }

    pub(crate) async fn remove_process(&self, id: Uuid) -> sqlx::Result<()> {
        let mut tx = self.database.write().await?;
        let remove = sqlx::query(self.database.sql.remove_process.clone()).bind(id);
        remove.execute(&mut *tx).await?;
        tx.commit().await
    }

    pub(crate) async fn processes(&self, now: Now) -> sqlx::Result<Vec<Process>> {
        let mut reader = self.database.read().await?;
        let since = self.database.now(&mut reader, now).await? - Process::ALIVE;
        let processes = sqlx::query(self.database.sql.processes.clone());
        let rows = processes.bind(since.as_micros());
        let rows = rows.fetch_all(&mut *reader).await?;
        Ok(readable(&rows, "process", process))
    }

    /// Forgets those that have gone without a word.
    pub(crate) async fn prune_processes(&self, now: Now) -> sqlx::Result<()> {
        let mut tx = self.database.write().await?;
        let since = self.database.now(&mut tx, now).await? - Process::ALIVE;
        let prune = sqlx::query(self.database.sql.prune_processes.clone());
        prune.bind(since.as_micros()).execute(&mut *tx).await?;
        tx.commit().await
    }

    pub(crate) async fn backlog(
        &self,
        scope: &Scope,
        endpoint: Uuid,
        now: Now,
    ) -> sqlx::Result<Option<Backlog>> {
        let mut look = self.database.look().await?;
        let now = self.database.now(&mut look, now).await?;
        let found = sqlx::query(self.database.sql.backlog.clone())
            .bind(endpoint)
            .bind(tenant_of(scope))
            .bind(now.as_micros())
            .bind(i64::try_from(Depth::MOST).unwrap_or(i64::MAX))
            .fetch_optional(&mut *look)
            .await?;
        look.done();
        found.as_ref().map(backlog).transpose()
    }
}

fn process(row: &SqliteRow) -> sqlx::Result<Process> {
    Ok(Process {
        id: row.try_get("id")?,
        role: row.try_get("role")?,
        version: row.try_get("version")?,
        started_at: time(row, "started_at")?,
        seen_at: time(row, "seen_at")?,
        in_flight: count(row, "in_flight")?,
        slots: count(row, "slots")?,
    })
}

fn backlog(row: &SqliteRow) -> sqlx::Result<Backlog> {
    let mut backlog = Backlog::default();
    backlog.due = count(row, "due")?.into();
    backlog.parked = count(row, "parked")?.into();
    backlog.oldest_due = optional_time(row, "oldest_due")?;
    Ok(backlog)
}

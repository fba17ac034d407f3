//! The processes that are alive, and what waits for an endpoint.

use sqlx::Row;
use sqlx::postgres::PgRow;
use uuid::Uuid;
use webhook_core::{Backlog, Depth, Now, Process, Scope};

use crate::column::{At, at, micros, tenant};
use crate::read::readable;
use crate::store::Shared;

impl Shared {
    pub(crate) async fn put_process(&self, process: &Process, now: Now) -> sqlx::Result<()> {
        let query = self.sql.put_process.query().bind(at(now)).bind(process.id);
        let query = query.bind(&process.role).bind(&process.version);
        let query = query.bind(At(process.started_at));
        let query = query.bind(i64::from(process.in_flight));
        let query = query.bind(i64::from(process.slots));
        self.execute(query).await.map(drop)
    }

    pub(crate) async fn remove_process(&self, id: Uuid) -> sqlx::Result<()> {
        let query = self.sql.remove_process.query_once().bind(id);
        self.execute(query).await.map(drop)
    }

    pub(crate) async fn processes(&self, now: Now) -> sqlx::Result<Vec<Process>> {
        let query = self.sql.processes.query().bind(at(now));
        let rows = self.rows(query.bind(micros(Process::ALIVE))).await?;
        Ok(readable(&rows, process))
    }

    /// Forgets those that have gone without a word.
    pub(crate) async fn prune_processes(&self, now: Now) -> sqlx::Result<()> {
        let query = self.sql.prune_processes.query_once().bind(at(now));
        let query = query.bind(micros(Process::ALIVE));
        self.execute(query).await.map(drop)
    }

    pub(crate) async fn backlog(
        &self,
        scope: &Scope,
        endpoint: Uuid,
        now: Now,
    ) -> sqlx::Result<Option<Backlog>> {
        let query = self.sql.backlog.query().bind(at(now)).bind(endpoint);
        let query = query.bind(tenant(scope));
        let query = query.bind(i64::try_from(Depth::MOST).unwrap_or(i64::MAX));
        let _place = self.look().await?;
        self.row(query).await?.as_ref().map(backlog).transpose()
    }
}

fn process(row: &PgRow) -> sqlx::Result<Process> {
    let At(started_at) = row.try_get("started_at")?;
    let At(seen_at) = row.try_get("seen_at")?;
    let number = |column: &str| -> sqlx::Result<u32> {
        Ok(u32::try_from(row.try_get::<i64, _>(column)?).unwrap_or(u32::MAX))
    };
    Ok(Process {
        id: row.try_get("id")?,
        role: row.try_get("role")?,
        version: row.try_get("version")?,
        started_at,
        seen_at,
        in_flight: number("in_flight")?,
        slots: number("slots")?,
    })
}

fn backlog(row: &PgRow) -> sqlx::Result<Backlog> {
    let number = |column: &str| -> sqlx::Result<u64> {
        Ok(u64::try_from(row.try_get::<i64, _>(column)?).unwrap_or(0))
    };
    let oldest_due: Option<At> = row.try_get("oldest_due")?;
    let mut backlog = Backlog::default();
    backlog.due = number("due")?;
    backlog.parked = number("parked")?;
    backlog.oldest_due = oldest_due.map(|At(due)| due);
    Ok(backlog)
}

//! The audit log.

use sqlx::Row;
use sqlx::sqlite::SqliteRow;
use webhook_core::{
    AuditAction, AuditEntry, AuditFilter, Page, PageRequest, Scope, Tenant, Timestamp,
};

use crate::error::corrupt;
use crate::read::Select;
use crate::rows::time;
use crate::store::Shared;

impl Shared {
    pub(crate) async fn append_audit(&self, entry: &AuditEntry) -> sqlx::Result<()> {
        let append = sqlx::query(self.database.sql.append_audit.clone())
            .bind(entry.id)
            .bind(entry.at.as_micros())
            .bind(entry.actor.clone())
            .bind(entry.tenant.as_ref().map(Tenant::to_string))
            .bind(entry.action.as_str())
            .bind(entry.target.clone())
            .bind(entry.detail.clone());
        let mut tx = self.database.write().await?;
        append.execute(&mut *tx).await?;
        tx.commit().await
    }

    pub(crate) async fn audit(
        &self,
        scope: &Scope,
        filter: &AuditFilter,
        page: PageRequest,
    ) -> sqlx::Result<Page<AuditEntry>> {
        let mut look = self.database.look().await?;
        let found = Select::new(&self.database.sql.audit, scope)
            .and("actor =", filter.actor.as_deref())
            .and("action =", filter.action.map(AuditAction::as_str))
            .and("target =", filter.target.as_deref())
            .and("at >=", filter.since.map(Timestamp::as_micros))
            .and("at <", filter.until.map(Timestamp::as_micros))
            .page(&mut look, page, "audit entry", entry)
            .await?;
        look.done();
        Ok(found)
    }

    pub(crate) async fn prune_audit(&self, older_than: Timestamp) -> sqlx::Result<()> {
        let prune = sqlx::query(self.database.sql.prune_audit.clone());
        let mut tx = self.database.write().await?;
        let prune = prune.bind(older_than.as_micros());
        prune.execute(&mut *tx).await?;
        tx.commit().await
    }
}

fn entry(row: &SqliteRow) -> sqlx::Result<AuditEntry> {
    let tenant: Option<&str> = row.try_get("tenant")?;
    let action: &str = row.try_get("action")?;
    Ok(AuditEntry {
        id: row.try_get("id")?,
        at: time(row, "at")?,
        actor: row.try_get("actor")?,
        tenant: tenant.map(Tenant::new).transpose().map_err(corrupt)?,
        action: action.parse().map_err(corrupt)?,
        target: row.try_get("target")?,
        detail: row.try_get("detail")?,
    })
}

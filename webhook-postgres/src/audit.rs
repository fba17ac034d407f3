//! The audit log.

use std::time::Duration;

use sqlx::Row;
use sqlx::postgres::PgRow;
use webhook_core::{
    AuditAction, AuditEntry, AuditFilter, BoxError, Now, Page, PageRequest, Scope, Tenant,
};

use crate::column::{At, at, count, micros, tenant};
use crate::read::page_of;
use crate::store::Shared;

/// Entries that are dropped in a call.
const MAX_ROWS: i64 = 10_000;

impl Shared {
    pub(crate) async fn append_audit(&self, entry: &AuditEntry) -> sqlx::Result<()> {
        let query = self.sql.append_audit.query_once();
        let query = query.bind(entry.id).bind(At(entry.at)).bind(&entry.actor);
        let query = query.bind(entry.tenant.as_ref().map(Tenant::as_str));
        let query = query.bind(entry.action.as_str());
        let query = query.bind(&entry.target).bind(&entry.detail);
        self.execute(query).await.map(drop)
    }

    pub(crate) async fn audit(
        &self,
        scope: &Scope,
        filter: &AuditFilter,
        page: PageRequest,
    ) -> sqlx::Result<Page<AuditEntry>> {
        let texts = [&filter.actor, &filter.target].into_iter().flatten();
        if texts.into_iter().any(|text| text.contains('\0')) {
            // Postgres takes no such text, and keeps none.
            return Ok(Page {
                items: Vec::new(),
                next: None,
            });
        }
        let query = self.sql.audit.query_once();
        let query = query.bind(tenant(scope)).bind(page.before);
        let query = query.bind(count(page.limit).saturating_add(1));
        let query = query.bind(filter.actor.as_deref());
        let query = query.bind(filter.action.map(AuditAction::as_str));
        let query = query.bind(filter.target.as_deref());
        let query = query.bind(at(filter.since)).bind(at(filter.until));
        let _place = self.look().await?;
        let rows = self.rows(query).await?;
        page_of(&rows, page, entry)
    }

    pub(crate) async fn prune_audit(&self, retention: Duration, now: Now) -> sqlx::Result<()> {
        let query = self.sql.prune_audit.query_once().bind(at(now));
        let query = query.bind(micros(retention)).bind(MAX_ROWS);
        self.execute(query).await.map(drop)
    }
}

fn entry(row: &PgRow) -> sqlx::Result<AuditEntry> {
    let At(at) = row.try_get("at")?;
    let tenant: Option<&str> = row.try_get("tenant")?;
    let action: &str = row.try_get("action")?;
    Ok(AuditEntry {
        id: row.try_get("id")?,
        at,
        actor: row.try_get("actor")?,
        tenant: tenant.map(Tenant::new).transpose().map_err(corrupt)?,
        action: action.parse().map_err(corrupt)?,
        target: row.try_get("target")?,
        detail: row.try_get("detail")?,
    })
}

fn corrupt(error: impl Into<BoxError>) -> sqlx::Error {
    sqlx::Error::Decode(error.into())
}

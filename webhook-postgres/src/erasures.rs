//! The erasure of tenants.

use std::time::Duration;

use sqlx::postgres::PgRow;
use sqlx::{Connection, PgConnection, Row};
use tokio::time::timeout;
use uuid::Uuid;
use webhook_core::{ErasureStep, Now, Tenant};

use crate::column::{At, at, count, micros};
use crate::store::Shared;

/// When it is asked again for a step that another process is at.
const TAKEN: Duration = Duration::from_secs(1);

/// A tenant that is being erased.
struct Erasure {
    tenant: String,
    up_to: Uuid,
    requested_at: At,
}

/// What goes of it in a step.
struct Page {
    ended: Vec<Uuid>,
    live: Vec<Uuid>,
    events: Vec<Uuid>,
}

impl Shared {
    pub(crate) async fn erase_tenant(&self, tenant: &Tenant, now: Now) -> sqlx::Result<()> {
        let query = self.sql.erase_tenant.query_once().bind(at(now));
        self.execute(query.bind(tenant.as_str())).await.map(drop)
    }

    pub(crate) async fn step_erasure(&self, limit: usize, now: Now) -> sqlx::Result<ErasureStep> {
        let due_in = self.next_erasure(now).await?;
        if due_in != Some(Duration::ZERO) {
            return Ok(ErasureStep {
                next_in: due_in,
                ..ErasureStep::default()
            });
        }
        let mut lent = self.lend().await?;
        let taken = self.take_erasure(&mut lent, limit, now);
        let taken = timeout(self.patience.statement, taken).await;
        let Some(step) = lent.answered(taken)? else {
            return Ok(ErasureStep {
                next_in: Some(TAKEN),
                ..ErasureStep::default()
            });
        };
        Ok(ErasureStep {
            next_in: self.next_erasure(now).await?,
            ..step
        })
    }

    async fn next_erasure(&self, now: Now) -> sqlx::Result<Option<Duration>> {
        let query = self.sql.next_erasure.query().bind(at(now));
        let row = self.row(query).await?;
        let micros: Option<i64> = row.map(|row| row.try_get(0)).transpose()?;
        Ok(micros.map(|micros| Duration::from_micros(u64::try_from(micros).unwrap_or(0))))
    }

    /// `None` if another process is at it.
    async fn take_erasure(
        &self,
        connection: &mut PgConnection,
        limit: usize,
        now: Now,
    ) -> sqlx::Result<Option<ErasureStep>> {
        let mut tx = connection.begin().await?;
        let claim = self.sql.claim_erasure.query().bind(at(now));
        let claimed = claim.fetch_optional(&mut *tx).await?;
        let Some(erasure) = claimed.as_ref().map(erasure).transpose()? else {
            return Ok(None);
        };
        let page = self.sql.erasure_page.query_once().bind(&erasure.tenant);
        let page = page.bind(erasure.up_to).bind(count(limit));
        let page = page_of(&page.fetch_one(&mut *tx).await?)?;
        let erased = self.erase(&mut tx, &erasure, &page, limit).await?;
        let moved = self.sql.move_erasure.query_once().bind(at(now));
        let moved = moved.bind(&erasure.tenant).bind(erased > 0);
        let moved = moved.bind(micros(ErasureStep::LINGER));
        let has_ended: bool = moved.fetch_one(&mut *tx).await?.try_get(0)?;
        tx.commit().await?;
        let ended = has_ended.then(|| Tenant::new(&erasure.tenant)).transpose();
        Ok(Some(ErasureStep {
            erased: u64::try_from(erased).unwrap_or(0),
            ended: ended.map_err(|error| sqlx::Error::Decode(error.into()))?,
            next_in: None,
        }))
    }

    async fn erase(
        &self,
        tx: &mut PgConnection,
        erasure: &Erasure,
        page: &Page,
        limit: usize,
    ) -> sqlx::Result<i64> {
        let mut deliveries = [&page.ended[..], &page.live[..]].concat();
        deliveries.sort_unstable();
        let query = self.sql.erase.query_once();
        let query = query.bind(&erasure.tenant).bind(erasure.up_to);
        let query = query.bind(erasure.requested_at).bind(count(limit));
        let query = query.bind(&page.ended);
        let query = query.bind(page.ended.first()).bind(page.ended.last());
        let query = query.bind(&page.live).bind(&deliveries);
        let query = query.bind(deliveries.first()).bind(deliveries.last());
        let query = query.bind(&page.events);
        let query = query.bind(page.events.first()).bind(page.events.last());
        query.fetch_one(tx).await?.try_get("erased")
    }
}

fn erasure(row: &PgRow) -> sqlx::Result<Erasure> {
    Ok(Erasure {
        tenant: row.try_get("tenant")?,
        up_to: row.try_get("up_to")?,
        requested_at: row.try_get("requested_at")?,
    })
}

fn page_of(row: &PgRow) -> sqlx::Result<Page> {
    Ok(Page {
        ended: row.try_get("ended")?,
        live: row.try_get("live")?,
        events: row.try_get("events")?,
    })
}

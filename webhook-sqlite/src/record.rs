//! Writing what became of deliveries.

use std::collections::HashMap;
use std::sync::Arc;

use sqlx::Row;
use sqlx::sqlite::SqliteConnection;
use uuid::Uuid;
use webhook_core::backend::AttemptRow;
use webhook_core::{
    Attempt, Changed, DeliveryStatus, EndReason, Lease, Next, Now, Record, Recorded, Scope,
    StateReason, Timestamp,
};

use crate::rows::count;
use crate::sql::Bound;
use crate::store::Shared;

/// A live delivery that is about to change.
struct Live {
    sequence: i64,
    lane: Uuid,
    attempts: u32,
    last_error: Option<String>,
}

/// What a batch of records changes.
#[derive(Default)]
struct Changes {
    attempts: Vec<(Uuid, u32, Arc<Attempt>)>,
    /// With when they are due again.
    retried: Vec<(Live, Timestamp)>,
    ended: Vec<(Live, DeliveryStatus, Option<EndReason>)>,
    disabled: Vec<(Uuid, StateReason)>,
}

impl Shared {
    pub(crate) async fn record(&self, records: &[Record], now: Now) -> sqlx::Result<Vec<Recorded>> {
        let mut tx = self.database.write().await?;
        let now = self.database.now(&mut tx, now).await?;
        let leases: Vec<_> = records.iter().map(|record| record.lease).collect();
        let mut owned = self.owned(&mut tx, &leases).await?;
        let mut changes = Changes::default();
        let recorded = records.iter().map(|record| {
            match owned.remove(&(record.lease.delivery, record.lease.fence)) {
                None => Recorded::Fenced,
                Some(live) => {
                    changes.add(live, record, now);
                    Recorded::Written
                }
            }
        });
        let recorded = recorded.collect();
        self.write(&mut tx, &changes, now).await?;
        tx.commit().await?;
        Ok(recorded)
    }

    /// Ends deliveries of which something cannot be read.
    pub(crate) async fn end_unreadable(&self, leases: &[Lease], now: Now) -> sqlx::Result<()> {
        let mut tx = self.database.write().await?;
        let now = self.database.now(&mut tx, now).await?;
        let owned = self.owned(&mut tx, leases).await?;
        for (delivery, _) in owned.keys() {
            tracing::error!(%delivery, "a delivery cannot be read back; it ends as a dead letter");
        }
        let end = |live| (live, DeliveryStatus::Failed, Some(EndReason::Corrupt));
        let ended = owned.into_values().map(end).collect();
        self.write(
            &mut tx,
            &Changes {
                ended,
                ..Changes::default()
            },
            now,
        )
        .await?;
        tx.commit().await
    }

    pub(crate) async fn cancel_delivery(
        &self,
        scope: &Scope,
        id: Uuid,
        now: Now,
    ) -> sqlx::Result<Changed<()>> {
        let mut tx = self.database.write().await?;
        let now = self.database.now(&mut tx, now).await?;
        let Some(delivery) = self.delivery_on(&mut tx, scope, id).await? else {
            tx.rollback().await?;
            return Ok(Changed::NotFound);
        };
        if delivery.status.is_final() {
            tx.rollback().await?;
            return Ok(Changed::Refused);
        }
        let row = sqlx::query(self.database.sql.cancel_delivery.clone())
            .bind(id)
            .fetch_one(&mut *tx)
            .await?;
        let end = (
            live(&row)?,
            DeliveryStatus::Cancelled,
            Some(EndReason::Requested),
        );
        self.write(
            &mut tx,
            &Changes {
                ended: vec![end],
                ..Changes::default()
            },
            now,
        )
        .await?;
        tx.commit().await?;
        Ok(Changed::Done(()))
    }

    /// The deliveries whose claim is current, by id and fence.
    async fn owned(
        &self,
        tx: &mut SqliteConnection,
        leases: &[Lease],
    ) -> sqlx::Result<HashMap<(Uuid, i64), Live>> {
        let bind = |query: Bound, lease: &Lease| query.bind(lease.delivery).bind(lease.fence);
        let rows = self
            .database
            .sql
            .record
            .run(tx, leases, bind, |query| query)
            .await?;
        let owned = rows
            .iter()
            .map(|row| Ok(((row.try_get("id")?, row.try_get("fence")?), live(row)?)));
        owned.collect()
    }

    async fn write(
        &self,
        tx: &mut SqliteConnection,
        changes: &Changes,
        now: Timestamp,
    ) -> sqlx::Result<()> {
        let sql = &self.database.sql;
        let at = |query: Bound| query.bind(now.as_micros());
        sql.record_attempts
            .run(tx, &changes.attempts, bind_attempt, |query| query)
            .await?;
        let bind = |query: Bound, (live, due): &(Live, Timestamp)| {
            query
                .bind(live.sequence)
                .bind(i64::from(live.attempts))
                .bind(live.last_error.as_deref())
                .bind(due.as_micros())
        };
        sql.record_retry.run(tx, &changes.retried, bind, at).await?;
        sql.end.run(tx, &changes.ended, bind_ended, at).await?;
        let bind = |query: Bound, (live, ..): &(Live, _, _)| query.bind(live.sequence);
        sql.remove
            .run(tx, &changes.ended, bind, |query| query)
            .await?;
        let bind = |query: Bound, (endpoint, reason): &(Uuid, StateReason)| {
            query.bind(*endpoint).bind(reason.as_str())
        };
        sql.disable_endpoints
            .run(tx, &changes.disabled, bind, at)
            .await?;
        let lanes = changes.retried.iter().map(|(live, _)| live.lane).collect();
        self.wake(tx, lanes, now).await?;
        let lanes = changes.ended.iter().map(|(live, ..)| live.lane).collect();
        self.wake_full(tx, lanes, now).await
    }
}

impl Changes {
    fn add(&mut self, mut live: Live, record: &Record, now: Timestamp) {
        if let Some(attempt) = &record.attempt {
            live.attempts += 1;
            live.last_error = attempt.outcome.failure().map(|failure| failure.to_string());
            self.attempts
                .push((record.lease.delivery, live.attempts, Arc::clone(attempt)));
        }
        if let Some(reason) = record.disable {
            self.disabled.push((live.lane, reason));
        }
        match record.next {
            Next::RetryAfter(by) => self.retried.push((live, now + by)),
            Next::Succeeded => self.ended.push((live, DeliveryStatus::Succeeded, None)),
            Next::Failed(reason) => self
                .ended
                .push((live, DeliveryStatus::Failed, Some(reason))),
            Next::Cancelled(reason) => {
                self.ended
                    .push((live, DeliveryStatus::Cancelled, Some(reason)));
            }
        }
    }
}

fn live(row: &sqlx::sqlite::SqliteRow) -> sqlx::Result<Live> {
    Ok(Live {
        sequence: row.try_get("sequence")?,
        lane: row.try_get("endpoint_id")?,
        attempts: count(row, "attempts")?,
        last_error: row.try_get("last_error")?,
    })
}

fn bind_attempt(query: Bound, (delivery, number, attempt): &(Uuid, u32, Arc<Attempt>)) -> Bound {
    let row = AttemptRow::from(&**attempt);
    query
        .bind(*delivery)
        .bind(i64::from(*number))
        .bind(row.started_at)
        .bind(row.duration)
        .bind(row.first_byte)
        .bind(row.status)
        .bind(row.error_kind.as_deref())
        .bind(row.truncated)
        .bind(&row.request_headers[..])
        .bind(row.response_headers.as_deref())
        .bind(row.response_body.as_deref())
}

fn bind_ended(
    query: Bound,
    (live, status, reason): &(Live, DeliveryStatus, Option<EndReason>),
) -> Bound {
    query
        .bind(live.sequence)
        .bind(status.as_str())
        .bind(reason.map(EndReason::as_str))
        .bind(i64::from(live.attempts))
        .bind(live.last_error.as_deref())
}

//! Records the outcomes of deliveries.

use std::collections::HashSet;
use std::sync::Arc;

use sqlx::Row;
use sqlx::sqlite::SqliteConnection;
use uuid::Uuid;
use webhook_core::backend::AttemptRow;
use webhook_core::{
    Attempt, Changed, DeliveryStatus, EndReason, Hold, Lease, Next, Now, Record, Recorded, Scope,
    Timestamp,
};

use crate::sql::Bound;
use crate::store::Shared;

/// What a batch of records changes.
#[derive(Default)]
struct Changes {
    attempts: Vec<(Uuid, Arc<Attempt>)>,
    /// With when they are due again.
    retried: Vec<(Change, Timestamp)>,
    ended: Vec<(Change, DeliveryStatus, Option<EndReason>)>,
    held: Vec<(Uuid, Hold)>,
}

/// What changes of a live delivery, whatever it becomes.
struct Change {
    delivery: Uuid,
    lane: Uuid,
    /// Attempts made since.
    attempts: i64,
    /// What the last of them failed with.
    last_error: Option<String>,
}

impl Shared {
    pub(crate) async fn record(&self, records: &[Record], now: Now) -> sqlx::Result<Vec<Recorded>> {
        let mut tx = self.database.write().await?;
        let now = self.database.now(&mut tx, now).await?;
        let leases: Vec<_> = records.iter().map(|record| record.lease).collect();
        let mut fenced = self.fenced(&mut tx, &leases).await?;
        let mut changes = Changes::default();
        let recorded = records.iter().map(|record| {
            // Each lease records once, also within a batch.
            if fenced.insert((record.lease.delivery, record.lease.fence)) {
                changes.add(record, now);
                Recorded::Written
            } else {
                Recorded::Fenced
            }
        });
        let mut recorded: Vec<_> = recorded.collect();
        self.write(&mut tx, &changes, now).await?;
        self.change_health(&mut tx, records, &mut recorded, now)
            .await?;
        tx.commit().await?;
        Ok(recorded)
    }

    /// Ends deliveries of which something cannot be read.
    pub(crate) async fn quarantine(&self, leases: &[Lease], now: Now) -> sqlx::Result<()> {
        let mut tx = self.database.write().await?;
        let now = self.database.now(&mut tx, now).await?;
        let bind = |query: Bound, lease: &Lease| query.bind(lease.delivery).bind(lease.fence);
        let batch = &self.database.sql.quarantine;
        let rows = batch.run(&mut tx, leases, bind, |query| query).await?;
        let current: HashSet<Uuid> = rows
            .iter()
            .map(|row| row.try_get("id"))
            .collect::<sqlx::Result<_>>()?;
        let mut changes = Changes::default();
        for lease in leases.iter().filter(|it| current.contains(&it.delivery)) {
            tracing::error!(delivery = %lease.delivery, "a delivery cannot be read back; it ends as a dead letter");
            let change = Change {
                delivery: lease.delivery,
                lane: lease.lane,
                attempts: 0,
                last_error: None,
            };
            let end = (change, DeliveryStatus::Failed, Some(EndReason::Corrupt));
            changes.ended.push(end);
        }
        self.write(&mut tx, &changes, now).await?;
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
        let change = Change {
            delivery: id,
            lane: delivery.endpoint_id,
            attempts: 0,
            last_error: None,
        };
        let end = (
            change,
            DeliveryStatus::Cancelled,
            Some(EndReason::Requested),
        );
        let changes = Changes {
            ended: vec![end],
            ..Changes::default()
        };
        self.write(&mut tx, &changes, now).await?;
        tx.commit().await?;
        Ok(Changed::Done(()))
    }

    /// The leases that entitle to nothing, by delivery and fence.
    async fn fenced(
        &self,
        tx: &mut SqliteConnection,
        leases: &[Lease],
    ) -> sqlx::Result<HashSet<(Uuid, i64)>> {
        let bind = |query: Bound, lease: &Lease| query.bind(lease.delivery).bind(lease.fence);
        let batch = &self.database.sql.record_fenced;
        let rows = batch.run(tx, leases, bind, |query| query).await?;
        let fenced = rows
            .iter()
            .map(|row| Ok((row.try_get("id")?, row.try_get("fence")?)));
        fenced.collect()
    }

    async fn write(
        &self,
        tx: &mut SqliteConnection,
        changes: &Changes,
        now: Timestamp,
    ) -> sqlx::Result<()> {
        let sql = &self.database.sql;
        let at = |query: Bound| query.bind(now.as_micros());
        let attempts = &changes.attempts;
        sql.record_attempts
            .run(tx, attempts, bind_attempt, |query| query)
            .await?;
        let bind = |query: Bound, (change, due): &(Change, Timestamp)| {
            bind_change(query, change).bind(due.as_micros())
        };
        sql.record_retry.run(tx, &changes.retried, bind, at).await?;
        let bind =
            |query: Bound,
             (change, status, reason): &(Change, DeliveryStatus, Option<EndReason>)| {
                bind_change(query, change)
                    .bind(status.as_str())
                    .bind(reason.map(EndReason::as_str))
            };
        sql.end.run(tx, &changes.ended, bind, at).await?;
        let bind = |query: Bound, (change, ..): &(Change, _, _)| query.bind(change.delivery);
        sql.remove
            .run(tx, &changes.ended, bind, |query| query)
            .await?;
        self.hold_all(tx, &changes.held, now).await?;
        let lanes = changes
            .retried
            .iter()
            .map(|(change, _)| change.lane)
            .collect();
        self.wake(tx, lanes, now).await?;
        let lanes = changes
            .ended
            .iter()
            .map(|(change, ..)| change.lane)
            .collect();
        self.wake_full(tx, lanes, now).await
    }
}

impl Changes {
    fn add(&mut self, record: &Record, now: Timestamp) {
        let delivery = record.lease.delivery;
        let failure = record
            .attempt
            .as_ref()
            .and_then(|attempt| attempt.outcome.failure());
        let change = Change {
            delivery,
            lane: record.lease.lane,
            attempts: i64::from(record.attempt.is_some()),
            last_error: failure.map(|failure| failure.to_string()),
        };
        if let Some(attempt) = &record.attempt {
            self.attempts.push((delivery, Arc::clone(attempt)));
        }
        if let Some(by) = record.hold {
            self.held.push((record.lease.lane, Hold::new(by)));
        }
        match record.next {
            Next::RetryAfter(by) => self.retried.push((change, now + by)),
            Next::Succeeded => self.ended.push((change, DeliveryStatus::Succeeded, None)),
            Next::Failed(reason) => self
                .ended
                .push((change, DeliveryStatus::Failed, Some(reason))),
            Next::Cancelled(reason) => {
                self.ended
                    .push((change, DeliveryStatus::Cancelled, Some(reason)));
            }
        }
    }
}

fn bind_change(query: Bound, change: &Change) -> Bound {
    query
        .bind(change.delivery)
        .bind(change.attempts)
        .bind(change.last_error.as_deref())
}

fn bind_attempt(query: Bound, (delivery, attempt): &(Uuid, Arc<Attempt>)) -> Bound {
    let row = AttemptRow::from(&**attempt);
    query
        .bind(*delivery)
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

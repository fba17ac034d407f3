//! Records outcomes, with one statement for a whole batch.

use std::borrow::Cow;
use std::collections::HashSet;
use std::time::Duration;

use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{Connection, PgConnection, Postgres, Row};
use tokio::time::timeout;
use uuid::Uuid;
use webhook_core::backend::AttemptRow;
use webhook_core::{Next, Now, Record, Recorded, Timestamp};

use crate::column::{At, at, micros};
use crate::store::Shared;

impl Shared {
    /// Also returns whether events were stored that tell of endpoints.
    pub(crate) async fn record(
        &self,
        given: &[Record],
        now: Now,
    ) -> sqlx::Result<(Vec<Recorded>, bool)> {
        // In this order, as all who lock several do.
        let mut records: Vec<&Record> = given.iter().collect();
        records.sort_unstable_by_key(|record| record.lease.delivery);
        let attempts: Vec<_> = records
            .iter()
            .map(|record| record.attempt.as_deref().map(AttemptRow::from))
            .collect();
        let says_more = |it: &Record| it.health.is_some() || it.disable.is_some();
        let says_more = given.iter().any(says_more);
        let query = self.sql.record.query().bind(at(now));
        let query = bind(query, &records, &attempts);
        // Lanes are locked after health, as everybody does: with it, holds come later.
        let holds = of(&records, |it| it.hold.filter(|_| !says_more).map(micros));
        let query = query.bind(holds);
        let (recorded, has_events) = if says_more {
            let mut lent = self.lend().await?;
            let record = self.record_in(&mut lent, query, given, now);
            let recorded = timeout(self.patience.statement, record).await;
            lent.answered(recorded)?
        } else {
            // The rule: one statement is its own transaction.
            (recorded(given, &self.rows(query).await?)?, false)
        };
        if given.iter().any(|it| is_due_soon(it.next)) {
            self.news.tell();
        }
        Ok((recorded, has_events))
    }

    /// With what changes of endpoints' health.
    async fn record_in(
        &self,
        connection: &mut PgConnection,
        query: PgQuery<'_>,
        given: &[Record],
        now: Now,
    ) -> sqlx::Result<(Vec<Recorded>, bool)> {
        let mut tx = connection.begin().await?;
        let rows = query.fetch_all(&mut *tx).await?;
        let mut recorded = recorded(given, &rows)?;
        let has_events = self
            .change_health(&mut tx, given, &mut recorded, now)
            .await?;
        tx.commit().await?;
        Ok((recorded, has_events))
    }
}

type PgQuery<'q> = Query<'q, Postgres, PgArguments>;

fn bind<'q>(
    query: PgQuery<'q>,
    records: &'q [&'q Record],
    attempts: &'q [Option<AttemptRow<'q>>],
) -> PgQuery<'q> {
    query
        .bind(of(records, |it| it.lease.delivery))
        .bind(of(records, |it| it.lease.fence))
        .bind(of(records, |it| status(it.next)))
        .bind(of(records, |it| reason(it.next)))
        .bind(of(records, |it| retry_after(it.next)))
        .bind(of(records, |it| last_error(it)))
        .bind(of(attempts, |it| {
            it.as_ref()
                .map(|it| At(Timestamp::from_micros(it.started_at)))
        }))
        .bind(of(attempts, |it| it.as_ref().map(|it| it.duration)))
        .bind(of(attempts, |it| it.as_ref().and_then(|it| it.first_byte)))
        .bind(of(attempts, |it| {
            it.as_ref().map(|it| &*it.request_headers)
        }))
        .bind(of(attempts, |it| it.as_ref().and_then(|it| it.status)))
        .bind(of(attempts, |it| {
            it.as_ref().and_then(|it| it.error_kind.as_deref())
        }))
        .bind(of(attempts, |it| {
            bytes(it, |it| it.response_headers.as_ref())
        }))
        .bind(of(attempts, |it| bytes(it, |it| it.response_body.as_ref())))
        .bind(of(attempts, |it| it.as_ref().map(|it| it.truncated)))
}

/// Which of the records were written.
fn recorded(given: &[Record], rows: &[PgRow]) -> sqlx::Result<Vec<Recorded>> {
    let written = rows
        .iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
    let written: HashSet<(Uuid, i64)> = written.collect::<sqlx::Result<_>>()?;
    Ok(of(given, |it| {
        if written.contains(&(it.lease.delivery, it.lease.fence)) {
            Recorded::Written
        } else {
            Recorded::Fenced
        }
    }))
}

fn of<'a, T, C>(rows: &'a [T], column: impl Fn(&'a T) -> C) -> Vec<C> {
    rows.iter().map(column).collect()
}

fn bytes<'a>(
    attempt: &'a Option<AttemptRow<'a>>,
    column: impl Fn(&'a AttemptRow<'a>) -> Option<&'a Cow<'a, [u8]>>,
) -> Option<&'a [u8]> {
    attempt.as_ref().and_then(column).map(|bytes| &**bytes)
}

fn status(next: Next) -> &'static str {
    match next {
        Next::Succeeded => "succeeded",
        Next::RetryAfter(_) => "pending",
        Next::Failed(_) => "failed",
        Next::Cancelled(_) => "cancelled",
    }
}

fn reason(next: Next) -> Option<&'static str> {
    match next {
        Next::Succeeded | Next::RetryAfter(_) => None,
        Next::Failed(reason) | Next::Cancelled(reason) => Some(reason.as_str()),
    }
}

fn retry_after(next: Next) -> Option<i64> {
    match next {
        Next::RetryAfter(by) => Some(micros(by)),
        _ => None,
    }
}

/// Sooner than an idle worker looks by itself.
fn is_due_soon(next: Next) -> bool {
    matches!(next, Next::RetryAfter(by) if by < Duration::from_secs(1))
}

fn last_error(record: &Record) -> Option<String> {
    let failure = record.attempt.as_ref()?.outcome.failure();
    failure.map(|failure| failure.to_string())
}

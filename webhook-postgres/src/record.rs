//! Outcomes: one statement for all that have gathered.

use std::borrow::Cow;
use std::collections::HashSet;
use std::time::Duration;

use sqlx::Row;
use uuid::Uuid;
use webhook_core::backend::AttemptRow;
use webhook_core::{Next, Now, Record, Recorded, StateReason, Timestamp};

use crate::column::{At, at, micros};
use crate::store::Shared;

impl Shared {
    pub(crate) async fn record(&self, given: &[Record], now: Now) -> sqlx::Result<Vec<Recorded>> {
        // In this order, as all who lock several do.
        let mut records: Vec<&Record> = given.iter().collect();
        records.sort_unstable_by_key(|record| record.lease.delivery);
        let records = &records;
        let attempts: Vec<Option<AttemptRow<'_>>> = records
            .iter()
            .map(|record| record.attempt.as_deref().map(AttemptRow::from))
            .collect();
        let query = self.sql.record.query().bind(at(now));
        let query = query
            .bind(of(records, |it| it.lease.delivery))
            .bind(of(records, |it| it.lease.fence))
            .bind(of(records, |it| status(it.next)))
            .bind(of(records, |it| reason(it.next)))
            .bind(of(records, |it| retry_after(it.next)))
            .bind(of(records, |it| last_error(it)))
            .bind(of(records, |it| it.disable.map(StateReason::as_str)))
            .bind(of(&attempts, |it| {
                it.as_ref()
                    .map(|it| At(Timestamp::from_micros(it.started_at)))
            }))
            .bind(of(&attempts, |it| it.as_ref().map(|it| it.duration)))
            .bind(of(&attempts, |it| it.as_ref().and_then(|it| it.first_byte)))
            .bind(of(&attempts, |it| {
                it.as_ref().map(|it| &*it.request_headers)
            }))
            .bind(of(&attempts, |it| it.as_ref().and_then(|it| it.status)))
            .bind(of(&attempts, |it| {
                it.as_ref().and_then(|it| it.error_kind.as_deref())
            }))
            .bind(of(&attempts, |it| {
                bytes(it, |it| it.response_headers.as_ref())
            }))
            .bind(of(&attempts, |it| {
                bytes(it, |it| it.response_body.as_ref())
            }))
            .bind(of(&attempts, |it| it.as_ref().map(|it| it.truncated)))
            .bind(of(records, |it| it.hold.map(micros)));
        let rows = self.rows(query).await?;
        let written = rows
            .iter()
            .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
        let written: HashSet<(Uuid, i64)> = written.collect::<sqlx::Result<_>>()?;
        if records.iter().any(|it| is_due_soon(it.next)) {
            self.news.tell();
        }
        Ok(of(given, |it| {
            if written.contains(&(it.lease.delivery, it.lease.fence)) {
                Recorded::Written
            } else {
                Recorded::Fenced
            }
        }))
    }
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

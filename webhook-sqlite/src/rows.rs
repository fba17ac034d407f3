//! Reads rows back into the engine's types.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;
use uuid::Uuid;
use webhook_core::backend::{AttemptRow, EndpointRow, ReplayRow};
use webhook_core::{
    Attempt, Delivery, Event, EventType, Idempotency, Job, LaneLimits, RateLimit, Replay, Tenant,
    Timestamp,
};

use crate::error::corrupt;

/// Those of these rows that can be read: one that cannot must not keep the others back.
pub(crate) fn readable<T>(
    rows: &[SqliteRow],
    what: &'static str,
    decode: impl Fn(&SqliteRow) -> sqlx::Result<T>,
) -> Vec<T> {
    let decode = |row: &SqliteRow| {
        let log = |error| {
            let id: Option<Uuid> = row.try_get("id").ok();
            tracing::error!(what, ?id, %error, "a row cannot be read, and is left out");
        };
        decode(row).map_err(log).ok()
    };
    rows.iter().filter_map(decode).collect()
}

pub(crate) fn time(row: &SqliteRow, column: &str) -> sqlx::Result<Timestamp> {
    row.try_get(column).map(Timestamp::from_micros)
}

pub(crate) fn optional_time(row: &SqliteRow, column: &str) -> sqlx::Result<Option<Timestamp>> {
    let micros: Option<i64> = row.try_get(column)?;
    Ok(micros.map(Timestamp::from_micros))
}

/// A number that is never negative.
pub(crate) fn count(row: &SqliteRow, column: &str) -> sqlx::Result<u32> {
    u32::try_from(row.try_get::<i64, _>(column)?).map_err(corrupt)
}

/// A duration as a column has it.
pub(crate) fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

pub(crate) fn event(row: &SqliteRow) -> sqlx::Result<Event> {
    let key: Option<String> = row.try_get("idempotency_key")?;
    let traceparent: Option<&str> = row.try_get("traceparent")?;
    let fingerprint: Option<&[u8]> = row.try_get("fingerprint")?;
    let idempotency = key.zip(fingerprint).map(|(key, fingerprint)| {
        let fingerprint = fingerprint.try_into().map_err(corrupt)?;
        Ok::<_, sqlx::Error>(Idempotency {
            key,
            fingerprint,
            window: Idempotency::DEFAULT_WINDOW,
        })
    });
    Ok(Event {
        id: row.try_get("id")?,
        tenant: tenant(row)?,
        event_type: EventType::new(row.try_get("event_type")?).map_err(corrupt)?,
        body: Bytes::from(row.try_get::<Vec<u8>, _>("body")?),
        created_at: time(row, "created_at")?,
        deliver_at: optional_time(row, "deliver_at")?,
        idempotency: idempotency.transpose()?,
        // A trace is nothing that a delivery fails for.
        traceparent: traceparent.and_then(|it| it.parse().ok()),
    })
}

pub(crate) fn endpoint(row: &SqliteRow) -> sqlx::Result<EndpointRow> {
    Ok(EndpointRow {
        id: row.try_get("id")?,
        tenant: row.try_get("tenant")?,
        url: row.try_get("url")?,
        settings: row.try_get("settings")?,
        secrets: row.try_get("secrets")?,
        state: row.try_get("state")?,
        state_reason: row.try_get("state_reason")?,
        version: row.try_get("version")?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
    })
}

pub(crate) fn delivery(row: &SqliteRow) -> sqlx::Result<Delivery> {
    Ok(Delivery {
        id: row.try_get("id")?,
        event_id: row.try_get("event_id")?,
        endpoint_id: row.try_get("endpoint_id")?,
        replay_no: count(row, "replay_no")?,
        tenant: tenant(row)?,
        event_type: EventType::new(row.try_get("event_type")?).map_err(corrupt)?,
        status: row.try_get::<&str, _>("status")?.parse().map_err(corrupt)?,
        attempts: count(row, "attempts")?,
        next_retry_at: optional_time(row, "next_retry_at")?,
        last_error: word(row.try_get("last_error")?)?,
        end_reason: word(row.try_get("end_reason")?)?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
    })
}

pub(crate) fn attempt(row: &SqliteRow) -> sqlx::Result<Attempt> {
    let row = AttemptRow {
        started_at: row.try_get("started_at")?,
        duration: row.try_get("duration")?,
        first_byte: row.try_get("first_byte")?,
        request_headers: Cow::Borrowed(row.try_get("request_headers")?),
        status: row.try_get("status")?,
        error_kind: row
            .try_get::<Option<&str>, _>("error_kind")?
            .map(Cow::Borrowed),
        response_headers: row
            .try_get::<Option<&[u8]>, _>("response_headers")?
            .map(Cow::Borrowed),
        response_body: row
            .try_get::<Option<&[u8]>, _>("response_body")?
            .map(Cow::Borrowed),
        truncated: row.try_get("truncated")?,
    };
    Attempt::try_from(row).map_err(corrupt)
}

pub(crate) fn replay(row: &SqliteRow) -> sqlx::Result<Replay> {
    let row = ReplayRow {
        id: row.try_get("id")?,
        tenant: row.try_get("tenant")?,
        selection: row.try_get("selection")?,
        state: row.try_get("state")?,
        pace: row.try_get("pace")?,
        total: row.try_get("total")?,
        total_is_exact: row.try_get("total_is_exact")?,
        done: row.try_get("done")?,
        skipped: row.try_get("skipped")?,
        created_by: row.try_get("created_by")?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
    };
    Replay::try_from(row).map_err(corrupt)
}

pub(crate) fn job(row: &SqliteRow) -> sqlx::Result<Job> {
    Ok(Job {
        delivery: row.try_get("id")?,
        lane: row.try_get("endpoint_id")?,
        tenant: tenant(row)?,
        due: time(row, "due")?,
        fence: row.try_get("fence")?,
        sequence: row.try_get("sequence")?,
        limits: limits(row)?,
    })
}

pub(crate) fn limits(row: &SqliteRow) -> sqlx::Result<LaneLimits> {
    let limit: Option<i64> = row.try_get("rate_limit")?;
    let per: Option<i64> = row.try_get("rate_per")?;
    let rate = limit.zip(per).map(|(limit, per)| RateLimit {
        limit: u32::try_from(limit).unwrap_or(1),
        per: Duration::from_micros(u64::try_from(per).unwrap_or(0)),
    });
    let max_in_flight: i64 = row.try_get("max_in_flight")?;
    Ok(LaneLimits {
        max_in_flight: u32::try_from(max_in_flight).unwrap_or(u32::MAX),
        rate,
        ordered: row.try_get("ordered")?,
    })
}

pub(crate) fn tenant(row: &SqliteRow) -> sqlx::Result<Tenant> {
    Tenant::new(row.try_get("tenant")?).map_err(corrupt)
}

/// A word of one of core's enumerations.
pub(crate) fn word<T: FromStr<Err: StdError + Send + Sync + 'static>>(
    word: Option<&str>,
) -> sqlx::Result<Option<T>> {
    word.map(str::parse).transpose().map_err(corrupt)
}

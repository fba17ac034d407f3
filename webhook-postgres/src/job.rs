//! Reads rows that are jobs.

use std::time::Duration;

use sqlx::Row;
use sqlx::postgres::PgRow;
use webhook_core::{Job, LaneLimits, RateLimit, Tenant};

use crate::column::At;

/// A job from columns that begin at `first`, in the order in which `jobs.sql` has them.
pub(crate) fn job(row: &PgRow, first: usize) -> sqlx::Result<Job> {
    let tenant: &str = row.try_get(first + 2)?;
    let At(due) = row.try_get(first + 3)?;
    let max_in_flight: Option<i32> = row.try_get(first + 6)?;
    let rate = rate(row.try_get(first + 7)?, row.try_get(first + 8)?);
    Ok(Job {
        delivery: row.try_get(first)?,
        lane: row.try_get(first + 1)?,
        tenant: Tenant::new(tenant).map_err(|error| sqlx::Error::Decode(error.into()))?,
        due,
        fence: row.try_get(first + 4)?,
        sequence: row.try_get(first + 5)?,
        limits: LaneLimits {
            max_in_flight: max_in_flight
                .and_then(|cap| u32::try_from(cap).ok())
                .unwrap_or(u32::MAX),
            rate,
            ordered: row.try_get(first + 9)?,
        },
    })
}

fn rate(limit: Option<i32>, per: Option<i64>) -> Option<RateLimit> {
    Some(RateLimit {
        limit: u32::try_from(limit?).ok()?,
        per: Duration::from_micros(u64::try_from(per?).ok()?),
    })
}

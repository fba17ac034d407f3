//! Inserts events: one statement stores them with all their deliveries.

use sqlx::error::DatabaseError;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{Connection, PgConnection, Postgres, Row};
use tokio::time::timeout;
use uuid::Uuid;
use webhook_core::{
    Event, InsertOptions, Inserted, Insertion, Job, Lease, NewClaim, Now, OnConflict,
};

use crate::column::{At, at, id_prefix, micros};
use crate::error::{is_locked, locked};
use crate::job::job;
use crate::store::Shared;

/// How long an insert waits for another transaction that holds one of its keys: who else is in it has others to lose.
const LOCK_PATIENCE: &str = "200ms";
/// Where the columns of a job begin in what `insert_events_keyed` answers.
const FIRST_OF_JOB: usize = 3;
/// How many columns a job has.
const AFTER_JOB: usize = 10;

impl Shared {
    pub(crate) async fn insert_events(
        &self,
        events: &[Event],
        options: &InsertOptions,
        now: Now,
    ) -> sqlx::Result<Insertion> {
        let mut lent = self.lend().await?;
        let patience = self.patience.statement;
        let inserted = match options.on_conflict {
            OnConflict::Abort if has_keys(events) => {
                let insert = self.insert_together(&mut lent, events, now);
                timeout(patience, insert).await
            }
            // One statement is its own transaction, without the round trips of another.
            OnConflict::Abort | OnConflict::Skip => {
                let insert = self.insert_apart(&mut lent, events, options, now);
                timeout(patience, insert).await
            }
        };
        lent.answered(inserted)
    }

    async fn insert_apart(
        &self,
        connection: &mut PgConnection,
        events: &[Event],
        options: &InsertOptions,
        now: Now,
    ) -> sqlx::Result<Insertion> {
        if !has_keys(events) {
            let inserted = self.insert_new(connection, events, options, now).await;
            let is_repeated = |error: &sqlx::Error| {
                let error = error.as_database_error();
                error.is_some_and(DatabaseError::is_unique_violation)
            };
            if !inserted.as_ref().is_err_and(is_repeated) {
                return inserted;
            }
        }
        let inserted = self.insert_keyed(connection, events, now, Some(LOCK_PATIENCE));
        inserted
            .await
            .map_err(|error| if is_locked(&error) { locked() } else { error })
    }

    /// All of the events, or none if the key of one stands for something else.
    async fn insert_together(
        &self,
        connection: &mut PgConnection,
        events: &[Event],
        now: Now,
    ) -> sqlx::Result<Insertion> {
        let mut tx = connection.begin().await?;
        let mut insertion = self.insert_events_in(&mut tx, events, now).await?;
        let is_conflict = |one: &Inserted| matches!(one, Inserted::Conflict(_));
        if insertion.events.iter().any(is_conflict) {
            insertion.jobs.clear();
            tx.rollback().await?;
        } else {
            tx.commit().await?;
        }
        Ok(insertion)
    }

    /// Of events none of which has a key or is there already.
    async fn insert_new(
        &self,
        connection: &mut PgConnection,
        events: &[Event],
        options: &InsertOptions,
        now: Now,
    ) -> sqlx::Result<Insertion> {
        let claim = &options.claim;
        let query = bind(self.sql.insert_events.query(), events, now)
            .bind(claim.iter().map(|new| new.endpoint).collect::<Vec<_>>())
            .bind(claim.iter().map(|new| new.version).collect::<Vec<_>>())
            .bind(
                claim
                    .iter()
                    .map(|new| i64::from(new.room))
                    .collect::<Vec<_>>(),
            )
            .bind(micros(options.lease))
            .bind(traceparents(events));
        let rows = query.fetch_all(connection).await?;
        let mut insertion = Insertion {
            events: vec![Inserted::New; events.len()],
            jobs: Vec::with_capacity(rows.len()),
            claimed: Vec::new(),
        };
        for (place, row) in rows.iter().enumerate() {
            let job = job(row, 0)?;
            let claimed = claimed(row, place, &job)?;
            insertion.claimed.extend(claimed);
            insertion.jobs.push(job);
        }
        Ok(insertion)
    }

    /// Joins the transaction of the connection, which an event that is there already must not break.
    pub(crate) async fn insert_events_in(
        &self,
        connection: &mut PgConnection,
        events: &[Event],
        now: Now,
    ) -> sqlx::Result<Insertion> {
        self.insert_keyed(connection, events, now, None).await
    }

    async fn insert_keyed(
        &self,
        connection: &mut PgConnection,
        events: &[Event],
        now: Now,
        lock_patience: Option<&str>,
    ) -> sqlx::Result<Insertion> {
        let keys = events.iter().map(|event| event.idempotency.as_ref());
        let (names, fingerprints): (Vec<_>, Vec<_>) = keys
            .map(|key| key.map(|it| (it.key.as_str(), &it.fingerprint[..])).unzip())
            .unzip();
        let windows = events
            .iter()
            .map(|event| event.idempotency.as_ref().map(|key| micros(key.window)));
        let query = bind(self.sql.insert_events_keyed.query(), events, now);
        let query = query
            .bind(names)
            .bind(fingerprints)
            .bind(windows.collect::<Vec<_>>())
            .bind(traceparents(events))
            .bind(lock_patience);
        let rows = query.fetch_all(connection).await?;
        let mut insertion = Insertion {
            events: vec![Inserted::New; events.len()],
            ..Insertion::default()
        };
        for row in &rows {
            let place = usize::try_from(row.try_get::<i64, _>(0)? - 1).unwrap_or(usize::MAX);
            if let (Some(one), Some(event)) = (insertion.events.get_mut(place), events.get(place)) {
                *one = judge(row, event.id)?;
            }
            if row.try_get::<Option<Uuid>, _>(FIRST_OF_JOB)?.is_some() {
                insertion.jobs.push(job(row, FIRST_OF_JOB)?);
            }
        }
        Ok(insertion)
    }
}

/// The claim that the row of a job is, if it is one.
fn claimed(row: &PgRow, place: usize, job: &Job) -> sqlx::Result<Option<NewClaim>> {
    let Some(event) = row.try_get::<Option<i64>, _>(AFTER_JOB)? else {
        return Ok(None);
    };
    let At(until) = row.try_get(AFTER_JOB + 1)?;
    let lease = Lease {
        delivery: job.delivery,
        lane: job.lane,
        fence: 1,
        until,
    };
    Ok(Some(NewClaim {
        event: usize::try_from(event - 1).unwrap_or(usize::MAX),
        job: place,
        lease,
    }))
}

/// What an event's key stands for.
fn judge(row: &PgRow, id: Uuid) -> sqlx::Result<Inserted> {
    let stands_for: Uuid = row.try_get(1)?;
    Ok(if stands_for == id {
        Inserted::New
    } else if row.try_get(2)? {
        Inserted::Existing(stands_for)
    } else {
        Inserted::Conflict(stands_for)
    })
}

fn has_keys(events: &[Event]) -> bool {
    events.iter().any(|event| event.idempotency.is_some())
}

fn traceparents(events: &[Event]) -> Vec<Option<String>> {
    let text = |event: &Event| event.traceparent.map(|parent| parent.to_string());
    events.iter().map(text).collect()
}

type PgQuery<'q> = Query<'q, Postgres, PgArguments>;

fn bind<'q>(query: PgQuery<'q>, events: &'q [Event], now: Now) -> PgQuery<'q> {
    fn column<'q, T>(events: &'q [Event], of: impl Fn(&'q Event) -> T) -> Vec<T> {
        events.iter().map(of).collect()
    }
    query
        .bind(at(now))
        .bind(column(events, |event| event.id))
        .bind(column(events, |event| event.tenant.as_str()))
        .bind(column(events, |event| event.event_type.as_str()))
        .bind(column(events, |event| &event.body[..]))
        .bind(column(events, |event| At(event.created_at)))
        .bind(column(events, |event| event.deliver_at.map(At)))
        .bind(column(events, |event| id_prefix(event.created_at).to_vec()))
}

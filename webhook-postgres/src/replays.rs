//! Bulk replays: which rows each selects, and how a step of one is taken.
//!
//! A step is claimed, examined and taken, each in a statement of its own, so that nothing is locked while rows are judged here. If
//! somebody else took the step meanwhile, or ended the replay, they raised the fence or changed the state. Then this step makes
//! nothing.

use std::time::Duration;

use sqlx::postgres::PgRow;
use sqlx::{Connection, PgConnection, Row};
use tokio::time::timeout;
use uuid::Uuid;
use webhook_core::backend::ReplayRow;
use webhook_core::{
    Changed, DeliveryFilter, DeliveryStatus, Endpoint, EndpointReplay, Job, Now, Page, PageRequest,
    Replay, ReplayScan, ReplaySelection, ReplayState, ReplayStep, ReplayVerdict, Result, Scope,
    Timestamp,
};

use crate::column::{At, at, count, micros, tenant};
use crate::error::failed;
use crate::job::job;
use crate::load::{corrupt, event};
use crate::read::{delivery, page_of, readable};
use crate::store::Shared;

/// After which time a step that was claimed and not taken is claimed again. One that cannot be read waits as long: a
/// newer version may have started it.
const LEASE: Duration = Duration::from_secs(30);

/// A page of a selection.
struct Look<'a> {
    scope: &'a Scope,
    /// When the replay was started.
    at: Timestamp,
    after: Option<Uuid>,
    limit: usize,
}

/// What a look at it found.
#[derive(Default)]
pub(crate) struct Found {
    wanted: Vec<Wanted>,
    skipped: u64,
    next: Option<Uuid>,
    /// The endpoint of the selection is not there, or cannot be read.
    is_gone: bool,
}

/// A delivery to be made.
struct Wanted {
    event: Uuid,
    endpoint: Uuid,
    /// The last replay of them, if the endpoint had the event.
    last: Option<u32>,
}

/// A step that is ours to take.
struct Claimed {
    replay: Replay,
    after: Option<Uuid>,
    fence: i64,
}

impl Shared {
    pub(crate) async fn insert_replay(&self, replay: &Replay, now: Now) -> Result<Replay> {
        let row = ReplayRow::from(replay);
        let query = self.sql.insert_replay.query().bind(at(now)).bind(row.id);
        let query = query.bind(row.tenant).bind(row.selection).bind(row.state);
        let query = query
            .bind(row.pace)
            .bind(row.total)
            .bind(row.total_is_exact);
        let query = query.bind(row.done).bind(row.skipped).bind(row.created_by);
        let row = self.only_row(query).await;
        replay_of(&row.map_err(failed("insert_replay"))?, "insert_replay")
    }

    pub(crate) async fn replay_by_id(&self, scope: &Scope, id: Uuid) -> Result<Option<Replay>> {
        let query = self.sql.replays.query_once().bind(tenant(scope));
        let query = query.bind(None::<Uuid>).bind(1_i64).bind(id);
        let row = self.row(query).await;
        let row = row.map_err(failed("replay"))?;
        row.map(|row| replay_of(&row, "replay")).transpose()
    }

    pub(crate) async fn replays(
        &self,
        scope: &Scope,
        page: PageRequest,
    ) -> sqlx::Result<Page<Replay>> {
        let query = self.sql.replays.query_once().bind(tenant(scope));
        let query = query
            .bind(page.before)
            .bind(count(page.limit).saturating_add(1));
        let rows = self.rows(query.bind(None::<Uuid>)).await?;
        page_of(&rows, page, |row| replay_of(row, "replays"))
    }

    pub(crate) async fn cancel_replay(
        &self,
        scope: &Scope,
        id: Uuid,
        now: Now,
    ) -> Result<Changed<Replay>> {
        let query = self.sql.cancel_replay.query().bind(at(now)).bind(id);
        let row = self.row(query.bind(tenant(scope))).await;
        let row = row.map_err(failed("cancel_replay"))?;
        if let Some(row) = row {
            return replay_of(&row, "cancel_replay").map(Changed::Done);
        }
        let known = self.replay_by_id(scope, id).await?;
        Ok(known.map_or(Changed::NotFound, |_| Changed::Refused))
    }

    pub(crate) async fn scan_replay(
        &self,
        scope: &Scope,
        selection: &ReplaySelection,
        after: Option<Uuid>,
        limit: usize,
        now: Now,
    ) -> sqlx::Result<ReplayScan> {
        let _place = self.look().await?;
        let query = self.sql.now.query().bind(at(now));
        let At(now) = self.only_row(query).await?.try_get(0)?;
        let look = Look {
            scope,
            at: now,
            after,
            limit,
        };
        let found = self.look_at(selection, &look).await?;
        Ok(ReplayScan {
            wanted: found.wanted.len() as u64,
            skipped: found.skipped,
            next: found.next,
        })
    }

    pub(crate) async fn step_replay(&self, limit: usize, now: Now) -> sqlx::Result<ReplayStep> {
        let query = self.sql.claim_replay.query().bind(at(now));
        let row = self.row(query.bind(micros(LEASE))).await?;
        let Some(row) = row else {
            return Ok(ReplayStep::default());
        };
        if !row.try_get::<bool, _>("is_claimed")? {
            return Ok(ReplayStep {
                next_in: Some(from_micros(row.try_get("next_in")?)),
                ..ReplayStep::default()
            });
        }
        let mut step = ReplayStep::default();
        if let Some(claimed) = claimed(&row)? {
            step = self.take_step(claimed, limit, now).await?;
        }
        let query = self.sql.next_replay.query().bind(at(now));
        let next = self.row(query).await?;
        let next_in = next.map(|row| row.try_get(0)).transpose()?;
        step.next_in = next_in.map(from_micros);
        Ok(step)
    }

    async fn take_step(
        &self,
        claimed: Claimed,
        limit: usize,
        now: Now,
    ) -> sqlx::Result<ReplayStep> {
        let Claimed {
            replay,
            after,
            fence,
        } = claimed;
        let scope = replay.scope();
        let look = Look {
            scope: &scope,
            at: replay.created_at,
            after,
            limit,
        };
        let found = self.look_at(&replay.selection, &look).await?;
        let (replay, jobs) = self.make(replay.id, fence, &found, now).await?;
        if !jobs.is_empty() {
            self.news.tell();
        }
        Ok(ReplayStep {
            replay,
            jobs,
            next_in: None,
        })
    }

    /// Makes what was found. Returns how the replay stands then, and the jobs.
    pub(crate) async fn make(
        &self,
        replay: Uuid,
        fence: i64,
        found: &Found,
        now: Now,
    ) -> sqlx::Result<(Option<Replay>, Vec<Job>)> {
        let mut lent = self.lend().await?;
        let made = self.make_in(&mut lent, replay, fence, found, now);
        let made = timeout(self.patience.statement, made).await;
        lent.answered(made)
    }

    /// One transaction, so that a crash neither loses nor repeats anything.
    async fn make_in(
        &self,
        connection: &mut PgConnection,
        replay: Uuid,
        fence: i64,
        found: &Found,
        now: Now,
    ) -> sqlx::Result<(Option<Replay>, Vec<Job>)> {
        let mut tx = connection.begin().await?;
        let jobs = self.insert(&mut tx, replay, fence, found, now).await?;
        let query = self.sql.replays.query_once().bind(None::<&str>);
        let query = query.bind(None::<Uuid>).bind(1_i64).bind(replay);
        let rows = query.fetch_all(&mut *tx).await?;
        let replay = readable(&rows, |row| replay_of(row, "step_replay")).pop();
        tx.commit().await?;
        Ok((replay, jobs))
    }

    async fn insert(
        &self,
        tx: &mut PgConnection,
        replay: Uuid,
        fence: i64,
        found: &Found,
        now: Now,
    ) -> sqlx::Result<Vec<Job>> {
        let state = match found.next {
            _ if found.is_gone => ReplayState::Cancelled,
            Some(_) => ReplayState::Running,
            None => ReplayState::Completed,
        };
        let wanted = &found.wanted;
        let events: Vec<_> = wanted.iter().map(|it| it.event).collect();
        let endpoints: Vec<_> = wanted.iter().map(|it| it.endpoint).collect();
        let last = wanted.iter().map(|it| match it.last {
            Some(last) => i32::try_from(last).unwrap_or(i32::MAX),
            None => -1,
        });
        let last: Vec<_> = last.collect();
        let lock = self.sql.lock_events.query().bind(&events);
        lock.execute(&mut *tx).await?;
        let query = self.sql.step_replay.query().bind(at(now)).bind(replay);
        let query = query.bind(fence).bind(state.as_str()).bind(found.next);
        let query = query.bind(i64::try_from(found.skipped).unwrap_or(i64::MAX));
        let query = query.bind(&events).bind(&endpoints).bind(&last);
        let rows = query.fetch_all(tx).await?;
        rows.iter().map(|row| job(row, 0)).collect()
    }

    async fn look_at(&self, selection: &ReplaySelection, look: &Look<'_>) -> sqlx::Result<Found> {
        match selection {
            ReplaySelection::Deliveries(filter) => {
                self.look_at_ended(selection, filter, look).await
            }
            ReplaySelection::Endpoint(replay) => self.look_at_events(replay, look).await,
        }
    }

    async fn look_at_ended(
        &self,
        selection: &ReplaySelection,
        filter: &DeliveryFilter,
        look: &Look<'_>,
    ) -> sqlx::Result<Found> {
        let query = self.sql.ended_deliveries.query_once();
        let query = query
            .bind(tenant(look.scope))
            .bind(look.after.unwrap_or(Uuid::nil()))
            .bind(count(look.limit));
        let query = query.bind(filter.endpoint_id);
        let query = query.bind(filter.status.map(DeliveryStatus::as_str));
        let rows = self.rows(query).await?;
        let ended = readable(&rows, |row| {
            Ok::<_, sqlx::Error>((delivery(row)?, row.try_get::<bool, _>("is_last")?))
        });
        let mut found = Found {
            skipped: (rows.len() - ended.len()) as u64,
            next: last_id(&rows, look.limit)?,
            ..Found::default()
        };
        for (delivery, is_last) in ended {
            if !selection.selects(&delivery, look.at) {
                continue;
            }
            if is_last {
                found.wanted.push(Wanted {
                    event: delivery.event_id,
                    endpoint: delivery.endpoint_id,
                    last: Some(delivery.replay_no),
                });
            } else {
                found.skipped += 1;
            }
        }
        Ok(found)
    }

    async fn look_at_events(
        &self,
        replay: &EndpointReplay,
        look: &Look<'_>,
    ) -> sqlx::Result<Found> {
        let Some(endpoint) = self
            .readable_endpoint(look.scope, replay.endpoint_id)
            .await?
        else {
            return Ok(Found {
                is_gone: true,
                ..Found::default()
            });
        };
        let query = self.sql.endpoint_events.query().bind(endpoint.id);
        let query = query
            .bind(endpoint.tenant.as_str())
            .bind(look.after.unwrap_or_else(|| replay.after()))
            .bind(replay.before(look.at))
            .bind(count(look.limit))
            .bind(endpoint.settings.filter.is_some());
        let rows = self.rows(query).await?;
        let events = readable(&rows, |row| {
            Ok::<_, sqlx::Error>((event(row, "id")?, last(row)?))
        });
        let mut found = Found {
            skipped: (rows.len() - events.len()) as u64,
            next: last_id(&rows, look.limit)?,
            ..Found::default()
        };
        for (event, last) in events {
            let status = last.map(|(_, status)| status);
            match replay.judge(&event, &endpoint, status, look.at) {
                Some(ReplayVerdict::Make) => found.wanted.push(Wanted {
                    event: event.id,
                    endpoint: endpoint.id,
                    last: last.map(|(replay_no, _)| replay_no),
                }),
                Some(ReplayVerdict::Skip) => found.skipped += 1,
                None => {}
            }
        }
        Ok(found)
    }

    async fn readable_endpoint(&self, scope: &Scope, id: Uuid) -> sqlx::Result<Option<Endpoint>> {
        let query = self.sql.endpoint.query().bind(vec![id]).bind(tenant(scope));
        let rows = self.rows(query).await?;
        let opened = readable(&rows, |row| self.opened(row, "step_replay")).pop();
        Ok(opened.map(|it| it.endpoint().clone()))
    }
}

/// What was claimed; `None` if it cannot be read: it comes up again when the claim ends, and the others do not wait.
fn claimed(row: &PgRow) -> sqlx::Result<Option<Claimed>> {
    let replay = match replay_of(row, "step_replay") {
        Ok(replay) => replay,
        Err(error) => {
            let id: Uuid = row.try_get("next_id")?;
            tracing::error!(replay = %id, %error, "a replay cannot be read, and waits");
            return Ok(None);
        }
    };
    Ok(Some(Claimed {
        replay,
        after: row.try_get("after")?,
        fence: row.try_get("fence")?,
    }))
}

fn replay_of(row: &PgRow, operation: &'static str) -> Result<Replay> {
    let columns = columns(row).map_err(failed(operation))?;
    Replay::try_from(columns).map_err(corrupt(operation))
}

fn columns(row: &PgRow) -> sqlx::Result<ReplayRow> {
    let At(created_at) = row.try_get("created_at")?;
    let At(updated_at) = row.try_get("updated_at")?;
    Ok(ReplayRow {
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
        created_at,
        updated_at,
    })
}

/// The last delivery of an event to the endpoint. One in a state that cannot be read is not sent again.
fn last(row: &PgRow) -> sqlx::Result<Option<(u32, DeliveryStatus)>> {
    let replay_no: Option<i32> = row.try_get("replay_no")?;
    let status: Option<&str> = row.try_get("status")?;
    let status = status.and_then(|word| word.parse().ok());
    Ok(replay_no.map(|replay_no| {
        let replay_no = u32::try_from(replay_no).unwrap_or(0);
        (replay_no, status.unwrap_or(DeliveryStatus::Pending))
    }))
}

/// The last id of a page that is full: there may be more after it.
fn last_id(rows: &[PgRow], limit: usize) -> sqlx::Result<Option<Uuid>> {
    let last = rows.last().filter(|_| rows.len() == limit);
    last.map(|row| row.try_get("id")).transpose()
}

fn from_micros(micros: i64) -> Duration {
    Duration::from_micros(micros.unsigned_abs())
}

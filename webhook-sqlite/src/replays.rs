//! Bulk replays: which rows each selects, and how a step of one is taken.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use uuid::Uuid;
use webhook_core::backend::ReplayRow;
use webhook_core::{
    Changed, DeliveryFilter, DeliveryStatus, Endpoint, EndpointReplay, Event, Now, Page,
    PageRequest, Replay, ReplayScan, ReplaySelection, ReplayState, ReplayStep, ReplayVerdict,
    Scope, Timestamp,
};

use crate::read::Select;
use crate::replay::new_delivery;
use crate::rows::{self, count, time, word};
use crate::sql::Bound;
use crate::store::Shared;

/// How long a replay is left alone that cannot be read: a newer version may have started it.
const UNREADABLE_PAUSE: Duration = Duration::from_secs(60);

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
struct Found {
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
    replay_no: u32,
}

/// By event and endpoint: the last replay, and its state.
type Last = HashMap<(Uuid, Uuid), (u32, DeliveryStatus)>;

impl Shared {
    pub(crate) async fn insert_replay(&self, replay: &Replay, now: Now) -> sqlx::Result<Replay> {
        let mut tx = self.database.write().await?;
        let now = self.database.now(&mut tx, now).await?;
        let replay = Replay {
            created_at: now,
            updated_at: now,
            ..replay.clone()
        };
        let row = ReplayRow::from(&replay);
        let insert = sqlx::query(self.database.sql.insert_replay.clone())
            .bind(row.id)
            .bind(row.tenant)
            .bind(row.selection)
            .bind(row.state)
            .bind(row.pace)
            .bind(row.total)
            .bind(row.total_is_exact)
            .bind(row.done)
            .bind(row.skipped)
            .bind(row.created_by)
            .bind(now.as_micros());
        insert.execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(replay)
    }

    pub(crate) async fn replay(&self, scope: &Scope, id: Uuid) -> sqlx::Result<Option<Replay>> {
        let mut reader = self.database.read().await?;
        self.replay_on(&mut reader, scope, id).await
    }

    async fn replay_on(
        &self,
        connection: &mut SqliteConnection,
        scope: &Scope,
        id: Uuid,
    ) -> sqlx::Result<Option<Replay>> {
        Select::new(&self.database.sql.replays, scope)
            .one(connection, id, rows::replay)
            .await
    }

    pub(crate) async fn replays(
        &self,
        scope: &Scope,
        page: PageRequest,
    ) -> sqlx::Result<Page<Replay>> {
        let mut reader = self.database.read().await?;
        Select::new(&self.database.sql.replays, scope)
            .page(&mut reader, page, "replay", rows::replay)
            .await
    }

    pub(crate) async fn cancel_replay(
        &self,
        scope: &Scope,
        id: Uuid,
        now: Now,
    ) -> sqlx::Result<Changed<Replay>> {
        let mut tx = self.database.write().await?;
        let now = self.database.now(&mut tx, now).await?;
        let Some(replay) = self.replay_on(&mut tx, scope, id).await? else {
            tx.rollback().await?;
            return Ok(Changed::NotFound);
        };
        if replay.state != ReplayState::Running {
            tx.rollback().await?;
            return Ok(Changed::Refused);
        }
        let cancelled = Found {
            is_gone: true,
            ..Found::default()
        };
        let replay = self.move_on(&mut tx, replay, &cancelled, 0, now).await?;
        tx.commit().await?;
        Ok(Changed::Done(replay))
    }

    pub(crate) async fn scan_replay(
        &self,
        scope: &Scope,
        selection: &ReplaySelection,
        after: Option<Uuid>,
        limit: usize,
        now: Now,
    ) -> sqlx::Result<ReplayScan> {
        let mut reader = self.database.look().await?;
        let look = Look {
            scope,
            at: self.database.now(&mut reader, now).await?,
            after,
            limit,
        };
        let mut found = self.look_at(&mut reader, selection, &look).await?;
        self.needs_of(&mut reader, &mut found).await?;
        reader.done();
        Ok(ReplayScan {
            wanted: found.wanted.len() as u64,
            skipped: found.skipped,
            next: found.next,
        })
    }

    pub(crate) async fn step_replay(&self, limit: usize, now: Now) -> sqlx::Result<ReplayStep> {
        let mut reader = self.database.read().await?;
        if self.next_replay(&mut reader).await?.is_none() {
            return Ok(ReplayStep::default());
        }
        drop(reader);
        let mut tx = self.database.write().await?;
        let now = self.database.now(&mut tx, now).await?;
        let mut step = ReplayStep::default();
        if let Some(due) = self.next_replay(&mut tx).await?.filter(|it| it.at <= now) {
            step = self.take_step(&mut tx, due, limit, now).await?;
        }
        let next = self.next_replay(&mut tx).await?;
        step.next_in = next.map(|next| next.at.since(now));
        tx.commit().await?;
        Ok(step)
    }

    async fn take_step(
        &self,
        tx: &mut SqliteConnection,
        due: Due,
        limit: usize,
        now: Timestamp,
    ) -> sqlx::Result<ReplayStep> {
        let Some(replay) = due.replay else {
            self.postpone(tx, &due, now).await?;
            return Ok(ReplayStep::default());
        };
        let scope = replay.scope();
        let look = Look {
            scope: &scope,
            at: replay.created_at,
            after: due.after,
            limit,
        };
        let mut found = self.look_at(tx, &replay.selection, &look).await?;
        let (events, endpoints) = self.needs_of(tx, &mut found).await?;
        let new = found.wanted.iter().filter_map(|wanted| {
            let event = events.get(&wanted.event)?;
            let endpoint = endpoints.get(&wanted.endpoint)?;
            Some(new_delivery(event, endpoint, wanted.replay_no, now))
        });
        let jobs = self.insert_deliveries(tx, new.collect(), now).await?;
        let replay = self.move_on(tx, replay, &found, jobs.len(), now).await?;
        Ok(ReplayStep {
            replay: Some(replay),
            jobs,
            next_in: None,
        })
    }

    async fn move_on(
        &self,
        tx: &mut SqliteConnection,
        replay: Replay,
        found: &Found,
        made: usize,
        now: Timestamp,
    ) -> sqlx::Result<Replay> {
        let state = match found.next {
            _ if found.is_gone => ReplayState::Cancelled,
            Some(_) => ReplayState::Running,
            None => ReplayState::Completed,
        };
        let as_column = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let step = sqlx::query(self.database.sql.step_replay.clone())
            .bind(replay.id)
            .bind(state.as_str())
            .bind(found.next)
            .bind(as_column(made as u64))
            .bind(as_column(found.skipped))
            .bind(now.as_micros())
            .bind((now + replay.rest(made)).as_micros());
        step.execute(tx).await?;
        Ok(Replay {
            state,
            done: replay.done + made as u64,
            skipped: replay.skipped + found.skipped,
            updated_at: now,
            ..replay
        })
    }

    /// The others must not wait for one that cannot be read.
    async fn postpone(
        &self,
        tx: &mut SqliteConnection,
        due: &Due,
        now: Timestamp,
    ) -> sqlx::Result<()> {
        tracing::error!(replay = %due.id, "a replay cannot be read, and waits");
        let step = sqlx::query(self.database.sql.step_replay.clone())
            .bind(due.id)
            .bind(ReplayState::Running.as_str())
            .bind(due.after)
            .bind(0)
            .bind(0)
            .bind(now.as_micros())
            .bind((now + UNREADABLE_PAUSE).as_micros());
        step.execute(tx).await.map(drop)
    }

    async fn next_replay(&self, connection: &mut SqliteConnection) -> sqlx::Result<Option<Due>> {
        let next = sqlx::query(self.database.sql.next_replay.clone());
        let Some(row) = next.fetch_optional(connection).await? else {
            return Ok(None);
        };
        Ok(Some(Due {
            id: row.try_get("id")?,
            replay: rows::replay(&row).ok(),
            after: row.try_get("after")?,
            at: time(&row, "next_at")?,
        }))
    }

    async fn look_at(
        &self,
        connection: &mut SqliteConnection,
        selection: &ReplaySelection,
        look: &Look<'_>,
    ) -> sqlx::Result<Found> {
        match selection {
            ReplaySelection::Deliveries(filter) => {
                self.look_at_ended(connection, selection, filter, look)
                    .await
            }
            ReplaySelection::Endpoint(replay) => {
                self.look_at_events(connection, replay, look).await
            }
        }
    }

    async fn look_at_ended(
        &self,
        connection: &mut SqliteConnection,
        selection: &ReplaySelection,
        filter: &DeliveryFilter,
        look: &Look<'_>,
    ) -> sqlx::Result<Found> {
        let rows = Select::new(&self.database.sql.ended_deliveries, look.scope)
            .and("endpoint_id =", filter.endpoint_id)
            .status(filter.status)
            .after(connection, look.after, look.limit)
            .await?;
        let ended = rows::readable(&rows, "delivery", rows::delivery);
        let mut found = Found {
            skipped: (rows.len() - ended.len()) as u64,
            next: last_id(&rows, look.limit)?,
            ..Found::default()
        };
        let selected = ended
            .iter()
            .filter(|delivery| selection.selects(delivery, look.at));
        let selected: Vec<_> = selected.collect();
        let pairs = selected.iter().map(|it| (it.event_id, it.endpoint_id));
        let last = self.last_deliveries(connection, pairs.collect()).await?;
        for delivery in selected {
            let pair = (delivery.event_id, delivery.endpoint_id);
            let is_last = |(replay_no, _): &(u32, _)| *replay_no <= delivery.replay_no;
            if last.get(&pair).is_none_or(is_last) {
                found.wanted.push(Wanted {
                    event: delivery.event_id,
                    endpoint: delivery.endpoint_id,
                    replay_no: delivery.replay_no + 1,
                });
            } else {
                found.skipped += 1;
            }
        }
        Ok(found)
    }

    async fn look_at_events(
        &self,
        connection: &mut SqliteConnection,
        replay: &EndpointReplay,
        look: &Look<'_>,
    ) -> sqlx::Result<Found> {
        let endpoint = self
            .endpoint_on(connection, look.scope, replay.endpoint_id)
            .await;
        let Some(endpoint) = readable(endpoint)?.map(|it| it.endpoint().clone()) else {
            return Ok(Found {
                is_gone: true,
                ..Found::default()
            });
        };
        let own = endpoint.tenant.clone().into();
        let after = look.after.unwrap_or_else(|| replay.after());
        let rows = Select::new(&self.database.sql.events, &own)
            .and("id <", Some(replay.before(look.at)))
            .after(connection, Some(after), look.limit)
            .await?;
        let events = rows::readable(&rows, "event", rows::event);
        let mut found = Found {
            skipped: (rows.len() - events.len()) as u64,
            next: last_id(&rows, look.limit)?,
            ..Found::default()
        };
        let pairs = events.iter().map(|event| (event.id, endpoint.id));
        let last = self.last_deliveries(connection, pairs.collect()).await?;
        for event in &events {
            let last = last.get(&(event.id, endpoint.id));
            match replay.judge(event, &endpoint, last.map(|(_, status)| *status), look.at) {
                Some(ReplayVerdict::Make) => found.wanted.push(Wanted {
                    event: event.id,
                    endpoint: endpoint.id,
                    replay_no: last.map_or(0, |(replay_no, _)| replay_no + 1),
                }),
                Some(ReplayVerdict::Skip) => found.skipped += 1,
                None => {}
            }
        }
        Ok(found)
    }

    async fn last_deliveries(
        &self,
        connection: &mut SqliteConnection,
        pairs: Vec<(Uuid, Uuid)>,
    ) -> sqlx::Result<Last> {
        let bind =
            |query: Bound, (event, endpoint): &(Uuid, Uuid)| query.bind(*event).bind(*endpoint);
        let batch = &self.database.sql.last_deliveries;
        let mut last = Last::new();
        for row in batch.run(connection, &pairs, bind, |query| query).await? {
            let pair = (row.try_get("event_id")?, row.try_get("endpoint_id")?);
            // One that cannot be read is not sent again.
            let status = word(row.try_get("status")?).ok().flatten();
            let status = status.unwrap_or(DeliveryStatus::Pending);
            last.insert(pair, (count(&row, "replay_no")?, status));
        }
        Ok(last)
    }

    /// The events and endpoints of what is wanted. What has lost one, or cannot be read, is passed over.
    async fn needs_of(
        &self,
        connection: &mut SqliteConnection,
        found: &mut Found,
    ) -> sqlx::Result<(HashMap<Uuid, Event>, HashMap<Uuid, Endpoint>)> {
        let wanted: HashSet<_> = found.wanted.iter().map(|it| it.event).collect();
        let wanted: Vec<_> = wanted.into_iter().collect();
        let bind = |query: Bound, id: &Uuid| query.bind(*id);
        let batch = &self.database.sql.events_by_id;
        let events = batch.run(connection, &wanted, bind, |query| query).await?;
        let events = rows::readable(&events, "event", rows::event);
        let events: HashMap<_, _> = events.into_iter().map(|event| (event.id, event)).collect();
        let wanted: HashSet<_> = found.wanted.iter().map(|it| it.endpoint).collect();
        let mut endpoints = HashMap::new();
        for id in wanted {
            let endpoint = self.endpoint_on(connection, &Scope::All, id).await;
            endpoints.extend(readable(endpoint)?.map(|it| (id, it.endpoint().clone())));
        }
        let before = found.wanted.len();
        found
            .wanted
            .retain(|it| events.contains_key(&it.event) && endpoints.contains_key(&it.endpoint));
        found.skipped += (before - found.wanted.len()) as u64;
        Ok((events, endpoints))
    }
}

/// The replay that comes next.
struct Due {
    id: Uuid,
    /// `None` if it cannot be read.
    replay: Option<Replay>,
    after: Option<Uuid>,
    at: Timestamp,
}

/// The last id of a page that is full: there may be more after it.
fn last_id(rows: &[SqliteRow], limit: usize) -> sqlx::Result<Option<Uuid>> {
    let last = rows.last().filter(|_| rows.len() == limit);
    last.map(|row| row.try_get("id")).transpose()
}

/// What cannot be read is as if it were not there.
fn readable<T>(read: sqlx::Result<Option<T>>) -> sqlx::Result<Option<T>> {
    match read {
        Err(error @ (sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. })) => {
            tracing::error!(%error, "a row cannot be read");
            Ok(None)
        }
        read => read,
    }
}

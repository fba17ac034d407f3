//! Inserts events with their deliveries.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use sqlx::sqlite::SqliteConnection;
use sqlx::{Connection, Row, SqlStr};
use uuid::Uuid;
use webhook_core::{
    DeliveryStatus, Endpoint, EndpointState, Event, Idempotency, InsertOptions, Inserted,
    Insertion, Job, LaneLimits, Lease, NewClaim, Now, OnConflict, Timestamp, delivery_id,
};

use crate::endpoints::Found;
use crate::error::corrupt;
use crate::rows::time;
use crate::sql::Bound;
use crate::store::Shared;

/// The fence of a delivery that is claimed as it is made.
const FIRST_FENCE: i64 = 1;

/// An endpoint that may accept an event.
pub(crate) struct Taker {
    id: Uuid,
    /// With its secrets or without. `None` if it cannot be read: what it accepts is unknown, so it gets every event.
    /// Each becomes a dead letter that can be replayed; events that were never fanned out could not.
    pub(crate) endpoint: Option<Arc<Endpoint>>,
    held_until: Timestamp,
    /// It fails, or its breaker has opened: what it gets goes through the queue.
    is_in_trouble: bool,
}

/// A delivery to be stored.
pub(crate) struct NewDelivery<'a> {
    pub(crate) event: &'a Event,
    pub(crate) replay_no: u32,
    pub(crate) job: Job,
    /// The end of the lease under which it begins.
    pub(crate) leased_until: Option<Timestamp>,
}

/// What an insert may still claim of each endpoint, by its version.
struct Rooms {
    rooms: HashMap<(Uuid, i64), u32>,
    until: Timestamp,
}

/// What an idempotency key stands for.
#[derive(Clone, Copy)]
struct Key {
    event: Uuid,
    fingerprint: [u8; 32],
}

impl Shared {
    pub(crate) async fn insert_events(
        &self,
        events: &[Event],
        options: &InsertOptions,
        now: Now,
    ) -> sqlx::Result<Insertion> {
        let mut tx = self.database.write().await?;
        let insertion = self.insert(&mut tx, events, options, now).await?;
        tx.commit().await?;
        Ok(insertion)
    }

    /// In a savepoint of the host's transaction, so that a failure leaves it as it was.
    pub(crate) async fn insert_events_in(
        &self,
        host: &mut SqliteConnection,
        events: &[Event],
        now: Now,
    ) -> sqlx::Result<Insertion> {
        let options = InsertOptions::new(OnConflict::Skip);
        if host.is_in_transaction() {
            // Unlike our own, sqlx's savepoint also ends when this future is dropped.
            let mut tx = host.begin().await?;
            let insertion = self.insert(&mut tx, events, &options, now).await?;
            tx.commit().await?;
            return Ok(insertion);
        }
        // A transaction that sqlx did not begin.
        run(host, "SAVEPOINT webhook_insert").await?;
        let inserted = self.insert(host, events, &options, now).await;
        if inserted.is_err() {
            run(host, "ROLLBACK TO webhook_insert").await?;
        }
        run(host, "RELEASE webhook_insert").await?;
        inserted
    }

    pub(crate) async fn insert(
        &self,
        tx: &mut SqliteConnection,
        events: &[Event],
        options: &InsertOptions,
        now: Now,
    ) -> sqlx::Result<Insertion> {
        let now = self.database.now(tx, now).await?;
        let inserted = self.judge(tx, events, now).await?;
        let is_conflict = |one: &Inserted| matches!(one, Inserted::Conflict(_));
        if options.on_conflict == OnConflict::Abort && inserted.iter().any(is_conflict) {
            return Ok(Insertion {
                events: inserted,
                ..Insertion::default()
            });
        }
        let accepted = events
            .iter()
            .zip(&inserted)
            .filter(|(_, one)| **one == Inserted::New);
        let accepted: Vec<_> = accepted.map(|(event, _)| event).collect();
        let new = self.insert_new(tx, &accepted, now).await?;
        let deliveries = self.fan_out(tx, &new, options, now).await?;
        let claimed = claims(events, &deliveries);
        let jobs = self.insert_deliveries(tx, deliveries, now).await?;
        Ok(Insertion {
            events: inserted,
            jobs,
            claimed,
        })
    }

    /// What each event of an insert is, given what is stored and what stands before it.
    async fn judge(
        &self,
        tx: &mut SqliteConnection,
        events: &[Event],
        now: Timestamp,
    ) -> sqlx::Result<Vec<Inserted>> {
        let mut known = self.known_keys(tx, events, now).await?;
        let judge = |event: &Event| {
            let Some(Idempotency {
                key, fingerprint, ..
            }) = &event.idempotency
            else {
                return Inserted::New;
            };
            let own = Key {
                event: event.id,
                fingerprint: *fingerprint,
            };
            let name = (event.tenant.as_str().to_owned(), key.clone());
            match *known.entry(name).or_insert(own) {
                known if known.event == event.id => Inserted::New,
                known if known.fingerprint == *fingerprint => Inserted::Existing(known.event),
                known => Inserted::Conflict(known.event),
            }
        };
        Ok(events.iter().map(judge).collect())
    }

    /// What the events' keys stand for, by tenant and key.
    async fn known_keys(
        &self,
        tx: &mut SqliteConnection,
        events: &[Event],
        now: Timestamp,
    ) -> sqlx::Result<HashMap<(String, String), Key>> {
        let keyed = events.iter().filter_map(|event| {
            Some((
                event.tenant.as_str(),
                event.idempotency.as_ref()?.key.as_str(),
            ))
        });
        let keyed: Vec<_> = keyed.collect();
        let batch = &self.database.sql.idempotency_keys;
        let bind = |query: Bound, (tenant, key): &(&str, &str)| query.bind(*tenant).bind(*key);
        let mut known = HashMap::new();
        for row in batch.run(tx, &keyed, bind, |query| query).await? {
            if now < time(&row, "expires_at")? {
                let fingerprint: &[u8] = row.try_get("fingerprint")?;
                let key = Key {
                    event: row.try_get("event_id")?,
                    fingerprint: fingerprint.try_into().map_err(corrupt)?,
                };
                known.insert((row.try_get("tenant")?, row.try_get("key")?), key);
            }
        }
        Ok(known)
    }

    /// Stores events and their keys, and answers those that were not there before.
    pub(crate) async fn insert_new<'a>(
        &self,
        tx: &mut SqliteConnection,
        events: &[&'a Event],
        now: Timestamp,
    ) -> sqlx::Result<Vec<&'a Event>> {
        let sql = &self.database.sql;
        let bind = |query: Bound, event: &&Event| query.bind(event.id);
        let known = sql
            .known_events
            .run(tx, events, bind, |query| query)
            .await?;
        let known = known.iter().map(|row| row.try_get("id"));
        let mut seen: HashSet<Uuid> = known.collect::<Result<_, _>>()?;
        let mut new = events.to_vec();
        new.retain(|event| seen.insert(event.id));
        sql.insert_events
            .run(tx, &new, bind_event, |query| query)
            .await?;
        let keyed = new
            .iter()
            .filter_map(|event| Some((*event, event.idempotency.as_ref()?)));
        let keyed: Vec<_> = keyed.collect();
        let bind = |query: Bound, (event, idempotency): &(&Event, &Idempotency)| {
            query
                .bind(event.tenant.as_str())
                .bind(&idempotency.key)
                .bind(event.id)
                .bind(&idempotency.fingerprint[..])
                .bind((now + idempotency.window).as_micros())
        };
        sql.insert_idempotency_keys
            .run(tx, &keyed, bind, |query| query)
            .await?;
        Ok(new)
    }

    /// The deliveries that events make.
    async fn fan_out<'a>(
        &self,
        tx: &mut SqliteConnection,
        events: &[&'a Event],
        options: &InsertOptions,
        now: Timestamp,
    ) -> sqlx::Result<Vec<NewDelivery<'a>>> {
        let takers = self.takers(tx, events).await?;
        let mut rooms = Rooms::new(options, now);
        let mut deliveries = Vec::new();
        for event in events {
            let due = event.deliver_at.map_or(now, |at| at.max(now));
            for taker in takers.get(event.tenant.as_str()).into_iter().flatten() {
                if taker
                    .endpoint
                    .as_ref()
                    .is_none_or(|it| it.accepts(&event.event_type))
                {
                    let id = delivery_id(event.created_at, event.id, taker.id, 0);
                    let job = taker.job(id, event, due);
                    deliveries.push(NewDelivery {
                        event,
                        replay_no: 0,
                        leased_until: rooms.take(taker, due, now),
                        job,
                    });
                }
            }
        }
        Ok(deliveries)
    }

    /// The endpoints that may accept these events, by tenant.
    pub(crate) async fn takers(
        &self,
        tx: &mut SqliteConnection,
        events: &[&Event],
    ) -> sqlx::Result<HashMap<String, Vec<Taker>>> {
        let tenants: HashSet<_> = events.iter().map(|event| event.tenant.as_str()).collect();
        let tenants: Vec<_> = tenants.into_iter().collect();
        let batch = &self.database.sql.takers;
        let rows = batch
            .run(
                tx,
                &tenants,
                |query, tenant| query.bind(*tenant),
                |query| query,
            )
            .await?;
        let mut takers = Vec::with_capacity(rows.len());
        for row in &rows {
            let id_and_version: (Uuid, i64) = (row.try_get("id")?, row.try_get("version")?);
            let lane: (_, bool) = (time(row, "held_until")?, row.try_get("is_in_trouble")?);
            takers.push((row.try_get::<String, _>("tenant")?, id_and_version, lane));
        }
        let wanted: Vec<_> = takers
            .iter()
            .map(|(_, id_and_version, _)| *id_and_version)
            .collect();
        let endpoints = self.endpoints_by_id(tx, &wanted).await?;
        let mut by_tenant: HashMap<_, Vec<_>> = HashMap::new();
        for (tenant, (id, _), (held_until, is_in_trouble)) in takers {
            let endpoint = endpoints.get(&id).and_then(Found::endpoint).cloned();
            by_tenant.entry(tenant).or_default().push(Taker {
                id,
                endpoint,
                held_until,
                is_in_trouble,
            });
        }
        Ok(by_tenant)
    }

    /// Stores deliveries, wakes the lanes of those that wait, and answers their jobs.
    pub(crate) async fn insert_deliveries(
        &self,
        tx: &mut SqliteConnection,
        deliveries: Vec<NewDelivery<'_>>,
        now: Timestamp,
    ) -> sqlx::Result<Vec<Job>> {
        if deliveries.is_empty() {
            return Ok(Vec::new());
        }
        let sql = &self.database.sql;
        let bind = |query: Bound, new: &NewDelivery<'_>| bind_delivery(query, new, now);
        sql.insert_deliveries
            .run(tx, &deliveries, bind, |query| query)
            .await?;
        // Each got the next number. A row to answer for each would take longer than to store it.
        let last: i64 = sqlx::query_scalar(sql.last_sequence.clone())
            .fetch_one(&mut *tx)
            .await?;
        let first = last + 1 - i64::try_from(deliveries.len()).unwrap_or(i64::MAX);
        let waiting = deliveries.iter().filter(|new| new.leased_until.is_none());
        let lanes: Vec<_> = waiting.map(|new| new.job.lane).collect();
        self.wake(tx, lanes, now).await?;
        let jobs = (first..).zip(deliveries).map(|(sequence, new)| Job {
            sequence,
            ..new.job
        });
        Ok(jobs.collect())
    }
}

impl Rooms {
    fn new(options: &InsertOptions, now: Timestamp) -> Self {
        let rooms = options.claim.iter();
        Self {
            rooms: rooms
                .map(|new| ((new.endpoint, new.version), new.room))
                .collect(),
            until: now + options.lease,
        }
    }

    /// The end of the lease, if a new delivery is to be claimed at once.
    fn take(&mut self, taker: &Taker, due: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let endpoint = taker.endpoint.as_ref()?;
        let room = self.rooms.get_mut(&(endpoint.id, endpoint.version))?;
        let is_free = endpoint.state == EndpointState::Enabled
            && endpoint.lane_limits() == LaneLimits::default()
            && taker.held_until <= now
            && !taker.is_in_trouble;
        if *room == 0 || due > now || !is_free {
            return None;
        }
        *room -= 1;
        Some(self.until)
    }
}

/// The claims among new deliveries.
fn claims(events: &[Event], deliveries: &[NewDelivery<'_>]) -> Vec<NewClaim> {
    let mut event = 0;
    let mut claims = Vec::new();
    for (place, new) in deliveries.iter().enumerate() {
        // They come in the order of their events.
        while events.get(event).is_some_and(|one| one.id != new.event.id) {
            event += 1;
        }
        if let Some(until) = new.leased_until {
            let lease = Lease {
                delivery: new.job.delivery,
                lane: new.job.lane,
                fence: FIRST_FENCE,
                until,
            };
            claims.push(NewClaim {
                event,
                job: place,
                lease,
            });
        }
    }
    claims
}

impl Taker {
    fn job(&self, delivery: Uuid, event: &Event, due: Timestamp) -> Job {
        let limits = self
            .endpoint
            .as_ref()
            .map_or_else(LaneLimits::default, |it| it.lane_limits());
        Job {
            delivery,
            lane: self.id,
            tenant: event.tenant.clone(),
            due,
            fence: 0,
            sequence: 0,
            limits,
        }
    }
}

fn bind_event(query: Bound, event: &&Event) -> Bound {
    let idempotency = event.idempotency.as_ref();
    query
        .bind(event.id)
        .bind(event.tenant.as_str())
        .bind(event.event_type.as_str())
        .bind(event.created_at.as_micros())
        .bind(event.deliver_at.map(Timestamp::as_micros))
        .bind(idempotency.map(|it| it.key.as_str()))
        .bind(idempotency.map(|it| &it.fingerprint[..]))
        .bind(&event.body[..])
        .bind(event.traceparent.map(|parent| parent.to_string()))
}

fn bind_delivery(query: Bound, new: &NewDelivery<'_>, now: Timestamp) -> Bound {
    let NewDelivery {
        event,
        replay_no,
        job,
        leased_until,
    } = new;
    let status = match leased_until {
        Some(_) => DeliveryStatus::InProgress,
        None => DeliveryStatus::Pending,
    };
    let due = job.due.as_micros();
    let place = if job.limits.ordered { 0 } else { due };
    query
        .bind(job.delivery)
        .bind(event.id)
        .bind(job.lane)
        .bind(i64::from(*replay_no))
        .bind(event.tenant.as_str())
        .bind(event.event_type.as_str())
        .bind(status.as_str())
        .bind(due)
        .bind(due)
        .bind(place)
        .bind(leased_until.is_some())
        .bind(leased_until.map(Timestamp::as_micros))
        .bind(leased_until.map_or(0, |_| FIRST_FENCE))
        .bind(now.as_micros())
        .bind(now.as_micros())
}

async fn run(connection: &mut SqliteConnection, sql: &'static str) -> sqlx::Result<()> {
    sqlx::query(SqlStr::from_static(sql))
        .execute(connection)
        .await?;
    Ok(())
}

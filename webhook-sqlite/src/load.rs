//! Loads what the attempts of claimed deliveries need.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use sqlx::Row;
use sqlx::sqlite::SqliteConnection;
use uuid::Uuid;
use webhook_core::backend::HealthRow;
use webhook_core::{
    BreakerState, EndReason, Event, Job, Lease, Loaded, Now, Timestamp, Verdict, Work,
};

use crate::endpoints::{Endpoints, Found};
use crate::health::health_row;
use crate::rows::{self, count, time};
use crate::sql::Bound;
use crate::store::Shared;

/// A claimed delivery that is live.
struct Live {
    fence: i64,
    due: Timestamp,
    first_due: Timestamp,
    attempts: u32,
    excused: u32,
    event_id: Uuid,
    endpoint_id: Uuid,
    /// The endpoint's; `None` if it is not there.
    endpoint_version: Option<i64>,
    /// The first live delivery of its lane, if that is ordered.
    head: Option<Uuid>,
    health: HealthRow,
}

/// What claimed deliveries need of other tables, as far as it can be read.
struct Needs {
    events: HashMap<Uuid, Arc<Event>>,
    endpoints: Endpoints,
}

impl Shared {
    /// Where the deliveries are the queue, the claim has raised the fences, and this only reads.
    ///
    /// A delivery that cannot be read back ends here: it would come up again for ever.
    pub(crate) async fn load(&self, leases: &[Lease], now: Now) -> sqlx::Result<Vec<Loaded>> {
        let mut reader = self.database.read().await?;
        let mut live = self.live(&mut reader, leases).await?;
        let mut loaded_at = self.database.now(&mut reader, now).await?;
        drop(reader);
        if leases.iter().any(|lease| {
            live.get(&lease.delivery)
                .is_some_and(|it| it.fence < lease.fence)
        }) {
            (live, loaded_at) = self.begin(leases, now).await?;
        }
        let needs = self.needs(&mut *self.database.read().await?, &live).await?;
        needs.tell_of_sealed();
        let (mut loaded, mut unreadable) = (Vec::with_capacity(leases.len()), Vec::new());
        for lease in leases {
            let verdict = match live.get(&lease.delivery) {
                None => Verdict::Ended,
                Some(row) if row.fence > lease.fence => continue,
                Some(row) if row.is_early(lease, loaded_at) => {
                    Verdict::Early(row.due.since(loaded_at))
                }
                Some(row) => match (row.behind(lease), row.held(lease, loaded_at)) {
                    (Some(head), _) => Verdict::Behind(head),
                    (None, Some(by)) => Verdict::Held(by),
                    (None, None) => needs
                        .verdict(row, loaded_at)
                        .unwrap_or(Verdict::Dead(EndReason::Corrupt)),
                },
            };
            if matches!(verdict, Verdict::Dead(_)) {
                unreadable.push(*lease);
            }
            loaded.push(Loaded {
                lease: *lease,
                verdict,
            });
        }
        if !unreadable.is_empty() {
            self.quarantine(&unreadable, now).await?;
        }
        Ok(loaded)
    }

    /// Gives deliveries to the owners of an index queue's leases. Answers the rows as they were, and when.
    async fn begin(
        &self,
        leases: &[Lease],
        now: Now,
    ) -> sqlx::Result<(HashMap<Uuid, Live>, Timestamp)> {
        let mut tx = self.database.write().await?;
        let now = self.database.now(&mut tx, now).await?;
        let live = self.live(&mut tx, leases).await?;
        let is_due = |lease: &&Lease| {
            live.get(&lease.delivery)
                .filter(|row| row.fence < lease.fence && !row.is_early(lease, now))
                .is_some_and(|row| row.behind(lease).is_none() && row.held(lease, now).is_none())
        };
        let due: Vec<_> = leases.iter().filter(is_due).copied().collect();
        let bind = |query: Bound, lease: &Lease| {
            query
                .bind(lease.delivery)
                .bind(lease.fence)
                .bind(lease.until.as_micros())
        };
        let bind_rest = |query: Bound| query.bind(now.as_micros());
        self.database
            .sql
            .load_begin
            .run(&mut tx, &due, bind, bind_rest)
            .await?;
        tx.commit().await?;
        Ok((live, now))
    }

    async fn live(
        &self,
        connection: &mut SqliteConnection,
        leases: &[Lease],
    ) -> sqlx::Result<HashMap<Uuid, Live>> {
        let bind = |query: Bound, lease: &Lease| query.bind(lease.delivery);
        let rows = self
            .database
            .sql
            .load
            .run(connection, leases, bind, |query| query)
            .await?;
        let mut live = HashMap::with_capacity(rows.len());
        for row in &rows {
            let delivery = Live {
                fence: row.try_get("fence")?,
                due: time(row, "wanted_at")?,
                first_due: time(row, "first_due")?,
                attempts: count(row, "attempts")?,
                excused: count(row, "excused")?,
                event_id: row.try_get("event_id")?,
                endpoint_id: row.try_get("endpoint_id")?,
                endpoint_version: row.try_get("version")?,
                head: row.try_get("head")?,
                health: health_row(row)?,
            };
            live.insert(row.try_get("id")?, delivery);
        }
        Ok(live)
    }

    async fn needs(
        &self,
        connection: &mut SqliteConnection,
        live: &HashMap<Uuid, Live>,
    ) -> sqlx::Result<Needs> {
        let endpoints: HashSet<_> = live
            .values()
            .filter_map(|row| Some((row.endpoint_id, row.endpoint_version?)))
            .collect();
        let endpoints: Vec<_> = endpoints.into_iter().collect();
        let endpoints = self.endpoints_by_id(connection, &endpoints).await?;
        let wanted: HashSet<_> = live.values().map(|row| row.event_id).collect();
        let wanted: Vec<_> = wanted.into_iter().collect();
        let bind = |query: Bound, id: &Uuid| query.bind(*id);
        let batch = &self.database.sql.events_by_id;
        let events = batch.run(connection, &wanted, bind, |query| query).await?;
        let events = rows::readable(&events, "event", rows::event).into_iter();
        let events = events.map(|event| (event.id, Arc::new(event))).collect();
        Ok(Needs { events, endpoints })
    }

    pub(crate) async fn jobs(&self, deliveries: &[Uuid]) -> sqlx::Result<Vec<Job>> {
        let mut reader = self.database.read().await?;
        let bind = |query: Bound, id: &Uuid| query.bind(*id);
        let batch = &self.database.sql.jobs;
        let rows = batch
            .run(&mut reader, deliveries, bind, |query| query)
            .await?;
        Ok(rows::readable(&rows, "job", rows::job))
    }

    /// Reads on past what cannot be read: a page that is not full is the last.
    pub(crate) async fn unqueued(
        &self,
        after: Option<Uuid>,
        limit: usize,
    ) -> sqlx::Result<Vec<Job>> {
        let mut reader = self.database.read().await?;
        let (mut jobs, mut after) = (Vec::new(), Some(after.unwrap_or_default()));
        while let Some(last) = after
            && jobs.len() < limit
        {
            let wanted = limit - jobs.len();
            let rows = sqlx::query(self.database.sql.unqueued.clone())
                .bind(last)
                .bind(i64::try_from(wanted).unwrap_or(i64::MAX))
                .fetch_all(&mut *reader)
                .await?;
            jobs.extend(rows::readable(&rows, "job", rows::job));
            let last = rows.last().filter(|_| rows.len() == wanted);
            after = last.map(|row| row.try_get("id")).transpose()?;
        }
        Ok(jobs)
    }
}

impl Live {
    fn is_early(&self, lease: &Lease, now: Timestamp) -> bool {
        self.fence < lease.fence && self.due > now
    }

    /// Whoever comes before it in an ordered lane.
    fn behind(&self, lease: &Lease) -> Option<Uuid> {
        self.head
            .filter(|head| *head != lease.delivery && self.fence < lease.fence)
    }

    /// For how long its endpoint's breaker is open, if that keeps it back.
    fn held(&self, lease: &Lease, now: Timestamp) -> Option<Duration> {
        match self.health.at(now).breaker {
            BreakerState::Open(trip) if self.fence < lease.fence => Some(trip.until.since(now)),
            _ => None,
        }
    }
}

impl Needs {
    /// What to do with a delivery; `None` if something of it cannot be read.
    fn verdict(&self, row: &Live, now: Timestamp) -> Option<Verdict> {
        let found = self.endpoints.get(&row.endpoint_id)?;
        let work = Work {
            attempts: row.attempts,
            excused: row.excused,
            first_due: row.first_due,
            loaded_at: now,
            event: Arc::clone(self.events.get(&row.event_id)?),
            endpoint: Arc::clone(found.endpoint()?),
            health: row.health.at(now),
        };
        Some(match found {
            Found::Sealed(..) => Verdict::Sealed(work),
            _ => Verdict::Run(work),
        })
    }

    /// Tells of endpoints whose deliveries wait for a key.
    fn tell_of_sealed(&self) {
        for found in self.endpoints.values() {
            if let Found::Sealed(endpoint, why) = found {
                let why = std::error::Error::source(why);
                tracing::error!(endpoint = %endpoint.id, error = why, "an endpoint's secrets cannot be opened; its deliveries wait for the key");
            }
        }
    }
}

//! Statistics: counted in memory by the minute, and appended to the store when the minute is over.
//!
//! The hot path takes one short lock for each insert and each record, however many events they hold. If the process dies, it
//! loses the counts that the store does not have yet. It never loses events.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hashbrown::HashMap;
use tokio::runtime::Handle;
use uuid::Uuid;

use super::Engine;
use super::worker::surviving;
use crate::error::{Error, Result};
use crate::event::Event;
use crate::retry::Next;
use crate::stats::{Rollup, Stats, StatsCounts, StatsQuery, StatsRange, StatsRow, Trend, floor};
use crate::store::{Inserted, Record, Recorded, Store, Work};
use crate::tenant::{Scope, Tenant};
use crate::time::Timestamp;

/// The most rows that wait for a store that does not take them; the oldest are dropped.
const MAX_ROWS: usize = 100_000;
/// How long the queue may take to say what waits.
const QUEUE_PATIENCE: Duration = Duration::from_secs(2);

impl Engine {
    /// Counts what an insert accepted. Where nobody [runs](Engine::run), this is also what notices that a
    /// minute is over.
    pub(super) fn count_accepted(&self, events: &[Event], inserted: &[Inserted]) {
        let new = inserted.iter().filter(|one| **one == Inserted::New);
        self.meter.accepted(new.count());
        let mut gathered = self.gathered.minute(self.clock.now());
        let is_first = gathered.tenants.is_empty();
        for (event, _) in events
            .iter()
            .zip(inserted)
            .filter(|(_, one)| **one == Inserted::New)
        {
            gathered.of_tenant(&event.tenant).accepted += 1;
        }
        let is_late = is_first && !gathered.over.is_empty();
        drop(gathered);
        if let (true, Ok(runtime)) = (is_late, Handle::try_current()) {
            let (store, gathered) = (self.store.clone(), self.gathered.clone());
            runtime.spawn(async move { gathered.flush(&*store).await.inspect_err(log) });
        }
    }

    /// Counts what was recorded.
    pub(super) fn count_recorded(
        &self,
        records: &[Record],
        recorded: &[Option<Recorded>],
        context: &[Work],
    ) {
        let is_written = |one: &Option<Recorded>| one.is_some_and(Recorded::is_written);
        if !recorded.iter().any(is_written) {
            return;
        }
        let mut gathered = self.gathered.minute(self.clock.now());
        for ((record, recorded), work) in records.iter().zip(recorded).zip(context) {
            // A test says nothing of how deliveries go.
            if is_written(recorded) && !work.event.is_test() {
                let tenant = &work.event.tenant;
                count(
                    gathered.of_endpoint(record.lease.lane, tenant),
                    record,
                    work,
                );
            }
        }
    }

    /// Appends what was counted as each minute ends, until cancelled.
    pub(super) async fn flush_stats_each_minute(&self) {
        loop {
            let now = self.clock.now();
            let next = floor(now, StatsRow::MINUTE) + StatsRow::MINUTE;
            self.clock.sleep(next.since(now)).await;
            surviving(self.flush_stats_of_past_minutes()).await;
        }
    }

    pub(super) async fn flush_stats_of_past_minutes(&self) {
        drop(self.gathered.minute(self.clock.now()));
        self.gathered
            .flush(&*self.store)
            .await
            .inspect_err(log)
            .ok();
    }

    /// Appends all that was counted.
    pub(super) async fn flush_stats(&self) -> Result<()> {
        self.gathered.lock().end_minute();
        self.gathered.flush(&*self.store).await
    }

    pub(super) async fn stats(
        &self,
        scope: &Scope,
        range: StatsRange,
        endpoint: Option<Uuid>,
    ) -> Result<Stats> {
        let now = self.clock.now();
        let query = range.query(now, endpoint);
        let mut rollup = self.store.stats(scope, &query).await?;
        self.gathered.lock().add_to(&mut rollup, scope, &query);
        let mut stats = Stats::new(&query, now, rollup);
        if *scope == Scope::All && endpoint.is_none() {
            let depth = self.queue.depth(self.clock.pinned());
            stats.depth = match self.within(QUEUE_PATIENCE, depth).await {
                Some(Ok(depth)) => Some(depth),
                Some(Err(error)) => {
                    tracing::warn!(%error, "the queue cannot say what waits");
                    None
                }
                None => None,
            };
        }
        Ok(stats)
    }

    pub(super) async fn trends(
        &self,
        scope: &Scope,
        endpoints: &[Uuid],
    ) -> Result<std::collections::HashMap<Uuid, Trend>> {
        let query = Trend::query(self.clock.now());
        let mut rollup = self.store.stats(scope, &query).await?;
        self.gathered.lock().add_to(&mut rollup, scope, &query);
        let none = Default::default();
        let trend = |id: &Uuid| {
            let tallies = rollup.trends.get(id).unwrap_or(&none);
            (*id, Trend::new(&query, tallies))
        };
        Ok(endpoints.iter().map(trend).collect())
    }
}

fn count(counts: &mut StatsCounts, record: &Record, work: &Work) {
    match record.next {
        Next::Succeeded => counts.delivered += 1,
        Next::RetryAfter(_) => {}
        Next::Failed(_) => counts.dead_lettered += 1,
        Next::Cancelled(_) => counts.cancelled += 1,
    }
    let Some(attempt) = &record.attempt else {
        return;
    };
    counts.count_failure(&attempt.outcome);
    counts.latency.record(attempt.duration);
    if record.next == Next::Succeeded {
        let ended_at = attempt.started_at + attempt.duration;
        counts.delay.record(ended_at.since(work.first_due));
    }
}

fn log(error: &Error) {
    tracing::warn!(%error, "statistics were not appended");
}

/// What this process has counted and the store does not have.
#[derive(Default)]
pub(super) struct Gathered(Mutex<Minutes>);

#[derive(Default)]
struct Minutes {
    /// When the minute that is being counted began.
    at: Timestamp,
    tenants: HashMap<Tenant, StatsCounts>,
    endpoints: HashMap<Uuid, (Tenant, StatsCounts)>,
    /// Of minutes that are over.
    over: Vec<StatsRow>,
}

impl Gathered {
    /// What is counted in the minute of `now`. The one before is over, if it is another.
    fn minute(&self, now: Timestamp) -> MutexGuard<'_, Minutes> {
        let mut minutes = self.lock();
        let at = floor(now, StatsRow::MINUTE);
        if minutes.at != at {
            minutes.end_minute();
            minutes.at = at;
        }
        minutes
    }

    /// Appends the minutes that are over. What a store that is away did not take is kept for the next time.
    async fn flush(&self, store: &dyn Store) -> Result<()> {
        let mut taken = Taken {
            gathered: self,
            rows: std::mem::take(&mut self.lock().over),
        };
        if taken.rows.is_empty() {
            return Ok(());
        }
        let appended = store.append_stats(&taken.rows).await;
        if appended
            .as_ref()
            .err()
            .is_none_or(|error| !error.is_retryable())
        {
            taken.rows.clear();
        }
        appended
    }

    fn lock(&self) -> MutexGuard<'_, Minutes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Minutes {
    fn of_tenant(&mut self, tenant: &Tenant) -> &mut StatsCounts {
        self.tenants.entry(tenant.clone()).or_default()
    }

    fn of_endpoint(&mut self, endpoint: Uuid, tenant: &Tenant) -> &mut StatsCounts {
        let known = self.endpoints.entry(endpoint);
        &mut known
            .or_insert_with(|| (tenant.clone(), StatsCounts::default()))
            .1
    }

    fn end_minute(&mut self) {
        let mut rows: Vec<_> = self.rows().collect();
        rows.sort_by(|a, b| (&a.tenant, a.endpoint).cmp(&(&b.tenant, b.endpoint)));
        self.tenants.clear();
        self.endpoints.clear();
        self.over.extend(rows);
        self.drop_oldest();
    }

    /// What was counted since the minute began.
    fn rows(&self) -> impl Iterator<Item = StatsRow> {
        let row = |tenant: &Tenant, endpoint, counts: &StatsCounts| StatsRow {
            at: self.at,
            step: StatsRow::MINUTE,
            tenant: tenant.clone(),
            endpoint,
            counts: counts.clone(),
        };
        let tenants = self.tenants.iter();
        let endpoints = self.endpoints.iter();
        tenants
            .map(move |(tenant, counts)| row(tenant, None, counts))
            .chain(endpoints.map(move |(id, (tenant, counts))| row(tenant, Some(*id), counts)))
    }

    fn add_to(&self, rollup: &mut Rollup, scope: &Scope, query: &StatsQuery) {
        for row in self.over.iter().cloned().chain(self.rows()) {
            if scope.contains(&row.tenant) {
                rollup.add(query, &row);
            }
        }
    }

    fn drop_oldest(&mut self) {
        let excess = self.over.len().saturating_sub(MAX_ROWS);
        if excess > 0 {
            tracing::warn!(rows = excess, "statistics that nobody took are dropped");
            self.over.drain(..excess);
        }
    }
}

/// Rows on their way to the store. Those that are left when this is dropped, whatever the reason, go back.
struct Taken<'a> {
    gathered: &'a Gathered,
    rows: Vec<StatsRow>,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if !self.rows.is_empty() {
            let mut minutes = self.gathered.lock();
            let newer = std::mem::replace(&mut minutes.over, std::mem::take(&mut self.rows));
            minutes.over.extend(newer);
            minutes.drop_oldest();
        }
    }
}

//! Bulk replays in a [`MemoryStore`](super::MemoryStore): what each selects, and a step of one.

use std::ops::Bound;
use std::sync::Arc;

use uuid::Uuid;

use super::state::{DeliveryRow, State};
use crate::endpoint::Endpoint;
use crate::event::Event;
use crate::replay::{
    EndpointReplay, Replay, ReplayScan, ReplaySelection, ReplayState, ReplayStep, ReplayVerdict,
};
use crate::store::Changed;
use crate::tenant::{Scope, Tenant};
use crate::time::Timestamp;

#[derive(Debug)]
pub(super) struct ReplayRow {
    replay: Replay,
    /// The last row that it has looked at.
    after: Option<Uuid>,
    /// When its next step is due.
    next_at: Timestamp,
}

/// What a look at some rows of a selection found.
#[derive(Default)]
pub(super) struct Found {
    wanted: Vec<(Arc<Event>, Arc<Endpoint>)>,
    skipped: u64,
    next: Option<Uuid>,
    /// The endpoint of the selection is not there.
    is_gone: bool,
}

impl Found {
    pub(super) fn scan(&self) -> ReplayScan {
        ReplayScan {
            wanted: self.wanted.len() as u64,
            skipped: self.skipped,
            next: self.next,
        }
    }
}

impl State {
    pub(super) fn insert_replay(&mut self, replay: Replay, now: Timestamp) -> Replay {
        let replay = Replay {
            created_at: now,
            updated_at: now,
            ..replay
        };
        let row = ReplayRow {
            replay: replay.clone(),
            after: None,
            next_at: now,
        };
        self.replays.insert(replay.id, row);
        replay
    }

    /// In the order of their ids.
    pub(super) fn replays_of(&self, scope: &Scope) -> impl DoubleEndedIterator<Item = &Replay> {
        let replays = self.replays.values().map(|row| &row.replay);
        replays.filter(move |replay| match (scope, &replay.tenant) {
            (Scope::All, _) => true,
            (Scope::Tenant(_), None) => false,
            (Scope::Tenant(own), Some(tenant)) => own == tenant,
        })
    }

    pub(super) fn find_replay(&self, scope: &Scope, id: Uuid) -> Option<&Replay> {
        self.replays_of(scope).find(|replay| replay.id == id)
    }

    pub(super) fn cancel_replay(
        &mut self,
        scope: &Scope,
        id: Uuid,
        now: Timestamp,
    ) -> Changed<Replay> {
        let is_there = self.find_replay(scope, id).is_some();
        match self.replays.get_mut(&id).filter(|_| is_there) {
            None => Changed::NotFound,
            Some(row) if row.replay.state != ReplayState::Running => Changed::Refused,
            Some(row) => {
                row.replay.state = ReplayState::Cancelled;
                row.replay.updated_at = now;
                Changed::Done(row.replay.clone())
            }
        }
    }

    /// Drops those that have ended before `before`.
    pub(super) fn forget_old_replays(&mut self, before: Timestamp) {
        self.replays.retain(|_, row| {
            row.replay.state == ReplayState::Running || row.replay.updated_at >= before
        });
    }

    pub(super) fn step_replay(&mut self, limit: usize, now: Timestamp) -> ReplayStep {
        let Some(first) = self.next_replay() else {
            return ReplayStep::default();
        };
        let mut step = ReplayStep::default();
        if first.next_at <= now {
            let (replay, after) = (first.replay.clone(), first.after);
            let (scope, at) = (replay.scope(), replay.created_at);
            let found = self.look_at(&scope, &replay.selection, at, after, limit);
            let wanted = found.wanted.iter();
            step.jobs = wanted
                .map(|(event, endpoint)| self.replay(event, endpoint, now))
                .collect();
            let id = replay.id;
            step.replay = self
                .replays
                .get_mut(&id)
                .map(|row| row.move_on(&found, now));
        }
        step.next_in = self.next_replay().map(|row| row.next_at.since(now));
        step
    }

    /// The running one that has been due the longest, or will be due first.
    fn next_replay(&self) -> Option<&ReplayRow> {
        let running = self.replays.values();
        let running = running.filter(|row| row.replay.state == ReplayState::Running);
        running.min_by_key(|row| (row.next_at, row.replay.id))
    }

    /// Looks at a page of what a replay selects that was started at `at`.
    pub(super) fn look_at(
        &self,
        scope: &Scope,
        selection: &ReplaySelection,
        at: Timestamp,
        after: Option<Uuid>,
        limit: usize,
    ) -> Found {
        match selection {
            ReplaySelection::Deliveries(_) => {
                self.look_at_ended(scope, selection, at, after, limit)
            }
            ReplaySelection::Endpoint(replay) => {
                match self
                    .endpoints
                    .get(&replay.endpoint_id)
                    .filter(|endpoint| scope.contains(&endpoint.tenant))
                {
                    Some(endpoint) => self.look_at_events(replay, endpoint, at, after, limit),
                    None => Found {
                        is_gone: true,
                        ..Found::default()
                    },
                }
            }
        }
    }

    fn look_at_ended(
        &self,
        scope: &Scope,
        selection: &ReplaySelection,
        at: Timestamp,
        after: Option<Uuid>,
        limit: usize,
    ) -> Found {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let ended = self.deliveries.range((from, Bound::Unbounded));
        let ended = ended
            .map(|(_, row)| row)
            .filter(|row| row.delivery.status.is_final() && scope.contains(&row.delivery.tenant));
        let page: Vec<_> = ended.take(limit).collect();
        let mut found = Found {
            next: last_of(&page, limit, |row| row.delivery.id),
            ..Found::default()
        };
        for row in page {
            if !selection.selects(&row.delivery, at) {
                continue;
            }
            match self.endpoints.get(&row.delivery.endpoint_id) {
                Some(endpoint) if self.is_last(row) => found
                    .wanted
                    .push((Arc::clone(&row.event), Arc::clone(endpoint))),
                _ => found.skipped += 1,
            }
        }
        found
    }

    fn look_at_events(
        &self,
        replay: &EndpointReplay,
        endpoint: &Arc<Endpoint>,
        at: Timestamp,
        after: Option<Uuid>,
        limit: usize,
    ) -> Found {
        let from = after.unwrap_or_else(|| replay.after());
        let before = replay.before(at);
        let range = (Bound::Excluded(from), Bound::Excluded(before.max(from)));
        let events = (from < before).then(|| self.events.range(range));
        let events = events.into_iter().flatten().map(|(_, row)| &row.event);
        let events = events.filter(|event| event.tenant == endpoint.tenant);
        let page: Vec<_> = events.take(limit).collect();
        let mut found = Found {
            next: last_of(&page, limit, |event| event.id),
            ..Found::default()
        };
        for event in page {
            let last = self
                .deliveries_of(event, endpoint.id)
                .max_by_key(|row| row.delivery.replay_no)
                .map(|row| row.delivery.status);
            match replay.judge(event, endpoint, last, at) {
                Some(ReplayVerdict::Make) => {
                    found.wanted.push((Arc::clone(event), Arc::clone(endpoint)));
                }
                Some(ReplayVerdict::Skip) => found.skipped += 1,
                None => {}
            }
        }
        found
    }

    /// Whether nothing was replayed since of what it delivers.
    fn is_last(&self, row: &DeliveryRow) -> bool {
        let mut all = self.deliveries_of(&row.event, row.delivery.endpoint_id);
        all.all(|other| other.delivery.replay_no <= row.delivery.replay_no)
    }
}

impl ReplayRow {
    pub(super) fn tenant(&self) -> Option<&Tenant> {
        self.replay.tenant.as_ref()
    }

    fn move_on(&mut self, found: &Found, now: Timestamp) -> Replay {
        self.after = found.next;
        self.next_at = now + self.replay.rest(found.wanted.len());
        self.replay.done += found.wanted.len() as u64;
        self.replay.skipped += found.skipped;
        self.replay.updated_at = now;
        self.replay.state = match found.next {
            _ if found.is_gone => ReplayState::Cancelled,
            Some(_) => ReplayState::Running,
            None => ReplayState::Completed,
        };
        self.replay.clone()
    }
}

/// The last row of a page that is full: there may be more after it.
fn last_of<T>(page: &[T], limit: usize, id: impl Fn(&T) -> Uuid) -> Option<Uuid> {
    page.last().filter(|_| page.len() == limit).map(id)
}

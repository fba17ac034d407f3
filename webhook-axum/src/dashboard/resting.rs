//! Endpoints that get nothing: disabled ones, and those whose breaker is open.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use tokio::sync::Mutex;
use uuid::Uuid;
use webhook_core::{
    BreakerState, Endpoint, EndpointState, Health, ManageError, PageRequest, Timestamp,
};

use super::names::Names;
use crate::caller::Caller;
use crate::routes::endpoints::shown_url;

/// How many endpoints a round reads at a time, and how often it does.
const PAGE: usize = 1_000;
const PAGES: usize = 50;
/// How long what a round has found is shown.
pub(super) const FRESH: Duration = Duration::from_secs(30);
/// The most of a kind that are shown.
const SHOWN: usize = 50;

/// What the last round through the older endpoints of all tenants has found, and when.
#[derive(Default)]
pub(super) struct LastRound(Mutex<Option<(Timestamp, Resting)>>);

/// Endpoints that get nothing.
#[derive(Clone, Default)]
pub(super) struct Resting {
    open: BTreeMap<Uuid, BreakerState>,
    disabled: BTreeMap<Uuid, String>,
    /// What those in `open` are called that have been read.
    urls: BTreeMap<Uuid, String>,
    /// Whether older ones were not looked at.
    is_broken_off: bool,
}

/// Endpoints of a kind, the newest first.
pub(super) struct Kind<T> {
    pub(super) shown: Vec<T>,
    /// How many there are besides.
    pub(super) more: usize,
}

/// An endpoint that its breaker leaves alone.
pub(super) struct Open {
    pub(super) id: Uuid,
    pub(super) url: String,
    pub(super) breaker: &'static str,
    pub(super) until: Option<Timestamp>,
}

impl LastRound {
    /// Of all endpoints: of the newest, and of those that fail, as they are now; of the others as they were when they were
    /// last looked at. A tenant has few, which are looked at each time.
    pub(super) async fn and(
        &self,
        caller: &Caller,
        newest: &[Endpoint],
        older: Option<Uuid>,
        failing: &[Uuid],
    ) -> Result<Resting, ManageError> {
        let mut resting = match older {
            None => Resting::default(),
            Some(before) => self.older(caller, before).await?,
        };
        resting.look_at(caller, newest).await?;
        let health = caller.endpoints().health(failing).await?;
        resting.set_breakers(failing, &health);
        Ok(resting)
    }

    async fn older(&self, caller: &Caller, before: Uuid) -> Result<Resting, ManageError> {
        if caller.host_wide().is_err() {
            return Resting::round(caller, before).await;
        }
        // Whoever else comes meanwhile waits for this round.
        let mut last = self.0.lock().await;
        let now = caller.now();
        let is_fresh = |at: Timestamp| at <= now && now.since(at) < FRESH;
        if let Some((_, found)) = last.as_ref().filter(|(at, _)| is_fresh(*at)) {
            return Ok(found.clone());
        }
        let found = Resting::round(caller, before).await?;
        *last = Some((now, found.clone()));
        Ok(found)
    }
}

impl Resting {
    async fn round(caller: &Caller, before: Uuid) -> Result<Self, ManageError> {
        let (mut resting, mut before) = (Self::default(), Some(before));
        for _ in 0..PAGES {
            let limit = PAGE;
            let found = caller
                .endpoints()
                .list(PageRequest { before, limit })
                .await?;
            resting.look_at(caller, &found.items).await?;
            before = found.next;
            if before.is_none() {
                return Ok(resting);
            }
        }
        resting.is_broken_off = true;
        Ok(resting)
    }

    async fn look_at(&mut self, caller: &Caller, all: &[Endpoint]) -> Result<(), ManageError> {
        let ids: Vec<_> = all.iter().map(|it| it.id).collect();
        let health = caller.endpoints().health(&ids).await?;
        self.set_breakers(&ids, &health);
        for it in all {
            if it.state == EndpointState::Disabled {
                self.disabled.insert(it.id, shown_url(&it.url));
            } else {
                self.disabled.remove(&it.id);
            }
            if self.open.contains_key(&it.id) {
                self.urls.insert(it.id, shown_url(&it.url));
            }
        }
        Ok(())
    }

    fn set_breakers(&mut self, ids: &[Uuid], health: &HashMap<Uuid, Health>) {
        for id in ids {
            match health.get(id).map(|it| it.breaker) {
                None | Some(BreakerState::Closed) => drop(self.open.remove(id)),
                Some(resting) => drop(self.open.insert(*id, resting)),
            }
        }
    }

    /// How many endpoints were looked at, if those were not all.
    pub(super) fn broken_off_at(&self) -> Option<usize> {
        self.is_broken_off.then_some(PAGE * PAGES)
    }

    pub(super) fn disabled(&self) -> Kind<(Uuid, String)> {
        let newest = self.disabled.iter().rev().take(SHOWN);
        Kind {
            shown: newest.map(|(id, url)| (*id, url.clone())).collect(),
            more: self.disabled.len().saturating_sub(SHOWN),
        }
    }

    /// Those that their breakers leave alone, by what `names` calls them.
    pub(super) async fn open(&self, caller: &Caller, names: &mut Names) -> Kind<Open> {
        let newest: Vec<_> = self.open.iter().rev().take(SHOWN).collect();
        let unknown = newest.iter().map(|(id, _)| **id);
        let unknown = unknown.filter(|id| !self.urls.contains_key(id));
        names.add_each(caller, unknown).await;
        let url = |id: &Uuid| {
            self.urls
                .get(id)
                .cloned()
                .unwrap_or_else(|| names.of_id(id))
        };
        let shown = newest.into_iter().map(|(id, state)| Open {
            id: *id,
            url: url(id),
            breaker: super::endpoints::breaker_of(*state),
            until: match state {
                BreakerState::Open(trip) => Some(trip.until),
                BreakerState::Closed | BreakerState::HalfOpen(_) => None,
            },
        });
        Kind {
            shown: shown.collect(),
            more: self.open.len().saturating_sub(SHOWN),
        }
    }
}

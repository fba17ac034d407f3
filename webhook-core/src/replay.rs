//! Bulk replays: sending a whole selection again, at a pace, however often a process dies meanwhile.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::delivery::{Delivery, DeliveryStatus, UnknownWord};
use crate::endpoint::{Endpoint, InvalidSetting};
use crate::event::Event;
use crate::id::{first_id, is_test};
use crate::queue::Job;
use crate::store::DeliveryFilter;
use crate::tenant::{Scope, Tenant};
use crate::time::Timestamp;

/// A bulk replay: a selection, and how far it has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replay {
    /// Its id.
    pub id: Uuid,
    /// The tenant that it belongs to; `None` if it goes over all tenants.
    pub tenant: Option<Tenant>,
    /// What is sent again.
    pub selection: ReplaySelection,
    /// Whether it still runs.
    pub state: ReplayState,
    /// The most deliveries that it makes in a second.
    pub pace: u32,
    /// How many deliveries it was to make when it was started.
    pub total: u64,
    /// Whether all of them were counted. A count that takes too long is stopped.
    pub total_is_exact: bool,
    /// How many it has made.
    pub done: u64,
    /// How many rows it has passed over: somebody else sent them again, they cannot be read, or their endpoint is gone.
    pub skipped: u64,
    /// The name of who started it.
    pub created_by: Option<String>,
    /// When it was started. Deliveries and events that are made later are not in the selection.
    pub created_at: Timestamp,
    /// When it last made progress.
    pub updated_at: Timestamp,
}

impl Replay {
    /// Its pace unless set: 500 deliveries a second.
    pub const PACE: u32 = 500;

    /// The tenants whose deliveries it may touch.
    #[must_use]
    pub fn scope(&self) -> Scope {
        self.tenant.clone().map_or(Scope::All, Scope::Tenant)
    }

    /// How long it rests after a step that made this many deliveries.
    #[must_use]
    pub fn rest(&self, made: usize) -> Duration {
        let made = u32::try_from(made).unwrap_or(u32::MAX);
        Duration::from_secs(1) * made / self.pace.max(1)
    }
}

/// What a bulk replay sends again. A backend must know each kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ReplaySelection {
    /// The deliveries that have ended and match. A delivery that was replayed since is passed over, whatever the result of that
    /// replay.
    Deliveries(DeliveryFilter),
    /// The events that an endpoint should have got. These are the events whose last delivery to it has ended, and those that it
    /// accepts but has no delivery of, because it was disabled or did not exist.
    Endpoint(EndpointReplay),
}

/// The events of an endpoint that are replayed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointReplay {
    /// The endpoint.
    pub endpoint_id: Uuid,
    /// Events accepted at this time or later.
    pub since: Timestamp,
    /// Accepted before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Only events whose last delivery ended in this state. Events without a delivery are then left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<DeliveryStatus>,
}

/// How far an event's id may be ahead of the time at which the event was accepted. If a clock is set back, the ids are not.
const IDS_AHEAD: Duration = Duration::from_secs(60);

impl EndpointReplay {
    /// The id after which its events come.
    #[must_use]
    pub fn after(&self) -> Uuid {
        Uuid::from_u128(first_id(self.since).as_u128().saturating_sub(1))
    }

    /// The id before which its events come, if it is started at `at`.
    #[must_use]
    pub fn before(&self, at: Timestamp) -> Uuid {
        let end = self.until.map_or(at, |until| until.min(at));
        first_id(end + IDS_AHEAD + Duration::from_millis(1))
    }

    /// What to do with an event, given the endpoint and the state of the event's last delivery to it. `at` is when the replay was
    /// started. `None` if the event is not selected; test events never are.
    #[must_use]
    pub fn judge(
        &self,
        event: &Event,
        endpoint: &Endpoint,
        last: Option<DeliveryStatus>,
        at: Timestamp,
    ) -> Option<ReplayVerdict> {
        let in_time = self.since <= event.created_at
            && event.created_at <= at
            && self.until.is_none_or(|until| event.created_at < until);
        let is_selected = in_time
            && !event.is_test()
            && match last {
                None => self.status.is_none() && endpoint.wants(&event.event_type),
                Some(last) => self.status.is_none_or(|wanted| wanted == last),
            };
        match last {
            _ if !is_selected => None,
            None => endpoint
                .lets_through(&event.payload())
                .then_some(ReplayVerdict::Make),
            Some(last) if last.is_final() => Some(ReplayVerdict::Make),
            Some(_) => Some(ReplayVerdict::Skip),
        }
    }
}

/// What a bulk replay does with a row that it looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplayVerdict {
    /// It makes a new delivery.
    Make,
    /// It passes the row over, and counts it as passed over.
    Skip,
}

impl ReplaySelection {
    /// Whether a replay that was started at `at` selects an ended delivery. It does if the delivery existed at that time. It
    /// never selects the deliveries that it makes itself, nor deliveries of test events.
    #[must_use]
    pub fn selects(&self, delivery: &Delivery, at: Timestamp) -> bool {
        let was_there = delivery.created_at < at
            // For clocks that stand still, as in tests.
            || delivery.created_at == at && delivery.replay_no == 0;
        match self {
            Self::Deliveries(filter) => {
                was_there && !is_test(delivery.event_id) && filter.matches(delivery)
            }
            Self::Endpoint(_) => false,
        }
    }

    /// Checks that this can be replayed, and does not select everything by mistake.
    ///
    /// # Errors
    /// The setting that is out of bounds.
    pub fn validate(&self) -> Result<(), InvalidSetting> {
        let (status, since, until) = match self {
            Self::Deliveries(filter) if *filter == DeliveryFilter::default() => {
                return Err(InvalidSetting::new("filter", "at least one condition"));
            }
            Self::Deliveries(filter) => (filter.status, filter.since, filter.until),
            Self::Endpoint(replay) => (replay.status, Some(replay.since), replay.until),
        };
        if status.is_some_and(|status| !status.is_final()) {
            return Err(InvalidSetting::new(
                "status",
                "one of succeeded, failed, cancelled: what is live cannot be replayed",
            ));
        }
        match (since, until) {
            (Some(since), Some(until)) if since >= until => {
                Err(InvalidSetting::new("until", "later than since"))
            }
            _ => Ok(()),
        }
    }
}

/// The states of a bulk replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplayState {
    /// It makes deliveries, or will make them.
    Running,
    /// It has gone through its selection. Final.
    Completed,
    /// A person ended it, or its endpoint was deleted. The deliveries that it has made stay. Final.
    Cancelled,
}

impl ReplayState {
    const ALL: [Self; 3] = [Self::Running, Self::Completed, Self::Cancelled];

    /// The `snake_case` word used in SQL and routes.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Cancelled => "cancelled",
        }
    }
}

impl fmt::Display for ReplayState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ReplayState {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        Self::ALL
            .into_iter()
            .find(|state| state.as_str() == word)
            .ok_or_else(|| UnknownWord::new(word, "state of a replay"))
    }
}

/// What a replay would do with some rows of its selection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplayScan {
    /// The deliveries that it would make.
    pub wanted: u64,
    /// The rows that it would pass over.
    pub skipped: u64,
    /// The id after which the replay goes on; `None` at the end.
    pub next: Option<Uuid>,
}

/// A step of a bulk replay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplayStep {
    /// The replay whose step it was, as it is now; `None` if none was due.
    pub replay: Option<Replay>,
    /// The jobs of the deliveries that were made.
    pub jobs: Vec<Job>,
    /// How long until the next step of a running replay is due; `None` if none runs.
    pub next_in: Option<Duration>,
}

/// A bulk replay to be started.
///
/// ```
/// use webhook_core::{DeliveryFilter, DeliveryStatus, NewReplay, ReplaySelection};
///
/// let dead_letters = DeliveryFilter { status: Some(DeliveryStatus::Failed), ..Default::default() };
/// let new = NewReplay::new(ReplaySelection::Deliveries(dead_letters)).pace(50).created_by("ann");
/// # let _ = new;
/// ```
#[derive(Clone, Debug)]
pub struct NewReplay {
    pub(crate) selection: ReplaySelection,
    pub(crate) pace: u32,
    pub(crate) created_by: Option<String>,
}

impl NewReplay {
    /// A replay of `selection`, at [`Replay::PACE`].
    #[must_use]
    pub fn new(selection: ReplaySelection) -> Self {
        Self {
            selection,
            pace: Replay::PACE,
            created_by: None,
        }
    }

    /// The most deliveries that it makes in a second, 1 to 1,000,000. New events go out beside them.
    #[must_use]
    pub fn pace(mut self, per_second: u32) -> Self {
        self.pace = per_second;
        self
    }

    /// Who starts it.
    #[must_use]
    pub fn created_by(mut self, name: impl Into<String>) -> Self {
        self.created_by = Some(name.into());
        self
    }

    /// Checks what can be checked without a store. To start a replay checks the same.
    ///
    /// # Errors
    /// The first setting that is out of bounds.
    pub fn validate(&self) -> Result<(), InvalidSetting> {
        if !(1..=1_000_000).contains(&self.pace) {
            return Err(InvalidSetting::new("pace", "1 to 1,000,000 a second"));
        }
        self.selection.validate()
    }
}

//! Why an event went to an endpoint or not, and what its delivery waits for. Pure.

use std::fmt;

use uuid::Uuid;

use crate::delivery::{Delivery, DeliveryStatus, EndReason};
use crate::endpoint::{Endpoint, EndpointState};
use crate::event::Event;
use crate::filter::{EventPattern, FilterMiss};
use crate::payload::Payload;
use crate::time::Timestamp;

/// The most patterns that a sentence names.
const MAX_PATTERNS: usize = 10;

/// Why an event went to its tenant's endpoints or not. From [`Events::why`](crate::Events::why).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Why {
    /// The event.
    pub event: Event,
    /// When this was looked at.
    pub as_of: Timestamp,
    /// Its deliveries, newest first.
    pub deliveries: Vec<Delivery>,
    /// For each of the tenant's endpoints, and each other one that has a delivery of the event.
    pub endpoints: Vec<Judgement>,
    /// Whether `deliveries` and `endpoints` are all there are. If not, the oldest are left out.
    pub is_complete: bool,
}

/// Why an event went to one endpoint or not.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Judgement {
    /// The endpoint.
    pub endpoint_id: Uuid,
    /// Why.
    pub reason: MatchReason,
    /// What that is known from.
    pub basis: Basis,
    /// The last delivery of the event to it.
    pub delivery: Option<Delivery>,
    /// What that waits for, if it has not ended.
    pub wait: Option<Wait>,
}

/// Why an event went to an endpoint or not.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum MatchReason {
    /// It went, or goes, there.
    Matches,
    /// It went there; the endpoint was deleted since.
    Deleted,
    /// Its type is none of those that the endpoint wants.
    EventType(Vec<EventPattern>),
    /// The endpoint's payload filter does not hold for it.
    Filter(FilterMiss),
    /// The endpoint was made after the event was accepted.
    CreatedAfter,
    /// The endpoint is disabled.
    Disabled,
    /// The endpoint would get it today. So its settings or its state were others when the event was accepted, or the
    /// delivery is not kept any more.
    Changed,
    /// The endpoint cannot be read, or its secrets cannot be opened with the keys at hand.
    Unreadable,
}

/// What a reason is known from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// What was stored when it was decided: there is a delivery.
    Recorded,
    /// The endpoint's settings and state as they are now, which may not be what they were.
    Current,
}

/// What a delivery waits for, as far as the store knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Wait {
    /// The endpoint is paused.
    Paused,
    /// The endpoint is disabled.
    Disabled,
    /// Its first attempt is due only then.
    Scheduled(Timestamp),
    /// Its next attempt, after one that failed, is due only then.
    Retry(Timestamp),
    /// It is due: for a worker, or for its endpoint's limits, order or hold.
    Turn,
    /// An attempt is under way.
    UnderWay,
}

impl Judgement {
    /// Whether the event went to the endpoint, or goes there.
    #[must_use]
    pub fn matches(&self) -> bool {
        matches!(self.reason, MatchReason::Matches | MatchReason::Deleted)
            || (self.reason == MatchReason::Unreadable && self.delivery.is_some())
    }

    /// Judges by the delivery, if there is one, and else by the endpoint as it is now.
    pub(crate) fn of(
        endpoint: &Endpoint,
        event: &Event,
        payload: &Payload<'_>,
        delivery: Option<Delivery>,
        now: Timestamp,
    ) -> Self {
        let was_filtered = |it: &Delivery| it.end_reason == Some(EndReason::Filtered);
        let (reason, basis) = match &delivery {
            Some(delivery) if was_filtered(delivery) => {
                (filtered(endpoint, payload), Basis::Recorded)
            }
            Some(_) => (MatchReason::Matches, Basis::Recorded),
            None => (refused(endpoint, event, payload), Basis::Current),
        };
        let wait = delivery.as_ref();
        let wait = wait.and_then(|delivery| Wait::of(delivery, Some(endpoint.state), now));
        Self {
            endpoint_id: endpoint.id,
            reason,
            basis,
            delivery,
            wait,
        }
    }

    /// Judges by the delivery to an endpoint that is not there any more, or cannot be read.
    pub(crate) fn without_endpoint(
        delivery: Delivery,
        reason: MatchReason,
        now: Timestamp,
    ) -> Self {
        Self {
            endpoint_id: delivery.endpoint_id,
            reason,
            basis: Basis::Recorded,
            wait: Wait::of(&delivery, None, now),
            delivery: Some(delivery),
        }
    }
}

/// Why there is no delivery, by what the endpoint is now.
fn refused(endpoint: &Endpoint, event: &Event, payload: &Payload<'_>) -> MatchReason {
    if !endpoint.wants(&event.event_type) {
        return MatchReason::EventType(endpoint.settings.event_types.clone());
    }
    if let Some(miss) = endpoint.filter_miss(payload) {
        MatchReason::Filter(miss)
    } else if endpoint.created_at > event.created_at {
        MatchReason::CreatedAfter
    } else if endpoint.state == EndpointState::Disabled {
        MatchReason::Disabled
    } else {
        MatchReason::Changed
    }
}

/// Where the filter that refused it may be another one by now.
fn filtered(endpoint: &Endpoint, payload: &Payload<'_>) -> MatchReason {
    let miss = endpoint.filter_miss(payload);
    MatchReason::Filter(miss.unwrap_or(FilterMiss::Changed))
}

impl Wait {
    /// What a delivery to an endpoint in this state waits for.
    #[must_use]
    pub fn of(delivery: &Delivery, state: Option<EndpointState>, now: Timestamp) -> Option<Self> {
        match (delivery.status, state) {
            (DeliveryStatus::InProgress, _) => Some(Self::UnderWay),
            (DeliveryStatus::Pending, Some(EndpointState::Paused)) => Some(Self::Paused),
            (DeliveryStatus::Pending, Some(EndpointState::Disabled)) => Some(Self::Disabled),
            (DeliveryStatus::Pending, _) => {
                let later = delivery.next_retry_at.filter(|due| *due > now);
                Some(match (later, delivery.attempts) {
                    (None, _) => Self::Turn,
                    (Some(due), 0) => Self::Scheduled(due),
                    (Some(due), _) => Self::Retry(due),
                })
            }
            _ => None,
        }
    }
}

impl MatchReason {
    /// The `snake_case` word used in routes.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Matches => "matches",
            Self::Deleted => "deleted",
            Self::EventType(_) => "event_type",
            Self::Filter(_) => "filter",
            Self::CreatedAfter => "created_after",
            Self::Disabled => "disabled",
            Self::Changed => "changed",
            Self::Unreadable => "unreadable",
        }
    }
}

impl Basis {
    /// The `snake_case` word used in routes.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Recorded => "recorded",
            Self::Current => "current",
        }
    }
}

/// A sentence for people.
impl fmt::Display for MatchReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Matches => f.write_str("its event types and its state let the event through"),
            Self::Deleted => f.write_str("it matched, and was deleted since"),
            Self::EventType(wanted) => {
                let (shown, more) = wanted.split_at(wanted.len().min(MAX_PATTERNS));
                let shown: Vec<_> = shown.iter().map(ToString::to_string).collect();
                let shown = shown.join(", ");
                write!(f, "the type is none of its event types: {shown}")?;
                match more.len() {
                    0 => Ok(()),
                    more => write!(f, " and {more} more"),
                }
            }
            Self::Filter(miss) => write!(f, "its filter does not hold for the body: {miss}"),
            Self::CreatedAfter => {
                f.write_str("it was made after the event, which a replay would bring to it")
            }
            Self::Disabled => f.write_str("it is disabled: no deliveries are made for it"),
            Self::Changed => f.write_str(
                "it would get the event today: its settings or its state were others when the event was accepted, \
                 or the delivery is not kept any more; a replay would bring the event to it",
            ),
            Self::Unreadable => f.write_str("it cannot be read, or its secrets cannot be opened"),
        }
    }
}

/// A sentence for people.
impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Paused => f.write_str("waits: the endpoint is paused"),
            Self::Disabled => f.write_str("waits: the endpoint is disabled"),
            Self::Scheduled(at) => write!(f, "waits for its first attempt, due at {at}"),
            Self::Retry(at) => write!(f, "waits for its next attempt, due at {at}"),
            Self::Turn => f.write_str(
                "is due, and waits for a worker, or for its endpoint's limits, order or hold",
            ),
            Self::UnderWay => f.write_str("an attempt is under way"),
        }
    }
}

//! Deliveries, their states, and the attempts that were made.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::event::EventType;
use crate::header_log::HeaderLog;
use crate::tenant::Tenant;
use crate::time::Timestamp;
use crate::transport::TransportErrorKind;

/// One event to one endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Its id.
    pub id: Uuid,
    /// The event that is delivered.
    pub event_id: Uuid,
    /// The endpoint that gets it.
    pub endpoint_id: Uuid,
    /// 0 for the delivery that the event itself made. Each replay counts up by one.
    pub replay_no: u32,
    /// The tenant that it belongs to.
    pub tenant: Tenant,
    /// The event's type.
    pub event_type: EventType,
    /// Its state.
    pub status: DeliveryStatus,
    /// Attempts made so far.
    pub attempts: u32,
    /// When the next attempt is due; `None` once it has ended.
    pub next_retry_at: Option<Timestamp>,
    /// How the last attempt failed.
    pub last_error: Option<Failure>,
    /// Why it ended without success.
    pub end_reason: Option<EndReason>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its row last changed.
    pub updated_at: Timestamp,
}

/// Whose fault a delivery's last failure is. The host should look into dead letters of the system, and owners of endpoints into
/// all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureCause {
    /// The endpoint's fault, or that of the network between.
    Endpoint,
    /// Our fault: a defect, or stored data that cannot be read.
    System,
}

impl FailureCause {
    /// The `snake_case` word used in SQL and routes.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Endpoint => "endpoint",
            Self::System => "system",
        }
    }
}

impl Delivery {
    /// Whose fault its last failure is, if there was one: that of its last attempt, or of its end. Backends compute the same in
    /// SQL.
    #[must_use]
    pub fn cause(&self) -> Option<FailureCause> {
        let has_failed = matches!(
            self.end_reason,
            Some(EndReason::Exhausted | EndReason::Permanent | EndReason::Expired)
        );
        if self.end_reason == Some(EndReason::Corrupt)
            || self.last_error.is_some_and(Failure::is_ours)
        {
            Some(FailureCause::System)
        } else {
            (has_failed || self.last_error.is_some()).then_some(FailureCause::Endpoint)
        }
    }
}

/// The states of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryStatus {
    /// It waits for its first or next attempt.
    Pending,
    /// A worker owns it.
    InProgress,
    /// The endpoint answered 2xx. Final.
    Succeeded,
    /// It was given up, and is a dead letter. Final; a replay makes a new delivery.
    Failed,
    /// A person or a filter ended it, or its endpoint was deleted. Final.
    Cancelled,
}

impl DeliveryStatus {
    /// All states, in the order of a delivery's life.
    pub const ALL: [Self; 5] = [
        Self::Pending,
        Self::InProgress,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
    ];

    /// Whether a delivery may go from this state to `next`. There are no other transitions.
    #[must_use]
    pub fn may_become(self, next: Self) -> bool {
        use DeliveryStatus::{Cancelled, Failed, InProgress, Pending, Succeeded};
        matches!(
            (self, next),
            (Pending, InProgress | Failed | Cancelled)
                | (InProgress, Pending | Succeeded | Failed | Cancelled)
        )
    }

    /// Whether no further transition exists.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }

    /// The `snake_case` word used in SQL, routes and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::InProgress => "in_progress",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

impl fmt::Display for DeliveryStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no state of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a status is one of pending, in_progress, succeeded, failed, cancelled")]
pub struct InvalidStatus;

impl FromStr for DeliveryStatus {
    type Err = InvalidStatus;

    fn from_str(text: &str) -> Result<Self, InvalidStatus> {
        Self::ALL
            .into_iter()
            .find(|status| status.as_str() == text)
            .ok_or(InvalidStatus)
    }
}

/// Why a delivery ended in `failed` or `cancelled`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum EndReason {
    /// Every attempt of the schedule failed.
    Exhausted,
    /// The endpoint answered with a status after which no retry can succeed.
    Permanent,
    /// It waited longer than the dispatcher's `max_age` for an enabled endpoint. A change of the endpoint restarts that time.
    Expired,
    /// The endpoint's payload filter does not match the event.
    Filtered,
    /// A person or the host asked for it.
    Requested,
    /// Its endpoint was deleted.
    EndpointDeleted,
    /// Its row, or that of its event or endpoint, cannot be read back.
    Corrupt,
}

impl EndReason {
    const ALL: [Self; 7] = [
        Self::Exhausted,
        Self::Permanent,
        Self::Expired,
        Self::Filtered,
        Self::Requested,
        Self::EndpointDeleted,
        Self::Corrupt,
    ];

    /// The `snake_case` word used in SQL, routes and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exhausted => "exhausted",
            Self::Permanent => "permanent",
            Self::Expired => "expired",
            Self::Filtered => "filtered",
            Self::Requested => "requested",
            Self::EndpointDeleted => "endpoint_deleted",
            Self::Corrupt => "corrupt",
        }
    }
}

/// A stored word is unknown: a newer version wrote it, or it is damaged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a known {1}")]
pub struct UnknownWord(String, &'static str);

impl UnknownWord {
    pub(crate) fn new(word: &str, kind: &'static str) -> Self {
        Self(word.to_owned(), kind)
    }
}

impl FromStr for EndReason {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        Self::ALL
            .into_iter()
            .find(|reason| reason.as_str() == word)
            .ok_or_else(|| UnknownWord::new(word, "end reason"))
    }
}

/// One HTTP request for a delivery. Attempts are only ever appended.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// When it began, by the clock of the process that made it.
    pub started_at: Timestamp,
    /// The time from the start to the last byte, or to the failure.
    pub duration: Duration,
    /// The time from the start to the response's head, if the transport can tell.
    pub first_byte: Option<Duration>,
    /// The headers that were sent, without the values of secret ones.
    pub request_headers: HeaderLog,
    /// The response, or the failure.
    pub outcome: Outcome,
}

/// The result of an attempt.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// There was a complete response. Where it repeats a secret header or the query of the endpoint's URL, as they are, or as
    /// URLs or JSON write them, `***` is kept instead.
    Response {
        /// Its status code.
        status: u16,
        /// Its headers, up to the dispatcher's limit.
        headers: HeaderLog,
        /// Its body, up to the dispatcher's limit: bytes, not necessarily text.
        body: Bytes,
        /// Whether the headers or the body were longer.
        truncated: bool,
    },
    /// There was no complete response.
    Failed(TransportErrorKind),
}

impl Outcome {
    /// How the attempt failed; `None` for a 2xx response.
    #[must_use]
    pub fn failure(&self) -> Option<Failure> {
        match self {
            Self::Response {
                status: 200..=299, ..
            } => None,
            Self::Response { status, .. } => Some(Failure::Status(*status)),
            Self::Failed(kind) => Some(Failure::Transport(*kind)),
        }
    }

    pub(crate) fn class(&self) -> OutcomeClass {
        match self {
            Self::Response { status, .. } => match status {
                200..=299 => OutcomeClass::Succeeded,
                300..=399 => OutcomeClass::Redirect,
                400..=499 => OutcomeClass::ClientError,
                _ => OutcomeClass::ServerError,
            },
            Self::Failed(TransportErrorKind::Timeout) => OutcomeClass::Timeout,
            Self::Failed(_) => OutcomeClass::Unanswered,
        }
    }
}

/// What an attempt produced, as coarsely as statistics and metrics tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OutcomeClass {
    Succeeded,
    Redirect,
    ClientError,
    /// Or what is no status at all.
    ServerError,
    Timeout,
    Unanswered,
}

impl OutcomeClass {
    /// The `snake_case` word used in metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Redirect => "redirect",
            Self::ClientError => "client_error",
            Self::ServerError => "server_error",
            Self::Timeout => "timeout",
            Self::Unanswered => "unanswered",
        }
    }
}

/// How an attempt failed. It is shown as `http_503` or `timeout`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Failure {
    /// There was a response outside 2xx.
    Status(u16),
    /// No complete response.
    Transport(TransportErrorKind),
}

impl Failure {
    /// Whether the failure is our fault and says nothing about the endpoint. Then the attempt does not count against the
    /// schedule.
    #[must_use]
    pub fn is_ours(self) -> bool {
        self == Self::Transport(TransportErrorKind::Internal)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "http_{status}"),
            Self::Transport(kind) => f.write_str(kind.as_str()),
        }
    }
}

impl FromStr for Failure {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        match word.strip_prefix("http_").map(str::parse) {
            Some(Ok(status)) => Ok(Self::Status(status)),
            _ => word.parse().map(Self::Transport),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_documented_transitions_exist() {
        use DeliveryStatus::{Cancelled, Failed, InProgress, Pending, Succeeded};
        let allowed = [
            (Pending, InProgress),
            (Pending, Failed),
            (Pending, Cancelled),
            (InProgress, Pending),
            (InProgress, Succeeded),
            (InProgress, Failed),
            (InProgress, Cancelled),
        ];
        for from in DeliveryStatus::ALL {
            for to in DeliveryStatus::ALL {
                assert_eq!(
                    from.may_become(to),
                    allowed.contains(&(from, to)),
                    "{from} -> {to}"
                );
            }
            assert_eq!(
                from.is_final(),
                !allowed.iter().any(|(state, _)| *state == from),
                "{from}"
            );
            assert_eq!(from.as_str().parse(), Ok(from));
        }
    }

    #[test]
    fn stored_words_are_read_back() {
        for reason in EndReason::ALL {
            assert_eq!(reason.as_str().parse(), Ok(reason));
        }
        for kind in TransportErrorKind::ALL {
            assert_eq!(kind.as_str().parse(), Ok(kind));
            let failure = Failure::Transport(kind);
            assert_eq!(failure.to_string().parse(), Ok(failure));
        }
        assert_eq!("http_503".parse(), Ok(Failure::Status(503)));
        for unknown in ["", "http_", "http_x", "HTTP_503", "exhausted "] {
            assert!(unknown.parse::<Failure>().is_err() && unknown.parse::<EndReason>().is_err());
        }
    }
}

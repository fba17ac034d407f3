//! Deliveries with an error that time does not mend: the store refuses their outcome, or they cannot be read.
//!
//! The engine must not repeat a request only because the store refuses to keep the answer. And a delivery that can never be
//! attempted must end where people look for it. What this process learns here dies with it. Another process then learns the same
//! once more.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use hashbrown::HashMap;
use uuid::Uuid;

use crate::delivery::{Attempt, EndReason, Outcome};
use crate::error::{Error, ErrorKind};
use crate::header_log::HeaderLog;
use crate::retry::Next;
use crate::store::{Record, Recorded};

/// After how many failed reads a delivery is given up.
const MAX_UNREADABLE: u32 = 3;
/// How many deliveries of each kind are remembered. When there is one more, all others are forgotten.
const MAX_KNOWN: usize = 10_000;

/// The troubled deliveries that this process knows.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    known: Mutex<Known>,
    /// Nearly all deliveries have no trouble, and need no lock thanks to this.
    is_any: AtomicBool,
}

#[derive(Debug, Default)]
struct Known {
    /// What these deliveries become without another request.
    unrecorded: HashMap<Uuid, Next>,
    /// How often these deliveries could not be read.
    unreadable: HashMap<Uuid, u32>,
}

impl Trouble {
    /// Remembers that the store takes nothing about an attempt that was made.
    pub(super) fn unrecorded(&self, delivery: Uuid, next: Next) {
        insert(&mut self.change().unrecorded, delivery, next);
    }

    /// What a delivery becomes instead of being sent again, if it is one of these.
    pub(super) fn instead_of_attempt(&self, delivery: Uuid) -> Option<Next> {
        self.known()?.unrecorded.get(&delivery).copied()
    }

    /// Counts that a delivery cannot be read, if that is its own fault. Returns whether it is time to give it up.
    pub(super) fn unreadable(&self, delivery: Uuid, error: &Error) -> bool {
        if !matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Rejected) {
            return false;
        }
        let mut known = self.change();
        let times = known.unreadable.get(&delivery).map_or(1, |times| times + 1);
        insert(&mut known.unreadable, delivery, times);
        times >= MAX_UNREADABLE
    }

    /// Forgets these deliveries, because they can be read.
    pub(super) fn readable(&self, deliveries: impl IntoIterator<Item = Uuid>) {
        if let Some(mut known) = self.known() {
            for delivery in deliveries {
                known.unreadable.remove(&delivery);
            }
        }
    }

    /// Forgets these deliveries, because their outcome is recorded.
    pub(super) fn recorded(&self, records: &[Record], recorded: &[Option<Recorded>]) {
        if let Some(mut known) = self.known() {
            for (record, _) in records
                .iter()
                .zip(recorded)
                .filter(|(_, recorded)| recorded.is_some())
            {
                known.unrecorded.remove(&record.lease.delivery);
            }
        }
    }

    fn known(&self) -> Option<MutexGuard<'_, Known>> {
        self.is_any
            .load(Ordering::SeqCst)
            .then(|| self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn change(&self) -> MutexGuard<'_, Known> {
        self.is_any.store(true, Ordering::SeqCst);
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn insert<T>(known: &mut HashMap<Uuid, T>, delivery: Uuid, value: T) {
    if known.len() >= MAX_KNOWN && !known.contains_key(&delivery) {
        known.clear();
    }
    known.insert(delivery, value);
}

/// A smaller form of a record that the store refused, because any part may be at fault: first without the answer's headers and
/// body, then without the attempt and what follows for the lane. `None` if nothing more can be left out.
pub(super) fn reduced(record: &Record) -> Option<Record> {
    let attempt = record.attempt.as_deref();
    if let Some(bare) = attempt.and_then(without_details) {
        return Some(Record {
            attempt: Some(Arc::new(bare)),
            ..record.clone()
        });
    }
    let next = match record.next {
        // If an attempt is not counted, another one must not follow: there would be no last attempt.
        Next::RetryAfter(_) => Next::Failed(EndReason::Corrupt),
        next => next,
    };
    attempt.map(|_| Record {
        lease: record.lease,
        attempt: None,
        next,
        disable: None,
        hold: None,
        health: None,
        event: None,
    })
}

/// An attempt without its headers and the body; `None` if there are none.
fn without_details(attempt: &Attempt) -> Option<Attempt> {
    let none = HeaderLog::default();
    let (outcome, has_details) = match &attempt.outcome {
        Outcome::Failed(kind) => (Outcome::Failed(*kind), false),
        Outcome::Response {
            status,
            headers,
            body,
            truncated,
        } => {
            let has_details = *headers != none || !body.is_empty();
            let outcome = Outcome::Response {
                status: *status,
                headers: none.clone(),
                body: Bytes::new(),
                truncated: *truncated || has_details,
            };
            (outcome, has_details)
        }
    };
    (has_details || attempt.request_headers != none).then_some(Attempt {
        request_headers: none,
        outcome,
        ..*attempt
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::{HeaderMap, HeaderValue};

    use super::*;
    use crate::endpoint::StateReason;
    use crate::health::HealthChange;
    use crate::queue::Lease;
    use crate::time::Timestamp;

    fn record(next: Next) -> Record {
        let mut headers = HeaderMap::new();
        headers.insert("x-odd", HeaderValue::from_static("odd"));
        let attempt = Attempt {
            started_at: Timestamp::EPOCH,
            duration: Duration::from_secs(1),
            first_byte: None,
            request_headers: HeaderLog::from(&headers),
            outcome: Outcome::Response {
                status: 503,
                headers: HeaderLog::from(&headers),
                body: Bytes::from_static(b"odd"),
                truncated: false,
            },
        };
        Record {
            lease: Lease {
                delivery: Uuid::from_u128(1),
                lane: Uuid::from_u128(2),
                fence: 3,
                until: Timestamp::EPOCH,
            },
            attempt: Some(Arc::new(attempt)),
            next,
            disable: Some(StateReason::Gone),
            hold: Some(Duration::from_secs(1)),
            health: Some(HealthChange::default()),
            event: None,
        }
    }

    #[test]
    fn an_outcome_loses_what_came_over_the_wire_then_the_attempt() {
        let retry = Next::RetryAfter(Duration::from_secs(5));
        let less = reduced(&record(retry)).unwrap();
        let attempt = less.attempt.as_deref().unwrap();
        assert_eq!(attempt.request_headers, HeaderLog::default());
        assert!(
            matches!(&attempt.outcome, Outcome::Response { status: 503, body, truncated: true, .. } if body.is_empty())
        );
        assert_eq!((less.next, less.disable), (retry, Some(StateReason::Gone)));

        let least = reduced(&less).unwrap();
        assert!(least.attempt.is_none() && least.disable.is_none() && least.hold.is_none());
        assert!(less.health.is_some() && least.health.is_none());
        assert_eq!(least.next, Next::Failed(EndReason::Corrupt));
        assert!(reduced(&least).is_none());
    }

    #[test]
    fn a_success_stays_one() {
        let least = reduced(&reduced(&record(Next::Succeeded)).unwrap()).unwrap();
        assert_eq!(least.next, Next::Succeeded);
    }

    #[test]
    fn a_delivery_is_given_up_when_it_cannot_be_read_a_few_times_in_a_row() {
        let (trouble, id) = (Trouble::default(), Uuid::from_u128(1));
        let corrupt = Error::new(ErrorKind::Corrupt, "load");
        assert!(!trouble.unreadable(id, &corrupt) && !trouble.unreadable(id, &corrupt));
        trouble.readable([id]);
        assert!(!trouble.unreadable(id, &corrupt) && !trouble.unreadable(id, &corrupt));
        let everywhere = Error::new(ErrorKind::Internal, "load");
        assert!(!trouble.unreadable(id, &everywhere), "nothing of the row's");
        assert!(trouble.unreadable(id, &corrupt));
    }
}

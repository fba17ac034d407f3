//! Identifiers: UUIDv7, made in one place.

use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};
use uuid::{Builder, Uuid};

use crate::time::Timestamp;

/// Makes UUIDv7 ids ([RFC 9562](https://www.rfc-editor.org/rfc/rfc9562#name-uuid-version-7)) that only grow
/// within one generator, whatever the clock does.
///
/// The 12 bits after the milliseconds are a counter; when they run out within a millisecond, the next
/// one is borrowed.
pub(crate) struct IdGenerator {
    last: Mutex<(u64, u16)>,
}

const COUNTER_MAX: u16 = 0x0fff;

impl IdGenerator {
    pub(crate) fn new() -> Self {
        Self {
            last: Mutex::new((0, 0)),
        }
    }

    /// A new id for `now`, with `random` as its tail.
    pub(crate) fn next(&self, now: Timestamp, random: u64) -> Uuid {
        let (millis, counter) = self.advance(millis(now));
        let mut tail = [0; 10];
        tail[..2].copy_from_slice(&counter.to_be_bytes());
        tail[2..].copy_from_slice(&random.to_be_bytes());
        Builder::from_unix_timestamp_millis(millis, &tail).into_uuid()
    }

    fn advance(&self, millis: u64) -> (u64, u16) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = match *last {
            (then, _) if millis > then => (millis, 0),
            (then, COUNTER_MAX) => (then + 1, 0),
            (then, counter) => (then, counter + 1),
        };
        *last
    }
}

/// The same id as one of a test event: version 8 instead of 7, and nothing else. So whether an event is a test is told
/// wherever its id is, on every backend, and costs the others nothing.
pub(crate) fn as_test(id: Uuid) -> Uuid {
    let mut bytes = id.into_bytes();
    bytes[6] = bytes[6] & 0x0f | 0x80;
    Uuid::from_bytes(bytes)
}

/// Whether an event of this id is a test.
pub(crate) fn is_test(event: Uuid) -> bool {
    event.get_version_num() == 8
}

/// The id of a delivery of an event to an endpoint: a time, then a hash of what it delivers.
///
/// A function of its inputs, so that a fan-out that is run twice makes the same rows: `made_at` is the
/// event's `created_at` for the deliveries that the event itself makes, and the time of the replay for
/// others. Bytes 0–5 are `made_at` in milliseconds; the rest is bytes 6–15 of SHA-256 over the 16 bytes of
/// each id and the replay number as four bytes, big endian, with the version and variant bits of UUIDv7
/// set. A backend may compute the same in SQL.
#[must_use]
pub fn delivery_id(made_at: Timestamp, event: Uuid, endpoint: Uuid, replay_no: u32) -> Uuid {
    let hash = Sha256::new()
        .chain_update(event.as_bytes())
        .chain_update(endpoint.as_bytes())
        .chain_update(replay_no.to_be_bytes())
        .finalize();
    let mut tail = [0; 10];
    tail.copy_from_slice(&hash[6..16]);
    Builder::from_unix_timestamp_millis(millis(made_at), &tail).into_uuid()
}

/// No id that is made at `at` or later is less.
pub(crate) fn first_id(at: Timestamp) -> Uuid {
    Builder::from_unix_timestamp_millis(millis(at), &[0; 10]).into_uuid()
}

fn millis(at: Timestamp) -> u64 {
    u64::try_from(at.as_micros() / 1_000).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_grow_even_when_the_clock_stands_or_goes_back() {
        let ids = IdGenerator::new();
        let mut last = Uuid::nil();
        for step in 0..10_000 {
            let now = Timestamp::from_seconds(1_700_000_000 - step / 5_000);
            let id = ids.next(now, 0);
            assert!(id > last, "{id} after {last}");
            assert_eq!(id.get_version_num(), 7);
            last = id;
        }
    }

    #[test]
    fn a_delivery_id_depends_on_all_it_is_made_of() {
        let (at, later) = (
            Timestamp::from_seconds(1_700_000_000),
            Timestamp::from_seconds(1_700_000_001),
        );
        let [event, a, b] = [1, 2, 3].map(Uuid::from_u128);
        let id = delivery_id(at, event, a, 0);
        assert_eq!(delivery_id(at, event, a, 0), id);
        assert_eq!(id.get_version_num(), 7);
        let others = [
            delivery_id(at, event, b, 0),
            delivery_id(at, a, event, 0),
            delivery_id(at, event, a, 1),
            delivery_id(later, event, a, 0),
        ];
        assert!(!others.contains(&id));
        assert!(delivery_id(later, event, a, 0) > delivery_id(at, b, a, 7));
        assert!(first_id(at) < id && id < first_id(later));
    }
}

//! Requests that must have one answer only, although the client may send them twice.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The requests of a process that are under way.
///
/// Each has a place of its own, where a shard keeps the answer. So there are no more answers kept than requests at a
/// time, and none is overwritten whose request may still be sent again.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    last: AtomicU64,
    places: Mutex<BTreeSet<usize>>,
}

/// A request under way. Its place is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    requests: &'a Requests,
    place: usize,
    number: u64,
}

impl Requests {
    pub(crate) fn next(&self) -> Request<'_> {
        let mut places = self.places();
        let place = (0..)
            .zip(places.iter())
            .find(|(free, taken)| free != *taken);
        let place = place.map_or(places.len(), |(free, _)| free);
        places.insert(place);
        drop(places);
        Request {
            requests: self,
            place,
            number: self.last.fetch_add(1, Ordering::Relaxed),
        }
    }

    fn places(&self) -> MutexGuard<'_, BTreeSet<usize>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Request<'_> {
    pub(crate) fn place(&self) -> usize {
        self.place
    }

    /// No other request of this process has it.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }
}

impl Drop for Request<'_> {
    fn drop(&mut self) {
        self.requests.places().remove(&self.place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_share_neither_number_nor_place_while_they_last() {
        let requests = Requests::default();
        let [one, two, three] = [requests.next(), requests.next(), requests.next()];
        assert_eq!([one.place(), two.place(), three.place()], [0, 1, 2]);
        drop(two);
        let four = requests.next();
        assert_eq!((four.place(), four.number()), (1, 3));
        assert_eq!(requests.next().place(), 3);
        drop((one, three, four));
        assert_eq!(requests.next().place(), 0);
    }
}

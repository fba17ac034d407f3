//! Lets an event be handled once, however often it is sent.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use crate::error::{Error, ErrorKind, Result};
use crate::time::Timestamp;

/// Remembers which events were handled, by `webhook-id`.
///
/// Webhooks come at least once: a sender that did not hear our 2xx sends again. An event is marked
/// when its handler has succeeded, never before, or a retry after our 500 would be taken for done.
///
/// The contract:
/// - [`begin`](Self::begin) is one atomic step: of concurrent calls with one id, one gets
///   [`Begin::New`] and, until it is finished, all others get [`Begin::InProgress`].
/// - A [`Handling`] that is dropped lets the event in again: a handler that failed, panicked, or whose
///   client went away has not handled it. A backend that cannot reach its store in `drop`, or dies,
///   keeps handlings under a lease that runs out.
/// - A confirmed id is [`Begin::Done`] for as long as its sender may repeat it.
///
/// It is still *at least* once: a process that dies after the handler and before
/// [`confirm`](Handling::confirm) runs the handler again. A handler that must not do so commits the id
/// together with its own effects, in one transaction.
///
/// Check the signature first: an id that anybody may claim to have handled protects nobody.
///
/// ```
/// use std::time::Duration;
/// use webhook_core::{Begin, Deduplicator, MemoryDeduplicator, Timestamp};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> webhook_core::Result<()> {
/// # let now = Timestamp::EPOCH;
/// # async fn handle() -> Result<(), ()> { Ok(()) }
/// let events = MemoryDeduplicator::new(100_000, Duration::from_secs(7 * 86_400));
///
/// let status = match events.begin("evt_1", now).await? {
///     Begin::New(handling) => match handle().await {
///         Ok(()) => {
///             handling.confirm(now).await?;
///             200
///         }
///         Err(()) => {
///             handling.release().await?;
///             500 // the sender tries again
///         }
///     },
///     Begin::InProgress => 409, // the sender tries again, and will hear how it ended
///     Begin::Done => 200,
/// };
/// assert_eq!(status, 200);
/// assert!(matches!(events.begin("evt_1", now).await?, Begin::Done));
/// # Ok(())
/// # }
/// ```
#[async_trait]
pub trait Deduplicator: Send + Sync {
    /// Asks to handle the event `id`; `now` is the receiver's time.
    ///
    /// # Errors
    /// When it cannot tell. The event must then not be handled; answer 503.
    async fn begin(&self, id: &str, now: Timestamp) -> Result<Begin>;
}

/// Shares a deduplicator, between the receivers before and after a change of keys for example.
#[async_trait]
impl<D: Deduplicator + ?Sized> Deduplicator for Arc<D> {
    async fn begin(&self, id: &str, now: Timestamp) -> Result<Begin> {
        (**self).begin(id, now).await
    }
}

/// What to do with an event that came.
pub enum Begin {
    /// Handle it, then confirm or release.
    New(Box<dyn Handling>),
    /// It is being handled right now, by another request. Answer 409: it may still fail, so 200 could
    /// lose the event, and the sender will try again.
    InProgress,
    /// It was handled. Answer 200 and do nothing.
    Done,
}

/// An event in its handler's hands. **Dropping it lets the event in again.**
#[async_trait]
pub trait Handling: Send {
    /// The handler succeeded: the event is done.
    ///
    /// # Errors
    /// When it could not be remembered; the event may be handled again.
    async fn confirm(self: Box<Self>, now: Timestamp) -> Result<()>;

    /// The handler failed: lets the event in again, at once.
    ///
    /// # Errors
    /// When it could not be undone; the event is let in when its lease runs out.
    async fn release(self: Box<Self>) -> Result<()>;
}

/// A deduplicator for one process, in memory; a clone shares it.
///
/// Remembers events for a given time, and up to a given number: beyond it the ones handled first are
/// forgotten first, so that a burst costs memory of old events, not new ones. Events in progress are
/// never forgotten; if they alone fill it, it fails as [`ErrorKind::Unavailable`].
#[derive(Clone)]
pub struct MemoryDeduplicator {
    events: Arc<Mutex<Events>>,
    max_entries: usize,
    ttl: Duration,
}

#[derive(Default)]
struct Events {
    by_id: HashMap<Arc<str>, State>,
    /// Done events in the order in which they were done.
    done: VecDeque<(Arc<str>, Timestamp)>,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    InProgress,
    Done { until: Timestamp },
}

struct MemoryHandling {
    events: Arc<Mutex<Events>>,
    id: Arc<str>,
    ttl: Duration,
    confirmed: bool,
}

impl MemoryDeduplicator {
    /// Remembers up to `max_entries` events, each for `ttl` after it was handled.
    ///
    /// Make `ttl` longer than the sender keeps trying, replays by hand included: a week is safe with
    /// most.
    #[must_use]
    pub fn new(max_entries: usize, ttl: Duration) -> Self {
        Self {
            events: Arc::default(),
            max_entries,
            ttl,
        }
    }
}

#[async_trait]
impl Deduplicator for MemoryDeduplicator {
    async fn begin(&self, id: &str, now: Timestamp) -> Result<Begin> {
        let mut events = lock(&self.events);
        events.expire(now);
        match events.by_id.get(id) {
            Some(State::InProgress) => return Ok(Begin::InProgress),
            Some(State::Done { .. }) => return Ok(Begin::Done),
            None => {}
        }
        if !events.make_room(self.max_entries) {
            return Err(Error::new(ErrorKind::Unavailable, "begin"));
        }
        let id: Arc<str> = id.into();
        events.by_id.insert(Arc::clone(&id), State::InProgress);
        Ok(Begin::New(Box::new(MemoryHandling {
            events: Arc::clone(&self.events),
            id,
            ttl: self.ttl,
            confirmed: false,
        })))
    }
}

#[async_trait]
impl Handling for MemoryHandling {
    async fn confirm(mut self: Box<Self>, now: Timestamp) -> Result<()> {
        let until = now + self.ttl;
        let mut events = lock(&self.events);
        events
            .by_id
            .insert(Arc::clone(&self.id), State::Done { until });
        events.done.push_back((Arc::clone(&self.id), until));
        drop(events);
        self.confirmed = true;
        Ok(())
    }

    async fn release(self: Box<Self>) -> Result<()> {
        Ok(()) // Dropping it does it.
    }
}

impl Drop for MemoryHandling {
    fn drop(&mut self) {
        if !self.confirmed {
            lock(&self.events).by_id.remove(&self.id);
        }
    }
}

impl Events {
    fn expire(&mut self, now: Timestamp) {
        while self.done.front().is_some_and(|(_, until)| *until < now) {
            self.forget_first();
        }
    }

    /// Forgets the events done first until one more fits; `false` if only unfinished ones are left.
    fn make_room(&mut self, max_entries: usize) -> bool {
        while self.by_id.len() >= max_entries && !self.done.is_empty() {
            self.forget_first();
        }
        self.by_id.len() < max_entries
    }

    fn forget_first(&mut self) {
        if let Some((id, _)) = self.done.pop_front() {
            self.by_id.remove(&id);
        }
    }
}

/// Every change under the lock is whole before anything can panic, so a poisoned one is still good.
fn lock(events: &Mutex<Events>) -> MutexGuard<'_, Events> {
    events.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for MemoryDeduplicator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryDeduplicator")
            .field("max_entries", &self.max_entries)
            .field("ttl", &self.ttl)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Begin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::New(_) => "New(..)",
            Self::InProgress => "InProgress",
            Self::Done => "Done",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_000);
    const TTL: Duration = Duration::from_secs(60);

    async fn begin(events: &MemoryDeduplicator, id: &str) -> Begin {
        events.begin(id, NOW).await.unwrap()
    }

    async fn handle(events: &MemoryDeduplicator, id: &str) {
        match begin(events, id).await {
            Begin::New(handling) => handling.confirm(NOW).await.unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn an_event_is_in_progress_until_its_handler_succeeds() {
        let events = MemoryDeduplicator::new(10, TTL);
        let Begin::New(handling) = begin(&events, "a").await else {
            panic!("the first is new");
        };
        assert!(matches!(begin(&events, "a").await, Begin::InProgress));
        assert!(matches!(begin(&events, "b").await, Begin::New(_)));
        handling.confirm(NOW).await.unwrap();
        assert!(matches!(begin(&events, "a").await, Begin::Done));
    }

    #[tokio::test]
    async fn a_released_or_dropped_event_is_let_in_again() {
        let events = MemoryDeduplicator::new(10, TTL);
        match begin(&events, "a").await {
            Begin::New(handling) => handling.release().await.unwrap(),
            other => panic!("{other:?}"),
        }
        match begin(&events, "a").await {
            Begin::New(handling) => drop(handling),
            other => panic!("{other:?}"),
        }
        assert!(matches!(begin(&events, "a").await, Begin::New(_)));
    }

    #[tokio::test]
    async fn a_panicking_handler_leaves_the_event_for_the_next_try() {
        let events = MemoryDeduplicator::new(10, TTL);
        let shared = events.clone();
        let handler = tokio::spawn(async move {
            let _handling = begin(&shared, "a").await;
            panic!("planted");
        });
        assert!(handler.await.unwrap_err().is_panic());
        assert!(matches!(begin(&events, "a").await, Begin::New(_)));
    }

    #[tokio::test]
    async fn done_events_are_forgotten_after_their_time() {
        let events = MemoryDeduplicator::new(10, TTL);
        handle(&events, "a").await;
        let end = NOW + TTL;
        assert!(matches!(events.begin("a", end).await, Ok(Begin::Done)));
        let after = end + Duration::from_micros(1);
        assert!(matches!(events.begin("a", after).await, Ok(Begin::New(_))));
    }

    #[tokio::test]
    async fn a_full_memory_forgets_done_events_first_to_last_and_never_unfinished_ones() {
        let events = MemoryDeduplicator::new(2, TTL);
        handle(&events, "a").await;
        handle(&events, "b").await;
        let c = begin(&events, "c").await;
        assert!(matches!(begin(&events, "b").await, Begin::Done));
        let a = begin(&events, "a").await;
        let full = events.begin("d", NOW).await.unwrap_err();
        assert!(full.is_retryable());
        assert!(matches!(begin(&events, "a").await, Begin::InProgress));
        assert!(matches!(begin(&events, "c").await, Begin::InProgress));
        drop((a, c));
    }
}

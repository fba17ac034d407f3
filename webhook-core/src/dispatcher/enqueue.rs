//! The way in: events are checked, stamped and inserted. Concurrent calls share an insert.
//!
//! The first caller inserts its own event at once. Events that arrive meanwhile wait, and go into the next insert together. So
//! nothing waits while the store is idle, and batches grow as it gets busy. If the store is faster with several inserts at once,
//! and enough events wait, another insert begins beside those under way.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tracing::Instrument;
use uuid::Uuid;

use super::locked::{Locked, is_locked, locked};
use super::meter::{batch_reason, reason};
use super::{Engine, spans};
use crate::error::{Error, ErrorKind};
use crate::event::{Event, InvalidEvent, NewEvent};
use crate::queue::Job;
use crate::store::{Inserted, Insertion, OnConflict};
use crate::time::Timestamp;

/// The most events of one [`enqueue_batch`](super::Dispatcher::enqueue_batch).
pub const MAX_BATCH: usize = 1_000;

/// The most events of one shared insert.
const MAX_SHARED: usize = 500;
/// How many must wait for another insert to begin beside one that is under way: what a statement costs by itself is
/// small then beside its rows.
const WORTH_ANOTHER: usize = 16;
/// The most events that wait for their insert; more callers wait for a place.
const MAX_WAITING: usize = 10_000;
/// How long a caller waits for a place before it hears [`EnqueueError::Overloaded`]; and how long one that has a place
/// waits on once the store has failed another.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why an event was not accepted.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnqueueError {
    /// The event itself is at fault; it will never be accepted.
    #[error(transparent)]
    Invalid(#[from] InvalidEvent),
    /// The idempotency key stands for another event, with other content.
    #[error("the idempotency key was used for another event")]
    IdempotencyConflict {
        /// The event that the key stands for.
        event_id: Uuid,
    },
    /// Too many events wait to be stored. Nothing was accepted; try later.
    #[error("too many events wait to be stored")]
    Overloaded,
    /// The store failed. It may or may not have the event: enqueue again, with an idempotency key if
    /// doubles matter.
    #[error("the event could not be stored")]
    Store(#[from] Error),
}

impl EnqueueError {
    /// Whether the same call may succeed later. An error of the store leaves it open whether the event was accepted:
    /// repeat the call with the idempotency key that it had.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Invalid(_) | Self::IdempotencyConflict { .. } => false,
            Self::Overloaded => true,
            Self::Store(error) => error.is_retryable(),
        }
    }
}

/// Why a batch was not accepted: all of it, or nothing, is.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// The batch is larger than [`MAX_BATCH`].
    #[error("a batch has at most {MAX_BATCH} events")]
    TooMany,
    /// One of its events is at fault.
    #[error("event {index} was not accepted")]
    Event {
        /// Its place in the batch, from 0.
        index: usize,
        /// What is wrong with it.
        source: EnqueueError,
    },
    /// The store failed. It may or may not have the events, but never some of them: enqueue the batch again, with
    /// idempotency keys if doubles matter.
    #[error("the events could not be stored")]
    Store(#[from] Error),
}

impl Engine {
    pub(super) async fn enqueue(
        self: Arc<Self>,
        mut event: NewEvent,
    ) -> Result<Uuid, EnqueueError> {
        let began = self.clock.now();
        let span = self.enqueue_span(std::slice::from_mut(&mut event));
        let accepted = self.enqueue_one(event).instrument(span.clone()).await;
        spans::enqueued(&span, one_accepted(&accepted));
        let took = self.clock.now().since(began);
        self.meter.enqueued(took, accepted.as_ref().err());
        accepted
    }

    async fn enqueue_one(self: &Arc<Self>, event: NewEvent) -> Result<Uuid, EnqueueError> {
        let event = self.stamp(event)?;
        self.schemas().await?.check(&event)?;
        let id = event.id;
        accept(id, self.share_insert(event).await?)
    }

    pub(super) async fn enqueue_batch(
        self: Arc<Self>,
        mut events: Vec<NewEvent>,
    ) -> Result<Vec<Uuid>, BatchError> {
        let began = self.clock.now();
        let span = self.enqueue_span(&mut events);
        let enqueued = self.enqueue_together(events);
        let accepted = enqueued.instrument(span.clone()).await;
        let told = accepted.as_deref().map_err(batch_reason);
        spans::enqueued(&span, told);
        let took = self.clock.now().since(began);
        self.meter.batch_enqueued(took, accepted.as_ref().err());
        accepted
    }

    async fn enqueue_together(
        self: &Arc<Self>,
        events: Vec<NewEvent>,
    ) -> Result<Vec<Uuid>, BatchError> {
        if events.len() > MAX_BATCH {
            return Err(BatchError::TooMany);
        }
        let at = |index: usize| move |source: EnqueueError| BatchError::Event { index, source };
        let stamp = |(index, event)| {
            self.stamp(event)
                .map_err(|invalid| at(index)(invalid.into()))
        };
        let events = events
            .into_iter()
            .enumerate()
            .map(stamp)
            .collect::<Result<Vec<_>, _>>()?;
        let schemas = self.schemas().await?;
        for (index, event) in events.iter().enumerate() {
            schemas.check(event).map_err(at(index))?;
        }
        let ids: Vec<_> = events.iter().map(|event| event.id).collect();
        let inserted = self.insert_for_caller(events, OnConflict::Abort).await?;
        let ids = ids.into_iter().zip(inserted).enumerate();
        ids.map(|(index, (id, inserted))| accept(id, inserted).map_err(at(index)))
            .collect()
    }

    /// Gives an event its id, its time and its body.
    pub(super) fn stamp(&self, event: NewEvent) -> Result<Event, InvalidEvent> {
        let mut event = event.stamp(self.new_id(), self.clock.now());
        if let Some(key) = &mut event.idempotency {
            key.window = self.config.idempotency_window;
        }
        match event.body.len() {
            size if size > self.config.max_payload => Err(InvalidEvent::TooLarge {
                size,
                limit: self.config.max_payload,
            }),
            _ => Ok(event),
        }
    }

    /// Inserts at once, or together with others if an insert is under way.
    async fn share_insert(self: &Arc<Self>, event: Event) -> Result<Inserted, EnqueueError> {
        let keyed = event.idempotency.is_some();
        if keyed && self.intake.locked.knows(&event) {
            return Ok(self.insert_locked(event).await?);
        }
        let turn = self.intake.of(keyed).join(event, self).await?;
        match turn {
            Turn::Now(event) => {
                let turn = HandOver::begun(self, keyed);
                let kept = keyed.then(|| event.clone());
                let insert = self.insert_for_caller(vec![event], OnConflict::Skip);
                let inserted = insert.await.and_then(|one| only(&one));
                drop(turn);
                match kept.filter(|_| is_locked(&inserted)) {
                    Some(event) => Ok(self.insert_locked(event).await?),
                    None => Ok(inserted?),
                }
            }
            Turn::Later { answer, another } => {
                if another {
                    drop(HandOver::begun(self, keyed));
                }
                match answer.await {
                    Ok(inserted) => Ok(inserted?),
                    Err(_) => Err(Error::new(ErrorKind::Internal, "insert_events").into()),
                }
            }
        }
    }

    /// Inserts what waits in a line, batch after batch, until nothing does.
    async fn insert_waiting(self: Arc<Self>, mut turn: HandOver) {
        turn.begun = true;
        let keyed = turn.keyed;
        while let Some(batch) = self.intake.of(keyed).next_batch() {
            self.insert_batch(batch, keyed).await;
            // Whoever has just been answered may have more, which then goes along.
            tokio::task::yield_now().await;
        }
        turn.held = false;
    }

    /// Inserts a batch; if it fails for another reason than the store being away, one by one, so that one
    /// bad event fails only its caller.
    async fn insert_batch(self: &Arc<Self>, batch: Vec<Waiting>, keyed: bool) {
        let (events, answers): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|one| (one.event, one.answer)).unzip();
        match self.insert(&events, OnConflict::Skip).await {
            Ok(inserted) if inserted.len() == events.len() => {
                for (answer, inserted) in answers.into_iter().zip(inserted) {
                    answer.send(Ok(inserted)).ok();
                }
            }
            Err(error) if error.kind() == ErrorKind::Locked => {
                self.insert_one_by_one(&events, answers, keyed).await;
            }
            Err(error) if error.is_retryable() => self.refuse(answers, &error, keyed),
            Err(error) if events.len() == 1 => {
                for answer in answers {
                    answer.send(Err(error.clone())).ok();
                }
            }
            Ok(_) | Err(_) => self.insert_one_by_one(&events, answers, keyed).await,
        }
    }

    async fn insert_one_by_one(
        self: &Arc<Self>,
        events: &[Event],
        answers: Vec<Answer>,
        keyed: bool,
    ) {
        let mut answers = answers.into_iter();
        for (event, answer) in events.iter().zip(answers.by_ref()) {
            let one = match self.intake.locked.knows(event) {
                true => Err(locked()),
                false => self.insert_one(event).await,
            };
            if is_locked(&one) {
                self.insert_beside(event, answer);
                continue;
            }
            let failure = one.as_ref().err().filter(|it| it.is_retryable()).cloned();
            answer.send(one).ok();
            if let Some(error) = failure {
                return self.refuse(answers, &error, keyed);
            }
        }
    }

    /// In a task of its own, as its key is held by another transaction.
    fn insert_beside(self: &Arc<Self>, event: &Event, answer: Answer) {
        let (engine, event) = (Arc::clone(self), event.clone());
        tokio::spawn(async move { answer.send(engine.insert_locked(event).await).ok() });
    }

    pub(super) async fn insert_one(self: &Arc<Self>, event: &Event) -> Result<Inserted, Error> {
        let one = self.insert(std::slice::from_ref(event), OnConflict::Skip);
        only(&one.await?)
    }

    /// Tells these callers, and those who have waited for long, that the store has failed.
    fn refuse(&self, answers: impl IntoIterator<Item = Answer>, error: &Error, keyed: bool) {
        let tired = self.intake.of(keyed).take_tired(self.clock.now());
        for answer in answers.into_iter().chain(tired) {
            answer.send(Err(error.clone())).ok();
        }
    }

    /// Tells a queue beside the store, without letting the caller wait for it. A push that fails is only a
    /// late one: the sweeper repeats it.
    pub(super) fn push(self: &Arc<Self>, jobs: Vec<Job>) {
        if self.has_index && !jobs.is_empty() {
            let engine = Arc::clone(self);
            tokio::spawn(async move { engine.push_now(&jobs).await });
        }
    }

    /// The same, for those who see to it that the queue knows before they go on.
    pub(super) async fn push_now(&self, jobs: &[Job]) {
        if let Err(error) = self.queue.push(jobs, self.clock.pinned()).await {
            tracing::warn!(%error, "jobs could not be pushed; the sweeper will");
            self.meter.repaired("failed_push", jobs.len());
            self.sweeper.look_again();
        }
    }
}

/// What a span is told of one event.
pub(super) fn one_accepted(accepted: &Result<Uuid, EnqueueError>) -> Result<&[Uuid], &'static str> {
    accepted.as_ref().map(std::slice::from_ref).map_err(reason)
}

fn only(inserted: &[Inserted]) -> Result<Inserted, Error> {
    inserted.first().copied().ok_or_else(short_answer)
}

/// A store that answers for fewer events than it was given is broken.
fn short_answer() -> Error {
    Error::new(ErrorKind::Internal, "insert_events")
}

fn accept(id: Uuid, inserted: Inserted) -> Result<Uuid, EnqueueError> {
    match inserted {
        Inserted::New => Ok(id),
        Inserted::Existing(first) => Ok(first),
        Inserted::Conflict(event_id) => Err(EnqueueError::IdempotencyConflict { event_id }),
    }
}

/// The id under which the only event of an insertion was accepted.
pub(super) fn accepted(id: Uuid, insertion: &Insertion) -> Result<Uuid, EnqueueError> {
    accept(
        id,
        insertion.events.first().copied().ok_or_else(short_answer)?,
    )
}

/// Where events wait for their insert. Those with idempotency keys go apart: such an insert may wait for
/// another transaction that holds the same key, and must not hold up the rest. If it waits for long, the event goes
/// apart from the other keys, too.
pub(super) struct Intake {
    plain: Line,
    keyed: Line,
    pub(super) locked: Locked,
}

impl Intake {
    /// For a store that makes so many inserts at once.
    pub(super) fn new(inserts: usize) -> Self {
        Self {
            plain: Line::new(inserts),
            keyed: Line::new(inserts),
            locked: Locked::new(),
        }
    }

    /// How many events wait.
    pub(super) fn waiting(&self) -> usize {
        let in_line = |line: &Line| line.state().waiting.len();
        in_line(&self.plain) + in_line(&self.keyed) + self.locked.waiting()
    }

    fn of(&self, keyed: bool) -> &Line {
        if keyed { &self.keyed } else { &self.plain }
    }
}

struct Line {
    state: Mutex<LineState>,
    places: Arc<Semaphore>,
}

struct LineState {
    waiting: Vec<Waiting>,
    /// How many inserts are under way, and how many may be.
    inserting: usize,
    most: usize,
}

type Answer = oneshot::Sender<Result<Inserted, Error>>;

struct Waiting {
    event: Event,
    since: Timestamp,
    answer: Answer,
    _place: OwnedSemaphorePermit,
}

#[allow(
    clippy::large_enum_variant,
    reason = "it lives for a moment, and nearly all are the larger one when idle"
)]
enum Turn {
    Now(Event),
    Later {
        answer: oneshot::Receiver<Result<Inserted, Error>>,
        /// Whether a turn was taken for those who wait, beside those under way.
        another: bool,
    },
}

impl Line {
    fn new(inserts: usize) -> Self {
        let state = LineState {
            waiting: Vec::new(),
            inserting: 0,
            most: inserts.max(1),
        };
        Self {
            state: Mutex::new(state),
            places: Arc::new(Semaphore::new(MAX_WAITING)),
        }
    }

    fn state(&self) -> MutexGuard<'_, LineState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the turn if nobody inserts, otherwise a place among the waiting.
    async fn join(&self, event: Event, engine: &Engine) -> Result<Turn, EnqueueError> {
        if self.state().take_idle_turn() {
            return Ok(Turn::Now(event));
        }
        let place = Arc::clone(&self.places).acquire_owned();
        let Some(Ok(place)) = engine.within(PATIENCE, place).await else {
            return Err(EnqueueError::Overloaded);
        };
        let since = engine.clock.now();
        let mut state = self.state();
        if state.take_idle_turn() {
            return Ok(Turn::Now(event));
        }
        let (sender, answer) = oneshot::channel();
        state.waiting.push(Waiting {
            event,
            since,
            answer: sender,
            _place: place,
        });
        let another = state.take_another_turn();
        Ok(Turn::Later { answer, another })
    }

    fn next_batch(&self) -> Option<Vec<Waiting>> {
        self.state().next_batch()
    }

    /// Those who have waited for so long that they are not to wait for another insert after one that failed: a store
    /// that hangs fails each after its own time limit, and thousands of callers would wait for one after the other.
    fn take_tired(&self, now: Timestamp) -> impl Iterator<Item = Answer> + use<> {
        let is_tired = |one: &mut Waiting| now.since(one.since) > PATIENCE;
        let tired: Vec<_> = self.state().waiting.extract_if(.., is_tired).collect();
        tired.into_iter().map(|one| one.answer)
    }
}

impl LineState {
    /// Takes the turn if nobody inserts.
    fn take_idle_turn(&mut self) -> bool {
        let is_idle = self.inserting == 0;
        self.inserting += usize::from(is_idle);
        is_idle
    }

    /// Takes one beside those under way, if enough wait.
    fn take_another_turn(&mut self) -> bool {
        let is_worth_it = self.inserting < self.most && self.waiting.len() >= WORTH_ANOTHER;
        self.inserting += usize::from(is_worth_it);
        is_worth_it
    }

    /// What is inserted next; `None` gives the turn back.
    fn next_batch(&mut self) -> Option<Vec<Waiting>> {
        let count = self.waiting.len().min(MAX_SHARED);
        let is_worth_it = self.inserting == 1 || count >= WORTH_ANOTHER / 2;
        if count == 0 || !is_worth_it {
            self.inserting -= 1;
            return None;
        }
        let mut batch: Vec<_> = self.waiting.drain(..count).collect();
        batch.sort_by(|a, b| key_of(&a.event).cmp(&key_of(&b.event)));
        Some(batch)
    }
}

/// Keys are inserted in one order everywhere, so that two batches cannot wait for each other.
fn key_of(event: &Event) -> Option<(&str, &str)> {
    event
        .idempotency
        .as_ref()
        .map(|idempotency| (event.tenant.as_str(), idempotency.key.as_str()))
}

/// Whoever has the turn hands it over when done, or when its caller gives up: those who wait are served by a
/// task of their own.
struct HandOver {
    engine: Arc<Engine>,
    keyed: bool,
    held: bool,
    /// Whether its task has run at all: a runtime that is shutting down drops tasks unseen.
    begun: bool,
}

impl HandOver {
    fn new(engine: &Arc<Engine>, keyed: bool) -> Self {
        Self {
            engine: Arc::clone(engine),
            keyed,
            held: true,
            begun: false,
        }
    }

    /// In a task that runs.
    fn begun(engine: &Arc<Engine>, keyed: bool) -> Self {
        let mut turn = Self::new(engine, keyed);
        turn.begun = true;
        turn
    }
}

impl Drop for HandOver {
    fn drop(&mut self) {
        if !self.held {
            return;
        }
        let mut state = self.engine.intake.of(self.keyed).state();
        match Handle::try_current() {
            Ok(runtime) if self.begun && !state.waiting.is_empty() => {
                drop(state);
                let turn = HandOver::new(&self.engine, self.keyed);
                runtime.spawn(Arc::clone(&self.engine).insert_waiting(turn));
            }
            // Nobody waits, or nobody can serve them: they hear an error.
            _ => {
                state.waiting.clear();
                state.inserting -= 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl LineState {
        /// So many more wait; answers for how many of them another insert begins.
        fn join(&mut self, count: usize, places: &Arc<Semaphore>) -> usize {
            let mut begun = 0;
            for _ in 0..count {
                let event = NewEvent::data("order.paid", "1").unwrap();
                self.waiting.push(Waiting {
                    event: event.stamp(Uuid::nil(), Timestamp::EPOCH),
                    since: Timestamp::EPOCH,
                    answer: oneshot::channel().0,
                    _place: Arc::clone(places).try_acquire_owned().unwrap(),
                });
                begun += usize::from(self.take_another_turn());
            }
            begun
        }
    }

    #[test]
    fn another_insert_begins_when_enough_wait_and_ends_when_few_do() {
        let line = Line::new(2);
        let mut state = line.state();
        assert!(state.take_idle_turn());
        assert!(!state.take_idle_turn());
        assert_eq!(state.join(WORTH_ANOTHER - 1, &line.places), 0);
        assert_eq!(state.join(WORTH_ANOTHER, &line.places), 1, "no third one");
        let batch = state.next_batch().expect("all that wait go together");
        assert_eq!(batch.len(), 2 * WORTH_ANOTHER - 1);

        state.join(WORTH_ANOTHER / 2 - 1, &line.places);
        assert!(state.next_batch().is_none(), "few are left to the other");
        assert_eq!(state.inserting, 1);
        assert!(state.next_batch().is_some());
        assert!(state.next_batch().is_none());
        assert!(state.take_idle_turn());
    }

    #[test]
    fn a_store_with_one_writer_gets_one_insert_at_a_time() {
        let line = Line::new(1);
        let mut state = line.state();
        assert!(state.take_idle_turn());
        assert_eq!(state.join(10 * WORTH_ANOTHER, &line.places), 0);
    }
}

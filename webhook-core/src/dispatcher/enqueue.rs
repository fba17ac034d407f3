//! The way in: events are checked, stamped and inserted, concurrent ones together.
//!
//! The first caller inserts its own event at once. Those who come while it does so wait, and go together in
//! the next insert. So nothing waits when the store is idle, and the batches grow as it gets busy.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tracing::Instrument;
use uuid::Uuid;

use super::meter::{batch_reason, reason};
use super::{Engine, spans};
use crate::error::{Error, ErrorKind};
use crate::event::{Event, InvalidEvent, NewEvent};
use crate::queue::Job;
use crate::store::{Inserted, Insertion, OnConflict};

/// The most events of one [`enqueue_batch`](super::Dispatcher::enqueue_batch).
pub const MAX_BATCH: usize = 1_000;

/// The most events of one shared insert.
const MAX_SHARED: usize = 500;
/// The most events that wait for their insert; more callers wait for a place.
const MAX_WAITING: usize = 10_000;
/// How long a caller waits for a place before it hears [`EnqueueError::Overloaded`].
const PLACE_TIMEOUT: Duration = Duration::from_secs(5);

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
    /// More events wait than the store can take; try later.
    #[error("too many events wait to be stored")]
    Overloaded,
    /// The store failed. It may or may not have the event: enqueue again, with an idempotency key if
    /// doubles matter.
    #[error("the event could not be stored")]
    Store(#[from] Error),
}

/// Why a batch was not accepted. None of its events was.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// The batch is larger than [`MAX_BATCH`].
    #[error("a batch has at most {MAX_BATCH} events")]
    TooMany,
    /// One of its events is at fault.
    #[error("event {index}: {source}")]
    Event {
        /// Its place in the batch, from 0.
        index: usize,
        /// What is wrong with it.
        source: EnqueueError,
    },
    /// The store failed.
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
        let line = self.intake.line(&event);
        let turn = line.join(event, self).await?;
        match turn {
            Turn::Now(event) => {
                let mut turn = HandOver::new(self, event.idempotency.is_some());
                turn.begun = true;
                let inserted = self
                    .insert_for_caller(vec![event], OnConflict::Skip)
                    .await?;
                inserted
                    .first()
                    .copied()
                    .ok_or_else(short_answer)
                    .map_err(Into::into)
            }
            Turn::Later(answer) => match answer.await {
                Ok(inserted) => Ok(inserted?),
                Err(_) => Err(Error::new(ErrorKind::Internal, "insert_events").into()),
            },
        }
    }

    /// Inserts what waits in a line, batch after batch, until nothing does.
    async fn insert_waiting(self: Arc<Self>, mut turn: HandOver) {
        turn.begun = true;
        let keyed = turn.keyed;
        while let Some(batch) = self.intake.of(keyed).next_batch() {
            self.insert_batch(batch).await;
            // Whoever has just been answered may have more, which then goes along.
            tokio::task::yield_now().await;
        }
        turn.held = false;
    }

    /// Inserts a batch; if it fails for another reason than the store being away, one by one, so that one
    /// bad event fails only its caller.
    async fn insert_batch(self: &Arc<Self>, batch: Vec<Waiting>) {
        let (events, answers): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|one| (one.event, one.answer)).unzip();
        match self.insert(&events, OnConflict::Skip).await {
            Ok(inserted) if inserted.len() == events.len() => {
                for (answer, inserted) in answers.into_iter().zip(inserted) {
                    answer.send(Ok(inserted)).ok();
                }
            }
            Err(error) if error.is_retryable() || events.len() == 1 => {
                for answer in answers {
                    answer.send(Err(error.clone())).ok();
                }
            }
            Ok(_) | Err(_) => {
                for (event, answer) in events.iter().zip(answers) {
                    let event = std::slice::from_ref(event);
                    let one = self.insert(event, OnConflict::Skip).await;
                    let one = one.and_then(|one| one.first().copied().ok_or_else(short_answer));
                    answer.send(one).ok();
                }
            }
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
/// another transaction that holds the same key, and must not hold up the rest.
pub(super) struct Intake {
    plain: Line,
    keyed: Line,
}

impl Intake {
    pub(super) fn new() -> Self {
        Self {
            plain: Line::new(),
            keyed: Line::new(),
        }
    }

    /// How many events wait.
    pub(super) fn waiting(&self) -> usize {
        [&self.plain, &self.keyed]
            .map(|line| line.state().waiting.len())
            .iter()
            .sum()
    }

    fn line(&self, event: &Event) -> &Line {
        self.of(event.idempotency.is_some())
    }

    fn of(&self, keyed: bool) -> &Line {
        if keyed { &self.keyed } else { &self.plain }
    }
}

struct Line {
    state: Mutex<LineState>,
    places: Arc<Semaphore>,
}

#[derive(Default)]
struct LineState {
    waiting: Vec<Waiting>,
    inserting: bool,
}

struct Waiting {
    event: Event,
    answer: oneshot::Sender<Result<Inserted, Error>>,
    _place: OwnedSemaphorePermit,
}

#[allow(
    clippy::large_enum_variant,
    reason = "it lives for a moment, and nearly all are the larger one when idle"
)]
enum Turn {
    Now(Event),
    Later(oneshot::Receiver<Result<Inserted, Error>>),
}

impl Line {
    fn new() -> Self {
        Self {
            state: Mutex::default(),
            places: Arc::new(Semaphore::new(MAX_WAITING)),
        }
    }

    fn state(&self) -> MutexGuard<'_, LineState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the turn if nobody inserts, otherwise a place among the waiting.
    async fn join(&self, event: Event, engine: &Engine) -> Result<Turn, EnqueueError> {
        if self.take_turn() {
            return Ok(Turn::Now(event));
        }
        let place = Arc::clone(&self.places).acquire_owned();
        let Some(Ok(place)) = engine.within(PLACE_TIMEOUT, place).await else {
            return Err(EnqueueError::Overloaded);
        };
        let mut state = self.state();
        if !state.inserting {
            state.inserting = true;
            return Ok(Turn::Now(event));
        }
        let (answer, later) = oneshot::channel();
        state.waiting.push(Waiting {
            event,
            answer,
            _place: place,
        });
        Ok(Turn::Later(later))
    }

    fn take_turn(&self) -> bool {
        !std::mem::replace(&mut self.state().inserting, true)
    }

    /// What is inserted next; `None` gives the turn back.
    fn next_batch(&self) -> Option<Vec<Waiting>> {
        let mut state = self.state();
        let count = state.waiting.len().min(MAX_SHARED);
        if count == 0 {
            state.inserting = false;
            return None;
        }
        let mut batch: Vec<_> = state.waiting.drain(..count).collect();
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
                state.inserting = false;
            }
        }
    }
}

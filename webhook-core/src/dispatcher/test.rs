//! Tests of endpoints: one attempt, made by whichever process claims it.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

use super::audit::Deed;
use super::{Endpoints, Engine, EnqueueError, ManageError};
use crate::audit::AuditAction;
use crate::delivery::{Attempt, Delivery};
use crate::endpoint::{Endpoint, EndpointState};
use crate::error::Error;
use crate::event::{Event, EventType, NewEvent};
use crate::health::BreakerState;
use crate::id::as_test;
use crate::tenant::Scope;

/// The type of a test event, unless one is given.
const EVENT_TYPE: &str = "webhook.test";
/// The data of a test event, unless some is given.
const DATA: &str = r#"{"test":true}"#;
/// How long the outcome is awaited beyond the time that an attempt may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many tests of a process may wait for their outcomes at once.
const MOST: usize = 32;
/// The first pause before the outcome is looked for again. Each further pause is twice as long, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// The event with which an endpoint is tested. [`Default`] has the type `webhook.test` and the data `{"test":true}`.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct TestEvent {
    /// Its type, whether the endpoint wants this type or not.
    pub event_type: Option<EventType>,
    /// Its data, as JSON text. Without it, the catalogue's example for the type is sent.
    pub data: Option<Bytes>,
}

/// The result of a test.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Tested {
    /// The test event.
    pub event_id: Uuid,
    /// Its delivery.
    pub delivery_id: Uuid,
    /// The delivery, if it has ended in time; `None` if not. Even then it is tried, once.
    pub ended: Option<Delivery>,
    /// The attempt that was made.
    pub attempt: Option<Attempt>,
}

impl Endpoints<'_> {
    /// Sends an event to one endpoint, to see what it answers. Waits for the answer for the time that an attempt may take, and
    /// five seconds more. Some process must [`run`](super::Dispatcher::run).
    ///
    /// The event and its delivery go out like others: signed, guarded, and when it is the lane's turn. But the event goes only to
    /// this endpoint, whatever event types that wants, and is tried once. Its outcome does not hold or disable the endpoint, no
    /// statistics count it, and no bulk replay selects it. See [`Event::is_test`].
    ///
    /// In a process, there may be one test of an endpoint at a time, and 32 in all.
    ///
    /// # Errors
    /// When there is no such endpoint in the scope, it is paused or disabled, its circuit breaker is open, another test of
    /// it or too many others are under way, the event is not allowed or does not fit the schema of its type, or the
    /// store fails.
    pub async fn test(&self, id: Uuid, test: TestEvent) -> Result<Tested, ManageError> {
        let endpoint = self.get(id).await?;
        let engine = self.engine;
        let event = engine.test_event(&endpoint, test).await?;
        let now = engine.clock.pinned();
        let _turn = engine.tests.begin(id)?;
        let job = match endpoint.state {
            EndpointState::Enabled if self.is_left_alone(id).await? => {
                return Err(ManageError::Conflict(
                    "the endpoint's circuit breaker is open, and nothing goes out: close it to test it",
                ));
            }
            EndpointState::Enabled => engine.store.insert_test(&event, id, now).await?,
            EndpointState::Paused | EndpointState::Disabled => None,
        };
        let job = job.ok_or(ManageError::Conflict(
            "the endpoint is paused or disabled, and gets nothing; enable it to test it",
        ))?;
        let tested = Tested {
            event_id: event.id,
            delivery_id: job.delivery,
            ended: None,
            attempt: None,
        };
        engine.push_replayed(std::slice::from_ref(&job)).await;
        let deed = Deed::new(AuditAction::EndpointTest, &id).of(Some(endpoint.tenant.clone()));
        let deed = deed.detail(event.event_type.as_str());
        engine.write_down(&self.actor, deed).await;
        let patience = engine.timeout_of(&endpoint) + PATIENCE;
        Ok(engine.await_end(tested, patience).await)
    }

    /// Whether the breaker is open, so that an attempt would wait longer than the caller does.
    async fn is_left_alone(&self, id: Uuid) -> Result<bool, ManageError> {
        let health = self.health(&[id]).await?;
        let breaker = health.get(&id).map(|it| it.breaker);
        Ok(matches!(breaker, Some(BreakerState::Open(_))))
    }
}

/// The endpoints whose tests are under way in this process.
#[derive(Default)]
pub(super) struct Tests(Mutex<HashSet<Uuid>>);

/// A test under way, until dropped.
struct Turn<'a> {
    tests: &'a Tests,
    endpoint: Uuid,
}

impl Tests {
    fn begin(&self, endpoint: Uuid) -> Result<Turn<'_>, ManageError> {
        let mut under_way = self.under_way();
        if under_way.contains(&endpoint) {
            return Err(ManageError::Conflict(
                "a test of this endpoint is under way: wait for what comes of it",
            ));
        }
        if under_way.len() >= MOST {
            return Err(ManageError::Overloaded(
                "too many tests are under way; try again",
            ));
        }
        under_way.insert(endpoint);
        let tests = self;
        Ok(Turn { tests, endpoint })
    }

    fn under_way(&self) -> MutexGuard<'_, HashSet<Uuid>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.tests.under_way().remove(&self.endpoint);
    }
}

impl Engine {
    async fn test_event(&self, endpoint: &Endpoint, test: TestEvent) -> Result<Event, ManageError> {
        let event_type = match test.event_type {
            Some(event_type) => event_type,
            None => EventType::new(EVENT_TYPE)?,
        };
        let data = match test.data {
            Some(data) => data,
            None => self.example_of(&event_type).await?,
        };
        let event = NewEvent::data(event_type.as_str(), data)?.tenant(endpoint.tenant.clone());
        let mut event = self.stamp(event)?;
        event.id = as_test(event.id);
        match self.schemas().await?.check(&event) {
            Ok(()) => Ok(event),
            Err(EnqueueError::Invalid(invalid)) => Err(invalid.into()),
            Err(EnqueueError::Store(error)) => Err(error.into()),
            Err(_) => Err(ManageError::Conflict("the event cannot be accepted now")),
        }
    }

    async fn example_of(&self, event_type: &EventType) -> Result<Bytes, Error> {
        let entry = self.store.event_type(event_type).await?;
        let example = entry.and_then(|entry| entry.example);
        Ok(example.map_or(Bytes::from_static(DATA.as_bytes()), |text| {
            Bytes::copy_from_slice(text.as_bytes())
        }))
    }

    /// Looks from time to time whether a test has ended. If the store fails, looks again later.
    async fn await_end(&self, mut tested: Tested, patience: Duration) -> Tested {
        let deadline = self.clock.now() + patience;
        let mut pause = FIRST_PAUSE;
        loop {
            let (id, all) = (tested.delivery_id, Scope::All);
            if let Ok(Some(delivery)) = self.store.delivery(&all, id).await
                && delivery.status.is_final()
                && let Ok(attempts) = self.store.attempts(&all, id).await
            {
                tested.attempt = attempts.into_iter().next_back();
                tested.ended = Some(delivery);
                return tested;
            }
            let left = deadline.since(self.clock.now());
            if left.is_zero() {
                return tested;
            }
            self.clock.sleep(pause.min(left)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

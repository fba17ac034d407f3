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

/// The type of a test event that names none.
const EVENT_TYPE: &str = "webhook.test";
/// The data of a test event that has none.
const DATA: &str = r#"{"test":true}"#;
/// How much longer than an attempt may take its outcome is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many tests of a process may wait for their outcomes at once.
const MOST: usize = 32;
/// The pause before the outcome is looked for again; each is twice as long as the one before, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// What an endpoint is tested with. [`Default`] is an event of the type `webhook.test` with the data `{"test":true}`.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct TestEvent {
    /// Its type, whether the endpoint wants that or not.
    pub event_type: Option<EventType>,
    /// Its data, as JSON text; unless given, what the catalogue has as the example of the type.
    pub data: Option<Bytes>,
}

/// What came of a test.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Tested {
    /// The test event.
    pub event_id: Uuid,
    /// Its delivery.
    pub delivery_id: Uuid,
    /// The delivery, once it has ended; `None` if it had not in time. It is tried all the same, once.
    pub ended: Option<Delivery>,
    /// The attempt that was made.
    pub attempt: Option<Attempt>,
}

impl Endpoints<'_> {
    /// Sends an event to one endpoint, to see what it answers. Waits for that for as long as an attempt may take, and
    /// five seconds; some process must [`run`](super::Dispatcher::run).
    ///
    /// It is an event and a delivery as any, and goes out as any: signed, guarded, in its lane's turn. But it goes to
    /// this endpoint only, whatever that wants, and is tried once; nothing that comes back holds or disables the
    /// endpoint, no statistics count it, and no bulk replay selects it. See [`Event::is_test`].
    ///
    /// A process waits for one test of an endpoint at a time, and for 32 in all.
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

    /// Whether an attempt would have to wait for the breaker, longer than anybody waits for its outcome.
    async fn is_left_alone(&self, id: Uuid) -> Result<bool, ManageError> {
        let health = self.health(&[id]).await?;
        let breaker = health.get(&id).map(|it| it.breaker);
        Ok(matches!(breaker, Some(BreakerState::Open(_))))
    }
}

/// The endpoints of whose tests this process awaits the outcome.
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

    /// Looks now and then whether a test has ended. A store that fails meanwhile has not said so yet.
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

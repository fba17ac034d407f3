//! The schemas of event types, as this process knows them.
//!
//! About once a second, a caller that enqueues asks the store whether a schema has changed, and all callers of that second use
//! the answer. So a process that enqueues nothing asks for nothing, and every process obeys a change within a second.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use hashbrown::HashMap;

use super::{Engine, EnqueueError};
use crate::catalogue::{SchemaViolation, Schemas};
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Event, EventType, InvalidEvent};
use crate::schema::Schema;
use crate::store::TxStore;
use crate::time::Timestamp;

/// How old an answer of the store may be.
const MAX_AGE: Duration = Duration::from_secs(1);
/// No catalogue has this version.
const UNKNOWN: i64 = -1;

/// What is known of the catalogue.
pub(super) struct Known {
    state: Mutex<State>,
    /// One asks, those who come meanwhile wait for the answer.
    asking: tokio::sync::Mutex<()>,
    /// When the store was asked last and failed, and how.
    failed: Mutex<Option<(Timestamp, Error)>>,
}

struct State {
    version: i64,
    asked_at: Option<Timestamp>,
    schemas: Current,
}

/// The schemas by which events are accepted.
#[derive(Clone, Default)]
pub(super) struct Current(Arc<HashMap<EventType, Arc<Lazy>>>);

/// A schema, compiled by the first event of its type.
struct Lazy {
    text: Arc<str>,
    compiled: OnceLock<Result<Schema, String>>,
}

impl Default for Known {
    fn default() -> Self {
        Self {
            state: Mutex::new(State {
                version: UNKNOWN,
                asked_at: None,
                schemas: Current::default(),
            }),
            asking: tokio::sync::Mutex::default(),
            failed: Mutex::default(),
        }
    }
}

impl Known {
    fn fail(&self, at: Timestamp, error: &Error) {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        *failed = Some((at, error.clone()));
    }

    /// The failure of whoever asked after `began`, while others waited.
    fn failed_since(&self, began: Timestamp) -> Option<Error> {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, error) = failed.as_ref()?;
        (*at > began).then(|| error.clone())
    }

    /// Asks anew before the next event: this process has changed something.
    pub(super) fn forget(&self) {
        self.state().asked_at = None;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known, if it is young enough. A clock that was set back makes it old.
    fn young(&self, now: Timestamp) -> Option<Current> {
        let state = self.state();
        let asked_at = state.asked_at?;
        let is_young = asked_at <= now && now.since(asked_at) < MAX_AGE;
        is_young.then(|| state.schemas.clone())
    }

    fn version(&self) -> i64 {
        self.state().version
    }

    /// Takes an answer that was asked for at `asked_at`. One that is older than what is known changes nothing: a
    /// transaction may see the past.
    fn learn(&self, answer: Option<Schemas>, asked_at: Timestamp) -> Current {
        let mut state = self.state();
        if let Some(answer) = answer.filter(|answer| answer.version > state.version) {
            state.version = answer.version;
            state.schemas = state.schemas.followed_by(answer);
        }
        state.asked_at = Some(asked_at);
        state.schemas.clone()
    }
}

impl Current {
    /// What is compiled stays so, where the text is the same.
    fn followed_by(&self, answer: Schemas) -> Self {
        let lazy = |(name, text): (EventType, Arc<str>)| {
            let before = self.0.get(&name).filter(|before| before.text == text);
            let lazy = before.cloned().unwrap_or_else(|| {
                Arc::new(Lazy {
                    text,
                    compiled: OnceLock::new(),
                })
            });
            (name, lazy)
        };
        Self(Arc::new(answer.schemas.into_iter().map(lazy).collect()))
    }

    /// Whether an event may be accepted.
    pub(super) fn check(&self, event: &Event) -> Result<(), EnqueueError> {
        let Some(lazy) = self.0.get(&event.event_type) else {
            return Ok(());
        };
        let compiled = lazy.compiled.get_or_init(|| Schema::compile(&lazy.text));
        let schema = compiled.as_ref().map_err(|error| {
            tracing::error!(event_type = %event.event_type, error, "a stored schema cannot be compiled");
            Error::new(ErrorKind::Corrupt, "schemas")
        })?;
        let data = event.data().unwrap_or_else(|| event.body.clone());
        let checked = schema.check(&event.event_type, &data);
        // No fault of the event's: a thread could not be had.
        let checked = checked
            .map_err(|error| Error::new(ErrorKind::Unavailable, "schemas").with_source(error))?;
        checked.map_err(|violation: SchemaViolation| InvalidEvent::from(violation).into())
    }
}

impl Engine {
    /// The schemas by which events are accepted now.
    pub(super) async fn schemas(&self) -> Result<Current> {
        if let Some(current) = self.known.young(self.clock.now()) {
            return Ok(current);
        }
        let began = self.clock.now();
        let _turn = self.known.asking.lock().await;
        let now = self.clock.now();
        if let Some(current) = self.known.young(now) {
            return Ok(current);
        }
        // Of those who waited together none asks a store again that has just failed.
        if let Some(error) = self.known.failed_since(began) {
            return Err(error);
        }
        match self.store.schemas(self.known.version()).await {
            Ok(answer) => Ok(self.known.learn(answer, now)),
            Err(error) => {
                self.known.fail(self.clock.now(), &error);
                Err(error)
            }
        }
    }

    /// The same inside a host's transaction. It waits for nobody: whoever asks may need the connection that this
    /// transaction holds.
    pub(super) async fn schemas_in<S: TxStore + ?Sized>(
        &self,
        store: &S,
        tx: &mut S::Connection,
    ) -> Result<Current> {
        let now = self.clock.now();
        if let Some(current) = self.known.young(now) {
            return Ok(current);
        }
        let answer = store.schemas_in(tx, self.known.version()).await?;
        Ok(self.known.learn(answer, now))
    }
}

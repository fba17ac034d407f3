//! Events whose idempotency key another transaction holds. That may be a host's, and last: so they wait beside the others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;

use super::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::event::Event;
use crate::store::Inserted;
use crate::tenant::Tenant;

/// How long an event waits for the other transaction.
const PATIENCE: Duration = Duration::from_secs(20);
/// The most events that wait.
const MAX_WAITING: usize = 64;
/// How many of them are tried at a time, each on a connection of its own, on which the store waits for a while.
const AT_ONCE: usize = 2;

pub(super) struct Locked {
    /// How many events wait for each key.
    keys: Mutex<HashMap<Key, usize>>,
    places: Semaphore,
    tries: Semaphore,
}

type Key = (Tenant, String);

/// An event waits for its key until this is dropped.
struct Waits<'l> {
    locked: &'l Locked,
    key: Key,
}

impl Locked {
    pub(super) fn new() -> Self {
        Self {
            keys: Mutex::default(),
            places: Semaphore::new(MAX_WAITING),
            tries: Semaphore::new(AT_ONCE),
        }
    }

    /// Whether others wait for its key.
    pub(super) fn knows(&self, event: &Event) -> bool {
        let keys = self.keys();
        !keys.is_empty() && key_of(event).is_some_and(|key| keys.contains_key(&key))
    }

    pub(super) fn waiting(&self) -> usize {
        MAX_WAITING - self.places.available_permits()
    }

    fn wait_for(&self, key: Key) -> Waits<'_> {
        *self.keys().entry(key.clone()).or_default() += 1;
        Waits { locked: self, key }
    }

    fn keys(&self) -> MutexGuard<'_, HashMap<Key, usize>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        let mut keys = self.locked.keys();
        if let Some(count) = keys.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                keys.remove(&self.key);
            }
        }
    }
}

pub(super) fn locked() -> Error {
    Error::new(ErrorKind::Locked, "insert_events")
}

pub(super) fn is_locked(inserted: &Result<Inserted>) -> bool {
    let error = inserted.as_ref().err();
    error.is_some_and(|error| error.kind() == ErrorKind::Locked)
}

fn key_of(event: &Event) -> Option<Key> {
    let idempotency = event.idempotency.as_ref()?;
    Some((event.tenant.clone(), idempotency.key.clone()))
}

impl Engine {
    /// Inserts an event beside the lines, as soon as nobody holds its key.
    pub(super) async fn insert_locked(self: &Arc<Self>, event: Event) -> Result<Inserted> {
        let all = &self.intake.locked;
        let Ok(_place) = all.places.try_acquire() else {
            return Err(locked());
        };
        let _waits = key_of(&event).map(|key| all.wait_for(key));
        let began = self.clock.now();
        loop {
            let turn = all.tries.acquire().await;
            let inserted = self.insert_one(&event).await;
            drop(turn);
            let is_over = self.clock.now().since(began) >= PATIENCE;
            match inserted {
                again if is_locked(&again) && !is_over => {}
                ended => return ended,
            }
        }
    }
}

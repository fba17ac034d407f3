//! Bulk replays: people start and watch them, and every process carries them on.

use std::time::Duration;

use uuid::Uuid;

use super::Engine;
use super::audit::{Actor, Deed};
use super::manage::ManageError;
use super::worker::surviving;
use crate::audit::AuditAction;
use crate::error::Result;
use crate::replay::{NewReplay, Replay, ReplaySelection, ReplayState, ReplayStep};
use crate::store::Changed;
use crate::tenant::{Page, PageRequest, Scope};

/// How many rows a step looks at. A store locks as many at a time, and a cancellation may come too late for as many.
const STEP: usize = 250;
/// How often a process asks whether another one has started a replay, or has died in the middle of one.
const IDLE_POLL: Duration = Duration::from_secs(5);
/// How long it waits after the store failed, and the least time that it waits for a step that is due by another clock.
const FAILURE_PAUSE: Duration = Duration::from_secs(1);
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
/// How many rows a count of a selection looks at, at most, and how many at a time.
const MAX_COUNTED: usize = 100_000;
const COUNT_PAGE: usize = 2_000;

/// How many deliveries a replay would make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReplayCount {
    /// The number of deliveries; there may be more if it is not exact.
    pub deliveries: u64,
    /// Whether the whole selection was looked at. Counting stops after 100,000 rows.
    pub is_exact: bool,
}

/// A dispatcher's bulk replays. From [`Dispatcher::replays`](super::Dispatcher::replays).
#[derive(Clone, Debug)]
pub struct Replays<'a> {
    engine: &'a Engine,
    scope: Scope,
    actor: Actor,
}

type Managed<T> = std::result::Result<T, ManageError>;

impl<'a> Replays<'a> {
    pub(super) fn new(engine: &'a Engine) -> Self {
        Self {
            engine,
            scope: Scope::All,
            actor: Actor::default(),
        }
    }

    /// Sees and touches only what is in `scope`.
    #[must_use]
    pub fn within(mut self, scope: impl Into<Scope>) -> Self {
        self.scope = scope.into();
        self
    }

    /// Writes to the [audit log](super::Dispatcher::audit) what is done through this handle, as done by `name`.
    #[must_use]
    pub fn by(mut self, name: &str) -> Self {
        self.actor = Actor::named(name);
        self
    }

    /// Starts to send a selection again, as far as it is in the scope, and returns at once. The replay goes on at its pace while
    /// any process [runs](super::Dispatcher::run), until it has gone through the selection or is cancelled.
    ///
    /// # Errors
    /// When the selection is not allowed, its endpoint is not in the scope, or the store fails.
    pub async fn start(&self, new: NewReplay) -> Managed<Replay> {
        new.validate()?;
        let scope = self.scope_of(&new.selection).await?;
        let count = self.count_in(&scope, &new.selection).await?;
        let now = self.engine.clock.now();
        let replay = Replay {
            id: self.engine.new_id(),
            tenant: match scope {
                Scope::All => None,
                Scope::Tenant(tenant) => Some(tenant),
            },
            selection: new.selection,
            state: ReplayState::Running,
            pace: new.pace,
            total: count.deliveries,
            total_is_exact: count.is_exact,
            done: 0,
            skipped: 0,
            created_by: new.created_by,
            created_at: now,
            updated_at: now,
        };
        let pinned = self.engine.clock.pinned();
        let replay = self.engine.store.insert_replay(&replay, pinned).await?;
        self.engine.replay_started.notify_one();
        let deed = Deed::new(AuditAction::ReplayStart, &replay.id).of(replay.tenant.clone());
        let deed = deed.detail(match &replay.selection {
            ReplaySelection::Deliveries(_) => "deliveries".to_owned(),
            ReplaySelection::Endpoint(of) => format!("endpoint: {}", of.endpoint_id),
        });
        self.engine.write_down(&self.actor, deed).await;
        Ok(replay)
    }

    /// How many deliveries [`start`](Self::start) would make, without making any.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn count(&self, selection: &ReplaySelection) -> Managed<ReplayCount> {
        selection.validate()?;
        let scope = self.scope_of(selection).await?;
        self.count_in(&scope, selection).await
    }

    /// One replay.
    ///
    /// # Errors
    /// When there is none in the scope, or the store fails.
    pub async fn get(&self, id: Uuid) -> Managed<Replay> {
        let replay = self.engine.store.replay(&self.scope, id).await?;
        replay.ok_or(ManageError::NotFound("replay"))
    }

    /// Replays, newest first.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list(&self, page: PageRequest) -> Managed<Page<Replay>> {
        Ok(self.engine.store.replays(&self.scope, page).await?)
    }

    /// Ends a running replay. The deliveries that it has made still go out.
    ///
    /// # Errors
    /// When there is none in the scope, it has ended, or the store fails.
    pub async fn cancel(&self, id: Uuid) -> Managed<Replay> {
        let now = self.engine.clock.pinned();
        match self
            .engine
            .store
            .cancel_replay(&self.scope, id, now)
            .await?
        {
            Changed::Done(replay) => {
                let deed = Deed::new(AuditAction::ReplayCancel, &id).of(replay.tenant.clone());
                self.engine.write_down(&self.actor, deed).await;
                Ok(replay)
            }
            Changed::NotFound => Err(ManageError::NotFound("replay")),
            Changed::Refused => Err(ManageError::Conflict("the replay has ended")),
        }
    }

    /// The tenants whose deliveries a selection may touch. For an endpoint, this is its tenant.
    async fn scope_of(&self, selection: &ReplaySelection) -> Managed<Scope> {
        let ReplaySelection::Endpoint(replay) = selection else {
            return Ok(self.scope.clone());
        };
        let store = &self.engine.store;
        let endpoint = store.endpoint(&self.scope, replay.endpoint_id).await?;
        let endpoint = endpoint.ok_or(ManageError::NotFound("endpoint"))?;
        Ok(endpoint.tenant.into())
    }

    async fn count_in(&self, scope: &Scope, selection: &ReplaySelection) -> Managed<ReplayCount> {
        let (mut deliveries, mut after) = (0, None);
        for _ in 0..MAX_COUNTED / COUNT_PAGE {
            let now = self.engine.clock.pinned();
            let store = &self.engine.store;
            let scan = store.scan_replay(scope, selection, after, COUNT_PAGE, now);
            let scan = scan.await?;
            deliveries += scan.wanted;
            after = scan.next;
            if after.is_none() {
                break;
            }
        }
        Ok(ReplayCount {
            deliveries,
            is_exact: after.is_none(),
        })
    }
}

impl Engine {
    /// Carries on bulk replays until cancelled.
    pub(super) async fn replay_all(&self) {
        loop {
            let pause = match surviving(self.step_replay()).await {
                Some(Ok(step)) if step.replay.is_some() => {
                    // Others may cancel it meanwhile, whatever the store is made of.
                    tokio::task::yield_now().await;
                    continue;
                }
                Some(Ok(step)) => step
                    .next_in
                    .map_or(IDLE_POLL, |by| by.clamp(SHORTEST_PAUSE, IDLE_POLL)),
                Some(Err(error)) => {
                    tracing::warn!(%error, "a step of a replay failed");
                    FAILURE_PAUSE
                }
                None => FAILURE_PAUSE,
            };
            self.within(pause, self.replay_started.notified()).await;
        }
    }

    /// Takes the next step of a bulk replay, if one is due.
    pub(super) async fn step_replay(&self) -> Result<ReplayStep> {
        let step = self.store.step_replay(STEP, self.clock.pinned()).await?;
        self.push_replayed(&step.jobs).await;
        if let Some(replay) = &step.replay
            && replay.state != ReplayState::Running
        {
            let (id, state) = (replay.id, replay.state);
            tracing::info!(replay = %id, %state, done = replay.done, "a replay has ended");
        }
        Ok(step)
    }
}

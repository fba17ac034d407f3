//! Tenants as a whole: a request erases one, page by page, and every process takes part.

use std::time::Duration;

use super::audit::{Actor, Deed};
use super::worker::surviving;
use super::{Engine, ManageError};
use crate::audit::AuditAction;
use crate::erasure::ErasureStep;
use crate::error::Result;
use crate::tenant::{Scope, Tenant};

/// How many events, and how many ended deliveries, a step looks at and locks.
const STEP: usize = 200;
/// How often a process asks whether another one was asked to erase a tenant.
const IDLE_POLL: Duration = Duration::from_secs(60);
/// How long it waits after the store failed, and the least time that it waits for a step that is due by another clock.
const FAILURE_PAUSE: Duration = Duration::from_secs(5);
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);

/// A dispatcher's tenants. From [`Dispatcher::tenants`](super::Dispatcher::tenants).
#[derive(Clone, Debug)]
pub struct Tenants<'a> {
    engine: &'a Engine,
    scope: Scope,
    actor: Actor,
}

impl<'a> Tenants<'a> {
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

    /// Erases a tenant, which need not exist. When this returns, its endpoints and bulk replays are gone, and no attempt begins
    /// any more. An attempt that is under way may still reach its endpoint.
    ///
    /// Events, deliveries, attempts, idempotency keys and statistics follow page by page, while any process
    /// [runs](super::Dispatcher::run), even if one dies. Three minutes later, what attempts under way have left is erased as
    /// well. The audit log stays.
    ///
    /// Whatever is enqueued or created for the tenant after this has returned belongs to a new tenant of the same name, and
    /// stays.
    ///
    /// # Errors
    /// When the tenant is not in the scope, or the store fails.
    pub async fn delete(&self, tenant: &Tenant) -> Result<(), ManageError> {
        if !self.scope.contains(tenant) {
            return Err(ManageError::NotFound("tenant"));
        }
        let now = self.engine.clock.pinned();
        self.engine.store.erase_tenant(tenant, now).await?;
        self.engine.erasure_started.notify_one();
        let deed = Deed::new(AuditAction::TenantDelete, tenant.as_str());
        let deed = deed.of(Some(tenant.clone()));
        self.engine.write_down(&self.actor, deed).await;
        Ok(())
    }
}

impl Engine {
    /// Carries on erasing tenants until cancelled.
    pub(super) async fn erase_all(&self) {
        loop {
            let pause = match surviving(self.step_erasure()).await {
                Some(Ok(step)) => match step.next_in {
                    // Others may do something meanwhile, whatever the store is made of.
                    Some(Duration::ZERO) => SHORTEST_PAUSE,
                    Some(by) => by.clamp(SHORTEST_PAUSE, IDLE_POLL),
                    None => IDLE_POLL,
                },
                Some(Err(error)) => {
                    tracing::warn!(%error, "a step of erasing a tenant failed");
                    FAILURE_PAUSE
                }
                None => FAILURE_PAUSE,
            };
            self.within(pause, self.erasure_started.notified()).await;
        }
    }

    /// Takes the next step of erasing a tenant, if one is due.
    pub(super) async fn step_erasure(&self) -> Result<ErasureStep> {
        let step = self.store.step_erasure(STEP, self.clock.pinned()).await?;
        if let Some(tenant) = &step.ended {
            tracing::info!(%tenant, "a tenant was erased");
        }
        Ok(step)
    }
}

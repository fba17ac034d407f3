//! The handles by which hosts, and the HTTP API, read and change endpoints, events and deliveries.

use std::collections::HashMap;
use std::time::Duration;

use uuid::Uuid;

use super::Engine;
use super::audit::{Actor, Deed, changes};
use crate::audit::AuditAction;
use crate::catalogue::InvalidEntry;
use crate::delivery::{Attempt, Delivery};
use crate::endpoint::{
    Endpoint, EndpointSecret, EndpointState, InvalidSetting, NewEndpoint, StateReason,
};
use crate::error::Error;
use crate::event::{Event, InvalidEvent};
use crate::health::Health;
use crate::id::is_test;
use crate::network::Blocked;
use crate::queue::{Hold, Job};
use crate::signing::Secret;
use crate::store::{Backlog, Changed, DeliveryFilter, EndpointFilter, EventFilter};
use crate::tenant::{Page, PageRequest, Scope, Tenant};
use crate::url::EndpointUrl;

/// How many times a change is tried again when others change the same endpoint at the same time.
const UPDATE_TRIES: usize = 8;

/// Why a request to manage something failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManageError {
    /// There is no such thing, or it is another tenant's.
    #[error("there is no such {0}")]
    NotFound(&'static str),
    /// A setting is out of its bounds.
    #[error(transparent)]
    Invalid(#[from] InvalidSetting),
    /// A test event is not allowed.
    #[error(transparent)]
    InvalidEvent(#[from] InvalidEvent),
    /// An entry of the catalogue of event types is not allowed.
    #[error(transparent)]
    InvalidEntry(#[from] InvalidEntry),
    /// The network policy forbids the URL.
    #[error(transparent)]
    UrlNotAllowed(#[from] Blocked),
    /// The tenant has as many endpoints as it [may have](crate::Builder::max_endpoints_per_tenant).
    #[error(
        "the tenant has {0} endpoints and may have no more: delete some, or ask for a higher limit"
    )]
    TooManyEndpoints(usize),
    /// The thing's state does not allow it.
    #[error("{0}")]
    Conflict(&'static str),
    /// Too many requests of this kind are under way in this process. Try again later.
    #[error("{0}")]
    Overloaded(&'static str),
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] Error),
}

type Result<T> = std::result::Result<T, ManageError>;

/// A dispatcher's endpoints. From [`Dispatcher::endpoints`](super::Dispatcher::endpoints).
#[derive(Clone, Debug)]
pub struct Endpoints<'a> {
    pub(super) engine: &'a Engine,
    scope: Scope,
    pub(super) actor: Actor,
}

impl<'a> Endpoints<'a> {
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

    /// Creates an endpoint. Its secret is in the answer's `secrets`.
    ///
    /// # Errors
    /// When a setting is out of bounds, the URL is forbidden, its tenant is outside the scope or has as many as it
    /// [may have](crate::Builder::max_endpoints_per_tenant), or the store fails.
    pub async fn create(&self, new: NewEndpoint) -> Result<Endpoint> {
        let settings = new.settings.checked()?;
        self.engine.policy.check_url(&new.url)?;
        if !self.scope.contains(&new.tenant) {
            return Err(ManageError::NotFound("tenant"));
        }
        let now = self.engine.clock.now();
        let secret = new
            .secret
            .unwrap_or_else(|| self.engine.with_rng(Secret::generate));
        let endpoint = Endpoint {
            id: self.engine.new_id(),
            tenant: new.tenant,
            url: new.url,
            settings,
            secrets: vec![EndpointSecret {
                secret,
                expires_at: None,
            }],
            state: EndpointState::Enabled,
            state_reason: None,
            version: 1,
            created_at: now,
            updated_at: now,
        };
        let most = self.engine.config.max_endpoints;
        if !self.engine.store.insert_endpoint(&endpoint, most).await? {
            return Err(ManageError::TooManyEndpoints(most));
        }
        self.write_down(AuditAction::EndpointCreate, &endpoint, String::new())
            .await;
        Ok(endpoint)
    }

    /// One endpoint.
    ///
    /// # Errors
    /// When there is none in the scope, or the store fails.
    pub async fn get(&self, id: Uuid) -> Result<Endpoint> {
        let endpoint = self.engine.store.endpoint(&self.scope, id).await?;
        endpoint.ok_or(ManageError::NotFound("endpoint"))
    }

    /// Endpoints, newest first.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list(&self, page: PageRequest) -> Result<Page<Endpoint>> {
        self.find(&EndpointFilter::default(), page).await
    }

    /// Endpoints that the filter lets through, newest first.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn find(&self, filter: &EndpointFilter, page: PageRequest) -> Result<Page<Endpoint>> {
        let found = self.engine.store.endpoints(&self.scope, filter, page);
        Ok(found.await?)
    }

    /// The health of those of these endpoints that are in the scope. Endpoints that do well are not in the answer.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn health(&self, ids: &[Uuid]) -> Result<HashMap<Uuid, Health>> {
        let now = self.engine.clock.pinned();
        let health = self.engine.store.health(&self.scope, ids, now).await?;
        Ok(health.into_iter().collect())
    }

    /// What waits for an endpoint.
    ///
    /// # Errors
    /// When there is none in the scope, or the store fails.
    pub async fn backlog(&self, id: Uuid) -> Result<Backlog> {
        let now = self.engine.clock.pinned();
        let backlog = self.engine.store.backlog(&self.scope, id, now).await?;
        backlog.ok_or(ManageError::NotFound("endpoint"))
    }

    /// Changes an endpoint's URL, settings or state as `change` says, and returns the changed endpoint. `change` runs again if
    /// somebody else changes the endpoint at the same time.
    ///
    /// An endpoint that becomes enabled, or gets another URL, [begins anew](EndpointChange::recover). If `change` leaves
    /// everything as it is, nothing is stored, and nothing is written to the audit log.
    ///
    /// # Errors
    /// When there is none in the scope, the result is not allowed, or the store fails.
    pub async fn update(
        &self,
        id: Uuid,
        mut change: impl FnMut(&mut EndpointChange) + Send,
    ) -> Result<Endpoint> {
        let (mut state_changed, mut recovers) = (false, false);
        let changed = self.try_update(id, |endpoint| {
            let mut wanted = EndpointChange {
                url: endpoint.url.clone(),
                settings: endpoint.settings.clone(),
                state: endpoint.state,
                recover: false,
            };
            change(&mut wanted);
            state_changed = wanted.state != endpoint.state;
            let is_enabled = wanted.state == EndpointState::Enabled;
            if state_changed {
                endpoint.state_reason = (!is_enabled).then_some(StateReason::Requested);
            }
            let is_moved = wanted.url != endpoint.url;
            recovers = wanted.recover || (state_changed && is_enabled) || is_moved;
            let is_set = wanted.settings.clone().rounded() == endpoint.settings;
            let is_same = !state_changed && !is_moved && is_set;
            (endpoint.url, endpoint.settings, endpoint.state) =
                (wanted.url, wanted.settings, wanted.state);
            match (recovers, is_same) {
                (true, _) => Step::BeginAnew,
                (false, true) => Step::Leave,
                (false, false) => Step::Store,
            }
        });
        let (before, endpoint) = changed.await?;
        if endpoint.version == before.version {
            return Ok(endpoint);
        }
        if state_changed || (recovers && endpoint.state == EndpointState::Enabled) {
            self.steer_lane(&endpoint).await;
        }
        // A queue beside the store learns of new limits with the jobs that are pushed.
        self.engine.sweeper.look_again();
        let detail = changes(&before, &endpoint);
        self.write_down(AuditAction::EndpointUpdate, &endpoint, detail)
            .await;
        Ok(endpoint)
    }

    /// Makes a new secret, of the same [scheme](Secret::scheme) as the current one. The old secrets go on signing beside
    /// it until `overlap` has passed.
    ///
    /// # Errors
    /// When there is no such endpoint in the scope, or the store fails.
    pub async fn rotate_secret(&self, id: Uuid, overlap: Duration) -> Result<Endpoint> {
        self.rotate(id, overlap, |current| {
            self.engine.with_rng(|rng| match current {
                Some(current) => current.generate_alike(rng),
                None => Secret::generate(rng),
            })
        })
        .await
    }

    /// As [`rotate_secret`](Self::rotate_secret), but to this secret, of whatever scheme: for receivers that have one
    /// already, and to change the scheme.
    ///
    /// # Errors
    /// When there is no such endpoint in the scope, or the store fails.
    pub async fn rotate_secret_to(
        &self,
        id: Uuid,
        secret: Secret,
        overlap: Duration,
    ) -> Result<Endpoint> {
        self.rotate(id, overlap, |_| secret.clone()).await
    }

    async fn rotate(
        &self,
        id: Uuid,
        overlap: Duration,
        make: impl Fn(Option<&Secret>) -> Secret + Send + Sync,
    ) -> Result<Endpoint> {
        let now = self.engine.clock.now();
        let rotated = self.try_update(id, |endpoint| {
            let end = now + overlap;
            let secret = make(endpoint.secret());
            endpoint.secrets.retain(|old| {
                old.secret != secret && old.expires_at.is_none_or(|expires| now < expires)
            });
            for old in &mut endpoint.secrets {
                old.expires_at = Some(old.expires_at.map_or(end, |expires| expires.min(end)));
            }
            endpoint.secrets.insert(
                0,
                EndpointSecret {
                    secret,
                    expires_at: None,
                },
            );
            endpoint.secrets.truncate(MAX_SECRETS);
            Step::Store
        });
        let (_, endpoint) = rotated.await?;
        let detail = format!("overlap: {} s", overlap.as_secs());
        self.write_down(AuditAction::EndpointRotateSecret, &endpoint, detail)
            .await;
        Ok(endpoint)
    }

    /// Removes an endpoint; its live deliveries are cancelled.
    ///
    /// # Errors
    /// When there is none in the scope, or the store fails.
    pub async fn delete(&self, id: Uuid) -> Result<()> {
        let tenant = self.tenant_of(id).await;
        let there = self
            .engine
            .store
            .delete_endpoint(&self.scope, id, self.engine.clock.pinned())
            .await?;
        if !there {
            return Err(ManageError::NotFound("endpoint"));
        }
        let deed = Deed::new(AuditAction::EndpointDelete, &id).of(tenant);
        self.engine.write_down(&self.actor, deed).await;
        Ok(())
    }

    async fn write_down(&self, action: AuditAction, endpoint: &Endpoint, detail: String) {
        let deed = Deed::new(action, &endpoint.id).of(Some(endpoint.tenant.clone()));
        let deed = deed.detail(detail);
        self.engine.write_down(&self.actor, deed).await;
    }

    /// The tenant of an endpoint, for the audit log; `None` if nothing is written to it, or the endpoint cannot be read.
    async fn tenant_of(&self, id: Uuid) -> Option<Tenant> {
        match &self.scope {
            Scope::Tenant(own) => Some(own.clone()),
            Scope::All if self.actor.is_known() => Some(self.get(id).await.ok()?.tenant),
            Scope::All => None,
        }
    }

    /// Returns the endpoint before and after the change. If it was left as it was, both have the same version.
    ///
    /// If the endpoint begins anew, its failures are forgotten before it is stored. Otherwise the next failure could disable
    /// an endpoint that has just been enabled.
    async fn try_update(
        &self,
        id: Uuid,
        mut change: impl FnMut(&mut Endpoint) -> Step + Send,
    ) -> Result<(Endpoint, Endpoint)> {
        for _ in 0..UPDATE_TRIES {
            let before = self.get(id).await?;
            let mut endpoint = before.clone();
            let step = change(&mut endpoint);
            if step == Step::Leave {
                return Ok((before.clone(), before));
            }
            endpoint.settings = endpoint.settings.checked()?;
            if endpoint.url != before.url {
                self.engine.policy.check_url(&endpoint.url)?;
            }
            if step == Step::BeginAnew {
                let store = &self.engine.store;
                store.recover_endpoint(&self.scope, id).await?;
            }
            endpoint.version += 1;
            endpoint.updated_at = self.engine.clock.now();
            if self.engine.store.update_endpoint(&endpoint).await? {
                return Ok((before, endpoint));
            }
        }
        Err(ManageError::Conflict(
            "others change this endpoint at the same time; try again",
        ))
    }

    /// Tells the queue whether the endpoint takes deliveries. The hold is short and the worker renews it, so that a hold
    /// that is lost or comes late does no lasting harm.
    async fn steer_lane(&self, endpoint: &Endpoint) {
        let queue = &self.engine.queue;
        let steered = if endpoint.state == EndpointState::Enabled {
            let released = queue.release(endpoint.id).await;
            if released.is_err() && self.engine.has_index {
                // The store's own queue was released when the endpoint began anew. Nobody else releases this one soon.
                self.engine.unreleased().insert(endpoint.id);
            }
            released
        } else {
            self.engine.unreleased().remove(&endpoint.id);
            queue
                .hold(
                    endpoint.id,
                    Hold::new(Engine::LANE_PAUSE),
                    self.engine.clock.pinned(),
                )
                .await
        };
        if let Err(error) = steered {
            tracing::warn!(%error, endpoint = %endpoint.id, "the queue does not know of a changed endpoint yet");
        }
    }
}

/// What comes of a change to an endpoint.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Nothing: it is as it was.
    Leave,
    /// It is stored.
    Store,
    /// It is stored, and its failures are forgotten.
    BeginAnew,
}

/// The most secrets that sign for an endpoint at once.
const MAX_SECRETS: usize = 5;

/// The parts of an endpoint that may be changed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EndpointChange {
    /// Where its deliveries go.
    pub url: EndpointUrl,
    /// What it receives, and how.
    pub settings: crate::endpoint::EndpointSettings,
    /// Whether deliveries go out.
    pub state: EndpointState,
    /// Whether the endpoint begins anew: its failures are forgotten, and its breaker closes. This also happens whenever the
    /// endpoint becomes enabled.
    pub recover: bool,
}

/// A dispatcher's events. From [`Dispatcher::events`](super::Dispatcher::events).
#[derive(Clone, Debug)]
pub struct Events<'a> {
    pub(super) engine: &'a Engine,
    scope: Scope,
    actor: Actor,
}

impl<'a> Events<'a> {
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

    /// One event.
    ///
    /// # Errors
    /// When there is none in the scope, or the store fails.
    pub async fn get(&self, id: Uuid) -> Result<Event> {
        self.engine
            .store
            .event(&self.scope, id)
            .await?
            .ok_or(ManageError::NotFound("event"))
    }

    /// Events, newest first, without their bodies, which may be large and which few lists show. Their [`Event::body`] is
    /// empty, so that [`Event::data`] and [`Event::payload`] have nothing to read. [`get`](Self::get) returns an event with
    /// its body.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list(&self, filter: &EventFilter, page: PageRequest) -> Result<Page<Event>> {
        Ok(self.engine.store.events(&self.scope, filter, page).await?)
    }

    /// Delivers an event again, to the endpoints that match now, and returns the ids of the new deliveries. Endpoints that
    /// have a live delivery of the event are left out.
    ///
    /// # Errors
    /// When there is none in the scope, it is a test, or the store fails.
    pub async fn replay(&self, id: Uuid) -> Result<Vec<Uuid>> {
        if is_test(id) {
            self.get(id).await?;
            return Err(ManageError::Conflict(
                "a test event is for one endpoint; replay its delivery, or test again",
            ));
        }
        let now = self.engine.clock.pinned();
        match self.engine.store.replay_event(&self.scope, id, now).await? {
            Changed::Done(jobs) => {
                self.engine.push_replayed(&jobs).await;
                let deed = Deed::new(AuditAction::EventReplay, &id).of(self.tenant_of(id).await);
                let deed = deed.detail(format!("deliveries: {}", jobs.len()));
                self.engine.write_down(&self.actor, deed).await;
                Ok(jobs.iter().map(|job| job.delivery).collect())
            }
            Changed::NotFound => Err(ManageError::NotFound("event")),
            Changed::Refused => Err(ManageError::Conflict("the event cannot be replayed now")),
        }
    }

    /// The tenant of an event, for the audit log.
    async fn tenant_of(&self, id: Uuid) -> Option<Tenant> {
        match &self.scope {
            Scope::Tenant(own) => Some(own.clone()),
            Scope::All if self.actor.is_known() => Some(self.get(id).await.ok()?.tenant),
            Scope::All => None,
        }
    }
}

/// A dispatcher's deliveries. From [`Dispatcher::deliveries`](super::Dispatcher::deliveries).
#[derive(Clone, Debug)]
pub struct Deliveries<'a> {
    engine: &'a Engine,
    scope: Scope,
    actor: Actor,
}

impl<'a> Deliveries<'a> {
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

    /// One delivery.
    ///
    /// # Errors
    /// When there is none in the scope, or the store fails.
    pub async fn get(&self, id: Uuid) -> Result<Delivery> {
        self.engine
            .store
            .delivery(&self.scope, id)
            .await?
            .ok_or(ManageError::NotFound("delivery"))
    }

    /// A delivery's attempts, oldest first.
    ///
    /// # Errors
    /// When there is no such delivery in the scope, or the store fails.
    pub async fn attempts(&self, id: Uuid) -> Result<Vec<Attempt>> {
        let attempts = self.engine.store.attempts(&self.scope, id).await?;
        if attempts.is_empty() {
            // Either the delivery has had none yet, or there is no such delivery.
            self.get(id).await?;
        }
        Ok(attempts)
    }

    /// Deliveries, newest first.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list(&self, filter: &DeliveryFilter, page: PageRequest) -> Result<Page<Delivery>> {
        Ok(self
            .engine
            .store
            .deliveries(&self.scope, filter, page)
            .await?)
    }

    /// Makes a new delivery from one that has ended, and returns the id of the new one.
    ///
    /// # Errors
    /// When there is none in the scope, it is still live, its endpoint is gone, or the store fails.
    pub async fn replay(&self, id: Uuid) -> Result<Uuid> {
        let now = self.engine.clock.pinned();
        match self
            .engine
            .store
            .replay_delivery(&self.scope, id, now)
            .await?
        {
            Changed::Done(job) => {
                self.engine.push_replayed(std::slice::from_ref(&job)).await;
                let deed = Deed::new(AuditAction::DeliveryReplay, &id).of(Some(job.tenant));
                let deed = deed.detail(format!("delivery: {}", job.delivery));
                self.engine.write_down(&self.actor, deed).await;
                Ok(job.delivery)
            }
            Changed::NotFound => Err(ManageError::NotFound("delivery")),
            Changed::Refused => Err(ManageError::Conflict(
                "the delivery is still live, or its endpoint was deleted",
            )),
        }
    }

    /// Cancels a live delivery. An attempt that is under way may still reach the endpoint.
    ///
    /// # Errors
    /// When there is none in the scope, it has ended, or the store fails.
    pub async fn cancel(&self, id: Uuid) -> Result<()> {
        match self
            .engine
            .store
            .cancel_delivery(&self.scope, id, self.engine.clock.pinned())
            .await?
        {
            Changed::Done(()) => {
                let deed = Deed::new(AuditAction::DeliveryCancel, &id).of(self.tenant_of(id).await);
                self.engine.write_down(&self.actor, deed).await;
                Ok(())
            }
            Changed::NotFound => Err(ManageError::NotFound("delivery")),
            Changed::Refused => Err(ManageError::Conflict("the delivery has ended")),
        }
    }

    /// The tenant of a delivery, for the audit log.
    async fn tenant_of(&self, id: Uuid) -> Option<Tenant> {
        match &self.scope {
            Scope::Tenant(own) => Some(own.clone()),
            Scope::All if self.actor.is_known() => Some(self.get(id).await.ok()?.tenant),
            Scope::All => None,
        }
    }
}

impl Engine {
    pub(super) async fn push_replayed(&self, jobs: &[Job]) {
        if !self.has_index || jobs.is_empty() {
            return;
        }
        if let Err(error) = self.queue.push(jobs, self.clock.pinned()).await {
            tracing::warn!(%error, "replayed jobs could not be pushed; the sweeper will");
            self.sweeper.look_again();
        }
    }
}

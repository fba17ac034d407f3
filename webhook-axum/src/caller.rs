//! [`Caller`]: the dispatcher, limited to what one caller may see and do.

use std::time::Duration;

use axum::extract::{FromRef, FromRequestParts};
use http::request::Parts;
use uuid::Uuid;
use webhook_core::{Attempt, Outcome, Stats, StatsRange, Tenant, Timestamp, TransportErrorKind};
use webhook_core::{
    Audit, Deliveries, Dispatcher, Endpoints, Error, EventTypes, Events, Failure, Process, Replays,
    Scope, Tenants,
};

use crate::auth::Identity;
use crate::error::ApiError;
use crate::router::Api;

/// The dispatcher, narrowed to what its caller may see and touch. Handlers have no other way to it, so that
/// none can forget the wall, nor who acts.
pub(crate) struct Caller {
    dispatcher: Dispatcher,
    scope: Scope,
    audience: Audience,
    name: String,
}

/// Whom an answer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Audience {
    /// One who runs the engine.
    Operator,
    /// One tenant, who is not told what the network around the engine looks like.
    Tenant,
}

impl Caller {
    pub(crate) fn endpoints(&self) -> Endpoints<'_> {
        let endpoints = self.dispatcher.endpoints().by(&self.name);
        endpoints.within(self.scope.clone())
    }

    pub(crate) fn events(&self) -> Events<'_> {
        let events = self.dispatcher.events().by(&self.name);
        events.within(self.scope.clone())
    }

    pub(crate) fn deliveries(&self) -> Deliveries<'_> {
        let deliveries = self.dispatcher.deliveries().by(&self.name);
        deliveries.within(self.scope.clone())
    }

    /// Sends an event by hand. Whose it may be is for [`tenant`](Self::tenant) to say.
    #[cfg(feature = "dashboard")]
    pub(crate) async fn send(
        &self,
        event: webhook_core::NewEvent,
    ) -> Result<Uuid, webhook_core::EnqueueError> {
        self.dispatcher.enqueue_by(&self.name, event).await
    }

    pub(crate) fn replays(&self) -> Replays<'_> {
        let replays = self.dispatcher.replays().by(&self.name);
        replays.within(self.scope.clone())
    }

    pub(crate) fn tenants(&self) -> Tenants<'_> {
        let tenants = self.dispatcher.tenants().by(&self.name);
        tenants.within(self.scope.clone())
    }

    /// The processes that are alive, for those who run the engine: the others are not told what it consists of. `None`
    /// as well if the store does not say.
    pub(crate) async fn processes(&self) -> Option<Vec<Process>> {
        match self.scope {
            Scope::All => self.dispatcher.processes().await.ok(),
            Scope::Tenant(_) => None,
        }
    }

    pub(crate) fn audit(&self) -> Audit<'_> {
        self.dispatcher.audit().within(self.scope.clone())
    }

    pub(crate) async fn stats(
        &self,
        range: StatsRange,
        endpoint: Option<Uuid>,
    ) -> Result<Stats, Error> {
        self.dispatcher.stats(&self.scope, range, endpoint).await
    }

    /// How the attempts at these endpoints went.
    #[cfg(feature = "dashboard")]
    pub(crate) async fn trends(
        &self,
        endpoints: &[Uuid],
    ) -> Result<std::collections::HashMap<Uuid, webhook_core::Trend>, Error> {
        self.dispatcher.trends(&self.scope, endpoints).await
    }

    /// For reading: the catalogue is the same for all tenants. Who changes it is [`host_wide`](Self::host_wide).
    pub(crate) fn event_types(&self) -> EventTypes<'_> {
        self.dispatcher.event_types().by(&self.name)
    }

    /// The tenant that is all they see.
    #[cfg(feature = "dashboard")]
    pub(crate) fn only_tenant(&self) -> Option<&Tenant> {
        match &self.scope {
            Scope::All => None,
            Scope::Tenant(own) => Some(own),
        }
    }

    /// The same caller, if they may change what concerns all tenants.
    pub(crate) fn host_wide(&self) -> Result<&Self, ApiError> {
        match self.scope {
            Scope::All => Ok(self),
            Scope::Tenant(_) => Err(ApiError::forbidden(
                "this concerns all tenants, and is not one tenant's",
            )),
        }
    }

    /// For what is in [`tenant`](Self::tenant) only: enqueueing itself knows no scope.
    pub(crate) fn dispatcher(&self) -> &Dispatcher {
        &self.dispatcher
    }

    /// What people call the caller.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.dispatcher.now()
    }

    pub(crate) fn audience(&self) -> Audience {
        self.audience
    }

    /// Whose a new thing is: the tenant that the request names, or else the caller's own.
    pub(crate) fn tenant(&self, named: Option<Tenant>) -> Result<Tenant, ApiError> {
        match (&self.scope, named) {
            (scope, Some(named)) if scope.contains(&named) => Ok(named),
            (_, Some(_)) => Err(another_tenant()),
            (Scope::Tenant(own), None) => Ok(own.clone()),
            (Scope::All, None) => Ok(Tenant::default()),
        }
    }

    /// The same caller, looking only at the tenant that the request names.
    pub(crate) fn narrowed(mut self, named: Option<Tenant>) -> Result<Self, ApiError> {
        match named {
            Some(named) if !self.scope.contains(&named) => return Err(another_tenant()),
            Some(named) => self.scope = named.into(),
            None => {}
        }
        Ok(self)
    }
}

fn another_tenant() -> ApiError {
    ApiError::forbidden("this is another tenant's")
}

impl<S> FromRequestParts<S> for Caller
where
    S: Send + Sync,
    Api: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let api = Api::from_ref(state);
        let identity = parts.extensions.get::<Identity>();
        let identity = identity.ok_or_else(ApiError::unauthorized)?;
        Ok(Self {
            dispatcher: api.dispatcher,
            scope: identity.scope.clone(),
            name: identity.name.clone(),
            audience: match identity.scope {
                Scope::All => Audience::Operator,
                Scope::Tenant(_) => Audience::Tenant,
            },
        })
    }
}

impl Audience {
    /// A failure as this audience may see it: `http_503`, `timeout`.
    pub(crate) fn failure(self, failure: Failure) -> String {
        match failure {
            Failure::Transport(kind) => self.error_kind(kind).to_owned(),
            Failure::Status(_) => failure.to_string(),
        }
    }

    /// How long an attempt took, as this audience may see it: where a tenant is not told what failed, the time would tell
    /// a port that refuses from one that drops.
    pub(crate) fn duration(self, attempt: &Attempt) -> Option<Duration> {
        match (self, &attempt.outcome) {
            (Self::Tenant, Outcome::Failed(kind)) if kind.as_tenant_str() != kind.as_str() => None,
            _ => Some(attempt.duration),
        }
    }

    /// An error kind as this audience may see it.
    pub(crate) fn error_kind(self, kind: TransportErrorKind) -> &'static str {
        match self {
            Self::Operator => kind.as_str(),
            Self::Tenant => kind.as_tenant_str(),
        }
    }
}

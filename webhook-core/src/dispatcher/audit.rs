//! The audit log: code that knows who acts writes it, and people read it.

use std::sync::Arc;

use super::{Engine, ManageError};
use crate::audit::{AuditAction, AuditEntry, AuditFilter, actor_name};
use crate::endpoint::Endpoint;
use crate::tenant::{Page, PageRequest, Scope, Tenant};

/// A dispatcher's audit log. From [`Dispatcher::audit`](super::Dispatcher::audit).
#[derive(Clone, Debug)]
pub struct Audit<'a> {
    engine: &'a Engine,
    scope: Scope,
}

impl<'a> Audit<'a> {
    pub(super) fn new(engine: &'a Engine) -> Self {
        Self {
            engine,
            scope: Scope::All,
        }
    }

    /// Sees only what is in `scope`.
    #[must_use]
    pub fn within(mut self, scope: impl Into<Scope>) -> Self {
        self.scope = scope.into();
        self
    }

    /// Entries, newest first.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list(
        &self,
        filter: &AuditFilter,
        page: PageRequest,
    ) -> Result<Page<AuditEntry>, ManageError> {
        Ok(self.engine.store.audit(&self.scope, filter, page).await?)
    }
}

/// The name of who acts, if it is known. Without a name nothing is written.
#[derive(Clone, Debug, Default)]
pub(super) struct Actor(Option<Arc<str>>);

impl Actor {
    pub(super) fn named(name: &str) -> Self {
        Self(Some(actor_name(name).into()))
    }

    pub(super) fn is_known(&self) -> bool {
        self.0.is_some()
    }
}

/// What was done, to what.
pub(super) struct Deed {
    action: AuditAction,
    tenant: Option<Tenant>,
    target: String,
    detail: String,
}

impl Deed {
    pub(super) fn new(action: AuditAction, target: &(impl ToString + ?Sized)) -> Self {
        Self {
            action,
            tenant: None,
            target: target.to_string(),
            detail: String::new(),
        }
    }

    pub(super) fn of(mut self, tenant: Option<Tenant>) -> Self {
        self.tenant = tenant;
        self
    }

    pub(super) fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }
}

impl Engine {
    /// Writes an entry about an action after it was done. If this fails, the action does not fail for it.
    pub(super) async fn write_down(&self, actor: &Actor, deed: Deed) {
        let Some(actor) = &actor.0 else { return };
        let entry = AuditEntry {
            id: self.new_id(),
            at: self.clock.now(),
            actor: (**actor).to_owned(),
            tenant: deed.tenant,
            action: deed.action,
            target: deed.target,
            detail: deed.detail,
        };
        if let Err(error) = self.store.append_audit(&entry).await {
            let AuditEntry {
                actor,
                action,
                target,
                ..
            } = &entry;
            tracing::error!(%error, %actor, %action, %target, "what was done could not be written to the audit log");
        }
    }
}

/// The fields of an endpoint that differ, without their values.
pub(super) fn changes(before: &Endpoint, after: &Endpoint) -> String {
    let (old, new) = (&before.settings, &after.settings);
    let state = format!("state: {}", after.state);
    let fields = [
        ("url", before.url != after.url),
        (&*state, before.state != after.state),
        ("description", old.description != new.description),
        ("event_types", old.event_types != new.event_types),
        ("filter", old.filter != new.filter),
        ("headers", old.headers != new.headers),
        ("rate_limit", old.rate_limit != new.rate_limit),
        ("max_in_flight", old.max_in_flight != new.max_in_flight),
        ("ordered", old.ordered != new.ordered),
        ("timeout", old.timeout != new.timeout),
        ("retry_schedule", old.retry_schedule != new.retry_schedule),
    ];
    let changed = fields.iter().filter(|(_, is_changed)| *is_changed);
    changed
        .map(|(name, _)| *name)
        .collect::<Vec<_>>()
        .join(", ")
}

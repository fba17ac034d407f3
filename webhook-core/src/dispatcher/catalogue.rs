//! The catalogue of event types, for people and the HTTP API.

use super::audit::{Actor, Deed};
use super::{Engine, ManageError};
use crate::audit::AuditAction;
use crate::catalogue::{CatalogueEntry, NewCatalogueEntry};
use crate::event::EventType;
use crate::tenant::{Page, PageRequest};

type Result<T> = std::result::Result<T, ManageError>;

/// A dispatcher's catalogue of event types. It belongs to the host, and is the same for all tenants. From
/// [`Dispatcher::event_types`](super::Dispatcher::event_types).
#[derive(Clone, Debug)]
pub struct EventTypes<'a> {
    engine: &'a Engine,
    actor: Actor,
}

impl<'a> EventTypes<'a> {
    pub(super) fn new(engine: &'a Engine) -> Self {
        Self {
            engine,
            actor: Actor::default(),
        }
    }

    /// Writes to the [audit log](super::Dispatcher::audit) what is done through this handle, as done by `name`.
    #[must_use]
    pub fn by(mut self, name: &str) -> Self {
        self.actor = Actor::named(name);
        self
    }

    /// Puts an event type into the catalogue, or replaces the entry of the same name. Returns the entry as stored.
    ///
    /// If the entry has a schema, events of this type are accepted only if their data fits it. Otherwise
    /// [`enqueue`](super::Dispatcher::enqueue) fails with [`InvalidEvent::Schema`](crate::InvalidEvent::Schema). This holds in
    /// this process at once, and in others within a second. All processes that enqueue need the feature `schemas` for it.
    /// `webhook.enqueue()` in SQL refuses types that have a schema. Events that were accepted before stay accepted.
    ///
    /// Treat a schema as code of the host. If a schema refers to itself several times at one place
    /// (`{"anyOf": [{"$ref": "#"}, {"$ref": "#"}]}`), the time to check data may double with each level of the data.
    ///
    /// # Errors
    /// When the entry is not allowed, or the store fails.
    pub async fn put(&self, new: NewCatalogueEntry) -> Result<CatalogueEntry> {
        let entry = new.entry(self.engine.new_id(), self.engine.clock.now())?;
        let put = self.engine.store.put_event_type(&entry).await;
        // Also if it failed: it may have been stored all the same.
        self.engine.known.forget();
        let put = put?;
        let deed = Deed::new(AuditAction::EventTypePut, put.name.as_str());
        let deed = deed.detail(match put.schema {
            Some(_) => "with a schema",
            None => "without a schema",
        });
        self.engine.write_down(&self.actor, deed).await;
        Ok(put)
    }

    /// One event type.
    ///
    /// # Errors
    /// When the catalogue has none of this name, or the store fails.
    pub async fn get(&self, name: &EventType) -> Result<CatalogueEntry> {
        let entry = self.engine.store.event_type(name).await?;
        entry.ok_or(ManageError::NotFound("event type"))
    }

    /// Event types, newest first.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list(&self, page: PageRequest) -> Result<Page<CatalogueEntry>> {
        Ok(self.engine.store.event_types(page).await?)
    }
}

//! The catalogue of event types: their names, what they mean, and the form of their data.

use std::sync::Arc;

use uuid::Uuid;

use crate::event::EventType;
use crate::payload::{self, InvalidPayload};
use crate::time::Timestamp;

/// The most bytes of a schema, and of an example.
const MAX_TEXT: usize = 64 * 1024;
/// The most characters of a description.
const MAX_DESCRIPTION: usize = 1_024;

/// An event type as the catalogue has it. The catalogue is one for all tenants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogueEntry {
    /// Its id, by which lists are paged.
    pub id: Uuid,
    /// The event type.
    pub name: EventType,
    /// For people.
    pub description: String,
    /// A JSON Schema of the data, as the text that was given: events of this type are accepted only if they fit.
    pub schema: Option<Arc<str>>,
    /// Data as such an event may have it, as the JSON text that was given.
    pub example: Option<Arc<str>>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last put.
    pub updated_at: Timestamp,
}

/// An event type as it shall be in the catalogue.
///
/// ```
/// use webhook_core::NewCatalogueEntry;
///
/// let entry = NewCatalogueEntry::new("order.paid".parse()?)
///     .description("An order was paid in full.")
///     .schema(r#"{"type": "object", "required": ["order"]}"#)
///     .example(r#"{"order": 7}"#);
/// # Ok::<(), webhook_core::InvalidEvent>(())
/// ```
#[derive(Clone, Debug)]
pub struct NewCatalogueEntry {
    name: EventType,
    description: String,
    schema: Option<Arc<str>>,
    example: Option<Arc<str>>,
}

/// The schemas of a catalogue, by event type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schemas {
    /// The version of the catalogue: another one after each change, and never smaller. 0 is the empty catalogue.
    pub version: i64,
    /// Each type that has a schema, with its text, in any order.
    pub schemas: Vec<(EventType, Arc<str>)>,
}

/// Why an entry is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidEntry {
    /// The description is too long.
    #[error("description must be at most {MAX_DESCRIPTION} characters")]
    Description,
    /// A text is too long.
    #[error("{0} must be at most {MAX_TEXT} bytes")]
    TooLong(&'static str),
    /// A text is not JSON, or nested too deep.
    #[error("{field}: {reason}")]
    Json {
        /// Which one.
        field: &'static str,
        /// What is wrong with it.
        reason: InvalidPayload,
    },
    /// The schema is no JSON Schema, or refers to another document.
    #[error("schema: {0}")]
    Schema(String),
    /// The example does not fit the schema.
    #[error("example: {0}")]
    Example(SchemaViolation),
    /// This build checks no schemas.
    #[error("schema: this build checks no schemas; it takes the feature `schemas`")]
    Unsupported,
}

/// Data does not fit the schema of its type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the data does not fit the schema of {event_type}{}: {problem}",
    at(path)
)]
pub struct SchemaViolation {
    /// The type whose schema it is.
    pub event_type: EventType,
    /// Where in the data, as a JSON Pointer (RFC 6901): `/items/0/price`; empty for the data as a whole.
    pub path: String,
    /// What is wrong there, without what stands there.
    pub problem: String,
}

fn at(path: &str) -> String {
    if path.is_empty() {
        String::new()
    } else {
        format!(" at {path}")
    }
}

impl NewCatalogueEntry {
    /// An event type with nothing said of it.
    #[must_use]
    pub fn new(name: EventType) -> Self {
        Self {
            name,
            description: String::new(),
            schema: None,
            example: None,
        }
    }

    /// What it means, for people; at most 1,024 characters.
    #[must_use]
    pub fn description(mut self, text: impl Into<String>) -> Self {
        self.description = text.into();
        self
    }

    /// The JSON Schema of the data: an object as JSON text of at most 64 KiB, of the draft that its `$schema` names or
    /// else 2020-12. It refers to nothing outside of itself but the drafts' own meta-schemas: nothing is ever fetched.
    /// Patterns are matched in linear time, so look-around and back-references are refused; `format` is not checked.
    ///
    /// For events whose host makes the whole body ([`NewEvent::raw`](crate::NewEvent::raw)) it is the schema of that.
    #[must_use]
    pub fn schema(mut self, text: impl Into<Arc<str>>) -> Self {
        self.schema = Some(text.into());
        self
    }

    /// Data as such an event may have it: JSON text of at most 64 KiB. It must fit the schema.
    #[must_use]
    pub fn example(mut self, text: impl Into<Arc<str>>) -> Self {
        self.example = Some(text.into());
        self
    }

    /// The entry as it is stored, if there is none of its name yet.
    pub(crate) fn entry(self, id: Uuid, now: Timestamp) -> Result<CatalogueEntry, InvalidEntry> {
        if self.description.chars().count() > MAX_DESCRIPTION {
            return Err(InvalidEntry::Description);
        }
        check("schema", self.schema.as_deref())?;
        check("example", self.example.as_deref())?;
        let entry = CatalogueEntry {
            id,
            name: self.name,
            description: self.description,
            schema: self.schema,
            example: self.example,
            created_at: now,
            updated_at: now,
        };
        check_schema(&entry)?;
        Ok(entry)
    }
}

fn check(field: &'static str, text: Option<&str>) -> Result<(), InvalidEntry> {
    let Some(text) = text else { return Ok(()) };
    if text.len() > MAX_TEXT {
        return Err(InvalidEntry::TooLong(field));
    }
    payload::check(text.as_bytes()).map_err(|reason| InvalidEntry::Json { field, reason })
}

#[cfg(feature = "schemas")]
fn check_schema(entry: &CatalogueEntry) -> Result<(), InvalidEntry> {
    let Some(text) = &entry.schema else {
        return Ok(());
    };
    let schema = crate::schema::Schema::compile(text).map_err(InvalidEntry::Schema)?;
    match &entry.example {
        Some(example) => schema
            .check(&entry.name, example.as_bytes())
            .map_err(|error| InvalidEntry::Schema(format!("it cannot be checked: {error}")))?
            .map_err(InvalidEntry::Example),
        None => Ok(()),
    }
}

#[cfg(not(feature = "schemas"))]
fn check_schema(entry: &CatalogueEntry) -> Result<(), InvalidEntry> {
    match entry.schema {
        Some(_) => Err(InvalidEntry::Unsupported),
        None => Ok(()),
    }
}

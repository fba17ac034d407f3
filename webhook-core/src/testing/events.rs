//! Asserting what was enqueued.

use serde_json::Value;

use crate::dispatcher::{Dispatcher, ManageError};
use crate::event::Event;
use crate::store::{EventFilter, Store};
use crate::tenant::PageRequest;

/// The events that were enqueued, newest first; at most the last 1,000.
///
/// # Errors
/// When the store fails.
pub async fn enqueued<S: Store + ?Sized>(
    dispatcher: &Dispatcher<S>,
) -> Result<Vec<Event>, ManageError> {
    let (page, all) = (PageRequest::first(1_000), EventFilter::default());
    let events = dispatcher.events();
    let mut enqueued = Vec::new();
    for listed in events.list(&all, page).await?.items {
        match events.get(listed.id).await {
            Ok(event) => enqueued.push(event),
            // Its retention has ended meanwhile.
            Err(ManageError::NotFound(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(enqueued)
}

/// The newest event of this type and, if given, with this `data` (compared as JSON). The error says what
/// was enqueued instead.
///
/// # Errors
/// When there is no such event, or the store fails.
pub async fn find_enqueued<S: Store + ?Sized>(
    dispatcher: &Dispatcher<S>,
    event_type: &str,
    data: Option<&Value>,
) -> Result<Event, String> {
    let events = enqueued(dispatcher)
        .await
        .map_err(|error| error.to_string())?;
    let json = |event: &Event| {
        event
            .data()
            .and_then(|data| serde_json::from_slice::<Value>(&data).ok())
    };
    let is_wanted = |event: &&Event| {
        event.event_type.as_str() == event_type
            && data.is_none_or(|data| json(event).as_ref() == Some(data))
    };
    if let Some(event) = events.iter().find(is_wanted) {
        return Ok(event.clone());
    }
    let body = |event: &Event| String::from_utf8_lossy(&event.body).into_owned();
    let there: Vec<_> = events.iter().map(body).collect();
    let wanted = data
        .map(|data| format!(" with data {data}"))
        .unwrap_or_default();
    Err(format!(
        "no event {event_type}{wanted} was enqueued; there are: {there:#?}"
    ))
}

/// Asserts that an event of a type was enqueued, optionally with some `data` (compared as JSON), and
/// evaluates to the [`Event`](crate::Event). To be used in an async function.
///
/// ```
/// # use webhook_core::testing::{ScriptedTransport, run};
/// # use webhook_core::{Dispatcher, MemoryStore, NewEvent, assert_enqueued};
/// # run(async {
/// # let dispatcher = Dispatcher::builder(MemoryStore::new()).transport(ScriptedTransport::default()).build()?;
/// dispatcher.enqueue(NewEvent::data("order.paid", r#"{"order":7}"#)?).await?;
/// assert_enqueued!(dispatcher, "order.paid");
/// let event = assert_enqueued!(dispatcher, "order.paid", serde_json::json!({ "order": 7 }));
/// assert_eq!(event.tenant.as_str(), "default");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[macro_export]
macro_rules! assert_enqueued {
    ($dispatcher:expr, $event_type:expr) => {
        match $crate::testing::find_enqueued(&$dispatcher, $event_type, None).await {
            Ok(event) => event,
            Err(message) => panic!("{message}"),
        }
    };
    ($dispatcher:expr, $event_type:expr, $data:expr) => {
        match $crate::testing::find_enqueued(&$dispatcher, $event_type, Some(&$data)).await {
            Ok(event) => event,
            Err(message) => panic!("{message}"),
        }
    };
}

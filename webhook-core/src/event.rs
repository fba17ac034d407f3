//! Events: what happened, and the body that is sent.

use std::fmt::{self, Write as _};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::catalogue::SchemaViolation;
use crate::id::is_test;
use crate::payload::{self, InvalidPayload, Payload};
use crate::tenant::Tenant;
use crate::time::Timestamp;
use crate::trace::TraceParent;

/// What kind of thing happened: `order.paid`.
///
/// 1 to 128 of the characters letters, digits, `.`, `_` and `-` (ASCII). Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventType(Arc<str>);

/// Why an event cannot be enqueued. Nothing was stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidEvent {
    /// The event type is empty, too long or has characters outside the allowed set.
    #[error("event_type must be 1 to 128 of the characters A-Z a-z 0-9 . _ -")]
    EventType,
    /// The data is not acceptable JSON.
    #[error("data: {0}")]
    Data(#[from] InvalidPayload),
    /// The body that would be sent is larger than the dispatcher's limit.
    #[error("the body is {size} bytes; at most {limit} are allowed")]
    TooLarge {
        /// Bytes of the body that would be sent.
        size: usize,
        /// The most that is allowed.
        limit: usize,
    },
    /// The idempotency key is empty, too long or not printable ASCII.
    #[error("an idempotency key is 1 to 255 printable ASCII characters")]
    IdempotencyKey,
    /// The data does not fit the JSON Schema of its type.
    #[error(transparent)]
    Schema(#[from] SchemaViolation),
}

impl EventType {
    /// The event type called `name`.
    ///
    /// # Errors
    /// [`InvalidEvent::EventType`] for anything but 1 to 128 of the allowed characters.
    pub fn new(name: &str) -> Result<Self, InvalidEvent> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        if (1..=128).contains(&name.len()) && name.bytes().all(allowed) {
            Ok(Self(name.into()))
        } else {
            Err(InvalidEvent::EventType)
        }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for EventType {
    type Err = InvalidEvent;

    fn from_str(name: &str) -> Result<Self, InvalidEvent> {
        Self::new(name)
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl Serialize for EventType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for EventType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::new(&name).map_err(D::Error::custom)
    }
}

/// An event as a host hands it to [`Dispatcher::enqueue`](crate::Dispatcher::enqueue).
///
/// ```
/// use webhook_core::{NewEvent, Tenant};
///
/// let event = NewEvent::json("order.paid", &serde_json::json!({ "order": 7, "amount": "19.90" }))?
///     .tenant(Tenant::new("acme")?)
///     .idempotency_key("order-7-paid")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct NewEvent {
    pub(crate) tenant: Tenant,
    pub(crate) event_type: EventType,
    content: Content,
    idempotency_key: Option<String>,
    deliver_at: Option<Timestamp>,
    traceparent: Option<TraceParent>,
}

#[derive(Clone, Debug)]
enum Content {
    /// JSON text that becomes `data` in the standard body.
    Data(Bytes),
    /// The whole body, in the host's own form.
    Body(Bytes),
}

impl NewEvent {
    /// An event whose `data` is `value`, serialised once, here.
    ///
    /// # Errors
    /// When the type is invalid or `value` cannot be written as JSON.
    pub fn json<T: Serialize + ?Sized>(event_type: &str, value: &T) -> Result<Self, InvalidEvent> {
        let text =
            serde_json::to_vec(value).map_err(|error| InvalidPayload::Syntax(error.to_string()))?;
        Self::data(event_type, text)
    }

    /// An event whose `data` is this JSON text, byte for byte: key order, spaces, duplicate keys and
    /// numbers of any size arrive as they are.
    ///
    /// # Errors
    /// When the type is invalid, or the text is not one JSON value in UTF-8 nested at most 128 deep.
    pub fn data(event_type: &str, text: impl Into<Bytes>) -> Result<Self, InvalidEvent> {
        let text = text.into();
        payload::check(&text)?;
        Ok(Self::with(EventType::new(event_type)?, Content::Data(text)))
    }

    /// An event whose whole request body is `body`, byte for byte, without our `type`, `timestamp` and
    /// `data` around it: for hosts whose receivers expect another form.
    ///
    /// # Errors
    /// When the type is invalid.
    pub fn raw(event_type: &str, body: impl Into<Bytes>) -> Result<Self, InvalidEvent> {
        Ok(Self::with(
            EventType::new(event_type)?,
            Content::Body(body.into()),
        ))
    }

    /// The tenant whose event it is; `default` unless set.
    #[must_use]
    pub fn tenant(mut self, tenant: Tenant) -> Self {
        self.tenant = tenant;
        self
    }

    /// Makes repeated calls with the same key one event. If the content is the same, the later call returns the id of the
    /// first event. If it is another, the call fails with a conflict. This holds within the dispatcher's
    /// [window](crate::Builder::idempotency_window), which is 24 hours unless set.
    ///
    /// # Errors
    /// When the key is not 1 to 255 printable ASCII characters.
    pub fn idempotency_key(mut self, key: &str) -> Result<Self, InvalidEvent> {
        if !(1..=255).contains(&key.len()) || !key.bytes().all(|b| (b' '..=b'~').contains(&b)) {
            return Err(InvalidEvent::IdempotencyKey);
        }
        self.idempotency_key = Some(key.to_owned());
        Ok(self)
    }

    /// The earliest time of the first attempt. Without it, the first attempt is made at once.
    ///
    /// An [ordered](crate::EndpointSettings::ordered) endpoint gets its events in the order of acceptance: until this time
    /// it gets none of the events that were accepted after this one.
    #[must_use]
    pub fn deliver_at(mut self, at: Timestamp) -> Self {
        self.deliver_at = Some(at);
        self
    }

    /// The trace to which the event's deliveries belong. Their requests carry it on as `traceparent`.
    ///
    /// If a [`Propagation`](crate::Propagation) is attached, the default is the trace of the span in which the event is
    /// enqueued, and each attempt sends its own place in the trace. Two calls with the same idempotency key may have
    /// different traces.
    #[must_use]
    pub fn traceparent(mut self, parent: TraceParent) -> Self {
        self.traceparent = Some(parent);
        self
    }

    pub(crate) fn parent(&self) -> Option<TraceParent> {
        self.traceparent
    }

    pub(crate) fn tenant_name(&self) -> &str {
        self.tenant.as_str()
    }

    /// Makes this span the event's parent, if it is in the same trace or the event has no trace yet.
    pub(crate) fn follow(&mut self, place: TraceParent) {
        let own = self.traceparent.get_or_insert(place);
        if own.trace_id() == place.trace_id() {
            *own = place;
        }
    }

    /// The event as it is stored, with an id and a time. The body is made here, once.
    pub(crate) fn stamp(self, id: Uuid, now: Timestamp) -> Event {
        let idempotency = self.idempotency_key.as_ref().map(|key| Idempotency {
            key: key.clone(),
            fingerprint: self.fingerprint(),
            window: Idempotency::DEFAULT_WINDOW,
        });
        let body = match self.content {
            Content::Body(body) => body,
            Content::Data(data) => envelope(&self.event_type, now, &data),
        };
        Event {
            id,
            tenant: self.tenant,
            event_type: self.event_type,
            body,
            created_at: now,
            deliver_at: self.deliver_at,
            idempotency,
            traceparent: self.traceparent,
        }
    }

    fn with(event_type: EventType, content: Content) -> Self {
        Self {
            tenant: Tenant::default(),
            event_type,
            content,
            idempotency_key: None,
            deliver_at: None,
            traceparent: None,
        }
    }

    /// What makes two requests with one idempotency key the same: type, content and time of delivery.
    fn fingerprint(&self) -> [u8; 32] {
        let (form, content) = match &self.content {
            Content::Data(data) => (b'd', data),
            Content::Body(body) => (b'b', body),
        };
        let at = self.deliver_at.map_or(-1, Timestamp::as_micros);
        Sha256::new()
            .chain_update([form])
            .chain_update(at.to_be_bytes())
            .chain_update(self.event_type.as_str())
            .chain_update([0])
            .chain_update(content)
            .finalize()
            .into()
    }
}

/// An event as it is stored. It never changes.
///
/// Events in lists, from [`Events::list`](crate::Events::list), come without their [`body`](Self::body);
/// [`Events::get`](crate::Events::get) returns it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its id, sent as `webhook-id` in every attempt and replay.
    pub id: Uuid,
    /// Whose event it is.
    pub tenant: Tenant,
    /// What kind of thing happened.
    pub event_type: EventType,
    /// The bytes that are stored, signed and sent. Empty in lists of events, so that [`data`](Self::data) is then `None` and
    /// [`payload`](Self::payload) is empty, whatever the event holds.
    pub body: Bytes,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// The earliest time of the first attempt.
    pub deliver_at: Option<Timestamp>,
    /// The key that makes repeated calls one event.
    pub idempotency: Option<Idempotency>,
    /// The trace in which it was enqueued.
    pub traceparent: Option<TraceParent>,
}

/// An idempotency key and what it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idempotency {
    /// The host's key; unique per tenant within its window.
    pub key: String,
    /// SHA-256 of the event's content. The same key with another fingerprint is a conflict.
    pub fingerprint: [u8; 32],
    /// How long the key stands for its event after that is stored. It is not stored with the event: an event that is read
    /// back has the default.
    pub window: Duration,
}

impl Idempotency {
    /// How long a key stands for its event unless set.
    pub const DEFAULT_WINDOW: Duration = Duration::from_secs(24 * 3_600);
}

impl Event {
    /// Whether [`Endpoints::test`](crate::Endpoints::test) made it. Such an event goes to one endpoint, whatever event types
    /// that wants, and is tried once. Its id is a UUIDv8; other events have a UUIDv7.
    #[must_use]
    pub fn is_test(&self) -> bool {
        is_test(self.id)
    }

    /// The body as payload filters read it. It is empty for an event from a list, which has no body.
    #[must_use]
    pub fn payload(&self) -> Payload<'_> {
        Payload::new(&self.body)
    }

    /// The JSON text given as `data`, byte for byte. `None` if the host made the whole body itself, and for every event from
    /// a list, which has no body.
    #[must_use]
    pub fn data(&self) -> Option<Bytes> {
        let mut head = BytesMut::new();
        push_head(&mut head, &self.event_type, self.created_at);
        let end = self.body.len().checked_sub(1)?;
        let is_envelope = self.body.starts_with(&head) && self.body.ends_with(b"}");
        (is_envelope && head.len() <= end).then(|| self.body.slice(head.len()..end))
    }
}

/// The standard body: `{"type":…,"timestamp":…,"data":…}`, in one allocation.
fn envelope(event_type: &EventType, at: Timestamp, data: &[u8]) -> Bytes {
    let around = r#"{"type":"","timestamp":"","data":}"#.len() + Timestamp::TEXT_LEN;
    let mut body = BytesMut::with_capacity(around + event_type.as_str().len() + data.len());
    push_head(&mut body, event_type, at);
    body.put_slice(data);
    body.put_u8(b'}');
    body.freeze()
}

/// Writes the part of the body before the data. The characters of an event type need no escape.
fn push_head(body: &mut BytesMut, event_type: &EventType, at: Timestamp) {
    body.put_slice(br#"{"type":""#);
    body.put_slice(event_type.as_str().as_bytes());
    body.put_slice(br#"","timestamp":""#);
    // Writing into a buffer that grows cannot fail.
    write!(body, "{at}").ok();
    body.put_slice(br#"","data":"#);
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Timestamp = Timestamp::from_seconds(1_700_000_000);

    fn stamped(event: NewEvent) -> Event {
        event.stamp(Uuid::nil(), AT)
    }

    #[test]
    fn event_types_have_a_small_alphabet() {
        for good in ["a", "order.paid", "A-b_c.9", &"x".repeat(128)] {
            assert!(EventType::new(good).is_ok(), "{good}");
        }
        for bad in ["", "a b", "ä", "a/b", "a*", "a\n", &"x".repeat(129)] {
            assert_eq!(EventType::new(bad), Err(InvalidEvent::EventType), "{bad:?}");
        }
    }

    #[test]
    fn data_stands_in_the_body_byte_for_byte() {
        for text in [
            r#"{"b":1,"a":2,"a":3}"#,
            "1e400",
            "123456789012345678901234567890.10",
            r#"{ "nul" : "\u0000", "crab" : "🦀" }"#,
            " [ 1 , 2 ] ",
        ] {
            let event = stamped(NewEvent::data("order.paid", text).unwrap());
            let body = format!(
                r#"{{"type":"order.paid","timestamp":"2023-11-14T22:13:20.000000Z","data":{text}}}"#
            );
            assert_eq!(event.body, body);
            assert_eq!(event.data().unwrap(), text);
        }
    }

    #[test]
    fn a_raw_body_is_sent_as_it_is_and_has_no_data() {
        for body in [&b"\xff\x00"[..], b"", b"}", br#"{"type":"x"}"#] {
            let event = stamped(NewEvent::raw("x", body).unwrap());
            assert_eq!(event.body, body);
            assert_eq!(event.data(), None);
        }
    }

    #[test]
    fn a_fingerprint_tells_other_content_apart() {
        let make = |kind: &str, text: &'static str| NewEvent::data(kind, text).unwrap();
        let base = make("a", "1").fingerprint();
        assert_eq!(base, make("a", "1").fingerprint());
        assert_ne!(base, make("b", "1").fingerprint());
        assert_ne!(base, make("a", "2").fingerprint());
        assert_ne!(base, make("a", "1").deliver_at(AT).fingerprint());
        assert_ne!(base, NewEvent::raw("a", "1").unwrap().fingerprint());
    }

    #[test]
    fn idempotency_keys_are_printable_and_short() {
        let event = NewEvent::data("a", "1").unwrap();
        assert!(event.clone().idempotency_key("order-7 paid").is_ok());
        for bad in ["", "a\n", "ä", &"k".repeat(256)] {
            assert!(event.clone().idempotency_key(bad).is_err(), "{bad:?}");
        }
    }
}

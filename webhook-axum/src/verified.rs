//! For receivers: an extractor that verifies webhooks, and a middleware that handles each event once.

use std::fmt;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{FromRef, FromRequest, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body::Body as _;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use serde_json::json;
use webhook_core::{Begin, Deduplicator, Error, Handling, ReceiveError, Receiver, Timestamp};

/// An event whose signature was verified before its body was parsed.
///
/// The [`Receiver`] comes from the router's state (or a part of it, by [`FromRef`]). The body is read
/// up to [`Receiver::max_body`], whatever axum's `DefaultBodyLimit` says, verified as raw bytes, and
/// only then read as JSON into `T`.
///
/// ```
/// use axum::Router;
/// use axum::routing::post;
/// use http::StatusCode;
/// use serde::Deserialize;
/// use webhook_axum::Verified;
/// use webhook_core::{MemoryReplayGuard, Receiver, Verifier, VerifyingKey};
///
/// #[derive(Deserialize)]
/// struct Event {
///     #[serde(rename = "type")]
///     event_type: String,
/// }
///
/// async fn on_event(webhook: Verified<Event>) -> StatusCode {
///     println!("{} is {}", webhook.id, webhook.event.event_type);
///     StatusCode::NO_CONTENT
/// }
///
/// let key: VerifyingKey = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse()?;
/// let receiver = Receiver::builder(Verifier::new(key))
///     .replay_guard(MemoryReplayGuard::new(100_000))
///     .build();
/// let app: Router = Router::new()
///     .route("/webhooks", post(on_event))
///     .with_state(receiver);
/// # Ok::<(), webhook_core::InvalidSecret>(())
/// ```
///
/// Webhooks come at least once: see [`deduplicate`] to handle each event once.
///
/// Rejects as [`VerifiedRejection`] lists, with a body like HTTP API errors have:
/// `{"error": "no signature matches", "code": "invalid_signature"}`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Verified<T> {
    /// `webhook-id`, the event's id: the same however often it is sent.
    pub id: String,
    /// `webhook-timestamp`, when this attempt was made.
    pub timestamp: Timestamp,
    /// The body as JSON.
    pub event: T,
    /// The body as it came.
    pub body: Bytes,
}

/// A verified webhook whose body is not parsed: for bodies that are not JSON, or are parsed later.
///
/// Otherwise as [`Verified`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct VerifiedBytes {
    /// `webhook-id`, the event's id: the same however often it is sent.
    pub id: String,
    /// `webhook-timestamp`, when this attempt was made.
    pub timestamp: Timestamp,
    /// The body as it came.
    pub body: Bytes,
}

/// Why a request did not reach the handler.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifiedRejection {
    /// 401 when it is not signed, not recent (`code`: as
    /// [`VerifyError::as_str`](webhook_core::VerifyError::as_str)) or was here before (`replayed`);
    /// 503 (`unavailable`) when the replay guard could not say.
    #[error("the webhook was not accepted")]
    Refused(#[source] ReceiveError),
    /// 413, `body_too_large`: longer than [`Receiver::max_body`].
    #[error("the body is longer than {max} bytes")]
    BodyTooLarge {
        /// The limit in bytes.
        max: usize,
    },
    /// 400, `unreadable_body`: the body broke off.
    #[error("the body could not be read")]
    UnreadableBody,
    /// 400, `invalid_json`: rightly signed, but not the JSON that the handler expects.
    #[error("the event is not as expected")]
    InvalidJson(#[source] serde_json::Error),
    /// 503, `unavailable`: the deduplicator could not say whether the event was handled.
    #[error("whether the event was handled is not known")]
    Unavailable(#[source] Error),
}

impl<S, T> FromRequest<S> for Verified<T>
where
    S: Send + Sync,
    T: DeserializeOwned,
    Receiver: FromRef<S>,
{
    type Rejection = VerifiedRejection;

    async fn from_request(request: Request, state: &S) -> Result<Self, VerifiedRejection> {
        let raw = VerifiedBytes::from_request(request, state).await?;
        let event = serde_json::from_slice(&raw.body).map_err(VerifiedRejection::InvalidJson)?;
        Ok(Self {
            id: raw.id,
            timestamp: raw.timestamp,
            event,
            body: raw.body,
        })
    }
}

impl<S> FromRequest<S> for VerifiedBytes
where
    S: Send + Sync,
    Receiver: FromRef<S>,
{
    type Rejection = VerifiedRejection;

    async fn from_request(request: Request, state: &S) -> Result<Self, VerifiedRejection> {
        let receiver = Receiver::from_ref(state);
        let (parts, body) = request.into_parts();
        match parts.extensions.get::<VerifiedBy>() {
            Some(by) if by.receiver.is_same(&receiver) => Ok(by.webhook.clone()),
            _ => receive(&receiver, &parts.headers, body).await,
        }
    }
}

/// What [`deduplicate`] works with: the same [`Receiver`] as the handler's, and a [`Deduplicator`].
#[derive(Clone)]
pub struct Deduplicate {
    receiver: Receiver,
    deduplicator: Arc<dyn Deduplicator>,
}

impl Deduplicate {
    /// Verifies with `receiver` and remembers handled events in `deduplicator`.
    #[must_use]
    pub fn new(receiver: Receiver, deduplicator: impl Deduplicator + 'static) -> Self {
        Self {
            receiver,
            deduplicator: Arc::new(deduplicator),
        }
    }
}

/// Middleware that runs the handler once per event, however often the sender repeats it.
///
/// It verifies first (unsigned requests are rejected as [`Verified`] rejects them, and mark nothing),
/// then goes by `webhook-id`:
///
/// | the event | the answer |
/// |---|---|
/// | is new | the handler's. 2xx marks it as handled; anything else, a panic, or a client that hangs up lets it in again |
/// | is being handled by another request | 409, `in_progress`: the sender tries again and hears how it ended |
/// | was handled | 200, `{"status": "already_handled"}`, without the handler |
///
/// So a handler answers 2xx when the event is safe — done, or committed to be done — not before.
///
/// A replay guard in the receiver does not get in the way: a sender's retry has a new timestamp, which
/// is not a replay. See [`Receiver`].
///
/// Put it on the routes that take webhooks, and on no others:
///
/// ```
/// use std::time::Duration;
///
/// use axum::Router;
/// use axum::middleware::from_fn_with_state;
/// use axum::routing::post;
/// use http::StatusCode;
/// use serde_json::Value;
/// use webhook_axum::{Deduplicate, Verified, deduplicate};
/// use webhook_core::{MemoryDeduplicator, Receiver, Verifier, VerifyingKey};
///
/// async fn on_event(webhook: Verified<Value>) -> StatusCode {
///     // … commit what the event asks for …
///     StatusCode::NO_CONTENT
/// }
///
/// let key: VerifyingKey = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse()?;
/// let receiver = Receiver::builder(Verifier::new(key)).build();
/// let week = Duration::from_secs(7 * 86_400);
/// let once = Deduplicate::new(receiver.clone(), MemoryDeduplicator::new(100_000, week));
///
/// let app: Router = Router::new()
///     .route("/webhooks", post(on_event))
///     .route_layer(from_fn_with_state(once, deduplicate))
///     .with_state(receiver);
/// # Ok::<(), webhook_core::InvalidSecret>(())
/// ```
///
/// The extractors take over what the middleware has verified if both use clones of one [`Receiver`];
/// one with another receiver verifies again, by its own keys.
pub async fn deduplicate(
    State(once): State<Deduplicate>,
    request: Request,
    next: Next,
) -> Response {
    match once.run(request, next).await {
        Ok(response) => response,
        Err(rejection) => rejection.into_response(),
    }
}

impl Deduplicate {
    async fn run(&self, request: Request, next: Next) -> Result<Response, VerifiedRejection> {
        let (mut parts, body) = request.into_parts();
        let webhook = receive(&self.receiver, &parts.headers, body).await?;
        let begun = self
            .deduplicator
            .begin(&webhook.id, self.receiver.now())
            .await
            .map_err(VerifiedRejection::Unavailable)?;
        Ok(match begun {
            Begin::New(handling) => {
                let body = Body::from(webhook.body.clone());
                let receiver = self.receiver.clone();
                parts.extensions.insert(VerifiedBy { receiver, webhook });
                let response = next.run(Request::from_parts(parts, body)).await;
                self.finish(handling, response.status()).await;
                response
            }
            Begin::InProgress => error(
                StatusCode::CONFLICT,
                "in_progress",
                "this event is being handled; try again",
            ),
            Begin::Done => Json(json!({"status": "already_handled"})).into_response(),
        })
    }

    /// The handler has run: whatever happens here, its answer stands.
    async fn finish(&self, handling: Box<dyn Handling>, status: StatusCode) {
        let finished = if status.is_success() {
            handling.confirm(self.receiver.now()).await
        } else {
            handling.release().await
        };
        if let Err(error) = finished {
            tracing::warn!(error = &error as &dyn std::error::Error, "deduplicator");
        }
    }
}

/// A request's extension: what was verified, and by whom.
#[derive(Clone)]
struct VerifiedBy {
    receiver: Receiver,
    webhook: VerifiedBytes,
}

async fn receive(
    receiver: &Receiver,
    headers: &HeaderMap,
    body: Body,
) -> Result<VerifiedBytes, VerifiedRejection> {
    let body = read(body, receiver.max_body()).await?;
    let verified = receiver
        .receive(headers, &body)
        .await
        .map_err(VerifiedRejection::Refused)?;
    Ok(VerifiedBytes {
        id: verified.id,
        timestamp: verified.timestamp,
        body,
    })
}

async fn read(body: Body, max: usize) -> Result<Bytes, VerifiedRejection> {
    // What announces its length need not be read to be refused.
    if usize::try_from(body.size_hint().lower()).map_or(true, |announced| announced > max) {
        return Err(VerifiedRejection::BodyTooLarge { max });
    }
    match Limited::new(body, max).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            Err(VerifiedRejection::BodyTooLarge { max })
        }
        Err(_) => Err(VerifiedRejection::UnreadableBody),
    }
}

impl IntoResponse for VerifiedRejection {
    fn into_response(self) -> Response {
        match &self {
            Self::Refused(ReceiveError::Unverified(refusal)) => error(
                StatusCode::UNAUTHORIZED,
                refusal.as_str(),
                &refusal.to_string(),
            ),
            Self::Refused(refusal @ ReceiveError::Replayed) => {
                error(StatusCode::UNAUTHORIZED, "replayed", &refusal.to_string())
            }
            Self::Refused(_) | Self::Unavailable(_) => {
                tracing::warn!(error = &self as &dyn std::error::Error, "webhook refused");
                error(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "unavailable",
                    "webhooks cannot be taken right now; try again",
                )
            }
            Self::BodyTooLarge { .. } => error(
                StatusCode::PAYLOAD_TOO_LARGE,
                "body_too_large",
                &self.to_string(),
            ),
            Self::UnreadableBody => error(
                StatusCode::BAD_REQUEST,
                "unreadable_body",
                &self.to_string(),
            ),
            Self::InvalidJson(source) => error(
                StatusCode::BAD_REQUEST,
                "invalid_json",
                &format!("{self}: {source}"),
            ),
        }
    }
}

fn error(status: StatusCode, code: &str, sentence: &str) -> Response {
    (status, Json(json!({"error": sentence, "code": code}))).into_response()
}

impl fmt::Debug for Deduplicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deduplicate")
            .field("receiver", &self.receiver)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;

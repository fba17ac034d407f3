//! [`ApiError`]: how a failed request is answered, with `{"error", "code"}`.

use std::borrow::Cow;
use std::error::Error as StdError;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use webhook_core::{
    BatchError, EnqueueError, Error, ErrorKind, InvalidEvent, InvalidHeader, ManageError,
};

/// The code of what passes in a second or so.
const OVERLOADED: &str = "overloaded";

/// A failed request: its status, its kind, and a sentence that a person can act on.
///
/// The sentence holds no secret and nothing of what a backend says.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    code: &'static str,
    sentence: Cow<'static, str>,
}

impl ApiError {
    /// 400: the request is malformed or holds something invalid.
    pub(crate) fn invalid(code: &'static str, sentence: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, sentence)
    }

    /// 400: the body is JSON, but not what the route takes.
    pub(crate) fn invalid_request(sentence: impl Into<Cow<'static, str>>) -> Self {
        Self::invalid("invalid_request", sentence)
    }

    /// 401.
    pub(crate) fn unauthorized() -> Self {
        let sentence = "a valid credential is needed: Authorization: Bearer …";
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", sentence)
    }

    /// 403.
    pub(crate) fn forbidden(sentence: &'static str) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", sentence)
    }

    /// 404: no route.
    pub(crate) fn unknown_path() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "there is no such path")
    }

    /// 405.
    pub(crate) fn method_not_allowed() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "this path does not take this method; see the header Allow",
        )
    }

    /// 413: the request's body is longer than `limit` bytes.
    pub(crate) fn body_too_large(limit: usize) -> Self {
        Self::too_large(
            "body_too_large",
            format!("the body is longer than {limit} bytes"),
        )
    }

    /// 415.
    pub(crate) fn unsupported_media_type() -> Self {
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            "the body must come with content-type: application/json",
        )
    }

    /// 503: nothing can be said or done right now. The cause is for the log.
    pub(crate) fn unavailable(cause: &(dyn StdError + 'static)) -> Self {
        tracing::warn!(error = cause, "request answered with 503");
        Self::away("unavailable", "the store cannot be reached; try again")
    }

    /// The same, said of one event of a batch.
    pub(crate) fn at(mut self, index: usize) -> Self {
        self.sentence = format!("event {index}: {}", self.sentence).into();
        self
    }

    #[cfg(feature = "dashboard")]
    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// Whether trying again in a moment is all that is to be done.
    #[cfg(feature = "dashboard")]
    pub(crate) fn is_overload(&self) -> bool {
        self.code == OVERLOADED
    }

    /// What went wrong, for people.
    #[cfg(feature = "dashboard")]
    pub(crate) fn sentence(&self) -> &str {
        &self.sentence
    }

    pub(crate) fn too_large(code: &'static str, sentence: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, code, sentence)
    }

    pub(crate) fn away(code: &'static str, sentence: &'static str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, sentence)
    }

    fn conflict(code: &'static str, sentence: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::CONFLICT, code, sentence)
    }

    fn new(status: StatusCode, code: &'static str, sentence: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            code,
            sentence: sentence.into(),
        }
    }
}

/// The body of a refusal.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Error))]
pub(crate) struct ErrorBody {
    /// A sentence that a person can act on.
    error: Cow<'static, str>,
    /// Its kind, for programs.
    #[cfg_attr(
        feature = "openapi",
        schema(pattern = "^[a-z_]+$", example = "not_found")
    )]
    code: &'static str,
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        #[cfg(feature = "dashboard")]
        let refusal = crate::dashboard::Refusal::of(&self);
        let body = Json(ErrorBody {
            error: self.sentence,
            code: self.code,
        });
        let mut response = (self.status, body).into_response();
        #[cfg(feature = "dashboard")]
        response.extensions_mut().insert(refusal);
        if self.status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer");
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, scheme);
        }
        if self.code == OVERLOADED {
            let soon = HeaderValue::from_static("1");
            response.headers_mut().insert(header::RETRY_AFTER, soon);
        }
        response
    }
}

/// If the store refuses the input itself, the caller must change it. Any other failure is ours and passes, so the caller
/// should try again. The store may have committed and its answer may be lost: then the event was accepted, and only an
/// idempotency key keeps the repeated request from making a second one.
impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        match error.kind() {
            ErrorKind::Rejected => Self::invalid("rejected", "the store refuses this input"),
            ErrorKind::Sealed => {
                tracing::warn!(error = &error as &dyn StdError, "request answered with 503");
                let sentence = "the endpoint's secrets cannot be opened with the keys at hand";
                Self::away("sealed", sentence)
            }
            ErrorKind::Overloaded => {
                tracing::warn!(error = &error as &dyn StdError, "request answered with 503");
                let sentence = "too much is searched for at once; the store is there, so try again in a moment";
                Self::away(OVERLOADED, sentence)
            }
            _ => Self::unavailable(&error),
        }
    }
}

impl From<ManageError> for ApiError {
    fn from(error: ManageError) -> Self {
        match error {
            ManageError::NotFound(_) => {
                Self::new(StatusCode::NOT_FOUND, "not_found", error.to_string())
            }
            ManageError::InvalidEvent(invalid) => invalid.into(),
            ManageError::InvalidEntry(invalid) => {
                Self::invalid("invalid_event_type", invalid.to_string())
            }
            ManageError::Invalid(invalid) => Self::invalid("invalid_setting", invalid.to_string()),
            ManageError::UrlNotAllowed(blocked) => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "url_not_allowed",
                blocked.tenant_message(),
            ),
            ManageError::TooManyEndpoints(_) => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "too_many_endpoints",
                error.to_string(),
            ),
            ManageError::Conflict(why) => Self::conflict("conflict", why),
            ManageError::Overloaded(why) => {
                tracing::warn!(error = &error as &dyn StdError, "request answered with 503");
                Self::away(OVERLOADED, why)
            }
            ManageError::Store(error) => error.into(),
            other => Self::unavailable(&other),
        }
    }
}

impl From<InvalidEvent> for ApiError {
    fn from(invalid: InvalidEvent) -> Self {
        match invalid {
            InvalidEvent::Schema(_) => Self::invalid("schema_violation", invalid.to_string()),
            InvalidEvent::TooLarge { .. } => Self::too_large("body_too_large", invalid.to_string()),
            _ => Self::invalid("invalid_event", invalid.to_string()),
        }
    }
}

impl From<EnqueueError> for ApiError {
    fn from(error: EnqueueError) -> Self {
        match error {
            EnqueueError::Invalid(invalid) => invalid.into(),
            EnqueueError::IdempotencyConflict { event_id } => {
                Self::conflict("idempotency_conflict", format!("{error}: {event_id}"))
            }
            EnqueueError::Overloaded => {
                tracing::warn!(error = &error as &dyn StdError, "request answered with 503");
                Self::away(OVERLOADED, "too many events wait to be stored; try again")
            }
            EnqueueError::Store(error) => error.into(),
            other => Self::unavailable(&other),
        }
    }
}

impl From<BatchError> for ApiError {
    fn from(error: BatchError) -> Self {
        match error {
            BatchError::TooMany => Self::too_large("batch_too_large", error.to_string()),
            BatchError::Event { index, source } => Self::from(source).at(index),
            BatchError::Store(error) => error.into(),
            other => Self::unavailable(&other),
        }
    }
}

impl From<InvalidHeader> for ApiError {
    fn from(invalid: InvalidHeader) -> Self {
        Self::invalid("invalid_setting", invalid.to_string())
    }
}

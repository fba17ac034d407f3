//! Finishes a request that changes something, with its entry in the audit log, even if the client hangs up.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tracing::Instrument as _;
use webhook_core::{Error, ErrorKind, ManageError};

use crate::error::ApiError;

/// Runs what may change something in a task of its own: a server drops a handler whose connection is gone, between
/// any two steps.
pub(crate) async fn finish(request: Request, next: Next) -> Response {
    if request.method().is_safe() {
        return next.run(request).await;
    }
    match tokio::spawn(next.run(request).in_current_span()).await {
        Ok(response) => response,
        Err(failed) => match failed.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is shutting down.
            Err(_) => {
                let error = Error::new(ErrorKind::Unavailable, "finish");
                ApiError::from(ManageError::from(error)).into_response()
            }
        },
    }
}

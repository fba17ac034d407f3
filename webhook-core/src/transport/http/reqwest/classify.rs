//! The one place that makes sense of the HTTP client's errors.

use std::io;

use super::super::errors::{causes, known};
use crate::transport::{TransportError, TransportErrorKind};

/// The client's error as ours. The URL, whose query may be a secret, is taken out.
pub(super) fn error(error: reqwest::Error) -> TransportError {
    let error = error.without_url();
    TransportError::new(kind(&error)).with_source(error)
}

fn kind(error: &reqwest::Error) -> TransportErrorKind {
    if let Some(kind) = causes(error).find_map(known) {
        return kind;
    }
    if error.is_body() || error.is_decode() {
        TransportErrorKind::Body
    } else if error.is_connect() && in_handshake(error) {
        TransportErrorKind::Tls
    } else if error.is_connect() {
        TransportErrorKind::Connect
    } else if error.is_timeout() {
        TransportErrorKind::Timeout
    } else if error.is_builder() {
        TransportErrorKind::Internal
    } else {
        TransportErrorKind::Protocol
    }
}

/// Whether the peer broke off during the TLS handshake: the client wraps the I/O errors of that stage,
/// and only of that stage, in another I/O error.
fn in_handshake(error: &reqwest::Error) -> bool {
    let mut pairs = causes(error).zip(causes(error).skip(1));
    pairs.any(|(outer, inner)| outer.is::<io::Error>() && inner.is::<io::Error>())
}

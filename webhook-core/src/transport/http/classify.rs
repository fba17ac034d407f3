//! The one place that makes sense of the HTTP client's errors.

use std::error::Error as StdError;
use std::io;

use crate::error::BoxError;
use crate::network::{Blocked, LookupFailed};
use crate::transport::{TransportError, TransportErrorKind};

/// The client's error as ours. The URL, whose query may be a secret, is taken out.
pub(super) fn error(error: reqwest::Error) -> TransportError {
    let error = error.without_url();
    TransportError::new(kind(&error)).with_source(error)
}

/// Why a target was not vetted, as ours.
pub(super) fn refusal(error: BoxError) -> TransportError {
    let kind = known(&*error).unwrap_or(TransportErrorKind::Internal);
    TransportError::new(kind).with_source(error)
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

/// Causes whose type alone says it.
fn known(cause: &(dyn StdError + 'static)) -> Option<TransportErrorKind> {
    if cause.is::<Blocked>() {
        Some(TransportErrorKind::Blocked)
    } else if cause.is::<LookupFailed>() {
        Some(TransportErrorKind::Dns)
    } else if cause.is::<rustls::Error>() {
        Some(TransportErrorKind::Tls)
    } else {
        None
    }
}

/// Whether the peer broke off during the TLS handshake: the client wraps the I/O errors of that stage,
/// and only of that stage, in another I/O error.
fn in_handshake(error: &reqwest::Error) -> bool {
    let mut pairs = causes(error).zip(causes(error).skip(1));
    pairs.any(|(outer, inner)| outer.is::<io::Error>() && inner.is::<io::Error>())
}

/// The chain of sources, those inside of I/O errors too: `io::Error::source` skips its own content.
fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn StdError + 'static)> {
    std::iter::successors(Some(error as _), cause_of)
}

fn cause_of<'a>(error: &&'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    let error = *error;
    match error.downcast_ref::<io::Error>() {
        Some(io) => io.get_ref().map(|inner| inner as _),
        None => error.source(),
    }
}

//! What our own errors, and those of TLS, mean.

use std::error::Error as StdError;
use std::io;

use crate::error::BoxError;
use crate::network::{Blocked, LookupFailed, NoPermit};
use crate::transport::{TransportError, TransportErrorKind};

pub(super) fn blocked(reason: impl Into<BoxError>) -> TransportError {
    TransportError::new(TransportErrorKind::Blocked).with_source(reason)
}

/// Why a target was not vetted, as ours.
pub(super) fn refusal(error: BoxError) -> TransportError {
    let kind = known(&*error).unwrap_or(TransportErrorKind::Internal);
    TransportError::new(kind).with_source(error)
}

/// What the causes of an error say of it, if one does.
#[cfg(feature = "hyper")]
pub(super) fn in_causes(error: &(dyn StdError + 'static)) -> Option<TransportErrorKind> {
    causes(error).find_map(known)
}

/// The chain of sources, those inside of I/O errors too: `io::Error::source` skips its own content.
pub(super) fn causes<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), cause_of)
}

fn cause_of<'a>(error: &&'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    let error = *error;
    match error.downcast_ref::<io::Error>() {
        Some(io) => io.get_ref().map(|inner| inner as _),
        None => error.source(),
    }
}

/// Causes whose type alone says it.
pub(super) fn known(cause: &(dyn StdError + 'static)) -> Option<TransportErrorKind> {
    if cause.is::<Blocked>() {
        Some(TransportErrorKind::Blocked)
    } else if cause.is::<NoPermit>() {
        Some(TransportErrorKind::Internal)
    } else if cause.is::<LookupFailed>() {
        Some(TransportErrorKind::Dns)
    } else if cause.is::<rustls::Error>() {
        Some(TransportErrorKind::Tls)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::Failure;

    #[test]
    fn a_lookup_that_did_not_begin_is_our_failure_and_one_that_failed_is_not() {
        let is_ours = |error: BoxError| Failure::Transport(refusal(error).kind()).is_ours();
        assert!(is_ours(NoPermit.into()));
        assert!(!is_ours(LookupFailed("no such name".into()).into()));
        let within = io::Error::other(NoPermit);
        let found = causes(&within).find_map(known);
        assert_eq!(found, Some(TransportErrorKind::Internal));
    }
}

//! Traits, retry, signing and scheduling of the webhook-delivery engine.

mod error;
mod receiver;
mod signing;
mod time;
mod transport;

pub use error::{BoxError, Error, ErrorKind, Result};
pub use receiver::{
    Begin, DEFAULT_MAX_BODY, Deduplicator, Handling, MemoryDeduplicator, MemoryReplayGuard,
    ReceiveError, Receiver, ReceiverBuilder, ReplayGuard,
};
pub use signing::{
    DEFAULT_TOLERANCE, HeaderNames, InvalidHeaderPrefix, InvalidSecret, Scheme, Secret, SignError,
    SignRequest, Signer, StandardWebhooks, VerifiedHeaders, Verifier, VerifyError, VerifyingKey,
};
pub use time::{Clock, Now, SystemClock, Timestamp};
pub use transport::{
    MaxResponseBody, RequestTimeout, Timings, Transport, TransportError, TransportErrorKind,
    Truncated,
};

//! Traits, retry, signing and scheduling of the webhook-delivery engine.

mod error;
mod receiver;
mod signing;
mod network;
#[cfg(feature = "tower")]
mod service;
mod time;
mod transport;
mod url;

pub use error::{BoxError, Error, ErrorKind, Result};
pub use receiver::{
    Begin, DEFAULT_MAX_BODY, Deduplicator, Handling, MemoryDeduplicator, MemoryReplayGuard,
    ReceiveError, Receiver, ReceiverBuilder, ReplayGuard,
};
pub use signing::{
    DEFAULT_TOLERANCE, HeaderNames, InvalidHeaderPrefix, InvalidSecret, Scheme, Secret, SignError,
    SignRequest, Signer, StandardWebhooks, VerifiedHeaders, Verifier, VerifyError, VerifyingKey,
};
pub use network::{Blocked, InvalidNetwork, Network, NetworkPolicy, NetworkPolicyBuilder};
#[cfg(feature = "reqwest")]
pub use network::{Resolve, SystemResolver};
#[cfg(feature = "tower")]
pub use service::{ServiceTransport, TransportService};
pub use time::{Clock, Now, SystemClock, Timestamp};
#[cfg(feature = "reqwest")]
pub use transport::http::{BuildTransportError, HttpTransport, HttpTransportBuilder};
pub use transport::{
    MaxResponseBody, RequestTimeout, Timings, Transport, TransportError, TransportErrorKind,
    Truncated,
};
pub use url::{EndpointUrl, InvalidEndpointUrl};

//! Traits, retry, signing and scheduling of the webhook-delivery engine.

mod error;
mod network;
mod time;
mod transport;
mod url;

pub use error::{BoxError, Error, ErrorKind, Result};
pub use network::{Blocked, InvalidNetwork, Network, NetworkPolicy, NetworkPolicyBuilder};
#[cfg(feature = "reqwest")]
pub use network::{Resolve, SystemResolver};
pub use time::{Clock, Now, SystemClock, Timestamp};
pub use transport::{
    MaxResponseBody, RequestTimeout, Timings, Transport, TransportError, TransportErrorKind,
    Truncated,
};
pub use url::{EndpointUrl, InvalidEndpointUrl};

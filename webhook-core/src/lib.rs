//! Traits, retry, signing and scheduling of the webhook-delivery engine.

mod error;
mod time;
mod transport;

pub use error::{BoxError, Error, ErrorKind, Result};
pub use time::{Clock, Now, SystemClock, Timestamp};
pub use transport::{
    MaxResponseBody, RequestTimeout, Timings, Transport, TransportError, TransportErrorKind,
    Truncated,
};

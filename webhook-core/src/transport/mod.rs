//! The seam between the engine and the network.

#[cfg(feature = "reqwest")]
pub(crate) mod http;

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use ::http::{Request, Response};
use async_trait::async_trait;
use bytes::Bytes;

use crate::error::BoxError;

/// Sends one signed request and returns what came back.
///
/// The contract:
/// - Every response with a status line is `Ok`, whatever the status: the engine decides what it means.
/// - The request goes out as it is: body and headers are signed. A transport may add headers; it must
///   not follow redirects, retry, decompress, or take proxies from the environment.
/// - [`EndpointUrl`](crate::EndpointUrl) in the request's extensions is where the request goes, already
///   parsed; where there is none, the URI says it, in absolute form.
/// - [`RequestTimeout`] in the request's extensions is one total deadline, from the first look-up to the
///   last byte of the body. The engine aborts a transport that overstays it.
/// - [`MaxResponseBody`] in the request's extensions caps what is read of the body. The rest is not
///   read; [`Truncated`] in the response's extensions says so.
/// - [`Timings`] in the response's extensions, where the transport can measure them.
/// - Nothing reaches an address that the host's policy forbids: see [`NetworkPolicy`](crate::NetworkPolicy).
#[async_trait]
pub trait Transport: Send + Sync {
    /// Sends `request` and reads the response.
    ///
    /// # Errors
    /// When no complete response arrived; the kind says at which stage it failed.
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, TransportError>;
}

/// The total deadline of one request, in its extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestTimeout(pub Duration);

/// The most bytes of a response body that are kept, in a request's extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxResponseBody(pub usize);

/// The response body was longer than [`MaxResponseBody`]; in a response's extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truncated;

/// Where the time of a request went, in a response's extensions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timings {
    /// From the start to the response's head.
    pub first_byte: Option<Duration>,
}

/// No complete response arrived.
///
/// `Display` names only the kind: neither it nor the source holds a URL's query, a header or a secret.
#[derive(Debug)]
pub struct TransportError {
    kind: TransportErrorKind,
    source: Option<BoxError>,
}

/// At which stage a request failed. All but [`Blocked`](Self::Blocked) and [`Internal`](Self::Internal)
/// are ordinary, transient failures of the endpoint or the way to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TransportErrorKind {
    /// The name could not be resolved. Transient.
    Dns,
    /// The URL or an address it resolves to is forbidden by the network policy.
    Blocked,
    /// No connection could be made. Transient.
    Connect,
    /// The TLS handshake failed or the certificate is not valid. Transient: certificates get renewed.
    Tls,
    /// The deadline passed. Transient.
    Timeout,
    /// The connection broke, or what came back is not HTTP. Transient.
    Protocol,
    /// The response's body broke off or was malformed. Transient.
    Body,
    /// A defect of the transport itself, a panic for example. Transient.
    Internal,
}

impl TransportErrorKind {
    /// The kind as a tenant may see it: nothing before an open connection is told apart, or an endpoint
    /// would be a scanner of the networks around the engine.
    #[must_use]
    pub fn as_tenant_str(self) -> &'static str {
        match self {
            Self::Dns | Self::Blocked | Self::Connect => "unreachable",
            other => other.as_str(),
        }
    }

    /// The kind as it stands in the attempt log, for operators: a `snake_case` word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Blocked => "blocked",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::Protocol => "protocol",
            Self::Body => "body",
            Self::Internal => "internal",
        }
    }
}

impl TransportError {
    /// An error of `kind`.
    #[must_use]
    pub fn new(kind: TransportErrorKind) -> Self {
        Self { kind, source: None }
    }

    /// Adds the cause. It must not hold a URL's query, a header's value or a secret.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// At which stage the request failed.
    #[must_use]
    pub fn kind(&self) -> TransportErrorKind {
        self.kind
    }
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            TransportErrorKind::Dns => "the host name could not be resolved",
            TransportErrorKind::Blocked => "the network policy forbids this address",
            TransportErrorKind::Connect => "the connection could not be made",
            TransportErrorKind::Tls => "the TLS handshake failed",
            TransportErrorKind::Timeout => "the endpoint did not answer in time",
            TransportErrorKind::Protocol => "the answer was not valid HTTP",
            TransportErrorKind::Body => "the response's body broke off",
            TransportErrorKind::Internal => "the transport failed",
        })
    }
}

impl StdError for TransportError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

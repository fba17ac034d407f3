//! The seam between the engine and the network.

#[cfg(any(feature = "hyper", feature = "reqwest"))]
pub(crate) mod http;

use std::error::Error as StdError;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use ::http::{Request, Response};
use async_trait::async_trait;
use bytes::Bytes;

use crate::delivery::UnknownWord;
use crate::error::BoxError;
use crate::url::EndpointUrl;

/// Sends one signed request and returns what came back.
///
/// The contract:
/// - Every response with a status line is `Ok`, whatever the status: the engine decides what it means.
/// - The request goes out as it is: body and headers are signed. A transport may add headers; it must
///   not follow redirects, retry, decompress, or take proxies from the environment.
/// - [`RequestOptions`] in the request's extensions says where it goes, already parsed, how long it may
///   take and how much of the response is kept. Where there are none, the URI says where, in absolute
///   form, and the rest is the defaults.
/// - Its timeout is one total deadline, from the first look-up to the last byte of the body. The engine
///   aborts a transport that overstays it.
/// - What it does not keep of the body is not read.
/// - [`ResponseDetails`] in the response's extensions, for what is known beside the response.
/// - Nothing reaches an address that the host's policy forbids: see [`NetworkPolicy`](crate::NetworkPolicy).
#[async_trait]
pub trait Transport: Send + Sync {
    /// Sends `request` and reads the response.
    ///
    /// # Errors
    /// When no complete response arrived; the kind says at which stage it failed.
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, TransportError>;
}

/// Where a request goes, and its limits; in the request's extensions.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RequestOptions {
    /// Where it goes. Says the same as the request's URI, and need not be parsed again.
    pub url: EndpointUrl,
    /// The total deadline, body included. Default: 15 s.
    pub timeout: Duration,
    /// The most bytes of the response's body that are kept. Default: 16 KiB.
    pub max_response_body: usize,
}

impl RequestOptions {
    /// A request to `url` with the default limits.
    #[must_use]
    pub fn new(url: EndpointUrl) -> Self {
        Self {
            url,
            timeout: Duration::from_secs(15),
            max_response_body: 16 * 1024,
        }
    }

    /// Sets the total deadline.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets the most bytes of the response's body that are kept.
    #[must_use]
    pub fn max_response_body(mut self, bytes: usize) -> Self {
        self.max_response_body = bytes;
        self
    }
}

/// What is known of a response beside itself; in its extensions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ResponseDetails {
    /// From the start to the response's head, where the transport can tell.
    pub first_byte: Option<Duration>,
    /// What the look-up of the name took, if there was one: a connection that was open already needs none, nor does an
    /// address. Part of [`first_byte`](Self::first_byte), as the next two are.
    pub dns: Option<Duration>,
    /// What it took to reach the peer, if a connection was made; through a proxy, the way through it too.
    pub connect: Option<Duration>,
    /// What the TLS handshake with the endpoint took, if there was one.
    pub tls: Option<Duration>,
    /// The body was longer than what is kept of it.
    pub truncated: bool,
}

impl ResponseDetails {
    /// Sets the time to the response's head.
    #[must_use]
    pub fn first_byte(mut self, time: Duration) -> Self {
        self.first_byte = Some(time);
        self
    }

    /// Sets what the look-up took.
    #[must_use]
    pub fn dns(mut self, time: Duration) -> Self {
        self.dns = Some(time);
        self
    }

    /// Sets what it took to reach the peer.
    #[must_use]
    pub fn connect(mut self, time: Duration) -> Self {
        self.connect = Some(time);
        self
    }

    /// Sets what the TLS handshake took.
    #[must_use]
    pub fn tls(mut self, time: Duration) -> Self {
        self.tls = Some(time);
        self
    }

    /// Says whether the body was longer than what is kept of it.
    #[must_use]
    pub fn truncated(mut self, truncated: bool) -> Self {
        self.truncated = truncated;
        self
    }
}

/// No complete response arrived.
///
/// `Display` names only the kind: neither it nor the source holds a URL's query, a header or a secret.
#[derive(Debug)]
pub struct TransportError {
    kind: TransportErrorKind,
    source: Option<BoxError>,
}

/// At which stage a request failed. All are transient: the delivery is tried again.
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
    /// A failure of ours, and not the endpoint's: of the signer, or a panic, for example. Transient, and uses up no
    /// attempt of the schedule.
    Internal,
}

impl TransportErrorKind {
    pub(crate) const ALL: [Self; 8] = [
        Self::Dns,
        Self::Blocked,
        Self::Connect,
        Self::Tls,
        Self::Timeout,
        Self::Protocol,
        Self::Body,
        Self::Internal,
    ];

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

impl FromStr for TransportErrorKind {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == word)
            .ok_or_else(|| UnknownWord::new(word, "transport error"))
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
            TransportErrorKind::Internal => "the sending side failed",
        })
    }
}

impl StdError for TransportError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

//! [`Transport`]: the seam between the engine and the network.

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
/// - Every response with a status line is `Ok`, whatever the status. The engine decides what the status means.
/// - The request goes out unchanged, because body and headers are signed. A transport may add headers. It must not follow
///   redirects, retry, decompress, or take proxies from the environment.
/// - [`RequestOptions`] in the request's extensions say where the request goes (as a parsed URL), how long it may take, and
///   how much of the response is kept. Without them, the request's absolute URI says where it goes, and the other options
///   have their defaults.
/// - The timeout is one total deadline, from the first look-up to the last byte of the body. The engine aborts a transport
///   that takes longer.
/// - The transport does not read the part of the body that it does not keep.
/// - It puts [`ResponseDetails`] into the response's extensions, with what it knows beside the response.
/// - It connects to no address that the host's policy forbids: see [`NetworkPolicy`](crate::NetworkPolicy).
#[async_trait]
pub trait Transport: Send + Sync {
    /// Sends `request` and reads the response.
    ///
    /// # Errors
    /// When no complete response arrived. The kind says at which stage the request failed.
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, TransportError>;
}

/// Where a request goes, and its limits. It is in the request's extensions.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RequestOptions {
    /// Where the request goes: the same as the request's URI, but already parsed.
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

/// What a transport knows beside the response itself. It is in the response's extensions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ResponseDetails {
    /// The time from the start to the response's head, if the transport can tell.
    pub first_byte: Option<Duration>,
    /// How long the look-up of the name took. `None` if there was none, because a connection was open or the URL has an
    /// address. This time and the next two are parts of [`first_byte`](Self::first_byte).
    pub dns: Option<Duration>,
    /// How long it took to connect to the peer, also through a proxy; `None` if no connection was made.
    pub connect: Option<Duration>,
    /// How long the TLS handshake with the endpoint took; `None` if there was none.
    pub tls: Option<Duration>,
    /// Whether the body was longer than the part that is kept.
    pub truncated: bool,
}

impl ResponseDetails {
    /// Sets the time to the response's head.
    #[must_use]
    pub fn first_byte(mut self, time: Duration) -> Self {
        self.first_byte = Some(time);
        self
    }

    /// Sets how long the look-up took.
    #[must_use]
    pub fn dns(mut self, time: Duration) -> Self {
        self.dns = Some(time);
        self
    }

    /// Sets how long it took to connect to the peer.
    #[must_use]
    pub fn connect(mut self, time: Duration) -> Self {
        self.connect = Some(time);
        self
    }

    /// Sets how long the TLS handshake took.
    #[must_use]
    pub fn tls(mut self, time: Duration) -> Self {
        self.tls = Some(time);
        self
    }

    /// Says whether the body was longer than the part that is kept.
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

/// At which stage a request failed. Every kind is transient: the delivery is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TransportErrorKind {
    /// The name could not be resolved.
    Dns,
    /// The URL or an address it resolves to is forbidden by the network policy.
    Blocked,
    /// No connection could be made.
    Connect,
    /// The TLS handshake failed or the certificate is not valid. A certificate may be renewed.
    Tls,
    /// The deadline passed.
    Timeout,
    /// The connection broke, or the answer is not HTTP.
    Protocol,
    /// The response's body broke off or was malformed.
    Body,
    /// A failure of this side and not of the endpoint, for example of the signer, or a panic. It uses up no attempt of the
    /// schedule.
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

    /// The kind as a tenant may see it. All failures before an open connection have one word. Otherwise a tenant could scan
    /// the networks around the engine with endpoints.
    #[must_use]
    pub fn as_tenant_str(self) -> &'static str {
        match self {
            Self::Dns | Self::Blocked | Self::Connect => "unreachable",
            other => other.as_str(),
        }
    }

    /// The kind as it is in the attempt log, for operators: a `snake_case` word.
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

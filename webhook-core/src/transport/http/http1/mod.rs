//! The guarded transport on hyper's HTTP/1.1 connections.

mod connect;
mod connection;
mod pool;
mod stream;
mod tunnel;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{ACCEPT, HOST, PROXY_AUTHORIZATION};
use http::{HeaderValue, Request, Response, request};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use tokio::time::Instant;

use super::builder::{BuildTransportError, HttpTransportBuilder};
use super::{errors, framed, options_of, within};
use crate::network::{Guard, NetworkPolicy};
use crate::transport::{ResponseDetails, Transport, TransportError, TransportErrorKind};
use crate::url::EndpointUrl;
use connect::Connector;
use connection::Connection;
use pool::Pool;

/// The guarded transport: HTTP/1.1 over pooled connections, to where a [`NetworkPolicy`] allows.
///
/// It does what a webhook sender must not leave to a general client: no redirects, no retries, no
/// proxies from the environment, no decompression whatever features another crate turns on in the same
/// client, a cap on what is read of a response, one deadline for everything.
///
/// **Guard.** The URL is judged before each request, so that literal addresses, for which no resolver is
/// asked, are seen too. A name is looked up once for a connection; every answer is judged, one that is
/// forbidden forbids the name, and the judged addresses are the ones dialled. The peer's address is
/// compared once more when a connection is made, before the first byte is sent, of TLS or of a request.
///
/// **Pools.** A transport has one policy and one pool. Tenants that may reach different networks need
/// a transport each: an open connection is used again for whoever may use the transport. One goes back only
/// when the whole body was read; it is closed at once when a request ends in any other way. A request that finds its
/// connection closed before a byte of it was written goes out on another; one of which a byte may have been written
/// never does. Beyond the limits of each host, 1,024 unused connections are kept in all.
///
/// **Proxy.** None, unless [one is named](HttpTransportBuilder::proxy).
///
/// **Hot path.** Put [`RequestOptions`](crate::RequestOptions) into the request's extensions: their URL then says
/// where the request goes, and its own URI is not looked at. Without them the URI must be an absolute one.
///
/// **Framing** is the transport's: `host`, `content-length` and hop-by-hop headers of the request are
/// dropped, and replaced where HTTP needs them. The other headers go out as they are; `accept: */*` is
/// added where there is none.
///
/// **Limits.** A response's head may have 100 headers and 64 KiB, and some more by chance; a longer one is a
/// [`Protocol`](TransportErrorKind::Protocol) error. Interim answers (1xx) before it are skipped, up to 256 KiB with the
/// head; more of them are such an error, too.
///
/// Must be used inside of a Tokio runtime with I/O and time enabled.
///
/// ```
/// use webhook_core::{HttpTransport, NetworkPolicy};
///
/// let transport = HttpTransport::builder()
///     .policy(NetworkPolicy::builder().allow_networks(["10.1.0.0/16".parse()?]).build())
///     .build()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct HttpTransport {
    policy: Arc<NetworkPolicy>,
    connector: Arc<Connector>,
    pool: Arc<Pool>,
    /// What a request through a proxy needs besides.
    before_proxy: Option<Arc<BeforeProxy>>,
}

struct BeforeProxy {
    /// Judges the target, which is not what a connection leads to.
    guard: Guard,
    /// For requests that the proxy itself reads.
    authorization: Option<HeaderValue>,
}

impl HttpTransport {
    /// A transport to the public Internet with default settings.
    ///
    /// # Errors
    /// When this machine has no root certificates.
    pub fn new() -> Result<Self, BuildTransportError> {
        Self::builder().build()
    }

    /// Starts from the defaults. [`build`](HttpTransportBuilder::build) ends it.
    pub fn builder() -> HttpTransportBuilder {
        HttpTransportBuilder::default()
    }

    /// The policy this transport guards.
    #[must_use]
    pub fn policy(&self) -> &NetworkPolicy {
        &self.policy
    }

    /// As set, with connections only to peers that `peers` permits.
    pub(super) fn with_peers(
        settings: &HttpTransportBuilder,
        peers: Arc<NetworkPolicy>,
    ) -> Result<Self, BuildTransportError> {
        let (policy, guard) = settings.guard();
        let tls = settings.tls()?;
        let before_proxy = settings.proxy.as_ref().map(|proxy| {
            Arc::new(BeforeProxy {
                guard: guard.clone(),
                authorization: proxy.authorization(),
            })
        });
        let pool = Pool::new(settings.idle_timeout, settings.max_idle_per_host);
        let connector = Connector::new(guard, peers, tls, settings);
        Ok(Self {
            policy,
            connector: Arc::new(connector),
            pool: Arc::new(pool),
            before_proxy,
        })
    }

    /// Everything that the deadline covers.
    async fn exchange(
        &self,
        url: &EndpointUrl,
        request: Request<Full<Bytes>>,
        max_body: usize,
    ) -> Result<Response<Bytes>, TransportError> {
        let started = Instant::now();
        if let Some(proxy) = self.before_proxy.as_ref().filter(|_| url.ip().is_none()) {
            let vetted = proxy.guard.vetted(url.host()).await;
            vetted.map_err(errors::refusal)?;
        }
        let (response, mut connection, made) = self.answered(url, request).await?;
        let details = made.first_byte(started.elapsed());
        let (mut parts, incoming) = response.into_parts();
        let read = connection.read_capped(incoming, max_body).await;
        let (body, truncated) = read.map_err(|error| broken(error, TransportErrorKind::Body))?;
        if !truncated {
            self.pool.put(url.origin(), connection);
        }
        parts.extensions.insert(details.truncated(truncated));
        Ok(Response::from_parts(parts, body))
    }

    /// The response's head, and the connection that the body comes from. A request that an unused connection gives back
    /// unsent, as the receiver has closed it meanwhile, goes out on the next.
    async fn answered(
        &self,
        url: &EndpointUrl,
        mut request: Request<Full<Bytes>>,
    ) -> Result<(Response<Incoming>, Connection, ResponseDetails), TransportError> {
        while let Some(mut connection) = self.pool.take(url.origin()) {
            match connection.send(request).await {
                Ok(response) => return Ok((response, connection, ResponseDetails::default())),
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(unanswered(error)),
                },
            }
        }
        let (mut connection, made) = self.connector.connect(url).await?;
        match connection.send(request).await {
            Ok(response) => Ok((response, connection, made)),
            Err(error) => Err(unanswered(error)),
        }
    }

    /// The request as it goes over the wire: nothing of it is copied, nothing parsed.
    fn on_the_wire(
        &self,
        url: &EndpointUrl,
        parts: request::Parts,
        body: Bytes,
    ) -> Request<Full<Bytes>> {
        let mut headers = framed(&parts.method, parts.headers, &body);
        headers.insert(HOST, url.host_header().clone());
        headers
            .entry(ACCEPT)
            .or_insert(const { HeaderValue::from_static("*/*") });
        let mut request = Request::new(Full::new(body));
        *request.uri_mut() = match &self.before_proxy {
            // The proxy reads it, and where it goes has to be in it.
            Some(proxy) if !url.is_https() => {
                if let Some(authorization) = &proxy.authorization {
                    headers
                        .entry(PROXY_AUTHORIZATION)
                        .or_insert_with(|| authorization.clone());
                }
                url.uri().clone()
            }
            _ => url.request_target().clone(),
        };
        *request.method_mut() = parts.method;
        *request.headers_mut() = headers;
        request
    }
}

#[async_trait]
impl Transport for HttpTransport {
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, TransportError> {
        let (mut parts, body) = request.into_parts();
        let options = options_of(&mut parts, &self.policy)?;
        let request = self.on_the_wire(&options.url, parts, body);
        let exchange = self.exchange(&options.url, request, options.max_response_body);
        within(options.timeout, exchange).await
    }
}

impl fmt::Debug for HttpTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpTransport")
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

/// An error of a stage whose errors all mean the same.
fn as_kind<E: Into<crate::BoxError>>(kind: TransportErrorKind) -> impl Fn(E) -> TransportError {
    move |error| TransportError::new(kind).with_source(error)
}

/// What a connection broke with before there was a head.
fn unanswered<T>(error: TrySendError<T>) -> TransportError {
    broken(error.into_error(), TransportErrorKind::Protocol)
}

/// What a connection broke with. TLS may be what broke it: an alert may come late.
fn broken(error: hyper::Error, otherwise: TransportErrorKind) -> TransportError {
    let kind = errors::in_causes(&error).unwrap_or(otherwise);
    TransportError::new(kind).with_source(error)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::super::tests::{assert_a_forbidden_peer_is_sent_nothing, lax_and_strict};
    use super::*;

    #[tokio::test]
    async fn a_forbidden_peer_is_sent_nothing() {
        let (settings, strict) = lax_and_strict();
        let transport = HttpTransport::with_peers(&settings, strict).unwrap();
        assert_a_forbidden_peer_is_sent_nothing(&transport, &["http", "https"]).await;
    }

    #[tokio::test]
    async fn a_head_has_some_64_kib_and_no_more() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let (settings, _) = lax_and_strict();
        let transport = settings.build().unwrap();
        for (filler, is_read) in [(60, true), (200, false)] {
            let serving = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut received = Vec::new();
                while !received.ends_with(b"\r\n\r\n") {
                    assert_ne!(stream.read_buf(&mut received).await.unwrap(), 0);
                }
                let filler = "x".repeat(filler * 1024);
                let head = format!("HTTP/1.1 200 OK\r\nx-a: {filler}\r\nconnection: close\r\n\r\n");
                // Whoever reads no more may have closed.
                stream.write_all(head.as_bytes()).await.ok();
            };
            let sending = transport.send(Request::post(&url).body(Bytes::new()).unwrap());
            let (answer, ()) = tokio::join!(sending, serving);
            match answer {
                Ok(_) => assert!(is_read, "{filler}"),
                Err(error) => {
                    assert_eq!(error.kind(), TransportErrorKind::Protocol);
                    assert!(!is_read, "{filler}");
                }
            }
        }
    }

    #[test]
    fn debug_shows_the_policy_and_nothing_of_the_client() {
        let shown = format!("{:?}", HttpTransport::new().unwrap());
        assert!(shown.starts_with("HttpTransport { policy: NetworkPolicy"));
    }
}

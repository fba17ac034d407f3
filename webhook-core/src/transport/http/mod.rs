//! The HTTP client that deliveries go through.

mod classify;
mod peer;
mod proxy;
mod tls;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName};
use http::{Request, Response, request};
use tokio::time::Instant;

use super::{RequestOptions, ResponseDetails, Transport, TransportError, TransportErrorKind};
use crate::error::BoxError;
use crate::network::{Guard, NetworkPolicy, Resolve, SystemResolver};
use crate::url::EndpointUrl;
use peer::PeerCheck;
pub use proxy::{InvalidProxyUrl, ProxyUrl};

/// The guarded transport: HTTP/1.1 over pooled connections, to where a [`NetworkPolicy`] allows.
///
/// It does what a webhook sender must not leave to a general client: no redirects, no retries, no
/// proxies from the environment, no decompression whatever features another crate turns on in the same
/// client, a cap on what is read of a response, one deadline for everything.
///
/// **Guard.** The URL is judged before each request, so that literal addresses, for which no resolver is
/// asked, are seen too. A name is looked up once for a connection; every answer is judged, one that is
/// forbidden forbids the name, and the judged addresses are the ones dialled. The peer's address is
/// compared once more when a connection is made: for `http` before the first byte is sent, for `https`
/// before the first byte of a request. The TLS handshake is over by then: the client makes it one with
/// connecting, and nothing can be put between the two.
///
/// **Pools.** A transport has one policy and one pool. Tenants that may reach different networks need
/// a transport each: an open connection is used again for whoever may use the transport.
///
/// **Proxy.** None, unless [one is named](HttpTransportBuilder::proxy).
///
/// **Hot path.** Put [`RequestOptions`] into the request's extensions: their URL then says where the
/// request goes, and its own URI is not looked at. Without them the URI must be an absolute one.
///
/// **Framing** is the transport's: `host`, `content-length` and hop-by-hop headers of the request are
/// dropped, and replaced where HTTP needs them. The other headers go out as they are; `accept: */*` is
/// added where there is none.
///
/// **Limits.** A response's head may have 100 headers and some 400 KiB; a longer one is a
/// [`Protocol`](TransportErrorKind::Protocol) error. Interim answers (1xx) before it are skipped, and no limit of
/// the client counts them: the deadline ends a flood.
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
    client: reqwest::Client,
    policy: Arc<NetworkPolicy>,
    /// Looks targets up that the client does not, because a proxy is what it connects to.
    before_proxy: Option<Guard>,
}

/// The transport could not be set up: no certificates on this machine, or none in the PEM given.
#[derive(Debug, thiserror::Error)]
#[error("the HTTP transport could not be set up")]
pub struct BuildTransportError(#[source] BoxError);

impl HttpTransport {
    /// A transport to the public Internet with default settings.
    ///
    /// # Errors
    /// When this machine has no root certificates.
    pub fn new() -> Result<Self, BuildTransportError> {
        Self::builder().build()
    }

    /// Starts from the defaults.
    pub fn builder() -> HttpTransportBuilder {
        HttpTransportBuilder::default()
    }

    /// The policy this transport guards.
    #[must_use]
    pub fn policy(&self) -> &NetworkPolicy {
        &self.policy
    }

    /// The client's own form of the request, to where the policy allows.
    fn prepare(
        &self,
        request: Request<Bytes>,
    ) -> Result<(reqwest::Request, Limits, EndpointUrl), TransportError> {
        let (mut parts, body) = request.into_parts();
        let options = match parts.extensions.remove::<RequestOptions>() {
            Some(options) => options,
            None => RequestOptions::new(EndpointUrl::try_from(&parts.uri).map_err(blocked)?),
        };
        self.policy.check_url(&options.url).map_err(blocked)?;
        let limits = Limits {
            timeout: options.timeout,
            max_body: options.max_response_body,
        };
        let request = client_request(&options.url, parts, body);
        Ok((request, limits, options.url))
    }

    /// Everything that the deadline covers.
    async fn exchange(
        &self,
        url: &EndpointUrl,
        request: reqwest::Request,
        max_body: usize,
    ) -> Result<Response<Bytes>, TransportError> {
        let started = Instant::now();
        if let Some(guard) = self.before_proxy.as_ref().filter(|_| url.ip().is_none()) {
            let vetted = guard.vetted(url.host()).await;
            vetted.map_err(classify::refusal)?;
        }
        let sent = self.client.execute(request).await;
        let mut response = sent.map_err(classify::error)?;
        let details = ResponseDetails::default().first_byte(started.elapsed());
        let (body, truncated) = read_capped(&mut response, max_body).await?;
        let mut answer = Response::new(body);
        *answer.status_mut() = response.status();
        *answer.version_mut() = response.version();
        *answer.headers_mut() = std::mem::take(response.headers_mut());
        answer.extensions_mut().insert(details.truncated(truncated));
        Ok(answer)
    }
}

struct Limits {
    timeout: Duration,
    max_body: usize,
}

#[async_trait]
impl Transport for HttpTransport {
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, TransportError> {
        let (request, Limits { timeout, max_body }, url) = self.prepare(request)?;
        let exchange = self.exchange(&url, request, max_body);
        match tokio::time::timeout(timeout, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(TransportError::new(TransportErrorKind::Timeout)),
        }
    }
}

impl fmt::Debug for HttpTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpTransport")
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

/// Settings of an [`HttpTransport`].
#[must_use]
pub struct HttpTransportBuilder {
    policy: NetworkPolicy,
    resolver: Option<Arc<dyn Resolve>>,
    dns_timeout: Duration,
    connect_timeout: Duration,
    idle_timeout: Duration,
    max_idle_per_host: usize,
    root_certificates: Vec<u8>,
    proxy: Option<ProxyUrl>,
}

impl Default for HttpTransportBuilder {
    fn default() -> Self {
        Self {
            policy: NetworkPolicy::default(),
            resolver: None,
            dns_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(20),
            max_idle_per_host: 32,
            root_certificates: Vec::new(),
            proxy: None,
        }
    }
}

impl HttpTransportBuilder {
    /// What may be contacted. Default: `https` to the public Internet.
    pub fn policy(mut self, policy: NetworkPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// What looks names up. Default: [`SystemResolver`].
    pub fn resolver(mut self, resolver: impl Resolve + 'static) -> Self {
        self.resolver = Some(Arc::new(resolver));
        self
    }

    /// The longest look-up. Default: 5 s.
    pub fn dns_timeout(mut self, limit: Duration) -> Self {
        self.dns_timeout = limit;
        self
    }

    /// The longest that look-up, TCP and TLS handshake together take. Default: 10 s.
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.connect_timeout = limit;
        self
    }

    /// How long an unused connection is kept. Default: 20 s.
    pub fn idle_timeout(mut self, limit: Duration) -> Self {
        self.idle_timeout = limit;
        self
    }

    /// Unused connections kept for each host. Default: 32, as many as are in flight to an endpoint.
    pub fn max_idle_per_host(mut self, connections: usize) -> Self {
        self.max_idle_per_host = connections;
        self
    }

    /// Sends everything through this proxy: `https` in a tunnel (`CONNECT`), `http` as it is. Where the proxy is, the
    /// policy has no say in. A target is looked up and judged as without one, before the proxy hears of it. But it is
    /// the proxy that connects, and looks a name up once more: let it keep to the same rules. Default: none.
    pub fn proxy(mut self, proxy: ProxyUrl) -> Self {
        self.proxy = Some(proxy);
        self
    }

    /// Trusts these PEM certificates beside the operating system's: a company's own authority, say.
    pub fn root_certificates(mut self, pem: &[u8]) -> Self {
        self.root_certificates.extend_from_slice(pem);
        self
    }

    /// Sets the transport up. Connects to nothing.
    ///
    /// # Errors
    /// When this machine has no root certificates, the PEM given holds none that are valid, or the client cannot use
    /// the proxy's URL.
    pub fn build(self) -> Result<HttpTransport, BuildTransportError> {
        let policy = Arc::new(self.policy.clone());
        let peers = PeerCheck::new(Arc::clone(&policy));
        self.build_with(policy, peers)
    }

    fn build_with(
        self,
        policy: Arc<NetworkPolicy>,
        peers: PeerCheck,
    ) -> Result<HttpTransport, BuildTransportError> {
        let resolver = self
            .resolver
            .unwrap_or_else(|| Arc::new(SystemResolver::default()));
        let guard = Guard::new(Arc::clone(&policy), resolver, self.dns_timeout);
        let before_proxy = self.proxy.as_ref().map(|_| guard.clone());
        let guard = match &self.proxy {
            Some(proxy) => guard.exempting(proxy.host()),
            None => guard,
        };
        let tls = tls::config(&self.root_certificates).map_err(BuildTransportError)?;
        let mut client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .dns_resolver(guard)
            .http1_only()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .no_proxy()
            .no_gzip()
            .no_brotli()
            .no_zstd()
            .no_deflate()
            .connect_timeout(self.connect_timeout)
            .pool_idle_timeout(self.idle_timeout)
            .pool_max_idle_per_host(self.max_idle_per_host)
            .tcp_nodelay(true)
            .tcp_keepalive(Duration::from_secs(15));
        client = match &self.proxy {
            Some(proxy) => {
                let proxy = proxy.to_client();
                client.proxy(proxy.map_err(|error| BuildTransportError(error.into()))?)
            }
            None => client.connector_layer(peers),
        };
        let client = client.build();
        Ok(HttpTransport {
            client: client.map_err(|error| BuildTransportError(error.into()))?,
            policy,
            before_proxy,
        })
    }
}

fn client_request(url: &EndpointUrl, parts: request::Parts, body: Bytes) -> reqwest::Request {
    let mut request = reqwest::Request::new(parts.method, url.as_url().clone());
    *request.headers_mut() = without_framing(parts.headers);
    *request.body_mut() = Some(body.into());
    request
}

/// Drops what would let a header say where the request ends or what the connection does.
fn without_framing(mut headers: HeaderMap) -> HeaderMap {
    static FRAMING: [HeaderName; 9] = [
        header::HOST,
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
        header::CONNECTION,
        header::TE,
        header::TRAILER,
        header::UPGRADE,
        header::EXPECT,
        HeaderName::from_static("keep-alive"),
    ];
    if headers.keys().any(|name| FRAMING.contains(name)) {
        for name in &FRAMING {
            headers.remove(name);
        }
    }
    headers
}

/// At most `max` bytes of the body, and whether there was more. What is left makes the client close the
/// connection.
async fn read_capped(
    response: &mut reqwest::Response,
    max: usize,
) -> Result<(Bytes, bool), TransportError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(classify::error)? {
        let room = max - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() > room {
            return Ok((body.into(), true));
        }
    }
    Ok((body.into(), false))
}

fn blocked(reason: impl Into<BoxError>) -> TransportError {
    TransportError::new(TransportErrorKind::Blocked).with_source(reason)
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::net::{IpAddr, Ipv4Addr};

    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    use super::*;

    struct Loopback;

    #[async_trait]
    impl Resolve for Loopback {
        async fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
            Ok(vec![Ipv4Addr::LOCALHOST.into()])
        }
    }

    #[tokio::test]
    async fn a_forbidden_peer_is_sent_nothing() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let strict = NetworkPolicy::builder().allow_http(true);
        let lax = Arc::new(strict.clone().allow_private(true).build());
        // A client whose own guard failed.
        let transport = HttpTransport::builder()
            .resolver(Loopback)
            .build_with(lax, PeerCheck::new(Arc::new(strict.build())))
            .unwrap();
        for host in ["hooks.example.com", "127.0.0.1"] {
            let request = Request::post(format!("http://{host}:{port}/"));
            let sending = transport.send(request.body(Bytes::new()).unwrap());
            let receiving = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut received = Vec::new();
                stream.read_to_end(&mut received).await.unwrap();
                received
            };
            let (answer, received) = tokio::join!(sending, receiving);
            assert_eq!(answer.unwrap_err().kind(), TransportErrorKind::Blocked);
            assert_eq!(received, b"");
        }
    }

    #[test]
    fn debug_shows_the_policy_and_nothing_of_the_client() {
        let shown = format!("{:?}", HttpTransport::new().unwrap());
        assert!(shown.starts_with("HttpTransport { policy: NetworkPolicy"));
    }
}

//! The guarded transport on reqwest.

mod classify;
mod peer;
mod resolve;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response, request};
use tokio::time::Instant;

use super::builder::{BuildTransportError, HttpTransportBuilder};
use super::{ProxyUrl, errors, framed, options_of, within};
use crate::network::{Guard, NetworkPolicy};
use crate::transport::{ResponseDetails, Transport, TransportError};
use crate::url::EndpointUrl;
use peer::PeerCheck;
use resolve::ClientResolver;

/// The guarded transport on [reqwest](https://docs.rs/reqwest): slower than `HttpTransport`, and for who wants that
/// client in production.
///
/// Its settings are those of [`HttpTransportBuilder`], and it keeps every promise of `HttpTransport` but these:
/// - The peer of an `https` connection is compared before the first byte of a request, and not before the TLS
///   handshake: the client makes that one with connecting, and nothing can be put between the two.
/// - [`ResponseDetails`] tell nothing of how a connection was made.
/// - The client counts no interim answers (1xx): only the deadline ends a flood of them, which costs processor time until
///   then.
/// - Connections are kept without a bound on all together, and a deadline does not end one that is being made.
///
/// Must be used inside of a Tokio runtime with I/O and time enabled.
///
/// ```
/// use webhook_core::{NetworkPolicy, ReqwestTransport};
///
/// let transport = ReqwestTransport::builder()
///     .policy(NetworkPolicy::builder().allow_networks(["10.1.0.0/16".parse()?]).build())
///     .build_reqwest()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct ReqwestTransport {
    client: reqwest::Client,
    policy: Arc<NetworkPolicy>,
    /// Looks targets up that the client does not, because a proxy is what it connects to.
    before_proxy: Option<Guard>,
}

impl ReqwestTransport {
    /// Starts from the defaults. [`build_reqwest`](HttpTransportBuilder::build_reqwest) ends it.
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
        let exempt = settings.proxy.as_ref().map(ProxyUrl::host);
        let mut client = reqwest::Client::builder()
            .tls_backend_preconfigured(settings.tls()?)
            .dns_resolver(ClientResolver::new(guard.clone(), exempt))
            .http1_only()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .no_proxy()
            .no_gzip()
            .no_brotli()
            .no_zstd()
            .no_deflate()
            .connect_timeout(settings.connect_timeout)
            .pool_idle_timeout(settings.idle_timeout)
            .pool_max_idle_per_host(settings.max_idle_per_host)
            .tcp_nodelay(true)
            .tcp_keepalive(Duration::from_secs(15));
        client = match &settings.proxy {
            Some(proxy) => {
                let proxy = reqwest::Proxy::all(proxy.as_str());
                client.proxy(proxy.map_err(BuildTransportError::new)?)
            }
            None => client.connector_layer(PeerCheck::new(peers)),
        };
        Ok(Self {
            client: client.build().map_err(BuildTransportError::new)?,
            policy,
            before_proxy: settings.proxy.is_some().then_some(guard),
        })
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
            vetted.map_err(errors::refusal)?;
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

#[async_trait]
impl Transport for ReqwestTransport {
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, TransportError> {
        let (mut parts, body) = request.into_parts();
        let options = options_of(&mut parts, &self.policy)?;
        let request = client_request(&options.url, parts, body);
        let exchange = self.exchange(&options.url, request, options.max_response_body);
        within(options.timeout, exchange).await
    }
}

impl fmt::Debug for ReqwestTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReqwestTransport")
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

fn client_request(url: &EndpointUrl, parts: request::Parts, body: Bytes) -> reqwest::Request {
    let mut request = reqwest::Request::new(parts.method, url.as_url().clone());
    *request.headers_mut() = framed(request.method(), parts.headers, &body);
    *request.body_mut() = Some(body.into());
    request
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

#[cfg(test)]
mod tests {
    use super::super::tests::{assert_a_forbidden_peer_is_sent_nothing, lax_and_strict};
    use super::*;

    #[tokio::test]
    async fn a_forbidden_peer_is_sent_nothing() {
        let (settings, strict) = lax_and_strict();
        let transport = ReqwestTransport::with_peers(&settings, strict).unwrap();
        assert_a_forbidden_peer_is_sent_nothing(&transport, &["http"]).await;
    }

    #[test]
    fn debug_shows_the_policy_and_nothing_of_the_client() {
        let transport = ReqwestTransport::builder().build_reqwest();
        let shown = format!("{:?}", transport.unwrap());
        assert!(shown.starts_with("ReqwestTransport { policy: NetworkPolicy"));
    }
}

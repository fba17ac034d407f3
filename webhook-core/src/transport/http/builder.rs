//! The settings of a transport.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;

use super::{ProxyUrl, tls};
use crate::error::BoxError;
use crate::network::{Guard, NetworkPolicy, Resolve, SystemResolver};

/// The transport could not be set up: no certificates on this machine, or none in the PEM given.
#[derive(Debug, thiserror::Error)]
#[error("the HTTP transport could not be set up")]
pub struct BuildTransportError(#[source] BoxError);

impl BuildTransportError {
    pub(super) fn new(source: impl Into<BoxError>) -> Self {
        Self(source.into())
    }
}

/// Settings of a guarded transport.
#[must_use]
pub struct HttpTransportBuilder {
    pub(super) policy: NetworkPolicy,
    pub(super) resolver: Option<Arc<dyn Resolve>>,
    pub(super) dns_timeout: Duration,
    pub(super) connect_timeout: Duration,
    pub(super) idle_timeout: Duration,
    pub(super) max_idle_per_host: usize,
    pub(super) root_certificates: Vec<u8>,
    pub(super) proxy: Option<ProxyUrl>,
}

/// By hand: a resolver need not be `Debug`.
impl fmt::Debug for HttpTransportBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpTransportBuilder")
            .field("policy", &self.policy)
            .field("proxy", &self.proxy)
            .finish_non_exhaustive()
    }
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

    /// What looks names up. Default: [`SystemResolver`], which waits for others for at most half of
    /// [`dns_timeout`](Self::dns_timeout).
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

    /// Sends everything through this proxy: `https` in a tunnel (`CONNECT`), `http` as plain requests. Default: none.
    ///
    /// The policy does not apply to the proxy's own address. It applies to targets: they are looked up and checked before the
    /// proxy gets the request. But the proxy looks the name up once more, and it connects. So configure the same rules there.
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
    /// When this machine has no root certificates, or the PEM given holds none that are valid.
    #[cfg(feature = "hyper")]
    pub fn build(self) -> Result<super::HttpTransport, BuildTransportError> {
        let peers = Arc::new(self.policy.clone());
        super::HttpTransport::with_peers(&self, peers)
    }

    /// The same on reqwest.
    ///
    /// # Errors
    /// When this machine has no root certificates, the PEM given holds none that are valid, or the client cannot use
    /// the proxy's URL.
    #[cfg(feature = "reqwest")]
    pub fn build_reqwest(self) -> Result<super::ReqwestTransport, BuildTransportError> {
        let peers = Arc::new(self.policy.clone());
        super::ReqwestTransport::with_peers(&self, peers)
    }

    /// The policy, and what looks up by it.
    pub(super) fn guard(&self) -> (Arc<NetworkPolicy>, Guard) {
        let policy = Arc::new(self.policy.clone());
        let resolver = self
            .resolver
            .clone()
            .unwrap_or_else(|| Arc::new(SystemResolver::with_patience(self.dns_timeout / 2)));
        let guard = Guard::new(Arc::clone(&policy), resolver, self.dns_timeout);
        (policy, guard)
    }

    /// How TLS is spoken, to endpoints and to a proxy.
    pub(super) fn tls(&self) -> Result<ClientConfig, BuildTransportError> {
        tls::config(&self.root_certificates).map_err(BuildTransportError::new)
    }
}

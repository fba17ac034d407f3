//! How a connection is made.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tower_service::Service;

use super::super::ProxyUrl;
use super::super::builder::HttpTransportBuilder;
use super::super::errors;
use super::connection::Connection;
use super::stream::Stream;
use super::{as_kind, tunnel};
use crate::network::{Guard, NetworkPolicy};
use crate::transport::{ResponseDetails, TransportError, TransportErrorKind as Kind};
use crate::url::EndpointUrl;

/// Makes connections to where the policy allows.
pub(super) struct Connector {
    guard: Guard,
    /// Judges who is at the other end. Whom we dial was judged before: this would catch that something else is dialled.
    peers: Arc<NetworkPolicy>,
    tls: TlsConnector,
    proxy: Option<ProxyUrl>,
    limit: Duration,
}

impl Connector {
    pub(super) fn new(
        guard: Guard,
        peers: Arc<NetworkPolicy>,
        tls: ClientConfig,
        settings: &HttpTransportBuilder,
    ) -> Self {
        Self {
            guard,
            peers,
            tls: Arc::new(tls).into(),
            proxy: settings.proxy.clone(),
            limit: settings.connect_timeout,
        }
    }

    /// A connection for requests to `url`, and how long each step took.
    pub(super) async fn connect(
        &self,
        url: &EndpointUrl,
    ) -> Result<(Connection, ResponseDetails), TransportError> {
        let made = tokio::time::timeout(self.limit, self.make(url)).await;
        made.unwrap_or_else(|elapsed| Err(as_kind(Kind::Connect)(elapsed)))
    }

    async fn make(
        &self,
        url: &EndpointUrl,
    ) -> Result<(Connection, ResponseDetails), TransportError> {
        let mut details = ResponseDetails::default();
        let mut stream = match &self.proxy {
            Some(proxy) => self.reach_proxy(proxy, url, &mut details).await?,
            None => self.reach(url, &mut details).await?,
        };
        if url.is_https() {
            let started = Instant::now();
            stream = self.secure(stream, url.host(), url.ip()).await?;
            details = details.tls(started.elapsed());
        }
        let connection = Connection::over(stream).await;
        Ok((connection.map_err(as_kind(Kind::Internal))?, details))
    }

    /// The target itself, if it is one that the policy allows.
    async fn reach(
        &self,
        url: &EndpointUrl,
        details: &mut ResponseDetails,
    ) -> Result<Stream, TransportError> {
        let addresses = match url.ip() {
            Some(ip) => vec![ip],
            None => {
                let started = Instant::now();
                let vetted = self.guard.vetted(url.host()).await;
                *details = details.dns(started.elapsed());
                vetted.map_err(errors::refusal)?
            }
        };
        let started = Instant::now();
        let tcp = self.dial(addresses, url.port()).await?;
        *details = details.connect(started.elapsed());
        // A peer that has reset the connection by now has no address any more.
        let peer = tcp.peer_addr().map_err(as_kind(Kind::Connect))?;
        self.peers
            .check_address(peer.ip())
            .map_err(errors::blocked)?;
        Ok(Stream::Tcp(tcp))
    }

    /// The proxy, wherever that is, and for an `https` target the tunnel through it.
    async fn reach_proxy(
        &self,
        proxy: &ProxyUrl,
        url: &EndpointUrl,
        details: &mut ResponseDetails,
    ) -> Result<Stream, TransportError> {
        let addresses = match proxy.ip() {
            Some(ip) => vec![ip],
            None => {
                let started = Instant::now();
                let found = self.guard.looked_up(proxy.host()).await;
                *details = details.dns(started.elapsed());
                found.map_err(errors::refusal)?
            }
        };
        let started = Instant::now();
        let mut stream = Stream::Tcp(self.dial(addresses, proxy.port()).await?);
        if proxy.is_https() {
            stream = self.secure(stream, proxy.host(), proxy.ip()).await?;
        }
        if url.is_https() {
            tunnel::open(&mut stream, url, proxy.authorization().as_ref())
                .await
                .map_err(as_kind(Kind::Connect))?;
        }
        *details = details.connect(started.elapsed());
        Ok(stream)
    }

    /// The first of these that answers: both families side by side, the second a little later.
    async fn dial(&self, addresses: Vec<IpAddr>, port: u16) -> Result<TcpStream, TransportError> {
        let sockets = addresses.into_iter().map(|ip| SocketAddr::new(ip, port));
        let mut connector = HttpConnector::new_with_resolver(Vetted(sockets.collect()));
        connector.set_nodelay(true);
        connector.set_keepalive(Some(KEEPALIVE));
        connector.set_keepalive_interval(Some(KEEPALIVE));
        connector.set_keepalive_retries(Some(3));
        // It divides that among the addresses, so that one that is silent leaves time for the next.
        connector.set_connect_timeout(Some(self.limit));
        // It would dial an address in the URI without asking us.
        let dialled = connector.call(Uri::from_static("http://vetted")).await;
        Ok(dialled.map_err(as_kind(Kind::Connect))?.into_inner())
    }

    async fn secure(
        &self,
        stream: Stream,
        host: &str,
        ip: Option<IpAddr>,
    ) -> Result<Stream, TransportError> {
        let name = match ip {
            Some(ip) => ServerName::IpAddress(ip.into()),
            None => ServerName::try_from(host.to_owned()).map_err(as_kind(Kind::Tls))?,
        };
        let secured = self.tls.connect(name, stream).await;
        Ok(Stream::Tls(Box::new(secured.map_err(as_kind(Kind::Tls))?)))
    }
}

/// After how long a silence the operating system asks whether the peer is still there, and how often it repeats that.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// Answers with what was judged, whatever it is asked for.
#[derive(Clone)]
struct Vetted(Vec<SocketAddr>);

impl Service<Name> for Vetted {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Name) -> Self::Future {
        ready(Ok(std::mem::take(&mut self.0).into_iter()))
    }
}

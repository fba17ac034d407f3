//! The HTTP clients that deliveries go through: one of our own on hyper, and reqwest.
//!
//! Both have the same settings, and keep to the same rules; what decides these is here.

mod builder;
mod errors;
#[cfg(feature = "hyper")]
mod http1;
mod proxy;
#[cfg(feature = "reqwest")]
mod reqwest;
mod tls;

use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, request};

use super::{RequestOptions, TransportError, TransportErrorKind};
use crate::network::NetworkPolicy;
use crate::url::EndpointUrl;
pub use builder::{BuildTransportError, HttpTransportBuilder};
#[cfg(feature = "hyper")]
pub use http1::HttpTransport;
pub use proxy::{InvalidProxyUrl, ProxyUrl};
#[cfg(feature = "reqwest")]
pub use reqwest::ReqwestTransport;

/// Where a request goes, if the policy allows that, and its limits.
fn options_of(
    parts: &mut request::Parts,
    policy: &NetworkPolicy,
) -> Result<RequestOptions, TransportError> {
    let options = match parts.extensions.remove::<RequestOptions>() {
        Some(options) => options,
        None => RequestOptions::new(EndpointUrl::try_from(&parts.uri).map_err(errors::blocked)?),
    };
    policy.check_url(&options.url).map_err(errors::blocked)?;
    Ok(options)
}

/// What `exchange` ends with before the deadline. An `async fn` would hold it twice, once as its argument.
fn within<T>(
    deadline: Duration,
    exchange: impl Future<Output = Result<T, TransportError>>,
) -> impl Future<Output = Result<T, TransportError>> {
    let ended = tokio::time::timeout(deadline, exchange);
    ended.map(|ended| match ended {
        Ok(answer) => answer,
        Err(_) => Err(TransportError::new(TransportErrorKind::Timeout)),
    })
}

/// Drops what would let a header say where the request ends or what the connection does, and says that it ends at once
/// where it has no body: of that alone the clients say nothing.
fn framed(method: &Method, mut headers: HeaderMap, body: &Bytes) -> HeaderMap {
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
    if body.is_empty() && matches!(*method, Method::POST | Method::PUT | Method::PATCH) {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    headers
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::Arc;

    use async_trait::async_trait;
    use bytes::Bytes;
    use http::Request;
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    use super::*;
    use crate::network::Resolve;
    use crate::transport::Transport;

    struct Loopback;

    #[async_trait]
    impl Resolve for Loopback {
        async fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
            Ok(vec![Ipv4Addr::LOCALHOST.into()])
        }
    }

    /// Settings with a guard that lets too much through, and whom they may connect to all the same.
    pub(super) fn lax_and_strict() -> (HttpTransportBuilder, Arc<NetworkPolicy>) {
        let strict = NetworkPolicy::builder().allow_http(true);
        let lax = strict.clone().allow_private(true).build();
        let settings = HttpTransportBuilder::default().policy(lax);
        (settings.resolver(Loopback), Arc::new(strict.build()))
    }

    pub(super) async fn assert_a_forbidden_peer_is_sent_nothing(
        transport: &impl Transport,
        schemes: &[&str],
    ) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        for host in ["hooks.example.com", "127.0.0.1"] {
            for scheme in schemes {
                let request = Request::post(format!("{scheme}://{host}:{port}/"));
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
    }
}

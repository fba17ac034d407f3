//! The proxy that a host names for what goes out.

use std::fmt;
#[cfg(feature = "hyper")]
use std::net::IpAddr;
use std::str::FromStr;

#[cfg(feature = "hyper")]
use base64::{Engine as _, engine::general_purpose::STANDARD};
#[cfg(feature = "hyper")]
use http::HeaderValue;
#[cfg(feature = "hyper")]
use percent_encoding::percent_decode_str;
#[cfg(feature = "hyper")]
use url::Host;
use url::Url;
#[cfg(feature = "hyper")]
use zeroize::Zeroizing;

/// A proxy that all requests of a transport go through: `http://` or `https://`, its host, perhaps a port, and before
/// the host a user and a password if it asks for them. `Debug` shows neither of the two.
#[derive(Clone)]
pub struct ProxyUrl(Url);

/// The text names no proxy. Never holds any of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a proxy is http://HOST:PORT or https://HOST:PORT, perhaps with USER:PASSWORD@ before the host"
)]
pub struct InvalidProxyUrl;

impl ProxyUrl {
    /// The host that is looked up for it.
    pub(super) fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default()
    }

    /// The address, where the host is one.
    #[cfg(feature = "hyper")]
    pub(super) fn ip(&self) -> Option<IpAddr> {
        match self.0.host()? {
            Host::Ipv4(ip) => Some(ip.into()),
            Host::Ipv6(ip) => Some(ip.into()),
            Host::Domain(_) => None,
        }
    }

    #[cfg(feature = "hyper")]
    pub(super) fn port(&self) -> u16 {
        self.0.port_or_known_default().unwrap_or_default()
    }

    #[cfg(feature = "hyper")]
    pub(super) fn is_https(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// The header by which it knows us, if it asks for a user.
    #[cfg(feature = "hyper")]
    pub(super) fn authorization(&self) -> Option<HeaderValue> {
        let (user, password) = (self.0.username(), self.0.password());
        if user.is_empty() && password.is_none() {
            return None;
        }
        let mut plain = Zeroizing::new(percent_decode_str(user).collect::<Vec<u8>>());
        plain.push(b':');
        plain.extend(percent_decode_str(password.unwrap_or_default()));
        let value = Zeroizing::new(format!("Basic {}", STANDARD.encode(&*plain)));
        let mut value = HeaderValue::try_from(value.as_str()).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// All of it, the user and the password too.
    #[cfg(feature = "reqwest")]
    pub(super) fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl FromStr for ProxyUrl {
    type Err = InvalidProxyUrl;

    fn from_str(text: &str) -> Result<Self, InvalidProxyUrl> {
        let url = Url::parse(text).map_err(|_| InvalidProxyUrl)?;
        let is_bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        let has_host = url.host_str().is_some_and(|host| !host.is_empty());
        if matches!(url.scheme(), "http" | "https") && has_host && is_bare && url.port() != Some(0)
        {
            Ok(Self(url))
        } else {
            Err(InvalidProxyUrl)
        }
    }
}

impl fmt::Debug for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = self.0.port_or_known_default().unwrap_or_default();
        write!(f, "ProxyUrl({}://{}:{port})", self.0.scheme(), self.host())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_a_host_and_nothing_below_it() {
        let shown = |text: &str| text.parse().map(|url: ProxyUrl| format!("{url:?}"));
        let shows = |text: &str| Ok(format!("ProxyUrl({text})"));
        assert_eq!(
            shown("http://proxy.internal"),
            shows("http://proxy.internal:80")
        );
        assert_eq!(shown("https://[::1]:3128/"), shows("https://[::1]:3128"));
        assert_eq!(
            shown("http://user:s3cret@10.0.0.1:3128"),
            shows("http://10.0.0.1:3128")
        );
        for bad in [
            "",
            "proxy:3128",
            "10.0.0.1:3128",
            "socks5://proxy:1080",
            "http://",
            "http://proxy:0",
            "http://proxy/in",
            "http://proxy/?s3cret",
            "http://proxy/#",
        ] {
            assert_eq!(shown(bad), Err(InvalidProxyUrl), "{bad}");
        }
    }
}

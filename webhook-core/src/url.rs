//! The URLs of endpoints: parsed once, in canonical form, and ready to send to.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use url::{Host, Url};

/// The URL of an endpoint: `http` or `https`, with a host, in canonical form.
///
/// Parsing follows the [WHATWG URL standard](https://url.spec.whatwg.org/), so that `http://127.1/`,
/// `http://0x7f.1/` and full-width digits are what a browser takes them for, and adds the rules that
/// hold for every endpoint: no user name or password, no fragment, at most [`MAX_LEN`](Self::MAX_LEN)
/// bytes, a host that DNS can carry. Names are kept in ASCII (IDNA) and without the trailing dot, so
/// that one host has one spelling. Which hosts, ports and schemes are *permitted* is for
/// [`NetworkPolicy`](crate::NetworkPolicy) to say.
///
/// Cloning is cheap: put it in a request's extensions and the transport parses nothing again.
///
/// `Display` and `Serialize` give the whole URL, `Debug` and [`redacted`](Self::redacted) leave out the
/// query, which often holds a secret.
///
/// ```
/// use webhook_core::EndpointUrl;
///
/// let url: EndpointUrl = "https://BÜCHER.example.com.:443/in?key=s3cret".parse()?;
/// assert_eq!(url.as_str(), "https://xn--bcher-kva.example.com/in?key=s3cret");
/// assert_eq!(url.redacted().to_string(), "https://xn--bcher-kva.example.com/in?…");
/// # Ok::<(), webhook_core::InvalidEndpointUrl>(())
/// ```
#[derive(Clone)]
pub struct EndpointUrl(Arc<Parts>);

struct Parts {
    url: Url,
    uri: http::Uri,
    ip: Option<IpAddr>,
    port: u16,
    /// What a request says of it, made once.
    #[cfg(feature = "hyper")]
    spoken: Spoken,
}

#[cfg(feature = "hyper")]
struct Spoken {
    target: http::Uri,
    host: http::HeaderValue,
}

/// Why a text is not an [`EndpointUrl`]. The message says what to change. It does not repeat the text, which may hold a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidEndpointUrl {
    /// More than [`EndpointUrl::MAX_LEN`] bytes, as given or in canonical form.
    #[error("the URL is longer than 2048 bytes")]
    TooLong,
    /// The text is not an absolute URL.
    #[error("this is not an absolute URL: {0}")]
    Syntax(url::ParseError),
    /// Neither `http` nor `https`.
    #[error("the URL must start with https:// (or http://)")]
    Scheme,
    /// There is no host, or none that DNS can carry: an empty label, one longer than 63 bytes, or a
    /// character other than letters, digits, `-` and `_`.
    #[error("the URL's host is not a valid name or address")]
    Host,
    /// Port 0.
    #[error("the URL's port must not be 0")]
    Port,
    /// A user name or password.
    #[error("the URL must not contain a user name or password")]
    UserInfo,
    /// A fragment, which would never be sent.
    #[error("the URL must not contain a fragment (#…)")]
    Fragment,
}

impl EndpointUrl {
    /// The longest URL that is accepted, in bytes.
    pub const MAX_LEN: usize = 2048;

    /// The whole URL in canonical form, with its query.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.url.as_str()
    }

    /// The parsed URL.
    #[must_use]
    pub fn as_url(&self) -> &Url {
        &self.0.url
    }

    /// The URL as a request target. Cloning it copies no text.
    #[must_use]
    pub fn uri(&self) -> &http::Uri {
        &self.0.uri
    }

    /// Whether the scheme is `https`.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.0.url.scheme() == "https"
    }

    /// The host: a lower-case ASCII name without trailing dot, or an address (IPv6 in brackets).
    #[must_use]
    pub fn host(&self) -> &str {
        self.0.url.host_str().unwrap_or_default()
    }

    /// The address, where the host is one. No resolver is asked for such a host.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        self.0.ip
    }

    /// The port: the one given, or the scheme's.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.0.port
    }

    /// The path and the query: what a request to the host itself asks for.
    #[cfg(feature = "hyper")]
    pub(crate) fn request_target(&self) -> &http::Uri {
        &self.0.spoken.target
    }

    /// The host and, unless it is the scheme's, the port.
    #[cfg(feature = "hyper")]
    pub(crate) fn host_header(&self) -> &http::HeaderValue {
        &self.0.spoken.host
    }

    /// Scheme, host and port: what one connection is good for.
    #[cfg(feature = "hyper")]
    pub(crate) fn origin(&self) -> &str {
        &self.0.url[..url::Position::BeforePath]
    }

    /// The URL without its query, for logs and errors.
    #[must_use]
    pub fn redacted(&self) -> impl fmt::Display + '_ {
        Redacted(&self.0.url)
    }
}

impl FromStr for EndpointUrl {
    type Err = InvalidEndpointUrl;

    fn from_str(text: &str) -> Result<Self, InvalidEndpointUrl> {
        if text.len() > Self::MAX_LEN {
            return Err(InvalidEndpointUrl::TooLong);
        }
        Url::parse(text)
            .map_err(InvalidEndpointUrl::Syntax)?
            .try_into()
    }
}

impl TryFrom<Url> for EndpointUrl {
    type Error = InvalidEndpointUrl;

    fn try_from(mut url: Url) -> Result<Self, InvalidEndpointUrl> {
        check_shape(&url)?;
        let ip = match url.host().ok_or(InvalidEndpointUrl::Host)? {
            Host::Ipv4(ip) => Some(IpAddr::V4(ip)),
            Host::Ipv6(ip) => Some(IpAddr::V6(ip)),
            Host::Domain(name) => {
                let canonical = canonical_name(name)?;
                if canonical.len() != name.len() {
                    let canonical = canonical.to_owned();
                    url.set_host(Some(&canonical))
                        .map_err(InvalidEndpointUrl::Syntax)?;
                }
                None
            }
        };
        if url.as_str().len() > Self::MAX_LEN {
            return Err(InvalidEndpointUrl::TooLong);
        }
        let port = url.port_or_known_default().unwrap_or_default();
        let uri = url.as_str().parse().map_err(|_| InvalidEndpointUrl::Host)?;
        Ok(Self(Arc::new(Parts {
            #[cfg(feature = "hyper")]
            spoken: Spoken::of(&url, &uri).ok_or(InvalidEndpointUrl::Host)?,
            url,
            uri,
            ip,
            port,
        })))
    }
}

#[cfg(feature = "hyper")]
impl Spoken {
    fn of(url: &Url, uri: &http::Uri) -> Option<Self> {
        let host = &url[url::Position::BeforeHost..url::Position::AfterPort];
        Some(Self {
            target: uri.path_and_query()?.clone().into(),
            host: host.parse().ok()?,
        })
    }
}

impl TryFrom<&http::Uri> for EndpointUrl {
    type Error = InvalidEndpointUrl;

    fn try_from(uri: &http::Uri) -> Result<Self, InvalidEndpointUrl> {
        uri.to_string().parse()
    }
}

impl TryFrom<String> for EndpointUrl {
    type Error = InvalidEndpointUrl;

    fn try_from(text: String) -> Result<Self, InvalidEndpointUrl> {
        text.parse()
    }
}

impl TryFrom<&str> for EndpointUrl {
    type Error = InvalidEndpointUrl;

    fn try_from(text: &str) -> Result<Self, InvalidEndpointUrl> {
        text.parse()
    }
}

/// The rules about everything but the host.
fn check_shape(url: &Url) -> Result<(), InvalidEndpointUrl> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err(InvalidEndpointUrl::Scheme);
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(InvalidEndpointUrl::UserInfo);
    }
    if url.fragment().is_some() {
        return Err(InvalidEndpointUrl::Fragment);
    }
    if url.port() == Some(0) {
        return Err(InvalidEndpointUrl::Port);
    }
    Ok(())
}

/// The name without its trailing dot, if DNS can carry it (RFC 1035, 2.3.4; `_` occurs in practice).
fn canonical_name(name: &str) -> Result<&str, InvalidEndpointUrl> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if name.len() <= 253 && name.split('.').all(is_label) {
        Ok(name)
    } else {
        Err(InvalidEndpointUrl::Host)
    }
}

struct Redacted<'a>(&'a Url);

impl fmt::Display for Redacted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0[..url::Position::AfterPath])?;
        match self.0.query() {
            Some(_) => f.write_str("?…"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EndpointUrl({})", self.redacted())
    }
}

impl PartialEq for EndpointUrl {
    fn eq(&self, other: &Self) -> bool {
        self.0.url == other.0.url
    }
}

impl Eq for EndpointUrl {}

impl std::hash::Hash for EndpointUrl {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.url.hash(state);
    }
}

impl Serialize for EndpointUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for EndpointUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<EndpointUrl, InvalidEndpointUrl> {
        text.parse()
    }

    #[test]
    fn one_host_has_one_spelling() {
        for text in [
            "https://hooks.example.com/",
            "HTTPS://HOOKS.EXAMPLE.COM.:443",
            " https:\\\\hooks.example.com/a/..\n",
        ] {
            assert_eq!(
                parse(text).unwrap().as_str(),
                "https://hooks.example.com/",
                "{text}"
            );
        }
    }

    #[test]
    fn each_broken_rule_has_its_reason() {
        use InvalidEndpointUrl as E;
        for (text, expected) in [
            ("ftp://example.com/", E::Scheme),
            ("https://user@example.com/", E::UserInfo),
            ("https://:pw@example.com/", E::UserInfo),
            ("https://example.com/#", E::Fragment),
            ("https://example.com:0/", E::Port),
            ("https://example.com../", E::Host),
            ("https://-a.example.com/", E::Host),
            ("https://a!b.example.com/", E::Host),
            (
                "example.com",
                E::Syntax(url::ParseError::RelativeUrlWithoutBase),
            ),
        ] {
            assert_eq!(parse(text).unwrap_err(), expected, "{text}");
        }
        let label = "a".repeat(63);
        let long = format!("https://{label}.{label}.{label}.{label}/");
        assert_eq!(parse(&long).unwrap_err(), E::Host);
    }

    #[test]
    fn the_longest_url_is_2048_bytes_also_in_canonical_form() {
        let padded = |n: usize| format!("https://example.com/{}", "a".repeat(n - 20));
        assert!(parse(&padded(2048)).is_ok());
        assert_eq!(parse(&padded(2049)), Err(InvalidEndpointUrl::TooLong));
        // Each ü becomes six bytes.
        let grows = format!("https://example.com/{}", "ü".repeat(500));
        assert_eq!(parse(&grows), Err(InvalidEndpointUrl::TooLong));
    }

    #[test]
    fn a_literal_knows_its_address_and_a_name_has_none() {
        let ip = |text| parse(text).unwrap().ip();
        assert_eq!(ip("http://127.1/"), Some([127, 0, 0, 1].into()));
        assert_eq!(ip("http://127.0.0.1./"), Some([127, 0, 0, 1].into()));
        assert_eq!(
            ip("http://[::1]/"),
            Some(std::net::Ipv6Addr::LOCALHOST.into())
        );
        assert_eq!(ip("http://example.com/"), None);
    }

    #[test]
    fn what_http_accepts_as_a_uri_is_what_was_parsed() {
        let url = parse("https://example.com:8443/a b?q={\"x\":`|`}&e=é").unwrap();
        assert_eq!(url.uri().to_string(), url.as_str());
        assert_eq!(EndpointUrl::try_from(url.uri()).unwrap(), url);
        assert_eq!(url.port(), 8443);
    }

    #[cfg(feature = "hyper")]
    #[test]
    fn what_a_request_says_of_it_is_made_once() {
        for (text, origin, host, target) in [
            (
                "https://BÜCHER.example.com.:443/in?a=b",
                "https://xn--bcher-kva.example.com",
                "xn--bcher-kva.example.com",
                "/in?a=b",
            ),
            (
                "http://example.com:8080",
                "http://example.com:8080",
                "example.com:8080",
                "/",
            ),
            ("http://[::0:1]:80/?x", "http://[::1]", "[::1]", "/?x"),
            (
                "https://[::1]:80/a b",
                "https://[::1]:80",
                "[::1]:80",
                "/a%20b",
            ),
        ] {
            let url = parse(text).unwrap();
            assert_eq!(url.origin(), origin);
            assert_eq!(url.host_header(), host);
            assert_eq!(url.request_target().to_string(), target);
        }
    }

    #[test]
    fn debug_and_redacted_hide_the_query() {
        let url = parse("https://example.com/in?token=s3cret").unwrap();
        assert_eq!(format!("{url:?}"), "EndpointUrl(https://example.com/in?…)");
        assert!(url.to_string().contains("s3cret"));
    }

    #[test]
    fn serde_keeps_the_text_and_checks_it() {
        let json = "\"https://example.com/in?a=b\"";
        let url: EndpointUrl = serde_json::from_str(json).unwrap();
        assert_eq!(serde_json::to_string(&url).unwrap(), json);
        assert!(serde_json::from_str::<EndpointUrl>("\"ftp://example.com\"").is_err());
    }
}

//! A host's own headers on an endpoint: checked once, so that sending never has to.

use http::{HeaderMap, HeaderName, HeaderValue, header};

/// Headers that an endpoint's requests carry beside ours.
///
/// At most 32, 8 KiB in all. Values of secret headers are marked sensitive
/// ([`HeaderValue::is_sensitive`]): `Debug` and the API do not show them. What would change who is
/// addressed, how the message is framed, or our own headers is refused; `authorization` must be secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CustomHeaders(HeaderMap);

/// Why a custom header is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidHeader {
    /// Not a header name.
    #[error("{0:?} is not a header name")]
    Name(String),
    /// The value holds characters that a header cannot carry, CR, LF and NUL among them.
    #[error("the value of header {0:?} holds characters that a header cannot carry")]
    Value(String),
    /// The engine or the connection sets this header.
    #[error("header {0:?} cannot be set on an endpoint")]
    Reserved(String),
    /// A credential among the plain headers.
    #[error("header {0:?} must be a secret header")]
    MustBeSecret(String),
    /// The same name twice.
    #[error("header {0:?} is given twice")]
    Duplicate(String),
    /// More than 32 headers or 8 KiB.
    #[error("at most {MAX_COUNT} headers and {MAX_BYTES} bytes are allowed")]
    TooMany,
}

const MAX_COUNT: usize = 32;
const MAX_BYTES: usize = 8 * 1024;

/// Addressing, framing and hop-by-hop headers, and those that the engine sets.
static RESERVED: [HeaderName; 11] = [
    header::HOST,
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::TE,
    header::TRAILER,
    header::UPGRADE,
    header::EXPECT,
    header::COOKIE,
    header::SET_COOKIE,
    header::USER_AGENT,
    HeaderName::from_static("keep-alive"),
];
const RESERVED_PREFIXES: &[&str] = &["content-", "proxy-", "webhook-"];

impl CustomHeaders {
    /// Checks `plain` and `secret` headers, each a name and a value.
    ///
    /// # Errors
    /// The first header that is refused, and why.
    pub fn new<'a>(
        plain: impl IntoIterator<Item = (&'a str, &'a str)>,
        secret: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, InvalidHeader> {
        let mut headers = Self::default();
        for (name, value) in plain {
            headers.add(name, value, false)?;
        }
        for (name, value) in secret {
            headers.add(name, value, true)?;
        }
        let bytes: usize = headers
            .0
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len())
            .sum();
        if headers.0.len() > MAX_COUNT || bytes > MAX_BYTES {
            return Err(InvalidHeader::TooMany);
        }
        Ok(headers)
    }

    /// All of them; the values of secret ones are marked sensitive.
    #[must_use]
    pub fn as_map(&self) -> &HeaderMap {
        &self.0
    }

    fn add(&mut self, name: &str, value: &str, secret: bool) -> Result<(), InvalidHeader> {
        let text = || name.to_owned();
        let parsed =
            HeaderName::from_bytes(name.as_bytes()).map_err(|_| InvalidHeader::Name(text()))?;
        let mut value = HeaderValue::from_str(value).map_err(|_| InvalidHeader::Value(text()))?;
        value.set_sensitive(secret);
        if RESERVED.contains(&parsed)
            || RESERVED_PREFIXES
                .iter()
                .any(|p| parsed.as_str().starts_with(p))
        {
            return Err(InvalidHeader::Reserved(text()));
        }
        if parsed == header::AUTHORIZATION && !secret {
            return Err(InvalidHeader::MustBeSecret(text()));
        }
        match self.0.insert(parsed, value) {
            None => Ok(()),
            Some(_) => Err(InvalidHeader::Duplicate(text())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(name: &str, value: &str) -> Result<CustomHeaders, InvalidHeader> {
        CustomHeaders::new([(name, value)], [])
    }

    #[test]
    fn harmless_headers_pass() {
        assert!(plain("x-shard", "7").is_ok());
        assert!(CustomHeaders::new([("x-a", "1")], [("authorization", "Bearer t")]).is_ok());
    }

    #[test]
    fn headers_that_address_frame_or_sign_are_refused() {
        for name in [
            "Host",
            "content-type",
            "Content-Length",
            "Transfer-Encoding",
            "connection",
            "keep-alive",
            "TE",
            "upgrade",
            "expect",
            "cookie",
            "proxy-authorization",
            "webhook-id",
            "Webhook-Signature",
            "user-agent",
        ] {
            assert_eq!(
                plain(name, "x"),
                Err(InvalidHeader::Reserved(name.to_owned()))
            );
        }
        assert!(matches!(
            plain("authorization", "x"),
            Err(InvalidHeader::MustBeSecret(_))
        ));
    }

    #[test]
    fn bytes_that_smuggle_are_refused() {
        for value in ["a\r\nb: c", "a\nb", "a\0b", "\u{7f}"] {
            assert!(
                matches!(plain("x-a", value), Err(InvalidHeader::Value(_))),
                "{value:?}"
            );
        }
        for name in ["", "x a", "x:a", "x\r\na", "ä"] {
            assert!(
                matches!(plain(name, "1"), Err(InvalidHeader::Name(_))),
                "{name:?}"
            );
        }
        assert!(matches!(
            CustomHeaders::new([("x-a", "1"), ("X-A", "2")], []),
            Err(InvalidHeader::Duplicate(_))
        ));
    }

    #[test]
    fn count_and_size_are_capped() {
        let names: Vec<_> = (0..33).map(|n| format!("x-{n}")).collect();
        let many =
            |count: usize| CustomHeaders::new(names[..count].iter().map(|n| (n.as_str(), "1")), []);
        assert!(many(32).is_ok());
        assert_eq!(many(33), Err(InvalidHeader::TooMany));
        assert_eq!(
            plain("x-a", &"v".repeat(MAX_BYTES)),
            Err(InvalidHeader::TooMany)
        );
    }

    #[test]
    fn debug_hides_secret_values() {
        let headers = CustomHeaders::new([], [("authorization", "Bearer s3cret")]).unwrap();
        assert!(!format!("{headers:?}").contains("s3cret"));
    }
}

//! A host's own headers on an endpoint. They are checked once, so that sending need not check them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use zeroize::Zeroizing;

/// Headers that an endpoint's requests carry beside ours.
///
/// There may be 32 headers with 8 KiB in all. Values of secret headers are marked sensitive ([`HeaderValue::is_sensitive`]):
/// `Debug` and the API do not show them. Headers that would change the addressee, the framing of the message, or our own headers
/// are refused, also with `_` for `-`, which many receivers take for the same. `authorization` must be secret.
#[derive(Clone, Debug, Default)]
pub struct CustomHeaders(HeaderMap);

/// A secret header differs from a plain one of the same value, but comparing `HeaderValue`s does not show that.
impl PartialEq for CustomHeaders {
    fn eq(&self, other: &Self) -> bool {
        let is_in_other = |(name, value): (&HeaderName, &HeaderValue)| {
            let same = other.0.get(name).filter(|it| *it == value);
            same.is_some_and(|it| it.is_sensitive() == value.is_sensitive())
        };
        self.0.len() == other.0.len() && self.0.iter().all(is_in_other)
    }
}

impl Eq for CustomHeaders {}

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

/// Addressing, framing and hop-by-hop headers, and those that the engine sets; of names with `_` those with `-`.
const RESERVED: &[&str] = &[
    "host",
    "connection",
    "keep-alive",
    "transfer-encoding",
    "te",
    "trailer",
    "upgrade",
    "http2-settings",
    "expect",
    "cookie",
    "cookie2",
    "set-cookie",
    "user-agent",
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
        headers.checked()
    }

    /// These headers and the secret header `authorization: Bearer <token>` ([RFC 6750](https://www.rfc-editor.org/rfc/rfc6750)).
    ///
    /// # Errors
    /// When the token is empty or has a character that no token can have, such as a space; when there is an `authorization`
    /// already, or there are too many headers.
    pub fn bearer(self, token: &str) -> Result<Self, InvalidHeader> {
        let fits = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
        self.authorization("Bearer", token, fits)
    }

    /// These headers and the secret header `authorization: Basic …` of a user and a password, in UTF-8
    /// ([RFC 7617](https://www.rfc-editor.org/rfc/rfc7617)).
    ///
    /// # Errors
    /// When the user's name has a colon, or one of the two has a control character; when there is an `authorization` already, or
    /// there are too many headers.
    pub fn basic(self, user: &str, password: &str) -> Result<Self, InvalidHeader> {
        let fits = !user.contains(':')
            && ![user, password]
                .iter()
                .any(|it| it.contains(char::is_control));
        let plain = Zeroizing::new(format!("{user}:{password}"));
        let credentials = Zeroizing::new(STANDARD.encode(&*plain));
        self.authorization("Basic", &credentials, fits)
    }

    fn authorization(
        mut self,
        scheme: &str,
        credentials: &str,
        fits: bool,
    ) -> Result<Self, InvalidHeader> {
        let name = header::AUTHORIZATION.as_str();
        if !fits {
            return Err(InvalidHeader::Value(name.to_owned()));
        }
        let value = Zeroizing::new(format!("{scheme} {credentials}"));
        self.add(name, &value, true)?;
        self.checked()
    }

    /// Unless they are too many, or too long.
    fn checked(self) -> Result<Self, InvalidHeader> {
        let lengths = self
            .0
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len());
        let bytes: usize = lengths.sum();
        if self.0.len() > MAX_COUNT || bytes > MAX_BYTES {
            return Err(InvalidHeader::TooMany);
        }
        Ok(self)
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
        if is_reserved(&parsed) {
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

/// Whether a receiver may take it for a reserved one: behind CGI, WSGI and PHP, `_` and `-` are the same.
fn is_reserved(name: &HeaderName) -> bool {
    let name = name.as_str().replace('_', "-");
    RESERVED.contains(&&*name) || RESERVED_PREFIXES.iter().any(|it| name.starts_with(it))
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
    fn a_header_that_becomes_secret_is_another() {
        let plain = plain("x-key", "7").unwrap();
        let secret = CustomHeaders::new([], [("x-key", "7")]).unwrap();
        assert!(plain != secret && plain == plain.clone());
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
            "User_Agent",
            "webhook_signature",
            "content_length",
            "transfer_encoding",
            "http2-settings",
            "cookie2",
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
    fn credentials_become_a_secret_header() {
        let sent = |headers: Result<CustomHeaders, InvalidHeader>| {
            let value = headers?.0.remove(header::AUTHORIZATION).expect("it is set");
            assert!(value.is_sensitive());
            Ok::<_, InvalidHeader>(value)
        };
        let none = CustomHeaders::default;
        assert_eq!(
            sent(none().bearer("abc.d-e_f~+/=")).unwrap(),
            "Bearer abc.d-e_f~+/="
        );
        // RFC 7617, 2 and 2.1.
        let basic = sent(none().basic("Aladdin", "open sesame"));
        assert_eq!(basic.unwrap(), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        let basic = sent(none().basic("test", "123\u{a3}"));
        assert_eq!(basic.unwrap(), "Basic dGVzdDoxMjPCow==");
        assert_eq!(sent(none().basic("", "")).unwrap(), "Basic Og==");

        let refused = InvalidHeader::Value("authorization".to_owned());
        for token in ["", "a b", "a\r\nx: 1", "ä"] {
            assert_eq!(none().bearer(token), Err(refused.clone()), "{token:?}");
        }
        for (user, password) in [("a:b", ""), ("a\n", ""), ("a", "\0")] {
            assert_eq!(none().basic(user, password), Err(refused.clone()));
        }
        let twice = none().bearer("a").and_then(|it| it.bearer("b"));
        assert_eq!(
            twice,
            Err(InvalidHeader::Duplicate("authorization".to_owned()))
        );
        let long = none().bearer(&"v".repeat(MAX_BYTES));
        assert_eq!(long, Err(InvalidHeader::TooMany));
    }

    #[test]
    fn debug_hides_secret_values() {
        let headers = CustomHeaders::new([], [("authorization", "Bearer s3cret")]).unwrap();
        assert!(!format!("{headers:?}").contains("s3cret"));
    }
}

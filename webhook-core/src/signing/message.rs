//! What signer and verifier share: header names, the rule for ids, the content that is signed.

use http::HeaderName;

/// No longer id is signed or accepted, in bytes.
pub(super) const MAX_ID_LEN: usize = 256;

/// The names of the three headers.
///
/// The default is the standard's: `webhook-id`, `webhook-timestamp`, `webhook-signature`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeaderNames {
    /// Carries the event's id.
    pub id: HeaderName,
    /// Carries the attempt's time in Unix seconds.
    pub timestamp: HeaderName,
    /// Carries the signatures.
    pub signature: HeaderName,
}

/// The prefix would not make header names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a header prefix is lower-case letters, digits and `-`")]
pub struct InvalidHeaderPrefix;

impl HeaderNames {
    /// `{prefix}-id`, `{prefix}-timestamp` and `{prefix}-signature`: for hosts whose receivers expect
    /// other names around the same scheme, `svix` for example.
    ///
    /// # Errors
    /// When `prefix` is empty or does not make a header name.
    pub fn with_prefix(prefix: &str) -> Result<Self, InvalidHeaderPrefix> {
        let name = |suffix| match format!("{prefix}-{suffix}").parse() {
            Ok(name) if !prefix.is_empty() => Ok(name),
            _ => Err(InvalidHeaderPrefix),
        };
        Ok(Self {
            id: name("id")?,
            timestamp: name("timestamp")?,
            signature: name("signature")?,
        })
    }
}

impl Default for HeaderNames {
    fn default() -> Self {
        Self {
            id: HeaderName::from_static("webhook-id"),
            timestamp: HeaderName::from_static("webhook-timestamp"),
            signature: HeaderName::from_static("webhook-signature"),
        }
    }
}

/// Whether an id can be signed without ambiguity: 1 to 256 visible ASCII characters and no `.`,
/// which ends the id in what is signed. With dots, `a` sent at time `1` with body `2.x` and `a.1`
/// sent at time `2` with body `x` would have one signature.
pub(super) fn is_valid_id(id: &[u8]) -> bool {
    (1..=MAX_ID_LEN).contains(&id.len()) && id.iter().all(|b| b.is_ascii_graphic() && *b != b'.')
}

/// The signed content, `{id}.{timestamp}.{body}`, in parts so that the body is not copied.
pub(super) fn signed_parts<'a>(id: &'a [u8], timestamp: &'a [u8], body: &'a [u8]) -> [&'a [u8]; 5] {
    [id, b".", timestamp, b".", body]
}

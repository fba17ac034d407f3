//! The headers of an attempt as they are kept: in one small buffer, because a map would keep the connection's buffers alive.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};

/// What stands for the value of a secret header.
pub(crate) const HIDDEN: &[u8] = b"***";

/// The headers of a request or a response, in order, for the attempt log.
///
/// Values are bytes, not necessarily text. The values of sensitive headers
/// ([`HeaderValue::is_sensitive`](http::HeaderValue::is_sensitive)) are `***`: a secret never gets into
/// the log.
///
/// The encoding, which stores keep as it is: for each header the length of its name and of its value, two
/// little-endian `u32`, then the name and the value.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct HeaderLog(Box<[u8]>);

/// The bytes are no encoded headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the encoding of a header log")]
pub struct InvalidHeaderLog;

impl HeaderLog {
    /// Decodes what [`as_bytes`](Self::as_bytes) gave.
    ///
    /// # Errors
    /// When the bytes are something else.
    pub fn from_bytes(bytes: impl Into<Box<[u8]>>) -> Result<Self, InvalidHeaderLog> {
        let log = Self(bytes.into());
        let mut rest = &log.0[..];
        while !rest.is_empty() {
            let (name, _, after) = split_header(rest).ok_or(InvalidHeaderLog)?;
            HeaderName::from_bytes(name).map_err(|_| InvalidHeaderLog)?;
            rest = after;
        }
        Ok(log)
    }

    /// The encoding, for a store.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Each header's name, in lower case, and value.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let mut rest = &self.0[..];
        std::iter::from_fn(move || {
            let (name, value, after) = split_header(rest)?;
            rest = after;
            Some((std::str::from_utf8(name).unwrap_or_default(), value))
        })
    }

    /// The first value of a header; `name` in lower case.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value)
    }
}

/// The first header's name and value, and what follows.
fn split_header(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (name_len, rest) = bytes.split_first_chunk()?;
    let (value_len, rest) = rest.split_first_chunk()?;
    let (name, rest) = rest.split_at_checked(u32::from_le_bytes(*name_len) as usize)?;
    let (value, rest) = rest.split_at_checked(u32::from_le_bytes(*value_len) as usize)?;
    Some((name, value, rest))
}

impl HeaderLog {
    /// The first headers of a map, of at most `max` bytes encoded, and whether there were more.
    #[must_use]
    pub fn capped(headers: &HeaderMap, max: usize) -> (Self, bool) {
        let shown = |value: &HeaderValue| {
            if value.is_sensitive() {
                HIDDEN.len()
            } else {
                value.len()
            }
        };
        let (mut len, mut count) = (0, 0);
        for (name, value) in headers {
            let with_this = len + 8 + name.as_str().len() + shown(value);
            if with_this > max {
                break;
            }
            (len, count) = (with_this, count + 1);
        }
        let mut log = Vec::with_capacity(len);
        for (name, value) in headers.iter().take(count) {
            let value = if value.is_sensitive() {
                HIDDEN
            } else {
                value.as_bytes()
            };
            log.extend_from_slice(&encoded_len(name.as_str().as_bytes()));
            log.extend_from_slice(&encoded_len(value));
            log.extend_from_slice(name.as_str().as_bytes());
            log.extend_from_slice(value);
        }
        (Self(log.into()), count < headers.len())
    }
}

impl From<&HeaderMap> for HeaderLog {
    fn from(headers: &HeaderMap) -> Self {
        Self::capped(headers, usize::MAX).0
    }
}

/// No header is near 4 GiB: HTTP clients and servers cap a message's head far below.
fn encoded_len(part: &[u8]) -> [u8; 4] {
    u32::try_from(part.len()).unwrap_or(u32::MAX).to_le_bytes()
}

impl fmt::Debug for HeaderLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |(name, value): (_, &[u8])| (name, String::from_utf8_lossy(value).into_owned());
        f.debug_map().entries(self.iter().map(text)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers() -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.append("x-a", HeaderValue::from_static("1"));
        headers.append("x-a", HeaderValue::from_static(""));
        headers.append("x-raw", HeaderValue::from_bytes(b"\xff\xfe").unwrap());
        let mut secret = HeaderValue::from_static("s3cret");
        secret.set_sensitive(true);
        headers.append("authorization", secret);
        headers
    }

    #[test]
    fn headers_come_back_in_order_and_secret_ones_do_not() {
        let log = HeaderLog::from(&headers());
        let all: Vec<_> = log.iter().collect();
        let expected: [(&str, &[u8]); 4] = [
            ("x-a", b"1"),
            ("x-a", b""),
            ("x-raw", b"\xff\xfe"),
            ("authorization", b"***"),
        ];
        assert_eq!(all, expected);
        assert_eq!(log.get("x-raw"), Some(&b"\xff\xfe"[..]));
        assert_eq!(log.get("x-b"), None);
        assert_eq!(HeaderLog::from_bytes(log.as_bytes()), Ok(log.clone()));
        assert!(!format!("{log:?}").contains("s3cret"));
    }

    #[test]
    fn other_bytes_are_refused_and_never_panic() {
        let log = HeaderLog::from(&headers());
        let ends: Vec<_> = (1..=4)
            .map(|count| {
                let headers = log.iter().take(count);
                headers
                    .map(|(name, value)| 8 + name.len() + value.len())
                    .sum::<usize>()
            })
            .collect();
        for end in 1..=log.as_bytes().len() {
            let cut = HeaderLog::from_bytes(&log.as_bytes()[..end]);
            assert_eq!(cut.is_ok(), ends.contains(&end), "{end}");
        }
        for bad in [
            &b"x"[..],
            &[0; 8],
            &[255; 64],
            &[1, 0, 0, 0, 0, 0, 0, 0, b' '],
        ] {
            assert_eq!(HeaderLog::from_bytes(bad), Err(InvalidHeaderLog), "{bad:?}");
        }
        assert_eq!(HeaderLog::from_bytes([]), Ok(HeaderLog::default()));
    }

    #[test]
    fn a_cap_keeps_whole_headers_and_says_that_there_were_more() {
        let (all, more) = HeaderLog::capped(&headers(), 1_000);
        assert_eq!((all.iter().count(), more), (4, false));
        let exact = all.as_bytes().len();
        assert!(!HeaderLog::capped(&headers(), exact).1);
        let (cut, more) = HeaderLog::capped(&headers(), exact - 1);
        assert_eq!((cut.iter().count(), more), (3, true));
        assert_eq!(
            HeaderLog::capped(&headers(), 0),
            (HeaderLog::default(), true)
        );
    }
}

//! The way through a proxy to an `https` endpoint (`CONNECT`, RFC 9110, 9.3.6).

use std::io;

use http::HeaderValue;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::url::EndpointUrl;

/// The longest head of an answer that is read.
const MAX_HEAD: usize = 8 * 1024;

/// The proxy opened no tunnel.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoTunnel {
    #[error("the connection to the proxy broke")]
    Broken(#[from] io::Error),
    #[error("the proxy answered with status {0}")]
    Refused(u16),
    #[error("the proxy wants another user or password")]
    Unauthorized,
    #[error("the proxy's answer was not valid HTTP")]
    Garbage,
}

/// Asks the proxy for a tunnel to the host of `url`. Once it is open, all that goes through `stream` goes there.
pub(super) async fn open(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    url: &EndpointUrl,
    authorization: Option<&HeaderValue>,
) -> Result<(), NoTunnel> {
    stream.write_all(&request(url, authorization)).await?;
    stream.flush().await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == MAX_HEAD {
            return Err(NoTunnel::Garbage);
        }
        // Byte by byte, as what follows is not ours to take.
        head.push(stream.read_u8().await?);
    }
    match status(&head) {
        Some(200..=299) => Ok(()),
        Some(407) => Err(NoTunnel::Unauthorized),
        Some(status) => Err(NoTunnel::Refused(status)),
        None => Err(NoTunnel::Garbage),
    }
}

fn request(url: &EndpointUrl, authorization: Option<&HeaderValue>) -> Vec<u8> {
    let authority = format!("{}:{}", url.host(), url.port());
    let mut head = format!("CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\n").into_bytes();
    if let Some(authorization) = authorization {
        head.extend_from_slice(b"proxy-authorization: ");
        head.extend_from_slice(authorization.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head
}

/// Of `HTTP/1.1 200 Connection established`.
fn status(head: &[u8]) -> Option<u16> {
    let rest = head.strip_prefix(b"HTTP/1.")?.get(1..)?;
    let (digits, rest) = rest.strip_prefix(b" ")?.split_at_checked(3)?;
    let ends = rest.starts_with(b" ") || rest.starts_with(b"\r\n");
    let is_number = digits.iter().all(u8::is_ascii_digit);
    (ends && is_number).then(|| std::str::from_utf8(digits).ok()?.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_three_digits_of_a_line_of_http() {
        for (head, expected) in [
            ("HTTP/1.1 200 Connection established\r\n\r\n", Some(200)),
            ("HTTP/1.0 200\r\n\r\n", Some(200)),
            (
                "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n",
                Some(407),
            ),
            ("HTTP/1.1 2000 OK\r\n\r\n", None),
            ("HTTP/1.1 +20 OK\r\n\r\n", None),
            ("HTTP/1.1 20\r\n\r\n", None),
            ("HTTP/2 200 OK\r\n\r\n", None),
            ("SSH-2.0-OpenSSH_9.9\r\n\r\n", None),
            ("\r\n\r\n", None),
        ] {
            assert_eq!(status(head.as_bytes()), expected, "{head}");
        }
    }
}

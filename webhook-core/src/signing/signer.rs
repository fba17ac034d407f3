//! The sender's side: makes the headers that prove who sent an attempt.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue};

use super::message::{HeaderNames, is_valid_id, signed_parts};
use super::secret::{Key, Secret};
use crate::error::BoxError;
use crate::time::Timestamp;

/// Adds headers to an attempt that prove to the receiver who sent it.
///
/// The default is [`StandardWebhooks`]. If your receivers use another scheme, implement this trait.
///
/// The contract:
/// - The headers depend only on the request: a signer uses no clock, no I/O and no state. The engine signs each attempt anew,
///   with a new timestamp.
/// - A signer may insert any header, and overwrites headers that are there. The body is sent as it is.
/// - All of `secrets` are live, the current one first. During a rotation, the receiver may hold any of them.
/// - No error holds a secret.
///
/// It runs for every attempt, so allocate little.
///
/// ```
/// use http::{HeaderMap, HeaderValue};
/// use webhook_core::{Secret, SignError, SignRequest, Signer, Timestamp};
///
/// /// `x-hub-signature-256: sha256=<hex of HMAC-SHA256 over the body>`, as GitHub sends it.
/// struct HubSignature;
///
/// impl Signer for HubSignature {
///     fn sign(&self, request: &SignRequest<'_>, headers: &mut HeaderMap) -> Result<(), SignError> {
///         let secret = request.secrets.first().ok_or(SignError::NoSecret)?;
///         let mac = secret.hmac_sha256(&[request.body]).ok_or(SignError::NoSecret)?;
///         let hex: String = mac.iter().map(|byte| format!("{byte:02x}")).collect();
///         let value = HeaderValue::try_from(format!("sha256={hex}")).map_err(SignError::custom)?;
///         headers.insert("x-hub-signature-256", value);
///         Ok(())
///     }
/// }
///
/// let secrets = [Secret::from_bytes(b"It's a Secret to Everybody")?];
/// let request = SignRequest::new("evt_1", Timestamp::EPOCH, b"Hello, World!", &secrets);
/// let mut headers = HeaderMap::new();
/// HubSignature.sign(&request, &mut headers)?;
/// assert!(headers["x-hub-signature-256"].to_str()?.starts_with("sha256="));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Signer: Send + Sync {
    /// Inserts the headers for one attempt.
    ///
    /// # Errors
    /// When this request cannot be signed; the same request will fail again.
    fn sign(&self, request: &SignRequest<'_>, headers: &mut HeaderMap) -> Result<(), SignError>;
}

/// What is signed, and with what.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct SignRequest<'a> {
    /// The event's id: the same in every attempt and replay.
    pub id: &'a str,
    /// When this attempt is made.
    pub timestamp: Timestamp,
    /// The body, exactly as it is sent.
    pub body: &'a [u8],
    /// The endpoint's live secrets, the current one first.
    pub secrets: &'a [Secret],
}

impl<'a> SignRequest<'a> {
    /// A request to sign `body` as event `id`, sent at `timestamp`, with all of `secrets`.
    #[must_use]
    pub fn new(id: &'a str, timestamp: Timestamp, body: &'a [u8], secrets: &'a [Secret]) -> Self {
        Self {
            id,
            timestamp,
            body,
            secrets,
        }
    }
}

/// The request cannot be signed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// The id is empty, longer than 256 bytes, or holds a `.`, white space, control characters or
    /// anything outside ASCII.
    #[error("the id cannot be signed: 1 to 256 visible ASCII characters without `.`")]
    InvalidId,
    /// There is no secret, or none of the kind that the scheme needs.
    #[error("there is no secret to sign with")]
    NoSecret,
    /// A [`Signer`] of the host's failed for a reason of its own.
    #[error("the custom signer failed")]
    Custom(#[source] BoxError),
}

impl SignError {
    /// A custom signer's own error. It must not hold a secret.
    #[must_use]
    pub fn custom(source: impl Into<BoxError>) -> Self {
        Self::Custom(source.into())
    }
}

/// Signs as [Standard Webhooks 1.0.0][spec] says: `webhook-id`, `webhook-timestamp` (Unix seconds) and
/// `webhook-signature`.
///
/// The signature covers `{id}.{timestamp}.{body}`: `v1,` and the base64 of an HMAC-SHA256, or `v1a,`
/// and that of an Ed25519 signature. Several secrets make several, separated by a space, in the order
/// of the secrets. The body may be any bytes: it need not be UTF-8.
///
/// [spec]: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
#[derive(Clone, Debug, Default)]
pub struct StandardWebhooks {
    headers: HeaderNames,
}

impl StandardWebhooks {
    /// With the standard's header names.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// With other header names around the same scheme, for receivers that expect them.
    #[must_use]
    pub fn with_headers(headers: HeaderNames) -> Self {
        Self { headers }
    }
}

impl Signer for StandardWebhooks {
    fn sign(&self, request: &SignRequest<'_>, headers: &mut HeaderMap) -> Result<(), SignError> {
        if !is_valid_id(request.id.as_bytes()) {
            return Err(SignError::InvalidId);
        }
        let id = HeaderValue::from_str(request.id).map_err(|_| SignError::InvalidId)?;
        let timestamp = HeaderValue::from(request.timestamp.as_seconds());
        let signature = signatures(request, timestamp.as_bytes())?;

        headers.insert(&self.headers.id, id);
        headers.insert(&self.headers.timestamp, timestamp);
        headers.insert(&self.headers.signature, signature);
        Ok(())
    }
}

/// The value of `webhook-signature`, in one allocation.
fn signatures(request: &SignRequest<'_>, timestamp: &[u8]) -> Result<HeaderValue, SignError> {
    if request.secrets.is_empty() {
        return Err(SignError::NoSecret);
    }
    let parts = signed_parts(request.id.as_bytes(), timestamp, request.body);
    // Exact, less the space that the first has not: then `Bytes` takes the buffer over as it is.
    let len = request.secrets.iter().map(entry_len).sum::<usize>() - 1;
    let mut value = Vec::with_capacity(len);
    for secret in request.secrets {
        if !value.is_empty() {
            value.push(b' ');
        }
        match secret.key() {
            Key::Hmac(key) => push_entry(&mut value, b"v1,", &key.sign(&parts).into_bytes()),
            #[cfg(feature = "ed25519")]
            Key::Ed25519(key) => push_entry(&mut value, b"v1a,", &key.sign(&parts)),
        }
    }
    debug_assert_eq!(value.len(), value.capacity());
    HeaderValue::from_maybe_shared(Bytes::from(value)).map_err(SignError::custom)
}

/// Bytes of one signature in the header, with the space before it.
fn entry_len(secret: &Secret) -> usize {
    match secret.key() {
        Key::Hmac(_) => " v1,".len() + 44,
        #[cfg(feature = "ed25519")]
        Key::Ed25519(_) => " v1a,".len() + 88,
    }
}

fn push_entry(value: &mut Vec<u8>, label: &[u8], signature: &[u8]) {
    value.extend_from_slice(label);
    let start = value.len();
    value.resize(start + signature.len().div_ceil(3) * 4, 0);
    // The room is exact, so encoding cannot fail.
    let encoded = STANDARD.encode_slice(signature, &mut value[start..]);
    debug_assert_eq!(encoded.ok(), Some(value.len() - start));
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const NOW: Timestamp = Timestamp::from_seconds(1_614_265_330);

    fn secret() -> Secret {
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse().unwrap()
    }

    #[test]
    fn ids_that_could_be_read_in_two_ways_are_refused() {
        let long = "a".repeat(257);
        for id in ["", "a.b", "a b", "a\tb", "a\r\nx: y", "a\u{7f}", "é", &long] {
            let mut headers = HeaderMap::new();
            let secrets = [secret()];
            let request = SignRequest::new(id, NOW, BODY, &secrets);
            let signed = StandardWebhooks::new().sign(&request, &mut headers);
            assert!(matches!(signed, Err(SignError::InvalidId)), "{id:?}");
            assert!(headers.is_empty());
        }
    }

    #[test]
    fn nothing_is_sent_unsigned() {
        let request = SignRequest::new("msg_1", NOW, BODY, &[]);
        let signed = StandardWebhooks::new().sign(&request, &mut HeaderMap::new());
        assert!(matches!(signed, Err(SignError::NoSecret)));
    }

    #[test]
    fn a_retry_replaces_the_headers_of_the_attempt_before() {
        let (secrets, mut headers) = ([secret()], HeaderMap::new());
        for seconds in [1, 2] {
            let at = Timestamp::from_seconds(seconds);
            let request = SignRequest::new("msg_1", at, BODY, &secrets);
            StandardWebhooks::new()
                .sign(&request, &mut headers)
                .unwrap();
        }
        assert_eq!(headers.len(), 3);
        assert_eq!(headers["webhook-timestamp"], "2");
    }

    #[test]
    fn header_names_can_be_those_of_another_sender() {
        let names = HeaderNames::with_prefix("svix").unwrap();
        let (secrets, mut headers) = ([secret()], HeaderMap::new());
        let request = SignRequest::new("msg_p5jXN8AQM9LWM0D4loKWxJek", NOW, BODY, &secrets);
        StandardWebhooks::with_headers(names)
            .sign(&request, &mut headers)
            .unwrap();
        assert_eq!(
            headers["svix-signature"],
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
        assert!(HeaderNames::with_prefix("").is_err());
        assert!(HeaderNames::with_prefix("a b").is_err());
    }

    #[test]
    fn the_seam_is_object_safe() {
        let signer: Box<dyn Signer> = Box::new(StandardWebhooks::new());
        let (secrets, mut headers) = ([secret()], HeaderMap::new());
        let request = SignRequest::new("msg_1", NOW, BODY, &secrets);
        assert!(signer.sign(&request, &mut headers).is_ok());
    }
}

//! The receiver's side: checks that a request is authentic, unchanged and recent.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName};

use super::hmac_sha256::tag_from;
use super::message::{HeaderNames, MAX_ID_LEN, is_valid_id, signed_parts};
use super::verifying_key::{Kind, VerifyingKey};
use crate::time::Timestamp;

/// How far `webhook-timestamp` may be from the receiver's clock, unless set otherwise: 300 s.
pub const DEFAULT_TOLERANCE: Duration = Duration::from_secs(300);

/// Bounds the work that a stranger's header can cause.
const MAX_SIGNATURE_HEADER: usize = 4096;
const MAX_SIGNATURES: usize = 16;

/// Checks that a request was signed as [Standard Webhooks 1.0.0][spec] says, by the holder of a key,
/// and recently.
///
/// A request is accepted if one of its signatures fits one of the keys; this allows secrets to be rotated. Signatures are
/// compared in constant time. No input makes the verifier panic. It refuses headers that are longer than any sender's.
///
/// It remembers nothing: within the tolerance the same request verifies again. [`Receiver`](crate::Receiver) refuses such
/// repeats.
///
/// ```
/// use http::HeaderMap;
/// use webhook_core::{Timestamp, Verifier, VerifyError, VerifyingKey};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let current: VerifyingKey = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD".parse()?;
/// let old: VerifyingKey = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse()?;
/// let verifier = Verifier::new(current).also(old);
///
/// let mut headers = HeaderMap::new();
/// headers.insert("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek".parse()?);
/// headers.insert("webhook-timestamp", "1614265330".parse()?);
/// headers.insert("webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=".parse()?);
///
/// let now = Timestamp::from_seconds(1_614_265_330);
/// assert!(verifier.verify(&headers, br#"{"test": 2432232314}"#, now).is_ok());
/// assert_eq!(verifier.verify(&headers, b"tampered", now), Err(VerifyError::NoMatch));
/// # Ok(())
/// # }
/// ```
///
/// [spec]: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
#[derive(Clone, Debug)]
pub struct Verifier {
    keys: Vec<VerifyingKey>,
    tolerance: Duration,
    headers: HeaderNames,
}

/// What a verified request says about itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct VerifiedHeaders {
    /// The event's id: the same however often it is sent. 1 to 256 visible ASCII characters.
    pub id: String,
    /// When this attempt was made, in whole seconds.
    pub timestamp: Timestamp,
}

/// Why a request is not to be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// `webhook-id`, `webhook-timestamp` or `webhook-signature` is missing.
    #[error("a webhook header is missing")]
    MissingHeader,
    /// One of the three is there more than once, so that it is unknown which one counts.
    #[error("a webhook header is repeated")]
    RepeatedHeader,
    /// `webhook-timestamp` is not a plain decimal number of seconds, or is later than
    /// [`Timestamp::MAX`].
    #[error("the webhook's timestamp is not a number of seconds")]
    InvalidTimestamp,
    /// The request was sent longer ago than the tolerance.
    #[error("the webhook's timestamp is too old")]
    TooOld,
    /// The request's time is further in the future than the tolerance.
    #[error("the webhook's timestamp is too new")]
    TooNew,
    /// There are more than 16 signatures, or more than 4096 bytes of them.
    #[error("the webhook has too many signatures")]
    TooManySignatures,
    /// No signature fits a key.
    #[error("no signature matches")]
    NoMatch,
    /// The id is empty, longer than 256 bytes, or holds what an id must not: `.`, white space, control
    /// characters, anything outside ASCII. A dot would let the same signature stand for another id.
    #[error("the webhook's id is not valid")]
    InvalidId,
}

impl VerifyError {
    /// The kind in one `snake_case` word, for logs and answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MissingHeader => "missing_header",
            Self::RepeatedHeader => "repeated_header",
            Self::InvalidTimestamp => "invalid_timestamp",
            Self::TooOld => "timestamp_too_old",
            Self::TooNew => "timestamp_too_new",
            Self::TooManySignatures => "too_many_signatures",
            Self::NoMatch => "invalid_signature",
            Self::InvalidId => "invalid_id",
        }
    }
}

impl Verifier {
    /// A verifier that accepts requests that were signed with `key`, at most 300 s before or after now.
    #[must_use]
    pub fn new(key: impl Into<VerifyingKey>) -> Self {
        Self {
            keys: vec![key.into()],
            tolerance: DEFAULT_TOLERANCE,
            headers: HeaderNames::default(),
        }
    }

    /// Also accepts requests that were signed with `key`: the old or the new one during a rotation.
    #[must_use]
    pub fn also(mut self, key: impl Into<VerifyingKey>) -> Self {
        self.keys.push(key.into());
        self
    }

    /// Sets how far the timestamp may be from the receiver's clock, either way, inclusive.
    #[must_use]
    pub fn tolerance(mut self, tolerance: Duration) -> Self {
        self.tolerance = tolerance;
        self
    }

    /// Reads headers with other names, for senders that use the same scheme with names of their own.
    #[must_use]
    pub fn headers(mut self, headers: HeaderNames) -> Self {
        self.headers = headers;
        self
    }

    /// Checks a request that arrived at `now`; `body` is the raw body, before any parsing.
    ///
    /// # Errors
    /// When the request is not signed by a key of ours, or not recent.
    pub fn verify(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        now: Timestamp,
    ) -> Result<VerifiedHeaders, VerifyError> {
        let signed = Signed::read(headers, &self.headers)?;
        self.check_age(signed.sent_at, now)?;
        self.check_signature(&signed, body)
    }

    /// Checks a request however old it is. Use it for recorded requests, never for live ones: anybody who has seen a live one
    /// could send it again.
    ///
    /// # Errors
    /// When the request is not signed by a key of ours. The timestamp is still covered by the
    /// signature and must still be well formed.
    pub fn verify_ignoring_timestamp(
        &self,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<VerifiedHeaders, VerifyError> {
        let signed = Signed::read(headers, &self.headers)?;
        self.check_signature(&signed, body)
    }

    /// How long a receiver must remember a request to recognize it when it is sent again: twice the tolerance, because a
    /// timestamp is accepted for that long.
    #[must_use]
    pub fn replay_window(&self) -> Duration {
        self.tolerance.saturating_mul(2)
    }

    fn check_age(&self, sent_at: Timestamp, now: Timestamp) -> Result<(), VerifyError> {
        if now.since(sent_at) > self.tolerance {
            return Err(VerifyError::TooOld);
        }
        if sent_at.since(now) > self.tolerance {
            return Err(VerifyError::TooNew);
        }
        Ok(())
    }

    /// The id is judged last: only for a signed one is it worth saying what is wrong with it.
    fn check_signature(
        &self,
        signed: &Signed<'_>,
        body: &[u8],
    ) -> Result<VerifiedHeaders, VerifyError> {
        let parts = signed_parts(signed.id, signed.timestamp, body);
        if !self.keys.iter().any(|key| signed.is_signed_by(key, &parts)) {
            return Err(VerifyError::NoMatch);
        }
        match std::str::from_utf8(signed.id) {
            Ok(id) if is_valid_id(signed.id) => Ok(VerifiedHeaders {
                id: id.to_owned(),
                timestamp: signed.sent_at,
            }),
            _ => Err(VerifyError::InvalidId),
        }
    }
}

/// The three headers, well formed and not yet believed.
struct Signed<'a> {
    id: &'a [u8],
    timestamp: &'a [u8],
    sent_at: Timestamp,
    signatures: &'a [u8],
}

impl<'a> Signed<'a> {
    fn read(headers: &'a HeaderMap, names: &HeaderNames) -> Result<Self, VerifyError> {
        let id = only(headers, &names.id)?;
        let timestamp = only(headers, &names.timestamp)?;
        let signatures = only(headers, &names.signature)?;
        if id.len() > MAX_ID_LEN {
            return Err(VerifyError::InvalidId);
        }
        if signatures.len() > MAX_SIGNATURE_HEADER || entries(signatures).count() > MAX_SIGNATURES {
            return Err(VerifyError::TooManySignatures);
        }
        Ok(Self {
            id,
            timestamp,
            sent_at: parse_seconds(timestamp).ok_or(VerifyError::InvalidTimestamp)?,
            signatures,
        })
    }

    /// Whether one of the signatures is by `key`; those of other schemes and versions are skipped.
    fn is_signed_by(&self, key: &VerifyingKey, parts: &[&[u8]]) -> bool {
        let entries = entries(self.signatures);
        match key.kind() {
            Kind::Hmac(key) => {
                let expected = key.sign(parts);
                entries
                    .filter_map(|entry| entry.strip_prefix(b"v1,"))
                    .filter_map(decode::<32>)
                    .any(|signature| tag_from(signature) == expected)
            }
            #[cfg(feature = "ed25519")]
            Kind::Ed25519(key) => entries
                .filter_map(|entry| entry.strip_prefix(b"v1a,"))
                .filter_map(decode::<64>)
                .any(|signature| key.verifies(parts, &signature)),
        }
    }
}

fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<&'a [u8], VerifyError> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().ok_or(VerifyError::MissingHeader)?;
    match values.next() {
        None => Ok(value.as_bytes()),
        Some(_) => Err(VerifyError::RepeatedHeader),
    }
}

/// The signatures in the header: separated by spaces, of which there may be too many.
fn entries(header: &[u8]) -> impl Iterator<Item = &[u8]> {
    header
        .split(|b| *b == b' ')
        .filter(|entry| !entry.is_empty())
}

/// Strict base64 of exactly `N` bytes.
fn decode<const N: usize>(base64: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; 96];
    let len = STANDARD.decode_slice(base64, &mut bytes).ok()?;
    bytes.get(..len)?.try_into().ok()
}

/// `0` or digits that do not start with `0`, at most 16 of them, up to the year 9999: libraries
/// disagree on everything else (signs, fractions, spaces), and two readings of one number are one too
/// many.
fn parse_seconds(text: &[u8]) -> Option<Timestamp> {
    if !(1..=16).contains(&text.len()) || (text[0] == b'0' && text.len() > 1) {
        return None;
    }
    let mut seconds: i64 = 0;
    for byte in text {
        seconds = seconds * 10 + i64::from(char::from(*byte).to_digit(10)?);
    }
    (seconds <= Timestamp::MAX.as_seconds()).then(|| Timestamp::from_seconds(seconds))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use rand::rngs::StdRng;
    use rand::{Rng as _, SeedableRng as _};

    use super::*;
    use crate::signing::{Secret, SignRequest, Signer as _, StandardWebhooks};

    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const NOW: Timestamp = Timestamp::from_seconds(1_614_265_330);

    fn secret() -> Secret {
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse().unwrap()
    }

    fn signed(id: &str, body: &[u8]) -> HeaderMap {
        let (secrets, mut headers) = ([secret()], HeaderMap::new());
        let request = SignRequest::new(id, NOW, body, &secrets);
        StandardWebhooks::new()
            .sign(&request, &mut headers)
            .unwrap();
        headers
    }

    #[test]
    fn a_repeated_header_is_refused_whichever_value_is_right() {
        for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
            let mut headers = signed("msg_1", BODY);
            let value = headers[name].clone();
            headers.append(name, value);
            let verified = Verifier::new(secret()).verify(&headers, BODY, NOW);
            assert_eq!(verified, Err(VerifyError::RepeatedHeader), "{name}");
        }
    }

    #[test]
    fn a_signature_cannot_be_moved_to_an_id_with_a_dot() {
        // Signed: `msg.1614265330.1614265331.{}`, and now read as another id, time and body.
        let mut headers = signed("msg", b"1614265331.{}");
        headers.insert("webhook-id", HeaderValue::from_static("msg.1614265330"));
        headers.insert("webhook-timestamp", HeaderValue::from_static("1614265331"));
        let verified = Verifier::new(secret()).verify(&headers, b"{}", NOW);
        assert_eq!(verified, Err(VerifyError::InvalidId));
    }

    #[test]
    fn the_tolerance_counts_fractions_of_the_receivers_second() {
        let verifier = Verifier::new(secret());
        let headers = signed("msg_1", BODY);
        let at = |micros| NOW + Duration::from_secs(300) + Duration::from_micros(micros);
        assert!(verifier.verify(&headers, BODY, at(0)).is_ok());
        let late = verifier.verify(&headers, BODY, at(1));
        assert_eq!(late, Err(VerifyError::TooOld));
    }

    #[test]
    fn no_time_overflows() {
        for now in [Timestamp::EPOCH, NOW, Timestamp::MAX] {
            for tolerance in [Duration::ZERO, Duration::MAX] {
                let verifier = Verifier::new(secret()).tolerance(tolerance);
                let verified = verifier.verify(&signed("msg_1", BODY), BODY, now);
                assert_eq!(verified.is_ok(), tolerance > Duration::ZERO || now == NOW);
                assert!(verifier.replay_window() >= tolerance);
            }
        }
        assert!(parse_seconds(b"253402207200").is_some());
        assert!(parse_seconds(b"253402207201").is_none());
        assert!(parse_seconds(b"9999999999999999").is_none());
    }

    #[test]
    fn signatures_are_bounded_in_number_and_length() {
        let verifier = Verifier::new(secret());
        let good = signed("msg_1", BODY)["webhook-signature"].clone();
        let with = |value: String| {
            let mut headers = signed("msg_1", BODY);
            headers.insert("webhook-signature", value.parse().unwrap());
            verifier.verify(&headers, BODY, NOW)
        };
        let good = good.to_str().unwrap();
        assert!(with(format!("{}{good}", "v1,x ".repeat(15))).is_ok());
        for value in [
            format!("{}{good}", "v1,x ".repeat(16)),
            format!("{good} v1,{}", "A".repeat(4096)),
            format!("{good}{}", " ".repeat(4096)),
        ] {
            assert_eq!(with(value), Err(VerifyError::TooManySignatures));
        }
    }

    #[test]
    fn no_bytes_make_it_panic_or_pass() {
        let mut rng = StdRng::seed_from_u64(0x5eed);
        let verifier = Verifier::new(secret());
        let names = ["webhook-id", "webhook-timestamp", "webhook-signature"];
        for round in 0..20_000 {
            let mut headers = signed("msg_1", BODY);
            let name = names[round % names.len()];
            let mut bytes = headers[name].as_bytes().to_vec();
            mutate(&mut bytes, &mut rng);
            let Ok(value) = HeaderValue::from_bytes(&bytes) else {
                continue;
            };
            let changed = value != headers[name];
            headers.insert(name, value);
            let verified = verifier.verify_ignoring_timestamp(&headers, BODY);
            // A space more around the signature changes nothing.
            let spaced = name == "webhook-signature" && verified.is_ok() && bytes.contains(&b' ');
            assert!(!changed || spaced || verified.is_err(), "{headers:?}");
        }
    }

    /// Replaces, inserts or cuts at a random place, or replaces everything.
    fn mutate(bytes: &mut Vec<u8>, rng: &mut StdRng) {
        let mut random = [0; 40];
        rng.fill_bytes(&mut random);
        let at = usize::from(random[1]) % bytes.len();
        match random[0] % 4 {
            0 => bytes[at] = random[2],
            1 => bytes.insert(at, random[2]),
            2 => bytes.truncate(at),
            _ => *bytes = random[2..2 + usize::from(random[1] % 38)].to_vec(),
        }
    }
}

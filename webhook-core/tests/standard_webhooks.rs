//! Every vector in `data/standard-webhooks.json`, collected from the standard's reference libraries,
//! from Svix, and of our own. Each list's length is asserted, so that none is forgotten.
#![cfg(feature = "ed25519")]
#![allow(clippy::unwrap_used, reason = "all of this file is tests")]

use std::iter;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use sha2::Sha256;
use webhook_core::{
    Scheme, Secret, SignError, SignRequest, Signer as _, StandardWebhooks, Timestamp, Verifier,
    VerifyError, VerifyingKey,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cases {
    #[serde(rename = "about")]
    _about: IgnoredAny,
    #[serde(rename = "spec")]
    _spec: IgnoredAny,
    sign: Vec<SignCase>,
    rotation: Vec<RotationCase>,
    sign_negative: Vec<SignNegativeCase>,
    secrets: Vec<SecretCase>,
    verify: Vec<VerifyCase>,
}

#[derive(Deserialize)]
struct SignCase {
    name: String,
    scheme: String,
    secret: String,
    public_key: Option<String>,
    msg_id: String,
    timestamp: i64,
    #[serde(flatten)]
    payload: Payload,
    expected_signature: String,
}

#[derive(Deserialize)]
struct Payload {
    payload: Option<String>,
    payload_base64: Option<String>,
    payload_repeat: Option<Repeat>,
}

#[derive(Deserialize)]
struct Repeat {
    char: String,
    count: usize,
}

#[derive(Deserialize)]
struct RotationCase {
    name: String,
    keys: Vec<String>,
    msg_id: String,
    timestamp: i64,
    payload: String,
    expected_header: String,
}

#[derive(Deserialize)]
struct SignNegativeCase {
    name: String,
    expect: String,
    msg_id: Option<String>,
    timestamp: Option<String>,
}

#[derive(Deserialize)]
struct SecretCase {
    secret: String,
    valid: Value,
    kind: String,
    key_hex: Option<String>,
}

#[derive(Deserialize)]
struct VerifyCase {
    name: String,
    expect: String,
    error: Option<String>,
    secret: String,
    now: i64,
    tolerance_s: Option<u64>,
    headers: serde_json::Map<String, Value>,
    payload: String,
}

impl Payload {
    fn bytes(&self) -> Vec<u8> {
        match (&self.payload, &self.payload_base64, &self.payload_repeat) {
            (Some(text), None, None) => text.clone().into_bytes(),
            (None, Some(base64), None) => STANDARD.decode(base64).unwrap(),
            (None, None, Some(repeat)) => repeat.char.repeat(repeat.count).into_bytes(),
            _ => panic!("a case has exactly one payload"),
        }
    }
}

fn cases() -> Cases {
    serde_json::from_str(include_str!("data/standard-webhooks.json")).unwrap()
}

fn sign(id: &str, seconds: i64, body: &[u8], secrets: &[Secret]) -> Result<HeaderMap, SignError> {
    let mut headers = HeaderMap::new();
    let request = SignRequest::new(id, Timestamp::from_seconds(seconds), body, secrets);
    StandardWebhooks::new().sign(&request, &mut headers)?;
    Ok(headers)
}

#[test]
fn signatures_equal_the_reference_and_verify() {
    let cases = cases().sign;
    assert_eq!(cases.len(), 19);
    for case in cases {
        let (name, body) = (&case.name, case.payload.bytes());
        let secret = Secret::import(&case.secret).expect(name);
        assert_eq!(secret.scheme().as_str(), case.scheme, "{name}");

        let secrets = [secret];
        let headers = sign(&case.msg_id, case.timestamp, &body, &secrets).expect(name);
        assert_eq!(headers["webhook-id"], case.msg_id, "{name}");
        let timestamp = case.timestamp.to_string();
        assert_eq!(headers["webhook-timestamp"], timestamp, "{name}");
        let signature = &headers["webhook-signature"];
        assert_eq!(signature, &case.expected_signature, "{name}");

        assert_eq!(secrets[0].public_key(), case.public_key, "{name}");
        let key = case.public_key.as_ref().unwrap_or(&case.secret);
        let verifier = Verifier::new(key.parse::<VerifyingKey>().expect(name));
        let now = Timestamp::from_seconds(case.timestamp);
        let verified = verifier.verify(&headers, &body, now).expect(name);
        assert_eq!((verified.id, verified.timestamp), (case.msg_id, now));
    }
}

#[test]
fn rotation_signs_with_all_keys_the_current_one_first() {
    let cases = cases().rotation;
    assert_eq!(cases.len(), 2);
    for case in cases {
        let (name, body) = (&case.name, case.payload.as_bytes());
        let secrets: Vec<Secret> = case.keys.iter().map(|key| key.parse().unwrap()).collect();
        let headers = sign(&case.msg_id, case.timestamp, body, &secrets).expect(name);
        let signature = &headers["webhook-signature"];
        assert_eq!(signature, &case.expected_header, "{name}");
        for secret in &secrets {
            let now = Timestamp::from_seconds(case.timestamp);
            let verified = Verifier::new(secret).verify(&headers, body, now);
            assert!(verified.is_ok(), "{name}: a receiver with {secret:?} only");
        }
    }
}

#[test]
fn what_must_not_be_signed_is_refused_or_cannot_be_said() {
    let cases = cases().sign_negative;
    assert_eq!(cases.len(), 7);
    let secrets = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse().unwrap()];
    for case in cases {
        assert_eq!(case.expect, "error", "{}", case.name);
        match case.name.as_str() {
            // Ids are text, and the signer looks at what is in it.
            "msg-id-with-dot" | "msg-id-with-space-or-crlf" => {
                let signed = sign(case.msg_id.as_deref().unwrap(), 1, b"", &secrets);
                assert!(matches!(signed, Err(SignError::InvalidId)), "{}", case.name);
            }
            // A `Timestamp` is a number of microseconds from 1970 on: text is not one, ...
            "sign-float-timestamp" | "sign-string-timestamp" => {
                let parsed = case.timestamp.unwrap().parse::<Timestamp>();
                assert!(parsed.is_err(), "{}", case.name);
            }
            // ... and what is before 1970 becomes 1970, which no receiver takes for recent.
            "sign-negative-timestamp" => {
                assert!(
                    case.timestamp
                        .as_ref()
                        .unwrap()
                        .parse::<Timestamp>()
                        .is_err()
                );
                let seconds = case.timestamp.unwrap().parse().unwrap();
                let headers = sign("msg_1", seconds, b"", &secrets).unwrap();
                assert_eq!(headers["webhook-timestamp"], "0");
            }
            // Types rule all of these out but an empty secret, which does not parse, and no secret.
            // The sender's clock is the only one a signer could compare a timestamp to, and it is
            // where the timestamp comes from.
            name if name.starts_with("sign-non-string-id / ") => {
                assert!("".parse::<Secret>().is_err());
                assert!(matches!(sign("a", 1, b"", &[]), Err(SignError::NoSecret)));
            }
            // A `Duration` is neither negative nor NaN, and none of them can be made.
            "tolerance-negative-or-nan" => {
                assert!(Duration::try_from_secs_f64(-1.0).is_err());
                assert!(Duration::try_from_secs_f64(f64::NAN).is_err());
            }
            other => panic!("a case without a test: {other}"),
        }
    }
}

#[test]
fn secrets_are_read_strictly_to_sign_and_leniently_to_verify() {
    let cases = cases().secrets;
    assert_eq!(cases.len(), 22);
    for case in cases {
        let text = &case.secret;
        match (case.kind.as_str(), &case.valid) {
            ("hmac", Value::Bool(true)) => {
                assert_eq!(text.parse(), Secret::import(text));
                assert_is_hmac_secret(text, &case.key_hex.unwrap());
            }
            // This one has 64 bytes, the standard's maximum (its note says more than that), so that
            // it may be created as well. Longer ones: `created_secrets_have_24_to_64_bytes_...`.
            ("hmac", Value::String(valid)) if valid == "import-only" => {
                let key = case.key_hex.unwrap();
                assert_eq!(text.parse::<Secret>().is_ok(), key.len() / 2 <= 64);
                assert_is_hmac_secret(text, &key);
            }
            ("hmac", Value::String(valid)) if valid == "lenient-only" => {
                assert!(text.parse::<Secret>().is_err(), "{text:?}");
                assert!(Secret::import(text).is_err(), "{text:?}");
                assert_verifies_hmac_of(text, &case.key_hex.unwrap());
            }
            ("hmac", Value::Bool(false)) => {
                assert!(text.parse::<Secret>().is_err(), "{text:?}");
                assert!(Secret::import(text).is_err(), "{text:?}");
                assert!(text.parse::<VerifyingKey>().is_err(), "{text:?}");
            }
            ("ed25519-secret", Value::Bool(true)) => {
                let secret: Secret = text.parse().unwrap();
                assert_eq!(secret.scheme(), Scheme::Ed25519);
                assert_eq!(secret.expose(), text);
                assert_eq!(hex_of(text), case.key_hex.unwrap());
                assert!(text.parse::<VerifyingKey>().is_err(), "stays at the sender");
            }
            ("ed25519-secret", Value::Bool(false)) => {
                assert!(text.parse::<Secret>().is_err(), "{text:?}");
                assert!(Secret::import(text).is_err(), "{text:?}");
            }
            ("ed25519-public", Value::Bool(true)) => {
                let key: VerifyingKey = text.parse().unwrap();
                assert_eq!(key.scheme(), Scheme::Ed25519);
                assert_eq!(hex_of(text), case.key_hex.unwrap());
            }
            other => panic!("a case without a test: {other:?}"),
        }
    }
}

fn assert_is_hmac_secret(text: &str, key_hex: &str) {
    let secret = Secret::import(text).unwrap();
    assert_eq!(secret.scheme(), Scheme::HmacSha256);
    assert!(secret.expose().starts_with("whsec_"));
    assert_eq!(hex_of(secret.expose()), key_hex);
    assert_verifies_hmac_of(text, key_hex);
}

/// Signs with the bare key, by other means than ours, and verifies with the key's text.
fn assert_verifies_hmac_of(text: &str, key_hex: &str) {
    let key: Vec<u8> = (0..key_hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&key_hex[at..at + 2], 16).unwrap())
        .collect();
    let mac = Hmac::<Sha256>::new_from_slice(&key)
        .unwrap()
        .chain_update(b"msg_1.1614265330.{}")
        .finalize()
        .into_bytes();
    let signature = format!("v1,{}", STANDARD.encode(mac));

    let headers = HeaderMap::from_iter(
        [
            ("webhook-id", "msg_1"),
            ("webhook-timestamp", "1614265330"),
            ("webhook-signature", &signature),
        ]
        .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())),
    );
    let verifier = Verifier::new(text.parse::<VerifyingKey>().unwrap());
    let now = Timestamp::from_seconds(1_614_265_330);
    assert!(verifier.verify(&headers, b"{}", now).is_ok(), "{text}");
}

fn hex_of(text: &str) -> String {
    let base64 = text.split_once('_').unwrap().1;
    let key = STANDARD.decode(base64).unwrap();
    key.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn verification_decides_as_the_cases_say() {
    let cases = cases().verify;
    assert_eq!(cases.len(), 63);
    for case in cases {
        let (name, now) = (&case.name, Timestamp::from_seconds(case.now));
        let verifier = Verifier::new(case.secret.parse::<VerifyingKey>().expect(name));
        let (headers, body) = (headers_of(&case), case.payload.as_bytes());
        let verified = match case.tolerance_s {
            Some(seconds) => verifier
                .tolerance(Duration::from_secs(seconds))
                .verify(&headers, body, now),
            None => verifier.verify_ignoring_timestamp(&headers, body),
        };
        match (case.expect.as_str(), &case.error) {
            ("ok", None) => assert!(verified.is_ok(), "{name}: {verified:?}"),
            ("error", Some(error)) => {
                assert_eq!(verified, Err(expected_error(error)), "{name}");
            }
            other => panic!("{name}: {other:?}"),
        }
    }
}

fn expected_error(name: &str) -> VerifyError {
    match name {
        "missing_header" => VerifyError::MissingHeader,
        "invalid_timestamp" => VerifyError::InvalidTimestamp,
        // 19 digits are more than a timestamp may have.
        "too_new_or_invalid" => VerifyError::InvalidTimestamp,
        "too_old" => VerifyError::TooOld,
        "too_new" => VerifyError::TooNew,
        "no_match" => VerifyError::NoMatch,
        "no_match_or_too_many" => VerifyError::TooManySignatures,
        other => panic!("an unknown error: {other}"),
    }
}

fn headers_of(case: &VerifyCase) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in &case.headers {
        let value = value.as_str().unwrap();
        let value = match case.name.as_str() {
            // The file asks its driver for this one.
            "added-1000-signatures" if name == "webhook-signature" => {
                iter::repeat_n(value, 1000).collect::<Vec<_>>().join(" ")
            }
            _ => value.to_owned(),
        };
        headers.insert(
            name.parse::<HeaderName>().unwrap(),
            HeaderValue::from_str(&value).unwrap(),
        );
    }
    headers
}

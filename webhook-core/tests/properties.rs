//! What holds for any bytes: nothing that strangers send, tenants type or a database gives back makes us
//! panic, and what was accepted comes back as it was.

#![allow(clippy::unwrap_used, reason = "all of it is tests")]

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use serde_json::{Map, Value, json};
use webhook_core::backend::{Encryption, EndpointRow};
use webhook_core::testing::event_for;
use webhook_core::{
    CustomHeaders, EndpointUrl, EventPattern, EventType, HeaderLog, HeaderNames, Network, NewEvent,
    Next, Outcome, PayloadFilter, RetryPolicy, Secret, SignRequest, Signer, StandardWebhooks,
    Tenant, Timestamp, Verifier, VerifyingKey, decide,
};

/// The same cases in each run, and no files about those that failed.
fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(8259),
        ..ProptestConfig::with_cases(cases)
    }
}

fn bytes(most: usize) -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..most)
}

/// Text out of the parts that some parser knows, and others.
fn text_of(parts: &'static [&'static str]) -> impl Strategy<Value = String> {
    let part = prop_oneof![
        4 => prop::sample::select(parts).prop_map(str::to_owned),
        1 => any::<String>(),
        1 => any::<char>().prop_map(String::from),
    ];
    vec(part, 0..8).prop_map(|parts| parts.concat())
}

/// Headers of these names, any number of times each, with any values that HTTP can carry.
fn headers_of(
    names: &'static [&'static str],
    parts: &'static [&'static str],
) -> impl Strategy<Value = HeaderMap> {
    let value = prop_oneof![text_of(parts).prop_map(String::into_bytes), bytes(80)];
    vec((prop::sample::select(names), value), 0..8).prop_map(|all| {
        let mut headers = HeaderMap::new();
        for (name, value) in all {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                headers.append(name, value);
            }
        }
        headers
    })
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        prop::sample::select(FILTER_WORDS).prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        let key = prop_oneof![
            prop::sample::select(FILTER_WORDS).prop_map(str::to_owned),
            any::<String>()
        ];
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::from),
            vec((key, inner), 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

const FILTER_WORDS: &[&str] = &[
    "data",
    "type",
    "data.a",
    "data.0",
    "data.a.b",
    "a",
    "0",
    "-1",
    "eq",
    "ne",
    "gt",
    "gte",
    "lt",
    "lte",
    "in",
    "exists",
    ".",
    "..",
    "data.",
    "18446744073709551616",
];

const SIGNED: &[&str] = &["webhook-id", "webhook-timestamp", "webhook-signature"];
const SIGNED_PARTS: &[&str] = &[
    "msg_1",
    "1700000000",
    "-1",
    "1e9",
    "99999999999999999999",
    "v1,",
    "v1a,",
    "v2,",
    " ",
    ",",
    "=",
    "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    "AAAA",
];
const SECRET_PARTS: &[&str] = &[
    "whsec_",
    "whsk_",
    "whpk_",
    "C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
    "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "=",
    "==",
    "-",
    "_",
    " ",
    "\n",
];
const TIME_PARTS: &[&str] = &[
    "Fri, ",
    "31 Dec 9999 23:59:59 GMT",
    "Sun, 06 Nov 1994 08:49:37 GMT",
    "Sunday, 06-Nov-94 08:49:37 GMT",
    "1",
    "0",
    "-",
    "+",
    "1e300",
    "inf",
    "NaN",
    ".5",
    "99999999999999999999",
    " ",
    "2025-01-31T08:00:00",
    "Z",
    "+23:59",
    "-00:00",
    ".999999999",
    "0000",
    "9999-12-31",
    "T24:00:00",
    "[UTC]",
];
const TYPE_PARTS: &[&str] = &["order", ".", "*", "paid", "_", "-", "", " ", "A9"];

fn secret() -> impl Strategy<Value = Secret> {
    vec(any::<u8>(), 24..=64).prop_map(|key| Secret::from_bytes(&key).unwrap())
}

/// A signed message: its headers, and when it was sent.
fn signed(secret: &Secret, id: &str, seconds: i64, body: &[u8]) -> (HeaderMap, Timestamp) {
    let (mut headers, at) = (HeaderMap::new(), Timestamp::from_seconds(seconds));
    let secrets = std::slice::from_ref(secret);
    let request = SignRequest::new(id, at, body, secrets);
    StandardWebhooks::new()
        .sign(&request, &mut headers)
        .unwrap();
    (headers, at)
}

proptest! {
    #![proptest_config(config(1_024))]

    #[test]
    fn a_stranger_cannot_sign_nor_break_the_verifier(
        secret in secret(),
        headers in headers_of(SIGNED, SIGNED_PARTS),
        body in bytes(200),
        now: i64,
    ) {
        let verifier = Verifier::new(secret);
        prop_assert!(verifier.verify(&headers, &body, Timestamp::from_micros(now)).is_err());
        prop_assert!(verifier.verify_ignoring_timestamp(&headers, &body).is_err());
    }

    #[test]
    fn what_was_signed_verifies_and_with_one_bit_flipped_does_not(
        secret in secret(),
        id in "[!-\\-/-~]{1,256}",
        seconds in 0_i64..253_402_207_200,
        body in bytes(300),
        part in 0_usize..4,
        place: prop::sample::Index,
        bit in 0_u8..8,
    ) {
        let (mut headers, at) = signed(&secret, &id, seconds, &body);
        let verifier = Verifier::new(&secret);
        let verified = verifier.verify(&headers, &body, at).unwrap();
        prop_assert_eq!((verified.id, verified.timestamp), (id, at));

        let flip = |bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            let at = place.index(bytes.len());
            bytes[at] ^= 1 << bit;
            bytes
        };
        let mut tampered = body.clone();
        if let Some(name) = SIGNED.get(part) {
            // Some flips make what HTTP cannot carry.
            let Ok(value) = HeaderValue::from_bytes(&flip(headers[*name].as_bytes())) else {
                return Ok(());
            };
            headers.insert(*name, value);
        } else if body.is_empty() {
            tampered = vec![1 << bit];
        } else {
            tampered = flip(&body);
        }
        prop_assert!(verifier.verify(&headers, &tampered, at).is_err());
        prop_assert!(verifier.verify_ignoring_timestamp(&headers, &tampered).is_err());
    }

    #[test]
    fn a_message_verifies_with_the_key_that_signed_it_alone(
        [ours, other] in [secret(), secret()],
        seconds in 0_i64..253_402_207_200,
        body in bytes(100),
    ) {
        let (headers, at) = signed(&ours, "msg_1", seconds, &body);
        prop_assert!(Verifier::new(&other).also(&ours).verify(&headers, &body, at).is_ok());
        if ours != other {
            prop_assert!(Verifier::new(&other).verify(&headers, &body, at).is_err());
        }
    }

    #[test]
    fn a_secret_that_is_read_is_written_as_it_is_and_never_shown(text in text_of(SECRET_PARTS)) {
        let _ = text.parse::<VerifyingKey>();
        for read in [text.parse::<Secret>(), Secret::import(&text)].into_iter().flatten() {
            prop_assert_eq!(Secret::import(read.expose()), Ok(read.clone()));
            let key = read.expose().split_once('_').unwrap().1;
            let shown = format!("{:?}", read);
            prop_assert!(!shown.contains(key), "{}", shown);
        }
    }

    #[test]
    fn a_secret_of_any_bytes_survives_its_text(secret in secret()) {
        prop_assert_eq!(secret.expose().parse::<Secret>(), Ok(secret.clone()));
    }

    #[test]
    fn header_names_of_any_prefix_are_names_or_an_error(prefix: String) {
        let _ = HeaderNames::with_prefix(&prefix);
    }

    #[test]
    fn no_retry_after_delays_for_longer_than_a_day(
        headers in headers_of(&["retry-after"], TIME_PARTS),
        status in 100_u16..1_000,
        attempts: u32,
        excused: u32,
        now: i64,
        spread: f64,
    ) {
        let day = Duration::from_secs(86_400);
        let outcome = Outcome::Response {
            status,
            headers: HeaderLog::from(&headers),
            body: bytes::Bytes::new(),
            truncated: false,
        };
        let now = Timestamp::from_micros(now);
        let decision = decide(&outcome, attempts, excused, &RetryPolicy::default(), None, now, spread);
        if let Some(hold) = decision.hold_lane {
            prop_assert!((Duration::from_secs(1)..=day).contains(&hold), "{:?}", hold);
        }
        if let Next::RetryAfter(delay) = decision.next {
            prop_assert!(delay <= day, "{:?}", delay);
        }
    }

    #[test]
    fn a_filter_that_is_accepted_judges_any_body_and_comes_back(filter in any_json(), body in any_json(), raw in bytes(200)) {
        if let Ok(filter) = PayloadFilter::new(&filter) {
            prop_assert_eq!(PayloadFilter::new(&filter.to_json()), Ok(filter.clone()));
            let _ = filter.matches(body.to_string().as_bytes());
            let _ = filter.matches(&raw);
        }
    }

    #[test]
    fn a_value_equals_itself_and_is_there(value in any_json()) {
        let body = json!({ "data": { "a": value } });
        let is = |filter: Value| PayloadFilter::new(&filter).map(|it| it.matches(body.to_string().as_bytes()));
        prop_assert_eq!(is(json!({ "data.a": { "exists": true } })), Ok(true));
        prop_assert_eq!(is(json!({ "data.a": { "exists": false } })), Ok(false));
        if let Ok(equal) = is(json!({ "data.a": { "eq": value } })) {
            prop_assert!(equal);
            prop_assert_eq!(is(json!({ "data.a": { "ne": value } })), Ok(false));
        }
    }

    #[test]
    fn types_patterns_tenants_and_networks_come_back_as_they_are_shown(text in text_of(TYPE_PARTS)) {
        if let Ok(event_type) = text.parse::<EventType>() {
            prop_assert_eq!(event_type.to_string(), text.as_str());
            prop_assert!("*".parse::<EventPattern>().unwrap().matches(&event_type));
            prop_assert!(text.parse::<EventPattern>().unwrap().matches(&event_type));
        }
        if let Ok(pattern) = text.parse::<EventPattern>() {
            prop_assert_eq!(pattern.to_string().parse::<EventPattern>(), Ok(pattern.clone()));
        }
        if let Ok(tenant) = text.parse::<Tenant>() {
            prop_assert_eq!(tenant.to_string(), text.as_str());
        }
        if let Ok(network) = text.parse::<Network>() {
            prop_assert_eq!(network.to_string().parse::<Network>(), Ok(network));
        }
    }

    #[test]
    fn a_network_contains_the_address_it_was_made_of(ip: std::net::IpAddr, length in 0_u8..=128) {
        if let Ok(network) = format!("{ip}/{length}").parse::<Network>() {
            prop_assert!(network.contains(ip));
            prop_assert_eq!(network.to_string().parse::<Network>(), Ok(network));
        }
    }

    #[test]
    fn a_time_that_is_read_is_written_so_that_it_reads_the_same(text in text_of(TIME_PARTS), micros: i64) {
        if let Ok(at) = text.parse::<Timestamp>() {
            prop_assert_eq!(at.to_string().parse::<Timestamp>(), Ok(at));
        }
        let at = Timestamp::from_micros(micros);
        prop_assert_eq!(at.to_string().parse::<Timestamp>(), Ok(at));
    }

    #[test]
    fn an_idempotency_key_is_printable_and_not_too_long(
        key in prop_oneof![any::<String>(), "[ -~]{0,300}"],
        data in any_json(),
    ) {
        let event = NewEvent::json("order.paid", &data).unwrap();
        let fits = (1..=255).contains(&key.len()) && key.chars().all(|it| matches!(it, ' '..='~'));
        prop_assert_eq!(event.idempotency_key(&key).is_ok(), fits);
    }

    #[test]
    fn data_is_refused_or_sent_byte_for_byte(data in prop_oneof![bytes(100), any_json().prop_map(|it| it.to_string().into_bytes())]) {
        let is_json = serde_json::from_slice::<&serde_json::value::RawValue>(&data).is_ok();
        let event = NewEvent::data("order.paid", data.clone());
        prop_assert_eq!(event.is_ok(), is_json);
        if event.is_ok() {
            let text = std::str::from_utf8(&data).unwrap();
            let event = event_for("default", "order.paid", text, Timestamp::EPOCH);
            prop_assert_eq!(event.data().unwrap(), data);
            prop_assert!(serde_json::from_slice::<&serde_json::value::RawValue>(&event.body).is_ok());
        }
    }

    #[test]
    fn a_header_log_of_any_bytes_is_read_or_refused(raw in bytes(200), headers in headers_of(&["a", "x-b"], TIME_PARTS), most in 0_usize..300) {
        if let Ok(log) = HeaderLog::from_bytes(raw) {
            let _ = format!("{log:?} {:?}", log.get("a"));
        }
        let log = HeaderLog::from(&headers);
        prop_assert_eq!(HeaderLog::from_bytes(log.as_bytes()), Ok(log.clone()));
        let (capped, cut) = HeaderLog::capped(&headers, most);
        prop_assert!(capped.as_bytes().len() <= most);
        prop_assert_eq!(cut, capped != log);
    }

    #[test]
    fn a_stored_endpoint_of_any_bytes_is_read_or_refused(
        url in text_of(&["https://hooks.example.com", "/", "?", "#", "@", "\0"]),
        settings in prop_oneof![any::<String>(), any_json().prop_map(|it| it.to_string())],
        secrets in prop_oneof![bytes(200), any_json().prop_map(|it| it.to_string().into_bytes())],
        [tenant, state] in [any::<String>(), any::<String>()],
    ) {
        let row = EndpointRow {
            id: uuid::Uuid::nil(),
            tenant,
            url,
            settings,
            secrets,
            state,
            state_reason: None,
            version: 1,
            created_at: Timestamp::EPOCH,
            updated_at: Timestamp::EPOCH,
        };
        let _ = row.open(&Encryption::plaintext());
    }

    #[test]
    fn a_url_shows_its_query_to_nobody(path in "[a-z/]{0,20}", secret in "[a-zA-Z0-9]{12,40}") {
        let url: EndpointUrl = format!("https://hooks.example.com/{path}?key={secret}").parse().unwrap();
        let shown = format!("{url:?} {}", url.redacted());
        prop_assert!(!shown.contains(&secret), "{}", shown);
    }
}

proptest! {
    #![proptest_config(config(64))]

    #[test]
    fn custom_headers_are_few_short_harmless_and_ours_are_not_among_them(
        plain in vec((header_name(), any::<String>()), 0..40),
        secret in vec((header_name(), "[ -~]{0,400}"), 0..40),
    ) {
        let Ok(headers) = CustomHeaders::new(
            plain.iter().map(|(name, value)| (name.as_str(), value.as_str())),
            secret.iter().map(|(name, value)| (name.as_str(), value.as_str())),
        ) else {
            return Ok(());
        };
        let map = headers.as_map();
        let bytes: usize = map.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        prop_assert!(map.len() <= 32 && bytes <= 8 * 1024);
        for (name, value) in map {
            let (name, value_bytes) = (name.as_str(), value.as_bytes());
            prop_assert!(!value_bytes.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
            prop_assert!(!["content-", "proxy-", "webhook-"].iter().any(|ours| name.starts_with(ours)), "{}", name);
            prop_assert!(!FORBIDDEN.contains(&name), "{}", name);
            prop_assert!(name != "authorization" || value.is_sensitive());
        }
    }
}

/// What addresses, frames or signs a request, and what goes from hop to hop.
const FORBIDDEN: &[&str] = &[
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
    "user_agent",
    "set_cookie",
    "keep_alive",
    "transfer_encoding",
    "content_length",
    "content_type",
    "webhook_id",
    "webhook_timestamp",
    "webhook_signature",
    "proxy_connection",
];

fn header_name() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => "x-[a-z]{1,12}",
        1 => prop::sample::select(FORBIDDEN).prop_map(str::to_uppercase),
        1 => prop::sample::select(&["Content-Type", "WEBHOOK-ID", "proxy-x", "Authorization", ""][..]).prop_map(str::to_owned),
        1 => any::<String>(),
    ]
}

#[test]
fn every_forbidden_header_is_refused_in_any_case_plain_or_secret() {
    let more = [
        "content-type",
        "content-length",
        "content-encoding",
        "content-anything",
        "webhook-id",
        "webhook-timestamp",
        "webhook-signature",
        "webhook-anything",
        "proxy-authorization",
        "proxy-connection",
    ];
    for name in FORBIDDEN.iter().chain(&more) {
        for name in [(*name).to_owned(), name.to_uppercase()] {
            assert!(CustomHeaders::new([(&*name, "x")], []).is_err(), "{name}");
            assert!(CustomHeaders::new([], [(&*name, "x")]).is_err(), "{name}");
        }
        assert!(HeaderName::from_bytes(name.as_bytes()).is_ok());
    }
}

//! No `Retry-After` delays a delivery for longer than a day.
#![no_main]

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;
use webhook_core::{HeaderLog, Next, Outcome, RetryPolicy, Timestamp, decide};

fuzz_target!(|input: (&[u8], u16, u32, u32, i64, f64)| {
    let (value, status, attempts, excused, now, spread) = input;
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_bytes(value) {
        headers.insert("retry-after", value);
    }
    let outcome = Outcome::Response {
        status,
        headers: HeaderLog::from(&headers),
        body: Bytes::new(),
        truncated: false,
    };
    let (now, policy) = (Timestamp::from_micros(now), RetryPolicy::default());
    let decision = decide(&outcome, attempts, excused, &policy, None, now, spread);
    let day = Duration::from_secs(86_400);
    assert!(decision.hold_lane.is_none_or(|hold| hold <= day));
    assert!(!matches!(decision.next, Next::RetryAfter(delay) if delay > day));
});

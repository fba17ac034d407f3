//! A stranger cannot sign, nor break the verifier.
#![no_main]

use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;
use webhook_core::{Secret, Timestamp, Verifier};

fuzz_target!(|input: ([&[u8]; 3], &[u8], i64)| {
    let (values, body, now) = input;
    let mut headers = HeaderMap::new();
    let names = ["webhook-id", "webhook-timestamp", "webhook-signature"];
    for (name, value) in names.into_iter().zip(values) {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.append(name, value);
        }
    }
    let verifier = Verifier::new(Secret::from_bytes(&[7; 32]).expect("32 bytes are a key"));
    let now = Timestamp::from_micros(now);
    assert!(verifier.verify(&headers, body, now).is_err());
    assert!(verifier.verify_ignoring_timestamp(&headers, body).is_err());
});

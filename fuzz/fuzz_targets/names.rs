//! Types, patterns, tenants, networks, times and keys: refused, or shown as they read.
#![no_main]

use std::fmt::Display;
use std::str::FromStr;

use libfuzzer_sys::fuzz_target;
use webhook_core::{EventPattern, EventType, Network, NewEvent, Tenant, Timestamp};

fn comes_back<T: FromStr + Display + PartialEq>(text: &str) {
    if let Ok(read) = text.parse::<T>() {
        let again = read.to_string().parse::<T>();
        assert!(again.is_ok_and(|again| again == read));
    }
}

fuzz_target!(|text: &str| {
    comes_back::<EventType>(text);
    comes_back::<EventPattern>(text);
    comes_back::<Tenant>(text);
    comes_back::<Network>(text);
    comes_back::<Timestamp>(text);
    let event = NewEvent::data("order.paid", "1").expect("valid");
    let _ = event.idempotency_key(text);
});

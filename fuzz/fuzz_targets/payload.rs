//! Data is taken if it is JSON, and only then.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::value::RawValue;
use webhook_core::NewEvent;

fuzz_target!(|data: &[u8]| {
    let is_json = serde_json::from_slice::<&RawValue>(data).is_ok();
    assert_eq!(NewEvent::data("order.paid", data.to_vec()).is_ok(), is_json);
});

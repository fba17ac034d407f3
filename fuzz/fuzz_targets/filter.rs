//! A filter that is accepted judges any body, and comes back as it was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use webhook_core::PayloadFilter;

fuzz_target!(|input: (&str, &[u8])| {
    let (filter, body) = input;
    let Ok(json) = serde_json::from_str(filter) else {
        return;
    };
    if let Ok(filter) = PayloadFilter::new(&json) {
        assert_eq!(PayloadFilter::new(&filter.to_json()), Ok(filter.clone()));
        let _ = filter.matches(body);
    }
});

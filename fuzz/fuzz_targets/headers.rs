//! Custom headers that are accepted are few, short, and none of ours.
#![no_main]

use libfuzzer_sys::fuzz_target;
use webhook_core::{CustomHeaders, HeaderNames};

type Given<'a> = Vec<(&'a str, &'a str)>;

fuzz_target!(|input: (Given, Given, &str)| {
    let (plain, secret, prefix) = input;
    let _ = HeaderNames::with_prefix(prefix);
    let Ok(headers) = CustomHeaders::new(plain, secret) else {
        return;
    };
    let map = headers.as_map();
    assert!(map.len() <= 32 && !map.contains_key("host"));
    for (name, value) in map {
        let name = name.as_str().replace('_', "-");
        let ours = ["content-", "webhook-"];
        assert!(!ours.iter().any(|ours| name.starts_with(ours)));
        assert!(
            !value
                .as_bytes()
                .iter()
                .any(|byte| matches!(byte, b'\r' | b'\n' | 0))
        );
    }
});

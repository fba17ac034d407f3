//! A URL that is accepted is canonical, and no literal in it escapes the policy.
#![no_main]

use libfuzzer_sys::fuzz_target;
use webhook_core::{EndpointUrl, NetworkPolicy};

fuzz_target!(|text: &str| {
    let Ok(url) = text.parse::<EndpointUrl>() else {
        return;
    };
    assert_eq!(url.as_str().parse(), Ok(url.clone()));
    assert_eq!(EndpointUrl::try_from(url.uri()), Ok(url.clone()));
    let policy = NetworkPolicy::builder().allow_http(true).build();
    if policy.check_url(&url).is_ok() {
        assert!(url.ip().is_none_or(|ip| policy.check_address(ip).is_ok()));
    }
    let _ = format!("{url:?} {}", url.redacted());
});

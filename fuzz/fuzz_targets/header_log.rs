//! A header log of any bytes is read, or refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use webhook_core::HeaderLog;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(log) = HeaderLog::from_bytes(bytes) {
        assert_eq!(log.as_bytes(), bytes);
        let _ = (format!("{log:?}"), log.get("retry-after"));
    }
});

//! A text that is read as a cursor is the only one of its row.
#![no_main]

use libfuzzer_sys::fuzz_target;
use webhook_axum::cursor_again;

fuzz_target!(|text: &str| {
    if let Some(again) = cursor_again(text) {
        assert_eq!(again, text);
    }
});

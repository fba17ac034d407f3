//! A secret that is read is written as it was read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use webhook_core::{Secret, VerifyingKey};

fuzz_target!(|text: &str| {
    let _ = text.parse::<VerifyingKey>();
    for read in [text.parse::<Secret>(), Secret::import(text)]
        .into_iter()
        .flatten()
    {
        assert_eq!(Secret::import(read.expose()), Ok(read.clone()));
        let _ = (format!("{read:?}"), read.public_key());
    }
});

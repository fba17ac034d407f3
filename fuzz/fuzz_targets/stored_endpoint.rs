//! A stored endpoint of any bytes is read, or refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use uuid::Uuid;
use webhook_core::Timestamp;
use webhook_core::backend::{Encryption, EndpointRow};

fuzz_target!(|input: (&str, &str, &str, &[u8])| {
    let (tenant, url, settings, secrets) = input;
    let row = EndpointRow {
        id: Uuid::nil(),
        tenant: tenant.to_owned(),
        url: url.to_owned(),
        settings: settings.to_owned(),
        secrets: secrets.to_vec(),
        state: "enabled".to_owned(),
        state_reason: None,
        version: 1,
        created_at: Timestamp::EPOCH,
        updated_at: Timestamp::EPOCH,
    };
    let _ = row.open(&Encryption::plaintext());
});

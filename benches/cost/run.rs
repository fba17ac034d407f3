//! What the hot path costs, as ratios of counts: `cargo xtask cost` runs this under valgrind's callgrind, which counts
//! instructions, and fails if a ratio is above its limit.
//!
//! No time is measured, and both sides of a ratio are counted in the same run of the same build, so neither the machine
//! nor the toolchain matters much. Each line of the output is a comparison: what was done, what of it was counted, its
//! cost, the yardstick, the yardstick's cost, and the limit of their ratio, between tabs. A cost is a number, or
//! `64@3`: 64 times what callgrind has counted in its third dump.
//!
//! A limit is the most that was measured and a sixth or so, with `webhook-core` unoptimized and with `opt-level = 1`;
//! for single operations a quarter, as what their hash tables cost differs from run to run.

mod count;
mod scene;

use std::error::Error;

use count::{Counter, Row};
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::HeaderMap;
use scene::{BATCH, Engine, NOW, Scene};
use sha2::Sha256;
use webhook_delivery::{
    HeaderLog, Outcome, RetryPolicy, Secret, SignRequest, Signer, StandardWebhooks, decide,
};

type Result<T = ()> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const KIB: usize = 1_024;
/// What waits in another lane and is none of the others' business.
const PARKED: usize = 2_000;
const ID: &str = "018f0000-0000-7000-8000-000000000001";
const KEY: [u8; 32] = [7; 32];

fn main() -> Result {
    let counter = &mut Counter::default();
    signatures(counter)?;
    decisions(counter)?;
    stores(counter)?;
    fan_out(counter)?;
    deliveries(counter)
}

/// An HMAC with the key already worked in, of what a signature is of: the least that signing can cost.
fn hmac(body: &[u8]) -> Result<[u8; 32]> {
    let mac = Hmac::<Sha256>::new_from_slice(&KEY)?;
    hmac_with(&mac, body)
}

fn hmac_with(keyed: &Hmac<Sha256>, body: &[u8]) -> Result<[u8; 32]> {
    let mut mac = keyed.clone();
    for part in [ID.as_bytes(), b".", b"1700000000", b".", body] {
        mac.update(part);
    }
    Ok(mac.finalize().into_bytes().into())
}

fn signatures(counter: &mut Counter) -> Result {
    let secrets = [Secret::from_bytes(&KEY)?];
    let keyed = Hmac::<Sha256>::new_from_slice(&KEY)?;
    // Key and headers are a small part of a long body's signature: keying anew shows in the short one's.
    for (operation, size, limit) in [("sign 64 bytes", 64, 1.6), ("sign 1 KiB", KIB, 1.15)] {
        let body = vec![b'x'; size];
        let mut headers = HeaderMap::with_capacity(8);
        let request = SignRequest::new(ID, NOW, &body, &secrets);
        let signed = counter.warm(|| Ok(StandardWebhooks::new().sign(&request, &mut headers)?))?;
        let plain = counter.warm(|| hmac_with(&keyed, &body))?;
        Row::of(operation).instructions(signed, "a keyed HMAC of it", plain, 1, limit);
    }
    Ok(())
}

fn decisions(counter: &mut Counter) -> Result {
    let policy = RetryPolicy::default();
    let headers = HeaderLog::from(&HeaderMap::new());
    let outcome = Outcome::Response {
        status: 503,
        headers,
        body: bytes::Bytes::new(),
        truncated: false,
    };
    let decided = counter.warm(|| Ok(decide(&outcome, 3, 0, &policy, None, NOW, 0.5)))?;
    let plain = counter.warm(|| hmac(&[b'x'; KIB]))?;
    // It compares and adds some numbers.
    Row::of("decide").instructions(decided, "an HMAC of 1 KiB", plain, 1, 0.008);
    Ok(())
}

/// What a worker asks of the store: beside what is parked it costs what it costs alone, and together no more than one
/// by one. Of a single one, also a scan that is quick would be most of what it costs.
fn stores(counter: &mut Counter) -> Result {
    let (alone, beside) = (Scene::new(0)?, Scene::new(PARKED)?);
    let batch = BATCH as u32;

    let (one, many) = (alone.claim(counter, 1)?, alone.claim(counter, 128)?);
    Row::of("claim 128").instructions(many, "128 × claim one", one, 128, 1.05);
    let parked = beside.claim(counter, 128)?;
    Row::of("claim 128, 2k parked").instructions(parked, "beside none", many, 1, 1.15);
    let parked = beside.claim(counter, 1)?;
    Row::of("claim one, 2k parked").instructions(parked, "beside none", one, 1, 1.4);

    let (one, many) = (alone.load(counter, 1)?, alone.load(counter, BATCH)?);
    Row::of("load 64").instructions(many, "64 × load one", one, batch, 0.75);
    let parked = beside.load(counter, 1)?;
    Row::of("load one, 2k parked").instructions(parked, "beside none", one, 1, 1.4);

    let (one, many) = (alone.record(counter, 1)?, alone.record(counter, BATCH)?);
    Row::of("record 64").instructions(many, "64 × record one", one, batch, 1.1);
    let parked = beside.record(counter, 1)?;
    // Its trees are deeper.
    Row::of("record one, 2k parked").instructions(parked, "beside none", one, 1, 1.6);
    Ok(())
}

fn fan_out(counter: &mut Counter) -> Result {
    let one = Engine::new(1, 0)?.enqueue(counter)?;
    let many = Engine::new(BATCH, 0)?.enqueue(counter)?;
    // One event and one body, however many get it.
    Row::of("enqueue to 64").instructions(many, "64 × enqueue to one", one, BATCH as u32, 0.65);
    Ok(())
}

/// From `enqueue` to the record, in memory, with a transport that only answers.
fn deliveries(counter: &mut Counter) -> Result {
    let alone = Engine::new(1, 0)?.start();
    let beside = Engine::new(1, PARKED)?.start();
    let many = alone.deliver(counter, BATCH, KIB)?;
    let plain = counter.warm(|| hmac(&[b'x'; KIB]))?;
    // One of them is its signature.
    Row::of("deliver 64").instructions(many, "64 HMACs of 1 KiB", plain, 64, 2.4);
    let one = alone.deliver(counter, 1, KIB)?;
    let parked = beside.deliver(counter, 1, KIB)?;
    Row::of("deliver one, 2k parked").instructions(parked, "beside none", one, 1, 1.1);
    Row::of("deliver 64").allocations(many.allocations, "64", BATCH, 25.0);
    // The event's body is made once, and all that follows holds the same bytes.
    let long = alone.deliver(counter, BATCH, 16 * KIB)?;
    let more = long.bytes.saturating_sub(many.bytes);
    Row::of("deliver 64").bytes(more, "a copy of the data", 15 * KIB * BATCH, 1.25);
    Ok(())
}

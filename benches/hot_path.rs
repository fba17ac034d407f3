//! What every delivery passes through: signing, and the claim path of the memory backend.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use http::HeaderMap;
use webhook_delivery::testing::{endpoint_for, event_for, run};
use webhook_delivery::{
    ClaimOptions, EndpointSettings, Hold, InsertOptions, MemoryStore, OnConflict, Queue, Secret,
    Settle, SignRequest, Signer, StandardWebhooks, Store, Timestamp,
};

const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);
const LEASE: Duration = Duration::from_secs(30);

fn sign(criterion: &mut Criterion) {
    let Ok(secret) = Secret::from_bytes(&[7; 32]) else {
        return;
    };
    let secrets = [secret];
    let mut group = criterion.benchmark_group("sign");
    for size in [256, 1_024, 16_384] {
        let body = vec![b'x'; size];
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(format!("{size} bytes"), |bencher| {
            bencher.iter(|| {
                let mut headers = HeaderMap::with_capacity(8);
                let request =
                    SignRequest::new("018f0000-0000-7000-8000-000000000001", NOW, &body, &secrets);
                StandardWebhooks::new()
                    .sign(black_box(&request), &mut headers)
                    .map(|()| headers)
            });
        });
    }
    group.finish();
}

/// Claims 128 jobs over 64 lanes, beside `parked` jobs of a held lane, and gives them back.
fn claim(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("claim 128 of 64 lanes");
    group.throughput(Throughput::Elements(128));
    for parked in [0, 100_000] {
        let store = store_with(64, 10, parked);
        let Some(queue) = store.queue() else { return };
        group.bench_function(format!("beside {parked} parked"), |bencher| {
            bencher.iter_batched(
                || (),
                |()| claim_and_give_back(&*queue),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

fn claim_and_give_back(queue: &dyn Queue) {
    let given_back = run(async {
        let claimed = queue
            .claim(ClaimOptions::new(128, LEASE), Some(NOW))
            .await?;
        let unused = Settle::Unused(Duration::ZERO);
        let unused: Vec<_> = claimed
            .leases
            .into_iter()
            .map(|lease| (lease, unused))
            .collect();
        queue.settle(&unused, Some(NOW)).await
    });
    black_box(given_back).ok();
}

/// A store with some lanes of some jobs each, and one held lane.
fn store_with(lanes: usize, jobs: usize, parked: usize) -> MemoryStore {
    let store = MemoryStore::new();
    let filled = run(async {
        for tenant in 0..lanes {
            store
                .insert_endpoint(
                    &endpoint_for(&format!("t{tenant}"), EndpointSettings::default()),
                    usize::MAX,
                )
                .await?;
            insert(&store, &format!("t{tenant}"), jobs).await?;
        }
        let held = endpoint_for("held", EndpointSettings::default());
        store.insert_endpoint(&held, usize::MAX).await?;
        insert(&store, "held", parked).await?;
        match store.queue() {
            Some(queue) => {
                queue
                    .hold(held.id, Hold::new(Duration::from_secs(3_600)), Some(NOW))
                    .await
            }
            None => Ok(()),
        }
    });
    black_box(filled).ok();
    store
}

async fn insert(store: &MemoryStore, tenant: &str, count: usize) -> webhook_delivery::Result<()> {
    let events: Vec<_> = (0..count)
        .map(|_| event_for(tenant, "load.test", "1", NOW))
        .collect();
    store
        .insert_events(&events, &InsertOptions::new(OnConflict::Skip), Some(NOW))
        .await
        .map(drop)
}

criterion_group!(benches, sign, claim);
criterion_main!(benches);

//! The checks of erasing a tenant, of processes that are alive, and of what waits for an endpoint, which are in a store's
//! list.

use std::time::Duration;

use uuid::Uuid;

use super::checks::{ALL, LEASE, PAGE, Scene, T0, at, record, seconds};
use super::health::BEGINS;
use super::replays::{dead_letters, start};
use super::stats::{append, everything, row};
use super::{Harness, event_for, new_id};
use crate::delivery::EndReason;
use crate::endpoint::EndpointSettings;
use crate::erasure::ErasureStep;
use crate::event::{Event, NewEvent};
use crate::process::Process;
use crate::queue::Depth;
use crate::retry::Next;
use crate::stats::Rollup;
use crate::store::{
    Backlog, DeliveryFilter, EndpointFilter, EventFilter, InsertOptions, Inserted, OnConflict,
    Recorded, Store,
};
use crate::tenant::{Scope, Tenant};
use crate::time::Timestamp;

const GIVEN_UP: Next = Next::Failed(EndReason::Exhausted);
/// When a tenant is erased, and when that is looked at once more.
const ERASED: u64 = 100;

fn tenant(name: &str) -> Tenant {
    Tenant::new(name).expect("valid")
}

fn keyed(name: &str, created_at: Timestamp) -> Event {
    keyed_with(name, "1", created_at)
}

fn keyed_with(name: &str, data: &'static str, created_at: Timestamp) -> Event {
    let event = NewEvent::data("a", data)
        .expect("valid")
        .tenant(tenant(name));
    let event = event.idempotency_key("key").expect("valid");
    event.stamp(new_id(created_at), created_at)
}

/// Of everything something: deliveries that ended well and badly, one with a failed attempt, and one that is to be tried again.
async fn fill<H: Harness>(scene: &Scene<H>, name: &str) {
    let endpoint = scene.endpoint(name, EndpointSettings::default()).await;
    let mut events = vec![keyed(name, T0)];
    events.extend((1..4).map(|n| event_for(name, "a", &n.to_string(), T0)));
    scene.insert(&events, at(0)).await;
    scene.attempt(200, Next::Succeeded, at(0)).await;
    scene.attempt(500, GIVEN_UP, at(0)).await;
    let later = Next::RetryAfter(seconds(10_000));
    scene.attempt(503, later, at(0)).await;
    let untried = scene.take(at(0)).await;
    scene.change(untried, BEGINS, at(0)).await;
    append(
        scene.store(),
        &[row(T0, name, Some(endpoint.id.as_u128()), 1)],
    )
    .await;
    start(scene, &Scope::Tenant(tenant(name)), &dead_letters(), 1).await;
}

/// How much there is of a tenant: endpoints, health, events, deliveries, attempts, replays, and whether statistics.
async fn census<H: Harness>(scene: &Scene<H>, name: &str) -> ([usize; 6], bool) {
    let (store, scope) = (scene.store(), &Scope::Tenant(tenant(name)));
    let endpoints = store
        .endpoints(scope, &EndpointFilter::default(), PAGE)
        .await
        .expect("reads")
        .items;
    let ids: Vec<_> = endpoints.iter().map(|endpoint| endpoint.id).collect();
    let health = store.health(scope, &ids, at(ERASED)).await.expect("reads");
    let events = store.events(scope, &EventFilter::default(), PAGE).await;
    let filter = DeliveryFilter::default();
    let deliveries = store.deliveries(scope, &filter, PAGE).await;
    let deliveries = deliveries.expect("reads").items;
    let mut attempts = 0;
    for delivery in &deliveries {
        attempts += scene.attempts(delivery.id).await.len();
    }
    let replays = store.replays(scope, PAGE).await.expect("reads").items;
    let stats = store.stats(scope, &everything()).await.expect("reads");
    let counts = [
        endpoints.len(),
        health.len(),
        events.expect("reads").items.len(),
        deliveries.len(),
        attempts,
        replays.len(),
    ];
    (counts, stats != Rollup::default())
}

const NOTHING: ([usize; 6], bool) = ([0; 6], false);

async fn erase<H: Harness>(scene: &Scene<H>, name: &str, second: u64) {
    let erased = scene.store().erase_tenant(&tenant(name), at(second)).await;
    erased.expect("an erasure is stored");
}

async fn step<H: Harness>(scene: &Scene<H>, limit: usize, now: Timestamp) -> ErasureStep {
    let step = scene.store().step_erasure(limit, Some(now)).await;
    step.expect("a step is taken")
}

/// Takes all steps as they fall due. Answers when the last was.
async fn run_through<H: Harness>(scene: &Scene<H>, limit: usize, mut now: Timestamp) -> Timestamp {
    for _ in 0..1_000 {
        let taken = step(scene, limit, now).await;
        match taken.next_in {
            Some(by) => now = now + by,
            None => return now,
        }
    }
    panic!("it never ends");
}

pub(super) async fn erased_tenant_leaves_nothing_and_the_others_everything<H: Harness>(harness: H) {
    let scene = Scene::new(harness);
    fill(&scene, "kept").await;
    fill(&scene, "gone").await;
    let kept = census(&scene, "kept").await;
    assert_eq!(kept, ([1, 1, 4, 4, 4, 1], true));
    assert_eq!(census(&scene, "gone").await, kept);

    erase(&scene, "gone", ERASED).await;
    let end = run_through(&scene, 2, T0 + seconds(ERASED)).await;
    assert_eq!(end, T0 + seconds(ERASED) + ErasureStep::LINGER);
    assert_eq!(census(&scene, "gone").await, NOTHING);
    assert_eq!(census(&scene, "kept").await, kept);

    let options = InsertOptions::new(OnConflict::Skip);
    let now = end + seconds(1);
    let events = [keyed("gone", now), keyed("kept", now)];
    let inserted = scene.store().insert_events(&events, &options, Some(now));
    let inserted = inserted.await.expect("events are stored").events;
    assert_eq!(inserted[0], Inserted::New, "its key is free");
    assert!(matches!(inserted[1], Inserted::Existing(_)));
}

pub(super) async fn erased_tenant_gets_nothing_from_then_on<H: Harness>(harness: H) {
    let scene = Scene::new(harness);
    fill(&scene, "gone").await;
    let more = [event_for("gone", "a", "9", T0)];
    scene.insert(&more, at(0)).await;
    erase(&scene, "gone", ERASED).await;
    for second in [ERASED, ERASED + LEASE.as_secs() + 1, 20_000] {
        assert!(scene.runnable(at(second)).await.is_empty(), "{second} s");
    }
    run_through(&scene, 100, T0 + seconds(20_000)).await;
    assert!(scene.runnable(at(30_000)).await.is_empty());
}

pub(super) async fn attempt_that_outlives_its_tenant_leaves_nothing<H: Harness>(harness: H) {
    let scene = Scene::new(harness);
    scene.endpoint("gone", EndpointSettings::default()).await;
    let events: Vec<_> = (0..2).map(|_| event_for("gone", "a", "1", T0)).collect();
    scene.insert(&events, at(0)).await;
    let (soon, late) = (scene.take(at(0)).await, scene.take(at(0)).await);
    erase(&scene, "gone", ERASED).await;
    scene.record(soon, 200, Next::Succeeded, at(ERASED)).await;
    while step(&scene, 100, T0 + seconds(ERASED)).await.erased > 0 {}
    let record = [record(late, 200, Next::Succeeded)];
    let recorded = scene.store().record(&record, at(ERASED)).await;
    assert_eq!(recorded.expect("answers"), [Recorded::Fenced]);
    run_through(&scene, 100, T0 + seconds(ERASED)).await;
    assert_eq!(census(&scene, "gone").await, NOTHING);
    for delivery in [soon.delivery, late.delivery] {
        let found = scene.store().delivery(&ALL, delivery).await;
        assert_eq!(found.expect("reads"), None);
    }
}

pub(super) async fn what_comes_after_an_erasure_is_a_new_tenants<H: Harness>(harness: H) {
    let scene = Scene::new(harness);
    fill(&scene, "gone").await;
    erase(&scene, "gone", ERASED).await;
    let now = T0 + seconds(ERASED + 1);
    let endpoint = scene.endpoint("gone", EndpointSettings::default()).await;
    let events: Vec<_> = (0..3).map(|_| event_for("gone", "a", "1", now)).collect();
    let jobs = scene.insert(&events, Some(now)).await;
    assert_eq!(jobs.len(), 3);
    append(scene.store(), &[row(now + seconds(60), "gone", None, 1)]).await;
    let end = run_through(&scene, 2, now).await;
    assert_eq!(census(&scene, "gone").await, ([1, 0, 3, 3, 0, 0], true));
    let expected: Vec<_> = jobs.iter().map(|job| job.delivery).collect();
    let mut runnable = scene.runnable(Some(end)).await;
    runnable.sort_unstable();
    let mut expected = expected;
    expected.sort_unstable();
    assert_eq!(runnable, expected);
    assert!(jobs.iter().all(|job| job.lane == endpoint.id));
}

pub(super) async fn erasure_goes_in_bounded_steps_and_looks_once_more<H: Harness>(harness: H) {
    let scene = Scene::new(harness);
    let events: Vec<_> = (0..10).map(|_| event_for("gone", "a", "1", T0)).collect();
    scene.insert(&events, at(0)).await;
    let now = T0 + seconds(ERASED);
    assert_eq!(step(&scene, 4, now).await, ErasureStep::default());

    erase(&scene, "gone", ERASED).await;
    for erased in [4, 4, 2] {
        let taken = step(&scene, 4, now).await;
        let (ended, next_in) = (None, Some(seconds(0)));
        assert_eq!(
            taken,
            ErasureStep {
                erased,
                ended,
                next_in
            }
        );
    }
    let idle = ErasureStep {
        next_in: Some(ErasureStep::LINGER),
        ..ErasureStep::default()
    };
    assert_eq!(step(&scene, 4, now).await, idle);
    assert_eq!(step(&scene, 4, now).await, idle);

    append(scene.store(), &[row(T0, "gone", None, 1)]).await;
    let end = now + ErasureStep::LINGER;
    assert_eq!(step(&scene, 4, end).await.erased, 1);
    let ended = ErasureStep {
        ended: Some(tenant("gone")),
        ..ErasureStep::default()
    };
    assert_eq!(step(&scene, 4, end).await, ended);
    assert_eq!(step(&scene, 4, end).await, ErasureStep::default());
}

/// What the keys of erased events stood for says nothing to the tenant that comes after.
pub(super) async fn key_of_what_is_erased_is_free_at_once<H: Harness>(harness: H) {
    let scene = Scene::new(harness);
    for name in ["same", "other"] {
        fill(&scene, name).await;
        erase(&scene, name, ERASED).await;
    }
    fill(&scene, "kept").await;
    let now = T0 + seconds(ERASED + 1);
    let insert = async |name, data| {
        let event = [keyed_with(name, data, now)];
        let options = InsertOptions::new(OnConflict::Skip);
        let inserted = scene.store().insert_events(&event, &options, Some(now));
        (event[0].id, inserted.await.expect("stored").events[0])
    };
    assert!(matches!(insert("kept", "1").await.1, Inserted::Existing(_)));
    let mut accepted = Vec::new();
    for (name, data) in [("same", "1"), ("other", "2")] {
        let (id, inserted) = insert(name, data).await;
        assert_eq!(inserted, Inserted::New, "{name}");
        assert_eq!(insert(name, data).await.1, Inserted::Existing(id));
        assert_eq!(insert(name, "3").await.1, Inserted::Conflict(id));
        accepted.push((name, data, id));
    }
    run_through(&scene, 2, now).await;
    for (name, data, id) in accepted {
        assert_eq!(census(&scene, name).await.0, [0, 0, 1, 0, 0, 0], "{name}");
        assert_eq!(insert(name, data).await.1, Inserted::Existing(id));
    }
}

/// Ids are of the clocks of those who enqueue, which are not the store's.
pub(super) async fn what_comes_after_an_erasure_stays_by_whatever_clock<H: Harness>(harness: H) {
    let scene = Scene::new(harness);
    scene.endpoint("gone", EndpointSettings::default()).await;
    // One process is ahead by five seconds.
    let ahead = T0 + seconds(ERASED + 5);
    let old: Vec<_> = (0..8).map(|_| event_for("gone", "a", "1", ahead)).collect();
    scene.insert(&old, at(ERASED)).await;
    for _ in &old {
        scene.attempt(200, Next::Succeeded, at(ERASED)).await;
    }
    erase(&scene, "gone", ERASED).await;

    scene.endpoint("gone", EndpointSettings::default()).await;
    let clocks = [seconds(5), seconds(4), seconds(0), Duration::from_millis(1)];
    let created = clocks.map(|behind| ahead - behind);
    let mut new: Vec<_> = created
        .iter()
        .map(|at| event_for("gone", "a", "1", *at))
        .collect();
    new.push(keyed("gone", T0 + seconds(ERASED - 1)));
    let jobs = scene.insert(&new, at(ERASED)).await;
    assert_eq!(jobs.len(), 5);
    for _ in 0..3 {
        scene.attempt(200, Next::Succeeded, at(ERASED)).await;
    }
    let end = run_through(&scene, 2, T0 + seconds(ERASED)).await;
    assert_eq!(census(&scene, "gone").await.0, [1, 0, 5, 5, 3, 0]);
    assert_eq!(scene.runnable(Some(end)).await.len(), 2);
    let again = [keyed("gone", ahead)];
    let options = InsertOptions::new(OnConflict::Skip);
    let inserted = scene.store().insert_events(&again, &options, Some(end));
    let inserted = inserted.await.expect("answers").events;
    assert_eq!(inserted, [Inserted::Existing(new[4].id)]);
}

pub(super) async fn second_erasure_takes_what_the_first_has_spared<H: Harness>(harness: H) {
    let scene = Scene::new(harness);
    fill(&scene, "gone").await;
    erase(&scene, "gone", ERASED).await;
    fill(&scene, "gone").await;
    assert_ne!(census(&scene, "gone").await, NOTHING);
    erase(&scene, "gone", ERASED).await;
    run_through(&scene, 2, T0 + seconds(ERASED)).await;
    assert_eq!(census(&scene, "gone").await, NOTHING);
    assert!(scene.runnable(at(20_000)).await.is_empty());
}

fn process(id: u128) -> Process {
    Process {
        id: Uuid::from_u128(id),
        role: "worker ä".to_owned(),
        version: "1.2.3".to_owned(),
        started_at: T0,
        seen_at: T0,
        in_flight: 3,
        slots: 256,
    }
}

async fn alive<H: Harness>(harness: &H, second: u64) -> Vec<Process> {
    let alive = harness.store().processes(at(second)).await;
    alive.expect("processes are read")
}

pub(super) async fn process_is_alive_while_it_says_so<H: Harness>(harness: H) {
    let store = harness.store();
    for id in [1, 2] {
        store
            .put_process(&process(id), at(5))
            .await
            .expect("stored");
    }
    let seen = |id, second| Process {
        seen_at: T0 + seconds(second),
        ..process(id)
    };
    assert_eq!(alive(&harness, 5).await, [seen(2, 5), seen(1, 5)]);

    let busier = Process {
        in_flight: 200,
        ..process(1)
    };
    store.put_process(&busier, at(60)).await.expect("stored");
    let gone = 5 + Process::ALIVE.as_secs();
    assert_eq!(alive(&harness, gone - 1).await.len(), 2);
    let busier = Process {
        seen_at: T0 + seconds(60),
        ..busier
    };
    let left = vec![busier];
    assert_eq!(alive(&harness, gone).await, left);

    let maintained = store.maintain(seconds(86_400), at(gone)).await;
    maintained.expect("housekeeping is done");
    assert_eq!(alive(&harness, 6).await, left, "the other is forgotten");
    store
        .remove_process(Uuid::from_u128(1))
        .await
        .expect("removed");
    store
        .remove_process(Uuid::from_u128(1))
        .await
        .expect("none is there");
    assert!(alive(&harness, gone).await.is_empty());
}

pub(super) async fn backlog_is_what_waits_for_one_endpoint<H: Harness>(harness: H) {
    let scene = Scene::new(harness);
    let of = async |scope: &Scope, id, second| {
        let backlog = scene.store().backlog(scope, id, at(second)).await;
        backlog.expect("reads")
    };
    let own = Scope::Tenant(tenant("own"));
    let id = scene.endpoint("own", EndpointSettings::default()).await.id;
    let idle = scene.endpoint("own", EndpointSettings::default()).await;
    let deleted = scene.store().delete_endpoint(&ALL, idle.id, at(0)).await;
    assert!(deleted.expect("deletes"));
    assert_eq!(of(&own, idle.id, 0).await, None);
    assert_eq!(of(&own, id, 0).await, Some(Backlog::default()));

    let events: Vec<_> = (0..4).map(|_| event_for("own", "a", "1", T0)).collect();
    scene.insert(&events, at(0)).await;
    scene.endpoint("other", EndpointSettings::default()).await;
    scene
        .insert(&[event_for("other", "a", "1", T0)], at(0))
        .await;
    let waiting = |due, parked, oldest| {
        Some(Backlog {
            due,
            parked,
            oldest_due: Some(T0 + seconds(oldest)),
        })
    };
    assert_eq!(of(&own, id, 1).await, waiting(4, 0, 0));
    assert_eq!(of(&Scope::Tenant(tenant("other")), id, 1).await, None);

    let mut retried = 0;
    let mut leases = scene.claim(5, at(1)).await;
    while let Some(lease) = leases.pop() {
        if leases.is_empty() {
            leases = scene.claim(5, at(1)).await;
        }
        let loaded = scene.load(lease, at(1)).await;
        loaded.expect("the claim is current");
        if lease.lane == id && retried < 2 {
            retried += 1;
            let later = Next::RetryAfter(seconds(60));
            scene.record(lease, 503, later, at(1)).await;
        }
    }
    assert_eq!(of(&ALL, id, 1).await, waiting(0, 2, 61));
    assert_eq!(of(&ALL, id, 61).await.map(|it| it.parked), Some(0));
}

pub(super) async fn backlog_is_counted_so_far_and_no_further<H: Harness>(harness: H) {
    let scene = Scene::new(harness);
    let id = scene.lane(EndpointSettings::default()).await;
    for _ in 0..11 {
        scene.enqueue("default", 1_000).await;
    }
    let backlog = scene.store().backlog(&ALL, id, at(0)).await;
    let backlog = backlog.expect("reads").expect("is there");
    assert_eq!((backlog.due, backlog.parked), (Depth::MOST, 0));
    assert_eq!(backlog.oldest_due, Some(T0));
}

//! What a claimer has room for: checks of the queue's claims, and of those that come with an insert.

use uuid::Uuid;

use super::Harness;
use super::checks::*;
use crate::delivery::DeliveryStatus;
use crate::endpoint::{Endpoint, EndpointSettings, EndpointState, RateLimit};
use crate::event::NewEvent;
use crate::queue::{ClaimOptions, Lease};
use crate::retry::Next;
use crate::store::{ClaimNew, InsertOptions, Insertion, OnConflict, Recorded, Store, Verdict};
use crate::testing::event_for;
use crate::time::Now;

async fn claim<H: Harness>(
    scene: &Scene<H>,
    limit: usize,
    room: u32,
    rooms: &[(Uuid, u32)],
) -> Vec<Uuid> {
    let options = ClaimOptions::new(limit, LEASE).rooms(room, rooms.to_vec());
    let claimed = scene.queue.claim(options, at(0)).await.expect("claims");
    claimed.leases.iter().map(|lease| lease.lane).collect()
}

fn count(lanes: &[Uuid], lane: Uuid) -> usize {
    lanes.iter().filter(|it| **it == lane).count()
}

pub(super) async fn claim_takes_no_more_of_a_lane_than_there_is_room_for<H: Harness>(harness: H) {
    let scene = Scene::new(harness);
    let known = scene.lane(EndpointSettings::default()).await;
    let other = scene.lane(EndpointSettings::default()).await;
    let capped = EndpointSettings {
        max_in_flight: Some(2),
        ..EndpointSettings::default()
    };
    let capped = scene.lane(capped).await;
    scene.enqueue("default", 20).await;
    let claimed = claim(&scene, 100, 1, &[(known, 3), (capped, 5)]).await;
    assert_eq!(count(&claimed, known), 3);
    assert_eq!(count(&claimed, other), 1, "of an unknown lane, the default");
    assert_eq!(count(&claimed, capped), 2, "its own cap is lower");
    let claimed = claim(&scene, 100, 1, &[(known, 0), (other, 0)]).await;
    assert!(claimed.is_empty());
}

pub(super) async fn lanes_without_room_hide_no_others<H: Harness>(harness: H) {
    let scene = Scene::new(harness);
    let mut full = Vec::new();
    for tenant in 0..40 {
        let tenant = format!("full-{tenant}");
        full.push((
            scene
                .endpoint(&tenant, EndpointSettings::default())
                .await
                .id,
            0,
        ));
        scene.enqueue(&tenant, 1).await;
    }
    for _ in 0..200 {
        full.push((scene.lane(EndpointSettings::default()).await, 0));
    }
    let free = scene.lane(EndpointSettings::default()).await;
    scene.enqueue("default", 4).await;
    let last = scene.endpoint("last", EndpointSettings::default()).await.id;
    scene.enqueue("last", 4).await;
    let mut claimed = Vec::new();
    // A claim may look at some and leave the rest to the next.
    for _ in 0..40 {
        claimed.extend(claim(&scene, 1, 1, &full).await);
    }
    assert_eq!(count(&claimed, free), 4);
    assert_eq!(count(&claimed, last), 4);
    assert_eq!(claimed.len(), 8);
}

pub(super) async fn lane_without_room_is_claimed_by_others<H: Harness>(harness: H) {
    let scene = Scene::new(harness);
    let lane = scene.lane(EndpointSettings::default()).await;
    scene.enqueue("default", 2).await;
    assert!(claim(&scene, 10, 1, &[(lane, 0)]).await.is_empty());
    assert_eq!(claim(&scene, 10, 1, &[]).await, [lane]);
    assert!(claim(&scene, 10, 1, &[(lane, 0)]).await.is_empty());
    assert_eq!(claim(&scene, 10, 1, &[(lane, 1)]).await, [lane]);
}

/// One event, of which deliveries to `endpoint` are claimed at once.
async fn insert_claiming<H: Harness>(
    scene: &Scene<H>,
    endpoint: &Endpoint,
    room: u32,
    count: usize,
    now: Now,
) -> Insertion {
    let events: Vec<_> = (0..count)
        .map(|n| event_for(endpoint.tenant.as_str(), "order.paid", &n.to_string(), T0))
        .collect();
    let claim = ClaimNew {
        endpoint: endpoint.id,
        version: endpoint.version,
        room,
    };
    let options = InsertOptions::new(OnConflict::Skip).claim(vec![claim], LEASE);
    let insertion = scene.store().insert_events(&events, &options, now).await;
    let insertion = insertion.expect("stores");
    for claim in &insertion.claimed {
        let job = &insertion.jobs[claim.job];
        let event = &events[claim.event];
        let delivery = scene.delivery(claim.lease.delivery).await;
        assert_eq!(
            (job.delivery, job.lane),
            (claim.lease.delivery, claim.lease.lane)
        );
        assert_eq!(delivery.event_id, event.id);
        assert_eq!(delivery.status, DeliveryStatus::InProgress);
    }
    insertion
}

fn leases(insertion: &Insertion) -> Vec<Lease> {
    insertion.claimed.iter().map(|claim| claim.lease).collect()
}

pub(super) async fn insert_claims_as_many_as_there_is_room_for<H: Harness>(harness: H) {
    let scene = Scene::new(harness);
    let endpoint = scene.endpoint("default", EndpointSettings::default()).await;
    scene.lane(EndpointSettings::default()).await;
    let insertion = insert_claiming(&scene, &endpoint, 2, 5, at(0)).await;
    assert_eq!((insertion.jobs.len(), insertion.claimed.len()), (10, 2));
    assert!(
        insertion.claimed.iter().all(|claim| claim.event < 2),
        "the first ones"
    );
    let waiting = insertion.jobs.iter().enumerate();
    let waiting = waiting.filter(|(n, _)| !insertion.claimed.iter().any(|it| it.job == *n));
    let jobs: Vec<_> = waiting.map(|(_, job)| job.clone()).collect();
    scene.queue.push(&jobs, at(0)).await.expect("pushes");
    let claimed = scene.claim(100, at(0)).await;
    assert_eq!(claimed.len(), 8, "what came with the insert is taken");
}

pub(super) async fn claim_with_the_insert_is_a_claim<H: Harness>(harness: H) {
    let scene = Scene::new(harness);
    let endpoint = scene.endpoint("default", EndpointSettings::default()).await;
    let lease = leases(&insert_claiming(&scene, &endpoint, 1, 1, at(0)).await)[0];
    assert_eq!(lease.until, T0 + LEASE);
    let retry = Next::RetryAfter(seconds(5));
    assert_eq!(
        scene.record(lease, 503, retry, at(1)).await,
        Recorded::Written
    );
    assert_eq!(
        scene.record(lease, 503, retry, at(1)).await,
        Recorded::Fenced
    );
    let delivery = scene.delivery(lease.delivery).await;
    assert_eq!(
        (delivery.status, delivery.attempts),
        (DeliveryStatus::Pending, 1)
    );
    assert_eq!(scene.attempts(lease.delivery).await.len(), 1);
    // What an index queue has not heard of is pushed.
    let live = scene.store().jobs(&[lease.delivery]).await.expect("reads");
    scene.queue.push(&live, at(1)).await.expect("pushes");
    assert_eq!(scene.claim(1, at(5)).await, []);
    let again = scene.take(at(6)).await;
    assert!(again.fence > lease.fence);
    assert_eq!(
        scene.record(again, 200, Next::Succeeded, at(6)).await,
        Recorded::Written
    );
}

pub(super) async fn claim_with_the_insert_ends_with_its_lease<H: Harness>(harness: H) {
    let scene = Scene::new(harness);
    let endpoint = scene.endpoint("default", EndpointSettings::default()).await;
    let lost = leases(&insert_claiming(&scene, &endpoint, 1, 1, at(0)).await)[0];
    let live = scene.store().unqueued(None, 10).await.expect("reads");
    assert_eq!(live.len(), 1);
    assert_eq!(live[0].due, T0 + LEASE);
    scene.queue.push(&live, at(0)).await.expect("pushes");
    assert_eq!(scene.claim(1, at(59)).await, []);
    let taken = scene.take(at(60)).await;
    assert_eq!(taken.delivery, lost.delivery);
    assert_eq!(
        scene.record(lost, 200, Next::Succeeded, at(61)).await,
        Recorded::Fenced
    );
    assert_eq!(
        scene.record(taken, 200, Next::Succeeded, at(61)).await,
        Recorded::Written
    );
}

pub(super) async fn insert_claims_only_what_the_claimer_knows<H: Harness>(harness: H) {
    let scene = Scene::new(harness);
    let endpoint = scene.endpoint("default", EndpointSettings::default()).await;
    let mut changed = endpoint.clone();
    changed.version += 1;
    assert!(
        scene
            .store()
            .update_endpoint(&changed)
            .await
            .expect("updates")
    );
    let insertion = insert_claiming(&scene, &endpoint, 1, 1, at(0)).await;
    assert_eq!((insertion.jobs.len(), insertion.claimed.len()), (1, 0));
    assert_eq!(
        insert_claiming(&scene, &changed, 1, 1, at(0))
            .await
            .claimed
            .len(),
        1
    );
    let mut paused = changed.clone();
    paused.version += 1;
    paused.state = EndpointState::Paused;
    assert!(
        scene
            .store()
            .update_endpoint(&paused)
            .await
            .expect("updates")
    );
    let insertion = insert_claiming(&scene, &paused, 1, 1, at(0)).await;
    assert_eq!(
        (insertion.jobs.len(), insertion.claimed.len()),
        (1, 0),
        "it is paused"
    );
}

pub(super) async fn insert_claims_nothing_of_a_limited_lane<H: Harness>(harness: H) {
    let scene = Scene::new(harness);
    let limited = [
        EndpointSettings {
            max_in_flight: Some(5),
            ..EndpointSettings::default()
        },
        EndpointSettings {
            rate_limit: Some(RateLimit {
                limit: 100,
                per: seconds(1),
            }),
            ..EndpointSettings::default()
        },
        EndpointSettings {
            ordered: true,
            ..EndpointSettings::default()
        },
    ];
    for (tenant, settings) in ["a", "b", "c"].into_iter().zip(limited) {
        let endpoint = scene.endpoint(tenant, settings).await;
        let insertion = insert_claiming(&scene, &endpoint, 1, 1, at(0)).await;
        assert_eq!((insertion.jobs.len(), insertion.claimed.len()), (1, 0));
    }
}

pub(super) async fn insert_claims_nothing_before_its_time<H: Harness>(harness: H) {
    let scene = Scene::new(harness);
    let endpoint = scene.endpoint("default", EndpointSettings::default()).await;
    let event = NewEvent::data("order.paid", "1").expect("valid");
    let event = event
        .deliver_at(T0 + seconds(60))
        .stamp(Uuid::from_u128(1), T0);
    let claim = ClaimNew {
        endpoint: endpoint.id,
        version: endpoint.version,
        room: 1,
    };
    let options = InsertOptions::new(OnConflict::Skip).claim(vec![claim], LEASE);
    let insertion = scene.store().insert_events(&[event], &options, at(0)).await;
    assert_eq!(insertion.expect("stores").claimed, []);
}

/// In the store, so that nobody claims from the lane between the outcome and the hold. An index queue is told apart.
pub(super) async fn outcome_holds_its_lane<H: Harness>(harness: H) {
    let scene = Scene::new(harness);
    let endpoint = scene.endpoint("default", EndpointSettings::default()).await;
    let lease = leases(&insert_claiming(&scene, &endpoint, 1, 1, at(0)).await)[0];
    let mut held = record(lease, 429, Next::RetryAfter(seconds(5)));
    held.hold = Some(seconds(30));
    let recorded = scene.store().record(&[held], at(0)).await.expect("records");
    assert_eq!(recorded, [Recorded::Written]);
    let insertion = insert_claiming(&scene, &endpoint, 1, 1, at(29)).await;
    assert_eq!(insertion.claimed, [], "the lane is held");
    let insertion = insert_claiming(&scene, &endpoint, 1, 1, at(30)).await;
    assert_eq!(insertion.claimed.len(), 1);
}

/// Who lost the claim holds nothing.
pub(super) async fn stale_outcome_holds_nothing<H: Harness>(harness: H) {
    let scene = Scene::new(harness);
    let endpoint = scene.endpoint("default", EndpointSettings::default()).await;
    let mut lease = leases(&insert_claiming(&scene, &endpoint, 1, 1, at(0)).await)[0];
    lease.fence += 7;
    let mut held = record(lease, 429, Next::RetryAfter(seconds(5)));
    held.hold = Some(seconds(30));
    let recorded = scene.store().record(&[held], at(0)).await.expect("records");
    assert_eq!(recorded, [Recorded::Fenced]);
    let insertion = insert_claiming(&scene, &endpoint, 1, 1, at(0)).await;
    assert_eq!(insertion.claimed.len(), 1);
}

pub(super) async fn claim_of_a_new_delivery_is_loaded_as_any<H: Harness>(harness: H) {
    let scene = Scene::new(harness);
    let endpoint = scene.endpoint("default", EndpointSettings::default()).await;
    let lease = leases(&insert_claiming(&scene, &endpoint, 1, 1, at(0)).await)[0];
    let loaded = scene.load(lease, at(0)).await.expect("it is current");
    assert!(matches!(loaded.verdict, Verdict::Run(_)));
}

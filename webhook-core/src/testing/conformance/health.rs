//! The checks of how endpoints do, and of lanes that are probed.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::checks::*;
use super::{Harness, event_for};
use crate::delivery::EndReason;
use crate::endpoint::{Endpoint, EndpointSettings, EndpointState, StateReason};
use crate::event::Event;
use crate::health::{BreakerChange, BreakerState, Health, HealthChange, Trip};
use crate::queue::{Hold, Lease, Settle};
use crate::retry::Next;
use crate::store::{
    ClaimNew, DeliveryFilter, InsertOptions, OnConflict, Record, Recorded, Store, Verdict,
};
use crate::tenant::{Scope, Tenant};
use crate::time::Now;

const RETRY: Next = Next::RetryAfter(Duration::from_secs(5));
const GIVEN_UP: Next = Next::Failed(EndReason::Permanent);
pub(super) const BEGINS: HealthChange = HealthChange {
    is_failing: Some(true),
    breaker: None,
    is_notice: false,
};
const ENDS: HealthChange = HealthChange {
    is_failing: Some(false),
    ..BEGINS
};
const NOTICE: HealthChange = HealthChange {
    is_failing: None,
    breaker: None,
    is_notice: true,
};

fn opens(trips: u32, by: u64) -> HealthChange {
    let by = seconds(by);
    HealthChange {
        breaker: Some(BreakerChange::Opens { trips, by }),
        ..BEGINS
    }
}

fn closes(trips: u32) -> HealthChange {
    HealthChange {
        breaker: Some(BreakerChange::Closes { trips }),
        ..ENDS
    }
}

fn trip(trips: u32, opened_at: u64, until: u64) -> Trip {
    Trip {
        trips,
        opened_at: T0 + seconds(opened_at),
        until: T0 + seconds(until),
    }
}

fn changing(lease: Lease, change: HealthChange) -> Record {
    let next = match change.is_failing {
        Some(false) => Next::Succeeded,
        _ => GIVEN_UP,
    };
    Record {
        health: Some(change),
        ..record(lease, if next == GIVEN_UP { 500 } else { 200 }, next)
    }
}

impl<H: Harness> Scene<H> {
    async fn recorded(&self, records: &[Record], now: Now) -> Vec<Recorded> {
        let recorded = self.store().record(records, now).await;
        recorded.expect("outcomes are recorded")
    }

    /// Leases as many jobs of a lane that is there, whatever its breaker says later.
    async fn leases(&self, count: usize) -> Vec<Lease> {
        self.enqueue("default", count).await;
        let leases = self.claim(count, at(0)).await;
        assert_eq!(leases.len(), count);
        for lease in &leases {
            let loaded = self.load(*lease, at(0)).await.expect("it is current");
            assert!(matches!(loaded.verdict, Verdict::Run(_)));
        }
        leases
    }

    /// Records a change and settles.
    pub(super) async fn change(&self, lease: Lease, change: HealthChange, now: Now) -> Recorded {
        let recorded = self.recorded(&[changing(lease, change)], now).await[0];
        self.settle(lease, Settle::Done, now).await;
        recorded
    }

    async fn health_of(&self, id: Uuid, now: Now) -> Option<Health> {
        let health = self.store().health(&ALL, &[id], now).await;
        let health = health.expect("health is read").pop();
        health.inspect(|(of, _)| assert_eq!(*of, id)).map(|it| it.1)
    }

    /// Whether an insert claims for an endpoint of which all is known but how it does.
    async fn leads(&self, endpoint: &Endpoint, now: Now) -> bool {
        let event = event_for("default", "order.paid", "1", T0);
        let claim = ClaimNew {
            endpoint: endpoint.id,
            version: endpoint.version,
            room: 1,
        };
        let options = InsertOptions::new(OnConflict::Skip).claim(vec![claim], LEASE);
        let insertion = self.store().insert_events(&[event], &options, now).await;
        !insertion.expect("stores").claimed.is_empty()
    }

    async fn deliveries_of(&self, endpoint: Uuid) -> usize {
        let filter = DeliveryFilter {
            endpoint_id: Some(endpoint),
            ..DeliveryFilter::default()
        };
        let found = self.store().deliveries(&ALL, &filter, PAGE).await;
        found.expect("deliveries are read").items.len()
    }

    async fn hold_to_probe(&self, lane: Uuid, by: u64, now: Now) {
        let hold = Hold::then_probe(seconds(by));
        let held = self.queue.hold(lane, hold, now).await;
        held.expect("holds");
    }

    async fn settle(&self, lease: Lease, settle: Settle, now: Now) {
        let settled = self.queue.settle(&[(lease, settle)], now).await;
        settled.expect("settles");
    }
}

fn tells(event_type: &str) -> Option<Arc<Event>> {
    Some(Arc::new(event_for("system", event_type, "{}", T0)))
}

pub(super) async fn health_is_kept_of_those_in_trouble<H: Harness>(harness: H) {
    let scene = Scene::new(harness);
    let failing = scene.lane(EndpointSettings::default()).await;
    let leases = scene.leases(4).await;
    let well = scene.lane(EndpointSettings::default()).await;
    assert_eq!(scene.health_of(failing, at(0)).await, None);
    for (lease, second) in [(leases[0], 1), (leases[1], 9)] {
        let recorded = scene.change(lease, BEGINS, at(second)).await;
        assert_eq!(recorded, Recorded::Written);
    }
    let since = Health {
        failing_since: Some(T0 + seconds(1)),
        ..Health::default()
    };
    assert_eq!(scene.health_of(failing, at(9)).await, Some(since));
    let ids = [well, failing, Uuid::from_u128(7)];
    let all = scene.store().health(&ALL, &ids, at(9)).await;
    assert_eq!(all.expect("reads"), [(failing, since)]);
    let other = Scope::Tenant(Tenant::new("other").expect("valid"));
    let foreign = scene.store().health(&other, &ids, at(9)).await;
    assert_eq!(foreign.expect("reads"), []);
    assert_eq!(
        scene.change(leases[2], ENDS, at(10)).await,
        Recorded::Written
    );
    assert_eq!(scene.health_of(failing, at(10)).await, None);
    assert_eq!(
        scene.change(leases[3], ENDS, at(10)).await,
        Recorded::Written
    );
}

pub(super) async fn breaker_opens_again_and_closes_once_each<H: Harness>(harness: H) {
    let scene = Scene::new(harness);
    let lane = scene.lane(EndpointSettings::default()).await;
    let leases = scene.leases(6).await;
    let mut leases = leases.into_iter();
    let mut change = async |change, second| {
        let lease = leases.next().expect("one is left");
        scene.change(lease, change, at(second)).await
    };
    let breaker = async |second| {
        let health = scene.health_of(lane, at(second)).await;
        health.unwrap_or_default().breaker
    };
    assert_eq!(change(opens(0, 30), 1).await, Recorded::Written);
    let first = trip(1, 1, 31);
    assert_eq!(breaker(30).await, BreakerState::Open(first));
    assert_eq!(breaker(31).await, BreakerState::HalfOpen(first));
    assert_eq!(change(opens(0, 90), 2).await, Recorded::Overtaken);
    assert_eq!(breaker(31).await, BreakerState::HalfOpen(first));
    assert_eq!(change(opens(1, 60), 40).await, Recorded::Written);
    let second = trip(2, 1, 100);
    assert_eq!(breaker(99).await, BreakerState::Open(second));
    assert_eq!(change(closes(1), 100).await, Recorded::Overtaken);
    assert_eq!(breaker(100).await, BreakerState::HalfOpen(second));
    assert_eq!(change(closes(2), 101).await, Recorded::Written);
    assert_eq!(scene.health_of(lane, at(101)).await, None);
    assert_eq!(change(closes(2), 102).await, Recorded::Overtaken);
}

pub(super) async fn vitals_count_those_in_trouble<H: Harness>(harness: H) {
    let scene = Scene::new(harness);
    let vitals = async |second| {
        let vitals = scene.store().vitals(at(second)).await;
        let vitals = vitals.expect("vitals are read");
        (
            vitals.breakers_open,
            vitals.breakers_half_open,
            vitals.endpoints_failing,
        )
    };
    scene.lane(EndpointSettings::default()).await;
    let leases = scene.leases(3).await;
    assert_eq!(vitals(0).await, (0, 0, 0));
    scene.change(leases[0], BEGINS, at(1)).await;
    assert_eq!(vitals(1).await, (0, 0, 1));
    scene.change(leases[1], opens(0, 30), at(2)).await;
    assert_eq!(vitals(31).await, (1, 0, 1));
    assert_eq!(vitals(32).await, (0, 1, 1));
    scene.change(leases[2], closes(1), at(33)).await;
    assert_eq!(vitals(33).await, (0, 0, 0));
}

/// Who lost the claim opens no breaker and tells nobody.
pub(super) async fn stale_outcome_changes_no_health<H: Harness>(harness: H) {
    let scene = Scene::new(harness);
    let lane = scene.lane(EndpointSettings::default()).await;
    let host = scene.endpoint("system", EndpointSettings::default()).await;
    let stale = scene.leases(1).await[0];
    let current = scene.take(at(60)).await;
    let record = |lease, change| Record {
        event: tells("endpoint.failing"),
        disable: Some(StateReason::Failing),
        ..changing(lease, change)
    };
    let stale = [record(stale, opens(0, 30))];
    assert_eq!(scene.recorded(&stale, at(61)).await, [Recorded::Fenced]);
    assert_eq!(scene.health_of(lane, at(61)).await, None);
    assert_eq!(scene.deliveries_of(host.id).await, 0);
    let endpoint = scene.store().endpoint(&ALL, lane).await.expect("reads");
    let state = endpoint.expect("is there").state;
    assert_eq!(state, EndpointState::Enabled);
    assert_eq!(
        scene.change(current, opens(0, 30), at(62)).await,
        Recorded::Written
    );
    assert_eq!(scene.recorded(&stale, at(63)).await, [Recorded::Fenced]);
    let health = scene.health_of(lane, at(63)).await.expect("is kept");
    assert_eq!(health.breaker, BreakerState::Open(trip(1, 62, 92)));
}

pub(super) async fn notice_is_given_once_with_its_event<H: Harness>(harness: H) {
    let scene = Scene::new(harness);
    let lane = scene.lane(EndpointSettings::default()).await;
    let host = scene.endpoint("system", EndpointSettings::default()).await;
    let leases = scene.leases(4).await;
    let notice = |lease| Record {
        event: tells("endpoint.failing"),
        ..changing(lease, NOTICE)
    };
    let recorded = scene.recorded(&[notice(leases[0])], at(1)).await;
    assert_eq!(recorded, [Recorded::Overtaken], "it does well");
    assert_eq!(scene.deliveries_of(host.id).await, 0);
    scene.change(leases[1], BEGINS, at(2)).await;
    let both = [notice(leases[2]), notice(leases[3])];
    let mut recorded = scene.recorded(&both, at(3)).await;
    recorded.sort_unstable_by_key(|one| *one == Recorded::Overtaken);
    assert_eq!(recorded, [Recorded::Written, Recorded::Overtaken]);
    assert_eq!(scene.deliveries_of(host.id).await, 1);
    let health = scene.health_of(lane, at(3)).await.expect("is kept");
    assert_eq!(health.notified_at, Some(T0 + seconds(3)));
    let told = DeliveryFilter {
        endpoint_id: Some(host.id),
        ..DeliveryFilter::default()
    };
    let told = scene.store().deliveries(&ALL, &told, PAGE).await;
    let live: Vec<_> = told.expect("reads").items.iter().map(|it| it.id).collect();
    let jobs = scene.store().jobs(&live).await.expect("reads");
    assert_eq!(jobs.len(), 1, "it is due as any");
}

pub(super) async fn disabling_is_told_once<H: Harness>(harness: H) {
    let scene = Scene::new(harness);
    let lane = scene.lane(EndpointSettings::default()).await;
    let host = scene.endpoint("system", EndpointSettings::default()).await;
    let leases = scene.leases(4).await;
    scene.change(leases[3], BEGINS, at(0)).await;
    let disables = |lease| Record {
        disable: Some(StateReason::Failing),
        event: tells("endpoint.disabled"),
        ..record(lease, 500, GIVEN_UP)
    };
    let both = [disables(leases[0]), disables(leases[1])];
    let written = scene.recorded(&both, at(1)).await;
    assert!(written.iter().all(|one| one.is_written()), "{written:?}");
    assert_eq!(scene.deliveries_of(host.id).await, 1);
    let late = scene.recorded(&[disables(leases[2])], at(2)).await;
    assert_eq!(late, [Recorded::Overtaken]);
    assert_eq!(scene.deliveries_of(host.id).await, 1);
    let endpoint = scene.store().endpoint(&ALL, lane).await.expect("reads");
    let endpoint = endpoint.expect("is there");
    assert_eq!(
        (endpoint.state, endpoint.state_reason),
        (EndpointState::Disabled, Some(StateReason::Failing))
    );
}

/// An attempt that was under way while the endpoint recovered knows nothing of it.
pub(super) async fn endpoint_that_has_recovered_is_not_disabled<H: Harness>(harness: H) {
    let scene = Scene::new(harness);
    let lane = scene.lane(EndpointSettings::default()).await;
    let host = scene.endpoint("system", EndpointSettings::default()).await;
    let leases = scene.leases(4).await;
    scene.change(leases[0], BEGINS, at(1)).await;
    scene.change(leases[1], ENDS, at(2)).await;
    let disables = |lease, reason| Record {
        disable: Some(reason),
        event: tells("endpoint.disabled"),
        ..record(lease, 500, GIVEN_UP)
    };
    let late = disables(leases[2], StateReason::Failing);
    assert_eq!(scene.recorded(&[late], at(3)).await, [Recorded::Overtaken]);
    assert_eq!(scene.deliveries_of(host.id).await, 0);
    let state = async || {
        let endpoint = scene.store().endpoint(&ALL, lane).await.expect("reads");
        endpoint.expect("is there").state
    };
    assert_eq!(state().await, EndpointState::Enabled);
    let gone = disables(leases[3], StateReason::Gone);
    assert_eq!(scene.recorded(&[gone], at(4)).await, [Recorded::Written]);
    assert_eq!(
        state().await,
        EndpointState::Disabled,
        "410 is another matter"
    );
}

/// What is recorded together counts in its order.
pub(super) async fn endpoint_that_recovers_in_the_same_batch_is_not_disabled<H: Harness>(
    harness: H,
) {
    let scene = Scene::new(harness);
    let lane = scene.lane(EndpointSettings::default()).await;
    let host = scene.endpoint("system", EndpointSettings::default()).await;
    let leases = scene.leases(6).await;
    let disables = |lease, reason| Record {
        disable: Some(reason),
        event: tells("endpoint.disabled"),
        ..record(lease, 500, GIVEN_UP)
    };
    let state = async || {
        let endpoint = scene.store().endpoint(&ALL, lane).await.expect("reads");
        endpoint.expect("is there").state
    };
    scene.change(leases[0], BEGINS, at(1)).await;
    let failing = disables(leases[2], StateReason::Failing);
    let both = [changing(leases[1], ENDS), failing];
    let recorded = scene.recorded(&both, at(2)).await;
    assert_eq!(recorded, [Recorded::Written, Recorded::Overtaken]);
    assert_eq!(state().await, EndpointState::Enabled);
    assert_eq!(scene.health_of(lane, at(2)).await, None);
    assert_eq!(scene.deliveries_of(host.id).await, 0);

    scene.change(leases[3], BEGINS, at(3)).await;
    let failing = disables(leases[4], StateReason::Failing);
    let both = [failing, changing(leases[5], ENDS)];
    let recorded = scene.recorded(&both, at(4)).await;
    assert_eq!(recorded, [Recorded::Written, Recorded::Written]);
    assert_eq!(state().await, EndpointState::Disabled, "it did fail then");
    assert_eq!(scene.deliveries_of(host.id).await, 1);
}

pub(super) async fn endpoint_that_recovers_begins_anew<H: Harness>(harness: H) {
    let scene = Scene::new(harness);
    let endpoint = scene.endpoint("default", EndpointSettings::default()).await;
    let leases = scene.leases(2).await;
    scene.change(leases[0], opens(0, 30), at(1)).await;
    let other = Scope::Tenant(Tenant::new("other").expect("valid"));
    let foreign = scene.store().recover_endpoint(&other, endpoint.id).await;
    assert!(!foreign.expect("answers"));
    assert!(scene.health_of(endpoint.id, at(1)).await.is_some());
    assert!(!scene.leads(&endpoint, at(40)).await);
    let recovered = scene.store().recover_endpoint(&ALL, endpoint.id).await;
    assert!(recovered.expect("answers"));
    assert_eq!(scene.health_of(endpoint.id, at(2)).await, None);
    assert!(scene.leads(&endpoint, at(2)).await, "its lane is free");
    // What was under way says nothing of a breaker that has been closed.
    let late = scene.change(leases[1], opens(1, 60), at(3)).await;
    assert_eq!(late, Recorded::Overtaken);
    let unknown = Uuid::from_u128(7);
    let unknown = scene.store().recover_endpoint(&ALL, unknown).await;
    assert!(!unknown.expect("answers"));
}

/// Enabling it releases its lane in the queue, too, but that may fail.
pub(super) async fn endpoint_that_recovers_while_paused_is_probed_no_more<H: Harness>(harness: H) {
    let scene = Scene::new(harness);
    let mut endpoint = scene.endpoint("default", EndpointSettings::default()).await;
    for state in [EndpointState::Paused, EndpointState::Disabled] {
        let leases = scene.leases(1).await;
        scene.change(leases[0], opens(0, 30), at(1)).await;
        for state in [state, EndpointState::Enabled] {
            if state == EndpointState::Enabled {
                let recovered = scene.store().recover_endpoint(&ALL, endpoint.id).await;
                assert!(recovered.expect("answers"));
            }
            endpoint.state = state;
            endpoint.version += 1;
            let updated = scene.store().update_endpoint(&endpoint).await;
            assert!(updated.expect("answers"));
        }
        assert!(scene.leads(&endpoint, at(2)).await, "{state:?}");
    }
}

pub(super) async fn deleted_endpoint_takes_its_health_along<H: Harness>(harness: H) {
    let scene = Scene::new(harness);
    let endpoint = scene.endpoint("default", EndpointSettings::default()).await;
    let leases = scene.leases(1).await;
    scene.change(leases[0], opens(0, 30), at(1)).await;
    let deleted = scene.store().delete_endpoint(&ALL, endpoint.id, at(2));
    assert!(deleted.await.expect("deletes"));
    let inserted = scene.store().insert_endpoint(&endpoint, usize::MAX).await;
    inserted.expect("the same id again");
    assert_eq!(scene.health_of(endpoint.id, at(2)).await, None);
}

pub(super) async fn load_tells_how_the_endpoint_does<H: Harness>(harness: H) {
    let scene = Scene::new(harness);
    let lane = scene.lane(EndpointSettings::default()).await;
    let leases = scene.leases(2).await;
    scene.enqueue("default", 1).await;
    scene.change(leases[0], opens(0, 30), at(1)).await;
    // What is under way goes on.
    let loaded = scene.load(leases[1], at(2)).await.expect("it is current");
    let Verdict::Run(work) = loaded.verdict else {
        panic!("it is owned");
    };
    assert_eq!(work.health.breaker, BreakerState::Open(trip(1, 1, 31)));
    assert_eq!(work.health.failing_since, Some(T0 + seconds(1)));
    scene
        .settle(leases[1], Settle::Unused(seconds(99)), at(2))
        .await;
    scene.hold_to_probe(lane, 30, at(1)).await;
    let probe = scene.claim(1, at(31)).await[0];
    let loaded = scene.load(probe, at(31)).await.expect("it is current");
    let Verdict::Run(work) = loaded.verdict else {
        panic!("it is the probe");
    };
    assert_eq!(work.health.breaker, BreakerState::HalfOpen(trip(1, 1, 31)));
}

/// A queue beside the store may have forgotten the hold.
pub(super) async fn open_breaker_is_told_at_load<H: Harness>(harness: H) {
    let scene = Scene::new(harness);
    let lane = scene.lane(EndpointSettings::default()).await;
    let leases = scene.leases(1).await;
    let waiting = scene.enqueue("default", 1).await[0].delivery;
    scene.change(leases[0], opens(0, 30), at(1)).await;
    // Nothing in the store's own queue.
    for lease in scene.claim(2, at(11)).await {
        let loaded = scene.load(lease, at(11)).await.expect("it is current");
        assert!(
            matches!(loaded.verdict, Verdict::Held(by) if by == seconds(20)),
            "{:?}",
            loaded.verdict
        );
        scene
            .settle(lease, Settle::Unused(seconds(1)), at(11))
            .await;
        scene.hold_to_probe(lane, 20, at(11)).await;
    }
    assert_eq!(scene.runnable(at(31)).await, [waiting]);
}

pub(super) async fn insert_claims_nothing_of_an_endpoint_in_trouble<H: Harness>(harness: H) {
    let scene = Scene::new(harness);
    let endpoint = scene.endpoint("default", EndpointSettings::default()).await;
    let leases = scene.leases(4).await;
    assert!(scene.leads(&endpoint, at(0)).await);
    scene.change(leases[0], BEGINS, at(1)).await;
    assert!(!scene.leads(&endpoint, at(1)).await, "it fails");
    scene.change(leases[1], ENDS, at(2)).await;
    assert!(scene.leads(&endpoint, at(2)).await);
    scene.change(leases[2], opens(0, 30), at(3)).await;
    assert!(!scene.leads(&endpoint, at(32)).await, "its breaker is open");
    assert!(!scene.leads(&endpoint, at(33)).await, "it is half open");
    scene.change(leases[3], closes(1), at(34)).await;
    assert!(scene.leads(&endpoint, at(34)).await);
}

pub(super) async fn probed_lane_has_one_job_in_flight<H: Harness>(harness: H) {
    let scene = Scene::new(harness);
    let lane = scene.lane(EndpointSettings::default()).await;
    let other = scene.endpoint("other", EndpointSettings::default()).await;
    scene.hold_to_probe(lane, 30, at(0)).await;
    scene.enqueue("default", 5).await;
    assert_eq!(scene.claim(10, at(29)).await, []);
    let probe = scene.claim(10, at(30)).await;
    assert_eq!(probe.len(), 1);
    assert_eq!(scene.claim(10, at(30)).await, []);
    scene.enqueue("other", 2).await;
    let others: Vec<_> = scene.claim(10, at(30)).await;
    assert!(others.len() == 2 && others.iter().all(|it| it.lane == other.id));
    scene
        .settle(probe[0], Settle::Unused(Duration::ZERO), at(31))
        .await;
    assert_eq!(scene.claim(10, at(31)).await.len(), 1, "the next one");
    assert_eq!(scene.claim(10, at(31)).await, []);
}

pub(super) async fn probe_that_was_recorded_makes_way_for_the_next<H: Harness>(harness: H) {
    let scene = Scene::new(harness);
    let lane = scene.lane(EndpointSettings::default()).await;
    scene.hold_to_probe(lane, 30, at(0)).await;
    scene.enqueue("default", 4).await;
    scene.attempt(200, Next::Succeeded, at(30)).await;
    scene.attempt(500, RETRY, at(31)).await;
    let probe = scene.claim(10, at(32)).await;
    assert_eq!(probe.len(), 1);
    scene.hold_to_probe(lane, 60, at(33)).await;
    scene
        .settle(probe[0], Settle::Unused(Duration::ZERO), at(33))
        .await;
    assert_eq!(scene.claim(10, at(92)).await, [], "it is held anew");
    assert_eq!(scene.claim(10, at(93)).await.len(), 1);
}

pub(super) async fn lost_probe_comes_back_when_its_lease_ends<H: Harness>(harness: H) {
    let scene = Scene::new(harness);
    let lane = scene.lane(EndpointSettings::default()).await;
    scene.enqueue("default", 3).await;
    scene.hold_to_probe(lane, 30, at(0)).await;
    assert_eq!(scene.claim(10, at(30)).await.len(), 1);
    assert_eq!(scene.claim(10, at(89)).await, []);
    assert_eq!(scene.claim(10, at(90)).await.len(), 1);
    assert_eq!(scene.claim(10, at(90)).await, []);
}

pub(super) async fn released_lane_is_no_longer_probed<H: Harness>(harness: H) {
    let scene = Scene::new(harness);
    let lane = scene.lane(EndpointSettings::default()).await;
    scene.enqueue("default", 3).await;
    scene.hold_to_probe(lane, 30, at(0)).await;
    assert_eq!(scene.claim(10, at(30)).await.len(), 1);
    let plain = Hold::new(seconds(5));
    scene.queue.hold(lane, plain, at(30)).await.expect("holds");
    scene
        .settle(
            scene.claim(1, at(90)).await[0],
            Settle::Unused(Duration::ZERO),
            at(90),
        )
        .await;
    assert_eq!(scene.claim(10, at(90)).await.len(), 1, "it is still probed");
    scene.queue.release(lane).await.expect("releases");
    assert_eq!(scene.claim(10, at(90)).await.len(), 2);
    scene.hold_to_probe(lane, 30, at(100)).await;
    scene.queue.release(lane).await.expect("releases");
    scene.enqueue("default", 4).await;
    assert_eq!(scene.claim(10, at(100)).await.len(), 4);
}

/// What happens to be empty meanwhile is not forgotten.
pub(super) async fn probed_lane_stays_so_without_jobs<H: Harness>(harness: H) {
    let scene = Scene::new(harness);
    let lane = scene.lane(EndpointSettings::default()).await;
    scene.enqueue("default", 1).await;
    scene.hold_to_probe(lane, 30, at(0)).await;
    scene.attempt(200, Next::Succeeded, at(30)).await;
    let store = scene.store();
    store.maintain(seconds(86_400), at(60)).await.expect("done");
    scene.enqueue("default", 3).await;
    assert_eq!(scene.claim(10, at(60)).await.len(), 1);
}

/// A cap of the endpoint's own does not let more through, and an ordered lane stays in order.
pub(super) async fn probed_lane_keeps_its_own_limits<H: Harness>(harness: H) {
    let scene = Scene::new(harness);
    let settings = [
        EndpointSettings {
            max_in_flight: Some(5),
            ..EndpointSettings::default()
        },
        EndpointSettings {
            ordered: true,
            ..EndpointSettings::default()
        },
    ];
    for (tenant, settings) in ["capped", "ordered"].into_iter().zip(settings) {
        let lane = scene.endpoint(tenant, settings).await.id;
        scene.hold_to_probe(lane, 30, at(0)).await;
        let first = scene.enqueue(tenant, 3).await[0].delivery;
        let probe = scene.claim(10, at(30)).await;
        assert_eq!(probe.len(), 1, "{tenant}");
        if tenant == "ordered" {
            assert_eq!(probe[0].delivery, first);
        }
        scene.queue.release(lane).await.expect("releases");
        let rest = scene.claim(10, at(30)).await.len();
        assert_eq!(rest, if tenant == "capped" { 2 } else { 0 });
    }
}

/// In the store, so that nobody claims between the outcome and what follows for the lane.
pub(super) async fn breaker_holds_and_releases_its_lane<H: Harness>(harness: H) {
    let scene = Scene::new(harness);
    let endpoint = scene.endpoint("default", EndpointSettings::default()).await;
    let leases = scene.leases(3).await;
    scene.change(leases[0], opens(0, 30), at(0)).await;
    assert_eq!(
        scene.change(leases[1], opens(7, 90), at(0)).await,
        Recorded::Overtaken
    );
    assert!(!scene.leads(&endpoint, at(29)).await);
    assert!(!scene.leads(&endpoint, at(30)).await, "it is probed");
    scene.change(leases[2], closes(1), at(31)).await;
    assert!(scene.leads(&endpoint, at(31)).await);
}

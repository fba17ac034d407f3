//! The suite of a [`Queue`](crate::Queue), seeded through its store.

use super::suite;

/// The checks of a queue: one list for the wrappers and for a backend's tests.
#[doc(hidden)]
#[macro_export]
macro_rules! __queue_checks {
    ([$($then:tt)*] $($args:tt)*) => {
        $($then)*! {
            $($args)*
            claim_is_exclusive,
            claim_never_takes_a_job_before_its_time,
            claim_goes_round_the_tenants,
            claim_goes_round_the_lanes_of_a_tenant,
            small_claims_go_round_all_lanes,
            claim_takes_the_earliest_due_of_a_lane_first,
            claim_tells_when_the_next_job_is_due,
            claim_stops_at_the_cap_of_a_lane,
            claim_takes_no_more_of_a_lane_than_there_is_room_for,
            lanes_without_room_hide_no_others,
            lane_without_room_is_claimed_by_others,
            claim_keeps_to_the_rate_of_a_lane,
            claim_takes_an_ordered_lane_one_by_one_head_first,
            parked_jobs_do_not_hide_ready_ones,
            push_of_a_known_job_changes_nothing,
            expired_lease_is_claimed_again_with_a_greater_fence,
            claim_counts_the_leases_that_ended_unsettled_once,
            extend_lets_a_lease_last,
            extend_of_a_lost_lease_answers_nothing,
            settle_after_makes_it_due_later,
            settle_by_a_stale_owner_changes_nothing,
            unused_lease_goes_back,
            unused_lease_gives_its_rate_back,
            hold_keeps_a_lane_back_until_it_ends,
            hold_is_not_shortened_by_a_shorter_one,
            release_ends_a_hold,
            depth_counts_what_waits,
            oldest_due_is_when_a_lane_became_eligible,
            oldest_due_waits_for_a_rate,
            oldest_due_waits_for_the_head_of_an_ordered_lane,
            oldest_due_waits_for_room_below_a_cap,
            stale_outcome_changes_nothing,
            stale_owner_that_records_first_is_fenced,
            record_needs_the_exact_fence,
            late_outcome_of_a_job_nobody_took_counts_once,
            rate_that_is_raised_holds_at_once,
            insert_claims_as_many_as_there_is_room_for,
            claim_with_the_insert_is_a_claim,
            claim_with_the_insert_ends_with_its_lease,
            insert_claims_only_what_the_claimer_knows,
            insert_claims_nothing_of_a_limited_lane,
            insert_claims_nothing_before_its_time,
            claim_of_a_new_delivery_is_loaded_as_any,
            outcome_holds_its_lane,
            stale_outcome_holds_nothing,
            insert_claims_nothing_of_an_endpoint_in_trouble,
            breaker_holds_and_releases_its_lane,
            probed_lane_has_one_job_in_flight,
            probe_that_was_recorded_makes_way_for_the_next,
            lost_probe_comes_back_when_its_lease_ends,
            released_lane_is_no_longer_probed,
            probed_lane_stays_so_without_jobs,
            probed_lane_keeps_its_own_limits,
            parts_stay_as_they_are_while_nothing_is_lost,
        }
    };
}

/// A backend's `#[test]`s for its queue. The argument is a [`Harness`](crate::testing::Harness).
#[macro_export]
macro_rules! queue_conformance {
    ($harness:ty) => {
        $crate::__queue_checks! { [$crate::__conformance_tests] queue, $harness, }
    };
}

__queue_checks! { [suite] Harness, }

mod checks {
    use std::collections::HashSet;

    use super::super::Harness;
    use super::super::checks::*;
    pub(super) use super::super::health::{
        breaker_holds_and_releases_its_lane, insert_claims_nothing_of_an_endpoint_in_trouble,
        lost_probe_comes_back_when_its_lease_ends, probe_that_was_recorded_makes_way_for_the_next,
        probed_lane_has_one_job_in_flight, probed_lane_keeps_its_own_limits,
        probed_lane_stays_so_without_jobs, released_lane_is_no_longer_probed,
    };
    pub(super) use super::super::rooms::*;
    use crate::delivery::DeliveryStatus;
    use crate::endpoint::{EndpointSettings, RateLimit};
    use crate::event::NewEvent;
    use crate::queue::{ClaimOptions, Hold, Lease, Settle};
    use crate::retry::Next;
    use crate::store::{Recorded, Store};
    use crate::testing::event_for;

    const RETRY: Next = Next::RetryAfter(std::time::Duration::from_secs(5));

    pub(super) async fn claim_is_exclusive<H: Harness>(harness: H) {
        let scene = Scene::new(harness);
        scene.lane(EndpointSettings::default()).await;
        scene.enqueue("default", 20).await;
        let claims = [
            scene.claim(8, at(0)).await,
            scene.claim(8, at(0)).await,
            scene.claim(8, at(0)).await,
        ];
        assert_eq!(claims.each_ref().map(Vec::len), [8, 8, 4]);
        let distinct: HashSet<_> = claims
            .iter()
            .flatten()
            .map(|lease| lease.delivery)
            .collect();
        assert_eq!(distinct.len(), 20);
    }

    pub(super) async fn parts_stay_as_they_are_while_nothing_is_lost<H: Harness>(harness: H) {
        let scene = Scene::new(harness);
        let parts = async || scene.queue.parts().await.expect("parts answer");
        let before = parts().await;
        let names: HashSet<_> = before.iter().map(|part| &part.name).collect();
        assert_eq!(names.len(), before.len(), "each has a name of its own");
        assert!(before.iter().all(|part| part.generation.is_some()));
        let mut lanes = Vec::new();
        for _ in 0..20 {
            let lane = scene.lane(EndpointSettings::default()).await;
            lanes.push((lane, scene.queue.part_of(lane)));
        }
        scene.enqueue("default", 2).await;
        let claimed = scene.claim(30, at(0)).await;
        let done: Vec<_> = claimed.iter().map(|it| (*it, Settle::Done)).collect();
        scene.queue.settle(&done, at(0)).await.expect("settles");
        assert_eq!(parts().await, before);
        for (lane, part) in lanes {
            assert!(part < before.len());
            assert_eq!(scene.queue.part_of(lane), part);
        }
    }

    pub(super) async fn claim_never_takes_a_job_before_its_time<H: Harness>(harness: H) {
        let scene = Scene::new(harness);
        scene.lane(EndpointSettings::default()).await;
        let event = NewEvent::data("order.paid", "1")
            .expect("valid")
            .deliver_at(T0 + seconds(60));
        let event = event.stamp(uuid::Uuid::from_u128(1), T0);
        scene.insert(&[event], at(0)).await;
        assert_eq!(scene.claim(10, at(59)).await, []);
        assert_eq!(scene.claim(10, at(60)).await.len(), 1);
    }

    pub(super) async fn claim_goes_round_the_tenants<H: Harness>(harness: H) {
        let scene = Scene::in_one_part(harness);
        for _ in 0..8 {
            scene.endpoint("big", EndpointSettings::default()).await;
        }
        let small = scene
            .endpoint("small", EndpointSettings::default())
            .await
            .id;
        scene.enqueue("big", 10).await;
        scene.enqueue("small", 4).await;
        let claimed = scene.claim(8, at(0)).await;
        let of_small = claimed.iter().filter(|lease| lease.lane == small).count();
        assert_eq!(
            of_small, 4,
            "80 jobs of one tenant took the turns of another"
        );
    }

    pub(super) async fn claim_goes_round_the_lanes_of_a_tenant<H: Harness>(harness: H) {
        let scene = Scene::in_one_part(harness);
        let busy = EndpointSettings {
            event_types: patterns("busy"),
            ..Default::default()
        };
        let quiet = EndpointSettings {
            event_types: patterns("quiet"),
            ..Default::default()
        };
        scene.lane(busy).await;
        let quiet = scene.lane(quiet).await;
        let events: Vec<_> = (0..100)
            .map(|n| event_for("default", "busy", &n.to_string(), T0))
            .collect();
        scene.insert(&events, at(0)).await;
        scene
            .insert(&[event_for("default", "quiet", "1", T0)], at(0))
            .await;
        assert!(
            scene
                .claim(4, at(0))
                .await
                .iter()
                .any(|lease| lease.lane == quiet)
        );
    }

    pub(super) async fn small_claims_go_round_all_lanes<H: Harness>(harness: H) {
        let scene = Scene::in_one_part(harness);
        let mut lanes = HashSet::new();
        for (tenant, count) in [("a", 2), ("b", 1), ("c", 3)] {
            for number in 0..count {
                // The last of all is ordered.
                let ordered = number == 2;
                let settings = EndpointSettings {
                    ordered,
                    ..Default::default()
                };
                lanes.insert(scene.endpoint(tenant, settings).await.id);
            }
            scene.enqueue(tenant, 20).await;
        }
        let mut served = HashSet::new();
        for _ in 0..18 {
            served.extend(scene.claim(1, at(0)).await.iter().map(|lease| lease.lane));
        }
        assert_eq!(served, lanes, "one at a time");
        for limit in [4, 7] {
            let mut served = HashSet::new();
            for _ in 0..4 {
                let claimed = scene.claim(limit, at(0)).await;
                served.extend(claimed.iter().map(|lease| lease.lane));
            }
            assert!(
                served.len() >= lanes.len() - 1,
                "{limit} at a time: {served:?}"
            );
        }
    }

    pub(super) async fn claim_takes_the_earliest_due_of_a_lane_first<H: Harness>(harness: H) {
        let scene = Scene::new(harness);
        scene.lane(EndpointSettings::default()).await;
        let mut order = Vec::new();
        for second in [30, 10, 20] {
            let event = event_for("default", "a", "1", T0 + seconds(second));
            order.push((second, scene.insert(&[event], at(second)).await[0].delivery));
        }
        order.sort_unstable();
        let claimed: Vec<_> = scene
            .claim(3, at(60))
            .await
            .iter()
            .map(|lease| lease.delivery)
            .collect();
        assert_eq!(
            claimed,
            order
                .into_iter()
                .map(|(_, delivery)| delivery)
                .collect::<Vec<_>>()
        );
    }

    pub(super) async fn claim_tells_when_the_next_job_is_due<H: Harness>(harness: H) {
        let scene = Scene::new(harness);
        scene.one_job().await;
        scene.attempt(500, RETRY, at(0)).await;
        let claimed = scene
            .queue
            .claim(ClaimOptions::new(1, LEASE), at(1))
            .await
            .expect("claims");
        assert_eq!(claimed.leases, []);
        assert_eq!(claimed.next_due, at(5));
        let lease = scene.claim(1, at(5)).await[0];
        let claimed = scene
            .queue
            .claim(ClaimOptions::new(1, LEASE), at(5))
            .await
            .expect("claims");
        assert_eq!(
            claimed.next_due,
            Some(lease.until),
            "the end of a lease counts"
        );
    }

    pub(super) async fn claim_stops_at_the_cap_of_a_lane<H: Harness>(harness: H) {
        let scene = Scene::new(harness);
        let capped = EndpointSettings {
            max_in_flight: Some(3),
            ..Default::default()
        };
        scene.endpoint("capped", capped).await;
        scene.endpoint("free", EndpointSettings::default()).await;
        scene.enqueue("capped", 10).await;
        scene.enqueue("free", 5).await;
        let first = scene.claim(100, at(0)).await;
        assert_eq!(first.len(), 3 + 5);
        let capped: Vec<_> = scene.claim(100, at(0)).await;
        assert_eq!(capped, []);
        scene
            .queue
            .settle(&[(first[0], Settle::Unused(seconds(0)))], at(0))
            .await
            .expect("settles");
        assert_eq!(
            scene.claim(100, at(0)).await.len(),
            1,
            "a place that became free is taken"
        );
    }

    pub(super) async fn claim_keeps_to_the_rate_of_a_lane<H: Harness>(harness: H) {
        let scene = Scene::new(harness);
        let rate = RateLimit {
            limit: 50,
            per: seconds(1),
        };
        let settings = EndpointSettings {
            rate_limit: Some(rate),
            max_in_flight: Some(1_000),
            ..Default::default()
        };
        scene.lane(settings).await;
        scene.enqueue("default", 200).await;
        let (mut claimed, mut now) = (0, T0);
        for _ in 0..20 {
            claimed += scene.claim(100, Some(now)).await.len();
            now = now + std::time::Duration::from_millis(100);
        }
        // 1.9 s at 50/s, and a burst of 5 of which one is the first.
        assert_eq!(claimed, 95 + 5);
    }

    pub(super) async fn claim_takes_an_ordered_lane_one_by_one_head_first<H: Harness>(harness: H) {
        let scene = Scene::new(harness);
        scene
            .lane(EndpointSettings {
                ordered: true,
                ..Default::default()
            })
            .await;
        let mut jobs = Vec::new();
        for second in 0..3 {
            let event = event_for("default", "a", "1", T0 + seconds(second));
            jobs.extend(scene.insert(&[event], at(second)).await);
        }
        let head = scene.attempt(500, RETRY, at(10)).await;
        assert_eq!(head.delivery, jobs[0].delivery);
        assert_eq!(
            scene.claim(10, at(11)).await,
            [],
            "followers wait for the head's retry"
        );
        let again = scene.attempt(200, Next::Succeeded, at(15)).await;
        assert_eq!(again.delivery, jobs[0].delivery);
        let next = scene.claim(10, at(15)).await;
        assert_eq!(
            next.iter().map(|lease| lease.delivery).collect::<Vec<_>>(),
            [jobs[1].delivery]
        );
    }

    pub(super) async fn parked_jobs_do_not_hide_ready_ones<H: Harness>(harness: H) {
        let scene = Scene::new(harness);
        let parked = scene
            .endpoint("parked", EndpointSettings::default())
            .await
            .id;
        let ready = scene
            .endpoint("ready", EndpointSettings::default())
            .await
            .id;
        scene.enqueue("parked", 300).await;
        scene
            .queue
            .hold(parked, Hold::new(seconds(3_600)), at(0))
            .await
            .expect("holds");
        scene.enqueue("ready", 1).await;
        assert_eq!(lanes(&scene.claim(10, at(0)).await), [ready]);
    }

    pub(super) async fn push_of_a_known_job_changes_nothing<H: Harness>(harness: H) {
        let scene = Scene::new(harness);
        let job = scene.one_job().await;
        let again = [job.clone(), job];
        scene.queue.push(&again, at(0)).await.expect("pushes");
        assert_eq!(scene.claim(10, at(0)).await.len(), 1);
        scene.queue.push(&again, at(1)).await.expect("pushes");
        assert_eq!(scene.claim(10, at(1)).await, [], "it is under a lease");
    }

    pub(super) async fn expired_lease_is_claimed_again_with_a_greater_fence<H: Harness>(
        harness: H,
    ) {
        let scene = Scene::new(harness);
        scene.one_job().await;
        let first = scene.claim(1, at(0)).await[0];
        assert_eq!(scene.claim(1, at(59)).await, []);
        let second = scene.claim(1, at(60)).await[0];
        assert_eq!(second.delivery, first.delivery);
        assert!(second.fence > first.fence);
    }

    pub(super) async fn claim_counts_the_leases_that_ended_unsettled_once<H: Harness>(harness: H) {
        let scene = Scene::new(harness);
        scene.lane(EndpointSettings::default()).await;
        scene.enqueue("default", 4).await;
        // All that there is: one claim may leave something out.
        let claim = async |now| {
            let (mut leases, mut reclaimed) = (Vec::new(), 0);
            loop {
                let claimed = scene.queue.claim(ClaimOptions::new(9, LEASE), now).await;
                let claimed = claimed.expect("jobs are claimed");
                reclaimed += claimed.reclaimed;
                if claimed.leases.is_empty() {
                    return (leases, reclaimed);
                }
                leases.extend(claimed.leases);
            }
        };
        let (first, reclaimed) = claim(at(0)).await;
        assert_eq!((first.len(), reclaimed), (4, 0));
        // One is given back, one fails and is to be retried, and two are never heard of again.
        let (unused, failed) = (first[0], first[1]);
        scene.load(failed, at(0)).await.expect("it is current");
        scene.record(failed, 500, RETRY, at(1)).await;
        let settled = [
            (unused, Settle::Unused(seconds(0))),
            (failed, Settle::After(seconds(5))),
        ];
        scene.queue.settle(&settled, at(1)).await.expect("settles");
        let (settled, reclaimed) = claim(at(6)).await;
        assert_eq!((settled.len(), reclaimed), (2, 0));
        let (ended, reclaimed) = claim(at(60)).await;
        assert_eq!((ended.len(), reclaimed), (2, 2));
        assert_eq!(claim(at(61)).await.1, 0);
    }

    pub(super) async fn extend_lets_a_lease_last<H: Harness>(harness: H) {
        let scene = Scene::new(harness);
        scene.one_job().await;
        let lease = scene.claim(1, at(0)).await[0];
        let kept = scene
            .queue
            .extend(&[lease], seconds(100), at(30))
            .await
            .expect("extends");
        assert_eq!(
            kept,
            [Lease {
                until: T0 + seconds(130),
                ..lease
            }]
        );
        assert_eq!(scene.claim(1, at(129)).await, []);
        assert_eq!(scene.claim(1, at(130)).await.len(), 1);
    }

    pub(super) async fn extend_of_a_lost_lease_answers_nothing<H: Harness>(harness: H) {
        let scene = Scene::new(harness);
        scene.one_job().await;
        let lost = scene.claim(1, at(0)).await[0];
        let current = scene.claim(1, at(60)).await[0];
        let kept = scene
            .queue
            .extend(&[lost, current], seconds(60), at(61))
            .await
            .expect("extends");
        assert_eq!(
            kept.iter().map(|lease| lease.fence).collect::<Vec<_>>(),
            [current.fence]
        );
    }

    pub(super) async fn settle_after_makes_it_due_later<H: Harness>(harness: H) {
        let scene = Scene::new(harness);
        scene.one_job().await;
        scene.attempt(500, RETRY, at(0)).await;
        assert_eq!(scene.claim(1, at(4)).await, []);
        assert_eq!(scene.claim(1, at(5)).await.len(), 1);
    }

    pub(super) async fn settle_by_a_stale_owner_changes_nothing<H: Harness>(harness: H) {
        let scene = Scene::new(harness);
        scene.one_job().await;
        let stale = scene.claim(1, at(0)).await[0];
        let current = scene.claim(1, at(60)).await[0];
        for settle in [
            Settle::Done,
            Settle::After(seconds(0)),
            Settle::Unused(seconds(0)),
        ] {
            scene
                .queue
                .settle(&[(stale, settle)], at(61))
                .await
                .expect("settles");
            assert_eq!(scene.claim(1, at(61)).await, [], "{settle:?}");
        }
        scene
            .queue
            .settle(&[(current, Settle::Unused(seconds(0)))], at(62))
            .await
            .expect("settles");
        assert_eq!(scene.claim(1, at(62)).await.len(), 1);
    }

    pub(super) async fn unused_lease_goes_back<H: Harness>(harness: H) {
        let scene = Scene::new(harness);
        let job = scene.one_job().await;
        let lease = scene.take(at(0)).await;
        scene
            .queue
            .settle(&[(lease, Settle::Unused(seconds(7)))], at(0))
            .await
            .expect("settles");
        assert_eq!(scene.claim(1, at(6)).await, []);
        let again = scene.claim(1, at(7)).await[0];
        assert!(again.fence > lease.fence);
        assert_eq!(
            scene.delivery(job.delivery).await.attempts,
            0,
            "waiting uses up no attempt"
        );
    }

    pub(super) async fn unused_lease_gives_its_rate_back<H: Harness>(harness: H) {
        let scene = Scene::new(harness);
        let rate = RateLimit {
            limit: 1,
            per: seconds(10),
        };
        scene
            .lane(EndpointSettings {
                rate_limit: Some(rate),
                ..Default::default()
            })
            .await;
        scene.enqueue("default", 2).await;
        let lease = scene.claim(2, at(0)).await;
        assert_eq!(lease.len(), 1);
        scene
            .queue
            .settle(&[(lease[0], Settle::Unused(seconds(0)))], at(1))
            .await
            .expect("settles");
        assert_eq!(scene.claim(2, at(1)).await.len(), 1);
    }

    pub(super) async fn hold_keeps_a_lane_back_until_it_ends<H: Harness>(harness: H) {
        let scene = Scene::new(harness);
        let held = scene.lane(EndpointSettings::default()).await;
        scene
            .queue
            .hold(held, Hold::new(seconds(30)), at(0))
            .await
            .expect("holds");
        scene.enqueue("default", 1).await;
        assert_eq!(scene.claim(10, at(29)).await, []);
        assert_eq!(lanes(&scene.claim(10, at(30)).await), [held]);
    }

    pub(super) async fn hold_is_not_shortened_by_a_shorter_one<H: Harness>(harness: H) {
        let scene = Scene::new(harness);
        let held = scene.lane(EndpointSettings::default()).await;
        scene.enqueue("default", 1).await;
        scene
            .queue
            .hold(held, Hold::new(seconds(60)), at(0))
            .await
            .expect("holds");
        scene
            .queue
            .hold(held, Hold::new(seconds(1)), at(0))
            .await
            .expect("holds");
        assert_eq!(scene.claim(10, at(59)).await, []);
        assert_eq!(scene.claim(10, at(60)).await.len(), 1);
    }

    pub(super) async fn release_ends_a_hold<H: Harness>(harness: H) {
        let scene = Scene::new(harness);
        let held = scene.lane(EndpointSettings::default()).await;
        scene.enqueue("default", 1).await;
        scene
            .queue
            .hold(held, Hold::new(std::time::Duration::MAX), at(0))
            .await
            .expect("holds");
        assert_eq!(scene.claim(10, at(86_400)).await, []);
        scene.queue.release(held).await.expect("releases");
        assert_eq!(scene.claim(10, at(86_400)).await.len(), 1);
    }

    pub(super) async fn depth_counts_what_waits<H: Harness>(harness: H) {
        let scene = Scene::new(harness);
        scene.lane(EndpointSettings::default()).await;
        scene.enqueue("default", 5).await;
        scene
            .attempt(500, Next::RetryAfter(seconds(100)), at(0))
            .await;
        scene.claim(1, at(0)).await;
        let depth = scene.queue.depth(at(1)).await.expect("counts");
        assert_eq!((depth.ready, depth.parked, depth.leased), (3, 1, 1));
        assert_eq!(depth.oldest_due, at(0));
    }

    pub(super) async fn oldest_due_is_when_a_lane_became_eligible<H: Harness>(harness: H) {
        let scene = Scene::new(harness);
        let lane = scene.lane(EndpointSettings::default()).await;
        scene.enqueue("default", 1).await;
        assert_eq!(scene.oldest_due(at(30)).await, at(0));
        let hold = async |now| {
            let held = scene.queue.hold(lane, Hold::new(seconds(60)), now).await;
            held.expect("holds");
        };
        hold(at(0)).await;
        assert_eq!(scene.oldest_due(at(59)).await, at(60));
        assert_eq!(scene.oldest_due(at(90)).await, at(60));
        hold(at(60)).await;
        scene.queue.release(lane).await.expect("releases");
        assert_eq!(scene.oldest_due(at(61)).await, at(0));
        scene.claim(1, at(61)).await;
        assert_eq!(scene.oldest_due(at(61)).await, None);
    }

    pub(super) async fn oldest_due_waits_for_a_rate<H: Harness>(harness: H) {
        let scene = Scene::new(harness);
        let rate = Some(RateLimit {
            limit: 1,
            per: seconds(60),
        });
        scene
            .lane(EndpointSettings {
                rate_limit: rate,
                ..EndpointSettings::default()
            })
            .await;
        scene.enqueue("default", 3).await;
        scene.attempt(200, Next::Succeeded, at(10)).await;
        assert_eq!(scene.oldest_due(at(20)).await, at(70));
        assert_eq!(scene.oldest_due(at(100)).await, at(70));
    }

    pub(super) async fn oldest_due_waits_for_the_head_of_an_ordered_lane<H: Harness>(harness: H) {
        let scene = Scene::new(harness);
        scene
            .lane(EndpointSettings {
                ordered: true,
                ..EndpointSettings::default()
            })
            .await;
        scene.enqueue("default", 3).await;
        let retried = Next::RetryAfter(seconds(100));
        scene.attempt(500, retried, at(10)).await;
        assert_eq!(scene.oldest_due(at(20)).await, at(110));
        scene.claim(1, at(110)).await;
        assert_eq!(scene.oldest_due(at(120)).await, None);
    }

    pub(super) async fn oldest_due_waits_for_room_below_a_cap<H: Harness>(harness: H) {
        let scene = Scene::new(harness);
        scene
            .lane(EndpointSettings {
                max_in_flight: Some(1),
                ..EndpointSettings::default()
            })
            .await;
        scene.enqueue("default", 2).await;
        let lease = scene.take(at(0)).await;
        assert_eq!(scene.oldest_due(at(10)).await, None);
        scene.record(lease, 200, Next::Succeeded, at(10)).await;
        let done = [(lease, Settle::Done)];
        scene.queue.settle(&done, at(10)).await.expect("settles");
        assert_eq!(scene.oldest_due(at(10)).await, at(0));
    }

    pub(super) async fn stale_outcome_changes_nothing<H: Harness>(harness: H) {
        let scene = Scene::new(harness);
        let job = scene.one_job().await;
        let stale = scene.take(at(0)).await;
        let current = scene.take(at(60)).await;
        assert_eq!(
            scene.record(current, 500, RETRY, at(61)).await,
            Recorded::Written
        );
        assert_eq!(
            scene.record(stale, 200, Next::Succeeded, at(62)).await,
            Recorded::Fenced
        );
        let delivery = scene.delivery(job.delivery).await;
        assert_eq!(
            (delivery.status, delivery.attempts),
            (DeliveryStatus::Pending, 1)
        );
        assert_eq!(
            scene.attempts(job.delivery).await.len(),
            1,
            "no trace of it in the attempt log"
        );
    }

    pub(super) async fn stale_owner_that_records_first_is_fenced<H: Harness>(harness: H) {
        let scene = Scene::new(harness);
        scene.one_job().await;
        let stale = scene.take(at(0)).await;
        let current = scene.take(at(60)).await;
        assert_eq!(
            scene.record(stale, 200, Next::Succeeded, at(61)).await,
            Recorded::Fenced
        );
        assert!(
            scene.load(stale, at(61)).await.is_none(),
            "the stale claim loads nothing"
        );
        assert_eq!(
            scene.record(current, 200, Next::Succeeded, at(61)).await,
            Recorded::Written
        );
        assert_eq!(
            scene.record(current, 200, Next::Succeeded, at(61)).await,
            Recorded::Fenced,
            "once only"
        );
    }

    pub(super) async fn record_needs_the_exact_fence<H: Harness>(harness: H) {
        let scene = Scene::new(harness);
        let job = scene.one_job().await;
        let lease = scene.take(at(0)).await;
        for fence in [lease.fence - 1, lease.fence + 1, 0, i64::MAX] {
            let forged = Lease { fence, ..lease };
            assert_eq!(
                scene.record(forged, 200, Next::Succeeded, at(1)).await,
                Recorded::Fenced,
                "{fence}"
            );
        }
        assert_eq!(scene.attempts(job.delivery).await.len(), 0);
        let stored = scene
            .store()
            .delivery(&ALL, job.delivery)
            .await
            .expect("reads")
            .expect("is there");
        assert_eq!(stored.status, DeliveryStatus::InProgress);
    }

    pub(super) async fn late_outcome_of_a_job_nobody_took_counts_once<H: Harness>(harness: H) {
        let scene = Scene::new(harness);
        scene.lane(EndpointSettings::default()).await;
        scene.enqueue("default", 2).await;
        let late = [scene.take(at(0)).await, scene.take(at(0)).await];
        let again = scene.claim(1, at(61)).await[0];
        let late = late
            .into_iter()
            .find(|lease| lease.delivery != again.delivery)
            .expect("one of two");
        scene.load(again, at(61)).await;
        let retry = Next::RetryAfter(seconds(100));
        assert_eq!(
            scene.record(late, 500, retry, at(62)).await,
            Recorded::Written
        );
        scene
            .queue
            .settle(&[(late, Settle::After(seconds(100)))], at(62))
            .await
            .expect("settles");
        assert_eq!(
            scene.record(again, 200, Next::Succeeded, at(63)).await,
            Recorded::Written
        );
        scene
            .queue
            .settle(&[(again, Settle::Done)], at(63))
            .await
            .expect("settles");
        assert!(scene.runnable(at(64)).await.is_empty(), "it is not due");
        let claimed = scene.claim(100, at(162)).await;
        let claimed: Vec<_> = claimed.iter().map(|lease| lease.delivery).collect();
        assert_eq!(claimed, [late.delivery], "once");
        assert!(scene.runnable(at(163)).await.is_empty(), "and not twice");
    }

    pub(super) async fn rate_that_is_raised_holds_at_once<H: Harness>(harness: H) {
        let scene = Scene::new(harness);
        let rate = |limit, per| {
            Some(RateLimit {
                limit,
                per: seconds(per),
            })
        };
        let slow = EndpointSettings {
            rate_limit: rate(1, 86_400),
            ..Default::default()
        };
        let mut endpoint = scene.endpoint("default", slow).await;
        scene.enqueue("default", 3).await;
        assert_eq!(scene.claim(3, at(0)).await.len(), 1);
        endpoint.version += 1;
        endpoint.settings.rate_limit = rate(100, 1);
        assert!(
            scene
                .store()
                .update_endpoint(&endpoint)
                .await
                .expect("answers")
        );
        // A queue beside the store hears of it with the next job.
        scene.enqueue("default", 1).await;
        assert_eq!(scene.claim(3, at(1)).await.len(), 3);
    }

    fn patterns(event_type: &str) -> Vec<crate::filter::EventPattern> {
        vec![event_type.parse().expect("a pattern")]
    }

    fn lanes(leases: &[Lease]) -> Vec<uuid::Uuid> {
        leases.iter().map(|lease| lease.lane).collect()
    }
}

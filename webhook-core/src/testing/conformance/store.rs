//! The suite of a [`Store`](crate::Store).

use super::suite;

/// The checks of a store: one list for the wrappers and for a backend's tests.
#[doc(hidden)]
#[macro_export]
macro_rules! __store_checks {
    ([$($then:tt)*] $($args:tt)*) => {
        $($then)*! {
            $($args)*
            event_goes_to_the_endpoints_that_accept_it,
            event_goes_to_its_own_tenant_only,
            insert_with_the_same_ids_adds_nothing,
            replay_survives_a_repeated_insert,
            bytes_come_back_as_they_were_given,
            same_key_and_content_is_the_first_event,
            same_key_with_other_content_is_a_conflict,
            same_key_of_another_tenant_is_another_event,
            same_key_within_one_insert_counts_once,
            key_stands_for_as_long_as_its_event_says,
            what_a_live_delivery_needs_outlives_the_retention,
            conflict_can_abort_the_whole_insert,
            deliver_at_is_when_it_is_due,
            trace_comes_back_with_its_event,
            attempts_are_logged_as_they_were,
            outcomes_move_the_delivery_on,
            ended_deliveries_never_change,
            ended_delivery_is_told_at_load,
            early_claim_is_told_at_load,
            claim_of_what_another_leases_is_told_at_load,
            what_is_handed_back_is_free_at_once,
            tenant_gets_no_more_endpoints_than_it_may_have,
            claim_out_of_order_is_told_at_load,
            quarantine_makes_a_dead_letter_of_what_is_claimed,
            gone_disables_the_endpoint,
            health_is_kept_of_those_in_trouble,
            breaker_opens_again_and_closes_once_each,
            vitals_count_those_in_trouble,
            stale_outcome_changes_no_health,
            notice_is_given_once_with_its_event,
            disabling_is_told_once,
            endpoint_that_has_recovered_is_not_disabled,
            endpoint_that_recovers_in_the_same_batch_is_not_disabled,
            endpoint_that_recovers_begins_anew,
            endpoint_that_recovers_while_paused_is_probed_no_more,
            deleted_endpoint_takes_its_health_along,
            load_tells_how_the_endpoint_does,
            open_breaker_is_told_at_load,
            unqueued_pages_through_what_is_live,
            jobs_tells_which_are_live,
            job_under_a_lease_is_due_when_it_ends,
            overdue_are_those_that_are_due_and_nobody_owns,
            fills_are_kept_as_they_were_written,
            of_two_writers_of_a_fill_one_succeeds,
            endpoint_comes_back_as_it_was_given,
            endpoint_changes_need_the_next_version,
            deleted_endpoint_takes_its_live_deliveries_along,
            paused_endpoint_gathers_and_disabled_one_does_not,
            test_event_goes_to_its_endpoint_only,
            test_event_needs_an_enabled_endpoint_of_its_tenant,
            pages_are_newest_first_without_gaps,
            endpoints_are_found_by_their_state,
            deliveries_are_found_by_each_filter,
            events_are_found_by_each_filter,
            events_are_listed_without_their_bodies,
            replay_is_a_new_delivery,
            replay_needs_an_ended_delivery,
            replay_of_an_event_goes_to_those_that_match_now,
            bulk_replay_makes_one_of_each_in_order,
            bulk_replay_never_replays_what_it_made,
            bulk_replay_passes_over_what_was_replayed_since,
            bulk_replay_selects_by_each_filter,
            bulk_replay_of_an_endpoint_makes_what_it_missed,
            bulk_replay_of_an_endpoint_keeps_to_its_time_and_status,
            bulk_replay_of_an_endpoint_ends_with_it,
            bulk_replay_keeps_to_its_pace,
            bulk_replay_step_is_taken_once,
            bulk_replay_can_be_cancelled,
            bulk_replays_are_seen_in_their_scope,
            bulk_replays_end_with_the_retention,
            failures_are_told_apart_by_whose_they_are,
            cancel_ends_a_live_delivery_once,
            scope_is_a_wall_to_those_who_read,
            scope_is_a_wall_to_those_who_change,
            every_call_with_a_scope_is_a_wall,
            stats_of_all_processes_are_added_up,
            stats_are_found_by_time_and_endpoint,
            stats_of_another_tenant_are_not_seen,
            stats_become_coarser_and_keep_their_sums,
            stats_end_with_the_retention,
            event_type_comes_back_as_it_was_put,
            event_type_that_is_put_again_is_replaced,
            event_types_are_paged_newest_first,
            schemas_are_told_once_for_each_version,
            audit_entry_comes_back_as_it_was_appended_once,
            audit_entries_are_seen_in_their_scope,
            audit_entries_are_found_by_each_filter,
            audit_is_paged_newest_first,
            audit_ends_with_the_retention,
            erased_tenant_leaves_nothing_and_the_others_everything,
            erased_tenant_gets_nothing_from_then_on,
            attempt_that_outlives_its_tenant_leaves_nothing,
            what_comes_after_an_erasure_is_a_new_tenants,
            key_of_what_is_erased_is_free_at_once,
            what_comes_after_an_erasure_stays_by_whatever_clock,
            second_erasure_takes_what_the_first_has_spared,
            erasure_goes_in_bounded_steps_and_looks_once_more,
            process_is_alive_while_it_says_so,
            backlog_is_what_waits_for_one_endpoint,
            backlog_is_counted_so_far_and_no_further,
        }
    };
}

/// A backend's `#[test]`s for its store. The argument is a [`Harness`](crate::testing::Harness).
#[macro_export]
macro_rules! store_conformance {
    ($harness:ty) => {
        $crate::__store_checks! { [$crate::__conformance_tests] store, $harness, }
    };
}

__store_checks! { [suite] Harness, }

mod checks {
    use std::collections::BTreeSet;

    use futures_util::future::join_all;
    use uuid::Uuid;

    pub(super) use super::super::audit::{
        audit_ends_with_the_retention, audit_entries_are_found_by_each_filter,
        audit_entries_are_seen_in_their_scope, audit_entry_comes_back_as_it_was_appended_once,
        audit_is_paged_newest_first,
    };
    pub(super) use super::super::catalogue::*;
    use super::super::checks::*;
    pub(super) use super::super::erasures::*;
    pub(super) use super::super::health::{
        breaker_opens_again_and_closes_once_each, deleted_endpoint_takes_its_health_along,
        disabling_is_told_once, endpoint_that_has_recovered_is_not_disabled,
        endpoint_that_recovers_begins_anew,
        endpoint_that_recovers_in_the_same_batch_is_not_disabled,
        endpoint_that_recovers_while_paused_is_probed_no_more, health_is_kept_of_those_in_trouble,
        load_tells_how_the_endpoint_does, notice_is_given_once_with_its_event,
        open_breaker_is_told_at_load, stale_outcome_changes_no_health,
        vitals_count_those_in_trouble,
    };
    pub(super) use super::super::replays::*;
    pub(super) use super::super::stats::*;
    pub(super) use super::super::walls::*;
    use super::super::{Harness, endpoint_for};
    use crate::delivery::{Delivery, DeliveryStatus, EndReason, Failure, Outcome};
    use crate::endpoint::{EndpointSettings, EndpointState, RateLimit, StateReason};
    use crate::event::{Event, EventType, NewEvent};
    use crate::headers::CustomHeaders;
    use crate::queue::{Job, Lease, Settle};
    use crate::retry::Next;
    use crate::store::{
        Changed, DeliveryFilter, EndpointFilter, EventFilter, Fill, InsertOptions, Inserted,
        OnConflict, Recorded, Store, Verdict,
    };
    use crate::tenant::{Page, PageRequest, Scope, Tenant};
    use crate::testing::event_for;
    use crate::time::Timestamp;

    const ENDS: [(Next, DeliveryStatus); 3] = [
        (Next::Succeeded, DeliveryStatus::Succeeded),
        (Next::Failed(EndReason::Exhausted), DeliveryStatus::Failed),
        (
            Next::Cancelled(EndReason::Filtered),
            DeliveryStatus::Cancelled,
        ),
    ];

    fn wanting(patterns: &[&str]) -> EndpointSettings {
        let event_types = patterns
            .iter()
            .map(|pattern| pattern.parse().expect("a pattern"))
            .collect();
        EndpointSettings {
            event_types,
            ..Default::default()
        }
    }

    fn keyed(id: u128, data: &'static str, tenant: &str, now: Timestamp) -> Event {
        let event = NewEvent::data("a", data).and_then(|event| event.idempotency_key("key"));
        event
            .expect("valid")
            .tenant(Tenant::new(tenant).expect("valid"))
            .stamp(Uuid::from_u128(id), now)
    }

    async fn insert<H: Harness>(scene: &Scene<H>, events: &[Event], seconds: u64) -> Vec<Inserted> {
        let insertion = scene
            .store()
            .insert_events(events, &InsertOptions::new(OnConflict::Skip), at(seconds))
            .await;
        insertion.expect("events are stored").events
    }

    async fn deliveries<H: Harness>(scene: &Scene<H>, filter: DeliveryFilter) -> Vec<Delivery> {
        scene
            .store()
            .deliveries(&ALL, &filter, PAGE)
            .await
            .expect("deliveries are read")
            .items
    }

    pub(super) async fn event_goes_to_the_endpoints_that_accept_it<H: Harness>(harness: H) {
        let scene = Scene::new(harness);
        let mut wanted = BTreeSet::new();
        for patterns in [
            &[][..],
            &["*"],
            &["order.*"],
            &["order.paid"],
            &["x", "order.paid"],
        ] {
            wanted.insert(scene.lane(wanting(patterns)).await);
        }
        for patterns in [
            &["order"][..],
            &["order.paid.*"],
            &["orders.*"],
            &["invoice.paid"],
        ] {
            scene.lane(wanting(patterns)).await;
        }
        let jobs = scene
            .insert(&[event_for("default", "order.paid", "1", T0)], at(0))
            .await;
        assert_eq!(
            jobs.iter().map(|job| job.lane).collect::<BTreeSet<_>>(),
            wanted
        );
        assert_eq!(jobs.len(), wanted.len());
    }

    pub(super) async fn event_goes_to_its_own_tenant_only<H: Harness>(harness: H) {
        let scene = Scene::new(harness);
        scene.endpoint("a", EndpointSettings::default()).await;
        let own = scene.endpoint("b", EndpointSettings::default()).await;
        let jobs = scene.enqueue("b", 1).await;
        assert_eq!(
            jobs.iter().map(|job| job.lane).collect::<Vec<_>>(),
            [own.id]
        );
        assert_eq!(
            scene.enqueue("c", 1).await,
            [],
            "an event without a taker is accepted all the same"
        );
    }

    pub(super) async fn insert_with_the_same_ids_adds_nothing<H: Harness>(harness: H) {
        let scene = Scene::new(harness);
        scene.lane(EndpointSettings::default()).await;
        let events = [
            event_for("default", "a", "1", T0),
            event_for("default", "a", "2", T0),
        ];
        insert(&scene, &events, 0).await;
        insert(&scene, &events, 1).await;
        assert_eq!(deliveries(&scene, DeliveryFilter::default()).await.len(), 2);
        let claimed = scene.claim(10, at(1)).await.len();
        assert!(
            claimed == 2 || claimed == 0,
            "each once, or none in a queue beside that nothing was pushed to: {claimed}"
        );
    }

    pub(super) async fn replay_survives_a_repeated_insert<H: Harness>(harness: H) {
        let scene = Scene::new(harness);
        scene.lane(EndpointSettings::default()).await;
        let event = [event_for("default", "a", "1", T0)];
        scene.insert(&event, at(0)).await;
        scene.attempt(200, Next::Succeeded, at(0)).await;
        let jobs = scene.insert(&event, at(1)).await;
        assert_eq!(jobs, [], "what has ended is not brought back");
        assert_eq!(deliveries(&scene, DeliveryFilter::default()).await.len(), 1);
    }

    pub(super) async fn bytes_come_back_as_they_were_given<H: Harness>(harness: H) {
        let scene = Scene::new(harness);
        scene.lane(EndpointSettings::default()).await;
        let texts = [
            r#"{"b":1,"a":2,"a":3}"#,
            "1e400",
            "123456789012345678901234567890.10",
            r#"{ "nul" : "\u0000", "crab" : "🦀" }"#,
            " [ 1 ,\t2 ]\r\n",
        ];
        let mut events: Vec<_> = texts
            .iter()
            .map(|text| event_for("default", "a", text, T0))
            .collect();
        let raw = NewEvent::raw("a", &b"\xff\xfe\0raw"[..]).expect("valid");
        events.push(raw.stamp(Uuid::from_u128(1), T0));
        scene.insert(&events, at(0)).await;
        for event in &events {
            let stored = scene
                .store()
                .event(&ALL, event.id)
                .await
                .expect("reads")
                .expect("is there");
            assert_eq!(stored.body, event.body);
        }
        for lease in scene.claim(10, at(0)).await {
            let Some(Verdict::Run(work)) =
                scene.load(lease, at(0)).await.map(|loaded| loaded.verdict)
            else {
                panic!("the delivery is live");
            };
            assert!(
                events
                    .iter()
                    .any(|event| event.id == work.event.id && event.body == work.event.body)
            );
        }
    }

    pub(super) async fn same_key_and_content_is_the_first_event<H: Harness>(harness: H) {
        let scene = Scene::new(harness);
        scene.lane(EndpointSettings::default()).await;
        let (first, second) = (
            keyed(1, "1", "default", T0),
            keyed(2, "1", "default", T0 + seconds(1)),
        );
        assert_eq!(
            insert(&scene, std::slice::from_ref(&first), 0).await,
            [Inserted::New]
        );
        assert_eq!(
            insert(&scene, &[second], 1).await,
            [Inserted::Existing(first.id)]
        );
        assert_eq!(
            insert(&scene, &[first], 1).await,
            [Inserted::New],
            "the same call again"
        );
        assert_eq!(deliveries(&scene, DeliveryFilter::default()).await.len(), 1);
    }

    pub(super) async fn same_key_with_other_content_is_a_conflict<H: Harness>(harness: H) {
        let scene = Scene::new(harness);
        let first = keyed(1, "1", "default", T0);
        insert(&scene, std::slice::from_ref(&first), 0).await;
        let events = [
            keyed(2, "2", "default", T0),
            event_for("default", "a", "3", T0),
        ];
        assert_eq!(
            insert(&scene, &events, 0).await,
            [Inserted::Conflict(first.id), Inserted::New]
        );
        assert_eq!(
            scene
                .store()
                .event(&ALL, events[0].id)
                .await
                .expect("reads"),
            None
        );
        assert!(
            scene
                .store()
                .event(&ALL, events[1].id)
                .await
                .expect("reads")
                .is_some()
        );
    }

    pub(super) async fn same_key_of_another_tenant_is_another_event<H: Harness>(harness: H) {
        let scene = Scene::new(harness);
        let events = [keyed(1, "1", "a", T0), keyed(2, "2", "b", T0)];
        assert_eq!(
            insert(&scene, &events, 0).await,
            [Inserted::New, Inserted::New]
        );
    }

    pub(super) async fn same_key_within_one_insert_counts_once<H: Harness>(harness: H) {
        let scene = Scene::new(harness);
        let [a, b, c] =
            [(1, "1"), (2, "1"), (3, "2")].map(|(id, data)| keyed(id, data, "default", T0));
        let first = a.id;
        let inserted = insert(&scene, &[a, b, c], 0).await;
        assert_eq!(
            inserted,
            [
                Inserted::New,
                Inserted::Existing(first),
                Inserted::Conflict(first)
            ]
        );
        let events = scene
            .store()
            .events(&ALL, &EventFilter::default(), PAGE)
            .await
            .expect("reads")
            .items;
        assert_eq!(events.len(), 1);
    }

    pub(super) async fn key_stands_for_as_long_as_its_event_says<H: Harness>(harness: H) {
        let scene = Scene::new(harness);
        let retention = seconds(30 * 86_400);
        for (id, tenant, window) in [(10, "a", 86_400), (20, "b", 600), (30, "c", 2 * 86_400)] {
            let event = |id, data, window, now| {
                let mut event = keyed(id, data, tenant, T0 + seconds(now));
                if let Some(key) = &mut event.idempotency {
                    key.window = seconds(window);
                }
                [event]
            };
            let first = event(id, "1", window, 0);
            assert_eq!(insert(&scene, &first, 0).await, [Inserted::New]);
            scene
                .store()
                .maintain(retention, at(window - 1))
                .await
                .expect("keeps house");
            // The window of the first counts.
            let early = event(id + 1, "2", 1, window - 1);
            assert_eq!(
                insert(&scene, &early, window - 1).await,
                [Inserted::Conflict(first[0].id)]
            );
            let late = event(id + 2, "3", window, window);
            assert_eq!(insert(&scene, &late, window).await, [Inserted::New]);
        }
    }

    pub(super) async fn what_a_live_delivery_needs_outlives_the_retention<H: Harness>(harness: H) {
        let scene = Scene::new(harness);
        let day = |day: u64| at(day * 86_400);
        let maintain = async |now| {
            let kept = scene.store().maintain(seconds(30 * 86_400), now).await;
            kept.expect("keeps house");
        };
        // So that a backend can make room for that day.
        maintain(day(0)).await;
        let job = scene.one_job().await;
        let later = Next::RetryAfter(seconds(60 * 86_400));
        scene.attempt(500, later, day(0)).await;
        let event = scene.delivery(job.delivery).await.event_id;
        let read = async || scene.store().event(&ALL, event).await.expect("reads");
        let stored = read().await;
        assert!(stored.is_some());
        maintain(day(40)).await;
        assert_eq!(scene.attempts(job.delivery).await.len(), 1);
        assert_eq!(read().await, stored);

        scene.attempt(200, Next::Succeeded, day(60)).await;
        // It has ended only lately.
        maintain(day(80)).await;
        let ended = scene.delivery(job.delivery).await;
        assert_eq!(
            (ended.status, ended.attempts),
            (DeliveryStatus::Succeeded, 2)
        );
        assert_eq!(scene.attempts(job.delivery).await.len(), 2);
        assert_eq!(read().await, stored);
    }

    pub(super) async fn conflict_can_abort_the_whole_insert<H: Harness>(harness: H) {
        let scene = Scene::new(harness);
        scene.lane(EndpointSettings::default()).await;
        let first = keyed(1, "1", "default", T0);
        insert(&scene, std::slice::from_ref(&first), 0).await;
        let events = [
            event_for("default", "a", "3", T0),
            keyed(2, "2", "default", T0),
        ];
        let insertion = scene
            .store()
            .insert_events(&events, &InsertOptions::new(OnConflict::Abort), at(0))
            .await
            .expect("answers");
        assert_eq!(insertion.events[1], Inserted::Conflict(first.id));
        assert_eq!(insertion.jobs, []);
        assert_eq!(
            scene
                .store()
                .event(&ALL, events[0].id)
                .await
                .expect("reads"),
            None
        );
        assert_eq!(deliveries(&scene, DeliveryFilter::default()).await.len(), 1);
    }

    pub(super) async fn deliver_at_is_when_it_is_due<H: Harness>(harness: H) {
        let scene = Scene::new(harness);
        scene.lane(EndpointSettings::default()).await;
        let event = |id, seconds_| {
            let event = NewEvent::data("a", "1")
                .expect("valid")
                .deliver_at(T0 + seconds(seconds_));
            event.stamp(Uuid::from_u128(id), T0)
        };
        let jobs = scene.insert(&[event(1, 60)], at(10)).await;
        assert_eq!(jobs[0].due, T0 + seconds(60));
        assert_eq!(scene.delivery(jobs[0].delivery).await.next_retry_at, at(60));
        let past = scene.insert(&[event(2, 5)], at(10)).await;
        assert_eq!(
            past[0].due,
            T0 + seconds(10),
            "a time that has passed is now"
        );
    }

    pub(super) async fn trace_comes_back_with_its_event<H: Harness>(harness: H) {
        const TEXT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let scene = Scene::new(harness);
        scene.lane(EndpointSettings::default()).await;
        let parent = TEXT.parse().expect("valid");
        let event = |id: u128| {
            let event = NewEvent::data("a", "1").expect("valid");
            event.traceparent(parent).stamp(Uuid::from_u128(id), T0)
        };
        let mut keyed = event(2);
        let key = NewEvent::data("a", "1").and_then(|event| event.idempotency_key("key"));
        keyed.idempotency = key.expect("valid").stamp(keyed.id, T0).idempotency;
        let without = event_for("default", "a", "1", T0);
        for (event, expected) in [
            (event(1), Some(parent)),
            (keyed, Some(parent)),
            (without, None),
        ] {
            let id = event.id;
            scene.insert(&[event], at(0)).await;
            let lease = scene.claim(1, at(0)).await.remove(0);
            let loaded = scene.load(lease, at(0)).await.expect("it is current");
            let Verdict::Run(work) = loaded.verdict else {
                panic!("the delivery is live");
            };
            assert_eq!((work.event.id, work.event.traceparent), (id, expected));
            let stored = scene.store().event(&Scope::All, id).await;
            let stored = stored.expect("reads").expect("it is there");
            assert_eq!(stored.traceparent, expected);
        }
    }

    pub(super) async fn attempts_are_logged_as_they_were<H: Harness>(harness: H) {
        let scene = Scene::new(harness);
        let job = scene.one_job().await;
        scene
            .attempt(503, Next::RetryAfter(seconds(5)), at(0))
            .await;
        scene.attempt(200, Next::Succeeded, at(5)).await;
        let attempts = scene.attempts(job.delivery).await;
        let statuses: Vec<_> = attempts
            .iter()
            .map(|attempt| match &attempt.outcome {
                Outcome::Response { status, body, .. } => (*status, body.clone()),
                Outcome::Failed(kind) => panic!("{kind:?}"),
            })
            .collect();
        let body = bytes::Bytes::from_static(b"\xff\0");
        assert_eq!(
            statuses,
            [(503, body.clone()), (200, body)],
            "oldest first, bytes as they came"
        );
        assert_eq!(attempts[0].duration, std::time::Duration::from_millis(12));
        assert_eq!(attempts[0].started_at, T0);
        assert_eq!(attempts[0].request_headers.get("x-kept"), Some(&b"yes"[..]));
    }

    pub(super) async fn outcomes_move_the_delivery_on<H: Harness>(harness: H) {
        let scene = Scene::new(harness);
        let job = scene.one_job().await;
        let waiting = scene.delivery(job.delivery).await;
        assert_eq!(
            (waiting.status, waiting.next_retry_at),
            (DeliveryStatus::Pending, at(0))
        );
        let lease = scene.take(at(1)).await;
        assert_eq!(
            scene.delivery(job.delivery).await.status,
            DeliveryStatus::InProgress
        );
        scene
            .record(lease, 503, Next::RetryAfter(seconds(5)), at(2))
            .await;
        let failed_once = scene.delivery(job.delivery).await;
        assert_eq!(
            (failed_once.status, failed_once.attempts),
            (DeliveryStatus::Pending, 1)
        );
        assert_eq!(
            (failed_once.next_retry_at, failed_once.last_error),
            (at(7), Some(Failure::Status(503)))
        );
        scene
            .queue
            .settle(&[(lease, crate::queue::Settle::After(seconds(5)))], at(2))
            .await
            .expect("settles");
        scene.attempt(200, Next::Succeeded, at(7)).await;
        let ended = scene.delivery(job.delivery).await;
        assert_eq!(
            (ended.status, ended.attempts),
            (DeliveryStatus::Succeeded, 2)
        );
        assert_eq!(
            (ended.next_retry_at, ended.last_error, ended.end_reason),
            (None, None, None)
        );
        assert_eq!(scene.claim(1, at(99_999)).await, []);
    }

    pub(super) async fn ended_deliveries_never_change<H: Harness>(harness: H) {
        let scene = Scene::new(harness);
        scene.lane(EndpointSettings::default()).await;
        for (end, status) in ENDS {
            let id = scene.enqueue("default", 1).await[0].delivery;
            let lease = scene.attempt(200, end, at(0)).await;
            for next in ENDS
                .map(|(next, _)| next)
                .into_iter()
                .chain([Next::RetryAfter(seconds(0))])
            {
                assert_eq!(
                    scene.record(lease, 500, next, at(1)).await,
                    Recorded::Fenced
                );
            }
            assert_eq!(
                scene
                    .store()
                    .cancel_delivery(&ALL, id, at(1))
                    .await
                    .expect("answers"),
                Changed::Refused
            );
            assert_eq!(scene.delivery(id).await.status, status);
            assert_eq!(scene.attempts(id).await.len(), 1);
            assert_eq!(scene.store().jobs(&[id]).await.expect("reads"), []);
        }
    }

    pub(super) async fn ended_delivery_is_told_at_load<H: Harness>(harness: H) {
        let scene = Scene::new(harness);
        let job = scene.one_job().await;
        let lease = scene.claim(1, at(0)).await[0];
        scene
            .store()
            .cancel_delivery(&ALL, job.delivery, at(0))
            .await
            .expect("cancels");
        let loaded = scene.load(lease, at(0)).await.expect("answers");
        assert!(matches!(loaded.verdict, Verdict::Ended));
        assert_eq!(
            scene.record(lease, 200, Next::Succeeded, at(0)).await,
            Recorded::Fenced
        );
        assert_eq!(
            scene.delivery(job.delivery).await.end_reason,
            Some(EndReason::Requested)
        );
    }

    pub(super) async fn early_claim_is_told_at_load<H: Harness>(harness: H) {
        let scene = Scene::new(harness);
        scene.one_job().await;
        let lease = scene
            .attempt(503, Next::RetryAfter(seconds(60)), at(0))
            .await;
        // What a queue would claim that has forgotten the retry's time.
        let early = Lease {
            fence: lease.fence + 7,
            ..lease
        };
        let loaded = scene.load(early, at(20)).await.expect("answers");
        assert!(
            matches!(loaded.verdict, Verdict::Early(by) if by == seconds(40)),
            "{loaded:?}"
        );
        assert_eq!(
            scene.record(early, 200, Next::Succeeded, at(20)).await,
            Recorded::Fenced
        );
        assert_eq!(
            scene.delivery(lease.delivery).await.status,
            DeliveryStatus::Pending
        );
    }

    pub(super) async fn claim_of_what_another_leases_is_told_at_load<H: Harness>(harness: H) {
        let scene = Scene::new(harness);
        let job = scene.one_job().await;
        // As two queues would that do not know of each other.
        let claim = |fence, until| Lease {
            delivery: job.delivery,
            lane: job.lane,
            fence: job.fence + fence,
            until,
        };
        let (first, second) = (claim(1_000, T0 + LEASE), claim(2_000, T0 + LEASE * 2));
        let loaded = scene.load(first, at(0)).await.expect("answers");
        assert!(matches!(loaded.verdict, Verdict::Run(_)), "{loaded:?}");
        let before = Some(T0 + LEASE - seconds(5));
        let loaded = scene.load(second, before).await.expect("answers");
        assert!(
            matches!(loaded.verdict, Verdict::Early(by) if by == seconds(5)),
            "{loaded:?}"
        );
        assert_eq!(
            scene.record(second, 200, Next::Succeeded, before).await,
            Recorded::Fenced
        );
        let loaded = scene.load(first, before).await.expect("still its own");
        assert!(matches!(loaded.verdict, Verdict::Run(_)), "{loaded:?}");

        let end = Some(T0 + LEASE);
        let loaded = scene.load(second, end).await.expect("answers");
        assert!(matches!(loaded.verdict, Verdict::Run(_)), "{loaded:?}");
        assert_eq!(
            scene.record(first, 200, Next::Succeeded, end).await,
            Recorded::Fenced
        );
    }

    pub(super) async fn what_is_handed_back_is_free_at_once<H: Harness>(harness: H) {
        let scene = Scene::new(harness);
        let job = scene.one_job().await;
        let claim = |fence| Lease {
            delivery: job.delivery,
            lane: job.lane,
            fence: job.fence + fence,
            until: T0 + LEASE,
        };
        let (first, second) = (claim(1_000), claim(2_000));
        let loaded = scene.load(first, at(0)).await.expect("answers");
        assert!(matches!(loaded.verdict, Verdict::Run(_)), "{loaded:?}");
        // Whichever queue claimed it.
        let Some(own) = scene.store().queue() else {
            return;
        };
        let hand_back = async |lease, now| {
            let back = [(lease, Settle::Unused(seconds(5)))];
            own.settle(&back, now).await.expect("it goes back");
        };
        hand_back(second, at(1)).await;
        assert_eq!(
            scene.delivery(job.delivery).await.status,
            DeliveryStatus::InProgress,
            "it was another's"
        );
        hand_back(first, at(1)).await;
        assert_eq!(
            scene.delivery(job.delivery).await.status,
            DeliveryStatus::Pending
        );
        let loaded = scene.load(second, at(6)).await.expect("answers");
        assert!(matches!(loaded.verdict, Verdict::Run(_)), "{loaded:?}");
        hand_back(first, at(6)).await;
        assert_eq!(
            scene.record(second, 200, Next::Succeeded, at(6)).await,
            Recorded::Written
        );
    }

    pub(super) async fn tenant_gets_no_more_endpoints_than_it_may_have<H: Harness>(harness: H) {
        let scene = Scene::new(harness);
        let insert = async |tenant, most| {
            let endpoint = endpoint_for(tenant, EndpointSettings::default());
            let inserted = scene.store().insert_endpoint(&endpoint, most).await;
            inserted.expect("the store answers").then_some(endpoint.id)
        };
        let many = (0..8).map(|_| insert("acme", 3));
        let stored: Vec<_> = join_all(many).await.into_iter().flatten().collect();
        assert_eq!(stored.len(), 3, "of all that come side by side");
        assert_eq!(insert("acme", 3).await, None);
        let of_acme = Scope::Tenant(Tenant::new("acme").expect("valid"));
        let all = EndpointFilter::default();
        let listed = scene
            .store()
            .endpoints(&of_acme, &all, PageRequest::first(10));
        assert_eq!(listed.await.expect("they are listed").items.len(), 3);

        assert!(insert("umbrella", 3).await.is_some(), "another's room");
        assert!(insert("acme", 4).await.is_some());
        assert_eq!(insert("acme", 2).await, None, "there are more already");
        assert_eq!(insert("hermit", 0).await, None);
        for id in stored {
            let deleted = scene.store().delete_endpoint(&of_acme, id, at(0)).await;
            assert!(deleted.expect("it is deleted"));
        }
        assert!(insert("acme", 2).await.is_some(), "there is room again");
    }

    pub(super) async fn claim_out_of_order_is_told_at_load<H: Harness>(harness: H) {
        let scene = Scene::new(harness);
        let ordered = EndpointSettings {
            ordered: true,
            ..Default::default()
        };
        scene.lane(ordered).await;
        let mut jobs = scene.enqueue("default", 3).await;
        jobs.sort_by_key(|job| job.sequence);
        // What a queue would claim that does not know of those before it.
        let claim = |index: usize, fence| Lease {
            delivery: jobs[index].delivery,
            lane: jobs[index].lane,
            fence: jobs[index].fence + fence,
            until: T0 + LEASE,
        };
        let (retry, later) = (Next::RetryAfter(seconds(60)), at(20));
        scene.attempt(503, retry, at(0)).await;
        for index in [1, 2] {
            let lease = claim(index, 1_000);
            let loaded = scene.load(lease, later).await.expect("answers");
            assert!(
                matches!(loaded.verdict, Verdict::Behind(head) if head == jobs[0].delivery),
                "{loaded:?}"
            );
            assert_eq!(
                scene.record(lease, 200, Next::Succeeded, later).await,
                Recorded::Fenced
            );
            let waiting = scene.delivery(lease.delivery).await;
            assert_eq!(waiting.status, DeliveryStatus::Pending);
        }
        scene.attempt(200, Next::Succeeded, at(60)).await;
        let next = claim(1, 2_000);
        let loaded = scene.load(next, at(60)).await.expect("answers");
        assert!(matches!(loaded.verdict, Verdict::Run(_)), "{loaded:?}");
        let loaded = scene.load(claim(2, 2_000), at(60)).await.expect("answers");
        assert!(
            matches!(loaded.verdict, Verdict::Behind(head) if head == next.delivery),
            "what is in progress comes first, too: {loaded:?}"
        );
    }

    pub(super) async fn quarantine_makes_a_dead_letter_of_what_is_claimed<H: Harness>(harness: H) {
        let scene = Scene::new(harness);
        scene.lane(EndpointSettings::default()).await;
        scene.enqueue("default", 3).await;
        let ended = scene.attempt(200, Next::Succeeded, at(0)).await;
        let [unread, loaded] = scene.claim(2, at(0)).await[..] else {
            panic!("two jobs are left");
        };
        scene.load(loaded, at(0)).await.expect("it is live");
        let stale = Lease {
            fence: loaded.fence - 1,
            ..loaded
        };
        let quarantined = scene
            .store()
            .quarantine(&[ended, unread, stale], at(1))
            .await;
        quarantined.expect("they are put aside");
        let state = async |lease: Lease| {
            let delivery = scene.delivery(lease.delivery).await;
            (delivery.status, delivery.end_reason, delivery.attempts)
        };
        let dead = (DeliveryStatus::Failed, Some(EndReason::Corrupt), 0);
        assert_eq!(state(unread).await, dead);
        assert_eq!(state(loaded).await, (DeliveryStatus::InProgress, None, 0));
        assert_eq!(state(ended).await, (DeliveryStatus::Succeeded, None, 1));
        let again = scene.load(unread, at(1)).await.expect("answers");
        assert!(matches!(again.verdict, Verdict::Ended));
        let quarantined = scene.store().quarantine(&[loaded], at(1)).await;
        quarantined.expect("it is put aside");
        assert_eq!(state(loaded).await, dead);
    }

    pub(super) async fn gone_disables_the_endpoint<H: Harness>(harness: H) {
        let scene = Scene::new(harness);
        let endpoint = scene.lane(EndpointSettings::default()).await;
        scene.enqueue("default", 1).await;
        scene
            .attempt(410, Next::Failed(EndReason::Permanent), at(3))
            .await;
        let endpoint = scene
            .store()
            .endpoint(&ALL, endpoint)
            .await
            .expect("reads")
            .expect("is there");
        assert_eq!(
            (endpoint.state, endpoint.state_reason),
            (EndpointState::Disabled, Some(StateReason::Gone))
        );
        assert_eq!(endpoint.version, 2);
        assert_eq!(scene.enqueue("default", 1).await, []);
    }

    pub(super) async fn unqueued_pages_through_what_is_live<H: Harness>(harness: H) {
        let scene = Scene::new(harness);
        scene.lane(EndpointSettings::default()).await;
        let jobs = scene.enqueue("default", 10).await;
        let ended = scene.attempt(200, Next::Succeeded, at(0)).await.delivery;
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = scene.store().unqueued(after, 4).await.expect("reads");
            assert!(page.len() <= 4);
            let Some(last) = page.last() else { break };
            after = Some(last.delivery);
            seen.extend(page.iter().map(|job| job.delivery));
        }
        let mut live: Vec<_> = jobs
            .iter()
            .map(|job| job.delivery)
            .filter(|id| *id != ended)
            .collect();
        live.sort_unstable();
        assert_eq!(seen, live);
    }

    pub(super) async fn jobs_tells_which_are_live<H: Harness>(harness: H) {
        let scene = Scene::new(harness);
        scene.lane(EndpointSettings::default()).await;
        let jobs = scene.enqueue("default", 3).await;
        let lease = scene
            .attempt(503, Next::RetryAfter(seconds(60)), at(0))
            .await;
        let ended = scene.attempt(200, Next::Succeeded, at(0)).await.delivery;
        let mut asked: Vec<_> = jobs.iter().map(|job| job.delivery).collect();
        asked.push(Uuid::from_u128(404));
        let live = scene.store().jobs(&asked).await.expect("reads");
        assert_eq!(live.len(), 2);
        assert!(live.iter().all(|job| job.delivery != ended));
        let retried = live
            .iter()
            .find(|job| job.delivery == lease.delivery)
            .expect("is live");
        assert_eq!(retried.due, T0 + seconds(60));
        assert!(
            retried.fence >= lease.fence,
            "a queue that was erased mints above it"
        );
    }

    pub(super) async fn job_under_a_lease_is_due_when_it_ends<H: Harness>(harness: H) {
        let scene = Scene::new(harness);
        let job = scene.one_job().await;
        let lease = scene.take(at(5)).await;
        let jobs = scene.store().jobs(&[job.delivery]).await.expect("reads");
        assert_eq!(
            jobs[0].due, lease.until,
            "an audit does not bring forward what is under way"
        );
    }

    pub(super) async fn overdue_are_those_that_are_due_and_nobody_owns<H: Harness>(harness: H) {
        let scene = Scene::new(harness);
        scene.lane(EndpointSettings::default()).await;
        let overdue = async |before: u64, limit| {
            let overdue = scene.store().overdue(T0 + seconds(before), limit).await;
            let overdue = overdue.expect("reads").into_iter();
            overdue.map(|job| job.delivery).collect::<BTreeSet<_>>()
        };
        let new: Vec<_> = scene.enqueue("default", 2).await;
        assert_eq!(overdue(0, 10).await, BTreeSet::new());
        assert_eq!(overdue(1, 10).await.len(), 2);
        assert!(overdue(1, 1).await.len() <= 1);

        let lease = scene.take(at(0)).await;
        let waits = new.iter().find(|job| job.delivery != lease.delivery);
        let waits = waits.expect("there are two").delivery;
        assert_eq!(overdue(59, 10).await, BTreeSet::from([waits]));
        assert_eq!(overdue(61, 10).await.len(), 2, "the lease has passed");
        let retry = Next::RetryAfter(seconds(600));
        let recorded = scene.record(lease, 503, retry, at(5)).await;
        assert_eq!(recorded, Recorded::Written);
        assert_eq!(overdue(605, 10).await, BTreeSet::from([waits]));
        assert_eq!(overdue(606, 10).await.len(), 2);
    }

    fn fill(part: &str, version: i64) -> Fill {
        Fill {
            part: part.to_owned(),
            version,
            generation: 7 - version,
            up_to: Some(Uuid::from_u128(version.unsigned_abs().into())),
            is_complete: false,
        }
    }

    async fn fills<H: Harness>(scene: &Scene<H>) -> Vec<Fill> {
        let mut fills = scene.store().fills().await.expect("reads");
        fills.sort_by(|one, other| one.part.cmp(&other.part));
        fills
    }

    pub(super) async fn fills_are_kept_as_they_were_written<H: Harness>(harness: H) {
        let scene = Scene::new(harness);
        assert_eq!(fills(&scene).await, []);
        let first = [fill("a", 1), fill("b", 1)];
        let stored = scene.store().put_fills(&first).await.expect("stores");
        assert_eq!(BTreeSet::from_iter(stored).len(), 2);
        assert_eq!(fills(&scene).await, first);
        let complete = Fill {
            version: 2,
            up_to: None,
            is_complete: true,
            ..first[1].clone()
        };
        let stored = scene
            .store()
            .put_fills(std::slice::from_ref(&complete))
            .await;
        assert_eq!(stored.expect("stores"), ["b"]);
        assert_eq!(fills(&scene).await, [first[0].clone(), complete]);
        assert_eq!(scene.store().put_fills(&[]).await.expect("stores").len(), 0);
    }

    pub(super) async fn of_two_writers_of_a_fill_one_succeeds<H: Harness>(harness: H) {
        let scene = Scene::new(harness);
        let put = async |fills: &[Fill]| scene.store().put_fills(fills).await.expect("stores");
        assert_eq!(put(&[fill("a", 1)]).await, ["a"]);
        let other = Fill {
            generation: 100,
            ..fill("a", 1)
        };
        assert_eq!(put(&[other, fill("b", 1)]).await, ["b"]);
        assert_eq!(put(&[fill("a", 3)]).await.len(), 0, "there is one between");
        assert_eq!(fills(&scene).await, [fill("a", 1), fill("b", 1)]);
        assert_eq!(put(&[fill("a", 2)]).await, ["a"]);
        assert_eq!(put(&[fill("a", 2)]).await.len(), 0);
        assert_eq!(fills(&scene).await, [fill("a", 2), fill("b", 1)]);
    }

    pub(super) async fn endpoint_comes_back_as_it_was_given<H: Harness>(harness: H) {
        let scene = Scene::new(harness);
        let settings = EndpointSettings {
            description: "shop 🦀".to_owned(),
            event_types: wanting(&["order.*", "invoice.paid"]).event_types,
            filter: serde_json::from_str(r#"{"data.amount":{"gte":100}}"#).expect("a filter"),
            headers: CustomHeaders::new([("x-a", "1")], [("authorization", "Bearer t")])
                .expect("valid"),
            rate_limit: Some(RateLimit {
                limit: 50,
                per: seconds(1),
            }),
            max_in_flight: Some(4),
            ordered: true,
            timeout: Some(seconds(30)),
            retry_schedule: Some(vec![seconds(1), seconds(2)]),
        };
        let given = scene.endpoint("acme", settings.clone()).await;
        let stored = scene
            .store()
            .endpoint(&ALL, given.id)
            .await
            .expect("reads")
            .expect("is there");
        assert_eq!((&stored.tenant, &stored.url), (&given.tenant, &given.url));
        assert_eq!(stored.settings, settings);
        assert!(stored.settings.headers.as_map()["authorization"].is_sensitive());
        assert_eq!(stored.secrets[0].secret, given.secrets[0].secret);
        assert_eq!((stored.created_at, stored.version), (given.created_at, 1));
    }

    pub(super) async fn endpoint_changes_need_the_next_version<H: Harness>(harness: H) {
        let scene = Scene::new(harness);
        let mut endpoint = scene.endpoint("default", EndpointSettings::default()).await;
        endpoint.version = 2;
        endpoint.settings.description = "changed".to_owned();
        assert!(
            scene
                .store()
                .update_endpoint(&endpoint)
                .await
                .expect("answers")
        );
        assert!(
            !scene
                .store()
                .update_endpoint(&endpoint)
                .await
                .expect("answers"),
            "another was faster"
        );
        let stored = scene
            .store()
            .endpoint(&ALL, endpoint.id)
            .await
            .expect("reads")
            .expect("is there");
        assert_eq!(
            (stored.settings.description.as_str(), stored.version),
            ("changed", 2)
        );
        let unknown = endpoint_for("default", EndpointSettings::default());
        assert!(
            !scene
                .store()
                .update_endpoint(&unknown)
                .await
                .expect("answers")
        );
    }

    pub(super) async fn deleted_endpoint_takes_its_live_deliveries_along<H: Harness>(harness: H) {
        let scene = Scene::new(harness);
        let endpoint = scene.lane(EndpointSettings::default()).await;
        let jobs = scene.enqueue("default", 3).await;
        let done = scene.attempt(200, Next::Succeeded, at(0)).await.delivery;
        let running = scene.take(at(0)).await;
        assert!(
            scene
                .store()
                .delete_endpoint(&ALL, endpoint, at(1))
                .await
                .expect("deletes")
        );
        assert!(
            !scene
                .store()
                .delete_endpoint(&ALL, endpoint, at(1))
                .await
                .expect("answers")
        );
        assert_eq!(
            scene.record(running, 200, Next::Succeeded, at(2)).await,
            Recorded::Fenced
        );
        for job in jobs {
            let delivery = scene.delivery(job.delivery).await;
            let end = (delivery.status, delivery.end_reason);
            let expected = if job.delivery == done {
                (DeliveryStatus::Succeeded, None)
            } else {
                (DeliveryStatus::Cancelled, Some(EndReason::EndpointDeleted))
            };
            assert_eq!(end, expected);
        }
        assert_eq!(scene.enqueue("default", 1).await, []);
    }

    pub(super) async fn paused_endpoint_gathers_and_disabled_one_does_not<H: Harness>(harness: H) {
        let scene = Scene::new(harness);
        let mut endpoint = scene.endpoint("default", EndpointSettings::default()).await;
        for (state, deliveries) in [
            (EndpointState::Paused, 1),
            (EndpointState::Disabled, 0),
            (EndpointState::Enabled, 1),
        ] {
            (endpoint.state, endpoint.version) = (state, endpoint.version + 1);
            assert!(
                scene
                    .store()
                    .update_endpoint(&endpoint)
                    .await
                    .expect("answers")
            );
            assert_eq!(
                scene.enqueue("default", 1).await.len(),
                deliveries,
                "{state}"
            );
        }
    }

    async fn insert_test<H: Harness>(
        scene: &Scene<H>,
        event: &Event,
        endpoint: Uuid,
    ) -> Option<Job> {
        let inserted = scene.store().insert_test(event, endpoint, at(0)).await;
        inserted.expect("answers")
    }

    pub(super) async fn test_event_goes_to_its_endpoint_only<H: Harness>(harness: H) {
        let scene = Scene::new(harness);
        let limited = EndpointSettings {
            max_in_flight: Some(3),
            ..wanting(&["invoice.*"])
        };
        let tested = scene.lane(limited).await;
        scene.lane(EndpointSettings::default()).await;
        let event = event_for("default", "order.paid", "1", T0);
        let job = insert_test(&scene, &event, tested).await.expect("a job");
        assert_eq!((job.lane, job.due), (tested, T0));
        assert_eq!(job.limits.max_in_flight, 3);
        let stored = scene.store().event(&ALL, event.id).await.expect("reads");
        assert_eq!(stored, Some(event));
        let jobs = [job];
        scene.queue.push(&jobs, at(0)).await.expect("pushes");
        let [job] = jobs;
        assert_eq!(scene.runnable(at(0)).await, [job.delivery]);
        let made = deliveries(&scene, DeliveryFilter::default()).await;
        assert_eq!(made.len(), 1);
        assert_eq!(made[0].endpoint_id, tested);
    }

    pub(super) async fn test_event_needs_an_enabled_endpoint_of_its_tenant<H: Harness>(harness: H) {
        let scene = Scene::new(harness);
        let event = event_for("default", "a", "1", T0);
        let mut endpoint = scene.endpoint("default", EndpointSettings::default()).await;
        let foreign = scene.endpoint("b", EndpointSettings::default()).await.id;
        for unknown in [foreign, Uuid::from_u128(7)] {
            assert_eq!(insert_test(&scene, &event, unknown).await, None);
        }
        for state in [EndpointState::Paused, EndpointState::Disabled] {
            (endpoint.state, endpoint.version) = (state, endpoint.version + 1);
            let updated = scene.store().update_endpoint(&endpoint).await;
            assert!(updated.expect("answers"));
            let inserted = insert_test(&scene, &event, endpoint.id).await;
            assert_eq!(inserted, None, "{state}");
        }
        let stored = scene.store().event(&ALL, event.id).await.expect("reads");
        assert_eq!(stored, None);
        assert_eq!(deliveries(&scene, DeliveryFilter::default()).await, []);
    }

    pub(super) async fn pages_are_newest_first_without_gaps<H: Harness>(harness: H) {
        let scene = Scene::new(harness);
        scene.lane(EndpointSettings::default()).await;
        for second in 0..7 {
            scene
                .insert(
                    &[event_for("default", "a", "1", T0 + seconds(second))],
                    at(second),
                )
                .await;
        }
        let (mut seen, mut before) = (Vec::new(), None);
        loop {
            let page = PageRequest { before, limit: 3 };
            let Page { items, next } = scene
                .store()
                .deliveries(&ALL, &DeliveryFilter::default(), page)
                .await
                .expect("reads");
            assert!(items.len() <= 3);
            seen.extend(items.iter().map(|delivery| delivery.created_at));
            before = next;
            if next.is_none() {
                break;
            }
        }
        let newest_first: Vec<_> = (0..7).rev().map(|second| T0 + seconds(second)).collect();
        assert_eq!(seen, newest_first);
        let whole = PageRequest::first(7);
        let events = scene
            .store()
            .events(&ALL, &EventFilter::default(), whole)
            .await
            .expect("reads");
        assert_eq!(
            (events.items.len(), events.next),
            (7, None),
            "a full last page has no next"
        );
        let endpoints = scene
            .store()
            .endpoints(&ALL, &EndpointFilter::default(), PageRequest::first(1))
            .await
            .expect("reads");
        assert_eq!((endpoints.items.len(), endpoints.next), (1, None));
    }

    pub(super) async fn endpoints_are_found_by_their_state<H: Harness>(harness: H) {
        let scene = Scene::new(harness);
        let insert = async |tenant: &str, state: EndpointState| {
            let mut endpoint = endpoint_for(tenant, EndpointSettings::default());
            endpoint.state = state;
            let inserted = scene.store().insert_endpoint(&endpoint, 100).await;
            assert!(inserted.expect("the store answers"));
            endpoint.id
        };
        let mut of_state = Vec::new();
        for state in [
            EndpointState::Enabled,
            EndpointState::Paused,
            EndpointState::Disabled,
        ] {
            let acme = [insert("acme", state).await, insert("acme", state).await];
            of_state.push((state, acme, insert("umbrella", state).await));
        }
        let of_acme = Scope::Tenant(Tenant::new("acme").expect("valid"));
        let find = async |scope: &Scope, state: Option<EndpointState>, limit| {
            let (filter, mut page) = (
                EndpointFilter::default().state(state),
                PageRequest::first(limit),
            );
            let mut found = Vec::new();
            loop {
                let read = scene.store().endpoints(scope, &filter, page).await;
                let read = read.expect("reads");
                assert!(read.items.len() <= limit);
                found.extend(read.items.iter().map(|it| it.id));
                page.before = read.next;
                if read.next.is_none() {
                    return found;
                }
            }
        };
        let newest_first = |ids: &[Uuid]| {
            let mut ids = ids.to_vec();
            ids.sort_unstable_by(|one, other| other.cmp(one));
            ids
        };
        for (state, [first, second], other) in of_state {
            let own = newest_first(&[first, second]);
            let all = newest_first(&[first, second, other]);
            for limit in [1, 2, 10] {
                assert_eq!(find(&of_acme, Some(state), limit).await, own, "{state}");
                assert_eq!(find(&ALL, Some(state), limit).await, all, "{state}");
            }
        }
        assert_eq!(find(&ALL, None, 2).await.len(), 9);
    }

    pub(super) async fn deliveries_are_found_by_each_filter<H: Harness>(harness: H) {
        let scene = Scene::new(harness);
        let endpoint = scene.lane(wanting(&["a"])).await;
        scene.lane(wanting(&["b"])).await;
        let event = event_for("default", "a", "1", T0);
        let wanted = scene.insert(std::slice::from_ref(&event), at(100)).await[0].delivery;
        scene
            .attempt(503, Next::RetryAfter(seconds(500)), at(100))
            .await;
        scene
            .insert(
                &[event_for("default", "b", "1", T0 + seconds(200))],
                at(200),
            )
            .await;
        scene.attempt(200, Next::Succeeded, at(200)).await;
        let any = DeliveryFilter::default();
        for filter in [
            DeliveryFilter {
                endpoint_id: Some(endpoint),
                ..any.clone()
            },
            DeliveryFilter {
                event_id: Some(event.id),
                ..any.clone()
            },
            DeliveryFilter {
                event_type: EventType::new("a").ok(),
                ..any.clone()
            },
            DeliveryFilter {
                status: Some(DeliveryStatus::Pending),
                ..any.clone()
            },
            DeliveryFilter {
                error_kinds: vec!["timeout".to_owned(), "http_503".to_owned()],
                ..any.clone()
            },
            DeliveryFilter {
                until: at(200),
                ..any.clone()
            },
            DeliveryFilter {
                since: at(100),
                until: at(101),
                ..any.clone()
            },
        ] {
            let found: Vec<_> = deliveries(&scene, filter.clone())
                .await
                .iter()
                .map(|found| found.id)
                .collect();
            assert_eq!(found, [wanted], "{filter:?}");
        }
        assert_eq!(
            deliveries(
                &scene,
                DeliveryFilter {
                    since: at(201),
                    ..any.clone()
                }
            )
            .await,
            []
        );
        assert_eq!(deliveries(&scene, any).await.len(), 2);
    }

    pub(super) async fn events_are_found_by_each_filter<H: Harness>(harness: H) {
        let scene = Scene::new(harness);
        let wanted = event_for("default", "a", r#"{"order":"needle 100%_\\ \"q\""}"#, T0);
        let other = event_for("default", "b", r#"{"order":"hay"}"#, T0 + seconds(100));
        scene.insert(&[wanted.clone(), other], at(0)).await;
        let any = EventFilter::default();
        for filter in [
            EventFilter {
                event_type: EventType::new("a").ok(),
                ..any.clone()
            },
            EventFilter {
                until: at(100),
                ..any.clone()
            },
            EventFilter {
                since: at(0),
                until: at(1),
                ..any.clone()
            },
            EventFilter {
                text: Some("needle".to_owned()),
                ..any.clone()
            },
            EventFilter {
                text: Some("100%_".to_owned()),
                ..any.clone()
            },
            EventFilter {
                text: Some(r#"\""#.to_owned()),
                ..any.clone()
            },
        ] {
            let found = scene
                .store()
                .events(&ALL, &filter, PAGE)
                .await
                .expect("reads")
                .items;
            assert_eq!(
                found.iter().map(|event| event.id).collect::<Vec<_>>(),
                [wanted.id],
                "{filter:?}"
            );
        }
        let none = EventFilter {
            text: Some("needle%hay".to_owned()),
            ..any
        };
        assert_eq!(
            scene
                .store()
                .events(&ALL, &none, PAGE)
                .await
                .expect("reads")
                .items,
            []
        );
    }

    pub(super) async fn events_are_listed_without_their_bodies<H: Harness>(harness: H) {
        let scene = Scene::new(harness);
        scene.lane(EndpointSettings::default()).await;
        let event = event_for("default", "a", r#"{"needle":1}"#, T0);
        scene.insert(std::slice::from_ref(&event), at(0)).await;
        let listed = Event {
            body: bytes::Bytes::new(),
            ..event.clone()
        };
        for text in [None, Some("needle".to_owned())] {
            let filter = EventFilter {
                text,
                ..EventFilter::default()
            };
            let found = scene.store().events(&ALL, &filter, PAGE).await;
            assert_eq!(found.expect("reads").items, std::slice::from_ref(&listed));
        }
        let whole = scene.store().event(&ALL, event.id).await;
        assert_eq!(whole.expect("reads"), Some(event));
    }

    pub(super) async fn replay_is_a_new_delivery<H: Harness>(harness: H) {
        let scene = Scene::new(harness);
        let job = scene.one_job().await;
        scene
            .attempt(500, Next::Failed(EndReason::Exhausted), at(0))
            .await;
        let before = scene.delivery(job.delivery).await;
        let replayed = scene
            .store()
            .replay_delivery(&ALL, job.delivery, at(10))
            .await
            .expect("answers");
        let Changed::Done(again) = replayed else {
            panic!("{replayed:?}")
        };
        assert_eq!(again.due, T0 + seconds(10));
        let replay = scene.delivery(again.delivery).await;
        assert_eq!(
            (replay.event_id, replay.replay_no, replay.attempts),
            (before.event_id, 1, 0)
        );
        assert_eq!(
            scene.delivery(job.delivery).await,
            before,
            "the old one stays as it ended"
        );
        scene.queue.push(&[again], at(10)).await.expect("pushes");
        scene.attempt(200, Next::Succeeded, at(10)).await;
        let third = scene
            .store()
            .replay_delivery(&ALL, job.delivery, at(11))
            .await
            .expect("answers");
        let Changed::Done(third) = third else {
            panic!("{third:?}")
        };
        assert_eq!(scene.delivery(third.delivery).await.replay_no, 2);
    }

    pub(super) async fn replay_needs_an_ended_delivery<H: Harness>(harness: H) {
        let scene = Scene::new(harness);
        let job = scene.one_job().await;
        let replay = || async {
            scene
                .store()
                .replay_delivery(&ALL, job.delivery, at(1))
                .await
                .expect("answers")
        };
        assert_eq!(replay().await, Changed::Refused);
        scene
            .attempt(500, Next::Failed(EndReason::Exhausted), at(0))
            .await;
        assert!(matches!(replay().await, Changed::Done(_)));
        assert_eq!(replay().await, Changed::Refused, "a replay of it is live");
        scene
            .store()
            .delete_endpoint(&ALL, job.lane, at(2))
            .await
            .expect("deletes");
        assert_eq!(replay().await, Changed::Refused, "its endpoint is gone");
    }

    pub(super) async fn replay_of_an_event_goes_to_those_that_match_now<H: Harness>(harness: H) {
        let scene = Scene::new(harness);
        let event = event_for("default", "a", "1", T0);
        scene.insert(std::slice::from_ref(&event), at(0)).await;
        let later = scene.lane(wanting(&["a"])).await;
        scene.lane(wanting(&["b"])).await;
        let replay = || async {
            scene
                .store()
                .replay_event(&ALL, event.id, at(1))
                .await
                .expect("answers")
        };
        let Changed::Done(jobs) = replay().await else {
            panic!("the event is there")
        };
        assert_eq!(jobs.iter().map(|job| job.lane).collect::<Vec<_>>(), [later]);
        assert_eq!(
            replay().await,
            Changed::Done(vec![]),
            "one that is live is not doubled"
        );
    }

    pub(super) async fn cancel_ends_a_live_delivery_once<H: Harness>(harness: H) {
        let scene = Scene::new(harness);
        let job = scene.one_job().await;
        let cancel = || async {
            scene
                .store()
                .cancel_delivery(&ALL, job.delivery, at(1))
                .await
                .expect("answers")
        };
        assert_eq!(cancel().await, Changed::Done(()));
        assert_eq!(cancel().await, Changed::Refused);
        let delivery = scene.delivery(job.delivery).await;
        assert_eq!(
            (delivery.status, delivery.end_reason),
            (DeliveryStatus::Cancelled, Some(EndReason::Requested))
        );
        assert_eq!(scene.attempts(job.delivery).await.len(), 0);
    }

    pub(super) async fn scope_is_a_wall_to_those_who_read<H: Harness>(harness: H) {
        let scene = Scene::new(harness);
        let rows = Rows::insert(&scene).await;
        assert_eq!(rows.seen_by(scene.store(), &foreign()).await, [0; 7]);
        assert_eq!(rows.seen_by(scene.store(), &own()).await, [1; 7]);
    }

    pub(super) async fn scope_is_a_wall_to_those_who_change<H: Harness>(harness: H) {
        let scene = Scene::new(harness);
        let (store, rows) = (scene.store(), Rows::insert(&scene).await);
        let before = scene.delivery(rows.delivery).await;
        let replayed = store
            .replay_delivery(&foreign(), rows.delivery, at(1))
            .await;
        assert_eq!(replayed.expect("answers"), Changed::NotFound);
        let replayed = store.replay_event(&foreign(), rows.event, at(1)).await;
        assert_eq!(replayed.expect("answers"), Changed::NotFound);
        let cancelled = store
            .cancel_delivery(&foreign(), rows.delivery, at(1))
            .await;
        assert_eq!(cancelled.expect("answers"), Changed::NotFound);
        let deleted = store
            .delete_endpoint(&foreign(), rows.endpoint, at(1))
            .await;
        assert!(!deleted.expect("answers"));
        assert_eq!(scene.delivery(rows.delivery).await, before);
        assert_eq!(rows.seen_by(store, &ALL).await, [1; 7]);

        let replayed = store.replay_delivery(&own(), rows.delivery, at(1)).await;
        assert!(matches!(replayed.expect("answers"), Changed::Done(_)));
        assert!(
            store
                .delete_endpoint(&own(), rows.endpoint, at(1))
                .await
                .expect("answers")
        );
    }

    fn own() -> Scope {
        Scope::Tenant(Tenant::new("own").expect("valid"))
    }

    fn foreign() -> Scope {
        Scope::Tenant(Tenant::new("foreign").expect("valid"))
    }

    /// One of each, all of the tenant `own`.
    struct Rows {
        endpoint: Uuid,
        event: Uuid,
        delivery: Uuid,
    }

    impl Rows {
        async fn insert<H: Harness>(scene: &Scene<H>) -> Self {
            let endpoint = scene.endpoint("own", EndpointSettings::default()).await.id;
            let event = event_for("own", "a", "1", T0);
            let job = scene
                .insert(std::slice::from_ref(&event), at(0))
                .await
                .remove(0);
            scene
                .attempt(500, Next::Failed(EndReason::Exhausted), at(0))
                .await;
            Self {
                endpoint,
                event: event.id,
                delivery: job.delivery,
            }
        }

        /// How many rows each way of reading gives.
        async fn seen_by<S: Store>(&self, store: &S, scope: &Scope) -> [usize; 7] {
            let (events, deliveries) = (EventFilter::default(), DeliveryFilter::default());
            [
                store
                    .endpoint(scope, self.endpoint)
                    .await
                    .expect("reads")
                    .iter()
                    .count(),
                store
                    .endpoints(scope, &EndpointFilter::default(), PAGE)
                    .await
                    .expect("reads")
                    .items
                    .len(),
                store
                    .event(scope, self.event)
                    .await
                    .expect("reads")
                    .iter()
                    .count(),
                store
                    .events(scope, &events, PAGE)
                    .await
                    .expect("reads")
                    .items
                    .len(),
                store
                    .delivery(scope, self.delivery)
                    .await
                    .expect("reads")
                    .iter()
                    .count(),
                store
                    .deliveries(scope, &deliveries, PAGE)
                    .await
                    .expect("reads")
                    .items
                    .len(),
                store
                    .attempts(scope, self.delivery)
                    .await
                    .expect("reads")
                    .len(),
            ]
        }
    }
}

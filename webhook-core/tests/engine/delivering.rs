//! Attempts, and what follows them.

use std::time::Duration;

use async_trait::async_trait;
use http::{HeaderMap, Response};
use webhook_core::testing::{ManualClock, Reply, ScriptedTransport, fast_forward};
use webhook_core::{
    Clock, CustomHeaders, DeliveryStatus, Dispatcher, EndReason, EndpointSettings, EndpointState,
    Failure, HeaderLog, HeaderNames, MemoryStore, NewEvent, Now, Outcome, SignError, SignRequest,
    Signer, StandardWebhooks, StateReason, Store as _, Timestamp, TransportErrorKind, Verifier,
};

use crate::{DAY, World, create_endpoint, deliveries, event};

#[tokio::test]
async fn what_is_sent_verifies_and_is_what_was_given_byte_for_byte() {
    let world = World::new(ScriptedTransport::default());
    let endpoint = world.endpoint(EndpointSettings::default()).await;
    let data = r#"{ "b":1, "a":1e400, "a":"\u0000🦀", "n":123456789012345678901234567890 }"#;
    let id = world
        .dispatcher
        .enqueue(NewEvent::data("order.paid", data).unwrap())
        .await
        .unwrap();
    world.dispatcher.step().await.unwrap();

    let sent = world.receiver.requests().remove(0);
    let at = world.clock.now();
    assert_eq!(
        sent.body,
        format!(r#"{{"type":"order.paid","timestamp":"{at}","data":{data}}}"#)
    );
    assert_eq!(sent.uri, "https://hooks.example.com/in");
    assert_eq!(sent.headers["content-type"], "application/json");
    assert!(
        sent.headers["user-agent"]
            .to_str()
            .unwrap()
            .starts_with("webhook-delivery/")
    );
    let verified = Verifier::new(&endpoint.secrets[0].secret)
        .verify(&sent.headers, &sent.body, at)
        .unwrap();
    assert_eq!(verified.id, id.to_string());
}

#[tokio::test]
async fn the_trace_of_an_event_is_passed_on_with_each_attempt() {
    let world = World::new(ScriptedTransport::new([503, 200]));
    let settings = EndpointSettings {
        headers: CustomHeaders::new([("traceparent", "00-their-own-00")], []).unwrap(),
        ..EndpointSettings::default()
    };
    world.endpoint(settings).await;
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let traced = event().traceparent(parent.parse().unwrap());
    world.dispatcher.enqueue(traced).await.unwrap();
    fast_forward(&world.dispatcher, &world.clock, DAY)
        .await
        .unwrap();
    let sent = world.receiver.requests();
    let told = sent.iter().map(|it| &it.headers["traceparent"]);
    assert_eq!(told.collect::<Vec<_>>(), [parent, parent]);
    world.enqueue().await;
    world.dispatcher.step().await.unwrap();
    let sent = world.receiver.requests().pop().unwrap();
    assert_eq!(
        sent.headers["traceparent"], "00-their-own-00",
        "there is none of ours"
    );
}

#[tokio::test]
async fn the_whole_schedule_is_tried_with_one_id_and_new_timestamps() {
    let world = World::new(ScriptedTransport::new([500; 6]));
    let endpoint = world.endpoint(EndpointSettings::default()).await;
    let id = world.enqueue().await.to_string();
    let began = world.clock.now();
    fast_forward(&world.dispatcher, &world.clock, DAY)
        .await
        .unwrap();

    let delivery = world.deliveries().await.remove(0);
    assert_eq!(
        (delivery.status, delivery.attempts),
        (DeliveryStatus::Failed, 6)
    );
    assert_eq!(delivery.end_reason, Some(EndReason::Exhausted));
    assert_eq!(delivery.last_error, Some(Failure::Status(500)));
    let attempts = world
        .dispatcher
        .deliveries()
        .attempts(delivery.id)
        .await
        .unwrap();
    let mut nominal = 0.0;
    for (attempt, delay) in attempts
        .iter()
        .zip([0.0, 5.0, 300.0, 1_800.0, 7_200.0, 43_200.0])
    {
        nominal += delay;
        let after = attempt.started_at.since(began).as_secs_f64();
        assert!(
            (nominal * 0.8..=nominal * 1.2).contains(&after),
            "{after} s, nominally {nominal} s"
        );
    }
    let verifier = Verifier::new(&endpoint.secrets[0].secret);
    for (sent, attempt) in world.receiver.requests().iter().zip(&attempts) {
        assert_eq!(sent.headers["webhook-id"], *id);
        verifier
            .verify(&sent.headers, &sent.body, attempt.started_at)
            .unwrap();
        assert_eq!(
            HeaderLog::from(&sent.headers),
            attempt.request_headers,
            "the log says what was sent"
        );
    }
}

#[tokio::test]
async fn a_retry_succeeds_and_nothing_more_is_sent() {
    let world = World::new(ScriptedTransport::new([503, 503]));
    world.endpoint(EndpointSettings::default()).await;
    world.enqueue().await;
    fast_forward(&world.dispatcher, &world.clock, DAY)
        .await
        .unwrap();
    assert_eq!(world.receiver.requests().len(), 3);
    assert_eq!(
        world.deliveries().await[0].status,
        DeliveryStatus::Succeeded
    );
}

#[tokio::test]
async fn a_dead_letter_is_replayed_with_the_same_id() {
    let world = World::new(ScriptedTransport::new([400]));
    world.endpoint(EndpointSettings::default()).await;
    let id = world.enqueue().await.to_string();
    world.dispatcher.step().await.unwrap();
    let dead = world.deliveries().await.remove(0);
    assert_eq!(
        (dead.status, dead.end_reason),
        (DeliveryStatus::Failed, Some(EndReason::Permanent))
    );

    let replay = world.dispatcher.deliveries().replay(dead.id).await.unwrap();
    world.dispatcher.step().await.unwrap();
    assert_eq!(
        world
            .dispatcher
            .deliveries()
            .get(replay)
            .await
            .unwrap()
            .status,
        DeliveryStatus::Succeeded
    );
    assert_eq!(
        world.dispatcher.deliveries().get(dead.id).await.unwrap(),
        dead
    );
    assert!(
        world
            .receiver
            .requests()
            .iter()
            .all(|sent| sent.headers["webhook-id"] == *id)
    );
}

#[tokio::test]
async fn retry_after_holds_the_whole_lane() {
    let busy = Response::builder()
        .status(429)
        .header("retry-after", "120")
        .body(bytes::Bytes::new())
        .unwrap();
    let world = World::new(ScriptedTransport::new([busy]));
    world.endpoint(EndpointSettings::default()).await;
    world.enqueue().await;
    world.dispatcher.step().await.unwrap();
    world.enqueue().await;
    fast_forward(&world.dispatcher, &world.clock, Duration::from_secs(119))
        .await
        .unwrap();
    assert_eq!(
        world.receiver.requests().len(),
        1,
        "nothing goes to an endpoint that asked to be left alone"
    );
    fast_forward(&world.dispatcher, &world.clock, Duration::from_secs(30))
        .await
        .unwrap();
    assert_eq!(world.receiver.requests().len(), 3);
}

#[tokio::test]
async fn retry_after_is_heard_where_no_body_is_kept() {
    let busy = Response::builder()
        .status(429)
        .header("retry-after", "120")
        .body(bytes::Bytes::new())
        .unwrap();
    let (clock, receiver) = (ManualClock::default(), ScriptedTransport::new([busy]));
    let dispatcher = Dispatcher::builder(MemoryStore::new())
        .transport(receiver.clone())
        .clock(clock.clone())
        .max_response_body(0)
        .seed(1)
        .build()
        .unwrap();
    create_endpoint(&dispatcher.erase(), EndpointSettings::default()).await;
    dispatcher.enqueue(event()).await.unwrap();
    dispatcher.step().await.unwrap();
    fast_forward(&dispatcher, &clock, Duration::from_secs(119))
        .await
        .unwrap();
    assert_eq!(receiver.requests().len(), 1);
}

#[tokio::test]
async fn a_change_of_settings_does_not_end_what_the_endpoint_asked_for() {
    let busy = Response::builder()
        .status(503)
        .header("retry-after", "3600");
    let world = World::new(ScriptedTransport::new([busy
        .body(bytes::Bytes::new())
        .unwrap()]));
    let id = world.endpoint(EndpointSettings::default()).await.id;
    world.enqueue().await;
    world.dispatcher.step().await.unwrap();
    world.enqueue().await;
    let endpoints = world.dispatcher.endpoints();
    endpoints
        .update(id, |endpoint| {
            endpoint.settings.description = "b".to_owned();
        })
        .await
        .unwrap();
    fast_forward(&world.dispatcher, &world.clock, Duration::from_secs(3_500))
        .await
        .unwrap();
    assert_eq!(world.receiver.requests().len(), 1);
}

#[tokio::test]
async fn an_endpoint_that_is_gone_is_disabled() {
    let world = World::new(ScriptedTransport::new([410]));
    let endpoint = world.endpoint(EndpointSettings::default()).await;
    world.enqueue().await;
    world.dispatcher.step().await.unwrap();
    let endpoint = world.dispatcher.endpoints().get(endpoint.id).await.unwrap();
    assert_eq!(
        (endpoint.state, endpoint.state_reason),
        (EndpointState::Disabled, Some(StateReason::Gone))
    );
    world.enqueue().await;
    assert_eq!(world.deliveries().await.len(), 1);
}

#[tokio::test]
async fn a_paused_endpoint_gets_nothing_until_it_is_enabled() {
    let world = World::new(ScriptedTransport::default());
    let id = world.endpoint(EndpointSettings::default()).await.id;
    world.enqueue().await;
    let endpoints = world.dispatcher.endpoints();
    endpoints
        .update(id, |endpoint| endpoint.state = EndpointState::Paused)
        .await
        .unwrap();
    world.enqueue().await;
    fast_forward(&world.dispatcher, &world.clock, DAY)
        .await
        .unwrap();
    assert_eq!(world.receiver.requests().len(), 0);
    endpoints
        .update(id, |endpoint| endpoint.state = EndpointState::Enabled)
        .await
        .unwrap();
    fast_forward(&world.dispatcher, &world.clock, Duration::from_secs(1))
        .await
        .unwrap();
    assert_eq!(world.receiver.requests().len(), 2);
    assert!(
        world
            .deliveries()
            .await
            .iter()
            .all(|delivery| delivery.attempts == 1),
        "waiting costs no attempt"
    );
}

#[tokio::test]
async fn a_payload_that_the_filter_refuses_is_cancelled_unsent() {
    let world = World::new(ScriptedTransport::default());
    let filter = serde_json::from_str(r#"{"data.order":{"gte":8}}"#).unwrap();
    world
        .endpoint(EndpointSettings {
            filter: Some(filter),
            ..Default::default()
        })
        .await;
    world.enqueue().await;
    world.dispatcher.step().await.unwrap();
    let delivery = world.deliveries().await.remove(0);
    assert_eq!(
        (delivery.status, delivery.end_reason),
        (DeliveryStatus::Cancelled, Some(EndReason::Filtered))
    );
    assert_eq!((delivery.attempts, world.receiver.requests().len()), (0, 0));
}

#[tokio::test]
async fn a_delivery_that_waited_too_long_expires_unsent() {
    let world = World::new(ScriptedTransport::default());
    world.endpoint(EndpointSettings::default()).await;
    world.enqueue().await;
    world.clock.advance(DAY * 8);
    world.dispatcher.step().await.unwrap();
    let delivery = world.deliveries().await.remove(0);
    assert_eq!(
        (delivery.status, delivery.end_reason),
        (DeliveryStatus::Failed, Some(EndReason::Expired))
    );
    assert_eq!(world.receiver.requests().len(), 0);
}

#[tokio::test]
async fn what_waits_for_an_endpoint_is_kept_until_that_is_enabled() {
    for state in [EndpointState::Paused, EndpointState::Disabled] {
        let world = World::new(ScriptedTransport::new([503]));
        let endpoint = world.endpoint(EndpointSettings::default()).await;
        world.enqueue().await;
        let set = async |state| {
            let endpoints = world.dispatcher.endpoints();
            let changed = endpoints.update(endpoint.id, |it| it.state = state).await;
            changed.unwrap();
        };
        set(state).await;
        // Longer than anything is kept or may wait.
        fast_forward(&world.dispatcher, &world.clock, DAY * 40)
            .await
            .unwrap();
        let retention = DAY * 30;
        let kept = world
            .store
            .maintain(retention, Some(world.clock.now()))
            .await;
        kept.unwrap();
        let waiting = world.deliveries().await.remove(0);
        assert_eq!(waiting.status, DeliveryStatus::Pending, "{state}");
        assert_eq!(world.receiver.requests().len(), 0);

        set(EndpointState::Enabled).await;
        fast_forward(&world.dispatcher, &world.clock, DAY)
            .await
            .unwrap();
        let delivered = world.deliveries().await.remove(0);
        assert_eq!(delivered.status, DeliveryStatus::Succeeded, "{state}");
        assert_eq!(
            delivered.attempts, 2,
            "the first attempt fails, and is not the last"
        );
    }
}

#[tokio::test]
async fn what_was_kept_expires_when_it_waits_too_long_after_that() {
    let world = World::new(ScriptedTransport::default());
    let endpoint = world.endpoint(EndpointSettings::default()).await;
    world.enqueue().await;
    for state in [EndpointState::Paused, EndpointState::Enabled] {
        world.clock.advance(DAY * 10);
        let endpoints = world.dispatcher.endpoints();
        let changed = endpoints.update(endpoint.id, |it| it.state = state).await;
        changed.unwrap();
    }
    world.clock.advance(DAY * 8);
    world.dispatcher.step().await.unwrap();
    let delivery = world.deliveries().await.remove(0);
    assert_eq!(delivery.end_reason, Some(EndReason::Expired));
}

/// A clock of a process beside a store that has another.
struct Askew {
    own_clock: ManualClock,
    store_clock: ManualClock,
}

#[async_trait]
impl Clock for Askew {
    fn now(&self) -> Timestamp {
        self.own_clock.now()
    }

    fn pinned(&self) -> Now {
        self.store_clock.pinned()
    }

    async fn sleep(&self, by: Duration) {
        self.own_clock.sleep(by).await;
    }
}

#[tokio::test]
async fn how_old_a_delivery_is_is_for_the_stores_clock_to_say() {
    for (here, store, status) in [
        (DAY * 8, Duration::ZERO, DeliveryStatus::Succeeded),
        (Duration::ZERO, DAY * 8, DeliveryStatus::Failed),
    ] {
        let world = World::new(ScriptedTransport::default());
        world.endpoint(EndpointSettings::default()).await;
        world.enqueue().await;
        let start = world.clock.now();
        let clock = Askew {
            own_clock: ManualClock::new(start + here),
            store_clock: ManualClock::new(start + store),
        };
        let askew = Dispatcher::builder(world.store.clone())
            .transport(world.receiver.clone())
            .clock(clock)
            .build()
            .unwrap();
        assert_eq!(askew.step().await.unwrap().claimed, 1);
        assert_eq!(world.deliveries().await[0].status, status);
    }
}

#[tokio::test]
async fn a_scheduled_event_goes_out_at_its_time() {
    let world = World::new(ScriptedTransport::default());
    world.endpoint(EndpointSettings::default()).await;
    let at = world.clock.now() + DAY;
    world
        .dispatcher
        .enqueue(crate::event().deliver_at(at))
        .await
        .unwrap();
    fast_forward(
        &world.dispatcher,
        &world.clock,
        DAY - Duration::from_secs(1),
    )
    .await
    .unwrap();
    assert_eq!(world.receiver.requests().len(), 0);
    fast_forward(&world.dispatcher, &world.clock, Duration::from_secs(1))
        .await
        .unwrap();
    assert_eq!(world.receiver.requests().len(), 1);
}

/// `webhook-*` no endpoint can set. Under other names it is the order that protects ours.
#[tokio::test]
async fn an_endpoints_header_does_not_stand_in_for_one_of_ours() {
    let names = HeaderNames::with_prefix("svix").unwrap();
    let receiver = ScriptedTransport::default();
    let dispatcher = Dispatcher::builder(MemoryStore::new())
        .transport(receiver.clone())
        .signer(StandardWebhooks::with_headers(names.clone()))
        .build()
        .unwrap()
        .erase();
    let forged = ["svix-id", "svix-timestamp", "svix-signature"].map(|name| (name, "forged"));
    let settings = EndpointSettings {
        headers: CustomHeaders::new(forged, []).unwrap(),
        ..Default::default()
    };
    let endpoint = create_endpoint(&dispatcher, settings).await;
    dispatcher.enqueue(event()).await.unwrap();
    dispatcher.step().await.unwrap();
    let sent = receiver.requests().remove(0);
    for (name, _) in forged {
        let values: Vec<_> = sent.headers.get_all(name).iter().collect();
        assert!(values.len() == 1 && values[0] != "forged", "{values:?}");
    }
    Verifier::new(&endpoint.secrets[0].secret)
        .headers(names)
        .verify_ignoring_timestamp(&sent.headers, &sent.body)
        .unwrap();
}

#[tokio::test]
async fn the_endpoints_headers_are_sent_and_secret_ones_stay_secret() {
    let world = World::new(ScriptedTransport::default());
    let headers =
        CustomHeaders::new([("x-shard", "7")], [("authorization", "Bearer s3cret")]).unwrap();
    world
        .endpoint(EndpointSettings {
            headers,
            ..Default::default()
        })
        .await;
    world.enqueue().await;
    world.dispatcher.step().await.unwrap();
    let sent = world.receiver.requests().remove(0);
    assert_eq!(
        (&sent.headers["x-shard"], &sent.headers["authorization"]),
        (&"7".parse().unwrap(), &"Bearer s3cret".parse().unwrap())
    );
    let attempt = world
        .dispatcher
        .deliveries()
        .attempts(world.deliveries().await[0].id)
        .await
        .unwrap()
        .remove(0);
    assert!(!format!("{attempt:?}").contains("s3cret"));
}

#[tokio::test]
async fn both_secrets_sign_during_a_rotation_and_one_after_it() {
    let world = World::new(ScriptedTransport::default());
    let old = world.endpoint(EndpointSettings::default()).await;
    let hour = Duration::from_secs(3_600);
    let new = world
        .dispatcher
        .endpoints()
        .rotate_secret(old.id, hour)
        .await
        .unwrap();
    let verifiers = [&old, &new].map(|endpoint| Verifier::new(&endpoint.secrets[0].secret));
    for (wait, accepted) in [(Duration::ZERO, [true, true]), (hour, [false, true])] {
        world.clock.advance(wait);
        world.enqueue().await;
        world.dispatcher.step().await.unwrap();
        let sent = world.receiver.requests().pop().unwrap();
        let verify = |verifier: &Verifier| {
            verifier
                .verify(&sent.headers, &sent.body, world.clock.now())
                .is_ok()
        };
        assert_eq!(verifiers.each_ref().map(verify), accepted);
    }
}

#[tokio::test]
async fn a_response_is_kept_as_it_came() {
    let response = Response::builder()
        .status(200)
        .header("x-kept", "yes")
        .body(bytes::Bytes::from_static(b"\0\xff"))
        .unwrap();
    let world = World::new(ScriptedTransport::new([
        Reply::from(response),
        Reply::from(TransportErrorKind::Timeout),
    ]));
    world.endpoint(EndpointSettings::default()).await;
    world.enqueue().await;
    world.dispatcher.step().await.unwrap();
    let delivery = world.deliveries().await.remove(0);
    let attempt = world
        .dispatcher
        .deliveries()
        .attempts(delivery.id)
        .await
        .unwrap()
        .remove(0);
    let Outcome::Response {
        status: 200,
        headers,
        body,
        truncated: false,
    } = attempt.outcome
    else {
        panic!("{attempt:?}");
    };
    assert_eq!(
        (headers.get("x-kept"), &body[..]),
        (Some(&b"yes"[..]), &b"\0\xff"[..])
    );
    assert_ne!(attempt.started_at, Timestamp::EPOCH);
}

#[tokio::test]
async fn a_transport_that_panics_has_failed_an_attempt() {
    let world = World::new(ScriptedTransport::new([Reply::Panic]));
    world.endpoint(EndpointSettings::default()).await;
    world.enqueue().await;
    fast_forward(&world.dispatcher, &world.clock, Duration::from_secs(10))
        .await
        .unwrap();
    let delivery = world.deliveries().await.remove(0);
    assert_eq!(
        (delivery.status, delivery.attempts),
        (DeliveryStatus::Succeeded, 2)
    );
    let attempts = world
        .dispatcher
        .deliveries()
        .attempts(delivery.id)
        .await
        .unwrap();
    assert!(matches!(
        attempts[0].outcome,
        Outcome::Failed(TransportErrorKind::Internal)
    ));
}

#[tokio::test]
async fn a_signer_that_panics_has_failed_attempts_through_us_and_keeps_nobody_else_back() {
    struct Broken;
    impl Signer for Broken {
        fn sign(&self, request: &SignRequest<'_>, _: &mut HeaderMap) -> Result<(), SignError> {
            assert!(!request.body.ends_with(br#""odd"}"#), "a defect");
            Ok(())
        }
    }
    let (clock, receiver) = (ManualClock::default(), ScriptedTransport::default());
    let dispatcher = Dispatcher::builder(MemoryStore::new())
        .transport(receiver.clone())
        .clock(clock.clone())
        .signer(Broken)
        .build()
        .unwrap()
        .erase();
    let settings = EndpointSettings {
        retry_schedule: Some(vec![Duration::from_secs(1)]),
        ..EndpointSettings::default()
    };
    let endpoint = create_endpoint(&dispatcher, settings).await;
    let odd = NewEvent::data("order.paid", r#""odd""#).unwrap();
    dispatcher.enqueue(odd).await.unwrap();
    dispatcher.enqueue(event()).await.unwrap();
    fast_forward(&dispatcher, &clock, Duration::from_secs(120))
        .await
        .unwrap();

    assert_eq!(receiver.requests().len(), 1);
    // Accepted in the same millisecond, they are listed in any order.
    let mut found = deliveries(&dispatcher).await;
    found.sort_by_key(|it| it.attempts);
    let [fine, odd] = found.try_into().unwrap();
    assert_eq!(fine.status, DeliveryStatus::Succeeded);
    // At 0, 5, 15, 35 and 75 s, more or less, and not given up though its schedule has ended.
    assert_eq!((odd.status, odd.attempts), (DeliveryStatus::Pending, 5));
    assert!(odd.last_error.is_some_and(Failure::is_ours));
    let health = dispatcher.endpoints().health(&[endpoint.id]).await.unwrap();
    assert!(health.is_empty(), "{health:?}");
}

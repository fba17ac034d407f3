//! Tests of an endpoint: one try, and nothing else.

use std::time::Duration;

use webhook_core::testing::{ScriptedTransport, fast_forward};
use webhook_core::{
    DeliveryFilter, DeliveryStatus, EndReason, Endpoint, EndpointReplay, EndpointSettings,
    EndpointState, ManageError, NewReplay, Outcome, ReplaySelection, Scope, StatsRange, TestEvent,
    Tested, Timestamp,
};

use crate::{DAY, World};

/// More than any test needs.
const STEPS: u32 = 500;

/// Tests an endpoint while a worker is at work.
async fn test(world: &World, endpoint: &Endpoint, event: TestEvent) -> Tested {
    let endpoints = world.dispatcher.endpoints();
    let work = async {
        let mut steps = 0..STEPS;
        while world.dispatcher.step().await.unwrap().claimed == 0 {
            steps.next().expect("there is an attempt to make");
            tokio::task::yield_now().await;
        }
        for _ in steps {
            world.clock.advance(Duration::from_millis(20));
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        tested = endpoints.test(endpoint.id, event) => tested.unwrap(),
        () = work => panic!("the attempt has no outcome"),
    }
}

fn picky() -> EndpointSettings {
    EndpointSettings {
        event_types: vec!["order.*".parse().unwrap()],
        filter: Some(serde_json::from_str(r#"{"data.n":1}"#).unwrap()),
        ..EndpointSettings::default()
    }
}

/// The status of the answer to a test.
fn answer(tested: &Tested) -> u16 {
    match tested.attempt.as_ref().unwrap().outcome {
        Outcome::Response { status, .. } => status,
        Outcome::Failed(kind) => panic!("{kind:?}"),
    }
}

#[tokio::test]
async fn a_test_reaches_one_endpoint_whatever_it_wants_and_answers_the_attempt() {
    let world = World::new(ScriptedTransport::default());
    let endpoint = world.endpoint(picky()).await;
    world.endpoint(EndpointSettings::default()).await;
    let tested = test(&world, &endpoint, TestEvent::default()).await;
    assert_eq!(answer(&tested), 200);
    let ended = tested.ended.unwrap();
    assert_eq!(ended.status, DeliveryStatus::Succeeded);
    assert_eq!(
        (ended.id, ended.endpoint_id),
        (tested.delivery_id, endpoint.id)
    );
    let sent = world.receiver.requests();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].headers["webhook-id"], *tested.event_id.to_string());
    let event = world
        .dispatcher
        .events()
        .get(tested.event_id)
        .await
        .unwrap();
    assert!(event.is_test());
    assert_eq!(event.event_type.as_str(), "webhook.test");
    assert_eq!(event.data().unwrap(), r#"{"test":true}"#);
    let why = world.dispatcher.events().why(event.id).await.unwrap();
    assert_eq!(why.endpoints.len(), 1);
    assert!(why.endpoints[0].matches());
}

#[tokio::test]
async fn a_test_that_fails_is_not_tried_again_and_does_nothing_to_the_endpoint() {
    for status in [500, 429, 410] {
        let world = World::new(ScriptedTransport::new([status]));
        let endpoint = world.endpoint(EndpointSettings::default()).await;
        let tested = test(&world, &endpoint, TestEvent::default()).await;
        assert_eq!(answer(&tested), status);
        assert_eq!(
            tested.ended.unwrap().status,
            DeliveryStatus::Failed,
            "{status}"
        );
        let now = world.dispatcher.endpoints().get(endpoint.id).await.unwrap();
        assert_eq!(now.state, EndpointState::Enabled, "{status}");
        world.enqueue().await;
        world.dispatcher.step().await.unwrap();
        assert_eq!(
            world.receiver.requests().len(),
            2,
            "{status}: nothing is held"
        );
        fast_forward(&world.dispatcher, &world.clock, DAY / 2)
            .await
            .unwrap();
        assert_eq!(world.receiver.requests().len(), 2, "{status}");
        let stats = world
            .dispatcher
            .stats(&Scope::All, StatsRange::Day, None)
            .await;
        let total = stats.unwrap().total;
        assert_eq!((total.delivered, total.dead_lettered), (1, 0), "{status}");
    }
}

#[tokio::test]
async fn tests_that_fail_again_and_again_open_no_breaker() {
    let world = World::new(ScriptedTransport::new([500; 12]));
    let endpoint = world.endpoint(EndpointSettings::default()).await;
    for _ in 0..12 {
        let tested = test(&world, &endpoint, TestEvent::default()).await;
        assert_eq!(answer(&tested), 500);
    }
    let health = world.dispatcher.endpoints().health(&[endpoint.id]).await;
    assert!(health.unwrap().is_empty());
    world.enqueue().await;
    assert_eq!(world.dispatcher.step().await.unwrap().claimed, 1);
    assert_eq!(world.receiver.requests().len(), 13);
}

#[tokio::test]
async fn an_endpoint_whose_breaker_is_open_is_tested_once_that_is_closed() {
    let world = World::new(ScriptedTransport::new([500; 10]));
    let endpoint = world.endpoint(EndpointSettings::default()).await;
    for _ in 0..10 {
        world.enqueue().await;
        world.dispatcher.step().await.unwrap();
    }
    let endpoints = world.dispatcher.endpoints();
    let refused = endpoints.test(endpoint.id, TestEvent::default()).await;
    let Err(ManageError::Conflict(why)) = refused else {
        panic!("{refused:?}");
    };
    assert!(why.contains("breaker is open"), "{why}");
    assert_eq!(
        world.deliveries().await.len(),
        10,
        "and none waits to be made"
    );
    let closed = endpoints.update(endpoint.id, |it| it.recover = true).await;
    closed.unwrap();
    let tested = test(&world, &endpoint, TestEvent::default()).await;
    assert_eq!(answer(&tested), 200);
}

#[tokio::test]
async fn a_test_that_nobody_makes_in_time_is_left_to_be_made() {
    let world = World::new(ScriptedTransport::default());
    let endpoint = world.endpoint(EndpointSettings::default()).await;
    let endpoints = world.dispatcher.endpoints();
    let time = async {
        tokio::task::yield_now().await;
        world.clock.advance(Duration::from_secs(20));
    };
    let (tested, ()) = tokio::join!(endpoints.test(endpoint.id, TestEvent::default()), time);
    let tested = tested.unwrap();
    assert!(tested.ended.is_none() && tested.attempt.is_none());
    world.dispatcher.step().await.unwrap();
    let delivery = world.dispatcher.deliveries().get(tested.delivery_id).await;
    assert_eq!(delivery.unwrap().status, DeliveryStatus::Succeeded);
}

#[tokio::test]
async fn an_endpoint_that_takes_nothing_is_not_tested() {
    let world = World::new(ScriptedTransport::default());
    let endpoint = world.endpoint(EndpointSettings::default()).await;
    for state in [EndpointState::Paused, EndpointState::Disabled] {
        let endpoints = world.dispatcher.endpoints();
        let changed = endpoints.update(endpoint.id, |it| it.state = state).await;
        changed.unwrap();
        let refused = endpoints.test(endpoint.id, TestEvent::default()).await;
        assert!(matches!(refused, Err(ManageError::Conflict(_))), "{state}");
    }
    assert_eq!(world.deliveries().await, []);
}

#[tokio::test]
async fn a_test_is_not_replayed_to_others_nor_in_bulk() {
    let world = World::new(ScriptedTransport::new([500]));
    let endpoint = world.endpoint(EndpointSettings::default()).await;
    let other = world.endpoint(EndpointSettings::default()).await;
    let since = Timestamp::from_seconds(1_700_000_000);
    let tested = test(&world, &endpoint, TestEvent::default()).await;
    assert_eq!(tested.ended.unwrap().end_reason, Some(EndReason::Exhausted));
    world.clock.advance(Duration::from_secs(60));
    let refused = world.dispatcher.events().replay(tested.event_id).await;
    assert!(matches!(refused, Err(ManageError::Conflict(_))));
    for selection in [
        ReplaySelection::Deliveries(DeliveryFilter {
            status: Some(DeliveryStatus::Failed),
            ..DeliveryFilter::default()
        }),
        ReplaySelection::Endpoint(EndpointReplay {
            endpoint_id: other.id,
            since,
            until: None,
            status: None,
        }),
    ] {
        let started = world
            .dispatcher
            .replays()
            .start(NewReplay::new(selection))
            .await;
        started.unwrap();
        fast_forward(&world.dispatcher, &world.clock, Duration::from_secs(60))
            .await
            .unwrap();
    }
    assert_eq!(world.receiver.requests().len(), 1);
    let again = world
        .dispatcher
        .deliveries()
        .replay(tested.delivery_id)
        .await;
    again.unwrap();
    world.dispatcher.step().await.unwrap();
    assert_eq!(world.receiver.requests().len(), 2, "one by one it may be");
}

#[cfg(feature = "schemas")]
#[tokio::test]
async fn a_test_takes_the_example_of_its_type_and_must_fit_its_schema() {
    use webhook_core::{InvalidEvent, NewCatalogueEntry};
    let world = World::new(ScriptedTransport::default());
    let endpoint = world.endpoint(EndpointSettings::default()).await;
    let entry = NewCatalogueEntry::new("order.paid".parse().unwrap())
        .schema(r#"{"required":["n"]}"#)
        .example(r#"{"n": 7}"#);
    world.dispatcher.event_types().put(entry).await.unwrap();
    let of_type = || {
        let mut event = TestEvent::default();
        event.event_type = Some("order.paid".parse().unwrap());
        event
    };
    let tested = test(&world, &endpoint, of_type()).await;
    let event = world
        .dispatcher
        .events()
        .get(tested.event_id)
        .await
        .unwrap();
    assert_eq!(event.data().unwrap(), r#"{"n": 7}"#);
    let mut bad = of_type();
    bad.data = Some("{}".into());
    let refused = world.dispatcher.endpoints().test(endpoint.id, bad).await;
    assert!(matches!(
        refused,
        Err(ManageError::InvalidEvent(InvalidEvent::Schema(_)))
    ));
}

/// What comes of a test without waiting for time to pass, if anything does.
async fn at_once(
    test: &mut (impl Future<Output = Result<Tested, ManageError>> + Unpin),
) -> Option<Result<Tested, ManageError>> {
    let turns = async {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        tested = test => Some(tested),
        () = turns => None,
    }
}

#[tokio::test]
async fn an_endpoint_is_tested_once_at_a_time() {
    let world = World::new(ScriptedTransport::default());
    let endpoint = world.endpoint(EndpointSettings::default()).await;
    let other = world.endpoint(EndpointSettings::default()).await;
    let endpoints = world.dispatcher.endpoints();
    let mut first = Box::pin(endpoints.test(endpoint.id, TestEvent::default()));
    assert!(at_once(&mut first).await.is_none());
    let mut again = Box::pin(endpoints.test(endpoint.id, TestEvent::default()));
    let refused = at_once(&mut again).await;
    let Some(Err(ManageError::Conflict(why))) = refused else {
        panic!("{refused:?}");
    };
    assert!(why.contains("is under way"), "{why}");
    assert_eq!(
        world.deliveries().await.len(),
        1,
        "and none waits to be made"
    );
    let mut test = Box::pin(endpoints.test(other.id, TestEvent::default()));
    assert!(at_once(&mut test).await.is_none());
    // Whoever asked is gone.
    drop(first);
    let mut test = Box::pin(endpoints.test(endpoint.id, TestEvent::default()));
    assert!(at_once(&mut test).await.is_none());
}

#[tokio::test]
async fn a_process_awaits_so_many_tests_and_no_more() {
    let world = World::new(ScriptedTransport::default());
    let endpoints = world.dispatcher.endpoints();
    let mut under_way = Vec::new();
    for _ in 0..32 {
        let endpoint = world.endpoint(EndpointSettings::default()).await;
        let mut test = Box::pin(endpoints.test(endpoint.id, TestEvent::default()));
        assert!(at_once(&mut test).await.is_none());
        under_way.push(test);
    }
    let endpoint = world.endpoint(EndpointSettings::default()).await;
    let mut test = Box::pin(endpoints.test(endpoint.id, TestEvent::default()));
    let refused = at_once(&mut test).await;
    assert!(
        matches!(refused, Some(Err(ManageError::Overloaded(_)))),
        "{refused:?}"
    );
    under_way.pop();
    let mut test = Box::pin(endpoints.test(endpoint.id, TestEvent::default()));
    assert!(at_once(&mut test).await.is_none());
}

//! Bulk replays, across crashes and pauses.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::oneshot;
use webhook_core::testing::{Intercepted, ManualClock, Reply, ScriptedTransport, fast_forward};
use webhook_core::{
    Clock as _, DeliveryFilter, DeliveryStatus, Dispatcher, EndReason, EndpointReplay,
    EndpointSettings, EndpointState, Error, ErrorKind, FailureCause, ManageError, MemoryQueue,
    MemoryStore, NewReplay, PageRequest, Replay, ReplaySelection, ReplayState, RetryPolicy,
    TransportErrorKind,
};

use crate::{World, create_endpoint, deliveries, event, until};

fn dead_letters() -> ReplaySelection {
    ReplaySelection::Deliveries(DeliveryFilter {
        status: Some(DeliveryStatus::Failed),
        ..DeliveryFilter::default()
    })
}

fn once() -> EndpointSettings {
    EndpointSettings {
        retry_schedule: Some(vec![]),
        ..EndpointSettings::default()
    }
}

/// A world with as many dead letters.
async fn world_of(count: usize) -> World {
    let world = World::new(ScriptedTransport::new(vec![400; count]));
    world.endpoint(once()).await;
    for _ in 0..count {
        world.enqueue().await;
    }
    fast_forward(&world.dispatcher, &world.clock, Duration::from_secs(1))
        .await
        .unwrap();
    assert_eq!(world.receiver.requests().len(), count);
    world
}

async fn replay_now(dispatcher: &Dispatcher<impl webhook_core::Store + ?Sized>) -> Replay {
    let page = PageRequest::first(1);
    dispatcher
        .replays()
        .list(page)
        .await
        .unwrap()
        .items
        .remove(0)
}

#[tokio::test]
async fn a_replay_goes_at_its_pace() {
    let world = world_of(600).await;
    let replays = world.dispatcher.replays();
    let count = replays.count(&dead_letters()).await.unwrap();
    assert_eq!((count.deliveries, count.is_exact), (600, true));
    let started = replays
        .start(NewReplay::new(dead_letters()).pace(100))
        .await;
    assert_eq!(started.unwrap().total, 600);
    let begun_at = world.clock.now();
    // The first page goes out at once, and the next when 250 at 100 a second are over.
    for (seconds, done) in [(0, 250), (2, 250), (3, 500), (6, 600)] {
        let at = begun_at + Duration::from_secs(seconds);
        let by = at.since(world.clock.now());
        fast_forward(&world.dispatcher, &world.clock, by)
            .await
            .unwrap();
        assert_eq!(
            replay_now(&world.dispatcher).await.done,
            done,
            "{seconds} s"
        );
        assert_eq!(world.receiver.requests().len() as u64, 600 + done);
    }
    let ended = replay_now(&world.dispatcher).await;
    assert_eq!(ended.state, ReplayState::Completed);
}

#[tokio::test]
async fn a_replay_survives_the_death_of_its_process_between_any_two_pages() {
    let world = world_of(600).await;
    let transport = world.receiver.clone();
    let replays = world.dispatcher.replays();
    replays.start(NewReplay::new(dead_letters())).await.unwrap();
    for _ in 0..10 {
        // A process that does one thing, and dies before it knows what came of it.
        let dispatcher = Dispatcher::builder(world.store.clone())
            .transport(transport.clone())
            .clock(world.clock.clone())
            .seed(2)
            .build()
            .unwrap();
        let dies = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&dies);
        let store = Intercepted::new(world.store.clone(), move |operation| {
            let dead = operation != "step_replay" || counted.fetch_add(1, Ordering::SeqCst) > 0;
            async move {
                match dead {
                    true => Err(Error::new(ErrorKind::Unavailable, operation)),
                    false => Ok(()),
                }
            }
        });
        let doomed = Dispatcher::builder(store)
            .transport(transport.clone())
            .queue(MemoryQueue::default())
            .clock(world.clock.clone())
            .seed(3)
            .build()
            .unwrap();
        doomed.step().await.ok();
        fast_forward(&dispatcher, &world.clock, Duration::from_millis(700))
            .await
            .unwrap();
    }
    let ended = replay_now(&world.dispatcher).await;
    assert_eq!((ended.state, ended.done), (ReplayState::Completed, 600));
    let deliveries = world.store_deliveries(2_000).await;
    let replayed = deliveries.iter().filter(|it| it.replay_no == 1);
    assert!(
        replayed
            .clone()
            .all(|it| it.status == DeliveryStatus::Succeeded)
    );
    assert_eq!((deliveries.len(), replayed.count()), (1_200, 600));
}

#[tokio::test]
async fn a_running_process_takes_up_a_replay_at_once() {
    let clock = ManualClock::default();
    let receiver = ScriptedTransport::new([500]);
    let dispatcher = Dispatcher::builder(MemoryStore::new())
        .queue(MemoryQueue::default())
        .transport(receiver.clone())
        .clock(clock.clone())
        .seed(1)
        .build()
        .unwrap()
        .erase();
    create_endpoint(&dispatcher, once()).await;
    let (stop, stopped) = oneshot::channel::<()>();
    let worker = dispatcher.clone();
    let running =
        tokio::spawn(async move { worker.run(async { stopped.await.unwrap_or(()) }).await });
    dispatcher.enqueue(event()).await.unwrap();
    until(|| receiver.requests().len() == 1).await;
    let failed = Mutex::new(false);
    while !*failed.lock().unwrap() {
        let dead = deliveries(&dispatcher).await[0].status == DeliveryStatus::Failed;
        *failed.lock().unwrap() = dead;
        tokio::task::yield_now().await;
    }
    let replays = dispatcher.replays();
    replays.start(NewReplay::new(dead_letters())).await.unwrap();
    // The clock stands still.
    until(|| receiver.requests().len() == 2).await;
    stop.send(()).unwrap();
    running.await.unwrap();
    assert_eq!(replay_now(&dispatcher).await.state, ReplayState::Completed);
}

#[tokio::test]
async fn cancelling_a_replay_stops_it_within_a_page() {
    let world = world_of(600).await;
    let replays = world.dispatcher.replays();
    let started = replays.start(NewReplay::new(dead_letters())).await.unwrap();
    world.dispatcher.step().await.unwrap();
    let cancelled = replays.cancel(started.id).await.unwrap();
    assert_eq!(
        (cancelled.state, cancelled.done),
        (ReplayState::Cancelled, 250)
    );
    let again = replays.cancel(started.id).await;
    assert!(matches!(again, Err(ManageError::Conflict(_))));
    fast_forward(&world.dispatcher, &world.clock, Duration::from_secs(60))
        .await
        .unwrap();
    assert_eq!(replays.get(started.id).await.unwrap(), cancelled);
    assert_eq!(world.receiver.requests().len(), 850);
}

#[tokio::test]
async fn an_endpoint_that_was_disabled_gets_what_it_missed_in_order() {
    let world = World::new(ScriptedTransport::default());
    let settings = EndpointSettings {
        ordered: true,
        ..EndpointSettings::default()
    };
    let endpoint = world.endpoint(settings).await;
    let endpoints = world.dispatcher.endpoints();
    let set = |state| endpoints.update(endpoint.id, move |it| it.state = state);
    set(EndpointState::Disabled).await.unwrap();
    let since = world.clock.now();
    let mut missed = Vec::new();
    for _ in 0..3 {
        world.clock.advance(Duration::from_secs(1));
        missed.push(world.enqueue().await.to_string());
    }
    set(EndpointState::Enabled).await.unwrap();
    let selection = ReplaySelection::Endpoint(EndpointReplay {
        endpoint_id: endpoint.id,
        since,
        until: None,
        status: None,
    });
    let replays = world.dispatcher.replays();
    let started = replays.start(NewReplay::new(selection)).await.unwrap();
    assert_eq!(started.tenant, Some(endpoint.tenant));
    fast_forward(&world.dispatcher, &world.clock, Duration::from_secs(1))
        .await
        .unwrap();
    let sent = world.receiver.requests();
    let sent: Vec<_> = sent
        .iter()
        .map(|it| it.headers["webhook-id"].to_str().unwrap().to_owned())
        .collect();
    assert_eq!(sent, missed);
}

#[tokio::test]
async fn what_cannot_be_meant_is_not_started() {
    let world = World::new(ScriptedTransport::default());
    let start = |new| async { world.dispatcher.replays().start(new).await.unwrap_err() };
    let everything = ReplaySelection::Deliveries(DeliveryFilter::default());
    let live = ReplaySelection::Deliveries(DeliveryFilter {
        status: Some(DeliveryStatus::Pending),
        ..DeliveryFilter::default()
    });
    for new in [
        NewReplay::new(everything),
        NewReplay::new(live),
        NewReplay::new(dead_letters()).pace(0),
    ] {
        assert!(matches!(start(new).await, ManageError::Invalid(_)));
    }
    let unknown = ReplaySelection::Endpoint(EndpointReplay {
        endpoint_id: uuid::Uuid::from_u128(7),
        since: world.clock.now(),
        until: None,
        status: None,
    });
    let refused = start(NewReplay::new(unknown)).await;
    assert!(matches!(refused, ManageError::NotFound("endpoint")));
}

#[tokio::test]
async fn what_fails_through_us_is_tried_until_it_is_too_old() {
    let receiver = ScriptedTransport::new((0..5).map(|_| Reply::Panic));
    let clock = ManualClock::default();
    let dispatcher = Dispatcher::builder(MemoryStore::new())
        .transport(receiver.clone())
        .clock(clock.clone())
        .seed(1)
        .retry_policy(RetryPolicy::default().schedule([]))
        .build()
        .unwrap()
        .erase();
    create_endpoint(&dispatcher, EndpointSettings::default()).await;
    dispatcher.enqueue(event()).await.unwrap();
    // One try in all, and yet five that failed are none.
    let day = Duration::from_secs(86_400);
    fast_forward(&dispatcher, &clock, day).await.unwrap();
    let delivery = deliveries(&dispatcher).await.remove(0);
    assert_eq!(delivery.status, DeliveryStatus::Succeeded);
    assert_eq!((delivery.attempts, receiver.requests().len()), (6, 6));

    (0..2_000).for_each(|_| receiver.push(TransportErrorKind::Internal));
    dispatcher.enqueue(event()).await.unwrap();
    fast_forward(&dispatcher, &clock, 8 * day).await.unwrap();
    let delivery = deliveries(&dispatcher).await.remove(0);
    assert_eq!(delivery.status, DeliveryStatus::Failed);
    assert_eq!(delivery.end_reason, Some(EndReason::Expired));
    assert_eq!(delivery.cause(), Some(FailureCause::System));
    assert!(delivery.attempts < 1_000, "{}", delivery.attempts);
}

//! The worker as it runs in a process.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;
use webhook_core::testing::{Intercepted, ManualClock, Reply, ScriptedTransport};
use webhook_core::{
    Builder, Clock as _, DeliveryStatus, Dispatcher, EndpointSettings, Error, ErrorKind,
    MemoryQueue, MemoryStore, NewEvent, Notice, Queue as _, Store, Transport, TransportError,
};

use crate::{create_endpoint, deliveries, event, until};

struct Running {
    dispatcher: Dispatcher,
    stop: oneshot::Sender<()>,
    worker: JoinHandle<()>,
}

impl Running {
    fn start<S: Store + 'static>(builder: Builder<S>) -> Self {
        let dispatcher = builder.build().unwrap().erase();
        let (stop, stopped) = oneshot::channel::<()>();
        let worker = dispatcher.clone();
        let worker = tokio::spawn(async move {
            worker.run(async { stopped.await.unwrap_or(()) }).await;
        });
        Self {
            dispatcher,
            stop,
            worker,
        }
    }

    async fn stop(self) -> Dispatcher {
        self.stop.send(()).unwrap();
        self.worker.await.unwrap();
        self.dispatcher
    }
}

/// A receiver that answers 200 once it is given a permit, and counts.
#[derive(Clone)]
struct Slow {
    gate: Arc<Semaphore>,
    begun: Arc<AtomicUsize>,
}

impl Slow {
    fn new() -> Self {
        Self {
            gate: Arc::new(Semaphore::new(0)),
            begun: Arc::new(AtomicUsize::new(0)),
        }
    }

    fn begun(&self) -> usize {
        self.begun.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Transport for Slow {
    async fn send(&self, _: Request<Bytes>) -> Result<Response<Bytes>, TransportError> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        self.gate.acquire().await.unwrap().forget();
        Ok(Response::new(Bytes::new()))
    }
}

#[tokio::test]
async fn shutdown_finishes_what_is_under_way_and_claims_nothing_more() {
    let receiver = Slow::new();
    let running = Running::start(
        Dispatcher::builder(MemoryStore::new())
            .transport(receiver.clone())
            .max_in_flight(3),
    );
    for _ in 0..5 {
        create_endpoint(&running.dispatcher, EndpointSettings::default()).await;
    }
    running.dispatcher.enqueue(event()).await.unwrap();
    until(|| receiver.begun() == 3).await;
    let (gate, begun) = (Arc::clone(&receiver.gate), receiver.clone());
    let stopping = tokio::spawn(running.stop());
    tokio::task::yield_now().await;
    gate.add_permits(3);
    let dispatcher = stopping.await.unwrap();
    assert_eq!(begun.begun(), 3);
    let count = |wanted| async move {
        deliveries(&dispatcher)
            .await
            .iter()
            .filter(|delivery| wanted == delivery.status)
            .count()
    };
    assert_eq!(count(DeliveryStatus::Succeeded).await, 3);
}

#[tokio::test]
async fn a_process_that_ends_leaves_new_deliveries_to_others() {
    let receiver = Slow::new();
    let running = Running::start(
        Dispatcher::builder(MemoryStore::new())
            .transport(receiver.clone())
            .max_in_flight(3),
    );
    create_endpoint(&running.dispatcher, EndpointSettings::default()).await;
    receiver.gate.add_permits(1);
    let dispatcher = running.dispatcher.clone();
    dispatcher.enqueue(event()).await.unwrap();
    let count = async |wanted| {
        let deliveries = deliveries(&dispatcher).await;
        let wanted = deliveries.iter().filter(|it| it.status == wanted);
        wanted.count()
    };
    // From here on new deliveries to it begin at once.
    while count(DeliveryStatus::Succeeded).await == 0 {
        tokio::task::yield_now().await;
    }
    dispatcher.enqueue(event()).await.unwrap();
    until(|| receiver.begun() == 2).await;
    let stopping = tokio::spawn(running.stop());
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    dispatcher.enqueue(event()).await.unwrap();
    assert_eq!(count(DeliveryStatus::InProgress).await, 1);
    assert_eq!(
        count(DeliveryStatus::Pending).await,
        1,
        "anybody may take it"
    );
    receiver.gate.add_permits(1);
    stopping.await.unwrap();
}

#[tokio::test]
async fn slots_bound_what_is_under_way() {
    let receiver = Slow::new();
    let running = Running::start(
        Dispatcher::builder(MemoryStore::new())
            .transport(receiver.clone())
            .max_in_flight(4),
    );
    for _ in 0..20 {
        create_endpoint(&running.dispatcher, EndpointSettings::default()).await;
    }
    running.dispatcher.enqueue(event()).await.unwrap();
    until(|| receiver.begun() == 4).await;
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
    assert_eq!(receiver.begun(), 4);
    receiver.gate.add_permits(20);
    until(|| receiver.begun() == 20).await;
    running.stop().await;
}

#[tokio::test]
async fn a_panic_in_the_transport_frees_its_slot() {
    let receiver = ScriptedTransport::new([Reply::Panic, Reply::Panic]);
    let running = Running::start(
        Dispatcher::builder(MemoryStore::new())
            .transport(receiver.clone())
            .max_in_flight(1),
    );
    create_endpoint(&running.dispatcher, EndpointSettings::default()).await;
    for _ in 0..3 {
        running.dispatcher.enqueue(event()).await.unwrap();
    }
    until(|| receiver.requests().len() == 3).await;
    running.stop().await;
}

#[tokio::test]
async fn observers_hear_what_was_recorded_and_may_panic() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&heard);
    let observer = move |notice: &Notice<'_>| {
        log.lock().unwrap().push(match notice {
            Notice::Delivered(report) => format!("delivered {}", report.attempt),
            Notice::AttemptFailed(report) => format!("failed {}", report.attempt),
            Notice::DeadLettered(report) => format!("dead {}", report.attempt),
            Notice::EndpointDisabled { .. } => "disabled".to_owned(),
            other => format!("{other:?}"),
        });
        panic!("observers may");
    };
    let clock = ManualClock::default();
    let dispatcher = Dispatcher::builder(MemoryStore::new())
        .transport(ScriptedTransport::new([503, 200, 410]))
        .clock(clock.clone())
        .observer(observer)
        .build()
        .unwrap()
        .erase();
    create_endpoint(&dispatcher, EndpointSettings::default()).await;
    dispatcher.enqueue(event()).await.unwrap();
    webhook_core::testing::fast_forward(&dispatcher, &clock, Duration::from_secs(10))
        .await
        .unwrap();
    dispatcher.enqueue(event()).await.unwrap();
    dispatcher.step().await.unwrap();
    assert_eq!(
        *heard.lock().unwrap(),
        ["failed 1", "delivered 2", "dead 1", "disabled"]
    );
}

#[tokio::test]
async fn a_store_that_fails_for_a_while_stops_nothing() {
    let failures = Arc::new(AtomicUsize::new(3));
    let left = Arc::clone(&failures);
    let store = Intercepted::new(MemoryStore::new(), move |operation| {
        let left = Arc::clone(&left);
        async move {
            let fails = operation == "record"
                && left
                    .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
                    .is_ok();
            if fails {
                Err(Error::new(ErrorKind::Unavailable, operation))
            } else {
                Ok(())
            }
        }
    });
    let clock = ManualClock::default();
    let receiver = ScriptedTransport::default();
    let running = Running::start(
        Dispatcher::builder(store)
            .transport(receiver.clone())
            .clock(clock.clone()),
    );
    create_endpoint(&running.dispatcher, EndpointSettings::default()).await;
    running.dispatcher.enqueue(event()).await.unwrap();
    until(|| {
        clock.advance(Duration::from_millis(100));
        failures.load(Ordering::SeqCst) == 0
    })
    .await;
    clock.advance(Duration::from_secs(3));
    let dispatcher = running.stop().await;
    assert_eq!(
        receiver.requests().len(),
        1,
        "the outcome was kept, not the attempt repeated"
    );
    assert_eq!(
        deliveries(&dispatcher).await[0].status,
        DeliveryStatus::Succeeded
    );
}

#[tokio::test]
async fn a_claim_leaves_slots_to_what_is_new() {
    let (gate, loads) = (Arc::new(Semaphore::new(1)), Arc::new(AtomicUsize::new(0)));
    let (its_gate, its_loads) = (Arc::clone(&gate), Arc::clone(&loads));
    let store = Intercepted::new(MemoryStore::new(), move |operation| {
        let gate = (operation == "load").then(|| Arc::clone(&its_gate));
        its_loads.fetch_add(usize::from(gate.is_some()), Ordering::SeqCst);
        async move {
            if let Some(gate) = gate {
                gate.acquire().await.unwrap().forget();
            }
            Ok(())
        }
    });
    let receiver = ScriptedTransport::default();
    let delivered = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&delivered);
    let running = Running::start(
        Dispatcher::builder(store)
            .transport(receiver.clone())
            .observer(move |notice: &Notice<'_>| {
                let is_delivered = matches!(notice, Notice::Delivered(_));
                count.fetch_add(usize::from(is_delivered), Ordering::SeqCst);
            })
            .max_in_flight(4),
    );
    for wanted in ["order.*", "other.*"] {
        let settings = EndpointSettings {
            event_types: vec![wanted.parse().unwrap()],
            ..EndpointSettings::default()
        };
        create_endpoint(&running.dispatcher, settings).await;
    }
    running.dispatcher.enqueue(event()).await.unwrap();
    until(|| delivered.load(Ordering::SeqCst) == 1).await;
    let other = NewEvent::data("other.made", "1").unwrap();
    running.dispatcher.enqueue(other).await.unwrap();
    until(|| loads.load(Ordering::SeqCst) == 2).await;
    running.dispatcher.enqueue(event()).await.unwrap();
    until(|| receiver.requests().len() == 2).await;
    gate.add_permits(8);
    running.stop().await;
}

#[tokio::test]
async fn outcomes_that_finish_while_others_are_recorded_go_together() {
    let (gate, records) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
    let (its_gate, its_records) = (Arc::clone(&gate), Arc::clone(&records));
    let store = Intercepted::new(MemoryStore::new(), move |operation| {
        let gate = (operation == "record").then(|| Arc::clone(&its_gate));
        its_records.fetch_add(usize::from(gate.is_some()), Ordering::SeqCst);
        async move {
            if let Some(gate) = gate {
                gate.acquire().await.unwrap().forget();
            }
            Ok(())
        }
    });
    let slow = Slow::new();
    let running = Running::start(
        Dispatcher::builder(store)
            .transport(slow.clone())
            .max_in_flight(8),
    );
    for _ in 0..8 {
        create_endpoint(&running.dispatcher, EndpointSettings::default()).await;
    }
    running.dispatcher.enqueue(event()).await.unwrap();
    until(|| slow.begun() == 8).await;
    slow.gate.add_permits(1);
    until(|| records.load(Ordering::SeqCst) == 1).await;
    slow.gate.add_permits(7);
    until(|| slow.gate.available_permits() == 0).await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        records.load(Ordering::SeqCst),
        1,
        "the others wait for the one"
    );
    gate.add_permits(8);
    let dispatcher = running.stop().await;
    assert_eq!(
        records.load(Ordering::SeqCst),
        2,
        "one of one, one of seven"
    );
    let deliveries = deliveries(&dispatcher).await;
    assert_eq!(deliveries.len(), 8);
    assert!(
        deliveries
            .iter()
            .all(|it| it.status == DeliveryStatus::Succeeded)
    );
}

/// A dispatcher with one event on a store that takes outcomes only once `is_back`, and how often it was asked to.
async fn without_records(
    clock: &ManualClock,
    receiver: &ScriptedTransport,
    is_back: impl Fn() -> bool + Send + Sync + 'static,
) -> (Running, Arc<AtomicUsize>) {
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&tries);
    let store = Intercepted::new(MemoryStore::new(), move |operation| {
        let refused = operation == "record" && !is_back();
        counted.fetch_add(usize::from(operation == "record"), Ordering::SeqCst);
        async move {
            if refused {
                Err(Error::new(ErrorKind::Unavailable, operation))
            } else {
                Ok(())
            }
        }
    });
    let builder = Dispatcher::builder(store).transport(receiver.clone());
    let running = Running::start(builder.clock(clock.clone()).max_in_flight(2).seed(1));
    create_endpoint(&running.dispatcher, EndpointSettings::default()).await;
    running.dispatcher.enqueue(event()).await.unwrap();
    until(|| tries.load(Ordering::SeqCst) > 0).await;
    (running, tries)
}

#[tokio::test]
async fn outcomes_wait_for_the_store_as_long_as_their_leases_last() {
    let (clock, receiver) = (ManualClock::default(), ScriptedTransport::default());
    let (began, its_clock) = (clock.now(), clock.clone());
    let is_back = move || its_clock.now().since(began) > Duration::from_secs(24);
    let (running, tries) = without_records(&clock, &receiver, is_back).await;
    while clock.now().since(began) < Duration::from_secs(30) {
        clock.advance(Duration::from_millis(100));
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    }
    assert!((8..20).contains(&tries.load(Ordering::SeqCst)), "{tries:?}");
    let dispatcher = running.stop().await;
    assert_eq!(receiver.requests().len(), 1);
    assert_eq!(
        deliveries(&dispatcher).await[0].status,
        DeliveryStatus::Succeeded
    );
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_a_store_that_stays_away() {
    let (clock, receiver) = (ManualClock::default(), ScriptedTransport::default());
    let (running, tries) = without_records(&clock, &receiver, || false).await;
    let began = clock.now();
    let stopping = tokio::spawn(running.stop());
    until(|| {
        clock.advance(Duration::from_millis(100));
        stopping.is_finished()
    })
    .await;
    assert!(clock.now().since(began) < Duration::from_secs(20));
    let tried = tries.load(Ordering::SeqCst);
    clock.advance(Duration::from_secs(60));
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(tries.load(Ordering::SeqCst), tried, "nothing goes on");
}

#[tokio::test]
async fn what_was_not_recorded_is_claimed_again_after_the_timeout_and_the_margin() {
    let seconds = Duration::from_secs;
    for (margin, lease) in [(seconds(3), seconds(8)), (seconds(1), seconds(6))] {
        let refuse = |operation| async move {
            match operation {
                "record" => Err(Error::new(ErrorKind::Rejected, operation)),
                _ => Ok(()),
            }
        };
        let clock = ManualClock::default();
        let builder = Dispatcher::builder(Intercepted::new(MemoryStore::new(), refuse))
            .transport(ScriptedTransport::default())
            .clock(clock.clone())
            .request_timeout(seconds(5))
            .lease_margin(margin);
        let dispatcher = builder.build().unwrap().erase();
        create_endpoint(&dispatcher, EndpointSettings::default()).await;
        dispatcher.enqueue(event()).await.unwrap();
        assert_eq!(dispatcher.step().await.unwrap().claimed, 1);
        clock.advance(lease - Duration::from_millis(1));
        assert_eq!(dispatcher.step().await.unwrap().claimed, 0);
        clock.advance(Duration::from_millis(1));
        assert_eq!(dispatcher.step().await.unwrap().claimed, 1);
    }
}

#[tokio::test]
async fn a_worker_follows_a_manual_clock() {
    let clock = ManualClock::default();
    let receiver = ScriptedTransport::new([503]);
    let recorded = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&recorded);
    let running = Running::start(
        Dispatcher::builder(MemoryStore::new())
            .transport(receiver.clone())
            .clock(clock.clone())
            .observer(move |_: &Notice<'_>| {
                count.fetch_add(1, Ordering::SeqCst);
            })
            .seed(1),
    );
    create_endpoint(&running.dispatcher, EndpointSettings::default()).await;
    running.dispatcher.enqueue(event()).await.unwrap();
    until(|| recorded.load(Ordering::SeqCst) == 1).await;
    clock.advance(Duration::from_secs(6));
    until(|| recorded.load(Ordering::SeqCst) == 2).await;
    assert_eq!(receiver.requests().len(), 2);
    running.stop().await;
}

#[tokio::test]
async fn a_running_worker_repairs_an_erased_queue() {
    let (queue, clock, receiver) = (
        MemoryQueue::default(),
        ManualClock::default(),
        ScriptedTransport::new([503]),
    );
    let running = Running::start(
        Dispatcher::builder(MemoryStore::new())
            .queue(queue.clone())
            .transport(receiver.clone())
            .clock(clock.clone())
            .seed(1),
    );
    create_endpoint(&running.dispatcher, EndpointSettings::default()).await;
    running.dispatcher.enqueue(event()).await.unwrap();
    until(|| receiver.requests().len() == 1).await;
    queue.erase();
    until(|| {
        clock.advance(Duration::from_millis(100));
        receiver.requests().len() == 2
    })
    .await;
    running.stop().await;
}

#[tokio::test]
async fn the_head_of_an_ordered_lane_is_fetched_when_a_follower_comes_up() {
    let (inner, queue) = (MemoryStore::new(), MemoryQueue::default());
    // No sweep helps.
    let store = Intercepted::new(inner.clone(), |operation| async move {
        match operation {
            "unqueued" => Err(Error::new(ErrorKind::Unavailable, operation)),
            _ => Ok(()),
        }
    });
    let (clock, receiver) = (ManualClock::default(), ScriptedTransport::default());
    let builder = || {
        Dispatcher::builder(store.clone())
            .queue(queue.clone())
            .transport(receiver.clone())
            .clock(clock.clone())
    };
    let dispatcher = builder().build().unwrap().erase();
    let ordered = EndpointSettings {
        ordered: true,
        ..Default::default()
    };
    create_endpoint(&dispatcher, ordered).await;
    let mut ids = Vec::new();
    for _ in 0..2 {
        ids.push(dispatcher.enqueue(event()).await.unwrap().to_string());
    }
    tokio::task::yield_now().await;
    queue.erase();
    let mut jobs = inner.unqueued(None, 10).await.unwrap();
    jobs.sort_by_key(|job| job.sequence);
    let now = Some(clock.now());
    queue.push(&jobs[1..], now).await.unwrap();

    let running = Running::start(builder());
    until(|| {
        clock.advance(Duration::from_millis(100));
        receiver.requests().len() == 2
    })
    .await;
    let sent = receiver.requests();
    let sent: Vec<_> = sent.iter().map(|it| &it.headers["webhook-id"]).collect();
    assert_eq!(sent, [&*ids[0], &*ids[1]]);
    running.stop().await;
}

#[tokio::test]
async fn a_cancelled_delivery_keeps_no_lease_in_an_index_queue() {
    let receiver = Slow::new();
    let running = Running::start(
        Dispatcher::builder(MemoryStore::new())
            .queue(MemoryQueue::default())
            .transport(receiver.clone())
            .clock(ManualClock::default()),
    );
    create_endpoint(&running.dispatcher, EndpointSettings::default()).await;
    running.dispatcher.enqueue(event()).await.unwrap();
    until(|| receiver.begun() == 1).await;
    let id = deliveries(&running.dispatcher).await[0].id;
    running.dispatcher.deliveries().cancel(id).await.unwrap();
    receiver.gate.add_permits(1);
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
    let depth = running.dispatcher.depth().await.unwrap();
    assert_eq!((depth.leased, depth.ready), (0, 0));
    running.stop().await;
}

#[tokio::test]
async fn two_workers_share_the_work_and_double_nothing() {
    let (store, receiver) = (MemoryStore::new(), ScriptedTransport::default());
    let running = [(); 2].map(|()| {
        Running::start(
            Dispatcher::builder(store.clone())
                .transport(receiver.clone())
                .max_in_flight(3),
        )
    });
    create_endpoint(&running[0].dispatcher, EndpointSettings::default()).await;
    for _ in 0..200 {
        running[0].dispatcher.enqueue(event()).await.unwrap();
    }
    until(|| receiver.requests().len() >= 200).await;
    for worker in running {
        worker.stop().await;
    }
    let ids: std::collections::HashSet<_> = receiver
        .requests()
        .iter()
        .map(|sent| sent.headers["webhook-id"].clone())
        .collect();
    assert_eq!((ids.len(), receiver.requests().len()), (200, 200));
}

#[tokio::test]
async fn a_run_that_is_dropped_takes_nothing_more() {
    let receiver = Slow::new();
    let running = Running::start(
        Dispatcher::builder(MemoryStore::new())
            .transport(receiver.clone())
            .max_in_flight(2),
    );
    for _ in 0..10 {
        create_endpoint(&running.dispatcher, EndpointSettings::default()).await;
    }
    running.dispatcher.enqueue(event()).await.unwrap();
    until(|| receiver.begun() == 2).await;
    running.worker.abort();
    running.worker.await.unwrap_err();
    receiver.gate.add_permits(10);
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
    assert_eq!(receiver.begun(), 2);
}

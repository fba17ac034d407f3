//! Outcomes that the store refuses, and deliveries that it cannot read.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::Response;
use webhook_core::testing::{Intercepted, ManualClock, Reply, ScriptedTransport, fast_forward};
use webhook_core::{
    Delivery, DeliveryStatus, Dispatcher, EndReason, EndpointSettings, Error, ErrorKind, Failure,
    MemoryQueue, MemoryStore, Outcome, Result, Step,
};

use crate::{DAY, create_endpoint, deliveries, event};

/// A store that answers its calls of `operation`, counted from 0, with an error where `fails`.
fn failing(
    operation: &'static str,
    kind: ErrorKind,
    fails: impl Fn(usize) -> bool + Send + Sync + 'static,
) -> Intercepted<MemoryStore> {
    let calls = AtomicUsize::new(0);
    Intercepted::new(MemoryStore::new(), move |called| {
        let refused = called == operation && fails(calls.fetch_add(1, Ordering::SeqCst));
        async move {
            match refused {
                true => Err(Error::new(kind, called)),
                false => Ok(()),
            }
        }
    })
}

/// A dispatcher on such a store, with an endpoint that answers `answers`.
struct World {
    dispatcher: Dispatcher,
    clock: ManualClock,
    receiver: ScriptedTransport,
}

impl World {
    async fn new(
        store: Intercepted<MemoryStore>,
        queue: Option<MemoryQueue>,
        answers: impl IntoIterator<Item = Reply>,
    ) -> Self {
        let (clock, receiver) = (ManualClock::default(), ScriptedTransport::new(answers));
        let mut builder = Dispatcher::builder(store)
            .transport(receiver.clone())
            .clock(clock.clone());
        if let Some(queue) = queue {
            builder = builder.queue(queue);
        }
        let dispatcher = builder.build().unwrap().erase();
        create_endpoint(&dispatcher, EndpointSettings::default()).await;
        Self {
            dispatcher,
            clock,
            receiver,
        }
    }

    async fn enqueue(&self, count: usize) {
        for _ in 0..count {
            self.dispatcher.enqueue(event()).await.unwrap();
        }
    }

    async fn step(&self) -> Result<Step> {
        self.dispatcher.step().await
    }

    async fn a_day_passes(&self) {
        fast_forward(&self.dispatcher, &self.clock, DAY)
            .await
            .unwrap();
    }

    fn sent(&self) -> usize {
        self.receiver.requests().len()
    }

    /// The only delivery.
    async fn delivery(&self) -> Delivery {
        deliveries(&self.dispatcher).await.remove(0)
    }
}

fn answer(status: u16) -> Reply {
    let response = Response::builder().status(status).header("x-odd", "odd");
    Reply::from(response.body(bytes::Bytes::from_static(b"odd")).unwrap())
}

#[tokio::test]
async fn one_refused_outcome_does_not_take_the_others_along() {
    // The shared record, then the second of the single ones.
    let store = failing("record", ErrorKind::Rejected, |call| matches!(call, 0 | 2));
    let world = World::new(store, None, []).await;
    world.enqueue(3).await;
    world.step().await.unwrap();
    let all = deliveries(&world.dispatcher).await;
    assert!(all.iter().all(|it| it.status == DeliveryStatus::Succeeded));
    assert_eq!((all.len(), world.sent()), (3, 3));
}

#[tokio::test]
async fn an_outcome_that_is_refused_is_recorded_without_what_came_over_the_wire() {
    let store = failing("record", ErrorKind::Rejected, |call| call == 0);
    let world = World::new(store, None, [answer(503), answer(200)]).await;
    world.enqueue(1).await;
    world.step().await.unwrap();
    let waiting = world.delivery().await;
    assert_eq!(
        (waiting.status, waiting.attempts),
        (DeliveryStatus::Pending, 1)
    );
    assert_eq!(waiting.last_error, Some(Failure::Status(503)));
    world.a_day_passes().await;
    let ended = world.delivery().await;
    assert_eq!(
        (ended.status, ended.attempts),
        (DeliveryStatus::Succeeded, 2)
    );
    let attempts = world.dispatcher.deliveries();
    let attempts = attempts.attempts(ended.id);
    let bodies = attempts
        .await
        .unwrap()
        .into_iter()
        .map(|it| match it.outcome {
            Outcome::Response {
                body, truncated, ..
            } => (body.len(), truncated),
            Outcome::Failed(_) => panic!("it was answered"),
        });
    assert_eq!(bodies.collect::<Vec<_>>(), [(0, true), (3, false)]);
}

#[tokio::test]
async fn an_outcome_that_is_refused_however_little_it_says_ends_the_delivery() {
    let dead = (DeliveryStatus::Failed, Some(EndReason::Corrupt), 0);
    let succeeded = (DeliveryStatus::Succeeded, None, 0);
    for (status, end) in [(503, dead), (200, succeeded)] {
        let store = failing("record", ErrorKind::Rejected, |call| call < 2);
        let world = World::new(store, None, [answer(status)]).await;
        world.enqueue(1).await;
        world.a_day_passes().await;
        let ended = world.delivery().await;
        assert_eq!((ended.status, ended.end_reason, ended.attempts), end);
        assert_eq!(world.sent(), 1);
    }
}

#[tokio::test]
async fn a_request_is_not_repeated_because_its_outcome_is_refused() {
    for queue in [None, Some(MemoryQueue::default())] {
        for (status, end) in [
            (200, DeliveryStatus::Succeeded),
            (503, DeliveryStatus::Failed),
        ] {
            // Three forms of an outcome, and what each lease that ends asks for again.
            let store = failing("record", ErrorKind::Internal, |call| call < 40);
            let world = World::new(store, queue.clone(), [answer(status)]).await;
            world.enqueue(1).await;
            for _ in 0..50 {
                assert_eq!(world.delivery().await.attempts, 0);
                world.step().await.unwrap();
                world.clock.advance(Duration::from_secs(31));
            }
            let ended = world.delivery().await;
            assert_eq!((ended.status, world.sent()), (end, 1));
        }
    }
}

#[tokio::test]
async fn a_store_that_panics_over_a_batch_of_claims_is_asked_for_them_one_by_one() {
    let loads = AtomicUsize::new(0);
    let store = Intercepted::new(MemoryStore::new(), move |called| {
        let panics = called == "load" && loads.fetch_add(1, Ordering::SeqCst) < 2;
        async move {
            assert!(!panics, "a defect");
            Ok(())
        }
    });
    let world = World::new(store, None, []).await;
    world.enqueue(3).await;
    assert_eq!(world.step().await.unwrap().claimed, 3);
    // The batch and then the first of them met the defect.
    assert_eq!(world.sent(), 2);
    world.a_day_passes().await;
    assert_eq!(world.sent(), 3);
}

#[tokio::test]
async fn a_store_that_panics_over_an_outcome_refuses_it() {
    let calls = Arc::new(AtomicUsize::new(0));
    let store = Intercepted::new(MemoryStore::new(), move |called| {
        let panics = called == "record" && calls.fetch_add(1, Ordering::SeqCst) == 0;
        async move {
            assert!(!panics, "a defect");
            Ok(())
        }
    });
    let world = World::new(store, None, [answer(200)]).await;
    world.enqueue(1).await;
    world.step().await.unwrap();
    assert_eq!(world.delivery().await.status, DeliveryStatus::Succeeded);
}

#[tokio::test]
async fn a_delivery_that_cannot_be_read_does_not_keep_others_back() {
    // The shared load, then the first of the single ones.
    let store = failing("load", ErrorKind::Corrupt, |call| call < 2);
    let world = World::new(store, None, []).await;
    world.enqueue(3).await;
    world.step().await.unwrap();
    assert_eq!(world.sent(), 2);
    let claimed = world.step().await.unwrap().claimed;
    assert_eq!(claimed, 0, "it is left alone for a while");
}

#[tokio::test]
async fn a_delivery_that_can_never_be_read_becomes_a_dead_letter() {
    for queue in [None, Some(MemoryQueue::default())] {
        // Until it has ended: the shared load and the single one, three times.
        let store = failing("load", ErrorKind::Corrupt, |call| call < 6);
        let world = World::new(store, queue, []).await;
        world.enqueue(1).await;
        world.a_day_passes().await;
        let dead = world.delivery().await;
        assert_eq!(
            (dead.status, dead.end_reason),
            (DeliveryStatus::Failed, Some(EndReason::Corrupt))
        );
        assert_eq!((dead.attempts, world.sent()), (0, 0));
        let depth = world.dispatcher.depth().await.unwrap();
        assert_eq!((depth.ready, depth.parked, depth.leased), (0, 0, 0));
    }
}

#[tokio::test]
async fn deliveries_are_not_given_up_for_what_ails_the_store() {
    let store = failing("load", ErrorKind::Internal, |call| call < 100);
    let world = World::new(store, None, []).await;
    world.enqueue(2).await;
    world.a_day_passes().await;
    let all = deliveries(&world.dispatcher).await;
    assert!(all.iter().all(|it| it.status == DeliveryStatus::Succeeded));
    assert_eq!(world.sent(), 2);
}

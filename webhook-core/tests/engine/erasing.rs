//! Erasing a tenant, and the processes that are alive.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use webhook_core::testing::{Intercepted, ManualClock, ScriptedTransport, fast_forward};
use webhook_core::{
    Dispatcher, EndpointSettings, Error, ErrorKind, ManageError, MemoryStore, PageRequest, Scope,
    Tenant, Transport, TransportError,
};

use crate::{World, create_endpoint, event, until};

fn tenant(name: &str) -> Tenant {
    Tenant::new(name).unwrap()
}

#[tokio::test]
async fn nothing_goes_to_a_tenant_once_it_is_erased() {
    let world = World::new(ScriptedTransport::default());
    world.endpoint(EndpointSettings::default()).await;
    for _ in 0..3 {
        world.enqueue().await;
    }
    let tenants = world.dispatcher.tenants();
    tenants.delete(&Tenant::default()).await.unwrap();
    let erased = world.dispatcher.erase();
    fast_forward(&erased, &world.clock, Duration::from_secs(600))
        .await
        .unwrap();
    assert!(world.receiver.requests().is_empty());
    assert!(world.deliveries().await.is_empty());
    let step = world.dispatcher.step().await.unwrap();
    assert_eq!(
        (step.claimed, step.next_due),
        (0, None),
        "nothing is left to do"
    );
}

#[tokio::test]
async fn another_tenant_is_not_there_to_be_erased() {
    let world = World::new(ScriptedTransport::default());
    world.endpoint(EndpointSettings::default()).await;
    let foreign = world.dispatcher.tenants().within(tenant("other"));
    let refused = foreign.delete(&Tenant::default()).await.unwrap_err();
    assert!(matches!(refused, ManageError::NotFound("tenant")));
    let endpoints = world
        .dispatcher
        .endpoints()
        .list(PageRequest::first(9))
        .await;
    assert_eq!(endpoints.unwrap().items.len(), 1);
    let own = world
        .dispatcher
        .tenants()
        .within(Scope::from(Tenant::default()));
    own.delete(&Tenant::default()).await.unwrap();
    let endpoints = world
        .dispatcher
        .endpoints()
        .list(PageRequest::first(9))
        .await;
    assert!(endpoints.unwrap().items.is_empty());
}

#[tokio::test]
async fn a_running_process_erases_what_another_was_asked_to_and_outlives_failures() {
    let (store, clock) = (MemoryStore::new(), ManualClock::default());
    let failures = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&failures);
    let failing = Intercepted::new(store.clone(), move |operation| {
        let fails = operation == "step_erasure" && counted.fetch_add(1, Ordering::SeqCst) < 2;
        async move {
            match fails {
                true => Err(Error::new(ErrorKind::Unavailable, operation)),
                false => Ok(()),
            }
        }
    });
    let build = |builder: webhook_core::Builder<Intercepted<MemoryStore>>| {
        let builder = builder.transport(ScriptedTransport::default());
        builder.clock(clock.clone()).build().unwrap().erase()
    };
    let worker = build(Dispatcher::builder(failing));
    let api = Dispatcher::builder(store)
        .transport(ScriptedTransport::default())
        .clock(clock.clone())
        .build()
        .unwrap()
        .erase();
    create_endpoint(&api, EndpointSettings::default()).await;
    let id = api.enqueue(event()).await.unwrap();
    api.tenants().delete(&Tenant::default()).await.unwrap();

    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = worker.run(async { stopped.await.unwrap_or(()) });
    let looked = async {
        while api.events().get(id).await.is_ok() {
            clock.advance(Duration::from_secs(1));
            tokio::task::yield_now().await;
        }
        stop.send(()).unwrap();
    };
    tokio::join!(running, looked);
    assert!(failures.load(Ordering::SeqCst) > 2, "it failed at first");
}

#[tokio::test]
async fn a_process_is_among_those_alive_while_it_runs() {
    let world = World::new(ScriptedTransport::default());
    let dispatcher = Dispatcher::builder(world.store.clone())
        .transport(world.receiver.clone())
        .clock(world.clock.clone())
        .max_in_flight(7)
        .role("mail\nroom")
        .build()
        .unwrap();
    let alive = async || dispatcher.processes().await.unwrap();
    assert!(alive().await.is_empty());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = dispatcher.run(async { stopped.await.unwrap_or(()) });
    let looked = async {
        while alive().await.is_empty() {
            tokio::task::yield_now().await;
        }
        let first = alive().await.remove(0);
        assert_eq!((first.role.as_str(), first.slots), ("mailroom", 7));
        assert_eq!(first.in_flight, 0);
        while alive().await[0].seen_at == first.seen_at {
            world.clock.advance(Duration::from_secs(1));
            tokio::task::yield_now().await;
        }
        let again = alive().await.remove(0);
        let beat = again.seen_at.since(first.seen_at);
        assert!((27..=34).contains(&beat.as_secs()), "{beat:?}");
        assert_eq!((again.id, again.started_at), (first.id, first.started_at));
        stop.send(()).unwrap();
    };
    tokio::join!(running, looked);
    assert!(alive().await.is_empty(), "it has said that it ended");
}

/// A receiver that never answers.
#[derive(Clone, Default)]
struct Hung(Arc<AtomicUsize>);

#[async_trait]
impl Transport for Hung {
    async fn send(&self, _: Request<Bytes>) -> Result<Response<Bytes>, TransportError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        std::future::pending().await
    }
}

#[tokio::test]
async fn attempts_under_way_are_told_of_a_process() {
    let (hung, clock) = (Hung::default(), ManualClock::default());
    let dispatcher = Dispatcher::builder(MemoryStore::new())
        .transport(hung.clone())
        .clock(clock.clone())
        .request_timeout(Duration::from_secs(60))
        .build()
        .unwrap()
        .erase();
    create_endpoint(&dispatcher, EndpointSettings::default()).await;
    dispatcher.enqueue(event()).await.unwrap();
    let worker = dispatcher.clone();
    let running = tokio::spawn(async move { worker.run(std::future::pending()).await });
    until(|| hung.0.load(Ordering::SeqCst) == 1).await;
    clock.advance(Duration::from_secs(34));
    let told = async || dispatcher.processes().await.unwrap()[0].in_flight;
    for _ in 0..1_000 {
        if told().await == 1 {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(told().await, 1);
    running.abort();
}

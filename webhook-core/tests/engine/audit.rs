//! Who did what, as the handles write it down.

use std::time::Duration;

use webhook_core::testing::{Intercepted, ManualClock, ScriptedTransport, fast_forward};
use webhook_core::{
    AuditEntry, AuditFilter, CustomHeaders, DeliveryFilter, DeliveryStatus, Dispatcher,
    EndpointChange, EndpointSettings, EndpointState, Error, ErrorKind, MemoryStore,
    NewCatalogueEntry, NewEndpoint, NewEvent, NewReplay, PageRequest, ReplaySelection, Scope,
    Tenant, TestEvent,
};

use crate::World;

const URL: &str = "https://hooks.example.com/in";

async fn log<S: ?Sized>(dispatcher: &Dispatcher<S>) -> Vec<AuditEntry> {
    let page = PageRequest::first(100);
    let page = dispatcher.audit().list(&AuditFilter::default(), page).await;
    page.unwrap().items
}

/// What the log says, oldest first: the tenant, if it is one's, what was done, to what, and the detail.
async fn told<S: ?Sized>(dispatcher: &Dispatcher<S>) -> Vec<String> {
    let line = |entry: &AuditEntry| {
        assert_eq!(entry.actor, "ann");
        let tenant = entry.tenant.as_ref().map_or("*", Tenant::as_str);
        let AuditEntry {
            action,
            target,
            detail,
            ..
        } = entry;
        format!("{tenant} {action} {target} {detail}")
    };
    log(dispatcher).await.iter().rev().map(line).collect()
}

fn new_endpoint() -> NewEndpoint {
    NewEndpoint::new(URL.parse().unwrap())
}

#[tokio::test]
async fn what_is_done_to_endpoints_is_written_down_without_values() {
    let world = World::new(ScriptedTransport::default());
    let endpoints = world.dispatcher.endpoints().by("ann");
    let id = endpoints.create(new_endpoint()).await.unwrap().id;
    let change = |wanted: &mut EndpointChange| {
        wanted.url = "https://hooks.example.com/?token=s3cret".parse().unwrap();
        wanted.settings.description = "s3cret".into();
        wanted.state = EndpointState::Paused;
    };
    endpoints.update(id, change).await.unwrap();
    let enable = |wanted: &mut EndpointChange| wanted.state = EndpointState::Enabled;
    endpoints.update(id, enable).await.unwrap();
    let overlap = Duration::from_secs(60);
    endpoints.rotate_secret(id, overlap).await.unwrap();
    endpoints.delete(id).await.unwrap();
    let expected = [
        format!("default endpoint.create {id} "),
        format!("default endpoint.update {id} url, state: paused, description"),
        format!("default endpoint.update {id} state: enabled"),
        format!("default endpoint.rotate_secret {id} overlap: 60 s"),
        format!("default endpoint.delete {id} "),
    ];
    assert_eq!(told(&world.dispatcher).await, expected);
}

#[tokio::test]
async fn a_change_that_changes_nothing_is_neither_stored_nor_written_down() {
    let world = World::new(ScriptedTransport::default());
    let endpoints = world.dispatcher.endpoints().by("ann");
    let headers = CustomHeaders::new([("x-key", "7")], []).unwrap();
    let new = new_endpoint().headers(headers);
    let made = endpoints.create(new).await.unwrap();
    world.clock.advance(Duration::from_secs(60));
    let same = |wanted: &mut EndpointChange| wanted.state = EndpointState::Enabled;
    let left = endpoints.update(made.id, same).await.unwrap();
    let stored = endpoints.get(made.id).await.unwrap();
    for it in [left, stored] {
        assert_eq!((it.version, it.updated_at), (made.version, made.updated_at));
    }
    // The same value, and nobody may see it any more.
    let hide = |wanted: &mut EndpointChange| {
        wanted.settings.headers = CustomHeaders::new([], [("x-key", "7")]).unwrap();
    };
    endpoints.update(made.id, hide).await.unwrap();
    // Whoever asks for it wants it to be tried again, also where nothing else is different.
    let recover = |wanted: &mut EndpointChange| wanted.recover = true;
    endpoints.update(made.id, recover).await.unwrap();
    let expected = [
        format!("default endpoint.create {} ", made.id),
        format!("default endpoint.update {} headers", made.id),
        format!("default endpoint.update {} ", made.id),
    ];
    assert_eq!(told(&world.dispatcher).await, expected);
}

#[tokio::test]
async fn what_is_done_to_events_and_deliveries_is_written_down() {
    let world = World::new(ScriptedTransport::default());
    let dispatcher = &world.dispatcher;
    world.endpoint(EndpointSettings::default()).await;
    let event = world.enqueue().await;
    let erased = dispatcher.erase();
    fast_forward(&erased, &world.clock, Duration::ZERO)
        .await
        .unwrap();
    let first = world.deliveries().await.remove(0).id;
    let deliveries = dispatcher.deliveries().by("ann");
    let second = deliveries.replay(first).await.unwrap();
    deliveries.cancel(second).await.unwrap();
    let events = dispatcher.events().by("ann");
    events.replay(event).await.unwrap();
    let sent = NewEvent::json("order.paid", &1).unwrap();
    let sent = dispatcher.enqueue_by("ann", sent).await.unwrap();
    let expected = [
        format!("default delivery.replay {first} delivery: {second}"),
        format!("default delivery.cancel {second} "),
        format!("default event.replay {event} deliveries: 1"),
        format!("default event.send {sent} order.paid"),
    ];
    assert_eq!(told(dispatcher).await, expected);
}

#[tokio::test]
async fn what_concerns_all_tenants_is_written_down_as_that() {
    let world = World::new(ScriptedTransport::default());
    let dispatcher = &world.dispatcher;
    let replays = dispatcher.replays().by("ann");
    let failed = ReplaySelection::Deliveries(DeliveryFilter {
        status: Some(DeliveryStatus::Failed),
        ..DeliveryFilter::default()
    });
    let replay = replays.start(NewReplay::new(failed)).await.unwrap().id;
    replays.cancel(replay).await.unwrap();
    let entry = NewCatalogueEntry::new("order.paid".parse().unwrap());
    let types = dispatcher.event_types().by("ann");
    types.put(entry).await.unwrap();
    let expected = [
        format!("* replay.start {replay} deliveries"),
        format!("* replay.cancel {replay} "),
        "* event_type.put order.paid without a schema".to_owned(),
    ];
    assert_eq!(told(dispatcher).await, expected);
}

#[tokio::test]
async fn a_test_of_an_endpoint_is_written_down() {
    let world = World::new(ScriptedTransport::default());
    let endpoint = world.endpoint(EndpointSettings::default()).await;
    let dispatcher = world.dispatcher.erase();
    let endpoints = dispatcher.endpoints().by("ann");
    let work = async {
        while dispatcher.step().await.unwrap().claimed == 0 {
            tokio::task::yield_now().await;
        }
        world.clock.advance(Duration::from_millis(20));
    };
    let (tested, ()) = tokio::join!(endpoints.test(endpoint.id, TestEvent::default()), work);
    tested.unwrap();
    let expected = format!("default endpoint.test {} webhook.test", endpoint.id);
    assert_eq!(told(&dispatcher).await, [expected]);
}

#[tokio::test]
async fn what_failed_and_what_nobody_is_named_for_is_not_written_down() {
    let world = World::new(ScriptedTransport::default());
    let endpoint = world.endpoint(EndpointSettings::default()).await;
    let foreign = Scope::from(Tenant::new("other").unwrap());
    let endpoints = world.dispatcher.endpoints().by("ann").within(foreign);
    endpoints.delete(endpoint.id).await.unwrap_err();
    endpoints
        .rotate_secret(endpoint.id, Duration::ZERO)
        .await
        .unwrap_err();
    let no_change = world
        .dispatcher
        .deliveries()
        .by("ann")
        .cancel(endpoint.id)
        .await;
    no_change.unwrap_err();
    assert_eq!(log(&world.dispatcher).await, []);
}

#[tokio::test]
async fn what_was_done_has_not_failed_because_the_log_has() {
    let store = Intercepted::new(MemoryStore::new(), |operation| async move {
        match operation {
            "append_audit" => Err(Error::new(ErrorKind::Unavailable, operation)),
            _ => Ok(()),
        }
    });
    let dispatcher = Dispatcher::builder(store)
        .transport(ScriptedTransport::default())
        .clock(ManualClock::default())
        .build()
        .unwrap();
    let endpoints = dispatcher.endpoints().by("ann");
    let endpoint = endpoints
        .create(NewEndpoint::new(URL.parse().unwrap()))
        .await
        .unwrap();
    endpoints.delete(endpoint.id).await.unwrap();
    assert_eq!(log(&dispatcher).await, []);
}

//! What the first screen says of the engine, and to whom; and what waits for an endpoint.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use webhook_axum::{Auth, router};
use webhook_core::testing::{Intercepted, ManualClock, ScriptedTransport, fast_forward};
use webhook_core::{
    Clock as _, Dispatcher, EndpointChange, EndpointState, Error, ErrorKind, MemoryStore,
    NewEndpoint, NewEvent, Process, Store as _,
};

use super::{Viewer, get};

fn engine(store: &MemoryStore, clock: &ManualClock) -> Dispatcher {
    let builder = Dispatcher::builder(store.clone()).transport(ScriptedTransport::default());
    builder.clock(clock.clone()).build().unwrap().erase()
}

#[tokio::test]
async fn processes_that_deliver_are_shown_to_those_who_run_them() {
    let (store, clock) = (MemoryStore::new(), ManualClock::default());
    let dispatcher = engine(&store, &clock);
    let app: Router = router(dispatcher.clone(), Auth::none());
    let none = get(&app, "/dashboard/").await.text;
    assert!(none.contains("None: nothing is delivered now."), "{none}");
    let process = Process {
        id: uuid::Uuid::from_u128(7),
        role: "worker-of-eu".to_owned(),
        version: "1.2.3".to_owned(),
        started_at: clock.now(),
        seen_at: clock.now(),
        in_flight: 3,
        slots: 256,
    };
    store.put_process(&process, None).await.unwrap();
    let shown = get(&app, "/dashboard/").await.text;
    for text in ["worker-of-eu", "1.2.3", "3 of 256"] {
        assert!(shown.contains(text), "{text}: {shown}");
    }
    let tenant: Router = router(dispatcher, Auth::custom(Viewer));
    let theirs = get(&tenant, "/dashboard/").await.text;
    assert!(!theirs.contains("worker-of-eu") && !theirs.contains("Processes"));
}

#[tokio::test]
async fn an_endpoint_says_what_waits_for_it_and_how_late_that_is() {
    let clock = ManualClock::default();
    let dispatcher = engine(&MemoryStore::new(), &clock);
    let app: Router = router(dispatcher.clone(), Auth::none());
    let new = NewEndpoint::new("https://example.com".parse().unwrap());
    let endpoint = dispatcher.endpoints().create(new).await.unwrap();
    let path = format!("/dashboard/endpoints/{}", endpoint.id);
    let before = get(&app, &path).await.text;
    assert!(before.contains("<dd>on time</dd>"), "{before}");
    let event = NewEvent::json("a", &1).unwrap();
    dispatcher.enqueue(event).await.unwrap();
    clock.advance(Duration::from_secs(7_200));
    let after = get(&app, &path).await.text;
    assert!(after.contains("<dd>2.0 h late</dd>"), "{after}");
}

#[tokio::test]
async fn what_needs_a_look_is_said_first_and_nothing_when_all_is_well() {
    let (store, clock) = (MemoryStore::new(), ManualClock::default());
    let dispatcher = engine(&store, &clock);
    let app: Router = router(dispatcher.clone(), Auth::none());
    let new = NewEndpoint::new("https://example.com".parse().unwrap());
    dispatcher.endpoints().create(new).await.unwrap();
    dispatcher
        .enqueue(NewEvent::json("a", &1).unwrap())
        .await
        .unwrap();
    clock.advance(Duration::from_secs(7_200));
    let page = get(&app, "/dashboard/").await.text;
    for text in [
        "No process delivers: events are accepted, and wait.",
        "The oldest delivery that is due is 2.0 h late",
    ] {
        assert!(page.contains(text), "{text}: {page}");
    }
    assert!(page.find("What needs a look") < page.find("<h2>"));
    fast_forward(&dispatcher, &clock, Duration::ZERO)
        .await
        .unwrap();
    let process = Process {
        id: uuid::Uuid::from_u128(7),
        role: "all".to_owned(),
        version: "1".to_owned(),
        started_at: clock.now(),
        seen_at: clock.now(),
        in_flight: 0,
        slots: 1,
    };
    store.put_process(&process, clock.pinned()).await.unwrap();
    let page = get(&app, "/dashboard/").await.text;
    assert!(!page.contains("What needs a look"), "{page}");
}

#[tokio::test]
async fn endpoints_that_breakers_leave_alone_are_listed_until_when() {
    let clock = ManualClock::default();
    let dispatcher = Dispatcher::builder(MemoryStore::new())
        .transport(ScriptedTransport::new([503; 40]))
        .clock(clock.clone())
        .build()
        .unwrap()
        .erase();
    let app: Router = router(dispatcher.clone(), Auth::none());
    let new = NewEndpoint::new("https://broken.example.com".parse().unwrap());
    dispatcher.endpoints().create(new).await.unwrap();
    let closed = get(&app, "/dashboard/").await.text;
    assert!(!closed.contains("Left alone"));
    for _ in 0..40 {
        let event = NewEvent::json("a", &1).unwrap();
        dispatcher.enqueue(event).await.unwrap();
    }
    fast_forward(&dispatcher, &clock, Duration::ZERO)
        .await
        .unwrap();
    let page = get(&app, "/dashboard/").await.text;
    let open = page.split("Left alone by their breakers").nth(1);
    let open = open.unwrap().split("</ul>").next().unwrap();
    for text in ["https://broken.example.com", "badge open", "until <time "] {
        assert!(open.contains(text), "{text}: {open}");
    }
}

#[tokio::test]
async fn endpoints_that_get_nothing_are_listed_however_many_were_made_since() {
    let clock = ManualClock::default();
    let dispatcher = Dispatcher::builder(MemoryStore::new())
        .transport(ScriptedTransport::new([410].into_iter().chain([503; 40])))
        .clock(clock.clone())
        .build()
        .unwrap()
        .erase();
    let app: Router = router(dispatcher.clone(), Auth::none());
    let make = async |host: &str, event_type: &str| {
        let new = NewEndpoint::new(format!("https://{host}.example.com").parse().unwrap());
        let new = new.event_types(vec![event_type.parse().unwrap()]);
        dispatcher.endpoints().create(new).await.unwrap().id
    };
    let gone = make("gone", "gone").await;
    make("broken", "broken").await;
    for event_type in ["gone"].into_iter().chain(["broken"; 20]) {
        let event = NewEvent::json(event_type, &1).unwrap();
        dispatcher.enqueue(event).await.unwrap();
        fast_forward(&dispatcher, &clock, Duration::ZERO)
            .await
            .unwrap();
    }
    for index in 0..230 {
        make(&format!("newer{index}"), "other").await;
    }
    // The range that is shown knows nothing of their attempts any more.
    clock.advance(Duration::from_secs(7_200));
    let page = get(&app, "/dashboard/?range=1h").await.text;
    let open = page.split("Left alone by their breakers").nth(1).unwrap();
    let (open, disabled) = open.split_once("<h2>Disabled</h2>").unwrap();
    assert!(open.contains("https://broken.example.com"), "{page}");
    assert!(disabled.contains("https://gone.example.com"), "{page}");

    let resume = |it: &mut EndpointChange| it.state = EndpointState::Enabled;
    dispatcher.endpoints().update(gone, resume).await.unwrap();
    clock.advance(Duration::from_secs(30));
    let page = get(&app, "/dashboard/").await.text;
    assert!(!page.contains("<h2>Disabled</h2>"), "{page}");
}

#[tokio::test]
async fn the_older_endpoints_are_not_read_anew_for_each_reader() {
    let looks = Arc::new(AtomicUsize::new(0));
    let counted = looks.clone();
    let store = Intercepted::new(MemoryStore::new(), move |operation| {
        counted.fetch_add(usize::from(operation == "endpoints"), Ordering::Relaxed);
        std::future::ready(Ok(()))
    });
    let clock = ManualClock::default();
    let builder = Dispatcher::builder(store).transport(ScriptedTransport::default());
    let dispatcher = builder.clock(clock).build().unwrap().erase();
    let app: Router = router(dispatcher.clone(), Auth::none());
    for _ in 0..300 {
        let new = NewEndpoint::new("https://example.com".parse().unwrap());
        dispatcher.endpoints().create(new).await.unwrap();
    }
    for expected in [2, 1, 1] {
        assert_eq!(get(&app, "/dashboard/").await.status, 200);
        assert_eq!(looks.swap(0, Ordering::Relaxed), expected);
    }
}

/// An engine whose store answers while the second says so.
pub(crate) fn engine_of_an_unsteady_store(clock: &ManualClock) -> (Dispatcher, Arc<AtomicBool>) {
    let is_there = Arc::new(AtomicBool::new(true));
    let asked = is_there.clone();
    let store = Intercepted::new(MemoryStore::new(), move |operation| {
        let away = Error::new(ErrorKind::Unavailable, operation);
        std::future::ready(asked.load(Ordering::Relaxed).then_some(()).ok_or(away))
    });
    let builder = Dispatcher::builder(store).transport(ScriptedTransport::default());
    let builder = builder.clock(clock.clone());
    (builder.build().unwrap().erase(), is_there)
}

#[tokio::test]
async fn what_is_known_without_the_store_is_said_until_it_is_back() {
    let clock = ManualClock::default();
    let (dispatcher, is_there) = engine_of_an_unsteady_store(&clock);
    let app: Router = router(dispatcher, Auth::none());
    is_there.store(false, Ordering::Relaxed);
    let noticed = clock.now();
    for _ in 0..2 {
        let away = get(&app, "/dashboard/?range=1h").await;
        assert_eq!(away.status, 503);
        assert_eq!(away.headers["retry-after"], "10");
        for text in [
            "<strong>The store does not answer</strong>".to_owned(),
            format!("since <time datetime=\"{noticed}\">"),
            "Queue <span class=\"badge succeeded\">ok".to_owned(),
            "This process is alive; it does not deliver".to_owned(),
            "<noscript><meta http-equiv=\"refresh\" content=\"10\">".to_owned(),
            "data-live=\"away\"".to_owned(),
        ] {
            assert!(away.text.contains(&text), "{text}: {}", away.text);
        }
        clock.advance(Duration::from_secs(60));
    }
    is_there.store(true, Ordering::Relaxed);
    assert_eq!(get(&app, "/dashboard/").await.status, 200);
    is_there.store(false, Ordering::Relaxed);
    let again = get(&app, "/dashboard/").await.text;
    let since = format!("since <time datetime=\"{}\">", clock.now());
    assert!(again.contains(&since), "{again}");
}

#[tokio::test]
async fn a_process_that_says_nothing_any_more_is_not_counted_as_alive() {
    let (store, clock) = (MemoryStore::new(), ManualClock::default());
    let app: Router = router(engine(&store, &clock), Auth::none());
    let put = async |id, role: &str| {
        let process = Process {
            id: uuid::Uuid::from_u128(id),
            role: role.to_owned(),
            version: "1".to_owned(),
            started_at: clock.now(),
            seen_at: clock.now(),
            in_flight: 0,
            slots: 1,
        };
        store.put_process(&process, clock.pinned()).await.unwrap();
    };
    put(7, "killed").await;
    clock.advance(Process::BEAT);
    put(8, "well").await;
    let page = get(&app, "/dashboard/").await.text;
    assert!(!page.contains("not heard of"), "{page}");
    clock.advance(Duration::from_secs(20));
    let page = get(&app, "/dashboard/").await.text;
    let (_, killed) = page.split_once("<td>killed</td>").unwrap();
    let (killed, _) = killed.split_once("</tr>").unwrap();
    assert!(killed.contains("not heard of for 50.0 s"), "{page}");
    assert_eq!(page.matches("not heard of").count(), 1, "{page}");
    assert!(page.contains("heard lately of 1 of 2 processes"), "{page}");
    clock.advance(Process::BEAT);
    let page = get(&app, "/dashboard/").await.text;
    assert!(page.contains("No process delivers"), "{page}");
    assert_eq!(page.matches("not heard of").count(), 2, "{page}");
}

//! What an open page is told, how many are told, and for how long.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;
use webhook_axum::{Auth, router};
use webhook_core::testing::{Intercepted, ManualClock, ScriptedTransport};
use webhook_core::{Dispatcher, Error, ErrorKind, MemoryStore, NewEndpoint, NewEvent};

use super::overview::engine_of_an_unsteady_store;
use super::{Named, get};

const PAUSE: Duration = Duration::from_secs(2);
/// As many pages as are told at once.
const MOST: usize = 64;
/// As many of them may be one caller's, or one tenant's.
const MOST_OF_ONE: usize = 16;

fn engine(clock: &ManualClock) -> Dispatcher {
    let builder = Dispatcher::builder(MemoryStore::new()).transport(ScriptedTransport::default());
    builder.clock(clock.clone()).build().unwrap().erase()
}

async fn open(app: &Router, known: Option<&str>) -> (StatusCode, Body) {
    let request = Request::builder().uri("/dashboard/live");
    ask(
        app,
        match known {
            Some(known) => request.header("last-event-id", known),
            None => request,
        },
    )
    .await
}

/// As `open`, for whom [`Named`] lets in by this name.
async fn open_as(app: &Router, who: &str) -> (StatusCode, Body) {
    let request = Request::builder().uri("/dashboard/live");
    ask(app, request.header("x-who", who)).await
}

async fn ask(app: &Router, request: http::request::Builder) -> (StatusCode, Body) {
    let request = request.body(Body::empty()).unwrap();
    let response = app.clone().oneshot(request).await.unwrap();
    (response.status(), response.into_body())
}

/// What the stream says next; nothing if it has ended.
async fn heard(stream: &mut Body) -> Option<String> {
    let frame = stream.frame().await?.unwrap();
    let bytes = frame.into_data().unwrap();
    Some(String::from_utf8(bytes.to_vec()).unwrap())
}

/// What it says when it has paused once more.
async fn heard_next(stream: &mut Body, clock: &ManualClock) -> Option<String> {
    let time_passes = async {
        // The stream pauses first.
        tokio::task::yield_now().await;
        clock.advance(PAUSE);
    };
    tokio::join!(heard(stream), time_passes).0
}

/// What it says after these, one after the other.
async fn heard_after(
    stream: &mut Body,
    clock: &ManualClock,
    pauses: &[Duration],
) -> Option<String> {
    let time_passes = async {
        for pause in pauses {
            // What waits for it has begun to: of those that are joined, either one may be polled first.
            for _ in 0..4 {
                tokio::task::yield_now().await;
            }
            clock.advance(*pause);
        }
    };
    tokio::join!(heard(stream), time_passes).0
}

fn id(heard: &str) -> &str {
    let lines = heard.lines().find_map(|line| line.strip_prefix("id: "));
    lines.expect("each event has an id")
}

#[tokio::test]
async fn a_page_hears_of_a_change_and_of_nothing_else() {
    let clock = ManualClock::default();
    let dispatcher = engine(&clock);
    let new = NewEndpoint::new("https://example.com".parse().unwrap());
    dispatcher.endpoints().create(new).await.unwrap();
    let app: Router = router(dispatcher.clone(), Auth::none());
    let (_, mut stream) = open(&app, None).await;
    let first = heard(&mut stream).await.unwrap();
    assert!(!first.contains("event:"), "{first}");

    let quiet = heard_next(&mut stream, &clock).await.unwrap();
    assert!(!quiet.contains("event:"), "{quiet}");

    let event = NewEvent::json("a", &1).unwrap();
    dispatcher.enqueue(event).await.unwrap();
    let changed = heard_next(&mut stream, &clock).await.unwrap();
    assert!(changed.contains("event: changed"), "{changed}");
}

#[tokio::test]
async fn nothing_is_missed_between_two_streams() {
    let clock = ManualClock::default();
    let dispatcher = engine(&clock);
    let app: Router = router(dispatcher.clone(), Auth::none());
    let (_, mut stream) = open(&app, None).await;
    let first = heard(&mut stream).await.unwrap();
    drop(stream);
    let event = NewEvent::json("a", &1).unwrap();
    dispatcher.enqueue(event).await.unwrap();
    let (_, mut stream) = open(&app, Some(id(&first))).await;
    let second = heard(&mut stream).await.unwrap();
    assert!(second.contains("event: changed"), "{second}");
    let (_, mut stream) = open(&app, Some(id(&second))).await;
    let third = heard(&mut stream).await.unwrap();
    assert!(!third.contains("event:"), "{third}");
}

#[tokio::test]
async fn nothing_is_missed_between_a_page_and_its_stream() {
    let clock = ManualClock::default();
    let dispatcher = engine(&clock);
    let app: Router = router(dispatcher.clone(), Auth::none());
    let first = first_heard_by_page(&app, &app, async || {}).await;
    assert!(!first.contains("event:"), "{first}");
    let sent = first_heard_by_page(&app, &app, async || {
        let event = NewEvent::json("a", &1).unwrap();
        dispatcher.enqueue(event).await.unwrap();
    });
    let sent = sent.await;
    assert!(sent.contains("event: changed"), "{sent}");
}

#[tokio::test]
async fn a_page_of_one_process_hears_of_no_change_from_another_unless_there_was_one() {
    let (store, clock) = (MemoryStore::new(), ManualClock::default());
    let [one, other] = [0, 1].map(|_| {
        let builder = Dispatcher::builder(store.clone()).transport(ScriptedTransport::default());
        builder.clock(clock.clone()).build().unwrap().erase()
    });
    let apps = [&one, &other].map(|it| router::<()>(it.clone(), Auth::none()));
    let new = NewEndpoint::new("https://example.com".parse().unwrap());
    one.endpoints().create(new).await.unwrap();
    let send = async || {
        let event = NewEvent::json("a", &1).unwrap();
        one.enqueue(event).await.unwrap();
    };
    // Which the other one has not counted.
    send().await;
    for [page, stream] in [[0, 1], [1, 0], [0, 0]] {
        let first = first_heard_by_page(&apps[page], &apps[stream], async || {}).await;
        assert!(!first.contains("event:"), "{page} {stream}: {first}");
        let sent = first_heard_by_page(&apps[page], &apps[stream], send).await;
        assert!(sent.contains("event: changed"), "{page} {stream}: {sent}");
    }
}

/// What a page's stream says first if this happens between the two.
async fn first_heard_by_page(
    app: &Router,
    streams: &Router,
    between: impl AsyncFnOnce(),
) -> String {
    let request = Request::get("/dashboard/deliveries");
    let request = request.body(Body::empty()).unwrap();
    let response = app.clone().oneshot(request).await.unwrap();
    let page = response.into_body().collect().await.unwrap().to_bytes();
    let page = String::from_utf8(page.to_vec()).unwrap();
    let (_, known) = page.split_once("data-live=\"").expect("a live page");
    let (known, _) = known.split_once('"').unwrap();
    assert!(!known.is_empty());
    between().await;
    let request = Request::get(format!("/dashboard/live?known={known}"));
    let request = request.body(Body::empty()).unwrap();
    let response = streams.clone().oneshot(request).await.unwrap();
    heard(&mut response.into_body()).await.unwrap()
}

#[tokio::test]
async fn a_page_hears_that_the_store_is_away_and_that_it_is_back() {
    let clock = ManualClock::default();
    let (dispatcher, is_there) = engine_of_an_unsteady_store(&clock);
    let app: Router = router(dispatcher, Auth::none());
    let (_, mut stream) = open(&app, None).await;
    heard(&mut stream).await.unwrap();
    for now in [false, true] {
        is_there.store(now, Ordering::Relaxed);
        let changed = heard_next(&mut stream, &clock).await.unwrap();
        assert!(changed.contains("event: changed"), "{now}: {changed}");
    }
    is_there.store(false, Ordering::Relaxed);
    let (_, mut stream) = open(&app, Some("away")).await;
    let same = heard(&mut stream).await.unwrap();
    assert!(!same.contains("event:"), "{same}");
}

#[tokio::test]
async fn a_page_hears_of_a_store_that_hangs() {
    let clock = ManualClock::default();
    let hangs = Arc::new(AtomicBool::new(false));
    let asked = hangs.clone();
    let store = Intercepted::new(MemoryStore::new(), move |_| {
        let asked = asked.clone();
        async move {
            match asked.load(Ordering::Relaxed) {
                true => std::future::pending().await,
                false => Ok(()),
            }
        }
    });
    let builder = Dispatcher::builder(store).transport(ScriptedTransport::default());
    let dispatcher = builder.clock(clock.clone()).build().unwrap().erase();
    let app: Router = router(dispatcher, Auth::none());
    let (_, mut stream) = open(&app, None).await;
    heard(&mut stream).await.unwrap();
    hangs.store(true, Ordering::Relaxed);
    // It says nothing, and then not even whether it is there.
    let pauses = [PAUSE, Duration::from_secs(5), Duration::from_secs(2)];
    let changed = heard_after(&mut stream, &clock, &pauses).await.unwrap();
    assert!(changed.contains("event: changed"), "{changed}");
    assert_eq!(id(&changed), "away");
}

/// What becomes of a look for people, while the store answers all else.
#[derive(Clone, Copy, PartialEq)]
enum Looks {
    Found,
    Refused,
    Hung,
}

fn engine_with_looks(clock: &ManualClock) -> (Dispatcher, Arc<Mutex<Looks>>) {
    let looks = Arc::new(Mutex::new(Looks::Found));
    let asked = looks.clone();
    let store = Intercepted::new(MemoryStore::new(), move |operation| {
        let is_look = matches!(operation, "stats" | "deliveries" | "events" | "audit");
        let looks = *asked.lock().unwrap();
        async move {
            match looks {
                Looks::Refused if is_look => Err(Error::new(ErrorKind::Overloaded, operation)),
                Looks::Hung if is_look => std::future::pending().await,
                _ => Ok(()),
            }
        }
    });
    let builder = Dispatcher::builder(store).transport(ScriptedTransport::default());
    let builder = builder.clock(clock.clone());
    (builder.build().unwrap().erase(), looks)
}

#[tokio::test]
async fn a_page_keeps_what_it_knows_while_the_store_has_too_much_to_look_for() {
    let clock = ManualClock::default();
    let (dispatcher, looks) = engine_with_looks(&clock);
    let app: Router = router(dispatcher.clone(), Auth::none());
    let (_, mut stream) = open(&app, None).await;
    let known = heard(&mut stream).await.unwrap();
    for kind in [Looks::Refused, Looks::Hung] {
        *looks.lock().unwrap() = kind;
        let pauses = [PAUSE, Duration::from_secs(5)];
        let busy = heard_after(&mut stream, &clock, &pauses).await.unwrap();
        assert!(busy.contains("event: busy"), "{busy}");
        assert_eq!(id(&busy), format!("~{}", id(&known)));

        // Another stream, or this one, finds that nothing has happened meanwhile.
        *looks.lock().unwrap() = Looks::Found;
        let (_, mut other) = open(&app, Some(id(&busy))).await;
        let same = heard(&mut other).await.unwrap();
        assert!(same.contains("event: same"), "{same}");
        assert_eq!(id(&same), id(&known));
        let same = heard_next(&mut stream, &clock).await.unwrap();
        assert!(same.contains("event: same"), "{same}");
    }
    *looks.lock().unwrap() = Looks::Refused;
    let (_, mut stream) = open(&app, Some(id(&known))).await;
    let busy = heard(&mut stream).await.unwrap();
    *looks.lock().unwrap() = Looks::Found;
    let new = NewEndpoint::new("https://example.com".parse().unwrap());
    dispatcher.endpoints().create(new).await.unwrap();
    let event = NewEvent::json("a", &1).unwrap();
    dispatcher.enqueue(event).await.unwrap();
    let (_, mut stream) = open(&app, Some(id(&busy))).await;
    let changed = heard(&mut stream).await.unwrap();
    assert!(changed.contains("event: changed"), "{changed}");
}

#[tokio::test]
async fn a_stream_repeats_nothing_that_is_no_word_of_ours() {
    let (dispatcher, looks) = engine_with_looks(&ManualClock::default());
    let app: Router = router(dispatcher, Auth::none());
    *looks.lock().unwrap() = Looks::Refused;
    let long = "a".repeat(257);
    for known in [
        "%0A",
        "a%0A%0Aevent:%20changed%0Adata:%20-",
        "a%0Devent:%20changed",
        "a%00b",
        "a%20b",
        "%C3%A9",
        &long,
    ] {
        let request = Request::get(format!("/dashboard/live?known={known}&status={known}"));
        let (status, mut stream) = ask(&app, request).await;
        assert_eq!(status, StatusCode::OK, "{known}");
        let busy = heard(&mut stream).await.unwrap();
        assert_eq!(id(&busy), "~", "{known}");
        let mut lines: Vec<_> = busy.lines().collect();
        lines.sort_unstable();
        let expected = ["", "data: -", "event: busy", "id: ~", "retry: 2000"];
        assert_eq!(lines, expected, "{known}");
    }
}

#[tokio::test]
async fn a_page_that_cannot_be_read_for_others_says_so_and_not_that_the_store_is_away() {
    let (dispatcher, looks) = engine_with_looks(&ManualClock::default());
    let app: Router = router(dispatcher, Auth::none());
    *looks.lock().unwrap() = Looks::Refused;
    for path in ["", "deliveries", "events", "dead-letters", "audit"] {
        let busy = get(&app, &format!("/dashboard/{path}")).await;
        assert_eq!(busy.status, 503, "{path}");
        assert_eq!(busy.headers["retry-after"], "1", "{path}");
        assert!(busy.text.contains("data-busy"), "{path}: {}", busy.text);
        assert!(
            busy.text.contains("Too much is searched for at once"),
            "{path}: {}",
            busy.text
        );
        assert!(!busy.text.contains("does not answer"), "{path}");
    }
    assert_eq!(get(&app, "/ready").await.status, 200);
}

#[tokio::test]
async fn a_stream_ends_so_that_a_server_can() {
    let clock = ManualClock::default();
    let app: Router = router(engine(&clock), Auth::none());
    let (_, mut stream) = open(&app, None).await;
    let mut looks = 0;
    while heard_next(&mut stream, &clock).await.is_some() {
        looks += 1;
    }
    assert!((1..10).contains(&looks), "{looks}");
}

#[tokio::test]
async fn a_stream_ends_with_the_engine_beside_it() {
    let clock = ManualClock::default();
    let dispatcher = engine(&clock);
    let app: Router = router(dispatcher.clone(), Auth::none());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let run = {
        let dispatcher = dispatcher.clone();
        tokio::spawn(async move { dispatcher.run(async { drop(stopped.await) }).await })
    };
    while !dispatcher.is_running() {
        tokio::task::yield_now().await;
    }
    let (_, mut stream) = open(&app, None).await;
    assert!(heard(&mut stream).await.is_some());
    stop.send(()).unwrap();
    run.await.unwrap();
    assert_eq!(heard_next(&mut stream, &clock).await, None);
}

#[tokio::test]
async fn places_are_each_routers_own_and_come_back() {
    let clock = ManualClock::default();
    let app: Router = router(engine(&clock), Auth::none());
    let mut streams = Vec::new();
    for _ in 0..MOST {
        let (status, stream) = open(&app, None).await;
        assert_eq!(status, 200);
        streams.push(stream);
    }
    // Which tells the browser not to ask again.
    assert_eq!(open(&app, None).await.0, StatusCode::NO_CONTENT);
    let other: Router = router(engine(&clock), Auth::none());
    assert_eq!(open(&other, None).await.0, 200);
    streams.pop();
    assert_eq!(open(&app, None).await.0, 200);
}

#[tokio::test]
async fn nobody_takes_the_places_of_all() {
    let app: Router = router(engine(&ManualClock::default()), Auth::custom(Named));
    for (holders, others) in [(["eve@a", "mallory@a"], "ann@b"), (["host"; 2], "other")] {
        let mut streams = Vec::new();
        for turn in 0..MOST_OF_ONE {
            let (status, stream) = open_as(&app, holders[turn % 2]).await;
            assert_eq!(status, 200, "{turn}");
            streams.push(stream);
        }
        for holder in holders {
            assert_eq!(open_as(&app, holder).await.0, StatusCode::NO_CONTENT);
        }
        assert_eq!(open_as(&app, others).await.0, 200);
        streams.pop();
        assert_eq!(open_as(&app, holders[0]).await.0, 200);
    }
}

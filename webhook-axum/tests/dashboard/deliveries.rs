//! Deliveries: how one is found, and what its page says of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use uuid::Uuid;
use webhook_axum::{Auth, router};
use webhook_core::testing::{Intercepted, ManualClock, Reply, ScriptedTransport, fast_forward};
use webhook_core::{
    Clock as _, Delivery, DeliveryFilter, Dispatcher, EndpointState, MemoryStore, NewEndpoint,
    NewEvent, PageRequest, RetryPolicy, Tenant, TransportErrorKind,
};

use super::{CSRF, Named, Viewer, form, get, send};

struct World {
    dispatcher: Dispatcher,
    clock: ManualClock,
    app: Router,
    endpoint: Uuid,
}

impl World {
    async fn new(statuses: &[u16]) -> Self {
        let clock = ManualClock::default();
        let dispatcher = Dispatcher::builder(MemoryStore::new())
            .transport(ScriptedTransport::new(statuses.iter().copied()))
            .clock(clock.clone())
            .build()
            .unwrap()
            .erase();
        let new = NewEndpoint::new("https://example.com".parse().unwrap());
        let endpoint = dispatcher.endpoints().create(new).await.unwrap().id;
        Self {
            app: router(dispatcher.clone(), Auth::none()),
            dispatcher,
            clock,
            endpoint,
        }
    }

    /// Whose endpoint has failed often enough in a row.
    async fn with_an_open_breaker() -> Self {
        // And whatever of them is tried again meanwhile.
        let world = Self::new(&[500; 40]).await;
        for _ in 0..10 {
            world.enqueue("a").await;
            world.settle().await;
        }
        world
    }

    /// A second after the one before, so that it is the newest.
    async fn enqueue(&self, event_type: &str) -> Uuid {
        self.clock.advance(Duration::from_secs(1));
        let event = NewEvent::json(event_type, &1).unwrap();
        self.dispatcher.enqueue(event).await.unwrap()
    }

    async fn settle(&self) {
        fast_forward(&self.dispatcher, &self.clock, Duration::ZERO)
            .await
            .unwrap();
    }

    async fn newest(&self) -> Delivery {
        let one = PageRequest {
            before: None,
            limit: 1,
        };
        let all = DeliveryFilter::default();
        let found = self.dispatcher.deliveries().list(&all, one).await;
        found.unwrap().items.remove(0)
    }

    async fn page(&self) -> String {
        let path = format!("/dashboard/deliveries/{}", self.newest().await.id);
        get(&self.app, &path).await.text
    }
}

/// An id as lists show it.
fn short(id: &str) -> String {
    format!("{}…{}", &id[..8], &id[30..])
}

#[tokio::test]
async fn deliveries_are_found_by_each_field_of_the_form() {
    let world = World::new(&[200, 503]).await;
    let event = world.enqueue("order.paid").await;
    world.settle().await;
    world.enqueue("order.lost").await;
    world.settle().await;
    let endpoint = world.endpoint;
    for (query, expected) in [
        (String::new(), 2),
        (
            "status=&event_type=&endpoint_id=&event_id=&error_kind=&cause=&tenant=&since=&until="
                .into(),
            2,
        ),
        ("status=succeeded".into(), 1),
        ("event_type=order.lost".into(), 1),
        (format!("endpoint_id={endpoint}"), 2),
        (format!("event_id={event}"), 1),
        ("error_kind=http_503".into(), 1),
        ("error_kind=timeout".into(), 0),
        ("cause=endpoint".into(), 1),
        ("tenant=default".into(), 2),
        ("tenant=other".into(), 0),
        ("since=2023-11-14T22:13".into(), 2),
        ("until=2023-11-14T22:13".into(), 0),
        (
            "status=pending&error_kind=http_503&since=2023-11-14T22:13".into(),
            1,
        ),
    ] {
        let page = get(&world.app, &format!("/dashboard/deliveries?{query}")).await;
        let found = page.text.matches("href=\"./deliveries/").count();
        assert_eq!(found, expected, "{query}: {}", page.text);
    }
    let page = get(&world.app, "/dashboard/deliveries").await.text;
    let to_endpoint = format!("href=\"./endpoints/{endpoint}\">https://example.com/<wbr></a>");
    assert_eq!(page.matches(&*to_endpoint).count(), 2, "{page}");
    let wrong = get(&world.app, "/dashboard/deliveries?event_id=x").await;
    assert!(wrong.status == 400 && wrong.text.contains("role=\"alert\""));
}

#[tokio::test]
async fn a_search_is_in_the_address_and_goes_on_among_the_events() {
    let world = World::new(&[]).await;
    let query = "event_type=a.b&status=failed&tenant=acme%20co&since=2023-11-14T22%3A13";
    let page = get(&world.app, &format!("/dashboard/deliveries?{query}"))
        .await
        .text;
    // A tenant's name holds no space: told, and not guessed.
    assert!(page.contains("role=\"alert\""), "{page}");
    let query = query.replace("%20co", "");
    let page = get(&world.app, &format!("/dashboard/deliveries?{query}"))
        .await
        .text;
    for field in [
        "value=\"a.b\"",
        "<option selected>failed</option>",
        "value=\"acme\"",
    ] {
        assert!(page.contains(field), "{field}: {page}");
    }
    let link = "href=\"./events?event_type=a.b&#38;since=2023-11-14T22%3A13&#38;tenant=acme&#38;\"";
    assert!(page.contains(link), "{page}");
    let events = get(
        &world.app,
        "/dashboard/events?event_type=a.b&since=2023-11-14T22%3A13&tenant=acme&",
    )
    .await;
    assert_eq!(events.status, 200);
}

#[tokio::test]
async fn a_delivery_says_what_a_person_can_do_about_it() {
    let world = World::new(&[200, 400, 503]).await;
    let endpoints = world.dispatcher.endpoints();
    world.enqueue("a").await;
    assert!(world.page().await.contains("it is tried by itself"));
    assert!(world.page().await.contains("<p>None yet.</p>"));
    world.settle().await;
    assert!(
        world
            .page()
            .await
            .contains("Nothing; a replay sends it once more")
    );
    world.enqueue("a").await;
    world.settle().await;
    assert!(
        world
            .page()
            .await
            .contains("it is a dead letter. Replay it")
    );
    world.enqueue("a").await;
    world.settle().await;
    let pause = |it: &mut webhook_core::EndpointChange| it.state = EndpointState::Paused;
    endpoints.update(world.endpoint, pause).await.unwrap();
    assert!(
        world
            .page()
            .await
            .contains("Resume the endpoint, and it is attempted")
    );
    world
        .dispatcher
        .deliveries()
        .cancel(world.newest().await.id)
        .await
        .unwrap();
    assert!(
        world
            .page()
            .await
            .contains("Nothing by itself; a replay sends it")
    );
    endpoints.delete(world.endpoint).await.unwrap();
    assert!(
        world
            .page()
            .await
            .contains("Nothing: its endpoint is deleted")
    );
}

#[tokio::test]
async fn a_replay_and_what_it_repeats_lead_to_each_other() {
    let world = World::new(&[400, 400, 200]).await;
    world.enqueue("a").await;
    world.settle().await;
    let dead = world.newest().await.id;
    let page = async |id: Uuid| {
        get(&world.app, &format!("/dashboard/deliveries/{id}"))
            .await
            .text
    };
    let link = |id: Uuid, status: &str| {
        format!("deliveries/{id}\">{id}</a> <span class=\"badge {status}\">")
    };
    let before = page(dead).await;
    assert!(!before.contains("Replayed since") && !before.contains("Repeats"));
    let replay = async || {
        world.clock.advance(Duration::from_secs(1));
        world.dispatcher.deliveries().replay(dead).await.unwrap()
    };
    let first = replay().await;
    let under_way = page(dead).await;
    assert!(under_way.contains(&link(first, "pending")), "{under_way}");
    assert!(under_way.contains("the replay is under way"), "{under_way}");
    assert!(!under_way.contains("once the endpoint is well"));
    assert!(page(first).await.contains(&link(dead, "failed")));
    world.settle().await;
    assert!(page(dead).await.contains("it was replayed since, in vain"));
    let second = replay().await;
    world.settle().await;
    let delivered = page(dead).await;
    assert!(delivered.contains(&link(first, "failed")), "{delivered}");
    assert!(
        delivered.contains(&link(second, "succeeded")),
        "{delivered}"
    );
    assert!(delivered.contains("the replay was delivered"));
    assert!(delivered.contains("<button>Replay once more</button>"));
    assert!(page(second).await.contains(&link(first, "failed")));

    let list = get(&world.app, "/dashboard/deliveries").await.text;
    for (id, said) in [(first, "replay 1"), (second, "replay 2")] {
        let short = short(&id.to_string());
        let cell = format!("{short}</a> <span class=\"badge\">{said}</span>");
        assert!(list.contains(&cell), "{cell}: {list}");
    }
    assert_eq!(list.matches("<span class=\"badge\">replay").count(), 2);
    let dead = get(&world.app, "/dashboard/dead-letters").await.text;
    assert!(dead.contains("1 by replays"), "{dead}");
}

#[tokio::test]
async fn a_page_says_once_what_its_delivery_waits_for() {
    let world = World::with_an_open_breaker().await;
    world.enqueue("a").await;
    let page = world.page().await;
    assert_eq!(page.matches("breaker is open").count(), 1, "{page}");
    assert!(page.contains("waits for its first attempt, but not before"));
    assert!(!page.contains("waits for a worker"), "{page}");
    assert!(!page.contains("Next attempt"), "{page}");
}

#[tokio::test]
async fn lists_and_pages_say_what_is_held_and_until_when() {
    let world = World::with_an_open_breaker().await;
    world.enqueue("a").await;
    let id = world.newest().await.id;
    let endpoint = world.endpoint;
    let paths = [
        "deliveries".to_owned(),
        format!("deliveries/{id}"),
        format!("endpoints/{endpoint}"),
    ];
    for path in &paths {
        let page = get(&world.app, &format!("/dashboard/{path}")).await.text;
        assert!(page.contains("held, not before <time "), "{path}: {page}");
    }
    let pause = |it: &mut webhook_core::EndpointChange| it.state = EndpointState::Paused;
    let endpoints = world.dispatcher.endpoints();
    endpoints.update(endpoint, pause).await.unwrap();
    for path in &paths {
        let page = get(&world.app, &format!("/dashboard/{path}")).await.text;
        assert!(page.contains("held: paused"), "{path}: {page}");
    }
}

#[tokio::test]
async fn a_page_says_how_often_it_is_tried_and_no_time_as_programs_write_it() {
    let world = World::new(&[503, 503]).await;
    world.enqueue("a").await;
    world.settle().await;
    let page = world.page().await;
    assert!(page.contains("<dd>1 of at most 6 times</dd>"), "{page}");
    let endpoint = format!("/dashboard/endpoints/{}", world.endpoint);
    let shown = get(&world.app, &endpoint).await.text;
    let default = "<dd>5, 300, 1800, 7200, 43200 (the dispatcher&#39;s default)</dd>";
    assert!(shown.contains(default), "{shown}");
    let delays = vec![Duration::from_secs(60); 2];
    let schedule =
        |it: &mut webhook_core::EndpointChange| it.settings.retry_schedule = Some(delays.clone());
    let endpoints = world.dispatcher.endpoints();
    endpoints.update(world.endpoint, schedule).await.unwrap();
    let event = world.enqueue("a").await;
    world.settle().await;
    let page = world.page().await;
    assert!(page.contains("<dd>1 of at most 3 times</dd>"), "{page}");
    assert!(page.contains("it is tried again by itself"), "{page}");
    let event = get(&world.app, &format!("/dashboard/events/{event}")).await;
    let endpoint = format!("endpoints/{}\">https://example.com/</a>", world.endpoint);
    assert!(event.text.contains(&endpoint), "{}", event.text);
    for page in [page, event.text] {
        assert!(page.contains(", due at <time datetime="), "{page}");
        assert!(!page.contains("due at 2"), "{page}");
    }
}

#[tokio::test]
async fn an_endpoint_says_why_what_is_due_does_not_go_out() {
    let world = World::with_an_open_breaker().await;
    world.enqueue("a").await;
    let page = async || {
        let path = format!("/dashboard/endpoints/{}", world.endpoint);
        get(&world.app, &path).await.text
    };
    let open = page().await;
    assert!(
        open.contains("<dt>Due, held back by the breaker</dt>"),
        "{open}"
    );
    assert!(open.contains("Close the breaker"), "{open}");
    assert!(open.contains("<dt>Oldest held</dt>"), "{open}");
    assert!(open.contains("failing since about <time "), "{open}");
    let all = get(&world.app, "/dashboard/").await.text;
    assert!(all.contains("<dt>Due or held</dt>"), "{all}");
    let endpoints = world.dispatcher.endpoints();
    let to = |state| move |it: &mut webhook_core::EndpointChange| it.state = state;
    let paused = endpoints.update(world.endpoint, to(EndpointState::Paused));
    paused.await.unwrap();
    let paused = page().await;
    assert!(
        paused.contains("<dt>Due, kept until it is resumed</dt>"),
        "{paused}"
    );
    let enabled = endpoints.update(world.endpoint, to(EndpointState::Enabled));
    enabled.await.unwrap();
    let enabled = page().await;
    assert!(enabled.contains("<dt>Due</dt>"), "{enabled}");
    assert!(enabled.contains("<dt>Oldest due</dt>"), "{enabled}");
}

#[tokio::test]
async fn a_signature_can_be_computed_from_what_the_page_shows() {
    let world = World::new(&[200]).await;
    let event = world.enqueue("a").await;
    world.settle().await;
    let page = world.page().await;
    let seconds = world.clock.now().as_micros() / 1_000_000;
    let signed = format!("{event}.{seconds}.");
    assert!(
        page.contains(&format!("{signed}&#60;body&#62;"))
            || page.contains(&format!("{signed}&lt;body&gt;")),
        "{page}"
    );
    let command = format!("printf %s &#39;{signed}&#39;; cat body.txt");
    assert!(page.contains(&command), "{page}");
    let tenant = Tenant::default();
    assert!(page.contains(&format!("<dd>{tenant}</dd>")));
}

#[tokio::test]
async fn a_list_costs_few_looks_however_many_endpoints_it_names() {
    let counts = Arc::new(Mutex::new(BTreeMap::<&str, usize>::new()));
    let counted = counts.clone();
    let store = Intercepted::new(MemoryStore::new(), move |operation| {
        *counted.lock().unwrap().entry(operation).or_default() += 1;
        std::future::ready(Ok(()))
    });
    let builder = Dispatcher::builder(store).transport(ScriptedTransport::default());
    let dispatcher = builder.build().unwrap().erase();
    let app: Router = router(dispatcher.clone(), Auth::none());
    for index in 0..500 {
        let mut new = NewEndpoint::new(format!("https://e{index}.example.com").parse().unwrap());
        if index % 20 > 0 {
            new = new.event_types(vec!["other".parse().unwrap()]);
        }
        let endpoint = dispatcher.endpoints().create(new).await.unwrap();
        let pause = |it: &mut webhook_core::EndpointChange| it.state = EndpointState::Paused;
        let paused = dispatcher.endpoints().update(endpoint.id, pause).await;
        paused.unwrap();
    }
    let event = NewEvent::json("a", &1).unwrap();
    dispatcher.enqueue(event).await.unwrap();
    counts.lock().unwrap().clear();
    let page = get(&app, "/dashboard/deliveries").await.text;
    assert_eq!(page.matches("held: paused").count(), 25, "{page}");
    assert!(page.contains(">https://e0.example.com/<wbr></a>"), "{page}");
    let counts = counts.lock().unwrap();
    assert!(counts["endpoints"] <= 3, "{counts:?}");
    assert!(!counts.contains_key("endpoint"), "{counts:?}");
}

#[tokio::test]
async fn what_fails_through_us_is_not_counted_among_the_attempts_that_there_may_be() {
    let clock = ManualClock::default();
    let replies = [TransportErrorKind::Internal.into(), Reply::from(503)];
    let dispatcher = Dispatcher::builder(MemoryStore::new())
        .transport(ScriptedTransport::new(replies))
        .retry_policy(RetryPolicy::default().schedule([Duration::from_secs(60)]))
        .clock(clock.clone())
        .build()
        .unwrap()
        .erase();
    let new = NewEndpoint::new("https://example.com".parse().unwrap());
    let endpoint = dispatcher.endpoints().create(new).await.unwrap().id;
    let world = World {
        app: router(dispatcher.clone(), Auth::none()),
        dispatcher,
        clock,
        endpoint,
    };
    world.enqueue("a").await;
    fast_forward(&world.dispatcher, &world.clock, Duration::from_secs(30))
        .await
        .unwrap();
    let page = world.page().await;
    let tried = "<dd>1 of at most 2 times, and 1 more that failed through us</dd>";
    assert!(page.contains(tried), "{page}");
}

#[tokio::test]
async fn a_tenant_is_not_told_how_long_it_took_not_to_connect() {
    for (kind, shown, is_told) in [
        (TransportErrorKind::Connect, "unreachable", false),
        (TransportErrorKind::Timeout, "timeout", true),
    ] {
        let clock = ManualClock::default();
        let transport = ScriptedTransport::default();
        transport.push(kind);
        let builder = Dispatcher::builder(MemoryStore::new()).transport(transport);
        let dispatcher = builder.clock(clock.clone()).build().unwrap().erase();
        let new = NewEndpoint::new("https://example.com".parse().unwrap());
        dispatcher.endpoints().create(new).await.unwrap();
        let event = NewEvent::json("a", &1).unwrap();
        dispatcher.enqueue(event).await.unwrap();
        dispatcher.step().await.unwrap();
        let world = World {
            app: router(dispatcher.clone(), Auth::custom(Named)),
            dispatcher,
            clock,
            endpoint: Uuid::nil(),
        };
        let path = format!("/dashboard/deliveries/{}", world.newest().await.id);
        for (who, shown, is_told) in [
            ("eve@default", shown, is_told),
            ("host", kind.as_str(), true),
        ] {
            let request = http::Request::get(&path).header("x-who", who);
            let page = send(&world.app, request, "").await.text;
            let badge = format!("{shown}</span>");
            let (_, attempt) = page.split_once(&badge).expect(shown);
            let (attempt, _) = attempt.split_once("</p>").unwrap();
            assert_eq!(attempt.contains(" ms"), is_told, "{who}: {attempt}");
        }
    }
}

#[tokio::test]
async fn a_list_of_all_says_whose_each_delivery_is_and_a_page_its_id_to_copy() {
    let world = World::new(&[200, 200]).await;
    world.enqueue("a").await;
    let acme = Tenant::new("acme").unwrap();
    let new = NewEndpoint::new("https://example.com".parse().unwrap());
    let new = new.tenant(acme.clone());
    world.dispatcher.endpoints().create(new).await.unwrap();
    let event = NewEvent::json("a", &1).unwrap().tenant(acme);
    world.dispatcher.enqueue(event).await.unwrap();
    world.settle().await;
    let list = get(&world.app, "/dashboard/deliveries").await.text;
    let whose = "<span class=\"hint word\">";
    assert!(list.contains(&format!("{whose}acme</span>")), "{list}");
    assert_eq!(list.matches(whose).count(), 1, "the other has no name");
    let Delivery { id, event_id, .. } = world.newest().await;
    let page = get(&world.app, &format!("/dashboard/deliveries/{id}"))
        .await
        .text;
    for copied in [
        format!("<code class=\"copyable\">{id}</code>"),
        format!("<a class=\"id copyable\" href=\"../events/{event_id}\">{event_id}</a>"),
    ] {
        assert!(page.contains(&copied), "{copied}: {page}");
    }
}

#[tokio::test]
async fn an_endpoint_that_was_disabled_says_why_in_words() {
    let world = World::new(&[410]).await;
    world.enqueue("a").await;
    world.settle().await;
    let path = format!("/dashboard/endpoints/{}", world.endpoint);
    let page = get(&world.app, &path).await.text;
    assert!(page.contains("because it answered 410"), "{page}");
}

#[tokio::test]
async fn what_a_search_finds_is_replayed_after_it_was_counted() {
    let world = World::new(&[400]).await;
    world.enqueue("a").await;
    world.settle().await;
    let search = async |query: &str| {
        let page = get(&world.app, &format!("/dashboard/deliveries?{query}")).await;
        assert_eq!(page.status, 200, "{query}: {}", page.text);
        let (_, rest) = page.text.split_once("href=\"./replays/new?")?;
        let (query, rest) = rest.split_once('"').unwrap();
        assert!(rest.starts_with(">Replay all that match…<"), "{rest}");
        Some(query.replace("&#38;", "&"))
    };
    for all_or_live in ["", "tenant=default", "event_type=+", "status=pending"] {
        assert_eq!(search(all_or_live).await, None, "{all_or_live}");
    }
    let found = "error_kind=http_400&event_type=a&since=2023-11-14T22:13&status=failed";
    let query = search(found).await.expect("a link");
    let count = get(&world.app, &format!("/dashboard/replays/new?{query}")).await;
    assert_eq!(count.status, 200, "{}", count.text);
    let count = count.text.replace("&#38;", "&").replace("%3A", ":");
    for told in [
        "<strong>1</strong> deliveries would be made",
        "<dd>http_400</dd>",
        "<button>Start</button>",
        &format!("href=\"../deliveries?{found}&\">Cancel"),
    ] {
        assert!(count.contains(told), "{told}: {count}");
    }
    world.clock.advance(Duration::from_secs(1));
    let started = format!("csrf={CSRF}&{query}");
    let started = send(&world.app, form("/dashboard/replays"), &started).await;
    assert_eq!(started.status, 303, "{}", started.text);
    world.settle().await;
    assert_eq!(world.newest().await.replay_no, 1);
    let reader: Router = router(world.dispatcher.clone(), Auth::custom(Viewer));
    let page = get(&reader, "/dashboard/deliveries?status=failed")
        .await
        .text;
    assert!(!page.contains("replays/new"), "{page}");
}

#[tokio::test]
async fn a_list_shows_ids_short_and_urls_that_break_after_a_slash() {
    let world = World::new(&[]).await;
    world.enqueue("a").await;
    let id = world.newest().await.id.to_string();
    let list = get(&world.app, "/dashboard/deliveries").await.text;
    let short = short(&id);
    let link = format!("href=\"./deliveries/{id}\" title=\"{id}\">{short}</a>");
    assert!(list.contains(&link), "{link}: {list}");
    assert!(list.contains(">https://example.com/<wbr>"), "{list}");
}

#[tokio::test]
async fn an_event_says_when_it_may_go_and_by_which_key_it_is_one() {
    let world = World::new(&[]).await;
    let plain = world.enqueue("a").await;
    let at = world.clock.now() + Duration::from_secs(3_600);
    let event = NewEvent::json("a", &1).unwrap().deliver_at(at);
    let event = event.idempotency_key("order <7>").unwrap();
    let event = world.dispatcher.enqueue(event).await.unwrap();
    let page = async |id| {
        let path = format!("/dashboard/events/{id}");
        get(&world.app, &path).await.text
    };
    let text = page(event).await;
    let time = format!("<dt>Not to be sent before</dt>\n  <dd><time datetime=\"{at}\">");
    assert!(text.contains(&time), "{text}");
    assert!(
        text.contains("copyable\">order &#60;7&#62;</code>"),
        "{text}"
    );
    let plain = page(plain).await;
    assert!(!plain.contains("Not to be sent before") && !plain.contains("Idempotency"));
}

//! Lists: pages and filters.

use std::time::Duration;

use serde_json::{Value, json};
use webhook_core::TransportErrorKind;

use crate::support::App;

fn ids(items: &Value) -> Vec<String> {
    let items = items["items"].as_array().unwrap();
    items
        .iter()
        .map(|one| one["id"].as_str().unwrap().into())
        .collect()
}

/// All ids of a list, read page by page; `limit` a page.
async fn read_on(
    app: &App,
    path: &str,
    limit: usize,
    mut between: impl AsyncFnMut(),
) -> Vec<String> {
    let glue = if path.contains('?') { '&' } else { '?' };
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = app
            .get(&format!("{path}{glue}limit={limit}{cursor}"))
            .await
            .expect(200);
        let page_ids = ids(&page);
        assert!(page_ids.len() <= limit);
        all.extend(page_ids);
        match page["next"].as_str() {
            None => return all,
            Some(next) => cursor = format!("&cursor={next}"),
        }
        between().await;
    }
}

#[tokio::test]
async fn pages_have_neither_gaps_nor_repeats_while_more_comes_in() {
    let app = App::open();
    let mut endpoints = Vec::new();
    for _ in 0..7 {
        endpoints.push(app.endpoint(json!({"event_types": ["b"]})).await);
    }
    endpoints.reverse();
    assert_eq!(read_on(&app, "/endpoints", 3, async || {}).await, endpoints);
    assert_eq!(read_on(&app, "/endpoints", 7, async || {}).await, endpoints);

    app.endpoint(json!({"event_types": ["a"]})).await;
    let mut events = Vec::new();
    for n in 0..10 {
        app.clock.advance(Duration::from_secs(1));
        events.push(app.event(json!({"event_type": "a", "data": n})).await);
    }
    events.reverse();
    let deliveries = read_on(&app, "/deliveries", 200, async || {}).await;
    assert_eq!(deliveries.len(), 10);
    // Deliveries of one millisecond come in any order.
    app.clock.advance(Duration::from_secs(1));
    let more = async || drop(app.event(json!({"event_type": "a", "data": "later"})).await);
    assert_eq!(read_on(&app, "/events", 3, more).await, events);
    let more = async || drop(app.event(json!({"event_type": "a", "data": "later"})).await);
    let oldest: Vec<_> = read_on(&app, "/deliveries", 4, more).await;
    assert_eq!(oldest[oldest.len() - 10..], deliveries[..]);
}

#[tokio::test]
async fn fifty_items_come_unless_asked_for_others() {
    let app = App::open();
    let batch = vec![json!({"event_type": "a", "data": 1}); 201];
    app.post("/events/batch", json!(batch)).await.expect(202);
    for (query, count) in [("", 50), ("?limit=1", 1), ("?limit=200", 200)] {
        let page = app.get(&format!("/events{query}")).await.expect(200);
        assert_eq!(ids(&page).len(), count);
        assert!(page["next"].is_string());
    }
}

#[tokio::test]
async fn endpoints_are_filtered_by_tenant_and_state() {
    let app = App::open();
    let mut made = Vec::new();
    for tenant in ["x", "y"] {
        for state in ["enabled", "paused", "disabled"] {
            let id = app.endpoint(json!({"tenant": tenant})).await;
            let change = json!({"state": state});
            app.patch(&format!("/endpoints/{id}"), change)
                .await
                .expect(200);
            made.push((tenant, state, id));
        }
    }
    for (query, tenant, state) in [
        ("tenant=x&state=paused", Some("x"), Some("paused")),
        ("state=disabled", None, Some("disabled")),
        ("state=enabled", None, Some("enabled")),
        ("tenant=y", Some("y"), None),
    ] {
        let is_found = |(of, is, _): &&(&str, &str, String)| {
            tenant.is_none_or(|it| it == *of) && state.is_none_or(|it| it == *is)
        };
        let expected: Vec<_> = made
            .iter()
            .filter(is_found)
            .map(|it| it.2.clone())
            .collect();
        let mut found = read_on(&app, &format!("/endpoints?{query}"), 1, async || {}).await;
        found.reverse();
        assert_eq!(found, expected, "{query}");
    }
    for wrong in ["state=", "state=gone", "state=paused&state=enabled"] {
        let answer = app.get(&format!("/endpoints?{wrong}")).await;
        assert_eq!(answer.error(), (400, "invalid_query".into()), "{wrong}");
    }
}

#[tokio::test]
async fn events_are_filtered() {
    let app = App::open();
    let old = app
        .event(json!({"event_type": "a", "data": {"name": "Zoë"}, "tenant": "x"}))
        .await;
    app.clock.advance(Duration::from_secs(3_600));
    let new = app
        .event(json!({"event_type": "b", "data": {"name": "100%"}, "tenant": "y"}))
        .await;
    for (query, expected) in [
        ("", vec![&new, &old]),
        ("tenant=x", vec![&old]),
        ("tenant=z", vec![]),
        ("event_type=b", vec![&new]),
        ("event_type=a&tenant=y", vec![]),
        ("since=2023-11-14T22:13:21Z", vec![&new]),
        ("until=2023-11-14T22:13:21Z", vec![&old]),
        (
            "since=2023-11-14T22:13:20Z&until=2023-11-14T22:13:20.000001Z",
            vec![&old],
        ),
        ("q=Zo%C3%AB&since=2023-11-14T22:00:00Z", vec![&old]),
        (
            "q=100%25&since=2023-11-14T22:00:00Z&until=2023-11-15T22:00:00Z",
            vec![&new],
        ),
        ("q=nothing&since=2023-11-14T22:00:00Z", vec![]),
    ] {
        let page = app.get(&format!("/events?{query}")).await.expect(200);
        assert_eq!(
            ids(&page),
            expected.into_iter().cloned().collect::<Vec<_>>(),
            "{query}"
        );
    }
}

#[tokio::test]
async fn a_search_needs_a_window_of_a_day() {
    let app = App::open();
    for query in [
        "q=x",
        "q=x&until=2023-11-14T22:00:00Z",
        "q=x&since=2023-11-13T22:13:19Z",
        "q=x&since=2023-11-14T00:00:00Z&until=2023-11-15T00:00:00.000001Z",
        "q=&since=2023-11-14T22:00:00Z",
        "q=%00&since=2023-11-14T22:00:00Z",
    ] {
        let answer = app.get(&format!("/events?{query}")).await;
        assert_eq!(answer.error(), (400, "invalid_query".into()), "{query}");
    }
    app.get("/events?q=x&since=2023-11-13T22:13:20Z")
        .await
        .expect(200);
}

#[tokio::test]
async fn deliveries_are_filtered() {
    let app = App::open();
    let endpoint = app.endpoint(json!({"tenant": "x"})).await;
    app.endpoint(json!({"tenant": "y"})).await;
    app.transport.push(503);
    app.transport.push(TransportErrorKind::Timeout);
    let first = app
        .event(json!({"event_type": "a", "data": 1, "tenant": "x"}))
        .await;
    app.deliver().await;
    app.clock.advance(Duration::from_secs(1));
    app.event(json!({"event_type": "b", "data": 1, "tenant": "y"}))
        .await;
    app.deliver().await;
    let all = ids(&app.get("/deliveries").await.expect(200));
    let [y, x] = &all[..] else { panic!("{all:?}") };
    for (query, expected) in [
        ("tenant=x".to_owned(), vec![x]),
        (format!("endpoint_id={endpoint}"), vec![x]),
        (format!("event_id={first}"), vec![x]),
        ("event_type=b".to_owned(), vec![y]),
        ("status=pending".to_owned(), vec![y, x]),
        ("status=succeeded".to_owned(), vec![]),
        ("error_kind=http_503".to_owned(), vec![x]),
        ("error_kind=timeout".to_owned(), vec![y]),
        ("since=2023-11-14T22:13:21Z".to_owned(), vec![y]),
        ("until=2023-11-14T22:13:21Z".to_owned(), vec![x]),
        (format!("endpoint_id={endpoint}&tenant=y"), vec![]),
    ] {
        let page = app.get(&format!("/deliveries?{query}")).await.expect(200);
        assert_eq!(
            ids(&page),
            expected.into_iter().cloned().collect::<Vec<_>>(),
            "{query}"
        );
    }
}

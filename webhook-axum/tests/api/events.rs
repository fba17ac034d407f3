//! `/events`.

use http::Method;
use serde_json::{Value, json};
use webhook_core::testing::enqueued;

use crate::support::{Answer, App};

const JSON: (&str, &str) = ("content-type", "application/json");

#[tokio::test]
async fn an_event_is_accepted_delivered_and_shown_with_why() {
    let app = App::open();
    let wants = app.endpoint(json!({"event_types": ["order.*"]})).await;
    let other = app.endpoint(json!({"event_types": ["invoice.*"]})).await;
    let filtered = app.endpoint(json!({"filter": {"data.n": 8}})).await;
    let disabled = app.endpoint(json!({})).await;
    let disable = json!({"state": "disabled"});
    app.patch(&format!("/endpoints/{disabled}"), disable)
        .await
        .expect(200);
    let accepted = app
        .post(
            "/events",
            json!({"event_type": "order.paid", "data": {"n": 7}}),
        )
        .await
        .expect(202);
    assert_eq!(accepted["status"], "accepted");
    app.deliver().await;
    assert_eq!(app.transport.requests().len(), 1);

    let path = format!("/events/{}", accepted["event_id"].as_str().unwrap());
    let event = app.get(&path).await.expect(200);
    assert_eq!(event["id"], accepted["event_id"]);
    assert_eq!(event["tenant"], "default");
    assert_eq!(event["event_type"], "order.paid");
    assert_eq!(event["data"], json!({"n": 7}));
    assert_eq!(event["created_at"], "2023-11-14T22:13:20.000000Z");
    let status_at = |endpoint: &str| {
        let deliveries = event["deliveries"].as_array().unwrap();
        let delivery = deliveries.iter().find(|one| one["endpoint_id"] == endpoint);
        delivery.map(|one| one["status"].clone())
    };
    assert_eq!(status_at(&wants), Some(json!("succeeded")));
    assert_eq!(status_at(&filtered), Some(json!("cancelled")));
    assert_eq!(status_at(&other), None);
    assert_eq!(event["matching"]["as_of"], "2023-11-14T22:13:20.000000Z");
    assert_eq!(event["matching"]["complete"], true);
    let judged = |endpoint: &str| {
        let all = event["matching"]["endpoints"].as_array().unwrap();
        let one = all.iter().find(|one| one["endpoint_id"] == endpoint);
        let one = one.unwrap();
        (one["matches"].as_bool().unwrap(), one["reason"].clone())
    };
    assert_eq!(judged(&wants), (true, json!("matches")));
    assert_eq!(judged(&other), (false, json!("event_type")));
    assert_eq!(judged(&filtered), (false, json!("filter")));
    assert_eq!(judged(&disabled), (false, json!("disabled")));
}

/// What an event tells of an endpoint.
async fn why(app: &App, event: &str, endpoint: &str) -> Value {
    let shown = app.get(&format!("/events/{event}")).await.expect(200);
    let all = shown["matching"]["endpoints"].as_array().unwrap();
    let one = all.iter().find(|one| one["endpoint_id"] == endpoint);
    one.unwrap().clone()
}

async fn patch(app: &App, endpoint: &str, change: Value) {
    let path = format!("/endpoints/{endpoint}");
    app.patch(&path, change).await.expect(200);
}

#[tokio::test]
async fn an_event_tells_what_was_decided_for_each_endpoint() {
    let app = App::open();
    let ends = app.endpoint(json!({})).await;
    let filter = json!({"filter": {"data.n": {"gte": 8}}});
    let filtered = app.endpoint(filter).await;
    let deleted = app.endpoint(json!({})).await;
    let event = json!({"event_type": "a", "data": {"n": 7}});
    let event = app.event(event).await;
    app.deliver().await;
    let delete = format!("/endpoints/{deleted}");
    app.call(Method::DELETE, &delete, None).await.expect(204);
    // What was decided stands, whatever is changed afterwards.
    patch(&app, &ends, json!({"event_types": ["b"]})).await;

    let went = why(&app, &event, &ends).await;
    assert_eq!(went["reason"], "matches");
    assert_eq!(went["basis"], "recorded");
    assert_eq!(went["status"], "succeeded");
    assert_eq!(went["waits"], json!(null));
    let filter = why(&app, &event, &filtered).await;
    assert_eq!(filter["matches"], false);
    assert_eq!(
        filter["explanation"],
        "its filter does not hold for the body: data.n: gte 8"
    );
    let gone = why(&app, &event, &deleted).await;
    assert_eq!(gone["reason"], "deleted");
    assert_eq!(gone["matches"], true);
}

#[tokio::test]
async fn what_was_not_recorded_is_told_by_the_settings_of_now() {
    let app = App::open();
    let endpoint = app.endpoint(json!({"event_types": ["b"]})).await;
    let event = app.event(json!({"event_type": "a", "data": 1})).await;
    app.clock.advance(std::time::Duration::from_secs(1));
    let late = app.endpoint(json!({})).await;
    let reason = async |endpoint: &str| {
        let told = why(&app, &event, endpoint).await;
        assert_eq!(told["basis"], "current");
        assert_eq!(told["matches"], false);
        assert_eq!(told["delivery_id"], json!(null));
        told["reason"].clone()
    };
    assert_eq!(reason(&endpoint).await, "event_type");
    assert_eq!(reason(&late).await, "created_after");
    patch(&app, &endpoint, json!({"event_types": ["*"]})).await;
    assert_eq!(reason(&endpoint).await, "changed");
    patch(&app, &endpoint, json!({"state": "disabled"})).await;
    assert_eq!(reason(&endpoint).await, "disabled");
}

#[tokio::test]
async fn an_event_tells_what_its_deliveries_wait_for() {
    let app = App::open();
    let paused = app.endpoint(json!({})).await;
    let retried = app.endpoint(json!({})).await;
    let event = app.event(json!({"event_type": "a", "data": 1})).await;
    patch(&app, &paused, json!({"state": "paused"})).await;
    assert_eq!(
        why(&app, &event, &retried).await["waits"],
        "is due, and waits for a worker, or for its endpoint's limits, order or hold"
    );
    app.transport.push(503);
    app.deliver().await;
    let waits = why(&app, &event, &paused).await;
    assert_eq!(waits["waits"], "waits: the endpoint is paused");
    let retry = why(&app, &event, &retried).await;
    let due = retry["next_retry_at"].as_str().unwrap();
    assert_eq!(
        retry["waits"],
        format!("waits for its next attempt, due at {due}")
    );
}

#[tokio::test]
async fn data_travels_byte_for_byte_in_and_out() {
    for data in [
        r#"{"b":1,"a":2,"a":3}"#,
        "1e400",
        "-0.0",
        "123456789012345678901234567890.10",
        r#"{ "nul" : "\u0000", "crab" : "🦀", "escaped" : "\ud83e\udd80\/" }"#,
        "[ 1 ,\t2\n]",
        r#""\ud800""#,
        "null",
    ] {
        let app = App::open();
        let single = format!(r#"{{"event_type":"a", "data":  {data} }}"#);
        let batch = format!("[{single}]");
        for (path, body) in [("/events", single), ("/events/batch", batch)] {
            app.post_text(path, body).await.expect(202);
            let stored = enqueued(&app.dispatcher).await.unwrap().remove(0);
            let sent = format!(
                r#"{{"type":"a","timestamp":"2023-11-14T22:13:20.000000Z","data":{data}}}"#
            );
            assert_eq!(stored.body, sent);
            let shown = app.get(&format!("/events/{}", stored.id)).await;
            assert!(
                shown.text.contains(&format!(r#""data":{data},"#)),
                "{}",
                shown.text
            );
        }
    }
}

#[tokio::test]
async fn a_body_that_the_host_made_itself_is_shown_whole() {
    let app = App::open();
    for (body, field, shown) in [
        (&b"hello"[..], "body", "hello"),
        (b"\xff\x00", "body_base64", "/wA="),
    ] {
        let event = webhook_core::NewEvent::raw("a", body).unwrap();
        let id = app.dispatcher.enqueue(event).await.unwrap();
        let event = app.get(&format!("/events/{id}")).await.expect(200);
        assert_eq!(event[field], shown);
        assert_eq!(event.get("data"), None);
    }
}

async fn with_key(app: &App, key: &str, body: Value) -> Answer {
    let headers = [JSON, ("idempotency-key", key)];
    app.send(Method::POST, "/events", &headers, body.to_string())
        .await
}

#[tokio::test]
async fn the_same_key_and_body_is_the_same_event_and_another_body_conflicts() {
    let app = App::open();
    let body = json!({"event_type": "a", "data": 1});
    let keyed = json!({"event_type": "a", "data": 1, "idempotency_key": "k"});
    let first = app.event(keyed.clone()).await;
    assert_eq!(app.event(keyed.clone()).await, first);
    let by_header = with_key(&app, "k", body).await.expect(202);
    assert_eq!(by_header["event_id"], first.as_str());
    let both = with_key(&app, "k", keyed.clone()).await.expect(202);
    assert_eq!(both["event_id"], first.as_str());
    assert_eq!(app.stored().await.0, 1);

    let other = with_key(&app, "k", json!({"event_type": "a", "data": 2})).await;
    assert_eq!(other.error(), (409, "idempotency_conflict".into()));
    let differing = with_key(&app, "other", keyed).await;
    assert_eq!(differing.error(), (400, "invalid_request".into()));
    assert_eq!(app.stored().await.0, 1);
}

#[tokio::test]
async fn a_key_is_its_tenants() {
    let app = App::open();
    let keyed =
        |tenant| json!({"event_type": "a", "data": 1, "idempotency_key": "k", "tenant": tenant});
    assert_ne!(app.event(keyed("a")).await, app.event(keyed("b")).await);
}

#[tokio::test]
async fn a_batch_is_taken_in_order() {
    let app = App::open();
    let event = |n: usize| json!({"event_type": format!("a.{n}"), "data": n});
    let batch: Vec<_> = (0..1_000).map(event).collect();
    let accepted = app.post("/events/batch", json!(batch)).await.expect(202);
    assert_eq!(accepted["event_ids"].as_array().unwrap().len(), 1_000);
    let third = accepted["event_ids"][3].as_str().unwrap();
    let shown = app.get(&format!("/events/{third}")).await.expect(200);
    assert_eq!(shown["event_type"], "a.3");
    let none = app.post("/events/batch", json!([])).await.expect(202);
    assert_eq!(none["event_ids"], json!([]));
}

#[tokio::test]
async fn one_bad_event_refuses_its_batch_and_is_named() {
    let app = App::open();
    let good = json!({"event_type": "a", "data": 1});
    let keyed = json!({"event_type": "a", "data": 1, "idempotency_key": "k"});
    app.event(keyed).await;
    let large = "x".repeat(300_000);
    for (bad, expected) in [
        (
            json!({"event_type": "a b", "data": 1}),
            (400, "invalid_request"),
        ),
        (json!({"event_type": "a"}), (400, "invalid_request")),
        (
            json!({"event_type": "a", "data": 1, "datum": 1}),
            (400, "invalid_request"),
        ),
        (json!(["a", 1]), (400, "invalid_request")),
        (
            json!({"event_type": "a", "data": 1, "idempotency_key": "ä"}),
            (400, "invalid_event"),
        ),
        (
            json!({"event_type": "a", "data": large}),
            (413, "body_too_large"),
        ),
        (
            json!({"event_type": "a", "data": 2, "idempotency_key": "k"}),
            (409, "idempotency_conflict"),
        ),
    ] {
        let answer = app.post("/events/batch", json!([good, bad, good])).await;
        assert_eq!(answer.error(), (expected.0, expected.1.into()), "{bad}");
        let sentence = answer.json()["error"].as_str().unwrap().to_owned();
        assert!(sentence.starts_with("event 1: "), "{sentence}");
        assert_eq!(app.stored().await.0, 1);
    }
}

#[tokio::test]
async fn a_batch_has_its_bounds() {
    let app = App::open();
    let batch = vec![json!({"event_type": "a", "data": 1}); 1_001];
    let answer = app.post("/events/batch", json!(batch)).await;
    assert_eq!(answer.error(), (413, "batch_too_large".into()));
    let many = format!("[{}1]", "1,".repeat(1_000_000));
    let answer = app.post_text("/events/batch", many).await;
    assert_eq!(answer.error(), (413, "batch_too_large".into()));
    let long = format!("[{}]", " ".repeat(16 * 1024 * 1024));
    let answer = app.post_text("/events/batch", long).await;
    assert_eq!(answer.error(), (413, "body_too_large".into()));
    let headers = [JSON, ("idempotency-key", "k")];
    let answer = app
        .send(Method::POST, "/events/batch", &headers, "[]")
        .await;
    assert_eq!(answer.error(), (400, "invalid_request".into()));
    assert_eq!(app.stored().await.0, 0);
}

#[tokio::test]
async fn the_size_limit_is_the_dispatchers() {
    let app = App::open();
    let limit = app.dispatcher.max_payload();
    let around = r#"{"type":"a","timestamp":"2023-11-14T22:13:20.000000Z","data":""}"#.len();
    let event = |size: usize| json!({"event_type": "a", "data": "x".repeat(size - around)});
    app.event(event(limit)).await;
    let answer = app.post("/events", event(limit + 1)).await;
    assert_eq!(answer.error(), (413, "body_too_large".into()));
    let answer = app.post("/events", event(limit * 3)).await;
    assert_eq!(answer.error(), (413, "body_too_large".into()));
}

#[tokio::test]
async fn deliver_at_is_waited_for() {
    let app = App::open();
    app.endpoint(json!({})).await;
    app.event(json!({"event_type": "a", "data": 1, "deliver_at": "2023-11-14T23:14:20+01:00"}))
        .await;
    app.deliver().await;
    assert_eq!(app.transport.requests().len(), 0);
    app.clock.advance(std::time::Duration::from_secs(60));
    app.deliver().await;
    assert_eq!(app.transport.requests().len(), 1);
}

#[tokio::test]
async fn a_replay_reaches_the_endpoints_that_match_now() {
    let app = App::open();
    let event = app.event(json!({"event_type": "a", "data": 1})).await;
    let endpoint = app.endpoint(json!({})).await;
    let replay = format!("/events/{event}/replay");
    let replayed = app.call(Method::POST, &replay, None).await.expect(202);
    let delivery = replayed["delivery_ids"][0].as_str().unwrap();
    let shown = app
        .get(&format!("/deliveries/{delivery}"))
        .await
        .expect(200);
    assert_eq!(shown["endpoint_id"], endpoint.as_str());
    app.deliver().await;
    app.post(&replay, json!({})).await.expect(202);
    app.deliver().await;
    let sent = app.transport.requests();
    let ids: Vec<_> = sent
        .iter()
        .map(|sent| &sent.headers["webhook-id"])
        .collect();
    assert_eq!(ids, [event.as_str(), event.as_str()]);
}

#[tokio::test]
async fn a_trace_goes_from_the_request_on_to_the_receiver() {
    const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let app = App::open();
    app.endpoint(json!({})).await;
    let send = async |path: &str, traces: &[&str], body: &str| {
        let mut headers = vec![JSON];
        headers.extend(traces.iter().map(|trace| ("traceparent", *trace)));
        let accepted = app
            .send(Method::POST, path, &headers, body.to_owned())
            .await;
        accepted.expect(202);
        app.deliver().await;
        let sent = app.transport.requests().pop().unwrap();
        let sent = sent.headers.get("traceparent");
        sent.map(|value| value.to_str().unwrap().to_owned())
    };
    let event = r#"{"event_type":"a","data":1}"#;
    let batch = format!("[{event}]");
    for (path, body) in [("/events", event), ("/events/batch", &batch)] {
        let step = send(path, &[TRACE], body).await.unwrap();
        assert_eq!(step[..36], TRACE[..36], "{path}");
        // What cannot be read is no reason to refuse an event.
        assert_eq!(send(path, &["00-x"], body).await, None, "{path}");
        assert_eq!(send(path, &[TRACE, TRACE], body).await, None, "{path}");
        assert_eq!(send(path, &[], body).await, None, "{path}");
    }
}

//! Bulk replays: started, watched, cancelled.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use webhook_core::testing::fast_forward;

use crate::support::App;

const FAILED: &str = r#"{"filter":{"status":"failed"}}"#;

/// `count` dead letters of an endpoint, whose id it answers.
async fn dead_letters(app: &App, count: usize) -> String {
    let endpoint = app.endpoint(json!({})).await;
    for n in 0..count {
        app.transport.push(400);
        app.event(json!({"event_type": "a", "data": n})).await;
        app.deliver().await;
    }
    endpoint
}

async fn replay_of(app: &App, replay: &Value) -> Value {
    let path = format!("/replays/{}", replay["id"].as_str().unwrap());
    app.get(&path).await.expect(200)
}

#[tokio::test]
async fn dead_letters_are_counted_and_then_sent_again_at_a_pace() {
    let app = App::open();
    dead_letters(&app, 3).await;
    let body = json!({"filter": {"status": "failed", "error_kind": "http_400"}, "dry_run": true});
    let count = app.post("/deliveries/replay", body).await.expect(200);
    assert_eq!(count, json!({"count": 3, "count_is_exact": true}));
    let all = app.get("/replays").await.expect(200);
    assert_eq!(all["items"], json!([]), "a dry run starts nothing");

    let body = json!({"filter": {"status": "failed", "event_type": "a"}, "pace": 1});
    let started = app.post("/deliveries/replay", body).await.expect(202);
    assert_eq!(started["state"], "running");
    assert_eq!(
        (&started["total"], &started["done"]),
        (&json!(3), &json!(0))
    );
    assert_eq!(started["total_is_exact"], true);
    assert_eq!(started["pace"], 1);
    assert_eq!(started["tenant"], Value::Null);
    assert_eq!(
        started["selection"],
        json!({"kind": "deliveries", "status": "failed", "event_type": "a"})
    );
    let hour = Duration::from_secs(3_600);
    fast_forward(&app.dispatcher, &app.clock, hour)
        .await
        .unwrap();
    let ended = replay_of(&app, &started).await;
    assert_eq!(ended["state"], "completed");
    assert_eq!((&ended["done"], &ended["skipped"]), (&json!(3), &json!(0)));
    assert_eq!(app.transport.requests().len(), 6);
    let delivered = app.get("/deliveries?status=succeeded").await.expect(200);
    let delivered = delivered["items"].as_array().unwrap().clone();
    assert_eq!(delivered.len(), 3);
    assert!(delivered.iter().all(|one| one["replay_no"] == 1));

    // What was sent again is not sent a third time.
    let again = app
        .post_text("/deliveries/replay", FAILED)
        .await
        .expect(202);
    assert_eq!(again["total"], 0);
}

#[tokio::test]
async fn an_endpoint_gets_what_it_missed() {
    let app = App::open();
    let endpoint = dead_letters(&app, 1).await;
    let path = format!("/endpoints/{endpoint}");
    let patch = |state| app.patch(&path, json!({ "state": state }));
    patch("disabled").await.expect(200);
    for n in 0..2 {
        app.event(json!({"event_type": "a", "data": n})).await;
    }
    patch("enabled").await.expect(200);
    let since = json!({"since": "2023-11-14T00:00:00Z"});
    let path = format!("{path}/replay");
    let mut dry = since.clone();
    dry["dry_run"] = json!(true);
    assert_eq!(app.post(&path, dry).await.expect(200)["count"], 3);
    let started = app.post(&path, since).await.expect(202);
    assert_eq!(started["tenant"], "default");
    assert_eq!(
        started["selection"],
        json!({"kind": "endpoint", "endpoint_id": endpoint, "since": "2023-11-14T00:00:00.000000Z"})
    );
    app.deliver().await;
    assert_eq!(replay_of(&app, &started).await["done"], 3);
    assert_eq!(app.transport.requests().len(), 4);
}

#[tokio::test]
async fn a_replay_is_cancelled_once() {
    let app = App::open();
    dead_letters(&app, 2).await;
    let started = app
        .post_text("/deliveries/replay", FAILED)
        .await
        .expect(202);
    let cancel = format!("/replays/{}/cancel", started["id"].as_str().unwrap());
    let cancelled = app.call(Method::POST, &cancel, None).await.expect(202);
    assert_eq!(cancelled["state"], "cancelled");
    let again = app.call(Method::POST, &cancel, None).await;
    assert_eq!(again.error(), (409, "conflict".into()));
    app.deliver().await;
    assert_eq!(replay_of(&app, &started).await["done"], 0);
    assert_eq!(app.transport.requests().len(), 2);
}

#[tokio::test]
async fn who_started_it_is_told() {
    let app = App::guarded();
    let headers = [
        ("authorization", "operator a"),
        ("content-type", "application/json"),
    ];
    let path = "/deliveries/replay";
    let started = app.send(Method::POST, path, &headers, FAILED).await;
    let started = started.expect(202);
    assert_eq!(started["created_by"], "o");
    assert_eq!(started["tenant"], "a");
    let body = r#"{"filter":{"status":"failed","tenant":"b"}}"#;
    let refused = app.send(Method::POST, path, &headers, body).await;
    assert_eq!(refused.error(), (403, "forbidden".into()));
}

#[tokio::test]
async fn a_tenant_selects_only_what_it_may_know() {
    use webhook_core::TransportErrorKind::{Connect, Dns};
    let app = App::open();
    app.endpoint(json!({"tenant": "a", "retry_schedule": []}))
        .await;
    for kind in [Dns, Connect] {
        app.transport.push(kind);
        app.event(json!({"event_type": "a", "data": 1, "tenant": "a"}))
            .await;
        app.deliver().await;
    }
    let guarded = webhook_axum::router(
        app.dispatcher.clone(),
        webhook_axum::Auth::custom(crate::support::ByWord),
    );
    let count = async |who: &str, kind: &str| {
        let body = json!({"filter": {"error_kind": kind}, "dry_run": true}).to_string();
        let headers = [("authorization", who), ("content-type", "application/json")];
        let path = "/deliveries/replay";
        let answer = crate::support::send(&guarded, Method::POST, path, &headers, body).await;
        answer.expect(200)["count"].clone()
    };
    assert_eq!(count("operator", "dns").await, 1);
    assert_eq!(count("operator a", "dns").await, 0);
    assert_eq!(count("operator a", "unreachable").await, 2);
}

/// Bodies, and the code of their 400.
const WRONG_FILTERS: &[(&str, &str)] = &[
    ("", "invalid_json"),
    ("{}", "invalid_request"),
    (r#"{"filter":[]}"#, "invalid_request"),
    (r#"{"filter":null}"#, "invalid_request"),
    (r#"{"filter":{}}"#, "invalid_setting"),
    (r#"{"filter":{"tenant":"a"}}"#, "invalid_setting"),
    (r#"{"filter":{"status":"pending"}}"#, "invalid_setting"),
    (r#"{"filter":{"status":"done"}}"#, "invalid_request"),
    (r#"{"filter":{"limit":1}}"#, "invalid_request"),
    (r#"{"filter":{"error_kind":"Time Out"}}"#, "invalid_request"),
    (r#"{"filter":{"cause":"me"}}"#, "invalid_request"),
    (
        r#"{"filter":{"status":"failed","status":"failed"}}"#,
        "invalid_request",
    ),
    (
        r#"{"filter":{"status":"failed"},"pace":0}"#,
        "invalid_setting",
    ),
    (
        r#"{"filter":{"status":"failed"},"pace":0,"dry_run":true}"#,
        "invalid_setting",
    ),
    (
        r#"{"filter":{"status":"failed"},"pace":-1}"#,
        "invalid_request",
    ),
    (
        r#"{"filter":{"status":"failed"},"dry_run":1}"#,
        "invalid_request",
    ),
    (
        r#"{"filter":{"status":"failed"},"extra":1}"#,
        "invalid_request",
    ),
];

/// As [`WRONG_FILTERS`], for an endpoint.
const WRONG_TIMES: &[(&str, &str)] = &[
    ("", "invalid_json"),
    ("{}", "invalid_request"),
    (r#"{"since":1}"#, "invalid_request"),
    (r#"{"since":"yesterday"}"#, "invalid_request"),
    (
        r#"{"since":"2023-01-02T00:00:00Z","until":"2023-01-01T00:00:00Z"}"#,
        "invalid_setting",
    ),
    (
        r#"{"since":"2023-01-01T00:00:00Z","pace":0,"dry_run":true}"#,
        "invalid_setting",
    ),
    (
        r#"{"since":"2023-01-02T00:00:00Z","status":"in_progress"}"#,
        "invalid_setting",
    ),
];

#[tokio::test]
async fn wrong_replays_are_refused() {
    let app = App::open();
    let endpoint = app.endpoint(json!({})).await;
    let of_endpoint = format!("/endpoints/{endpoint}/replay");
    for (path, wrong) in [
        ("/deliveries/replay", WRONG_FILTERS),
        (&of_endpoint, WRONG_TIMES),
    ] {
        for (body, code) in wrong {
            let answer = app.post_text(path, *body).await;
            assert_eq!(answer.error(), (400, (*code).into()), "{path} {body}");
        }
    }
    let all = app.get("/replays").await.expect(200);
    assert_eq!(all["items"], json!([]));
}

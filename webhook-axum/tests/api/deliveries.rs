//! `/deliveries`.

use bytes::Bytes;
use http::{Method, Response};
use serde_json::{Value, json};
use webhook_core::{ResponseDetails, TransportErrorKind};

use crate::support::App;

async fn only_delivery(app: &App) -> String {
    let list = app.get("/deliveries").await.expect(200);
    assert_eq!(list["items"].as_array().unwrap().len(), 1, "{list}");
    list["items"][0]["id"].as_str().unwrap().into()
}

fn response(status: u16, body: &'static [u8]) -> Response<Bytes> {
    Response::builder()
        .status(status)
        .header("x-request", "r1")
        .header("x-request", "r2")
        .header("x-bytes", &b"\xff"[..])
        .body(Bytes::from_static(body))
        .unwrap()
}

#[tokio::test]
async fn a_delivery_is_shown_try_by_try() {
    let app = App::open();
    app.transport.push(TransportErrorKind::Timeout);
    app.transport.push(response(503, b"b\xff"));
    let mut cut = response(200, b"thanks\0");
    cut.extensions_mut()
        .insert(ResponseDetails::default().truncated(true));
    app.transport.push(cut);
    let endpoint = app
        .endpoint(json!({"headers": {"x-shard": "7"}, "secret_headers": {"authorization": "s3cret"}, "retry_schedule": [0, 0]}))
        .await;
    let event = app.event(json!({"event_type": "a", "data": 1})).await;
    let path = format!("/deliveries/{}", only_delivery(&app).await);
    let waiting = app.get(&path).await.expect(200);
    assert_eq!(waiting["status"], "pending");
    assert_eq!(waiting["next_retry_at"], "2023-11-14T22:13:20.000000Z");
    assert_eq!(
        waiting["explanation"],
        "waits for its first attempt, which is due: as soon as a worker and the endpoint's room are free for it"
    );
    assert_eq!(waiting["attempts"], json!([]));

    app.deliver().await;
    let done = app.get(&path).await.expect(200);
    assert_eq!(done["event_id"], event.as_str());
    assert_eq!(done["endpoint_id"], endpoint.as_str());
    assert_eq!(done["event_type"], "a");
    assert_eq!(done["tenant"], "default");
    assert_eq!(done["replay_no"], 0);
    assert_eq!(done["status"], "succeeded");
    assert_eq!(done["attempt_count"], 3);
    assert_eq!(done["next_retry_at"], Value::Null);

    let [timeout, failed, succeeded] = &done["attempts"].as_array().unwrap()[..] else {
        panic!("{done}");
    };
    assert_eq!(timeout["number"], 1);
    assert_eq!(timeout["error"], "timeout");
    assert_eq!(timeout["status"], Value::Null);
    assert_eq!(timeout.get("response_headers"), None);
    assert_eq!(timeout["started_at"], "2023-11-14T22:13:20.000000Z");
    assert_eq!(timeout["duration_ms"], 0);
    assert_eq!(timeout["first_byte_ms"], Value::Null);
    assert_eq!(timeout["request_headers"]["x-shard"], "7");
    assert_eq!(timeout["request_headers"]["authorization"], "***");
    assert_eq!(timeout["request_headers"]["webhook-id"], event.as_str());
    assert_eq!(failed["status"], 503);
    assert_eq!(failed["error"], Value::Null);
    assert_eq!(failed["body"], Value::Null);
    assert_eq!(failed["body_base64"], "Yv8=");
    assert_eq!(failed["truncated"], false);
    assert_eq!(failed["response_headers"]["x-request"], "r1, r2");
    assert_eq!(failed["response_headers"]["x-bytes"], "\u{fffd}");
    assert_eq!(succeeded["status"], 200);
    assert_eq!(succeeded["body"], "thanks\0");
    assert_eq!(succeeded.get("body_base64"), None);
    assert_eq!(succeeded["truncated"], true);
}

#[tokio::test]
async fn what_comes_next_is_told_and_why() {
    let app = App::open();
    app.transport.push(503);
    let endpoint = app.endpoint(json!({"retry_schedule": [60]})).await;
    app.event(json!({"event_type": "a", "data": 1})).await;
    let path = format!("/deliveries/{}", only_delivery(&app).await);
    app.deliver().await;
    let failed = app.get(&path).await.expect(200);
    assert_eq!(failed["status"], "pending");
    assert_eq!(failed["last_error"], "http_503");
    assert!(failed["next_retry_at"].as_str() > Some("2023-11-14T22:13:20.000000Z"));
    let due = failed["next_retry_at"].as_str().unwrap();
    assert_eq!(
        failed["explanation"],
        format!(
            "attempt 1 failed (http_503); it is tried again by the retry schedule, due at {due}"
        )
    );
    let pause = json!({"state": "paused"});
    app.patch(&format!("/endpoints/{endpoint}"), pause)
        .await
        .expect(200);
    let paused = app.get(&path).await.expect(200);
    assert_eq!(
        paused["explanation"],
        "waits: the endpoint is paused; it goes on when that is enabled"
    );
}

#[tokio::test]
async fn a_breaker_that_is_open_is_told_with_what_waits_for_it() {
    let app = App::open();
    for _ in 0..10 {
        app.transport.push(500);
    }
    let endpoint = app.endpoint(json!({"retry_schedule": [1]})).await;
    for n in 0..10 {
        app.event(json!({"event_type": "a", "data": n})).await;
        app.deliver().await;
    }
    let shown = app.get(&format!("/endpoints/{endpoint}")).await.expect(200);
    assert_eq!(shown["breaker"]["state"], "open", "{shown}");
    let until = shown["breaker"]["until"].as_str().unwrap();
    let deliveries = app.get("/deliveries?limit=1").await.expect(200);
    let id = deliveries["items"][0]["id"].as_str().unwrap();
    let waiting = app.get(&format!("/deliveries/{id}")).await.expect(200);
    let explanation = waiting["explanation"].as_str().unwrap();
    assert!(
        explanation.contains(&format!("but not before {until}")),
        "{explanation}"
    );
    assert!(explanation.contains("breaker is open"), "{explanation}");
}

#[tokio::test]
async fn what_holds_up_a_delivery_that_is_due_is_told() {
    for (settings, why) in [
        (json!({"ordered": true}), "the endpoint is ordered"),
        (
            json!({"rate_limit": {"limit": 1, "per_seconds": 60}}),
            "rate limit",
        ),
    ] {
        let app = App::open();
        app.endpoint(settings).await;
        app.event(json!({"event_type": "a", "data": 1})).await;
        let path = format!("/deliveries/{}", only_delivery(&app).await);
        let waiting = app.get(&path).await.expect(200);
        let explanation = waiting["explanation"].as_str().unwrap();
        assert!(explanation.contains(why), "{explanation}");
    }
}

#[tokio::test]
async fn what_has_ended_is_replayed_and_what_lives_is_cancelled() {
    let app = App::open();
    app.transport.push(400);
    app.endpoint(json!({})).await;
    app.event(json!({"event_type": "a", "data": 1})).await;
    let old = format!("/deliveries/{}", only_delivery(&app).await);
    let (replay, cancel) = (format!("{old}/replay"), format!("{old}/cancel"));
    let early = app.call(Method::POST, &replay, None).await;
    assert_eq!(early.error(), (409, "conflict".into()));
    app.deliver().await;
    let dead = app.get(&old).await.expect(200);
    assert_eq!(
        (&dead["status"], &dead["end_reason"]),
        (&json!("failed"), &json!("permanent"))
    );
    let late = app.call(Method::POST, &cancel, None).await;
    assert_eq!(late.error(), (409, "conflict".into()));

    let replayed = app.call(Method::POST, &replay, None).await.expect(202);
    assert_eq!(replayed["status"], "accepted");
    let new = format!("/deliveries/{}", replayed["delivery_id"].as_str().unwrap());
    assert_eq!(app.get(&new).await.expect(200)["replay_no"], 1);
    let cancelled = app
        .post(&format!("{new}/cancel"), json!({}))
        .await
        .expect(202);
    assert_eq!(cancelled, json!({"status": "accepted"}));
    let new = app.get(&new).await.expect(200);
    assert_eq!(
        (&new["status"], &new["end_reason"]),
        (&json!("cancelled"), &json!("requested"))
    );
    app.deliver().await;
    assert_eq!(app.transport.requests().len(), 1);
}

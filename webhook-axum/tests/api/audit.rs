//! Who did what.

use std::sync::Arc;

use async_trait::async_trait;
use http::Method;
use http::request::Parts;
use serde_json::{Value, json};
use tokio::sync::Notify;
use webhook_axum::{Auth, AuthRejection, Authorizer, Identity};

use crate::support::{Answer, App};

async fn call(app: &App, method: Method, path: &str, body: Value, who: &str) -> Answer {
    let headers = [("authorization", who), ("content-type", "application/json")];
    app.send(method, path, &headers, body.to_string()).await
}

async fn log(app: &App, query: &str, who: &str) -> Vec<Value> {
    let path = format!("/audit{query}");
    let list = call(app, Method::GET, &path, Value::Null, who).await;
    list.expect(200)["items"].as_array().unwrap().clone()
}

#[tokio::test]
async fn the_callers_name_is_written_down_with_what_they_did() {
    let app = App::guarded();
    let url = "https://hooks.example.com/?token=s3cret";
    let body = json!({"url": url, "secret_headers": {"x-key": "s3cret"}});
    let endpoint = call(&app, Method::POST, "/endpoints", body, "operator a").await;
    let id = endpoint.expect(201)["id"].as_str().unwrap().to_owned();
    let path = format!("/endpoints/{id}");
    let body = json!({"state": "paused", "secret_headers": {"x-key": "s3cret2"}});
    call(&app, Method::PATCH, &path, body, "operator a")
        .await
        .expect(200);

    let list = log(&app, "", "viewer a").await;
    let expected = json!({
        "id": list[0]["id"], "at": list[0]["at"], "actor": "o", "tenant": "a",
        "action": "endpoint.update", "target": id, "detail": "state: paused, headers",
    });
    assert_eq!(list[0], expected);
    assert_eq!(list[1]["action"], "endpoint.create");
    assert_eq!(list.len(), 2);
    assert!(!Value::from(list).to_string().contains("s3cret"));
}

#[tokio::test]
async fn entries_are_found_by_each_filter_and_seen_in_their_scope() {
    let app = App::guarded();
    for tenant in ["a", "b"] {
        let body = json!({"url": "https://hooks.example.com/", "tenant": tenant});
        call(&app, Method::POST, "/endpoints", body, "operator")
            .await
            .expect(201);
    }
    call(&app, Method::PUT, "/event-types/x", json!({}), "operator")
        .await
        .expect(200);

    assert_eq!(log(&app, "", "viewer").await.len(), 3);
    assert_eq!(log(&app, "?tenant=a", "viewer").await.len(), 1);
    assert_eq!(log(&app, "", "viewer b").await.len(), 1);
    let types = log(&app, "?action=event_type.put", "viewer").await;
    assert_eq!((types.len(), &types[0]["tenant"]), (1, &Value::Null));
    assert_eq!(log(&app, "?target=x&actor=o", "viewer").await, types);
    assert!(log(&app, "?target=x", "viewer a").await.is_empty());
    assert!(log(&app, "?actor=v", "viewer").await.is_empty());
    assert!(
        log(&app, "?since=2999-01-01T00:00:00Z", "viewer")
            .await
            .is_empty()
    );
    assert_eq!(
        log(&app, "?until=2999-01-01T00:00:00Z&limit=2", "viewer")
            .await
            .len(),
        2
    );

    let refused = call(&app, Method::GET, "/audit?action=x", Value::Null, "viewer").await;
    assert_eq!(refused.error(), (400, "invalid_query".into()));
    let refused = call(
        &app,
        Method::GET,
        "/audit?tenant=a",
        Value::Null,
        "viewer b",
    )
    .await;
    assert_eq!(refused.error(), (403, "forbidden".into()));
}

/// Answers when it is told to.
struct Slow(Arc<Notify>);

#[async_trait]
impl Authorizer for Slow {
    async fn authorize(&self, parts: &Parts) -> Result<Identity, AuthRejection> {
        if parts.method == Method::POST {
            self.0.notified().await;
        }
        Ok(Identity::operator("o"))
    }
}

#[tokio::test]
async fn what_is_asked_for_is_done_and_written_down_although_the_client_hangs_up() {
    let go = Arc::new(Notify::new());
    let app = App::with(Auth::custom(Slow(Arc::clone(&go))));
    let body = json!({"url": "https://hooks.example.com/"});
    tokio::select! {
        biased;
        answer = call(&app, Method::POST, "/endpoints", body, "o") => panic!("{answer:?}"),
        () = tokio::task::yield_now() => {}
    }
    go.notify_one();
    let mut entries = Vec::new();
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
        entries = log(&app, "", "o").await;
        if !entries.is_empty() {
            break;
        }
    }
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0]["action"], "endpoint.create");
}

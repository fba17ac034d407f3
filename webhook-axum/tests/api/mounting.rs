//! The router among a host's routes.

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use http::Method;
use serde_json::json;
use webhook_axum::{Auth, router};
use webhook_core::testing::ScriptedTransport;
use webhook_core::{Dispatcher, MemoryStore};

use crate::support::{App, send};

#[derive(Clone)]
struct Shop(&'static str);

fn shop(prefix: &str) -> Router {
    let dispatcher = Dispatcher::builder(MemoryStore::new())
        .transport(ScriptedTransport::default())
        .build()
        .unwrap();
    Router::new()
        .route("/", get(|State(shop): State<Shop>| async move { shop.0 }))
        .nest(prefix, router(dispatcher, Auth::none()))
        .fallback(|| async { "the host's own" })
        .with_state(Shop("the shop"))
}

#[tokio::test]
async fn it_nests_under_a_host_with_its_own_state_and_fallback() {
    let app = shop("/webhooks");
    let text = async |path: &str| send(&app, Method::GET, path, &[], "").await.text;
    assert_eq!(text("/").await, "the shop");
    assert_eq!(text("/elsewhere").await, "the host's own");
    let list = send(&app, Method::GET, "/webhooks/events", &[], "").await;
    assert_eq!(list.expect(200), json!({"items": [], "next": null}));
    let unknown = send(&app, Method::GET, "/webhooks/elsewhere", &[], "").await;
    assert_eq!(unknown.error(), (404, "not_found".into()));
}

#[tokio::test]
async fn a_hosts_own_path_parameters_do_not_get_in_the_way() {
    let app = shop("/orgs/{id}/webhooks");
    let headers = [("content-type", "application/json")];
    let body = r#"{"event_type":"a","data":1}"#;
    let path = "/orgs/7/webhooks/events";
    let event = send(&app, Method::POST, path, &headers, body)
        .await
        .expect(202);
    let path = format!("{path}/{}", event["event_id"].as_str().unwrap());
    send(&app, Method::GET, &path, &[], "").await.expect(200);
}

#[tokio::test]
async fn unknown_paths_and_methods_are_answered_in_the_same_form() {
    let app = App::open();
    for path in ["/", "/events/", "/event", "/openapi", "/events/x/y/z"] {
        let answer = app.get(path).await;
        assert_eq!(answer.error(), (404, "not_found".into()), "{path}");
    }
    for (method, path, allow) in [
        (Method::PUT, "/events", &["GET", "HEAD", "POST"][..]),
        (Method::GET, "/events/batch", &["POST"]),
        (
            Method::POST,
            "/endpoints/x",
            &["DELETE", "GET", "HEAD", "PATCH"],
        ),
        (Method::GET, "/deliveries/x/replay", &["POST"]),
        (Method::POST, "/health", &["GET", "HEAD"]),
    ] {
        let answer = app.call(method.clone(), path, None).await;
        let expected = (405, "method_not_allowed".into());
        assert_eq!(answer.error(), expected, "{method} {path}");
        let mut allowed: Vec<_> = answer.headers["allow"]
            .to_str()
            .unwrap()
            .split(',')
            .collect();
        allowed.sort_unstable();
        assert_eq!(allowed, allow, "{method} {path}");
    }
}

#[tokio::test]
async fn head_is_answered_like_get_without_a_body() {
    let app = App::open();
    let answer = app.call(Method::HEAD, "/events", None).await;
    assert_eq!((answer.status.as_u16(), answer.text.as_str()), (200, ""));
}

#[tokio::test]
async fn probes_say_how_it_is() {
    let app = App::open();
    assert_eq!(
        app.get("/health").await.expect(200),
        json!({"status": "ok"})
    );
    let ready = app.get("/ready").await.expect(200);
    assert_eq!(ready, json!({"status": "ready", "queue": "ok"}));
}

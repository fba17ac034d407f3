//! Who may do what: roles, tenants and credentials.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use http::Method;
use serde_json::{Value, json};
use webhook_axum::{Auth, InvalidToken};
use webhook_core::testing::ScriptedTransport;
use webhook_core::{Dispatcher, MemoryStore, Tenant, TransportErrorKind};

use crate::support::{Answer, App, ByWord, ROUTES, send};

/// Ids of an event, its endpoint and its ended delivery.
struct Ids {
    event: String,
    endpoint: String,
    delivery: String,
    replay: String,
}

async fn call(app: &App, method: &str, path: &str, body: &str, authorization: &[&str]) -> Answer {
    let mut headers: Vec<_> = authorization
        .iter()
        .map(|value| ("authorization", *value))
        .collect();
    if !body.is_empty() {
        headers.push(("content-type", "application/json"));
    }
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    app.send(method, path, &headers, body.to_owned()).await
}

/// What tenant `a` has.
async fn seeded(app: &App) -> Ids {
    let operator = &["operator a"];
    let url = r#"{"url":"https://hooks.example.com/"}"#;
    let endpoint = call(app, "POST", "/endpoints", url, operator)
        .await
        .expect(201);
    let event = r#"{"event_type":"a","data":1}"#;
    let event = call(app, "POST", "/events", event, operator)
        .await
        .expect(202);
    app.deliver().await;
    let deliveries = call(app, "GET", "/deliveries", "", operator)
        .await
        .expect(200);
    let replay = r#"{"filter":{"status":"failed"}}"#;
    let replay = call(app, "POST", "/deliveries/replay", replay, operator)
        .await
        .expect(202);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    Ids {
        event: text(&event["event_id"]),
        endpoint: text(&endpoint["id"]),
        delivery: text(&deliveries["items"][0]["id"]),
        replay: text(&replay["id"]),
    }
}

fn filled(path: &str, ids: &Ids) -> String {
    path.replace("{event}", &ids.event)
        .replace("{endpoint}", &ids.endpoint)
        .replace("{delivery}", &ids.delivery)
        .replace("{replay}", &ids.replay)
        .replace("{tenant}", "a")
}

/// Which routes there are, as the sources say it: method and path, ids as `{}`.
pub(crate) fn routes_in_the_sources() -> BTreeSet<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/routes");
    let mut routes = BTreeSet::new();
    for file in fs::read_dir(folder).unwrap() {
        let file = file.unwrap().path();
        // Those are open to all.
        if file.ends_with("probes.rs") {
            continue;
        }
        routes.extend(routes_in(&fs::read_to_string(file).unwrap()));
    }
    routes
}

/// Those of one source.
pub(crate) fn routes_in(source: &str) -> BTreeSet<(String, String)> {
    let mut routes = BTreeSet::new();
    for route in source.split(".route(").skip(1) {
        let (_, rest) = route.split_once('"').unwrap();
        let (path, handlers) = rest.split_once('"').unwrap();
        // To the next route, or to the end of the statement.
        let handlers = handlers.split(['}', ';']).next().unwrap();
        for method in ["get", "post", "put", "patch", "delete", "any", "on"] {
            let starts = [format!(" {method}("), format!(").{method}(")];
            if starts.iter().any(|start| handlers.contains(start)) {
                let path = path.replace("{id}", "{}").replace("{name}", "a");
                routes.insert((method.to_uppercase(), path));
            }
        }
    }
    routes
}

#[test]
fn the_table_has_every_route() {
    let mut table = BTreeSet::new();
    for (method, path, _) in ROUTES {
        let ids = [
            "{event}",
            "{endpoint}",
            "{delivery}",
            "{replay}",
            "{tenant}",
        ];
        let path = ids
            .iter()
            .fold((*path).to_owned(), |path, id| path.replace(id, "{}"));
        table.insert(((*method).to_owned(), path));
    }
    assert_eq!(table, routes_in_the_sources());
}

/// Least of all where somebody asks for a `dry_run` that there is not.
#[tokio::test]
async fn no_route_ignores_a_parameter_that_it_does_not_know() {
    let app = App::guarded();
    let ids = seeded(&app).await;
    for (method, path, body) in ROUTES {
        let path = format!("{}?dry_run=true", filled(path, &ids));
        let answer = call(&app, method, &path, body, &["operator a"]).await;
        let refused = (400, "invalid_query".into());
        assert_eq!(answer.error(), refused, "{method} {path}");
    }
    let ends = json!({"reason": "we move"}).to_string();
    let path = filled("/endpoints/{endpoint}", &ids);
    let refused = call(&app, "DELETE", &path, &ends, &["operator a"]).await;
    assert_eq!(refused.error(), (400, "invalid_request".into()));
    let there = call(&app, "GET", &path, "", &["operator a"]).await;
    there.expect(200);
}

#[tokio::test]
async fn what_is_another_tenants_does_not_exist() {
    let app = App::guarded();
    let ids = seeded(&app).await;
    for (method, path, body) in ROUTES.iter().filter(|(_, path, _)| path.contains('{')) {
        let path = filled(path, &ids);
        let answer = call(&app, method, &path, body, &["operator b"]).await;
        assert_eq!(answer.error(), (404, "not_found".into()), "{method} {path}");
    }
    for path in ["/events", "/endpoints", "/deliveries", "/replays", "/audit"] {
        let list = call(&app, "GET", path, "", &["operator b"])
            .await
            .expect(200);
        assert_eq!(list["items"], json!([]), "{path}");
        let list = call(&app, "GET", path, "", &["operator a"])
            .await
            .expect(200);
        assert_eq!(list["items"][0]["tenant"], "a", "{path}");
        let named = format!("{path}?tenant=a");
        let refused = call(&app, "GET", &named, "", &["operator b"]).await;
        assert_eq!(refused.error(), (403, "forbidden".into()), "{path}");
        call(&app, "GET", &named, "", &["operator a"])
            .await
            .expect(200);
    }
    // All is still there, and as it was.
    let path = filled("/endpoints/{endpoint}", &ids);
    let endpoint = call(&app, "GET", &path, "", &["viewer a"])
        .await
        .expect(200);
    assert_eq!(endpoint["state"], "enabled");
    let deliveries = call(&app, "GET", "/deliveries", "", &["viewer"])
        .await
        .expect(200);
    assert_eq!(deliveries["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn another_tenants_filters_find_nothing() {
    let app = App::guarded();
    let ids = seeded(&app).await;
    for filter in ["endpoint_id={endpoint}", "event_id={event}"] {
        let path = format!("/deliveries?{}", filled(filter, &ids));
        let list = call(&app, "GET", &path, "", &["operator b"])
            .await
            .expect(200);
        assert_eq!(list["items"], json!([]), "{path}");
    }
}

#[tokio::test]
async fn something_new_is_the_callers_own() {
    let app = App::guarded();
    for (path, body) in [
        (
            "/events",
            json!({"event_type": "a", "data": 1, "tenant": "b"}),
        ),
        (
            "/events/batch",
            json!([{"event_type": "a", "data": 1, "tenant": "b"}]),
        ),
        (
            "/endpoints",
            json!({"url": "https://hooks.example.com/", "tenant": "b"}),
        ),
    ] {
        let body = body.to_string();
        let refused = call(&app, "POST", path, &body, &["operator a"]).await;
        assert_eq!(refused.error(), (403, "forbidden".into()), "{path}");
        assert_eq!(app.stored().await, (0, 0));
    }
    let batch = r#"[{"event_type":"a","data":1},{"event_type":"a","data":1,"tenant":"a"}]"#;
    call(&app, "POST", "/events/batch", batch, &["operator a"])
        .await
        .expect(202);
    seeded(&app).await;
    for path in ["/events", "/endpoints"] {
        let list = call(&app, "GET", path, "", &["viewer"]).await.expect(200);
        for item in list["items"].as_array().unwrap() {
            assert_eq!(item["tenant"], "a", "{path}");
        }
    }
}

#[tokio::test]
async fn a_viewer_may_read_and_nothing_else() {
    let app = App::guarded();
    let ids = seeded(&app).await;
    let before = app.stored().await;
    for (method, path, body) in ROUTES {
        let path = filled(path, &ids);
        for viewer in ["viewer", "viewer a"] {
            let answer = call(&app, method, &path, body, &[viewer]).await;
            if *method == "GET" {
                answer.expect(200);
            } else {
                assert_eq!(answer.error(), (403, "forbidden".into()), "{method} {path}");
            }
        }
    }
    assert_eq!(app.stored().await, before);
    let path = filled("/endpoints/{endpoint}", &ids);
    let endpoint = call(&app, "GET", &path, "", &["viewer a"])
        .await
        .expect(200);
    assert_eq!(endpoint["state"], "enabled");
}

#[tokio::test]
async fn nobody_comes_in_without_the_token() {
    let app = App::with(Auth::bearer("t0ken").unwrap());
    let ids = Ids {
        event: "x".into(),
        endpoint: "x".into(),
        delivery: "x".into(),
        replay: "x".into(),
    };
    for (method, path, body) in ROUTES {
        let path = filled(path, &ids);
        for wrong in [
            &[][..],
            &[""],
            &["Bearer"],
            &["Bearer "],
            &["Bearer wrong"],
            &["Bearer t0ke"],
            &["Bearer t0ken2"],
            &["t0ken"],
            &["Basic t0ken"],
            &["Bearer t0ken", "Bearer t0ken"],
        ] {
            let answer = call(&app, method, &path, body, wrong).await;
            assert_eq!(
                answer.error(),
                (401, "unauthorized".into()),
                "{method} {path} {wrong:?}"
            );
            assert_eq!(answer.headers["www-authenticate"], "Bearer");
            assert!(!answer.text.contains("t0ken"));
        }
    }
    assert_eq!(app.stored().await, (0, 0));
    for right in ["Bearer t0ken", "bearer t0ken"] {
        call(&app, "GET", "/events", "", &[right]).await.expect(200);
    }
    for probe in ["/health", "/ready"] {
        call(&app, "GET", probe, "", &[]).await.expect(200);
    }
}

#[tokio::test]
async fn a_custom_authoriser_is_asked_on_every_route_but_probes() {
    let app = App::guarded();
    let ids = seeded(&app).await;
    for (method, path, body) in ROUTES {
        let path = filled(path, &ids);
        let unknown = call(&app, method, &path, body, &[]).await;
        assert_eq!(
            unknown.error(),
            (401, "unauthorized".into()),
            "{method} {path}"
        );
        let banned = call(&app, method, &path, body, &["banned"]).await;
        assert_eq!(banned.error(), (403, "forbidden".into()), "{method} {path}");
    }
    for probe in ["/health", "/ready"] {
        call(&app, "GET", probe, "", &["banned"]).await.expect(200);
    }
}

#[test]
fn a_token_that_nobody_could_send_is_refused() {
    for bad in ["", " ", "a b", "a\n", "tökén"] {
        assert_eq!(Auth::bearer(bad).err(), Some(InvalidToken), "{bad:?}");
    }
    let auth = Auth::bearer("s3cret").unwrap();
    assert!(!format!("{auth:?}").contains("s3cret"));
}

#[tokio::test]
async fn another_sites_page_changes_nothing() {
    let app = App::guarded();
    let ids = seeded(&app).await;
    let before = app.stored().await;
    for (method, path, body) in ROUTES {
        let path = filled(path, &ids);
        for site in ["cross-site", "same-site", "", "Same-Origin"] {
            let headers = [
                ("authorization", "operator a"),
                ("content-type", "application/json"),
                ("sec-fetch-site", site),
            ];
            let verb = Method::from_bytes(method.as_bytes()).unwrap();
            let answer = app.send(verb, &path, &headers, *body).await;
            if *method == "GET" {
                answer.expect(200);
            } else {
                assert_eq!(answer.error(), (403, "forbidden".into()), "{method} {path}");
            }
        }
    }
    assert_eq!(app.stored().await, before);
}

#[tokio::test]
async fn pages_of_its_own_and_those_with_a_token_change_what_they_may() {
    let body = r#"{"url":"https://hooks.example.com/"}"#;
    for (auth, authorization, site, status) in [
        (Auth::custom(ByWord), "operator", "same-origin", 201),
        (Auth::custom(ByWord), "operator", "none", 201),
        (
            Auth::bearer("t0ken").unwrap(),
            "Bearer t0ken",
            "same-site",
            201,
        ),
        (Auth::none(), "", "same-origin", 201),
        (Auth::none(), "", "cross-site", 403),
        // The browser remembers these, too.
        (Auth::none(), "Basic YTpi", "cross-site", 403),
    ] {
        let app = App::with(auth);
        let headers = [
            ("authorization", authorization),
            ("content-type", "application/json"),
            ("sec-fetch-site", site),
        ];
        let answer = app.send(Method::POST, "/endpoints", &headers, body).await;
        assert_eq!(answer.status, status, "{authorization} {site}");
    }
}

#[tokio::test]
async fn a_customer_of_the_system_tenants_name_is_not_let_in() {
    let app = App::guarded();
    let ids = seeded(&app).await;
    for (method, path, body) in ROUTES {
        let path = filled(path, &ids);
        for who in ["viewer system", "operator system"] {
            let answer = call(&app, method, &path, body, &[who]).await;
            assert_eq!(answer.error(), (403, "forbidden".into()), "{method} {path}");
        }
    }
    // The host still manages it.
    let url = r#"{"url":"https://ops.example.com/","tenant":"system"}"#;
    call(&app, "POST", "/endpoints", url, &["operator"])
        .await
        .expect(201);
    let list = call(&app, "GET", "/endpoints?tenant=system", "", &["viewer"]).await;
    assert_eq!(list.expect(200)["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn the_system_tenant_is_the_one_that_the_host_chose() {
    let dispatcher = Dispatcher::builder(MemoryStore::new())
        .transport(ScriptedTransport::default())
        .system_tenant(Tenant::new("ops").unwrap())
        .build()
        .unwrap();
    let router = webhook_axum::router(dispatcher, Auth::custom(ByWord));
    for (tenant, status) in [("ops", 403), ("system", 200)] {
        let who = format!("operator {tenant}");
        let headers = [("authorization", who.as_str())];
        let answer = send(&router, Method::GET, "/events", &headers, "").await;
        assert_eq!(answer.status, status, "{tenant}");
    }
}

#[tokio::test]
async fn a_tenant_has_as_many_endpoints_as_the_host_allows() {
    let dispatcher = Dispatcher::builder(MemoryStore::new())
        .transport(ScriptedTransport::default())
        .max_endpoints_per_tenant(2)
        .build()
        .unwrap();
    let router = webhook_axum::router(dispatcher, Auth::none());
    let create = async |tenant| {
        let headers = [("content-type", "application/json")];
        let body = format!(r#"{{"url":"https://hooks.example.com/in","tenant":"{tenant}"}}"#);
        send(&router, Method::POST, "/endpoints", &headers, body).await
    };
    for _ in 0..2 {
        create("acme").await.expect(201);
    }
    let refused = create("acme").await;
    assert_eq!(refused.error(), (422, "too_many_endpoints".into()));
    create("umbrella").await.expect(201);
}

#[tokio::test]
async fn a_tenant_is_not_told_what_the_network_looks_like() {
    let app = App::guarded();
    for kind in [
        TransportErrorKind::Dns,
        TransportErrorKind::Blocked,
        TransportErrorKind::Connect,
        TransportErrorKind::Timeout,
    ] {
        app.transport.push(kind);
    }
    for _ in 0..4 {
        let event = r#"{"event_type":"a","data":1,"tenant":"a"}"#;
        if app.stored().await.1 == 0 {
            let url = r#"{"url":"https://hooks.example.com/","tenant":"a"}"#;
            call(&app, "POST", "/endpoints", url, &["operator"])
                .await
                .expect(201);
        }
        call(&app, "POST", "/events", event, &["operator"])
            .await
            .expect(202);
        app.deliver().await;
        app.clock.advance(std::time::Duration::from_secs(1));
    }
    let errors = async |who: &str, query: &str| {
        let path = format!("/deliveries?{query}");
        let list = call(&app, "GET", &path, "", &[who]).await.expect(200);
        let items = list["items"].as_array().unwrap().clone();
        let of = |item: &Value| item["last_error"].as_str().unwrap().to_owned();
        items.iter().map(of).collect::<Vec<_>>()
    };
    assert_eq!(
        errors("viewer", "").await,
        ["timeout", "connect", "blocked", "dns"]
    );
    assert_eq!(
        errors("viewer a", "").await,
        ["timeout", "unreachable", "unreachable", "unreachable"]
    );
    assert_eq!(errors("viewer", "error_kind=dns").await, ["dns"]);
    for hidden in ["dns", "blocked", "connect"] {
        let query = format!("error_kind={hidden}");
        assert!(errors("viewer a", &query).await.is_empty(), "{hidden}");
    }
    assert_eq!(errors("viewer a", "error_kind=timeout").await, ["timeout"]);
    assert_eq!(errors("viewer a", "error_kind=unreachable").await.len(), 3);

    let first = "/deliveries?error_kind=unreachable&limit=2";
    let page = call(&app, "GET", first, "", &["viewer a"])
        .await
        .expect(200);
    assert_eq!(page["items"].as_array().unwrap().len(), 2);
    let rest = format!("{first}&cursor={}", page["next"].as_str().unwrap());
    let rest = call(&app, "GET", &rest, "", &["viewer a"])
        .await
        .expect(200);
    assert_eq!(rest["items"].as_array().unwrap().len(), 1);
    assert_eq!(rest["next"], Value::Null);

    let path = format!("/deliveries/{}", rest["items"][0]["id"].as_str().unwrap());
    let shown = call(&app, "GET", &path, "", &["viewer a"]).await;
    assert!(!shown.text.contains("dns"), "{}", shown.text);
    assert_eq!(shown.json()["attempts"][0]["error"], "unreachable");
}

#[tokio::test]
async fn a_tenant_is_not_told_how_long_it_took_not_to_connect() {
    for (kind, is_told) in [
        (TransportErrorKind::Dns, false),
        (TransportErrorKind::Blocked, false),
        (TransportErrorKind::Connect, false),
        (TransportErrorKind::Timeout, true),
    ] {
        let app = App::guarded();
        app.transport.push(kind);
        let ids = seeded(&app).await;
        for (who, is_told) in [("operator a", is_told), ("operator", true)] {
            let path = filled("/deliveries/{delivery}", &ids);
            let shown = call(&app, "GET", &path, "", &[who]).await.expect(200);
            let took = &shown["attempts"][0]["duration_ms"];
            assert_eq!(took.is_u64(), is_told, "{kind:?} {who}: {shown}");
            assert_eq!(took.is_null(), !is_told, "{kind:?} {who}: {shown}");
        }
    }
}

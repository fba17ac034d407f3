//! The dashboard without a browser: every page, who is let in, and where forms come from.

#![allow(clippy::unwrap_used, reason = "all of it is tests")]

mod audit;
mod charts;
mod dead_letters;
mod deliveries;
mod endpoints;
mod event_types;
mod live;
mod markup;
mod origins;
mod overview;
mod style;

use axum::Router;
use axum::body::Body;
use http::{Method, Request, StatusCode, header};
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;
use webhook_axum::{Auth, AuthRejection, Authorizer, Identity, router};
use webhook_core::testing::ScriptedTransport;
use webhook_core::{Dispatcher, MemoryStore, NewEndpoint, NewEvent, Tenant};

const CSRF: &str = "0123456789abcdef0123456789abcdef";
const SCREENS: [&str; 9] = [
    "/dashboard/",
    "/dashboard/endpoints",
    "/dashboard/endpoints/new",
    "/dashboard/deliveries",
    "/dashboard/events",
    "/dashboard/dead-letters",
    "/dashboard/replays",
    "/dashboard/event-types",
    "/dashboard/audit",
];

/// A viewer of the tenant `acme`.
struct Viewer;

#[async_trait::async_trait]
impl Authorizer for Viewer {
    async fn authorize(&self, _: &http::request::Parts) -> Result<Identity, AuthRejection> {
        Ok(Identity::viewer("v").within(Tenant::new("acme").unwrap()))
    }
}

/// Whoever the header `x-who` names, as `name` or `name@tenant`: an operator.
struct Named;

#[async_trait::async_trait]
impl Authorizer for Named {
    async fn authorize(&self, parts: &http::request::Parts) -> Result<Identity, AuthRejection> {
        let who = parts.headers.get("x-who").and_then(|it| it.to_str().ok());
        let who = who.ok_or(AuthRejection::Unauthorized)?;
        Ok(match who.split_once('@') {
            Some((name, tenant)) => Identity::operator(name).within(Tenant::new(tenant).unwrap()),
            None => Identity::operator(who),
        })
    }
}

fn dispatcher() -> Dispatcher {
    let transport = ScriptedTransport::default();
    let builder = Dispatcher::builder(MemoryStore::new()).transport(transport);
    builder.build().unwrap().erase()
}

struct Answer {
    status: StatusCode,
    headers: http::HeaderMap,
    text: String,
}

async fn send(app: &Router, request: http::request::Builder, body: &str) -> Answer {
    let request = request.body(Body::from(body.to_owned())).unwrap();
    let response = app.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    Answer {
        status: parts.status,
        headers: parts.headers,
        text: String::from_utf8_lossy(&bytes).into_owned(),
    }
}

async fn get(app: &Router, path: &str) -> Answer {
    send(app, Request::builder().uri(path), "").await
}

/// A form of one of our pages.
fn form(path: &str) -> http::request::Builder {
    Request::builder()
        .method(Method::POST)
        .uri(path)
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header("sec-fetch-site", "same-origin")
        .header(header::COOKIE, format!("webhook_csrf={CSRF}"))
}

#[tokio::test]
async fn every_screen_is_there_without_a_script_and_under_a_strict_policy() {
    let app: Router = router(dispatcher(), Auth::none());
    for path in SCREENS {
        let answer = get(&app, path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        let policy = answer.headers[header::CONTENT_SECURITY_POLICY]
            .to_str()
            .unwrap();
        assert!(
            policy.starts_with("default-src 'none'; script-src 'self'"),
            "{path}"
        );
        assert_eq!(answer.headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert!(!answer.text.contains("style=\"") && !answer.text.contains("<script>"));
    }
}

#[tokio::test]
async fn links_are_relative_so_that_any_prefix_will_do() {
    let app: Router = Router::new().nest("/shop/hooks", router(dispatcher(), Auth::none()));
    let answer = get(&app, "/shop/hooks/dashboard/endpoints/new").await;
    assert!(
        answer.text.contains("href=\"../deliveries\""),
        "{}",
        answer.text
    );
    let to_root = get(&app, "/shop/hooks/dashboard").await;
    assert_eq!(to_root.headers[header::LOCATION], "dashboard/");
}

#[tokio::test]
async fn an_endpoint_is_made_by_a_form_and_its_secret_shown_once() {
    let dispatcher = dispatcher();
    let app: Router = router(dispatcher.clone(), Auth::none());
    let body = format!("csrf={CSRF}&url=https%3A%2F%2Fexample.com%2Fhook&event_types=order.*");
    let made = send(&app, form("/dashboard/endpoints"), &body).await;
    assert_eq!(made.status, 200, "{}", made.text);
    assert!(made.text.contains("whsec_"));
    assert_eq!(made.headers[header::CACHE_CONTROL], "no-store");
    let endpoints = dispatcher.endpoints();
    let list = endpoints.list(webhook_core::PageRequest {
        before: None,
        limit: 5,
    });
    let id = list.await.unwrap().items[0].id;
    for page in ["", "/edit"] {
        let detail = get(&app, &format!("/dashboard/endpoints/{id}{page}")).await;
        assert_eq!(detail.status, 200);
        assert!(!detail.text.contains("whsec_"));
    }
    let wrong = format!("csrf={CSRF}&url=https%3A%2F%2Fexample.com&max_in_flight=0");
    let refused = send(&app, form("/dashboard/endpoints"), &wrong).await;
    assert_eq!(refused.status, 400);
    assert!(
        refused.text.contains("max_in_flight must be 1 to 1000"),
        "{}",
        refused.text
    );
}

#[tokio::test]
async fn what_is_not_there_is_answered_with_a_page() {
    let app: Router = router(dispatcher(), Auth::none());
    let unknown = uuid::Uuid::nil();
    for (path, status, sentence) in [
        ("nonsense", 404, "There is no such path"),
        ("endpoints/a/b/c", 404, "There is no such path"),
        ("deliveries/abc", 400, "The id in the path must be a UUID"),
        (&format!("deliveries/{unknown}"), 404, "role=\"alert\">"),
        ("?range=1h&range=7d", 400, "role=\"alert\">"),
    ] {
        let answer = get(&app, &format!("/dashboard/{path}")).await;
        assert_eq!(answer.status, status, "{path}");
        let kind = answer.headers[header::CONTENT_TYPE].to_str().unwrap();
        assert!(kind.starts_with("text/html"), "{path}: {kind}");
        assert!(answer.text.contains(sentence), "{path}: {}", answer.text);
        assert!(answer.text.contains("To the overview"), "{path}");
    }
    let api = get(&app, "/deliveries/abc").await;
    assert_eq!(api.headers[header::CONTENT_TYPE], "application/json");
    let locked: Router = router(dispatcher(), Auth::bearer("s3cret").unwrap());
    let asked = get(&locked, "/dashboard/nonsense").await;
    assert_eq!(asked.headers[header::LOCATION], "./login");
}

#[tokio::test]
async fn a_wrong_method_is_answered_with_a_page() {
    let app: Router = Router::new().nest("/hooks", router(dispatcher(), Auth::none()));
    for (method, path, root) in [
        ("GET", "/logout", "./"),
        ("GET", "/endpoints/abc/state", "../../"),
        ("POST", "/deliveries", "./"),
        ("PUT", "/login", "./"),
        ("DELETE", "", "dashboard/"),
    ] {
        let request = Request::builder().method(method);
        let request = request.uri(format!("/hooks/dashboard{path}"));
        let answer = send(&app, request, "").await;
        assert_eq!(answer.status, 405, "{method} {path}");
        assert!(answer.headers.contains_key(header::ALLOW), "{path}");
        assert!(answer.headers.contains_key("content-security-policy"));
        let sentence = if method == "GET" {
            "where a form is sent to"
        } else {
            "only for looking"
        };
        assert!(answer.text.contains(sentence), "{path}: {}", answer.text);
        let style = format!("href=\"{root}dashboard.css");
        assert!(answer.text.contains(&style), "{path}: {}", answer.text);
    }
    let api = Request::delete("/hooks/deliveries");
    let answer = send(&app, api, "").await;
    assert!(
        answer.text.contains("method_not_allowed"),
        "{}",
        answer.text
    );
}

#[tokio::test]
async fn the_page_before_the_door_leads_nowhere_else() {
    let app: Router = router(dispatcher(), Auth::bearer("s3cret").unwrap());
    let wrong = format!("csrf={CSRF}&token=x");
    for page in [
        get(&app, "/dashboard/login").await,
        send(&app, form("/dashboard/login"), &wrong).await,
    ] {
        assert!(page.text.contains("<h1>Sign in</h1>"), "{}", page.text);
        assert!(!page.text.contains("<nav"), "{}", page.text);
    }
}

#[tokio::test]
async fn a_form_from_elsewhere_changes_nothing() {
    let dispatcher = dispatcher();
    let app: Router = router(dispatcher.clone(), Auth::none());
    let url = "url=https%3A%2F%2Fexample.com";
    let body = format!("csrf={CSRF}&{url}");
    let foreign = Request::builder()
        .method(Method::POST)
        .uri("/dashboard/endpoints")
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(header::COOKIE, format!("webhook_csrf={CSRF}"));
    let foreign = foreign.header("sec-fetch-site", "cross-site");
    assert_eq!(send(&app, foreign, &body).await.status, 403);
    assert_eq!(
        send(&app, form("/dashboard/endpoints"), url).await.status,
        403
    );
    let other = format!("csrf={}&{url}", CSRF.replace('0', "1"));
    assert_eq!(
        send(&app, form("/dashboard/endpoints"), &other)
            .await
            .status,
        403
    );
    let endpoints = dispatcher.endpoints();
    let list = endpoints.list(webhook_core::PageRequest {
        before: None,
        limit: 5,
    });
    assert!(list.await.unwrap().items.is_empty());
}

#[tokio::test]
async fn a_token_signs_in_and_its_cookie_is_good_for_the_dashboard_only() {
    let app: Router = router(dispatcher(), Auth::bearer("s3cret").unwrap());
    let asked = get(&app, "/dashboard/").await;
    assert_eq!(asked.headers[header::LOCATION], "./login");
    let wrong = send(
        &app,
        form("/dashboard/login"),
        &format!("csrf={CSRF}&token=x"),
    )
    .await;
    assert_eq!(wrong.status, 401);
    let right = send(
        &app,
        form("/dashboard/login"),
        &format!("csrf={CSRF}&token=s3cret"),
    )
    .await;
    assert_eq!(right.status, 303);
    let cookie = right.headers[header::SET_COOKIE].to_str().unwrap();
    assert!(cookie.contains("HttpOnly; SameSite=Strict") && !cookie.contains("s3cret"));
    let cookie = cookie.split(';').next().unwrap();
    let with = |path: &str| Request::builder().uri(path).header(header::COOKIE, cookie);
    assert_eq!(send(&app, with("/dashboard/"), "").await.status, 200);
    assert_eq!(send(&app, with("/endpoints"), "").await.status, 401);
}

#[tokio::test]
async fn a_viewer_of_a_tenant_sees_theirs_and_changes_nothing() {
    let dispatcher = dispatcher();
    let app: Router = router(dispatcher.clone(), Auth::custom(Viewer));
    let new = |host: &str, tenant: &str| {
        let url = format!("https://{host}.example.com").parse().unwrap();
        NewEndpoint::new(url).tenant(Tenant::new(tenant).unwrap())
    };
    let own = dispatcher
        .endpoints()
        .create(new("own", "acme"))
        .await
        .unwrap();
    let other = dispatcher
        .endpoints()
        .create(new("other", "evil"))
        .await
        .unwrap();
    let list = get(&app, "/dashboard/endpoints").await.text;
    assert!(list.contains("own.example.com") && !list.contains("other.example.com"));
    let page = get(&app, &format!("/dashboard/endpoints/{}", own.id)).await;
    assert!(
        page.status == 200 && !page.text.contains("<button"),
        "{}",
        page.text
    );
    let page = get(&app, &format!("/dashboard/endpoints/{}", other.id)).await;
    assert_eq!(page.status, 404);
    let pause = format!("/dashboard/endpoints/{}/state", own.id);
    let body = format!("csrf={CSRF}&state=paused");
    assert_eq!(send(&app, form(&pause), &body).await.status, 403);
}

#[tokio::test]
async fn a_customer_of_the_system_tenants_name_sees_no_page() {
    let app: Router = router(dispatcher(), Auth::custom(Named));
    for path in SCREENS {
        for (who, status) in [("eve@system", 403), ("eve@acme", 200), ("host", 200)] {
            let request = Request::builder().uri(path).header("x-who", who);
            assert_eq!(send(&app, request, "").await.status, status, "{who} {path}");
        }
    }
}

#[tokio::test]
async fn hostile_texts_are_shown_as_texts() {
    const HOSTILE: &str = "<script>window.pwned=1</script>\"'><img src=x onerror=alert(1)>";
    let dispatcher = dispatcher();
    let app: Router = router(dispatcher.clone(), Auth::none());
    let new = NewEndpoint::new("https://example.com".parse().unwrap()).description(HOSTILE);
    let endpoint = dispatcher.endpoints().create(new).await.unwrap();
    let event = dispatcher
        .enqueue(NewEvent::json("a", HOSTILE).unwrap())
        .await
        .unwrap();
    let of_event = webhook_core::DeliveryFilter {
        event_id: Some(event),
        ..Default::default()
    };
    let one = webhook_core::PageRequest {
        before: None,
        limit: 1,
    };
    let delivery = dispatcher
        .deliveries()
        .list(&of_event, one)
        .await
        .unwrap()
        .items[0]
        .id;
    for path in [
        "endpoints".to_owned(),
        format!("endpoints/{}", endpoint.id),
        format!("endpoints/{}/edit", endpoint.id),
        format!("events/{event}"),
        format!("deliveries/{delivery}"),
    ] {
        let answer = get(&app, &format!("/dashboard/{path}")).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        assert!(answer.text.contains("window.pwned"), "{path}");
        assert!(
            !answer.text.contains("<script>window") && !answer.text.contains("<img"),
            "{path}"
        );
    }
    let raw = get(&app, &format!("/dashboard/events/{event}/body")).await;
    assert_eq!(
        raw.headers[header::CONTENT_TYPE],
        "text/plain; charset=utf-8"
    );
    let disposition = raw.headers[header::CONTENT_DISPOSITION].to_str().unwrap();
    assert!(disposition.starts_with("attachment"));
}

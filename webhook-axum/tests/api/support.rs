//! An engine in memory, and a client of its API.

use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use http::request::Parts;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;
use webhook_axum::{Auth, AuthRejection, Authorizer, Identity};
use webhook_core::testing::{ManualClock, ScriptedTransport, enqueued, fast_forward};
use webhook_core::{Dispatcher, MemoryStore, PageRequest, Tenant};

/// The engine, its network and time, and its API.
pub(crate) struct App {
    pub(crate) dispatcher: Dispatcher,
    pub(crate) transport: ScriptedTransport,
    pub(crate) clock: ManualClock,
    pub(crate) router: Router,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The status, once it is what was expected.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        if self.text.is_empty() {
            Value::Null
        } else {
            self.json()
        }
    }

    /// The status and the code of an error, whose form is checked.
    #[track_caller]
    pub(crate) fn error(&self) -> (u16, String) {
        assert_eq!(
            self.headers[header::CONTENT_TYPE],
            "application/json",
            "{self:?}"
        );
        let body = self.json();
        let fields: Vec<_> = body.as_object().unwrap().keys().collect();
        assert_eq!(fields, ["code", "error"], "{self:?}");
        assert!(!body["error"].as_str().unwrap().is_empty());
        (self.status.as_u16(), body["code"].as_str().unwrap().into())
    }
}

/// An authoriser for tests: `authorization: <role> [<tenant>]`.
pub(crate) struct ByWord;

#[async_trait]
impl Authorizer for ByWord {
    async fn authorize(&self, parts: &Parts) -> Result<Identity, AuthRejection> {
        let header = parts.headers.get(header::AUTHORIZATION);
        let text = header
            .and_then(|value| value.to_str().ok())
            .ok_or(AuthRejection::Unauthorized)?;
        let (role, tenant) = text.split_once(' ').unwrap_or((text, ""));
        let identity = match role {
            "viewer" => Identity::viewer("v"),
            "operator" => Identity::operator("o"),
            "banned" => return Err(AuthRejection::Forbidden),
            _ => return Err(AuthRejection::Unauthorized),
        };
        Ok(match Tenant::new(tenant) {
            Ok(tenant) => identity.within(tenant),
            Err(_) => identity,
        })
    }
}

impl App {
    /// One that lets in everybody.
    pub(crate) fn open() -> Self {
        Self::with(Auth::none())
    }

    /// One that asks [`ByWord`].
    pub(crate) fn guarded() -> Self {
        Self::with(Auth::custom(ByWord))
    }

    pub(crate) fn with(auth: Auth) -> Self {
        let (transport, clock) = (ScriptedTransport::default(), ManualClock::default());
        let dispatcher = Dispatcher::builder(MemoryStore::new())
            .transport(transport.clone())
            .clock(clock.clone())
            .seed(7)
            .build()
            .unwrap()
            .erase();
        Self {
            router: webhook_axum::router(dispatcher.clone(), auth),
            dispatcher,
            transport,
            clock,
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.call(Method::POST, path, Some(body)).await
    }

    pub(crate) async fn patch(&self, path: &str, body: Value) -> Answer {
        self.call(Method::PATCH, path, Some(body)).await
    }

    pub(crate) async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        let headers: &[(&str, &str)] = match body {
            Some(_) => &[("content-type", "application/json")],
            None => &[],
        };
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        self.send(method, path, headers, body).await
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Answer {
        send(&self.router, method, path, headers, body).await
    }

    /// Sends JSON text as it is.
    pub(crate) async fn post_text(&self, path: &str, body: impl Into<Body>) -> Answer {
        let json = [("content-type", "application/json")];
        self.send(Method::POST, path, &json, body).await
    }

    /// Creates an endpoint and answers its id.
    pub(crate) async fn endpoint(&self, mut body: Value) -> String {
        if body.get("url").is_none() {
            body["url"] = json!("https://hooks.example.com/in");
        }
        let created = self.post("/endpoints", body).await.expect(201);
        created["id"].as_str().unwrap().into()
    }

    /// Enqueues an event and answers its id.
    pub(crate) async fn event(&self, body: Value) -> String {
        let accepted = self.post("/events", body).await.expect(202);
        accepted["event_id"].as_str().unwrap().into()
    }

    /// Runs what is due.
    pub(crate) async fn deliver(&self) {
        fast_forward(&self.dispatcher, &self.clock, Duration::ZERO)
            .await
            .unwrap();
    }

    /// How many events and endpoints are stored.
    pub(crate) async fn stored(&self) -> (usize, usize) {
        let page = PageRequest::first(1_000);
        let endpoints = self.dispatcher.endpoints().list(page).await.unwrap();
        (
            enqueued(&self.dispatcher).await.unwrap().len(),
            endpoints.items.len(),
        )
    }
}

pub(crate) async fn send(
    router: &Router,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Body>,
) -> Answer {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(body.into()).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Answer {
        status: parts.status,
        headers: parts.headers,
        text: String::from_utf8(body.to_vec()).unwrap(),
    }
}

/// Every guarded route, with `{event}`, `{endpoint}`, `{delivery}`, `{replay}` and `{tenant}` for ids, and a good body.
pub(crate) const ROUTES: &[(&str, &str, &str)] = &[
    ("POST", "/events", r#"{"event_type":"a","data":1}"#),
    ("POST", "/events/batch", r#"[{"event_type":"a","data":1}]"#),
    ("GET", "/events", ""),
    ("GET", "/events/{event}", ""),
    ("POST", "/events/{event}/replay", ""),
    (
        "POST",
        "/endpoints",
        r#"{"url":"https://hooks.example.com/"}"#,
    ),
    ("GET", "/endpoints", ""),
    ("GET", "/endpoints/{endpoint}", ""),
    ("PATCH", "/endpoints/{endpoint}", r#"{"state":"paused"}"#),
    ("DELETE", "/endpoints/{endpoint}", ""),
    ("POST", "/endpoints/{endpoint}/rotate-secret", ""),
    ("POST", "/endpoints/{endpoint}/test", r#"{"data":1}"#),
    ("GET", "/deliveries", ""),
    ("GET", "/deliveries/{delivery}", ""),
    ("POST", "/deliveries/{delivery}/replay", ""),
    ("POST", "/deliveries/{delivery}/cancel", ""),
    (
        "POST",
        "/endpoints/{endpoint}/replay",
        r#"{"since":"2023-01-01T00:00:00Z"}"#,
    ),
    (
        "POST",
        "/deliveries/replay",
        r#"{"filter":{"status":"failed"}}"#,
    ),
    ("GET", "/replays", ""),
    ("GET", "/replays/{replay}", ""),
    ("POST", "/replays/{replay}/cancel", ""),
    ("GET", "/stats", ""),
    ("GET", "/openapi.json", ""),
    ("GET", "/event-types", ""),
    ("GET", "/audit", ""),
    ("DELETE", "/tenants/{tenant}", ""),
    ("PUT", "/event-types/a", r#"{"schema":{"type":"integer"}}"#),
];

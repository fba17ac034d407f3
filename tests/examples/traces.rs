//! The platform's traces, as a collector gets them.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::sync::mpsc;

use super::{EVENT, Program, TOKEN, client, platform_on, within};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CLIENT: &str = "00f067aa0ba902b7";

#[tokio::test]
async fn a_clients_trace_goes_on_to_the_receiver_and_its_spans_to_the_collector() {
    let (collector, (url, mut told)) = (Collector::default(), receiver().await);
    let platform = Program::start(&mut platform_to(&collector.serve().await)).await;
    let endpoint = json!({"url": format!("{url}?token=hush-hush")}).to_string();
    let endpoint = platform.post("/endpoints", &endpoint).await;
    let request = client().post(format!("{}/events", platform.url));
    let request = request
        .bearer_auth(TOKEN)
        .header("content-type", "application/json")
        .header("traceparent", format!("00-{TRACE}-{CLIENT}-01"));
    let accepted = within(request.body(EVENT).send()).await.unwrap();
    assert_eq!(accepted.status(), 202);
    let told = within(told.recv()).await.unwrap();
    let log = ended(platform).await;

    let spans = collector.spans();
    let named = |name| {
        let mut named = spans.iter().filter(|span| span.name == name);
        let span = named.next().expect(name);
        assert_eq!(named.count(), 0, "{name}");
        span
    };
    let (enqueue, attempt) = (named("webhook.enqueue"), named("webhook.attempt"));
    assert_eq!(spans.len(), 2, "{spans:?}");
    assert_eq!([&enqueue.trace_id, &attempt.trace_id].map(hex), [TRACE; 2]);
    assert_eq!(hex(&enqueue.parent_span_id), CLIENT);
    assert_eq!(attempt.parent_span_id, enqueue.span_id);
    assert_eq!(told, format!("00-{TRACE}-{}-01", hex(&attempt.span_id)));

    assert_eq!(enqueue.kind(), SpanKind::Producer);
    assert_eq!(attempt.kind(), SpanKind::Client);
    let id = endpoint["id"].as_str().map(str::to_owned);
    assert_eq!(text(&attempt.attributes, "webhook.endpoint.id"), id);
    let status = text(&attempt.attributes, "http.response.status_code");
    assert_eq!(status.as_deref(), Some("200"));
    assert_eq!(collector.service().as_deref(), Some("webhook-delivery"));
    assert!(!format!("{spans:?}").contains("hush-hush"));
    assert!(!log.contains("hush-hush"), "{log}");
}

#[tokio::test]
async fn what_other_variables_of_opentelemetry_say_holds_as_well() {
    let collector = Collector::default();
    let mut command = platform_to(&format!("{}/otlp/", collector.serve().await));
    command.envs([
        ("OTEL_RESOURCE_ATTRIBUTES", "service.name=shop"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-key=hush%20hush"),
    ]);
    let platform = Program::start(&mut command).await;
    platform.post("/events", EVENT).await;
    ended(platform).await;
    assert_eq!(collector.service().as_deref(), Some("shop"));
    let (uri, headers) = collector.asked();
    assert_eq!(uri, "/otlp/v1/traces");
    assert_eq!(headers["x-key"], "hush hush");
    assert_eq!(headers["content-type"], "application/x-protobuf");
}

#[tokio::test]
async fn a_collector_that_is_away_holds_up_no_delivery_and_the_log_says_so() {
    let (url, mut told) = receiver().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let mut command = platform_to(&nobody);
    // It tries no longer than these milliseconds, which the end of the process has to wait for.
    command.env("OTEL_EXPORTER_OTLP_TIMEOUT", "10");
    let platform = Program::start(&mut command).await;
    platform
        .post("/endpoints", &json!({ "url": url }).to_string())
        .await;
    platform.post("/events", EVENT).await;
    assert!(within(told.recv()).await.unwrap().starts_with("00-"));
    let log = ended(platform).await;
    assert!(log.contains("ERROR opentelemetry"), "{log}");
}

#[tokio::test]
async fn log_lines_show_spans_only_where_the_filter_names_them() {
    let (url, mut told) = receiver().await;
    for (filter, shows) in [("debug", false), ("debug,webhook_core::trace=info", true)] {
        let platform = Program::start(platform_on("memory:").env("LOG", filter)).await;
        platform
            .post("/endpoints", &json!({ "url": url }).to_string())
            .await;
        platform.post("/events", EVENT).await;
        assert_eq!(within(told.recv()).await.unwrap(), "", "nobody traces");
        let log = ended(platform).await;
        assert!(log.contains("DEBUG"), "{log}");
        assert_eq!(log.contains("webhook.attempt{"), shows, "{filter}: {log}");
    }
}

/// The platform in memory, whose traces go to this collector, and nothing by way of a proxy.
fn platform_to(collector: &str) -> Command {
    let mut command = platform_on("memory:");
    let variables = std::env::vars_os().map(|(name, _)| name);
    for name in variables.filter(|name| name.to_string_lossy().starts_with("OTEL_")) {
        command.env_remove(name);
    }
    command.envs([
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector),
        ("NO_PROXY", "*"),
    ]);
    command
}

/// Ends it in order; what it logged.
async fn ended(platform: Program) -> String {
    platform.terminate().await;
    let (code, log) = platform.end().await;
    assert_eq!(code, Some(0), "{log}");
    log
}

/// Serves on a free port; answers the URL of its root.
async fn serve(app: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(axum::serve(listener, app).into_future());
    url
}

/// A receiver that takes everything, and tells of the `traceparent` of each.
async fn receiver() -> (String, mpsc::UnboundedReceiver<String>) {
    async fn take(State(told): State<mpsc::UnboundedSender<String>>, headers: HeaderMap) {
        let parent = headers.get("traceparent").map(|it| it.to_str().unwrap());
        told.send(parent.unwrap_or_default().to_owned()).unwrap();
    }
    let (sender, told) = mpsc::unbounded_channel();
    let app = Router::new().route("/in", post(take)).with_state(sender);
    (format!("{}/in", serve(app).await), told)
}

/// Keeps the requests that it gets, wherever they are for.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Exported>>>);

type Exported = (Uri, HeaderMap, ExportTraceServiceRequest);

impl Collector {
    async fn serve(&self) -> String {
        async fn take(State(to): State<Collector>, uri: Uri, headers: HeaderMap, body: Bytes) {
            let request = ExportTraceServiceRequest::decode(body).unwrap();
            to.0.lock().unwrap().push((uri, headers, request));
        }
        serve(Router::new().fallback(take).with_state(self.clone())).await
    }

    fn spans(&self) -> Vec<Span> {
        let requests = self.0.lock().unwrap();
        let resources = requests.iter().flat_map(|(.., it)| &it.resource_spans);
        let scopes = resources.flat_map(|it| &it.scope_spans);
        scopes.flat_map(|it| &it.spans).cloned().collect()
    }

    /// Whose spans came first.
    fn service(&self) -> Option<String> {
        let requests = self.0.lock().unwrap();
        let (.., request) = requests.first()?;
        let resource = request.resource_spans.first()?.resource.as_ref()?;
        text(&resource.attributes, "service.name")
    }

    /// Where the first request was for, and its headers.
    fn asked(&self) -> (Uri, HeaderMap) {
        let requests = self.0.lock().unwrap();
        let (uri, headers, _) = requests.first().expect("a request");
        (uri.clone(), headers.clone())
    }
}

/// What an attribute says, as text.
fn text(attributes: &[KeyValue], key: &str) -> Option<String> {
    let found = attributes.iter().find(|it| it.key == key)?;
    match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        Value::IntValue(number) => Some(number.to_string()),
        _ => None,
    }
}

fn hex(bytes: impl AsRef<[u8]>) -> String {
    let digits = bytes.as_ref().iter().map(|byte| format!("{byte:02x}"));
    digits.collect()
}

//! Nothing shows a secret: endpoints with secrets that can be recognized are created, deliver and fail, and then
//! everything that anybody could see is searched for them: the database, Redis, every log line, `Debug`, errors and
//! the API's answers.

#![allow(clippy::unwrap_used, reason = "all of it is tests")]

#[cfg(all(feature = "postgres", feature = "redis"))]
#[path = "canary/servers.rs"]
mod servers;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use axum::Router;
use axum::extract::RawQuery;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::IntoResponse;
use axum::routing::post;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tracing_subscriber::filter::LevelFilter;
use webhook_delivery::{
    Auth, Builder, CustomHeaders, Dispatcher, EncryptionKey, EndpointUrl, EventFilter,
    NetworkPolicy, NewEndpoint, NewEvent, Notice, PageRequest, RetryPolicy, Secret, SqliteStore,
    StaticKeys, Store, Timestamp,
};

/// What all secrets here begin with.
const CANARY: &str = "canary-";
const SIGNING: &[u8; 32] = b"canary-signing-secret-0123456789";
/// The same in base64, as it is shown and signs.
const SIGNING_TEXT: &str = "Y2FuYXJ5LXNpZ25pbmctc2VjcmV0LTAxMjM0NTY3ODk=";
const HEADER: &str = "Bearer canary-header-0123456789";
const QUERY: &str = "token=canary-query-0123456789";
/// How much of a response's body is kept.
const KEPT: usize = 4096;

/// Everything that was logged in this process.
static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

#[tokio::test]
async fn sqlite_shows_no_secret() {
    let folder = Folder::new();
    let keys = StaticKeys::new(EncryptionKey::random());
    let builder = SqliteStore::builder().encryption(keys.clone());
    let mut shown = vec![format!("{builder:?} {keys:?}")];
    let store = builder.open(folder.file()).await.unwrap();
    shown.push(format!("{store:?}"));
    shown.extend(life(Dispatcher::builder(store.clone())).await);
    assert_clean("the database, open", &folder.dump());
    store.close().await.unwrap();

    let other = StaticKeys::new(EncryptionKey::random());
    let store = SqliteStore::builder().encryption(other).open(folder.file());
    let store = store.await.unwrap();
    shown.extend(without_key(Dispatcher::builder(store.clone())).await);
    store.close().await.unwrap();
    assert_clean("the database", &folder.dump());
    assert_nothing_shown(&shown);
}

#[tokio::test]
async fn the_search_finds_what_is_stored_as_it_is() {
    let folder = Folder::new();
    let store = SqliteStore::builder().plaintext().open(folder.file());
    life(Dispatcher::builder(store.await.unwrap())).await;
    let dump = folder.dump();
    for secret in [SIGNING_TEXT, HEADER, QUERY] {
        assert!(finds(&dump, secret.as_bytes()), "{secret}");
    }
}

/// Creates endpoints, delivers to them, looks at everything, and answers what was to be seen.
async fn life<S: Store + 'static>(builder: Builder<S>) -> Vec<String> {
    log_everything();
    let receivers = Receivers::open().await;
    let (notices, mut told) = mpsc::unbounded_channel();
    let dispatcher = dispatcher(builder, move |notice: &Notice<'_>| {
        let is_end = matches!(notice, Notice::Delivered(_) | Notice::DeadLettered(_));
        notices.send((format!("{notice:?}"), is_end)).ok();
    });
    let mut shown = Vec::new();
    let urls = receivers.urls();
    for url in &urls {
        let new = new_endpoint(url);
        shown.push(format!("{new:?}"));
        let endpoint = dispatcher.endpoints().create(new).await.unwrap();
        shown.push(format!("{endpoint:?} {endpoint:#?}"));
    }
    let (stop, stopped) = oneshot::channel::<()>();
    let worker = dispatcher.clone();
    let worker = tokio::spawn(async move { worker.run(async { drop(stopped.await) }).await });
    let later = Timestamp::from_seconds(4_000_000_000);
    let event = || NewEvent::json("order.paid", &json!({"order": 7})).unwrap();
    // One that still waits when the queue is looked at.
    dispatcher.enqueue(event().deliver_at(later)).await.unwrap();
    dispatcher.enqueue(event()).await.unwrap();
    let mut ended = 0;
    while ended < urls.len() {
        let (notice, is_end) = told.recv().await.unwrap();
        shown.push(notice);
        ended += usize::from(is_end);
    }
    assert_eq!(receivers.authorized(), 3, "one success, and two failures");
    shown.extend(refusals(&dispatcher).await);
    shown.extend(answers(&dispatcher, &urls[0]).await);
    for rest in ["/elsewhere?***&from=here", "/echo?*** {"] {
        assert!(shown.iter().any(|it| it.contains(rest)), "{rest}");
    }
    stop.send(()).unwrap();
    worker.await.unwrap();
    shown
}

/// What is to be seen when the secrets cannot be opened.
async fn without_key<S: Store + 'static>(builder: Builder<S>) -> Vec<String> {
    let dispatcher = dispatcher(builder, |_: &Notice<'_>| {});
    let event = NewEvent::json("order.paid", &json!({"order": 8})).unwrap();
    dispatcher.enqueue(event).await.unwrap();
    dispatcher.step().await.unwrap();
    let mut shown = vec![format!("{:?}", dispatcher.rekey().await)];
    let filter = Default::default();
    let deliveries = dispatcher.deliveries();
    let page = deliveries.list(&filter, PageRequest::first(100)).await;
    for delivery in page.unwrap().items {
        let endpoint = dispatcher.endpoints().get(delivery.endpoint_id).await;
        if let Err(error) = endpoint {
            shown.push(in_full(&error));
        }
    }
    assert!(
        shown.iter().any(|it| it.contains("not at hand")),
        "{shown:?}"
    );
    shown
}

fn dispatcher<S: Store + 'static>(
    builder: Builder<S>,
    observer: impl Fn(&Notice<'_>) + Send + Sync + 'static,
) -> Dispatcher {
    let policy = NetworkPolicy::builder()
        .allow_http(true)
        .allow_networks(["127.0.0.0/8".parse().unwrap()]);
    let builder = builder
        .network_policy(policy.build())
        .max_response_body(KEPT)
        .retry_policy(RetryPolicy::default().schedule([Duration::ZERO]))
        .observer(observer);
    builder.build().unwrap().erase()
}

fn new_endpoint(url: &EndpointUrl) -> NewEndpoint {
    let headers = CustomHeaders::new([("x-plain", "1")], [("authorization", HEADER)]);
    NewEndpoint::new(url.clone())
        .headers(headers.unwrap())
        .secret(Secret::from_bytes(SIGNING).unwrap())
}

/// What those hear who get something wrong.
async fn refusals(dispatcher: &Dispatcher) -> Vec<String> {
    let url = format!("https://10.0.0.1/?{QUERY}").parse().unwrap();
    let blocked = dispatcher.endpoints().create(new_endpoint(&url)).await;
    let text = format!("whsec_{SIGNING_TEXT}{SIGNING_TEXT}");
    vec![
        in_full(&blocked.unwrap_err()),
        in_full(
            &format!("https://user:{CANARY}1@a.example/?{QUERY}")
                .parse::<EndpointUrl>()
                .unwrap_err(),
        ),
        in_full(
            &format!("https://[{CANARY}1]/?{QUERY}")
                .parse::<EndpointUrl>()
                .unwrap_err(),
        ),
        in_full(&CustomHeaders::new([("authorization", HEADER)], []).unwrap_err()),
        in_full(&CustomHeaders::new([], [("x-a", "canary-\n")]).unwrap_err()),
        in_full(&text.parse::<Secret>().unwrap_err()),
        in_full(&HEADER.parse::<StaticKeys>().unwrap_err()),
        in_full(&HEADER.parse::<EncryptionKey>().unwrap_err()),
    ]
}

/// What the API answers once an endpoint was created.
async fn answers(dispatcher: &Dispatcher, url: &EndpointUrl) -> Vec<String> {
    let router = webhook_delivery::router(dispatcher.clone(), Auth::none());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let api = Api(format!("http://{}", listener.local_addr().unwrap()));
    let serving = tokio::spawn(axum::serve(listener, router).into_future());
    let body = json!({
        "url": url.as_str(), "secret": format!("whsec_{SIGNING_TEXT}"),
        "secret_headers": {"authorization": HEADER},
    });
    let created = api
        .call(reqwest::Method::POST, "/endpoints", Some(body))
        .await;
    assert!(
        finds(created.as_bytes(), SIGNING_TEXT.as_bytes()),
        "{created}"
    );
    let (_, created) = created.split_once('\n').unwrap();
    let created: Value = serde_json::from_str(created).unwrap();
    let endpoint = format!("/endpoints/{}", created["id"].as_str().unwrap());

    let mut shown = Vec::new();
    let patch = json!({"description": "x"});
    shown.push(
        api.call(reqwest::Method::PATCH, &endpoint, Some(patch))
            .await,
    );
    let rotate = format!("{endpoint}/rotate-secret");
    shown.push(api.call(reqwest::Method::POST, &rotate, None).await);
    let malformed = json!({"url": HEADER, "secret": [HEADER], "secret_headers": HEADER});
    shown.push(
        api.call(reqwest::Method::POST, "/endpoints", Some(malformed))
            .await,
    );
    let mut paths = vec![
        "/endpoints".to_owned(),
        endpoint,
        "/events".into(),
        "/deliveries".into(),
        "/stats".into(),
    ];
    let filter = EventFilter::default();
    let events = dispatcher
        .events()
        .list(&filter, PageRequest::first(100))
        .await;
    paths.extend(
        events
            .unwrap()
            .items
            .iter()
            .map(|it| format!("/events/{}", it.id)),
    );
    let filter = Default::default();
    let deliveries = dispatcher.deliveries();
    let page = deliveries.list(&filter, PageRequest::first(100)).await;
    for delivery in page.unwrap().items {
        let attempts = deliveries.attempts(delivery.id).await;
        shown.push(format!("{delivery:?} {:?}", attempts.unwrap()));
        paths.push(format!("/deliveries/{}", delivery.id));
    }
    for path in paths {
        shown.push(api.call(reqwest::Method::GET, &path, None).await);
    }
    serving.abort();
    shown
}

struct Api(String);

impl Api {
    /// The headers of the answer in a line, then its body.
    async fn call(&self, method: reqwest::Method, path: &str, body: Option<Value>) -> String {
        rustls::crypto::ring::default_provider()
            .install_default()
            .ok();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let mut request = client.request(method, format!("{}{path}", self.0));
        if let Some(body) = body {
            let json = [("content-type", "application/json")];
            request = request.header(json[0].0, json[0].1).body(body.to_string());
        }
        let answer = request.send().await.unwrap();
        format!("{:?}\n", answer.headers()) + &answer.text().await.unwrap()
    }
}

/// Where deliveries go: one that takes them, one that fails, one that repeats all it got, one that has moved, one that is
/// not there, and one that speaks no TLS.
struct Receivers {
    port: u16,
    /// Requests that came with the secret header and the query.
    authorized: Arc<Mutex<usize>>,
}

impl Receivers {
    async fn open() -> Self {
        let authorized = Arc::new(Mutex::new(0));
        let answering = |status: StatusCode| {
            let authorized = Arc::clone(&authorized);
            post(
                move |RawQuery(query): RawQuery, headers: HeaderMap| async move {
                    assert_eq!(headers["authorization"], HEADER);
                    assert_eq!(query.as_deref(), Some(QUERY));
                    *authorized.lock().unwrap() += 1;
                    status
                },
            )
        };
        let app = Router::new()
            .route("/ok", answering(StatusCode::OK))
            .route("/fail", answering(StatusCode::INTERNAL_SERVER_ERROR))
            .route("/echo", post(echo))
            .route("/moved", post(moved));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(axum::serve(listener, app).into_future());
        Self { port, authorized }
    }

    fn urls(&self) -> Vec<EndpointUrl> {
        let port = self.port;
        let urls = [
            format!("http://127.0.0.1:{port}/ok?{QUERY}"),
            format!("http://127.0.0.1:{port}/fail?{QUERY}"),
            format!("http://127.0.0.1:{port}/echo?{QUERY}"),
            format!("http://127.0.0.1:{port}/moved?{QUERY}"),
            format!("https://127.0.0.1:{port}/ok?{QUERY}"),
            format!("http://127.0.0.2:1025/ok?{QUERY}"),
        ];
        urls.iter().map(|url| url.parse().unwrap()).collect()
    }

    fn authorized(&self) -> usize {
        *self.authorized.lock().unwrap()
    }
}

/// Repeats what came, as it came, and once more where the kept part of the body ends, within the header.
async fn echo(uri: Uri, headers: HeaderMap) -> impl IntoResponse {
    let authorization = headers["authorization"].clone();
    let mut body = format!("{uri} {headers:?}");
    let cut = HEADER.len() - 3;
    let filler = KEPT - cut - body.len();
    body += &"-".repeat(filler);
    body += HEADER;
    ([("x-you-sent", authorization)], body)
}

/// Is elsewhere now, with the same query.
async fn moved(RawQuery(query): RawQuery) -> impl IntoResponse {
    let location = format!("/elsewhere?{}&from=here", query.unwrap());
    (StatusCode::MOVED_PERMANENTLY, [("location", location)])
}

/// An error with its causes, as text and as `Debug`.
fn in_full(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.fold(String::new(), |mut text, cause| {
        write!(text, "{cause} {cause:?} ").unwrap();
        text
    })
}

/// Logs of `tracing` and of `log`, of every crate, all levels.
fn log_everything() {
    struct Lines;

    impl log::Log for Lines {
        fn enabled(&self, _: &log::Metadata<'_>) -> bool {
            true
        }

        fn log(&self, record: &log::Record<'_>) {
            let line = format!("{} {}\n", record.target(), record.args());
            LOG.lock().unwrap().extend_from_slice(line.as_bytes());
        }

        fn flush(&self) {}
    }

    impl std::io::Write for &Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            LOG.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&Lines).unwrap();
        log::set_max_level(log::LevelFilter::Trace);
        let subscriber = tracing_subscriber::fmt().with_max_level(LevelFilter::TRACE);
        subscriber.with_ansi(false).with_writer(|| &Lines).init();
    });
}

/// No text shows a secret, and no log line of this process.
fn assert_nothing_shown(shown: &[String]) {
    assert!(shown.len() > 20);
    for text in shown {
        assert_clean("what was shown", text.as_bytes());
    }
    let log = LOG.lock().unwrap().clone();
    let text = String::from_utf8_lossy(&log);
    assert!(text.contains("wait for the key"), "the log is kept");
    assert!(text.contains("TRACE"), "at every level");
    assert_clean("the log", &log);
}

/// The bytes hold no secret: as it is, in hexadecimal, as base64, or as a list of bytes.
fn assert_clean(what: &str, bytes: &[u8]) {
    let hex: String = CANARY.bytes().map(|byte| format!("{byte:02x}")).collect();
    let list: Vec<_> = CANARY.bytes().map(|byte| byte.to_string()).collect();
    let forms = [
        CANARY.to_owned(),
        SIGNING_TEXT.trim_end_matches('=').to_owned(),
        hex.to_uppercase(),
        hex,
        list.join(", "),
        // "canary-" at each of the three places where base64 may begin.
        "Y2FuYXJ5L".to_owned(),
        "NhbmFyeS".to_owned(),
        "jYW5hcnkt".to_owned(),
    ];
    for form in forms {
        if let Some(at) = find(bytes, form.as_bytes()) {
            let around = &bytes[at.saturating_sub(300)..bytes.len().min(at + 100)];
            panic!("{what} holds {form}: {}", String::from_utf8_lossy(around));
        }
    }
}

fn finds(bytes: &[u8], part: &[u8]) -> bool {
    find(bytes, part).is_some()
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

/// A new folder, removed in the end.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(TempDir::with_prefix("webhook-canary-").unwrap())
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("events.db")
    }

    /// All bytes of all files: the database's, and its log's.
    fn dump(&self) -> Vec<u8> {
        let files = std::fs::read_dir(self.0.path()).unwrap();
        let bytes = files.map(|file| std::fs::read(file.unwrap().path()).unwrap());
        bytes.collect::<Vec<_>>().concat()
    }
}

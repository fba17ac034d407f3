use std::future::pending;
use std::sync::atomic::{AtomicI64, AtomicU16, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::post;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Notify;
use tower::ServiceExt as _;
use webhook_core::{
    Clock, ErrorKind, MemoryDeduplicator, MemoryReplayGuard, Now, Secret, SignRequest, Signer as _,
    StandardWebhooks, Verifier,
};

use super::*;

const BODY: &str = r#"{"type":"invoice.paid","data":{"amount":1.10}}"#;
const START: i64 = 1_614_265_330;

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "type")]
    event_type: String,
}

#[derive(Clone, Default)]
struct TestClock(Arc<AtomicI64>);

#[async_trait]
impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_seconds(START + self.0.load(SeqCst))
    }

    fn pinned(&self) -> Now {
        Some(self.now())
    }

    async fn sleep(&self, _by: Duration) {
        unreachable!("receivers do not wait");
    }
}

/// A receiving service, its sender, and what its handler shall do.
#[derive(Clone)]
struct Service {
    receiver: Receiver,
    once: Deduplicate,
    clock: TestClock,
    handled: Arc<AtomicUsize>,
    /// What the handler answers; 0: never.
    answer: Arc<AtomicU16>,
    started: Arc<Notify>,
}

impl FromRef<Service> for Receiver {
    fn from_ref(service: &Service) -> Self {
        service.receiver.clone()
    }
}

impl Service {
    fn new() -> Self {
        Self::with(|builder| builder.replay_guard(MemoryReplayGuard::new(100)))
    }

    fn with(
        options: impl FnOnce(webhook_core::ReceiverBuilder) -> webhook_core::ReceiverBuilder,
    ) -> Self {
        let clock = TestClock::default();
        let builder = Receiver::builder(Verifier::new(secret())).clock(clock.clone());
        let receiver = options(builder).build();
        let events = MemoryDeduplicator::new(100, Duration::from_secs(86_400));
        Self {
            once: Deduplicate::new(receiver.clone(), events),
            receiver,
            clock,
            handled: Arc::default(),
            answer: Arc::new(AtomicU16::new(204)),
            started: Arc::default(),
        }
    }

    fn app(&self) -> Router {
        let once = from_fn_with_state(self.once.clone(), deduplicate);
        Router::new()
            .route("/once", post(on_event).route_layer(once))
            .route("/events", post(on_event))
            .route("/bytes", post(|raw: VerifiedBytes| async { raw.body }))
            .with_state(self.clone())
    }

    fn sent_at(&self, seconds: i64) -> &Self {
        self.clock.0.store(seconds, SeqCst);
        self
    }

    fn answering(&self, status: u16) -> &Self {
        self.answer.store(status, SeqCst);
        self
    }

    fn signed(&self, path: &str, id: &str, body: &str) -> Request {
        let (secrets, mut headers) = ([secret()], HeaderMap::new());
        let request = SignRequest::new(id, self.clock.now(), body.as_bytes(), &secrets);
        StandardWebhooks::new()
            .sign(&request, &mut headers)
            .unwrap();
        let mut request = Request::post(path)
            .body(Body::from(body.to_owned()))
            .unwrap();
        *request.headers_mut() = headers;
        request
    }

    async fn deliver(&self, path: &str, id: &str) -> (StatusCode, String) {
        self.send(self.signed(path, id, BODY)).await
    }

    /// The status and the `code` or `status` of the answer.
    async fn send(&self, request: Request) -> (StatusCode, String) {
        let response = self.app().oneshot(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let json: Value = serde_json::from_slice(&body).unwrap_or_default();
        let code = json["code"].as_str().or_else(|| json["status"].as_str());
        (status, code.unwrap_or_default().to_owned())
    }

    fn handled(&self) -> usize {
        self.handled.load(SeqCst)
    }
}

async fn on_event(State(service): State<Service>, webhook: Verified<Event>) -> StatusCode {
    assert_eq!(webhook.event.event_type, "invoice.paid");
    assert_eq!(webhook.body, BODY);
    assert_eq!(webhook.timestamp, service.clock.now());
    service.handled.fetch_add(1, SeqCst);
    service.started.notify_one();
    match service.answer.load(SeqCst) {
        0 => pending().await,
        600 => panic!("planted"),
        status => StatusCode::from_u16(status).unwrap(),
    }
}

fn secret() -> Secret {
    "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse().unwrap()
}

fn is(status: u16, code: &str) -> (StatusCode, String) {
    (StatusCode::from_u16(status).unwrap(), code.to_owned())
}

#[tokio::test]
async fn a_signed_event_reaches_the_handler() {
    let service = Service::new();
    assert_eq!(service.deliver("/events", "a").await, is(204, ""));
    assert_eq!(service.handled(), 1);
}

#[tokio::test]
async fn what_is_not_rightly_signed_is_401_before_its_body_is_parsed() {
    let service = Service::new();
    for path in ["/events", "/once", "/bytes"] {
        let mut tampered = service.signed(path, "a", BODY);
        *tampered.body_mut() = Body::from("not JSON");
        assert_eq!(service.send(tampered).await, is(401, "invalid_signature"));

        let unsigned = Request::post(path).body(Body::from(BODY)).unwrap();
        assert_eq!(service.send(unsigned).await, is(401, "missing_header"));
    }
    assert_eq!(service.handled(), 0);
}

#[tokio::test]
async fn what_is_not_recent_is_401() {
    let service = Service::new();
    for (now, code) in [(301, "timestamp_too_old"), (-301, "timestamp_too_new")] {
        let request = service.sent_at(0).signed("/events", "a", BODY);
        let answer = service.sent_at(now).send(request).await;
        assert_eq!(answer, is(401, code));
    }
}

#[tokio::test]
async fn the_same_attempt_is_401_the_second_time() {
    let service = Service::new();
    assert_eq!(service.deliver("/events", "a").await, is(204, ""));
    assert_eq!(service.deliver("/events", "a").await, is(401, "replayed"));
    service.sent_at(5);
    assert_eq!(service.deliver("/events", "a").await, is(204, ""));
    assert_eq!(service.handled(), 2);
}

#[tokio::test]
async fn a_failed_event_is_let_in_again_with_its_next_timestamp() {
    let service = Service::new();
    let failed = service.answering(500).deliver("/once", "a").await;
    assert_eq!(failed, is(500, ""));
    let retried = service.sent_at(5).answering(204).deliver("/once", "a");
    assert_eq!(retried.await, is(204, ""));
    assert_eq!(service.handled(), 2);
}

#[tokio::test]
async fn a_handled_event_is_200_without_the_handler() {
    let service = Service::new();
    assert_eq!(service.deliver("/once", "a").await, is(204, ""));
    service.sent_at(5);
    let again = service.deliver("/once", "a").await;
    assert_eq!(again, is(200, "already_handled"));
    assert_eq!(service.deliver("/once", "b").await, is(204, ""));
    assert_eq!(service.handled(), 2);
}

#[tokio::test]
async fn a_replay_of_a_handled_event_is_still_401() {
    let service = Service::new();
    assert_eq!(service.deliver("/once", "a").await, is(204, ""));
    assert_eq!(service.deliver("/once", "a").await, is(401, "replayed"));
}

#[tokio::test]
async fn an_event_in_progress_is_409_and_let_in_when_its_client_hangs_up() {
    let service = Service::new();
    let request = service.answering(0).signed("/once", "a", BODY);
    tokio::select! {
        _ = service.send(request) => unreachable!("the handler hangs"),
        () = async {
            service.started.notified().await;
            service.sent_at(5);
            let meanwhile = service.deliver("/once", "a").await;
            assert_eq!(meanwhile, is(409, "in_progress"));
        } => {} // and the first request is dropped
    }
    let next = service.sent_at(10).answering(204).deliver("/once", "a");
    assert_eq!(next.await, is(204, ""));
    assert_eq!(service.handled(), 2);
}

#[tokio::test]
async fn a_panicking_handler_leaves_the_event_for_the_next_try() {
    let service = Service::new();
    let request = service.answering(600).signed("/once", "a", BODY);
    let panicking = service.clone();
    let handler = tokio::spawn(async move { panicking.send(request).await });
    assert!(handler.await.unwrap_err().is_panic());
    let next = service.sent_at(5).answering(204).deliver("/once", "a");
    assert_eq!(next.await, is(204, ""));
}

#[tokio::test]
async fn an_oversized_body_is_413_announced_or_not() {
    let service = Service::with(|builder| builder.max_body(BODY.len()));
    assert_eq!(service.deliver("/events", "a").await, is(204, ""));

    let service = Service::with(|builder| builder.max_body(BODY.len() - 1));
    for path in ["/events", "/once"] {
        let announced = service.signed(path, "a", BODY);
        assert_eq!(service.send(announced).await, is(413, "body_too_large"));

        let mut unannounced = service.signed(path, "a", BODY);
        *unannounced.body_mut() = Body::new(Unannounced(Body::from(BODY)));
        assert_eq!(service.send(unannounced).await, is(413, "body_too_large"));
    }
    assert_eq!(service.handled(), 0);
}

/// A body that keeps its length to itself, as with `transfer-encoding: chunked`.
struct Unannounced(Body);

impl http_body::Body for Unannounced {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, axum::Error>>> {
        std::pin::Pin::new(&mut self.0).poll_frame(cx)
    }
}

#[tokio::test]
async fn signed_json_of_another_shape_is_400_and_may_come_again() {
    let service = Service::new();
    for (at, body) in [(0, "{"), (5, "{}")] {
        let request = service.sent_at(at).signed("/once", "a", body);
        assert_eq!(service.send(request).await, is(400, "invalid_json"));
    }
    let mended = service.sent_at(10).deliver("/once", "a").await;
    assert_eq!(mended, is(204, ""));
}

#[tokio::test]
async fn raw_bodies_need_not_be_json() {
    let service = Service::new();
    let request = service.signed("/bytes", "a", "plain text");
    assert_eq!(service.send(request).await, is(200, ""));
}

#[tokio::test]
async fn what_one_receiver_verified_another_verifies_again() {
    let service = Service::new();
    let other: Secret = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD".parse().unwrap();
    let mut wrong = service.clone();
    wrong.receiver = Receiver::builder(Verifier::new(other))
        .clock(service.clock.clone())
        .build();
    let answer = wrong.deliver("/once", "a").await;
    assert_eq!(answer, is(401, "invalid_signature"));
    assert_eq!(service.handled(), 0);
}

#[tokio::test]
async fn a_deduplicator_or_guard_that_cannot_say_is_503() {
    struct Down;

    #[async_trait]
    impl Deduplicator for Down {
        async fn begin(&self, _id: &str, _now: Timestamp) -> Result<Begin, Error> {
            Err(Error::new(ErrorKind::Unavailable, "begin"))
        }
    }

    let full = Service::with(|builder| builder.replay_guard(MemoryReplayGuard::new(0)));
    assert_eq!(full.deliver("/events", "a").await, is(503, "unavailable"));

    let mut service = Service::new();
    service.once = Deduplicate::new(service.receiver.clone(), Down);
    assert_eq!(service.deliver("/once", "a").await, is(503, "unavailable"));
    assert_eq!(service.handled(), 0);
}

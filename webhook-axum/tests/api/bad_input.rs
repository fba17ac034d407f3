//! What a client can send wrong: the answer, and that nothing is stored.

use axum::body::Body;
use bytes::Bytes;
use http::Method;
use http_body::Body as _;
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::App;

const JSON: (&str, &str) = ("content-type", "application/json");

/// Bodies, and the code of their 400.
const WRONG_EVENTS: &[(&[u8], &str)] = &[
    (b"", "invalid_json"),
    (b"{", "invalid_json"),
    (br#"{"event_type":"a","data":1}x"#, "invalid_json"),
    (b"{'event_type':'a'}", "invalid_json"),
    (b"\xef\xbb\xbf{}", "invalid_json"),
    (b"{\"event_type\":\"a\",\"data\":\"\xff\"}", "invalid_json"),
    (br#"{"event_type":"a","data":nul}"#, "invalid_json"),
    (br#"{"event_type":"a","data":01}"#, "invalid_json"),
    (br#"{"event_type":"a","data":NaN}"#, "invalid_json"),
    (br#"{"event_type":"a","data":"\x"}"#, "invalid_json"),
    (b"null", "invalid_request"),
    (b"1", "invalid_request"),
    (br#"["a",1]"#, "invalid_request"),
    (b"{}", "invalid_request"),
    (br#"{"event_type":"a"}"#, "invalid_request"),
    (br#"{"data":1}"#, "invalid_request"),
    (br#"{"event_type":1,"data":1}"#, "invalid_request"),
    (br#"{"event_type":null,"data":1}"#, "invalid_request"),
    (br#"{"event_type":"","data":1}"#, "invalid_request"),
    (br#"{"event_type":"a b","data":1}"#, "invalid_request"),
    (
        br#"{"event_type":"a","data":1,"extra":1}"#,
        "invalid_request",
    ),
    (
        br#"{"event_type":"a","data":1,"data":2}"#,
        "invalid_request",
    ),
    (
        br#"{"event_type":"a","event_type":"a","data":1}"#,
        "invalid_request",
    ),
    (
        br#"{"event_type":"a","data":1,"tenant":""}"#,
        "invalid_request",
    ),
    (
        br#"{"event_type":"a","data":1,"tenant":"a b"}"#,
        "invalid_request",
    ),
    (
        br#"{"event_type":"a","data":1,"tenant":"a\u0000"}"#,
        "invalid_request",
    ),
    (
        br#"{"event_type":"a","data":1,"deliver_at":1700000000}"#,
        "invalid_request",
    ),
    (
        br#"{"event_type":"a","data":1,"deliver_at":"soon"}"#,
        "invalid_request",
    ),
    (
        br#"{"event_type":"a","data":1,"deliver_at":"1969-01-01T00:00:00Z"}"#,
        "invalid_request",
    ),
    (
        br#"{"event_type":"a","data":1,"idempotency_key":7}"#,
        "invalid_request",
    ),
];

#[tokio::test]
async fn wrong_events_are_refused() {
    let app = App::open();
    let deep = |levels: usize| {
        let (open, close) = ("[".repeat(levels), "]".repeat(levels));
        format!(r#"{{"event_type":"a","data":{open}{close}}}"#).into_bytes()
    };
    let with_key = |key| json!({"event_type": "a", "data": 1, "idempotency_key": key}).to_string();
    let keyed = ["", "a\nb", &"k".repeat(256)].map(with_key);
    let keyed = keyed.iter().map(|body| (body.as_bytes(), "invalid_event"));
    let nested = [deep(129), deep(100_000)];
    let nested = nested.iter().map(|body| (&body[..], "invalid_event"));
    for (body, code) in WRONG_EVENTS.iter().copied().chain(keyed).chain(nested) {
        let shown = String::from_utf8_lossy(&body[..body.len().min(100)]).into_owned();
        let answer = app.post_text("/events", body.to_vec()).await;
        assert_eq!(answer.error(), (400, code.into()), "{shown}");
    }
    assert_eq!(app.stored().await, (0, 0));
    app.post_text("/events", deep(128)).await.expect(202);
}

#[tokio::test]
async fn wrong_idempotency_headers_are_refused() {
    let app = App::open();
    let body = r#"{"event_type":"a","data":1}"#;
    for (keys, code) in [
        (&[""][..], "invalid_event"),
        (&["ä"], "invalid_event"),
        (&["a", "b"], "invalid_request"),
    ] {
        let mut headers = vec![JSON];
        headers.extend(keys.iter().map(|key| ("idempotency-key", *key)));
        let answer = app.send(Method::POST, "/events", &headers, body).await;
        assert_eq!(answer.error(), (400, code.into()), "{keys:?}");
    }
    assert_eq!(app.stored().await.0, 0);
}

#[tokio::test]
async fn wrong_batches_are_refused() {
    let app = App::open();
    for (body, code) in [
        ("", "invalid_json"),
        ("[", "invalid_json"),
        ("[1,]", "invalid_json"),
        ("{}", "invalid_request"),
        ("[1]", "invalid_request"),
        ("[null]", "invalid_request"),
        (r#"[["a",1]]"#, "invalid_request"),
    ] {
        let answer = app.post_text("/events/batch", body).await;
        assert_eq!(answer.error(), (400, code.into()), "{body}");
    }
    let raw = &b"[{\"event_type\":\"a\",\"data\":\"\xff\"}]"[..];
    let answer = app.post_text("/events/batch", raw).await;
    assert_eq!(answer.error(), (400, "invalid_json".into()));
    assert_eq!(app.stored().await.0, 0);
}

/// A field of a new endpoint, a value, and the answer.
const WRONG_SETTINGS: &[(&str, &str, u16, &str)] = &[
    ("url", r#"null"#, 400, "invalid_request"),
    ("url", r#"7"#, 400, "invalid_request"),
    ("url", r#""hooks.example.com""#, 400, "invalid_request"),
    (
        "url",
        r#""ftp://hooks.example.com/""#,
        400,
        "invalid_request",
    ),
    (
        "url",
        r#""https://a:b@hooks.example.com/""#,
        400,
        "invalid_request",
    ),
    (
        "url",
        r#""http://hooks.example.com/""#,
        422,
        "url_not_allowed",
    ),
    ("url", r#""https://127.0.0.1/""#, 422, "url_not_allowed"),
    ("url", r#""https://[::1]/""#, 422, "url_not_allowed"),
    (
        "url",
        r#""https://169.254.169.254/""#,
        422,
        "url_not_allowed",
    ),
    ("url", r#""https://localhost/""#, 422, "url_not_allowed"),
    (
        "url",
        r#""https://hooks.example.com:22/""#,
        422,
        "url_not_allowed",
    ),
    ("tenant", r#""""#, 400, "invalid_request"),
    ("tenant", r#"1"#, 400, "invalid_request"),
    ("event_types", r#""order.*""#, 400, "invalid_request"),
    ("event_types", r#"["order*"]"#, 400, "invalid_request"),
    ("filter", r#"[]"#, 400, "invalid_request"),
    ("filter", r#"{}"#, 400, "invalid_request"),
    ("filter", r#"{"a": {"near": 1}}"#, 400, "invalid_request"),
    ("headers", r#"{"host": "a"}"#, 400, "invalid_setting"),
    (
        "headers",
        r#"{"x-a": "1\r\nx-b: 2"}"#,
        400,
        "invalid_setting",
    ),
    ("headers", r#"{"x a": "1"}"#, 400, "invalid_setting"),
    (
        "headers",
        r#"{"x-a": "1", "X-A": "2"}"#,
        400,
        "invalid_setting",
    ),
    ("headers", r#"{"x-a": 1}"#, 400, "invalid_request"),
    (
        "headers",
        r#"{"authorization": "x"}"#,
        400,
        "invalid_setting",
    ),
    (
        "secret_headers",
        r#"{"authorization": "***"}"#,
        400,
        "invalid_request",
    ),
    (
        "secret_headers",
        r#"{"content-type": "a"}"#,
        400,
        "invalid_setting",
    ),
    ("rate_limit", r#"5"#, 400, "invalid_request"),
    ("rate_limit", r#"[5, 1]"#, 400, "invalid_request"),
    ("rate_limit", r#"{"limit": 5}"#, 400, "invalid_request"),
    (
        "rate_limit",
        r#"{"limit": 0, "per_seconds": 1}"#,
        400,
        "invalid_setting",
    ),
    (
        "rate_limit",
        r#"{"limit": 1, "per_seconds": 1, "x": 1}"#,
        400,
        "invalid_request",
    ),
    ("max_in_flight", r#"0"#, 400, "invalid_setting"),
    ("max_in_flight", r#"-1"#, 400, "invalid_request"),
    ("max_in_flight", r#"1.5"#, 400, "invalid_request"),
    ("max_in_flight", r#"5000000000"#, 400, "invalid_request"),
    ("ordered", r#""yes""#, 400, "invalid_request"),
    ("timeout_seconds", r#"0"#, 400, "invalid_setting"),
    ("timeout_seconds", r#"61"#, 400, "invalid_setting"),
    ("timeout_seconds", r#"-1"#, 400, "invalid_request"),
    ("timeout_seconds", r#"1e300"#, 400, "invalid_request"),
    ("retry_schedule", r#"5"#, 400, "invalid_request"),
    ("retry_schedule", r#"["5"]"#, 400, "invalid_request"),
    ("retry_schedule", r#"[604801]"#, 400, "invalid_setting"),
    ("secret", r#""whsec_short""#, 400, "invalid_request"),
    ("secret", r#"7"#, 400, "invalid_request"),
    ("state", r#""paused""#, 400, "invalid_request"),
    ("id", r#""x""#, 400, "invalid_request"),
];

#[tokio::test]
async fn wrong_endpoints_are_refused() {
    let app = App::open();
    let long = format!("https://a.example.com/{}", "x".repeat(2_048));
    let too_much = [
        ("url", json!(long), 400, "invalid_request"),
        ("event_types", json!(vec!["a"; 257]), 400, "invalid_setting"),
        (
            "description",
            json!("x".repeat(1_025)),
            400,
            "invalid_setting",
        ),
        ("retry_schedule", json!(vec![1; 21]), 400, "invalid_setting"),
    ];
    let wrong = WRONG_SETTINGS.iter().map(|(field, text, status, code)| {
        let value: Value = serde_json::from_str(text).unwrap();
        (*field, value, *status, *code)
    });
    for (field, value, status, code) in wrong.chain(too_much) {
        let mut body = json!({"url": "https://hooks.example.com/"});
        body[field] = value;
        let answer = app.post("/endpoints", body.clone()).await;
        assert_eq!(answer.error(), (status, code.into()), "{body}");
    }
    for body in [
        r#"{"url":"https://a.example.com/","url":"https://b.example.com/"}"#,
        r#"{"url":"https://a.example.com/","headers":{"x-a":"1","x-a":"2"}}"#,
        r#"{"url":"https://a.example.com/","filter":{"data.a":1,"data.a":2}}"#,
        r#"{"url":"https://a.example.com/","filter":{"data.a":{"gt":1,"gt":2}}}"#,
        r#"{"url":"https://a.example.com/","filter":{"data.a":1e400}}"#,
        r#"["https://a.example.com/"]"#,
        "{}",
    ] {
        let answer = app.post_text("/endpoints", body).await;
        assert_eq!(answer.status, 400, "{body}");
        answer.error();
    }
    let large = json!({"url": "https://a.example.com/", "description": "x".repeat(200_000)});
    let answer = app.post("/endpoints", large).await;
    assert_eq!(answer.error(), (413, "body_too_large".into()));
    assert_eq!(app.stored().await.1, 0);
}

#[tokio::test]
async fn bodies_must_say_that_they_are_json() {
    let app = App::open();
    let event = r#"{"event_type":"a","data":1}"#;
    let unsupported = (415, "unsupported_media_type".to_owned());
    let endpoint = app.endpoint(json!({})).await;
    for headers in [
        &[][..],
        &[("content-type", "text/plain")],
        &[("content-type", "application/x-www-form-urlencoded")],
        &[("content-type", "application/jsonx")],
        &[("content-type", "")],
    ] {
        for (method, path, body) in [
            (Method::POST, "/events".to_owned(), event),
            (Method::POST, "/events/batch".to_owned(), "[]"),
            (Method::POST, "/endpoints".to_owned(), "{}"),
            (Method::PATCH, format!("/endpoints/{endpoint}"), "{}"),
            (
                Method::POST,
                format!("/endpoints/{endpoint}/rotate-secret"),
                "{}",
            ),
        ] {
            let answer = app.send(method, &path, headers, body).await;
            assert_eq!(answer.error(), unsupported, "{path} {headers:?}");
        }
    }
    for good in ["application/json", "Application/JSON; charset=utf-8"] {
        let headers = [("content-type", good)];
        let answer = app.send(Method::POST, "/events", &headers, event).await;
        answer.expect(202);
    }
}

#[tokio::test]
async fn malformed_ids_are_told_from_unknown_ones() {
    let app = App::open();
    let unknown = Uuid::from_u128(7).to_string();
    for (method, path) in [
        (Method::GET, "/events/ID"),
        (Method::POST, "/events/ID/replay"),
        (Method::GET, "/endpoints/ID"),
        (Method::PATCH, "/endpoints/ID"),
        (Method::DELETE, "/endpoints/ID"),
        (Method::POST, "/endpoints/ID/rotate-secret"),
        (Method::GET, "/deliveries/ID"),
        (Method::POST, "/deliveries/ID/replay"),
        (Method::POST, "/deliveries/ID/cancel"),
        (Method::GET, "/replays/ID"),
        (Method::POST, "/replays/ID/cancel"),
    ] {
        let body = (method == Method::PATCH).then(|| json!({}));
        for bad in ["7", "x", "%00", "%ff", &unknown[1..]] {
            let path = path.replace("ID", bad);
            let answer = app.call(method.clone(), &path, body.clone()).await;
            assert_eq!(
                answer.error(),
                (400, "invalid_id".into()),
                "{method} {path}"
            );
        }
        let path = path.replace("ID", &unknown);
        let answer = app.call(method.clone(), &path, body).await;
        assert_eq!(answer.error(), (404, "not_found".into()), "{method} {path}");
    }
}

#[tokio::test]
async fn wrong_queries_are_refused() {
    let app = App::open();
    let everywhere = [
        "limit=0",
        "limit=201",
        "limit=-1",
        "limit=x",
        "limit=",
        "limit=1&limit=2",
        "limit=99999999999999999999999",
        "cursor=",
        "cursor=x",
        "cursor=!!!!",
        "cursor=AAAAAAAAAAAAAAAAAAAAAAAA",
        "cursor=018bcfe5-6800-7000-8000-000000000000",
        "tenant=",
        "tenant=a%20b",
        "tenant=%ff",
        "unknown=1",
        "Limit=1",
    ];
    let timed = [
        "since=yesterday",
        "since=2023-11-14",
        "until=",
        "event_type=a%20b",
    ];
    let of_deliveries = [
        "status=done",
        "endpoint_id=x",
        "event_id=",
        "error_kind=",
        "error_kind=%00",
        "error_kind=Time%20Out",
        "cause=me",
        "q=x",
    ];
    for (path, queries) in [
        ("/endpoints", &everywhere[..]),
        ("/events", &everywhere),
        ("/deliveries", &everywhere),
        ("/replays", &everywhere),
        ("/events", &timed),
        ("/deliveries", &timed),
        ("/deliveries", &of_deliveries),
        ("/endpoints", &["since=2023-11-14T22:13:20Z"]),
    ] {
        for query in queries {
            let answer = app.get(&format!("{path}?{query}")).await;
            assert_eq!(
                answer.error(),
                (400, "invalid_query".into()),
                "{path}?{query}"
            );
        }
    }
}

#[tokio::test]
async fn a_request_without_a_say_takes_no_fields() {
    let app = App::open();
    let id = Uuid::from_u128(7);
    for path in [
        format!("/events/{id}/replay"),
        format!("/deliveries/{id}/replay"),
        format!("/deliveries/{id}/cancel"),
        format!("/replays/{id}/cancel"),
    ] {
        let answer = app.post(&path, json!({"since": 1})).await;
        assert_eq!(answer.error(), (400, "invalid_request".into()), "{path}");
    }
}

#[tokio::test]
async fn a_body_that_does_not_announce_its_length_is_bounded_too() {
    let app = App::open();
    let long = Full::new(Bytes::from(vec![b' '; 1024 * 1024]));
    let unannounced = Body::new(long.map_frame(|frame| frame));
    assert_eq!(unannounced.size_hint().lower(), 0);
    let answer = app.post_text("/events", unannounced).await;
    assert_eq!(answer.error(), (413, "body_too_large".into()));
}

//! Nothing remote stops the engine: whatever a receiver sends, a request ends, as the right kind, with
//! bounded memory, and no error tells the URL's query.
use std::error::Error as StdError;
use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use webhook_core::{
    EndpointUrl, NetworkPolicy, RequestOptions, ResponseDetails, Transport, TransportError,
    TransportErrorKind,
};

use super::{Guarded, Guards, INTERIM_ARE_COUNTED};

/// What the tests keep of a body.
const MAX_BODY: usize = 16 * 1024;

/// For answers that are expected to come.
const PATIENT: Duration = Duration::from_secs(60);

/// For answers that never end.
const SHORT: Duration = Duration::from_millis(100);

/// A receiver that reads a request on each connection and then does what `answer` says.
async fn receiver<F>(answer: impl Fn(TcpStream) -> F + Send + 'static) -> EndpointUrl
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            if read_request(&mut stream).await.is_some() {
                tokio::spawn(answer(stream));
            }
        }
    });
    format!("http://{address}/in?token=s3cret").parse().unwrap()
}

/// The whole request, unless the connection ends before.
async fn read_request(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut received = Vec::new();
    while !received.ends_with(b"\r\n\r\nping") {
        if stream.read_buf(&mut received).await.unwrap_or(0) == 0 {
            return None;
        }
    }
    Some(received)
}

/// A receiver that sends `bytes` and closes.
async fn sends(bytes: impl Into<Bytes>) -> EndpointUrl {
    let bytes = bytes.into();
    receiver(move |mut stream| {
        let bytes = bytes.clone();
        async move {
            let _ = stream.write_all(&bytes).await;
        }
    })
    .await
}

/// A receiver that sends `head` and then `again` for as long as it is read; each connection's count of
/// bytes taken arrives when it ends.
async fn repeats(
    head: &'static str,
    again: impl Into<Bytes>,
) -> (EndpointUrl, mpsc::UnboundedReceiver<usize>) {
    let again = again.into();
    let (ended, counts) = mpsc::unbounded_channel();
    let url = receiver(move |mut stream| {
        let (again, ended) = (again.clone(), ended.clone());
        async move {
            let mut count = 0;
            let mut alive = stream.write_all(head.as_bytes()).await.is_ok();
            while alive {
                alive = stream.write_all(&again).await.is_ok();
                count += again.len();
            }
            let _ = ended.send(count);
        }
    });
    (url.await, counts)
}

fn transport() -> Guarded {
    let policy = NetworkPolicy::builder()
        .allow_http(true)
        .allow_networks(["127.0.0.0/8".parse().unwrap()])
        .build();
    Guarded::builder().policy(policy).guarded().unwrap()
}

fn ping(url: &EndpointUrl, limit: Duration) -> Request<Bytes> {
    Request::post(url.uri().clone())
        .extension(
            RequestOptions::new(url.clone())
                .timeout(limit)
                .max_response_body(MAX_BODY),
        )
        .body(Bytes::from_static(b"ping"))
        .unwrap()
}

async fn post(url: &EndpointUrl, limit: Duration) -> Result<Response<Bytes>, TransportError> {
    let answer = transport().send(ping(url, limit)).await;
    if let Err(error) = &answer {
        assert_is_discreet(error);
    }
    answer
}

fn is_truncated(answer: &Response<Bytes>) -> bool {
    let details = answer.extensions().get::<ResponseDetails>();
    details.is_some_and(|details| details.truncated)
}

/// No part of the error, printed or debugged, holds the query.
fn assert_is_discreet(error: &TransportError) {
    let mut cause: Option<&dyn StdError> = Some(error);
    while let Some(error) = cause {
        let printed = format!("{error} {error:?}");
        assert!(!printed.contains("s3cret"), "{printed}");
        cause = error.source();
    }
}

async fn assert_fails(url: &EndpointUrl, limit: Duration, expected: TransportErrorKind) {
    let error = post(url, limit).await.unwrap_err();
    assert_eq!(error.kind(), expected, "{error:?}");
}

#[tokio::test]
async fn an_ordinary_answer_is_complete_and_timed() {
    let url = sends("HTTP/1.1 200 OK\r\nx-a: 1\r\ncontent-length: 2\r\n\r\nok").await;
    let answer = post(&url, PATIENT).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["x-a"], "1");
    assert_eq!(&answer.body()[..], b"ok");
    let details = answer.extensions().get::<ResponseDetails>().unwrap();
    assert!(details.first_byte.is_some());
    assert!(!details.truncated);
}

#[tokio::test]
async fn every_status_is_an_answer() {
    for status in [101, 200, 204, 304, 400, 410, 418, 503, 599, 999] {
        let url = sends(format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n")).await;
        assert_eq!(post(&url, PATIENT).await.unwrap().status(), status);
    }
}

#[tokio::test]
async fn an_endless_body_is_cut_and_the_rest_is_not_read() {
    for head in [
        "HTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 1000000000000000000\r\n\r\n",
    ] {
        let (url, mut counts) = repeats(head, vec![b'x'; 64 * 1024]).await;
        let answer = post(&url, PATIENT).await.unwrap();
        assert_eq!(answer.body().len(), MAX_BODY);
        assert!(is_truncated(&answer));
        // What the sockets buffer, and not more.
        assert!(counts.recv().await.unwrap() < 64 << 20);
    }
}

#[tokio::test]
async fn endless_chunks_are_cut() {
    let (url, mut counts) = repeats(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
        "1\r\nx\r\n".repeat(1000),
    )
    .await;
    let answer = post(&url, PATIENT).await.unwrap();
    assert_eq!(answer.body().len(), MAX_BODY);
    assert!(is_truncated(&answer));
    counts.recv().await.unwrap();
}

#[tokio::test]
async fn a_body_as_long_as_the_cap_is_whole() {
    for (len, cut) in [
        (MAX_BODY - 1, false),
        (MAX_BODY, false),
        (MAX_BODY + 1, true),
    ] {
        let url = sends(format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(len))).await;
        let answer = post(&url, PATIENT).await.unwrap();
        assert_eq!(answer.body().len(), len.min(MAX_BODY));
        assert_eq!(is_truncated(&answer), cut);
    }
}

#[tokio::test]
async fn a_connection_cut_short_is_not_used_again() {
    let (url, _counts) = repeats("HTTP/1.1 200 OK\r\n\r\n", vec![b'x'; 64 * 1024]).await;
    let transport = transport();
    for _ in 0..3 {
        let answer = transport.send(ping(&url, PATIENT)).await.unwrap();
        assert_eq!(answer.status(), 200);
        assert!(answer.body().iter().all(|byte| *byte == b'x'));
    }
}

#[tokio::test]
async fn one_byte_at_a_time_ends_with_the_deadline() {
    for head in [
        "",
        "HTTP/1.1 200 OK\r\nx-slow: ",
        "HTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n",
    ] {
        let url = receiver(move |mut stream| async move {
            let mut alive = stream.write_all(head.as_bytes()).await.is_ok();
            while alive {
                tokio::time::sleep(Duration::from_millis(5)).await;
                alive = stream.write_all(b"H").await.is_ok();
                if head.is_empty() {
                    std::future::pending::<()>().await;
                }
            }
        })
        .await;
        assert_fails(&url, SHORT, TransportErrorKind::Timeout).await;
    }
}

#[tokio::test]
async fn silence_ends_with_the_deadline() {
    let url = receiver(|stream| async move {
        let _open = stream;
        std::future::pending::<()>().await;
    })
    .await;
    assert_fails(&url, SHORT, TransportErrorKind::Timeout).await;
}

#[tokio::test]
async fn a_flood_of_interim_answers_ends_early_or_with_the_deadline() {
    for interim in ["100 Continue", "102 Processing", "103 Early Hints"] {
        let flood = format!("HTTP/1.1 {interim}\r\nlink: </a>\r\n\r\n").repeat(100);
        let (url, mut counts) = repeats("", flood).await;
        let (limit, kind) = if INTERIM_ARE_COUNTED {
            (PATIENT, TransportErrorKind::Protocol)
        } else {
            (SHORT, TransportErrorKind::Timeout)
        };
        assert_fails(&url, limit, kind).await;
        let taken = counts.recv().await.unwrap();
        assert!(!INTERIM_ARE_COUNTED || taken < 16 << 20, "{taken}");
    }
}

#[tokio::test]
async fn some_interim_answers_are_skipped_and_a_long_body_counts_for_nothing() {
    let interim = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n".repeat(1_000);
    let head = format!("{interim}HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n");
    let url = sends([head.as_bytes(), &vec![b'x'; 1_000_000]].concat()).await;
    let options = RequestOptions::new(url.clone()).max_response_body(1_000_000);
    let request = Request::post(url.uri().clone()).extension(options.timeout(PATIENT));
    let request = request.body(Bytes::from_static(b"ping")).unwrap();
    let answer = transport().send(request).await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), answer.body().len()),
        (200, 1_000_000)
    );
}

#[tokio::test]
async fn a_compressed_body_stays_as_it_was_sent() {
    for encoding in ["gzip", "br", "zstd", "deflate"] {
        // The start of a gzip bomb: what it would inflate to is nobody's concern.
        let bomb = [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 3][..], &[0xec; 500]].concat();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-encoding: {encoding}\r\n\r\n");
        let url = sends([head.as_bytes(), &bomb].concat()).await;
        let answer = post(&url, PATIENT).await.unwrap();
        assert_eq!(answer.body()[..], bomb[..]);
        assert_eq!(answer.headers()["content-encoding"], encoding);
    }
}

#[tokio::test]
async fn no_compression_is_asked_for() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let url = format!("http://{address}/in?token=s3cret").parse();
    let (transport, request) = (transport(), ping(&url.unwrap(), PATIENT));
    let received = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        String::from_utf8(read_request(&mut stream).await.unwrap()).unwrap()
    };
    let (_, received) = tokio::join!(transport.send(request), received);
    assert!(!received.contains("accept-encoding"), "{received}");
    assert!(received.starts_with("POST /in?token=s3cret HTTP/1.1\r\n"));
}

#[tokio::test]
async fn broken_chunks_are_a_broken_body() {
    for chunk in [
        "zz\r\nhello\r\n",
        "5\r\nhello!!\r\n",
        "ffffffffffffffffff\r\n",
        "-1\r\n",
    ] {
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        let url = sends(format!("{head}{chunk}")).await;
        assert_fails(&url, PATIENT, TransportErrorKind::Body).await;
    }
}

#[tokio::test]
async fn an_end_or_a_reset_within_the_body_is_a_broken_body() {
    for reset in [false, true] {
        let url = receiver(move |mut stream| async move {
            let head = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhello";
            stream.write_all(head).await.unwrap();
            if reset {
                stream.set_zero_linger().unwrap();
            }
        })
        .await;
        let kind = post(&url, PATIENT).await.unwrap_err().kind();
        // A reset may overtake the head.
        let expected = [TransportErrorKind::Body, TransportErrorKind::Protocol];
        assert!(
            expected[..1 + usize::from(reset)].contains(&kind),
            "{kind:?}"
        );
    }
}

#[tokio::test]
async fn a_hundred_thousand_headers_are_refused() {
    let headers = "x: y\r\n".repeat(100_000);
    let url = sends(format!("HTTP/1.1 200 OK\r\n{headers}\r\n")).await;
    assert_fails(&url, PATIENT, TransportErrorKind::Protocol).await;
}

#[tokio::test]
async fn an_endless_head_is_refused_with_little_read() {
    for start in ["HTTP/1.1 200 OK\r\nx: ", "HTTP/1.1 200 "] {
        let (url, mut counts) = repeats(start, vec![b'x'; 64 * 1024]).await;
        assert_fails(&url, PATIENT, TransportErrorKind::Protocol).await;
        assert!(counts.recv().await.unwrap() < 64 << 20);
    }
}

#[tokio::test]
async fn garbage_is_not_http() {
    let garbage: [&[u8]; 8] = [
        b"",
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x15\x03\x01\x00\x02\x02\x46",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: a\0b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\ncontent-length: 18446744073709551615\r\n\r\nx",
    ];
    for bytes in garbage {
        let url = sends(bytes).await;
        assert_fails(&url, PATIENT, TransportErrorKind::Protocol).await;
    }
}

#[tokio::test]
async fn nul_bytes_and_broken_utf_8_pass_through() {
    let url =
        sends(&b"HTTP/1.1 200 OK\r\nx: caf\xe9\xff\r\nretry-after: 1e300\r\n\r\n\0\xff\xfe\0"[..])
            .await;
    let answer = post(&url, PATIENT).await.unwrap();
    assert_eq!(&answer.body()[..], b"\0\xff\xfe\0");
    assert_eq!(answer.headers()["x"].as_bytes(), b"caf\xe9\xff");
    assert_eq!(answer.headers()["retry-after"], "1e300");
}

#[tokio::test]
async fn plain_http_behind_an_https_url_is_a_tls_failure() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut answers = [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b""]
            .into_iter()
            .cycle();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut hello = [0; 1024];
            let _ = stream.read(&mut hello).await;
            let _ = stream.write_all(answers.next().unwrap()).await;
        }
    });
    let url = format!("https://127.0.0.1:{port}/in?token=s3cret");
    for _ in 0..2 {
        let url = url.parse().unwrap();
        assert_fails(&url, PATIENT, TransportErrorKind::Tls).await;
    }
}

#[tokio::test]
async fn a_closed_port_is_a_failed_connection() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let url = format!("http://{address}/?token=s3cret").parse().unwrap();
    assert_fails(&url, PATIENT, TransportErrorKind::Connect).await;
}

#[tokio::test]
async fn a_handshake_that_never_ends_is_a_failed_connection() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let policy = NetworkPolicy::builder().allow_private(true).build();
    let transport = Guarded::builder().policy(policy);
    let transport = transport.connect_timeout(SHORT).guarded().unwrap();
    let url = format!("https://127.0.0.1:{port}/").parse().unwrap();
    let error = transport.send(ping(&url, PATIENT)).await.unwrap_err();
    assert_eq!(error.kind(), TransportErrorKind::Connect, "{error:?}");
}

//! When a connection serves another request, and when it does not.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use webhook_core::{
    EndpointUrl, HttpTransportBuilder, NetworkPolicy, RequestOptions, Transport, TransportErrorKind,
};

use super::{Guarded, Guards};

/// A port of this machine, and what may send to it.
async fn open() -> (TcpListener, EndpointUrl, HttpTransportBuilder) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let policy = NetworkPolicy::builder()
        .allow_http(true)
        .allow_networks(["127.0.0.0/8".parse().unwrap()]);
    let url = format!("http://{address}/in").parse().unwrap();
    (listener, url, Guarded::builder().policy(policy.build()))
}

fn ping(url: &EndpointUrl, limit: Duration) -> Request<Bytes> {
    let options = RequestOptions::new(url.clone()).timeout(limit);
    let request = Request::post(url.uri().clone()).extension(options);
    request.body(Bytes::from_static(b"ping")).unwrap()
}

async fn status(transport: &impl Transport, url: &EndpointUrl) -> u16 {
    let answer = transport.send(ping(url, Duration::from_secs(60))).await;
    answer.unwrap().status().as_u16()
}

async fn read_request(stream: &mut TcpStream) {
    let mut received = Vec::new();
    while !received.ends_with(b"\r\n\r\nping") {
        assert_ne!(stream.read_buf(&mut received).await.unwrap(), 0);
    }
}

async fn answer(stream: &mut TcpStream, text: &str) {
    read_request(stream).await;
    stream.write_all(text.as_bytes()).await.unwrap();
}

/// Lets what has happened to connections on this machine be noticed.
async fn let_it_be_noticed() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (opened, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
    let (mut opened, (mut accepted, _)) = (opened.unwrap(), accepted.unwrap());
    accepted.write_all(b"x").await.unwrap();
    opened.read_u8().await.unwrap();
}

#[tokio::test]
async fn an_empty_body_is_said_to_be_empty() {
    let (listener, url, builder) = open().await;
    let transport = builder.guarded().unwrap();
    let serving = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut received = Vec::new();
        while !received.ends_with(b"\r\n\r\n") {
            assert_ne!(stream.read_buf(&mut received).await.unwrap(), 0);
        }
        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        stream.write_all(head).await.unwrap();
        String::from_utf8(received).unwrap()
    };
    let request = Request::post(url.uri().clone()).body(Bytes::new()).unwrap();
    let (answer, received) = tokio::join!(transport.send(request), serving);
    assert_eq!(answer.unwrap().status(), 200);
    let lengths = received
        .lines()
        .filter(|line| line.starts_with("content-length"));
    assert_eq!(lengths.collect::<Vec<_>>(), ["content-length: 0"]);
}

#[tokio::test]
async fn one_connection_serves_one_request_after_the_other() {
    let (listener, url, builder) = open().await;
    let transport = builder.guarded().unwrap();
    let serving = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        for body in [
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\nok",
            "HTTP/1.1 202 Accepted\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            "HTTP/1.1 204 No Content\r\n\r\n",
            "HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n",
        ] {
            answer(&mut stream, body).await;
        }
    };
    let sending = async {
        for expected in [200, 201, 202, 204, 500] {
            assert_eq!(status(&transport, &url).await, expected);
        }
    };
    tokio::join!(serving, sending);
}

#[tokio::test]
async fn a_connection_that_the_receiver_closed_is_replaced() {
    let (listener, url, builder) = open().await;
    let transport = builder.guarded().unwrap();
    for _ in 0..3 {
        let serving = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            answer(&mut stream, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        };
        let (sent, ()) = tokio::join!(status(&transport, &url), serving);
        assert_eq!(sent, 200);
        let_it_be_noticed().await;
    }
}

#[tokio::test]
async fn a_connection_that_is_to_be_closed_is_not_used_again() {
    let (listener, url, builder) = open().await;
    let transport = builder.guarded().unwrap();
    let mut open = Vec::new();
    for head in [
        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
    ] {
        let serving = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            answer(&mut stream, head).await;
            stream
        };
        let (_, stream) = tokio::join!(status(&transport, &url), serving);
        open.push(stream);
    }
}

/// What comes without having been asked for would be taken for the answer to the next request.
#[tokio::test]
async fn an_answer_ahead_of_its_request_is_nobodys() {
    let (listener, url, builder) = open().await;
    let transport = builder.guarded().unwrap();
    let twice =
        "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\nHTTP/1.1 299 X\r\ncontent-length: 0\r\n\r\n";
    let mut open = Vec::new();
    for _ in 0..3 {
        let serving = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            answer(&mut stream, twice).await;
            stream
        };
        let (sent, stream) = tokio::join!(status(&transport, &url), serving);
        assert_eq!(sent, 200);
        open.push(stream);
        let_it_be_noticed().await;
    }
}

#[tokio::test]
async fn a_request_that_is_given_up_closes_its_connection() {
    let (listener, url, builder) = open().await;
    let transport = builder.guarded().unwrap();
    for head in ["", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nping"] {
        let serving = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            answer(&mut stream, head).await;
            // Until the other side is closed.
            stream.read_u8().await.unwrap_err();
        };
        let sending = transport.send(ping(&url, Duration::from_millis(100)));
        let (sent, ()) = tokio::join!(sending, serving);
        assert_eq!(sent.unwrap_err().kind(), TransportErrorKind::Timeout);
    }
}

#[tokio::test]
async fn hosts_do_not_share_connections() {
    let (one, first, builder) = open().await;
    let (other, second, _) = open().await;
    let transport = builder.guarded().unwrap();
    let serving = |listener: TcpListener, status: &'static str| async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        for _ in 0..2 {
            let head = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n");
            answer(&mut stream, &head).await;
        }
    };
    let sending = async {
        for _ in 0..2 {
            assert_eq!(status(&transport, &first).await, 201);
            assert_eq!(status(&transport, &second).await, 202);
        }
    };
    tokio::join!(serving(one, "201"), serving(other, "202"), sending);
}

//! What a transport of ours tells of how a connection was made.

use std::io;
use std::net::{IpAddr, Ipv4Addr};

use async_trait::async_trait;
use bytes::Bytes;
use http::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use webhook_core::{HttpTransport, NetworkPolicy, Resolve, ResponseDetails, Transport};

struct Loopback;

#[async_trait]
impl Resolve for Loopback {
    async fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        Ok(vec![Ipv4Addr::LOCALHOST.into()])
    }
}

async fn details(transport: &HttpTransport, url: &str) -> ResponseDetails {
    let request = Request::post(url).body(Bytes::from_static(b"ping"));
    let answer = transport.send(request.unwrap()).await.unwrap();
    *answer.extensions().get().unwrap()
}

#[tokio::test]
async fn a_new_connection_is_timed_and_one_used_again_has_no_times() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut received = Vec::new();
                while stream.read_buf(&mut received).await.unwrap_or(0) > 0 {
                    if received.ends_with(b"ping") {
                        received.clear();
                        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                        stream.write_all(head).await.unwrap();
                    }
                }
            });
        }
    });
    let policy = NetworkPolicy::builder()
        .allow_http(true)
        .allow_networks(["127.0.0.0/8".parse().unwrap()]);
    let transport = HttpTransport::builder().policy(policy.build());
    let transport = transport.resolver(Loopback).build().unwrap();

    let by_name = format!("http://hooks.example.com:{port}/");
    let new = details(&transport, &by_name).await;
    assert!(new.dns.is_some() && new.connect.is_some() && new.tls.is_none());
    assert!(new.first_byte >= new.dns.zip(new.connect).map(|(dns, tcp)| dns + tcp));
    let again = details(&transport, &by_name).await;
    assert_eq!((again.dns, again.connect, again.tls), (None, None, None));
    assert!(again.first_byte.is_some());

    let literal = details(&transport, &format!("http://127.0.0.1:{port}/")).await;
    assert!(literal.dns.is_none() && literal.connect.is_some());
}

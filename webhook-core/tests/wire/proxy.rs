//! The egress proxy: what is sent goes through it, and only to where the policy allows.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use http::Request;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use webhook_core::{NetworkPolicy, Resolve, Transport, TransportErrorKind};

use super::{Guarded, Guards};

/// `proxy.corp.example` is on this machine, `rebound.example.com` in a private network, and all else is public.
struct Names;

#[async_trait]
impl Resolve for Names {
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        Ok(vec![match name {
            "proxy.corp.example." => Ipv4Addr::LOCALHOST.into(),
            "rebound.example.com." => [10, 0, 0, 1].into(),
            "unknown.example.com." => return Err(io::ErrorKind::NotFound.into()),
            _ => [93, 184, 216, 34].into(),
        }])
    }
}

/// A proxy that answers by itself, and what it was asked for: the lines of each head, and for a tunnel the first byte
/// that went into it.
#[derive(Clone, Default)]
struct Proxy(Arc<Mutex<Vec<Vec<String>>>>);

impl Proxy {
    async fn open() -> (u16, Self) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, proxy) = (listener.local_addr().unwrap().port(), Self::default());
        let heads = Arc::clone(&proxy.0);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let mut stream = BufReader::new(stream);
                let mut head = Vec::new();
                loop {
                    let mut line = String::new();
                    stream.read_line(&mut line).await.unwrap();
                    match line.trim_end() {
                        "" => break,
                        line => head.push(line.to_owned()),
                    }
                }
                let is_tunnel = head[0].starts_with("CONNECT ");
                let answer: &[u8] = match is_tunnel {
                    true => b"HTTP/1.1 200 OK\r\n\r\n",
                    false => {
                        b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
                    }
                };
                stream.get_mut().write_all(answer).await.unwrap();
                if is_tunnel {
                    head.push(format!("{:#04x}", stream.read_u8().await.unwrap()));
                }
                heads.lock().unwrap().push(head);
            }
        });
        (port, proxy)
    }

    fn heads(&self) -> Vec<Vec<String>> {
        self.0.lock().unwrap().clone()
    }
}

/// To public addresses only, through this proxy.
fn through(proxy: &str) -> Guarded {
    let policy = NetworkPolicy::builder().allow_http(true).build();
    let transport = Guarded::builder().policy(policy).resolver(Names);
    transport.proxy(proxy.parse().unwrap()).guarded().unwrap()
}

async fn send(transport: &Guarded, url: &str) -> Result<u16, TransportErrorKind> {
    let request = Request::post(url).body(Bytes::from_static(b"{}")).unwrap();
    let answer = transport.send(request).await;
    answer
        .map(|it| it.status().as_u16())
        .map_err(|it| it.kind())
}

#[tokio::test]
async fn http_goes_to_the_proxy_wherever_that_is() {
    let (port, proxy) = Proxy::open().await;
    for host in ["127.0.0.1", "user:pass%20word@proxy.corp.example"] {
        let transport = through(&format!("http://{host}:{port}"));
        assert_eq!(
            send(&transport, "http://hooks.example.com/in?a=b").await,
            Ok(202)
        );
    }
    let heads = proxy.heads();
    for head in &heads {
        assert_eq!(head[0], "POST http://hooks.example.com/in?a=b HTTP/1.1");
    }
    let credentials = "proxy-authorization: Basic dXNlcjpwYXNzIHdvcmQ=";
    let has_credentials =
        |head: &Vec<String>| head.iter().any(|it| it.eq_ignore_ascii_case(credentials));
    assert!(
        !has_credentials(&heads[0]) && has_credentials(&heads[1]),
        "{heads:?}"
    );
}

#[tokio::test]
async fn https_goes_through_a_tunnel() {
    let (port, proxy) = Proxy::open().await;
    let transport = through(&format!("http://127.0.0.1:{port}"));
    // It breaks off after the first byte.
    let sent = send(&transport, "https://hooks.example.com/in").await;
    assert!(
        matches!(
            sent,
            Err(TransportErrorKind::Tls | TransportErrorKind::Connect)
        ),
        "{sent:?}"
    );
    let heads = proxy.heads();
    assert_eq!(heads[0][0], "CONNECT hooks.example.com:443 HTTP/1.1");
    assert_eq!(heads[0].last().unwrap(), "0x16", "a TLS handshake");
}

#[tokio::test]
async fn what_the_policy_forbids_does_not_reach_the_proxy() {
    let (port, proxy) = Proxy::open().await;
    for proxy_host in ["127.0.0.1", "proxy.corp.example"] {
        let transport = through(&format!("http://{proxy_host}:{port}"));
        let blocked = [
            "http://10.0.0.1/".to_owned(),
            "https://169.254.169.254/".to_owned(),
            "http://rebound.example.com/".to_owned(),
            "https://rebound.example.com/".to_owned(),
            // The exception is for the way to the proxy, not for what is sent.
            format!("http://127.0.0.1:{port}/"),
            format!("http://proxy.corp.example:{port}/"),
        ];
        for url in blocked {
            let sent = send(&transport, &url).await;
            assert_eq!(sent, Err(TransportErrorKind::Blocked), "{url}");
        }
        let unknown = send(&transport, "https://unknown.example.com/").await;
        assert_eq!(unknown, Err(TransportErrorKind::Dns));
    }
    assert_eq!(proxy.heads(), Vec::<Vec<String>>::new());
}

#[tokio::test]
async fn a_proxy_that_is_away_is_no_way_round_it_and_tells_no_password() {
    let port = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap().port()
    };
    let transport = through(&format!("http://user:s3cret@127.0.0.1:{port}"));
    let request = Request::post("http://hooks.example.com/").body(Bytes::new());
    let error = transport.send(request.unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), TransportErrorKind::Connect);
    let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |it| it.source());
    let told: String = causes.map(|it| format!("{it} {it:?}")).collect();
    assert!(!told.contains("s3cret"), "{told}");
    assert!(!format!("{transport:?}").contains("s3cret"));
}

#[tokio::test]
async fn a_proxy_that_opens_no_tunnel_is_a_failed_connection() {
    for answer in [
        "HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 503 Service Unavailable\r\n\r\n",
        "SSH-2.0-OpenSSH_9.9\r\n\r\n",
        "",
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let proxy = async {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = BufReader::new(stream);
            let mut line = String::new();
            while line != "\r\n" {
                line.clear();
                stream.read_line(&mut line).await.unwrap();
            }
            stream.get_mut().write_all(answer.as_bytes()).await.unwrap();
        };
        let transport = through(&format!("http://127.0.0.1:{port}"));
        let sending = send(&transport, "https://hooks.example.com/");
        let (sent, ()) = tokio::join!(sending, proxy);
        assert_eq!(sent, Err(TransportErrorKind::Connect), "{answer:?}");
    }
}

/// A TLS server's settings for these names, and the authority that signed their certificate.
fn tls_for(names: [&str; 2]) -> (Arc<ServerConfig>, String) {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(names.map(str::to_owned)).unwrap();
    let certificate = certificate.signed_by(&key, &authority).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key);
    (Arc::new(config.unwrap()), authority.pem())
}

/// What comes before the first empty line.
fn head_of(stream: &mut impl Read) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
    String::from_utf8(head).unwrap().to_lowercase()
}

#[tokio::test]
async fn an_https_proxy_is_spoken_to_by_tls_and_https_goes_through_it_in_tls_of_its_own() {
    let (config, authority) = tls_for(["proxy.corp.example", "hooks.example.com"]);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let proxy = std::thread::spawn(move || {
        let secured = || ServerConnection::new(Arc::clone(&config)).unwrap();
        let (tcp, _) = listener.accept().unwrap();
        let mut outer = StreamOwned::new(secured(), tcp);
        let plain = head_of(&mut outer);
        let accepted = b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n";
        outer.write_all(accepted).unwrap();
        outer.flush().unwrap();

        let (tcp, _) = listener.accept().unwrap();
        let mut outer = StreamOwned::new(secured(), tcp);
        let connect = head_of(&mut outer);
        outer.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        outer.flush().unwrap();
        let mut inner = StreamOwned::new(secured(), outer);
        let tunnelled = head_of(&mut inner);
        inner.write_all(accepted).unwrap();
        inner.flush().unwrap();
        [plain, connect, tunnelled]
    });
    let policy = NetworkPolicy::builder().allow_http(true).build();
    let transport = Guarded::builder()
        .policy(policy)
        .resolver(Names)
        .root_certificates(authority.as_bytes())
        .proxy(
            format!("https://user:pw@proxy.corp.example:{port}")
                .parse()
                .unwrap(),
        )
        .guarded()
        .unwrap();
    for scheme in ["http", "https"] {
        let url = format!("{scheme}://hooks.example.com/in");
        assert_eq!(send(&transport, &url).await, Ok(202));
    }
    let [plain, connect, tunnelled] = proxy.join().unwrap();
    let credentials = "\r\nproxy-authorization: basic dxnlcjpwdw==\r\n";
    assert!(plain.starts_with("post http://hooks.example.com/in http/1.1\r\n"));
    assert!(plain.contains(credentials), "{plain}");
    assert!(connect.starts_with("connect hooks.example.com:443 http/1.1\r\n"));
    assert!(connect.contains(credentials), "{connect}");
    assert!(tunnelled.starts_with("post /in http/1.1\r\n"));
    assert!(!tunnelled.contains("proxy-"), "{tunnelled}");
}

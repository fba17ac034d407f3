//! The guarded transport against an attacker's DNS and HTTP answers, and the process's environment.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use webhook_core::{
    EndpointUrl, HttpTransportBuilder, NetworkPolicy, RequestOptions, Resolve, Transport,
    TransportError, TransportErrorKind,
};

use super::{Guarded, Guards, cases, network};

pub(super) const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Gives one scripted answer after the other and counts.
#[derive(Clone, Default)]
pub(super) struct Scripted {
    answers: Arc<Mutex<VecDeque<Vec<IpAddr>>>>,
    calls: Arc<AtomicUsize>,
}

impl Scripted {
    pub(super) fn new(answers: impl IntoIterator<Item = Vec<IpAddr>>) -> Self {
        Self {
            answers: Arc::new(Mutex::new(answers.into_iter().collect())),
            calls: Arc::default(),
        }
    }

    pub(super) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Resolve for Scripted {
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        assert!(name.ends_with('.'), "{name} would try search domains");
        self.calls.fetch_add(1, Ordering::SeqCst);
        let answer = self.answers.lock().unwrap().pop_front();
        answer.ok_or_else(|| io::Error::from(ErrorKind::NotFound))
    }
}

/// Must not be asked.
pub(super) struct Panics;

#[async_trait]
impl Resolve for Panics {
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        panic!("looked up {name}");
    }
}

/// Never answers.
pub(super) struct Silent;

#[async_trait]
impl Resolve for Silent {
    async fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        std::future::pending().await
    }
}

/// May reach test servers on loopback.
pub(super) fn loopback() -> HttpTransportBuilder {
    Guarded::builder().policy(
        NetworkPolicy::builder()
            .allow_http(true)
            .allow_networks([network("127.0.0.0/8")])
            .build(),
    )
}

pub(super) async fn post(
    transport: &Guarded,
    url: &str,
) -> Result<Response<Bytes>, TransportError> {
    let url: EndpointUrl = url.parse().unwrap();
    let request = Request::post(url.uri().clone())
        .extension(RequestOptions::new(url).timeout(Duration::from_secs(30)))
        .body(Bytes::from_static(b"ping"))
        .unwrap();
    transport.send(request).await
}

pub(super) async fn failure(transport: &Guarded, url: &str) -> TransportErrorKind {
    post(transport, url).await.unwrap_err().kind()
}

/// A server that answers every request on any number of connections with `head` and no body, and
/// tells what it was sent.
pub(super) async fn server(head: &str) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = tokio::net::TcpListener::bind((LOOPBACK, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let requests = Arc::new(Mutex::new(Vec::new()));
    let (seen, head) = (Arc::clone(&requests), head.to_owned());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (seen, head) = (Arc::clone(&seen), head.clone());
            tokio::spawn(async move {
                let mut received = Vec::new();
                while stream.read_buf(&mut received).await.unwrap_or(0) > 0 {
                    if received.ends_with(b"\r\n\r\nping") {
                        let request = String::from_utf8(std::mem::take(&mut received));
                        seen.lock().unwrap().push(request.unwrap());
                        let answer = format!("{head}\r\ncontent-length: 0\r\n\r\n");
                        stream.write_all(answer.as_bytes()).await.unwrap();
                    }
                }
            });
        }
    });
    (port, requests)
}

/// A port on which nobody must knock; [`untouched`] tells.
pub(super) fn tripwire() -> (TcpListener, u16) {
    let listener = TcpListener::bind((LOOPBACK, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

pub(super) fn untouched(tripwire: &TcpListener) -> bool {
    matches!(tripwire.accept(), Err(error) if error.kind() == ErrorKind::WouldBlock)
}

#[tokio::test]
async fn every_refused_url_case_is_refused_before_a_connection() {
    let mut refused = 0;
    for case in cases().url_cases {
        let expected = match case.verdict.as_str() {
            "allow" => continue,
            "error" => TransportErrorKind::Dns,
            _ => TransportErrorKind::Blocked,
        };
        let builder = Guarded::builder().policy(case.policy());
        let transport = match case.outcome() {
            "error" => builder.resolver(Scripted::default()),
            "block" if !case.dns.is_empty() => builder.resolver(Scripted::new([case.dns.clone()])),
            _ => builder.resolver(Panics),
        };
        let transport = transport.guarded().unwrap();
        let Ok(url) = case.url().parse::<EndpointUrl>() else {
            continue;
        };
        let kind = failure(&transport, url.as_str()).await;
        assert_eq!(kind, expected, "{}", case.id);
        refused += 1;
    }
    assert_eq!(refused, 58);
}

#[tokio::test]
async fn a_literal_address_is_blocked_without_a_lookup() {
    let (listener, port) = tripwire();
    let policy = NetworkPolicy::builder().allow_http(true).build();
    let transport = Guarded::builder().policy(policy).resolver(Panics);
    let transport = transport.guarded().unwrap();
    for host in ["127.0.0.1", "127.1", "0x7f000001", "[::ffff:127.0.0.1]"] {
        let kind = failure(&transport, &format!("http://{host}:{port}/")).await;
        assert_eq!(kind, TransportErrorKind::Blocked, "{host}");
    }
    assert!(untouched(&listener));
}

#[tokio::test]
async fn a_request_without_an_endpoint_url_is_guarded_by_its_uri() {
    let (listener, port) = tripwire();
    let transport = Guarded::builder().resolver(Panics).guarded().unwrap();
    for uri in [
        format!("http://127.0.0.1:{port}/"),
        format!("https://127.0.0.1:{port}/"),
        format!("https://user@127.0.0.1:{port}/"),
        "/relative".to_owned(),
    ] {
        let request = Request::post(uri.as_str()).body(Bytes::new()).unwrap();
        let kind = transport.send(request).await.unwrap_err().kind();
        assert_eq!(kind, TransportErrorKind::Blocked, "{uri}");
    }
    assert!(untouched(&listener));
}

#[tokio::test]
async fn a_connection_takes_one_lookup_and_dials_what_was_judged() {
    let (port, requests) = server("HTTP/1.1 200 OK").await;
    let resolver = Scripted::new([vec![LOOPBACK], vec!["10.0.0.1".parse().unwrap()]]);
    let transport = loopback().resolver(resolver.clone()).guarded().unwrap();
    let url = format!("http://hooks.example.com:{port}/");
    assert_eq!(post(&transport, &url).await.unwrap().status(), 200);
    assert_eq!(resolver.calls(), 1);
    assert_eq!(requests.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_name_that_moves_into_a_private_network_is_blocked_at_the_next_connection() {
    let (port, requests) = server("HTTP/1.1 500 Oops").await;
    let resolver = Scripted::new([vec![LOOPBACK], vec!["10.0.0.1".parse().unwrap()]]);
    let transport = loopback().resolver(resolver.clone()).max_idle_per_host(0);
    let transport = transport.guarded().unwrap();
    let url = format!("http://hooks.example.com:{port}/");
    assert_eq!(post(&transport, &url).await.unwrap().status(), 500);
    let kind = failure(&transport, &url).await;
    assert_eq!(kind, TransportErrorKind::Blocked);
    assert_eq!(resolver.calls(), 2);
    assert_eq!(requests.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn one_forbidden_answer_forbids_the_name() {
    let (listener, port) = tripwire();
    let private: IpAddr = "10.0.0.1".parse().unwrap();
    let ula: IpAddr = "fd00::1".parse().unwrap();
    let last_of_1000 = std::iter::repeat_n(LOOPBACK, 999).chain([private]);
    let answers = [
        vec![LOOPBACK, private],
        vec![private, LOOPBACK],
        vec![ula, LOOPBACK],
        last_of_1000.collect(),
    ];
    for answer in answers {
        let transport = loopback().resolver(Scripted::new([answer])).guarded();
        let url = format!("http://hooks.example.com:{port}/");
        let kind = failure(&transport.unwrap(), &url).await;
        assert_eq!(kind, TransportErrorKind::Blocked);
    }
    assert!(untouched(&listener));
}

#[tokio::test]
async fn a_thousand_permitted_answers_still_connect() {
    let (port, _) = server("HTTP/1.1 204 No Content").await;
    let resolver = Scripted::new([vec![LOOPBACK; 1000]]);
    let transport = loopback().resolver(resolver).guarded().unwrap();
    let answer = post(&transport, &format!("http://hooks.example.com:{port}/")).await;
    assert_eq!(answer.unwrap().status(), 204);
}

#[tokio::test]
async fn no_3xx_is_followed() {
    for status in [301, 302, 303, 304, 307, 308] {
        let (listener, elsewhere) = tripwire();
        let head = format!("HTTP/1.1 {status} X\r\nlocation: http://127.0.0.1:{elsewhere}/");
        let (port, requests) = server(&head).await;
        let transport = loopback().guarded().unwrap();
        let answer = post(&transport, &format!("http://127.0.0.1:{port}/")).await;
        assert_eq!(answer.unwrap().status(), status);
        assert_eq!(requests.lock().unwrap().len(), 1);
        assert!(untouched(&listener), "{status}");
    }
}

#[test]
fn proxies_from_the_environment_are_ignored() {
    let (listener, port) = tripwire();
    let proxy = format!("http://127.0.0.1:{port}");
    let mut child = Command::new(std::env::current_exe().unwrap());
    let (_, module) = module_path!().split_once("::").unwrap();
    child.args([
        "--exact",
        &format!("{module}::with_a_proxy_in_the_environment"),
    ]);
    child.args(["--ignored", "--nocapture"]);
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        child.env(name, &proxy).env(name.to_lowercase(), &proxy);
    }
    child.env_remove("NO_PROXY").env_remove("no_proxy");
    let output = child.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("1 passed"), "{said}");
    assert!(untouched(&listener));
}

#[tokio::test]
#[ignore = "run by proxies_from_the_environment_are_ignored, in a process of its own"]
async fn with_a_proxy_in_the_environment() {
    let (port, requests) = server("HTTP/1.1 200 OK").await;
    let transport = loopback()
        .resolver(Scripted::new([vec![LOOPBACK]]))
        .guarded();
    let url = format!("http://hooks.example.com:{port}/");
    let answer = post(&transport.unwrap(), &url).await;
    assert_eq!(answer.unwrap().status(), 200);
    assert_eq!(requests.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_silent_resolver_ends_with_its_own_limit_or_the_deadline_and_holds_up_nobody() {
    let (port, _) = server("HTTP/1.1 200 OK").await;
    let slow = "http://slow.example.com:8080/";
    let transport = loopback().resolver(Silent);
    let transport = transport.dns_timeout(Duration::from_millis(20));
    let transport = transport.guarded().unwrap();
    assert_eq!(failure(&transport, slow).await, TransportErrorKind::Dns);

    let transport = loopback().resolver(Silent).guarded().unwrap();
    let request = Request::post(slow)
        .extension(RequestOptions::new(slow.parse().unwrap()).timeout(Duration::from_millis(20)))
        .body(Bytes::new());
    let url = format!("http://127.0.0.1:{port}/");
    let (hung, other) = tokio::join!(transport.send(request.unwrap()), post(&transport, &url));
    assert_eq!(hung.unwrap_err().kind(), TransportErrorKind::Timeout);
    assert_eq!(other.unwrap().status(), 200);
}

#[tokio::test]
async fn an_open_connection_does_not_serve_another_policy() {
    let (port, requests) = server("HTTP/1.1 200 OK").await;
    let url = format!("http://hooks.example.com:{port}/");
    let resolver = || Scripted::new([vec![LOOPBACK]]);
    let may = loopback().resolver(resolver()).guarded().unwrap();
    let policy = NetworkPolicy::builder().allow_http(true).build();
    let may_not = Guarded::builder().policy(policy).resolver(resolver());
    let may_not = may_not.guarded().unwrap();
    assert_eq!(post(&may, &url).await.unwrap().status(), 200);
    let kind = failure(&may_not, &url).await;
    assert_eq!(kind, TransportErrorKind::Blocked);
    assert_eq!(requests.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn host_and_framing_headers_of_the_request_have_no_say() {
    let (port, requests) = server("HTTP/1.1 200 OK").await;
    let transport = loopback().guarded().unwrap();
    let request = Request::post(format!("http://127.0.0.1:{port}/in?a=b"))
        .header("Host", "internal.example")
        .header("content-length", "999")
        .header("transfer-encoding", "chunked")
        .header("connection", "upgrade, x-hop")
        .header("upgrade", "websocket")
        .header("expect", "100-continue")
        .header("webhook-id", "evt_1")
        .body(Bytes::from_static(b"ping"));
    let answer = transport.send(request.unwrap()).await.unwrap();
    assert_eq!(answer.status(), 200);
    let request = requests.lock().unwrap().remove(0);
    let mut lines: Vec<_> = request.split("\r\n").collect();
    lines[1..].sort_unstable();
    let host = format!("host: 127.0.0.1:{port}");
    let expected = [
        "POST /in?a=b HTTP/1.1",
        "",
        "accept: */*",
        "content-length: 4",
        &host,
        "ping",
        "webhook-id: evt_1",
    ];
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn a_tenant_cannot_tell_blocked_closed_and_unknown_apart() {
    let (listener, closed) = tripwire();
    drop(listener);
    let resolver = Scripted::new([vec!["10.0.0.1".parse().unwrap()], vec![LOOPBACK]]);
    let transport = loopback().resolver(resolver).guarded().unwrap();
    let url = format!("http://hooks.example.com:{closed}/");
    let blocked = failure(&transport, &url).await;
    let refused = failure(&transport, &url).await;
    let unknown = failure(&transport, &url).await;
    assert_eq!(
        [blocked, refused, unknown],
        [
            TransportErrorKind::Blocked,
            TransportErrorKind::Connect,
            TransportErrorKind::Dns
        ]
    );
    for kind in [blocked, refused, unknown] {
        assert_eq!(kind.as_tenant_str(), "unreachable");
    }
}

/// A TLS server with a certificate for `hooks.example.com`: its port, the authority that signed the
/// certificate, and the names it was asked for.
fn tls_server() -> (u16, String, Arc<Mutex<Vec<Option<String>>>>) {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap());
    let authority = authority.unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["hooks.example.com".to_owned()]).unwrap();
    let certificate = certificate.signed_by(&key, &authority).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key);
    let config = Arc::new(config.unwrap());
    let listener = TcpListener::bind((LOOPBACK, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let names = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&names);
    std::thread::spawn(move || {
        for tcp in listener.incoming() {
            let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut tls = rustls::StreamOwned::new(connection, tcp.unwrap());
            let mut received = [0; 1024];
            let read = tls.read(&mut received);
            let name = tls.conn.server_name().map(str::to_owned);
            seen.lock().unwrap().push(name);
            if read.is_ok_and(|n| n > 0) {
                let _ = tls.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
                let _ = tls.flush();
            }
        }
    });
    (port, authority.pem(), names)
}

#[tokio::test]
async fn the_certificate_is_checked_against_the_urls_name() {
    let (port, authority, names) = tls_server();
    let resolver = || Scripted::new([vec![LOOPBACK], vec![LOOPBACK]]);
    let trusting = loopback()
        .resolver(resolver())
        .root_certificates(authority.as_bytes());
    let trusting = trusting.guarded().unwrap();
    let strict = loopback().resolver(resolver()).guarded().unwrap();
    let url = |host: &str| format!("https://{host}:{port}/");

    let answer = post(&trusting, &url("hooks.example.com")).await;
    assert_eq!(answer.unwrap().status(), 200);
    let failures: [(&Guarded, &str); 3] = [
        (&trusting, "other.example.com"),
        (&trusting, "127.0.0.1"),
        (&strict, "hooks.example.com"),
    ];
    for (transport, host) in failures {
        let kind = failure(transport, &url(host)).await;
        assert_eq!(kind, TransportErrorKind::Tls, "{host}");
    }
    let expected = [Some("hooks.example.com"), Some("other.example.com"), None];
    let names = names.lock().unwrap();
    let names: Vec<_> = names.iter().take(3).map(Option::as_deref).collect();
    assert_eq!(names, expected);
}

#[test]
fn no_process_wide_crypto_provider_is_installed() {
    loopback().guarded().unwrap();
    assert!(rustls::crypto::CryptoProvider::get_default().is_none());
}

#[test]
fn nonsense_instead_of_certificates_is_refused() {
    let builder = loopback().root_certificates(b"not a certificate");
    assert!(builder.guarded().is_err());
}

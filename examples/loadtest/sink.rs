//! The receiver: a process of its own that counts requests and notes how long their events were under way.
//!
//! What a request's path begins with says how it is answered: `/in` and `/at/7` at once, and endpoint 7's arrivals are
//! noted; `/beside/7` at once, and nothing is noted; `/hang/7` never.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};

use crate::Result;

/// The path of those that are not looked at.
pub(crate) const BESIDE: &str = "/beside/";

const BETWEEN_LOOKS: Duration = Duration::from_millis(20);
/// How many times in a row it may have seen nothing before nothing more is thought to come: a minute.
const LOOKS: u32 = 3_000;

/// What the receiver has seen since it was last asked.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Seen {
    /// Requests.
    pub(crate) requests: u64,
    /// Microseconds from the time in the event's data to its receipt, unsorted.
    pub(crate) latencies: Vec<u32>,
    /// Requests to numbered endpoints, in any order.
    pub(crate) arrivals: Vec<Arrival>,
    /// The endpoint's number, 0 if it has none, and the event's, of each request that was not refused, in any order.
    pub(crate) received: Vec<(u32, u32)>,
}

impl Seen {
    /// Adds what was seen later.
    pub(crate) fn add(&mut self, later: Self) {
        self.requests += later.requests;
        self.latencies.extend(later.latencies);
        self.arrivals.extend(later.arrivals);
        self.received.extend(later.received);
    }

    /// How many requests brought an endpoint what it had.
    pub(crate) fn repeated(&self) -> u64 {
        let mut received = self.received.clone();
        received.sort_unstable();
        received
            .windows(2)
            .filter(|pair| pair[0] == pair[1])
            .count() as u64
    }
}

/// A request to a numbered endpoint.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Arrival {
    pub(crate) endpoint: u32,
    /// Microseconds since 1970.
    pub(crate) at: u64,
}

/// A running receiver.
pub(crate) struct Sink {
    child: Child,
    address: SocketAddr,
    client: reqwest::Client,
}

impl Sink {
    /// Starts one on a free port of the loopback interface.
    pub(crate) async fn start() -> Result<Self> {
        rustls::crypto::ring::default_provider()
            .install_default()
            .ok();
        let mut child = Command::new(std::env::current_exe()?)
            .arg("--sink")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdout = child.stdout.take().ok_or("the receiver has no output")?;
        let line = BufReader::new(stdout).lines().next_line().await?;
        let address = line.ok_or("the receiver did not start")?.parse()?;
        Ok(Self {
            child,
            address,
            client: reqwest::Client::new(),
        })
    }

    /// Where it listens.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/in", self.address)
    }

    /// An endpoint's URL at this path.
    pub(crate) fn url_of(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    /// Lets it refuse all numbered endpoints' requests from now on, or no longer.
    pub(crate) async fn set_down(&self, is_down: bool) -> Result<()> {
        let url = self.url_of(if is_down { "down" } else { "up" });
        self.client.put(url).send().await?.error_for_status()?;
        Ok(())
    }

    /// What it has seen since the last call.
    pub(crate) async fn take_seen(&self) -> Result<Seen> {
        let seen = self
            .client
            .get(format!("http://{}/", self.address))
            .send()
            .await?
            .bytes()
            .await?;
        Ok(serde_json::from_slice(&seen)?)
    }

    /// What it has seen when that is so many requests, or when nothing more comes; each look tells how many were new.
    pub(crate) async fn wait_for(&self, requests: u64, new: impl Fn(u64)) -> Result<Seen> {
        let mut seen = Seen::default();
        let mut looks = 0;
        while seen.requests < requests && looks < LOOKS {
            tokio::time::sleep(BETWEEN_LOOKS).await;
            let later = self.take_seen().await?;
            looks = if later.requests == 0 { looks + 1 } else { 0 };
            new(later.requests);
            seen.add(later);
        }
        Ok(seen)
    }

    /// Ends it.
    pub(crate) async fn stop(mut self) -> Result<()> {
        self.child.kill().await?;
        Ok(())
    }
}

/// Microseconds since 1970, the same in all processes of this machine.
pub(crate) fn now_micros() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(0)
}

/// Runs as the receiver until its standard input ends, so that it never outlives its parent.
pub(crate) fn serve() -> Result<()> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            println!("{}", listener.local_addr()?);
            let serving = tokio::spawn(accept(listener));
            let mut parent = BufReader::new(tokio::io::stdin()).lines();
            while parent.next_line().await?.is_some() {}
            serving.abort();
            Ok(())
        })
}

async fn accept(listener: TcpListener) {
    let receiver = Arc::new(Mutex::new(Receiver::default()));
    while let Ok((stream, _)) = listener.accept().await {
        stream.set_nodelay(true).ok();
        let receiver = Arc::clone(&receiver);
        tokio::spawn(async move {
            let service = service_fn(|request| answer(request, Arc::clone(&receiver)));
            http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await
                .ok();
        });
    }
}

#[derive(Default)]
struct Receiver {
    seen: Seen,
    is_down: bool,
}

impl Receiver {
    /// Notes a delivery, and says whether it is taken.
    fn take(&mut self, path: &str, body: &[u8]) -> bool {
        if path.starts_with(BESIDE) {
            return true;
        }
        self.seen.requests += 1;
        let number = path
            .strip_prefix("/at/")
            .and_then(|number| number.parse().ok());
        self.seen.arrivals.extend(number.map(|endpoint| Arrival {
            endpoint,
            at: now_micros(),
        }));
        let is_taken = number.is_none() || !self.is_down;
        if let (true, Some((at, event))) = (is_taken, read(body)) {
            let under_way = now_micros().saturating_sub(at);
            self.seen.latencies.extend(u32::try_from(under_way));
            self.seen.received.push((number.unwrap_or(0), event));
        }
        is_taken
    }
}

async fn answer(
    request: Request<Incoming>,
    receiver: Arc<Mutex<Receiver>>,
) -> std::result::Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    if path.starts_with("/hang/") {
        return std::future::pending().await;
    }
    let Ok(body) = body.collect().await else {
        return Ok(Response::new(Full::default()));
    };
    let mut receiver = receiver.lock().unwrap_or_else(PoisonError::into_inner);
    if head.method == Method::GET {
        let seen = serde_json::to_vec(&std::mem::take(&mut receiver.seen)).unwrap_or_default();
        return Ok(Response::new(Full::from(seen)));
    }
    if head.method == Method::PUT {
        receiver.is_down = path == "/down";
        return Ok(Response::new(Full::default()));
    }
    let mut response = Response::new(Full::default());
    if !receiver.take(path, &body.to_bytes()) {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    Ok(response)
}

/// When the event was made, and its number: `…"at":<microseconds>,"number":<number>,…`.
fn read(body: &[u8]) -> Option<(u64, u32)> {
    let marker = b"\"at\":";
    let start = body.windows(marker.len()).position(|part| part == marker)? + marker.len();
    let (at, rest) = digits(&body[start..])?;
    let (number, _) = digits(rest.strip_prefix(b",\"number\":")?)?;
    Some((at, u32::try_from(number).ok()?))
}

/// The number that this begins with, and what follows.
fn digits(text: &[u8]) -> Option<(u64, &[u8])> {
    let is_digit = |byte: &&u8| byte.is_ascii_digit();
    let (digits, rest) = text.split_at(text.iter().take_while(is_digit).count());
    let number = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some((number, rest))
}

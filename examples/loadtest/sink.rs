//! The receiver: a process of its own that counts requests and notes how long their events were under way.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};

use crate::Result;

/// What the receiver has seen since it was last asked.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Seen {
    /// Requests.
    pub(crate) requests: u64,
    /// Microseconds from the time in the event's data to its receipt, unsorted.
    pub(crate) latencies: Vec<u32>,
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
    let seen = Arc::new(Mutex::new(Seen::default()));
    while let Ok((stream, _)) = listener.accept().await {
        stream.set_nodelay(true).ok();
        let seen = Arc::clone(&seen);
        tokio::spawn(async move {
            let service = service_fn(|request| answer(request, Arc::clone(&seen)));
            http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await
                .ok();
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    seen: Arc<Mutex<Seen>>,
) -> std::result::Result<Response<Full<Bytes>>, Infallible> {
    let is_post = request.method() == Method::POST;
    let body = match request.into_body().collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => return Ok(Response::new(Full::default())),
    };
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    if is_post {
        seen.requests += 1;
        seen.latencies.extend(under_way(&body));
        return Ok(Response::new(Full::default()));
    }
    let seen = serde_json::to_vec(&std::mem::take(&mut *seen)).unwrap_or_default();
    Ok(Response::new(Full::from(seen)))
}

/// How long ago the time in the event's data was: `…"at":<microseconds>,…`.
fn under_way(body: &[u8]) -> Option<u32> {
    let marker = b"\"at\":";
    let start = body.windows(marker.len()).position(|part| part == marker)? + marker.len();
    let digits = body[start..]
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    let at: u64 = std::str::from_utf8(&body[start..start + digits])
        .ok()?
        .parse()
        .ok()?;
    u32::try_from(now_micros().saturating_sub(at)).ok()
}

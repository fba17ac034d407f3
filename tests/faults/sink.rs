//! The receiver: a process of its own that verifies each webhook, writes it down, and only then
//! answers. Some it declines.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::http::request;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use webhook_delivery::{Clock as _, SystemClock, Verifier, VerifyingKey};

use crate::Result;
use crate::journal::{Entry, Journal, now};
use crate::load::{Call, Delivery};

/// What every endpoint signs with.
pub(crate) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Before and after a webhook is written down: a kill finds requests in both.
const DELAY: Duration = Duration::from_millis(15);

/// What the receiver counts.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Seen {
    /// Requests that were answered.
    pub(crate) answered: u64,
    /// Requests that are under way now.
    pub(crate) in_flight: u64,
    /// Requests whose sender was gone before they were answered.
    pub(crate) cut: u64,
    /// Requests with no valid signature.
    pub(crate) forged: u64,
}

/// A running receiver.
pub(crate) struct Sink {
    child: Child,
    address: SocketAddr,
    journal: PathBuf,
}

impl Sink {
    /// Starts one that writes what it gets into `journal`.
    pub(crate) fn start(journal: &Path) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("sink")
            .arg(journal)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().ok_or("the receiver has no output")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        Ok(Self {
            child,
            address: line.trim().parse()?,
            journal: journal.to_owned(),
        })
    }

    /// Where webhooks go.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What it has counted.
    pub(crate) fn seen(&self) -> Result<Seen> {
        let mut stream = TcpStream::connect(self.address)?;
        let host = self.address;
        write!(
            stream,
            "GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let body = answer.split("\r\n\r\n").nth(1).ok_or("no answer")?;
        Ok(serde_json::from_str(body)?)
    }

    pub(crate) fn journal(&self) -> &Path {
        &self.journal
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the connections share.
struct Shared {
    verifier: Verifier,
    journal: Journal,
    /// How often each delivery was declined.
    declined: Mutex<HashMap<Delivery, u64>>,
    answered: AtomicU64,
    in_flight: AtomicU64,
    cut: AtomicU64,
    forged: AtomicU64,
}

/// Runs as the receiver until its standard input ends, so that it never outlives its parent.
pub(crate) fn serve(journal: &Path) -> Result {
    let key: VerifyingKey = SECRET.parse()?;
    let shared = Arc::new(Shared {
        verifier: Verifier::new(key),
        journal: Journal::start(File::create(journal)?),
        declined: Mutex::default(),
        answered: AtomicU64::new(0),
        in_flight: AtomicU64::new(0),
        cut: AtomicU64::new(0),
        forged: AtomicU64::new(0),
    });
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
    println!("{}", listener.local_addr()?);
    runtime.spawn(accept(listener, shared));
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        stream.set_nodelay(true).ok();
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let service = service_fn(|request| answer(request, Arc::clone(&shared)));
            http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await
                .ok();
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    shared: Arc<Shared>,
) -> std::result::Result<Response<Full<Bytes>>, Infallible> {
    if request.method() == Method::GET {
        let seen = serde_json::to_vec(&shared.seen()).unwrap_or_default();
        return Ok(Response::new(Full::from(seen)));
    }
    let mut response = Response::new(Full::default());
    *response.status_mut() = take(request, &shared).await;
    Ok(response)
}

/// A webhook: the request is dropped in here when its sender is gone.
async fn take(request: Request<Incoming>, shared: &Shared) -> StatusCode {
    let mut under_way = UnderWay::begin(shared);
    let (parts, body) = request.into_parts();
    let Ok(body) = body.collect().await else {
        return StatusCode::BAD_REQUEST;
    };
    let body = body.to_bytes();
    let Some((call, delivery)) = shared.verified(&parts, &body) else {
        shared.forged.fetch_add(1, Ordering::Relaxed);
        under_way.is_answered = true;
        return StatusCode::UNAUTHORIZED;
    };
    tokio::time::sleep(DELAY).await;
    let (status, entry) = match shared.declines(delivery) {
        true => (
            StatusCode::INTERNAL_SERVER_ERROR,
            Entry::Declined(delivery, now()),
        ),
        false => (StatusCode::OK, Entry::Received(call, delivery, now())),
    };
    if shared.journal.write(entry).await.is_err() {
        return StatusCode::INSUFFICIENT_STORAGE;
    }
    tokio::time::sleep(DELAY).await;
    under_way.is_answered = true;
    status
}

impl Shared {
    /// What it is, if it is signed as it must be.
    fn verified(&self, parts: &request::Parts, body: &[u8]) -> Option<(Call, Delivery)> {
        #[derive(Deserialize)]
        struct Body {
            data: Data,
        }
        #[derive(Deserialize)]
        struct Data {
            call: String,
        }
        let now = SystemClock.now();
        let verified = self.verifier.verify(&parts.headers, body, now).ok()?;
        let delivery = format!("{}{}", verified.id, parts.uri.path());
        let body: Body = serde_json::from_slice(body).ok()?;
        Some((body.data.call.parse().ok()?, delivery.parse().ok()?))
    }

    /// Whether a request is one of the first, of an event of which they are declined.
    fn declines(&self, delivery: Delivery) -> bool {
        let declined = self.declined.lock();
        let mut declined = declined.unwrap_or_else(PoisonError::into_inner);
        let count = declined.entry(delivery).or_default();
        let declines = *count < delivery.route.declines(delivery.event);
        *count += u64::from(declines);
        declines
    }

    fn seen(&self) -> Seen {
        Seen {
            answered: self.answered.load(Ordering::Relaxed),
            in_flight: self.in_flight.load(Ordering::Relaxed),
            cut: self.cut.load(Ordering::Relaxed),
            forged: self.forged.load(Ordering::Relaxed),
        }
    }
}

/// A request from its beginning to its answer, or to its sender's end.
struct UnderWay<'a> {
    shared: &'a Shared,
    is_answered: bool,
}

impl<'a> UnderWay<'a> {
    fn begin(shared: &'a Shared) -> Self {
        shared.in_flight.fetch_add(1, Ordering::Relaxed);
        Self {
            shared,
            is_answered: false,
        }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.shared.in_flight.fetch_sub(1, Ordering::Relaxed);
        let count = match self.is_answered {
            true => &self.shared.answered,
            false => &self.shared.cut,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

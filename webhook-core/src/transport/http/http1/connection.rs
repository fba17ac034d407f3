//! One connection, driven by whoever uses it.
//!
//! hyper wants a task for each connection. There is none here: the exchange that owns the connection polls it, so that
//! an answer wakes one task and not two, and a request that is given up closes its connection by being dropped.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Waker};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::task::coop::unconstrained;

use super::stream::{Left, Limited, Stream};

/// A connection to one host, for one request at a time.
pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    /// What reads and writes. Nothing once the connection has ended: all that waits for it learns so when it is
    /// dropped.
    driver: Option<Box<Driver>>,
    /// How much it may still read.
    left: Left,
}

type Driver = http1::Connection<TokioIo<Limited>, Full<Bytes>>;

impl Connection {
    /// How long a response's head may be, but for what is read at once beyond it, and so what a connection holds, in the
    /// pool too. A thousand that each got a head as long as hyper's own bound held 440 MB; now it is a third at most.
    const MAX_HEAD: usize = 64 * 1024;

    /// How much is read from a request on until its answer's head has come: that head, interim ones, which hyper skips
    /// however many they are, and what is read of a body with the head, two buffers at most.
    const MAX_BEFORE_BODY: usize = 4 * Self::MAX_HEAD;

    /// Speaks HTTP over `stream`, with at most 100 headers in a response. Writes nothing yet.
    pub(super) async fn over(stream: Stream) -> hyper::Result<Self> {
        let mut http = http1::Builder::new();
        http.max_buf_size(Self::MAX_HEAD);
        let (stream, left) = Limited::new(stream);
        let (sender, driver) = http.handshake(TokioIo::new(stream)).await?;
        Ok(Self {
            sender,
            driver: Some(Box::new(driver)),
            left,
        })
    }

    /// Sends a request, and answers the head of the response, unless too much comes before it. The request comes back if
    /// the connection turns out to be closed before anything of it was written.
    pub(super) async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Full<Bytes>>>> {
        self.left.set(Self::MAX_BEFORE_BODY);
        let mut answer = pin!(unconstrained(self.sender.try_send_request(request)));
        let answer = poll_fn(|cx| {
            self.drive(cx);
            // It comes from the driver alone, and so needs no waker of its own, nor a share of the task's budget, which
            // would wake it.
            answer
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()))
        });
        let answer = answer.await;
        self.left.set(usize::MAX);
        answer
    }

    /// At most `max` bytes of the body, and whether there was more.
    pub(super) async fn read_capped(
        &mut self,
        mut incoming: Incoming,
        max: usize,
    ) -> hyper::Result<(Bytes, bool)> {
        let mut body = Vec::new();
        while !incoming.is_end_stream() {
            let frame = poll_fn(|cx| {
                self.drive(cx);
                Pin::new(&mut incoming).poll_frame(cx)
            });
            let Some(frame) = frame.await else { break };
            let Ok(chunk) = frame?.into_data() else {
                continue; // Trailers.
            };
            let room = max - body.len();
            body.extend_from_slice(&chunk[..chunk.len().min(room)]);
            if chunk.len() > room {
                return Ok((body.into(), true));
            }
        }
        Ok((body.into(), false))
    }

    /// Whether it would take a request now: it is open, nothing of the last exchange is left, and nothing has come
    /// since. Nobody is woken for it any more.
    pub(super) fn is_unused(&mut self) -> bool {
        self.drive(&mut Context::from_waker(Waker::noop()));
        self.driver.is_some() && self.sender.is_ready()
    }

    /// Goes on for as long as it can.
    fn drive(&mut self, cx: &mut Context<'_>) {
        if let Some(driver) = &mut self.driver
            && Pin::new(&mut **driver).poll(cx).is_ready()
        {
            self.driver = None;
        }
    }
}

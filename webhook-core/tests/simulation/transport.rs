//! The endpoints of a simulation, and the network between.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use uuid::Uuid;
use webhook_core::{
    Lease, Outcome, Record, RequestOptions, SignError, SignRequest, Signer, Transport,
    TransportError, TransportErrorKind,
};

use crate::ledger::Send;
use crate::seams::Seam;
use crate::world::{Side, World};

/// How an endpoint behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    Good,
    /// 503 every other time.
    Flaky,
    /// 503 always.
    Down,
    /// Good, until it is gone for good.
    Gone,
    /// Takes long, sometimes longer than the deadline.
    Slow,
    /// Asks to be left alone for a while.
    Busy,
    /// Never answers, and the transport does not notice.
    Hung,
    /// Refuses some events for good.
    Picky,
    /// Answers in a way that the store refuses: for what came over the wire, or whatever is said of it.
    Odd,
    /// Good, but its row cannot be read.
    Unreadable,
    /// 503 the first time, then good: what wake-ups are measured with.
    Probe,
}

/// The status of an answer of which the store takes nothing, and the body of one that it takes in short.
const ODD: u16 = 599;
const ODD_BODY: &str = "odd";

pub(crate) fn is_unrecordable(record: &Record) -> bool {
    let outcome = record.attempt.as_ref().map(|it| &it.outcome);
    match outcome {
        Some(Outcome::Response { status, body, .. }) => *status == ODD || body == ODD_BODY,
        Some(Outcome::Failed(_)) | None => false,
    }
}

impl World {
    pub(crate) fn has_unreadable(&self, leases: &[Lease]) -> bool {
        let is_unreadable =
            |lease: &&Lease| self.state().manners.get(&lease.lane) == Some(&Manner::Unreadable);
        leases.iter().filter(is_unreadable).any(|lease| {
            let delivery = self.delivery(lease.delivery);
            delivery.is_some_and(|it| !it.status.is_final())
        })
    }
}

/// What a transport needs of a signature: signing is not what is tried here, and takes long in a debug build.
pub(crate) struct IdOnly;

impl Signer for IdOnly {
    fn sign(&self, request: &SignRequest<'_>, headers: &mut HeaderMap) -> Result<(), SignError> {
        let id = HeaderValue::from_str(request.id).unwrap();
        headers.insert("webhook-id", id);
        Ok(())
    }
}

/// A process's way to the endpoints.
pub(crate) struct SimTransport(pub(crate) Seam);

#[async_trait]
impl Transport for SimTransport {
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, TransportError> {
        let seam = &self.0;
        let deadline = request
            .extensions()
            .get::<RequestOptions>()
            .unwrap()
            .timeout;
        let call = Call::begin(seam, &request);
        let answer = tokio::select! {
            biased;
            answer = self.exchange(&call) => answer,
            () = seam.world.delay(deadline), if call.manner != Manner::Hung => Err(TransportErrorKind::Timeout),
        };
        call.answered(
            answer
                .as_ref()
                .map_or(0, |response| response.status().as_u16()),
        );
        answer.map_err(TransportError::new)
    }
}

impl SimTransport {
    async fn exchange(&self, call: &Call<'_>) -> Result<Response<Bytes>, TransportErrorKind> {
        let seam = &self.0;
        let lost = seam.pass("send", Side::Before, true).await;
        lost.map_err(|_| TransportErrorKind::Connect)?;
        let earlier = call.reached();
        let (status, time) = call.reply(earlier);
        seam.world.delay(time).await;
        let lost = seam.pass("send", Side::After, true).await;
        lost.map_err(|_| TransportErrorKind::Body)?;
        let mut response = Response::builder().status(status);
        if call.manner == Manner::Busy && status == 429 {
            response = response.header("retry-after", "4");
        }
        let is_odd = call.manner == Manner::Odd && status != ODD;
        let body = if is_odd { ODD_BODY } else { "" };
        Ok(response.body(Bytes::from_static(body.as_bytes())).unwrap())
    }
}

/// A request on its way.
struct Call<'a> {
    seam: &'a Seam,
    manner: Manner,
    index: usize,
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.seam.world.state().requests -= 1;
    }
}

impl<'a> Call<'a> {
    fn begin(seam: &'a Seam, request: &Request<Bytes>) -> Self {
        let event = request.headers()["webhook-id"]
            .to_str()
            .unwrap()
            .parse()
            .unwrap();
        let endpoint: Uuid = request.uri().path()[1..].parse().unwrap();
        seam.note(|| format!("sends {event} to {endpoint}"));
        seam.world.judge_order(event, endpoint);
        let mut state = seam.world.state();
        let started_at = state.now + seam.ahead;
        state.requests += 1;
        let index = state.ledger.sends.len();
        state.ledger.sends.push(Send {
            event,
            endpoint,
            started_at,
            incarnation: seam.incarnation,
            reached: false,
            answer: None,
        });
        Self {
            seam,
            manner: state.manners[&endpoint],
            index,
        }
    }

    /// The endpoint has it; answers how often it had it before.
    fn reached(&self) -> usize {
        let mut state = self.seam.world.state();
        let sends = &mut state.ledger.sends;
        let (event, endpoint) = (sends[self.index].event, sends[self.index].endpoint);
        let same = |send: &&Send| send.reached && send.event == event && send.endpoint == endpoint;
        let earlier = sends.iter().filter(same).count();
        sends[self.index].reached = true;
        earlier
    }

    fn answered(&self, status: u16) {
        self.seam.note(|| format!("is answered {status}"));
        self.seam.world.state().ledger.sends[self.index].answer = Some(status);
    }

    /// What the endpoint answers, and how long that takes.
    fn reply(&self, earlier: usize) -> (u16, Duration) {
        let world = &self.seam.world;
        let draw = world.draw();
        // In steps: so that some answers come together.
        let usual = Duration::from_millis(5) * u32::try_from(world.below(4)).unwrap();
        match self.manner {
            Manner::Flaky if draw < 0.5 => (503, usual),
            Manner::Down => (503, usual),
            Manner::Gone if draw < 0.1 => (410, usual),
            Manner::Slow => (200, world.duration_below(Duration::from_secs(7))),
            Manner::Busy if draw < 0.3 => (429, usual),
            Manner::Hung if draw < 0.5 => (200, Duration::from_secs(1_000)),
            Manner::Picky if draw < 0.3 => (400, usual),
            Manner::Odd if draw < 0.3 => (ODD, usual),
            Manner::Odd if draw < 0.6 => (503, usual),
            Manner::Probe if earlier == 0 => (503, Duration::ZERO),
            Manner::Probe => (200, Duration::ZERO),
            _ => (200, usual),
        }
    }
}

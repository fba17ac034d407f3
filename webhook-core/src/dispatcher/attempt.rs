//! One HTTP attempt at a delivery.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use http::header::{CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use tracing::{Instrument, Span};
use uuid::fmt::Hyphenated;

use super::lanes::{Observed, Place, Sign};
use super::repeats::Repeats;
use super::{Engine, spans};
use crate::breaker::Says;
use crate::delivery::{Attempt, EndReason, Outcome};
use crate::endpoint::{Endpoint, EndpointState, StateReason};
use crate::header_log::HeaderLog;
use crate::health::{BreakerState, Consequence, Finding};
use crate::queue::{Hold, Job, Lease, Settle};
use crate::retry::{Decision, Next, decide};
use crate::signing::SignRequest;
use crate::store::{Record, Work};
use crate::time::Timestamp;
use crate::trace::TraceParent;
use crate::transport::{RequestOptions, ResponseDetails, TransportError, TransportErrorKind};

/// How much longer than its deadline a transport may take before it is aborted.
const GRACE: Duration = Duration::from_secs(1);
/// Headers that we set, and three of the transport's: so the map need not grow.
const OWN_HEADERS: usize = 9;

/// A delivery that is ours for a time.
pub(super) struct Claim {
    pub(super) lease: Lease,
    pub(super) place: Place,
    /// Whether the row in the store is leased to it, too, or may be. Of use beside an index queue.
    pub(super) holds_row: bool,
    /// Its job, where an index queue has not heard of it.
    pub(super) unqueued: Option<Box<Unqueued>>,
}

/// A claimed delivery to attempt, and until when it is ours by our own clock.
pub(super) struct Task {
    pub(super) claim: Claim,
    pub(super) work: Work,
    pub(super) lease_ends: Timestamp,
}

/// A claimed job that an index queue has not heard of.
pub(super) struct Unqueued {
    pub(super) job: Job,
    /// When it was claimed, by the backend's clock and by ours: what is due is told in the backend's time.
    pub(super) claimed_at: Timestamp,
    pub(super) claimed_at_here: Timestamp,
}

/// How a claim ends.
#[allow(
    clippy::large_enum_variant,
    reason = "nearly all end with something to write"
)]
pub(super) enum Finished {
    /// With something to write.
    Recorded {
        claim: Claim,
        record: Record,
        work: Work,
        lease_ends: Timestamp,
    },
    /// With nothing to write.
    Settled(Claim, Settle),
    /// With nothing to write, because the endpoint takes nothing now: its lane is held.
    Held(Claim, Hold),
}

/// What ends a claim before anything is sent.
#[derive(Clone, Copy)]
enum Instead {
    /// The lease might not last: it goes back as it was.
    Unused,
    /// The endpoint takes nothing now.
    Paused,
    /// The delivery has come to its end.
    Ends(Next),
}

impl Engine {
    /// Ends a claim, also where something panics, plugged in by a host or ours. That is an attempt that failed through us:
    /// were nothing written of it, whoever claims the delivery next would run into the same, for ever.
    pub(super) async fn attempt(&self, task: Task) -> Finished {
        let began = self.clock.now();
        let made = AssertUnwindSafe(self.make_unless(&task)).catch_unwind();
        match made.await {
            Ok(Ok(record)) => task.recorded(record),
            Ok(Err(instead)) => task.without_attempt(instead),
            Err(_panic) => {
                let record = self.broken_off(&task, began);
                task.recorded(record)
            }
        }
    }

    async fn make_unless(&self, task: &Task) -> Result<Record, Instead> {
        if let Some(instead) = self.instead_of_attempt(task) {
            return Err(instead);
        }
        let Task { claim, work, .. } = task;
        let _under_way = self.meter.under_way();
        let span = self.attempt_span(&claim.lease, work);
        let made = self.make(claim, work, &span).instrument(span.clone());
        Ok(made.await)
    }

    /// The record of an attempt that ended in a panic.
    fn broken_off(&self, task: &Task, began: Timestamp) -> Record {
        let Task { claim, work, .. } = task;
        tracing::error!(
            delivery = %claim.lease.delivery,
            endpoint = %work.endpoint.id,
            "an attempt ended in a panic of the host's signer, of another extension or of the engine"
        );
        let now = self.clock.now();
        let attempt = Attempt {
            started_at: began,
            duration: now.since(began),
            first_byte: None,
            request_headers: HeaderLog::default(),
            outcome: Outcome::Failed(TransportErrorKind::Internal),
        };
        let timeout = self.timeout_of(&work.endpoint);
        self.judge(claim, work, attempt, timeout, now)
    }

    /// Sends the request, within its span.
    async fn make(&self, claim: &Claim, work: &Work, span: &Span) -> Record {
        let started_at = self.clock.now();
        let timeout = self.timeout_of(&work.endpoint);
        let hangs_from = started_at + self.hung_after(timeout);
        // A test says nothing of its lane.
        let counts = !work.event.is_test();
        let tenant = &work.endpoint.tenant;
        let under_way = counts.then(|| claim.place.attempt(tenant, started_at, hangs_from));
        let (request_headers, sent) = match self.request(work, span, started_at, timeout) {
            Ok(request) => (
                HeaderLog::from(request.headers()),
                self.send(request, timeout).await,
            ),
            Err(error) => (HeaderLog::default(), Err(error)),
        };
        let now = self.clock.now();
        let (outcome, first_byte) = match sent {
            Ok(response) => outcome_of(response, &work.endpoint),
            Err(error) => (Outcome::Failed(error.kind()), None),
        };
        let attempt = Attempt {
            started_at,
            duration: now.since(started_at),
            first_byte,
            request_headers,
            outcome,
        };
        spans::attempted(span, &attempt.outcome);
        drop(under_way);
        self.judge(claim, work, attempt, timeout, now)
    }

    /// What follows from an attempt for its delivery, its lane and its endpoint.
    fn judge(
        &self,
        claim: &Claim,
        work: &Work,
        attempt: Attempt,
        timeout: Duration,
        now: Timestamp,
    ) -> Record {
        let outcome = &attempt.outcome;
        let spread = if outcome.failure().is_some() {
            self.spread()
        } else {
            0.0
        };
        let decision = self.decide(outcome, work, now, spread);
        let says = Says::of(outcome);
        let observed = Observed {
            sign: sign_of(&decision, attempt.duration, self.hung_after(timeout)),
            says,
            is_probe: matches!(work.health.breaker, BreakerState::HalfOpen(_)),
            began: attempt.started_at,
            now,
        };
        let health = if work.event.is_test() {
            // It counts for nothing.
            Consequence::default()
        } else {
            let may_lead = self.may_lead(&work.endpoint);
            let finding = Finding {
                says,
                findings: claim.place.learn(observed, &work.endpoint, may_lead),
                attempts: work.attempts,
            };
            let policy = &self.config.health;
            policy.consequence(&work.health, finding, now, spread.abs())
        };
        let gone = decision.disable_endpoint.then_some(StateReason::Gone);
        let disable = gone.or(health.disable);
        Record {
            lease: claim.lease,
            attempt: Some(Arc::new(attempt)),
            next: decision.next,
            event: self.event_of(work, disable, health.change.as_ref(), now),
            disable,
            hold: decision.hold_lane,
            health: health.change,
        }
    }

    pub(super) fn timeout_of(&self, endpoint: &Endpoint) -> Duration {
        endpoint
            .settings
            .timeout
            .unwrap_or(self.config.request_timeout)
    }

    /// What ends a claim before anything is sent: a lease that might not last, an outcome that was refused
    /// before, an endpoint that takes nothing now, a delivery that is too old, an event that its filter does not
    /// want.
    fn instead_of_attempt(&self, task: &Task) -> Option<Instead> {
        let now = self.clock.now();
        let work = &task.work;
        if now + self.timeout_of(&work.endpoint) > task.lease_ends {
            Some(Instead::Unused)
        } else if let Some(next) = self.trouble.instead_of_attempt(task.claim.lease.delivery) {
            Some(Instead::Ends(next))
        } else if work.endpoint.state != EndpointState::Enabled {
            Some(Instead::Paused)
        } else if self.is_too_old(work) {
            Some(Instead::Ends(Next::Failed(EndReason::Expired)))
        } else if !work.event.is_test() && !work.endpoint.lets_through(&work.event.payload()) {
            Some(Instead::Ends(Next::Cancelled(EndReason::Filtered)))
        } else {
            None
        }
    }

    /// What waited for a paused or disabled endpoint is kept, and begins to grow old only when that is enabled: with
    /// the last change of the endpoint, to be simple. A change more often than that only keeps it longer.
    fn is_too_old(&self, work: &Work) -> bool {
        let since = work.first_due.max(work.endpoint.updated_at);
        work.loaded_at.since(since) > self.config.max_age
    }

    /// A delivery whose endpoint's secrets cannot be opened waits as if that were paused, so that the key can come
    /// back; and expires as others do.
    pub(super) fn without_key(&self, task: Task) -> Finished {
        let instead = self.instead_of_attempt(&task);
        task.without_attempt(instead.unwrap_or(Instead::Paused))
    }

    /// The signed request, to where the policy of now allows, whatever the transport. The endpoint's headers come
    /// first and ours last, so that ours stand.
    fn request(
        &self,
        work: &Work,
        span: &Span,
        now: Timestamp,
        timeout: Duration,
    ) -> Result<Request<Bytes>, TransportError> {
        let Work {
            event, endpoint, ..
        } = work;
        let allowed = self.policy.check_url(&endpoint.url);
        allowed.map_err(|reason| {
            TransportError::new(TransportErrorKind::Blocked).with_source(reason)
        })?;
        let custom = endpoint.settings.headers.as_map();
        let mut headers = HeaderMap::with_capacity(custom.len() + OWN_HEADERS);
        headers.extend(
            custom
                .iter()
                .map(|(name, value)| (name.clone(), value.clone())),
        );
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(USER_AGENT, self.config.user_agent.clone());
        // The place of this attempt, or else that of whoever enqueued the event.
        if let Some(parent) = self.place_of(span).or(event.traceparent) {
            headers.insert(TraceParent::HEADER, header_of(parent));
        }
        self.sign(work, now, &mut headers)?;
        let mut request = Request::new(event.body.clone());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = endpoint.url.uri().clone();
        *request.headers_mut() = headers;
        let options = RequestOptions::new(endpoint.url.clone())
            .timeout(timeout)
            .max_response_body(self.config.max_response_body);
        request.extensions_mut().insert(options);
        Ok(request)
    }

    fn sign(
        &self,
        Work {
            event, endpoint, ..
        }: &Work,
        now: Timestamp,
        headers: &mut HeaderMap,
    ) -> Result<(), TransportError> {
        let mut id = [0; Hyphenated::LENGTH];
        let id = event.id.hyphenated().encode_lower(&mut id);
        let mut live = endpoint.live_secrets(now);
        let signed = match (live.next(), live.next()) {
            // The rule: no rotation under way, nothing to collect.
            (Some(only), None) => {
                let request = SignRequest::new(id, now, &event.body, std::slice::from_ref(only));
                self.signer.sign(&request, headers)
            }
            _ => {
                let secrets: Vec<_> = endpoint.live_secrets(now).cloned().collect();
                self.signer
                    .sign(&SignRequest::new(id, now, &event.body, &secrets), headers)
            }
        };
        signed.map_err(|error| TransportError::new(TransportErrorKind::Internal).with_source(error))
    }

    /// Sends, whatever the transport does: one that panics or overstays its deadline has failed. Our own
    /// keeps its deadline, and is spared the second timer.
    async fn send(
        &self,
        request: Request<Bytes>,
        timeout: Duration,
    ) -> Result<Response<Bytes>, TransportError> {
        let sent = AssertUnwindSafe(self.transport.send(request)).catch_unwind();
        let sent = if self.config.transport_is_ours {
            Some(sent.await)
        } else {
            self.within(timeout + GRACE, sent).await
        };
        match sent {
            Some(Ok(sent)) => sent,
            Some(Err(_panic)) => {
                tracing::error!("the transport panicked");
                Err(TransportError::new(TransportErrorKind::Internal))
            }
            None => Err(TransportError::new(TransportErrorKind::Timeout)),
        }
    }

    fn decide(&self, outcome: &Outcome, work: &Work, now: Timestamp, spread: f64) -> Decision {
        let delays = work.endpoint.settings.retry_schedule.as_deref();
        let decision = decide(
            outcome,
            work.attempts + 1,
            work.excused,
            &self.config.retry,
            delays,
            now,
            spread,
        );
        if work.event.is_test() {
            decision.of_test()
        } else {
            decision
        }
    }

    /// After how much of its time an attempt is one that hangs: half, and never more than half of ours, however long
    /// its endpoint may take.
    fn hung_after(&self, timeout: Duration) -> Duration {
        timeout.min(self.config.request_timeout) / 2
    }

    /// How long the lane of an endpoint is held that turned out to take nothing now. Enabling it ends that.
    pub(super) const LANE_PAUSE: Duration = Duration::from_secs(60);
    /// When its delivery is due again: soon, once the lane is free.
    pub(super) const RECHECK: Duration = Duration::from_secs(1);
}

impl Unqueued {
    /// As it is pushed, when it is due in some time from `now_here`.
    pub(super) fn due_after(self, by: Duration, now_here: Timestamp, fence: i64) -> Job {
        Job {
            due: self.claimed_at + now_here.since(self.claimed_at_here) + by,
            fence,
            ..self.job
        }
    }
}

impl Task {
    /// Gives the claim back as it was.
    pub(super) fn unused(self) -> Finished {
        Finished::Settled(self.claim, Settle::Unused(Duration::ZERO))
    }

    fn without_attempt(self, instead: Instead) -> Finished {
        match instead {
            Instead::Unused => self.unused(),
            Instead::Paused => Finished::Held(self.claim, Hold::new(Engine::LANE_PAUSE)),
            Instead::Ends(next) => {
                let record = Record {
                    lease: self.claim.lease,
                    attempt: None,
                    next,
                    disable: None,
                    hold: None,
                    health: None,
                    event: None,
                };
                self.recorded(record)
            }
        }
    }

    fn recorded(self, record: Record) -> Finished {
        Finished::Recorded {
            claim: self.claim,
            record,
            work: self.work,
            lease_ends: self.lease_ends,
        }
    }
}

fn header_of(place: TraceParent) -> HeaderValue {
    HeaderValue::try_from(place.to_string()).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// What an attempt says of its lane. One that hung holds a slot as one that timed out does.
fn sign_of(decision: &Decision, took: Duration, hung_after: Duration) -> Sign {
    if took > hung_after {
        Sign::Hung
    } else if decision.slow_lane {
        Sign::Busy
    } else if decision.next == Next::Succeeded {
        Sign::Good
    } else {
        Sign::Bad
    }
}

/// The most bytes of a response's headers that are kept, however much of its body is: `Retry-After` is among them.
const MAX_HEADERS: usize = 16 * 1024;

/// What is kept of a response: nothing that it repeats of the endpoint's secrets.
fn outcome_of(response: Response<Bytes>, endpoint: &Endpoint) -> (Outcome, Option<Duration>) {
    let (mut parts, mut body) = response.into_parts();
    let details = parts
        .extensions
        .get()
        .copied()
        .unwrap_or_else(ResponseDetails::default);
    if let Some(repeats) = Repeats::of(endpoint) {
        repeats.hide_in_headers(&mut parts.headers);
        body = repeats.hide_in_body(body, details.truncated);
    }
    let (headers, headers_truncated) = HeaderLog::capped(&parts.headers, MAX_HEADERS);
    let outcome = Outcome::Response {
        status: parts.status.as_u16(),
        headers,
        body,
        truncated: details.truncated || headers_truncated,
    };
    (outcome, details.first_byte)
}

//! The `tracing` spans of the engine, and how a host's tracer ties them to traces.
//!
//! All spans have the target `webhook_core::trace`, so that hosts can select them apart from log lines. Unless somebody listens,
//! nothing is formatted and no attribute is computed. No span has a secret, a path, a query or any part of a payload in it.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use tracing::Span;
use tracing::field::{Empty, display};
use uuid::Uuid;

use super::Engine;
use crate::delivery::{Failure, Outcome};
use crate::event::NewEvent;
use crate::queue::Lease;
use crate::store::Work;
use crate::trace::TraceParent;

const TARGET: &str = "webhook_core::trace";
/// How many ids of a batch are told.
const MOST_IDS: usize = 20;

impl Engine {
    /// Begins the span of a call to enqueue. Where a tracer is attached, events of the same trace, or of none, belong to
    /// it from then on.
    pub(super) fn enqueue_span(&self, events: &mut [NewEvent]) -> Span {
        let Some(first) = events.first() else {
            return Span::none();
        };
        let span = self.span_in(first.parent(), || {
            tracing::info_span!(
                target: TARGET,
                "webhook.enqueue",
                "otel.kind" = "producer",
                "otel.status_code" = Empty,
                "webhook.tenant" = first.tenant_name(),
                "webhook.event.count" = events.len(),
                "webhook.event.id" = Empty,
                "error.type" = Empty,
            )
        });
        let Some(place) = self.place_of(&span) else {
            return span;
        };
        for event in events {
            event.follow(place);
        }
        span
    }

    /// Begins the span of an attempt, in the trace of its event.
    pub(super) fn attempt_span(&self, lease: &Lease, work: &Work) -> Span {
        let Work {
            event, endpoint, ..
        } = work;
        self.span_in(event.traceparent, || {
            tracing::info_span!(
                target: TARGET,
                "webhook.attempt",
                "otel.kind" = "client",
                "otel.status_code" = Empty,
                "webhook.tenant" = event.tenant.as_str(),
                "webhook.event.id" = %event.id,
                "webhook.event.type" = event.event_type.as_str(),
                "webhook.delivery.id" = %lease.delivery,
                "webhook.endpoint.id" = %endpoint.id,
                "webhook.attempt.number" = work.attempts.saturating_add(1),
                "webhook.attempt.outcome" = Empty,
                "http.request.method" = "POST",
                "http.response.status_code" = Empty,
                "server.address" = endpoint.url.host(),
                "server.port" = endpoint.url.port(),
                "error.type" = Empty,
            )
        })
    }

    /// Where a span stands in its trace, if a tracer is attached that knows.
    pub(super) fn place_of(&self, span: &Span) -> Option<TraceParent> {
        let propagation = self.propagation.as_ref()?;
        if span.is_disabled() {
            return None;
        }
        surviving(|| span.in_scope(|| propagation.current())).flatten()
    }

    /// Begins a span in a trace. If what it begins in belongs to that already, this is the nearer parent.
    fn span_in(&self, parent: Option<TraceParent>, begin: impl FnOnce() -> Span) -> Span {
        let (Some(propagation), Some(parent)) = (&self.propagation, parent) else {
            return begin();
        };
        let around = surviving(|| propagation.current()).flatten();
        if around.is_some_and(|around| around.trace_id() == parent.trace_id()) {
            return begin();
        }
        let (mut begin, mut span) = (Some(begin), None);
        surviving(|| {
            propagation.begin_in(parent, &mut || {
                span = begin.take().map(|begin| begin());
            });
        });
        // One that did not call back begins in no trace.
        span.or_else(|| begin.map(|begin| begin()))
            .unwrap_or_else(Span::none)
    }
}

/// What a host's propagation answers; nothing if it panics: that costs a place in a trace, and no event or delivery.
fn surviving<T>(ask: impl FnOnce() -> T) -> Option<T> {
    let answer = catch_unwind(AssertUnwindSafe(ask));
    answer
        .inspect_err(|_| tracing::error!("the propagation of traces panicked"))
        .ok()
}

/// Tells under which ids events were accepted, or why they were not.
pub(super) fn enqueued(span: &Span, accepted: Result<&[Uuid], &'static str>) {
    if span.is_disabled() {
        return;
    }
    match accepted {
        Ok(ids) => {
            span.record("webhook.event.id", display(Ids(ids)));
        }
        Err(reason) => {
            span.record("error.type", reason);
            span.record("otel.status_code", "ERROR");
        }
    }
}

/// Tells what an attempt produced.
pub(super) fn attempted(span: &Span, outcome: &Outcome) {
    if span.is_disabled() {
        return;
    }
    span.record("webhook.attempt.outcome", outcome.class().as_str());
    if let Outcome::Response { status, .. } = outcome {
        span.record("http.response.status_code", *status);
    }
    match outcome.failure() {
        None => return,
        Some(Failure::Status(status)) => span.record("error.type", display(status)),
        Some(Failure::Transport(kind)) => span.record("error.type", kind.as_str()),
    };
    span.record("otel.status_code", "ERROR");
}

/// Begins the span of a claim.
pub(super) fn claim(limit: usize) -> Span {
    tracing::debug_span!(
        target: TARGET,
        "webhook.claim",
        "webhook.claim.limit" = limit,
        "webhook.claim.count" = Empty,
    )
}

/// Tells how many jobs a claim took.
pub(super) fn claimed(span: &Span, count: usize) {
    span.record("webhook.claim.count", count);
}

/// Begins the span of what writes this many outcomes.
pub(super) fn record(count: usize) -> Span {
    tracing::debug_span!(target: TARGET, "webhook.record", "webhook.record.count" = count)
}

struct Ids<'a>(&'a [Uuid]);

impl fmt::Display for Ids<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, id) in self.0.iter().take(MOST_IDS).enumerate() {
            let comma = if place == 0 { "" } else { "," };
            write!(f, "{comma}{id}")?;
        }
        Ok(())
    }
}

//! The handles of the engine's [metrics](crate::metrics), and the code that counts with them.
//!
//! The engine looks up a handle once, when the dispatcher is built. Without a recorder a handle is empty, and costs next to
//! nothing.

use std::time::Duration;

use futures_util::future::join;
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, Unit};

use super::Engine;
use super::enqueue::{BatchError, EnqueueError};
use crate::delivery::{EndReason, Failure, FailureCause, Outcome};
use crate::health::BreakerChange;
use crate::metrics::{self as list, METRICS, Metric, MetricKind};
use crate::queue::Depth;
use crate::retry::Next;
use crate::store::{Record, Recorded, Vitals, Work};

/// How long the store and the queue may take to say how things are.
const PATIENCE: Duration = Duration::from_secs(2);

/// Handles for every metric of the list.
pub(crate) struct Meter {
    events_accepted: Counter,
    events_refused: Family<Counter>,
    enqueue_seconds: Histogram,
    attempts: Family<Counter>,
    attempt_seconds: Histogram,
    first_attempt_delay: Histogram,
    delivered_seconds: Histogram,
    deliveries_ended: Family<Counter>,
    dead_letters: Family<Counter>,
    fenced_writes: Counter,
    reclaimed_leases: Counter,
    unrecorded_outcomes: Counter,
    endpoints_disabled: Family<Counter>,
    breaker_transitions: Family<Counter>,
    queue_repairs: Family<Counter>,
    pub(super) store: Calls,
    pub(super) queue: Calls,
    in_flight: Gauge,
    gauges: Gauges,
}

/// What calls to a seam are measured with.
pub(super) struct Calls {
    errors: Family<Counter>,
    seconds: Family<Histogram>,
}

/// What is set when somebody asks.
struct Gauges {
    slots: Gauge,
    enqueues_waiting: Gauge,
    backlog: Gauge,
    parked: Gauge,
    leased: Gauge,
    due_lag: Gauge,
    breakers: Family<Gauge>,
    endpoints_failing: Gauge,
    pool_connections: Family<Gauge>,
    store_up: Gauge,
    queue_up: Gauge,
    audit_round: Gauge,
}

impl Meter {
    /// Looks the handles up in the recorder of now.
    pub(super) fn new() -> Self {
        metrics::with_recorder(|recorder| {
            for metric in METRICS {
                describe(recorder, metric);
            }
            Self::from(recorder)
        })
    }

    fn from(recorder: &dyn Recorder) -> Self {
        let counter = |metric| recorder.register_counter(&key(&metric, None), &METADATA);
        let gauge = |metric| recorder.register_gauge(&key(&metric, None), &METADATA);
        let histogram = |metric| recorder.register_histogram(&key(&metric, None), &METADATA);
        let counters =
            |metric| Family::of_all(metric, |it| recorder.register_counter(it, &METADATA));
        let gauges = |metric| Family::of_all(metric, |it| recorder.register_gauge(it, &METADATA));
        let histograms =
            |metric| Family::of_all(metric, |it| recorder.register_histogram(it, &METADATA));
        Self {
            events_accepted: counter(list::EVENTS_ACCEPTED),
            events_refused: counters(list::EVENTS_REFUSED),
            enqueue_seconds: histogram(list::ENQUEUE_SECONDS),
            attempts: counters(list::ATTEMPTS),
            attempt_seconds: histogram(list::ATTEMPT_SECONDS),
            first_attempt_delay: histogram(list::FIRST_ATTEMPT_DELAY),
            delivered_seconds: histogram(list::DELIVERED_SECONDS),
            deliveries_ended: counters(list::DELIVERIES_ENDED),
            dead_letters: counters(list::DEAD_LETTERS),
            fenced_writes: counter(list::FENCED_WRITES),
            reclaimed_leases: counter(list::RECLAIMED_LEASES),
            unrecorded_outcomes: counter(list::UNRECORDED_OUTCOMES),
            endpoints_disabled: counters(list::ENDPOINTS_DISABLED),
            breaker_transitions: counters(list::BREAKER_TRANSITIONS),
            queue_repairs: counters(list::QUEUE_REPAIRS),
            store: Calls {
                errors: counters(list::STORE_ERRORS),
                seconds: histograms(list::STORE_SECONDS),
            },
            queue: Calls {
                errors: counters(list::QUEUE_ERRORS),
                seconds: histograms(list::QUEUE_SECONDS),
            },
            in_flight: gauge(list::IN_FLIGHT),
            gauges: Gauges {
                slots: gauge(list::SLOTS),
                enqueues_waiting: gauge(list::ENQUEUES_WAITING),
                backlog: gauge(list::BACKLOG),
                parked: gauge(list::PARKED),
                leased: gauge(list::LEASED),
                due_lag: gauge(list::DUE_LAG),
                breakers: gauges(list::BREAKERS),
                endpoints_failing: gauge(list::ENDPOINTS_FAILING),
                pool_connections: gauges(list::POOL_CONNECTIONS),
                store_up: gauge(list::STORE_UP),
                queue_up: gauge(list::QUEUE_UP),
                audit_round: gauge(list::AUDIT_ROUND),
            },
        }
    }

    pub(super) fn accepted(&self, events: usize) {
        self.events_accepted.increment(events as u64);
    }

    /// A call to enqueue took so long, and failed with this.
    pub(super) fn enqueued(&self, took: Duration, refused: Option<&EnqueueError>) {
        self.enqueue_seconds.record(took);
        if let Some(error) = refused {
            self.events_refused.of(reason(error)).increment(1);
        }
    }

    /// The same of a batch.
    pub(super) fn batch_enqueued(&self, took: Duration, refused: Option<&BatchError>) {
        self.enqueue_seconds.record(took);
        if let Some(error) = refused {
            self.events_refused.of(batch_reason(error)).increment(1);
        }
    }

    /// A claim found leases that had ended.
    pub(super) fn reclaimed(&self, leases: usize) {
        self.reclaimed_leases.increment(leases as u64);
    }

    /// Jobs that an index queue should have known were pushed to it.
    pub(super) fn repaired(&self, cause: &str, jobs: usize) {
        self.queue_repairs.of(cause).increment(jobs as u64);
    }

    /// Deliveries of which no attempt is possible were given up: they cannot be read, or their endpoint is gone.
    pub(super) fn gave_up(&self, reason: EndReason, deliveries: usize) {
        let deliveries = deliveries as u64;
        if reason == EndReason::EndpointDeleted {
            self.deliveries_ended.of("cancelled").increment(deliveries);
            return;
        }
        self.deliveries_ended.of("failed").increment(deliveries);
        let cause = self.dead_letters.of(FailureCause::System.as_str());
        cause.increment(deliveries);
    }

    /// An attempt is under way as long as what this returns.
    pub(super) fn under_way(&self) -> UnderWay<'_> {
        self.in_flight.increment(1.0);
        UnderWay(&self.in_flight)
    }

    /// Counts what a write did.
    pub(super) fn recorded(
        &self,
        records: &[Record],
        recorded: &[Option<Recorded>],
        context: &[Work],
    ) {
        for ((record, recorded), work) in records.iter().zip(recorded).zip(context) {
            match recorded {
                None => self.unrecorded_outcomes.increment(1),
                Some(Recorded::Fenced) => self.fenced_writes.increment(1),
                // A test says nothing of how deliveries go.
                Some(_) if work.event.is_test() => {}
                Some(Recorded::Written) => {
                    self.delivery(record, work);
                    self.endpoint(record);
                }
                // Somebody else said what there is to say of the endpoint.
                Some(Recorded::Overtaken) => self.delivery(record, work),
            }
        }
    }

    fn delivery(&self, record: &Record, work: &Work) {
        if let Some(attempt) = &record.attempt {
            self.attempts
                .of(attempt.outcome.class().as_str())
                .increment(1);
            self.attempt_seconds.record(attempt.duration);
            if work.attempts == 0 {
                let delay = attempt.started_at.since(work.first_due);
                self.first_attempt_delay.record(delay);
            }
            if record.next == Next::Succeeded {
                let ended_at = attempt.started_at + attempt.duration;
                self.delivered_seconds
                    .record(ended_at.since(work.first_due));
            }
        }
        let status = match record.next {
            Next::RetryAfter(_) => return,
            Next::Succeeded => "succeeded",
            Next::Cancelled(_) => "cancelled",
            Next::Failed(reason) => {
                let outcome = record.attempt.as_ref().map(|attempt| &attempt.outcome);
                self.dead_letters
                    .of(cause(reason, outcome).as_str())
                    .increment(1);
                "failed"
            }
        };
        self.deliveries_ended.of(status).increment(1);
    }

    fn endpoint(&self, record: &Record) {
        if let Some(reason) = record.disable {
            self.endpoints_disabled.of(reason.as_str()).increment(1);
        }
        let state = match record.health.and_then(|change| change.breaker) {
            None => return,
            Some(BreakerChange::Opens { .. }) => "open",
            Some(BreakerChange::Closes { .. }) => "closed",
        };
        self.breaker_transitions.of(state).increment(1);
    }
}

impl Calls {
    /// Whether calls of this operation are timed.
    pub(super) fn times(&self, operation: &str) -> bool {
        self.seconds.labels.contains(&operation)
    }

    pub(super) fn took(&self, operation: &str, time: Duration) {
        self.seconds.of(operation).record(time);
    }

    pub(super) fn failed(&self, operation: &str) {
        self.errors.of(operation).increment(1);
    }
}

/// Lowers the gauge when dropped.
pub(super) struct UnderWay<'a>(&'a Gauge);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

impl Engine {
    /// Sets the gauges to how things are. What does not answer soon is not a number.
    pub(super) async fn sample(&self) {
        let gauges = &self.meter.gauges;
        let slots = self.running().upgrade();
        gauges
            .slots
            .set(slots.map_or(0, |_| self.config.max_in_flight) as f64);
        gauges.enqueues_waiting.set(self.intake.waiting() as f64);
        let audit_round = self.audit_round();
        gauges
            .audit_round
            .set(audit_round.map_or(f64::NAN, |it| it.as_secs_f64()));
        let depth = self.within(PATIENCE, self.queue.depth(self.clock.pinned()));
        let vitals = self.within(PATIENCE, self.store.vitals(self.clock.pinned()));
        let (depth, vitals) = join(depth, vitals).await;
        let (depth, vitals) = (depth.and_then(Result::ok), vitals.and_then(Result::ok));
        gauges.queue_up.set(f64::from(depth.is_some()));
        gauges.store_up.set(f64::from(vitals.is_some()));
        let lag = |depth: &Depth| {
            let due = depth.oldest_due.unwrap_or(self.clock.now());
            self.clock.now().since(due).as_secs_f64()
        };
        gauges.due_lag.set(depth.as_ref().map_or(f64::NAN, lag));
        gauges.set_depth(depth);
        gauges.set_vitals(vitals);
    }
}

impl Gauges {
    fn set_depth(&self, depth: Option<Depth>) {
        let count = |of: fn(&Depth) -> u64| depth.as_ref().map_or(f64::NAN, |it| of(it) as f64);
        self.backlog.set(count(|it| it.ready));
        self.parked.set(count(|it| it.parked));
        self.leased.set(count(|it| it.leased));
    }

    fn set_vitals(&self, vitals: Option<Vitals>) {
        let count = |of: fn(&Vitals) -> u64| vitals.as_ref().map_or(f64::NAN, |it| of(it) as f64);
        self.breakers.of("open").set(count(|it| it.breakers_open));
        self.breakers
            .of("half_open")
            .set(count(|it| it.breakers_half_open));
        self.endpoints_failing.set(count(|it| it.endpoints_failing));
        let Some(pool) = vitals.and_then(|vitals| vitals.pool) else {
            return;
        };
        self.pool_connections.of("idle").set(pool.idle);
        self.pool_connections.of("in_use").set(pool.in_use);
        self.pool_connections.of("max").set(pool.max);
    }
}

/// Whose fault a dead letter is, as [`Delivery::cause`](crate::Delivery::cause) says once it is stored.
fn cause(reason: EndReason, outcome: Option<&Outcome>) -> FailureCause {
    let failure = outcome.and_then(Outcome::failure);
    if reason == EndReason::Corrupt || failure.is_some_and(Failure::is_ours) {
        FailureCause::System
    } else {
        FailureCause::Endpoint
    }
}

/// The word of a metric and of a span for it.
pub(super) fn reason(error: &EnqueueError) -> &'static str {
    match error {
        EnqueueError::Invalid(_) => "invalid",
        EnqueueError::IdempotencyConflict { .. } => "conflict",
        EnqueueError::Overloaded => "overloaded",
        EnqueueError::Store(_) => "store",
    }
}

/// The word of a metric and of a span for it.
pub(super) fn batch_reason(error: &BatchError) -> &'static str {
    match error {
        BatchError::TooMany => "invalid",
        BatchError::Event { source, .. } => reason(source),
        BatchError::Store(_) => "store",
    }
}

/// A handle for each value of a metric's label.
struct Family<T> {
    labels: &'static [&'static str],
    handles: Vec<T>,
}

impl<T> Family<T> {
    fn of_all(metric: Metric, handle: impl Fn(&Key) -> T) -> Self {
        let labels = metric.label.map_or(&[][..], |label| label.values);
        let keys = labels.iter().map(|value| key(&metric, Some(value)));
        Self {
            labels,
            handles: keys.map(|key| handle(&key)).collect(),
        }
    }

    /// The one of this value, or else the last.
    fn of(&self, value: &str) -> &T {
        let place = self.labels.iter().position(|label| *label == value);
        &self.handles[place.unwrap_or(self.handles.len() - 1)]
    }
}

const METADATA: Metadata<'static> =
    Metadata::new("webhook_core", metrics::Level::INFO, Some("webhook_core"));

fn key(metric: &Metric, value: Option<&'static str>) -> Key {
    let label = metric.label.zip(value);
    let label = label.map(|(label, value)| metrics::Label::from_static_parts(label.name, value));
    Key::from_parts(metric.name, label.into_iter().collect::<Vec<_>>())
}

fn describe(recorder: &dyn Recorder, metric: &Metric) {
    let unit = (metric.unit() == "seconds").then_some(Unit::Seconds);
    let name = KeyName::from_const_str(metric.name);
    let help = metric.help.into();
    match metric.kind {
        MetricKind::Counter => recorder.describe_counter(name, unit, help),
        MetricKind::Gauge => recorder.describe_gauge(name, unit, help),
        MetricKind::Histogram(_) => recorder.describe_histogram(name, unit, help),
    }
}

//! What the engine measures: every metric with its type, label and meaning, in this one list.
//!
//! The engine reports to whatever recorder of the [`metrics`](https://docs.rs/metrics) facade the host has installed
//! **before** it builds its [`Dispatcher`](crate::Dispatcher): it looks its handles up then, once. Without a recorder
//! nothing is kept, and nothing is computed but what is counted anyway. Counters and histograms are of this process and
//! this dispatcher; gauges are as of the last [`Dispatcher::sample`](crate::Dispatcher::sample), which whoever
//! exposes them calls first. Those that say "of all" are of everything in the store, and the same in every process.
//!
//! No label has a URL, an id, a tenant or anything else in it that grows with use: [`Label::values`] are all there are.
//!
//! ```
//! use webhook_core::metrics::{ATTEMPTS, METRICS};
//!
//! assert!(METRICS.iter().any(|metric| metric.name == "webhook_events_accepted_total"));
//! assert!(ATTEMPTS.label.unwrap().values.contains(&"timeout"));
//! ```

/// One thing that is measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Metric {
    /// Its name, as Prometheus shows it.
    pub name: &'static str,
    /// What kind of number it is.
    pub kind: MetricKind,
    /// What tells its series apart.
    pub label: Option<Label>,
    /// What it says.
    pub help: &'static str,
}

/// What kind of number a metric is.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum MetricKind {
    /// It only grows, from 0 at the start of the process.
    Counter,
    /// It goes up and down.
    Gauge,
    /// How often values up to each of these bounds were seen.
    Histogram(&'static [f64]),
}

impl MetricKind {
    /// As Prometheus calls it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram(_) => "histogram",
        }
    }
}

/// What tells the series of a metric apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label {
    /// Its name.
    pub name: &'static str,
    /// All values that it has.
    pub values: &'static [&'static str],
}

impl Metric {
    /// What its values are in, as its name says.
    #[must_use]
    pub fn unit(&self) -> &'static str {
        let name = self.name.trim_end_matches("_total");
        if name.ends_with("_seconds") {
            "seconds"
        } else {
            "1"
        }
    }
}

/// Bounds for what takes from a millisecond to a minute: requests and statements.
const SHORT: MetricKind = MetricKind::Histogram(&[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0, 60.0,
]);
/// Bounds for what takes from milliseconds to days, if it is tried again and again.
const LONG: MetricKind = MetricKind::Histogram(&[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0,
    3_600.0, 14_400.0, 43_200.0, 86_400.0, 259_200.0,
]);

use MetricKind::{Counter, Gauge};

/// Each metric as a constant, and the list of them.
macro_rules! metrics {
    ($($constant:ident = $kind:ident $name:literal $({ $label:literal: $values:expr })? $help:literal;)*) => {
        $(
            #[doc = concat!("`", $name, "`: ", $help)]
            pub const $constant: Metric = Metric {
                name: $name,
                kind: $kind,
                label: metrics!(@label $({ $label: $values })?),
                help: $help,
            };
        )*

        /// All metrics of the engine.
        pub const METRICS: &[Metric] = &[$($constant),*];
    };
    (@label) => { None };
    (@label { $label:literal: $values:expr }) => {
        Some(Label { name: $label, values: $values })
    };
}

metrics! {
    EVENTS_ACCEPTED = Counter "webhook_events_accepted_total"
        "Events that were accepted, also in transactions of the host that were rolled back later.";
    EVENTS_REFUSED = Counter "webhook_events_refused_total" { "reason": &["invalid", "conflict", "overloaded", "store"] }
        "Calls to enqueue that failed: the event or batch is at fault, its idempotency key stands for another, too many wait, or the store failed.";
    ENQUEUE_SECONDS = SHORT "webhook_enqueue_seconds"
        "How long calls to enqueue took, waiting for a shared insert included.";
    ATTEMPTS = Counter "webhook_attempts_total" { "outcome": OUTCOMES }
        "Attempts that were recorded, by their answer: 2xx, 3xx, 4xx, 5xx, none in time, none for another reason.";
    ATTEMPT_SECONDS = SHORT "webhook_attempt_duration_seconds"
        "How long attempts took, whatever came of them.";
    FIRST_ATTEMPT_DELAY = LONG "webhook_first_attempt_delay_seconds"
        "From when a delivery first was due to the start of its first attempt.";
    DELIVERED_SECONDS = LONG "webhook_enqueue_to_delivered_seconds"
        "From when a delivery first was due, for most as its event was enqueued, to its success.";
    DELIVERIES_ENDED = Counter "webhook_deliveries_ended_total" { "status": &["succeeded", "failed", "cancelled"] }
        "Deliveries that ended where a worker decided it.";
    DEAD_LETTERS = Counter "webhook_dead_letters_total" { "cause": &["endpoint", "system"] }
        "Deliveries that were given up, by whose fault it is. Those of the system are the host's to look into.";
    FENCED_WRITES = Counter "webhook_fenced_writes_total"
        "Outcomes that the store refused because the claim was stale, or the delivery had ended meanwhile.";
    RECLAIMED_LEASES = Counter "webhook_reclaimed_leases_total"
        "Leases that ended before their claim was settled: whoever held them had died, hung or lost the backend. Claims of this process found them.";
    UNRECORDED_OUTCOMES = Counter "webhook_unrecorded_outcomes_total"
        "Outcomes that could not be written while they were of use: their deliveries are tried again.";
    ENDPOINTS_DISABLED = Counter "webhook_endpoints_disabled_total" { "reason": &["gone", "failing"] }
        "Endpoints that the engine disabled: they answered 410, or nothing but failures came from them for days.";
    BREAKER_TRANSITIONS = Counter "webhook_breaker_transitions_total" { "state": &["open", "closed"] }
        "Circuit breakers that opened, again or for the first time, and that closed.";
    QUEUE_REPAIRS = Counter "webhook_queue_repairs_total" { "cause": &["lost", "overdue", "failed_push"] }
        "Jobs pushed again to an index queue: it had lost what it held; they had been due for 10 s, as what a paused endpoint or a limit keeps is, too; or a push had failed, and the sweep repeats it.";
    STORE_ERRORS = Counter "webhook_store_errors_total" { "operation": STORE_OPERATIONS }
        "Calls to the store that failed; not those of people who waited in vain for their turn to look for something.";
    STORE_SECONDS = SHORT "webhook_store_call_seconds" { "operation": TIMED_STORE_OPERATIONS }
        "How long the store's calls for many deliveries at once took.";
    QUEUE_ERRORS = Counter "webhook_queue_errors_total" { "operation": QUEUE_OPERATIONS }
        "Calls to the queue that failed.";
    QUEUE_SECONDS = SHORT "webhook_queue_call_seconds" { "operation": TIMED_QUEUE_OPERATIONS }
        "How long the queue's calls for many jobs at once took.";
    IN_FLIGHT = Gauge "webhook_in_flight"
        "Attempts under way in this process.";
    SLOTS = Gauge "webhook_slots"
        "The most attempts at once in this process; 0 while it does not deliver.";
    ENQUEUES_WAITING = Gauge "webhook_enqueues_waiting"
        "Events in this process that wait for their insert.";
    BACKLOG = Gauge "webhook_backlog"
        "Deliveries of all that are due and not taken up; 10000 and more means at least so many. NaN while the queue is away.";
    PARKED = Gauge "webhook_parked"
        "Deliveries of all whose time has not come; 10000 and more means at least so many. NaN while the queue is away.";
    LEASED = Gauge "webhook_leased"
        "Deliveries of all that a process owns; 10000 and more means at least so many. NaN while the queue is away.";
    DUE_LAG = Gauge "webhook_due_lag_seconds"
        "For how long the lane that has waited longest could have been claimed from: what a hold, as of an open breaker, a rate, a cap or an ordered head keeps waiting is not late. NaN while the queue is away.";
    BREAKERS = Gauge "webhook_breakers" { "state": &["open", "half_open"] }
        "Endpoints of all that are left alone, or probed. NaN while the store is away.";
    ENDPOINTS_FAILING = Gauge "webhook_endpoints_failing"
        "Endpoints of all from which nothing but failures has come lately. NaN while the store is away.";
    POOL_CONNECTIONS = Gauge "webhook_pool_connections" { "state": &["idle", "in_use", "max"] }
        "Connections to the database of this process, and the most there may be.";
    STORE_UP = Gauge "webhook_store_up"
        "Whether the store answered this process, 1 or 0.";
    QUEUE_UP = Gauge "webhook_queue_up"
        "Whether the queue answered this process, 1 or 0.";
    AUDIT_ROUND = Gauge "webhook_audit_round_seconds"
        "How soon a job comes back that an index queue forgot without knowing it. NaN before the first round, and without such a queue.";
}

/// What came of an attempt, as `GET /stats` calls it.
const OUTCOMES: &[&str] = &[
    "succeeded",
    "redirect",
    "client_error",
    "server_error",
    "timeout",
    "unanswered",
];

/// The methods of [`Store`](crate::Store) and [`TxStore`](crate::TxStore) that can fail.
pub(crate) const STORE_OPERATIONS: &[&str] = &[
    "append_audit",
    "append_stats",
    "attempts",
    "audit",
    "backlog",
    "cancel_delivery",
    "cancel_replay",
    "delete_endpoint",
    "deliveries",
    "delivery",
    "endpoint",
    "endpoints",
    "erase_tenant",
    "event",
    "event_type",
    "event_types",
    "events",
    "fills",
    "health",
    "insert_endpoint",
    "insert_events",
    "insert_events_in",
    "insert_replay",
    "insert_test",
    "jobs",
    "load",
    "maintain",
    "overdue",
    "ping",
    "processes",
    "put_event_type",
    "put_fills",
    "put_process",
    "quarantine",
    "record",
    "recover_endpoint",
    "rekey",
    "remove_process",
    "replay",
    "replay_delivery",
    "replay_event",
    "replays",
    "scan_replay",
    "schemas",
    "schemas_in",
    "stats",
    "step_erasure",
    "step_replay",
    "unqueued",
    "update_endpoint",
    "vitals",
    "other",
];

/// The methods of [`Queue`](crate::Queue) that can fail.
pub(crate) const QUEUE_OPERATIONS: &[&str] = &[
    "claim", "depth", "extend", "hold", "parts", "push", "release", "settle",
];

/// Those whose time is worth a histogram: they are called as long as there is work.
const TIMED_STORE_OPERATIONS: &[&str] = &["insert_events", "load", "record"];
const TIMED_QUEUE_OPERATIONS: &[&str] = &["claim", "push", "settle"];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique_and_follow_the_conventions_of_prometheus() {
        let names: HashSet<_> = METRICS.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), METRICS.len());
        for Metric {
            name, kind, help, ..
        } in METRICS
        {
            assert!(name.starts_with("webhook_"), "{name}");
            let is_counter = *kind == MetricKind::Counter;
            assert_eq!(name.ends_with("_total"), is_counter, "{name}");
            let is_histogram = matches!(kind, MetricKind::Histogram(_));
            assert!(!is_histogram || name.ends_with("_seconds"), "{name}");
            assert!(help.ends_with('.'), "{name}");
        }
    }

    #[test]
    fn the_series_of_a_process_are_few() {
        let series = METRICS.iter().map(|metric| {
            let each = match metric.kind {
                MetricKind::Histogram(bounds) => bounds.len() + 3,
                _ => 1,
            };
            each * metric.label.map_or(1, |label| label.values.len())
        });
        assert!(series.sum::<usize>() < 500);
    }

    #[test]
    fn bounds_grow() {
        for metric in METRICS {
            if let MetricKind::Histogram(bounds) = metric.kind {
                assert!(bounds.is_sorted_by(|a, b| a < b), "{}", metric.name);
            }
        }
    }
}

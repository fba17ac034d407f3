//! What is logged: to stderr, as text or JSON.

use std::io::IsTerminal;

use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use webhook_delivery::{Notice, Outcome, Report};

use crate::settings::LogFormat;
use crate::traces::{self, Traces};

/// Starts logging, and tracing where traces go somewhere. The engine's spans are part of log lines only where the
/// filter names them.
pub(crate) fn start(filter: Targets, format: LogFormat, traces: Option<&Traces>) {
    let names_spans = filter.iter().any(|(target, _)| target == traces::TARGET);
    let filter = match names_spans {
        true => filter,
        false => filter.with_target(traces::TARGET, LevelFilter::OFF),
    };
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines = match format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    tracing_subscriber::registry()
        .with(traces.map(Traces::layer))
        .with(lines.with_filter(filter))
        .init();
}

/// Logs what was recorded of a delivery.
pub(crate) fn notice(notice: &Notice<'_>) {
    match notice {
        Notice::Delivered(report) => tracing::debug!(
            delivery = %report.delivery_id,
            event = %report.event.id,
            endpoint = %report.endpoint.id,
            attempt = report.attempt,
            "delivered"
        ),
        Notice::AttemptFailed(report) => tracing::info!(
            delivery = %report.delivery_id,
            event = %report.event.id,
            endpoint = %report.endpoint.id,
            attempt = report.attempt,
            failure = failure(report),
            "attempt failed"
        ),
        Notice::DeadLettered(report) => tracing::warn!(
            delivery = %report.delivery_id,
            event = %report.event.id,
            endpoint = %report.endpoint.id,
            attempt = report.attempt,
            failure = failure(report),
            "given up"
        ),
        Notice::EndpointDisabled { endpoint, reason } => {
            tracing::warn!(endpoint = %endpoint.id, ?reason, "endpoint disabled");
        }
        _ => {}
    }
}

fn failure(report: &Report<'_>) -> String {
    let failure = report.outcome.and_then(Outcome::failure);
    failure.map_or_else(String::new, |failure| failure.to_string())
}

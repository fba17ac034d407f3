//! `/dashboard/`: how it goes, and what needs a look.

use std::collections::BTreeMap;

use askama::Template;
use axum::Router;
use axum::response::Response;
use axum::routing::get;
use serde::Deserialize;
use uuid::Uuid;
use webhook_core::{
    BreakerState, Depth, EndpointStats, PageRequest, Process, Stats, StatsRange, Timestamp,
};

use super::chart::Chart;
use super::format::{maybe_span, number, percent, span};
use super::shell::{PageError, Shell, page};
use crate::caller::Caller;
use crate::extract::Query;
use crate::router::Api;
use crate::routes::endpoints::shown_url;

/// How many endpoints are looked at to find open breakers and names.
const LOOKED_AT: usize = 200;
const WORST: usize = 8;

pub(super) fn routes() -> Router<Api> {
    Router::new().route("/dashboard/", get(show))
}

/// How far back.
#[derive(Default, Deserialize)]
pub(super) struct Asked {
    range: Option<String>,
}

impl Asked {
    pub(super) fn range(&self) -> (&'static str, StatsRange) {
        match self.range.as_deref() {
            Some("1h") => ("1h", StatsRange::Hour),
            Some("7d") => ("7d", StatsRange::Week),
            _ => ("24h", StatsRange::Day),
        }
    }
}

#[derive(Template)]
#[template(path = "overview.html")]
struct Overview {
    shell: Shell,
    range: &'static str,
    figures: Vec<(&'static str, String)>,
    waiting: Option<Vec<(&'static str, String)>>,
    chart: Chart,
    worst: Vec<Row>,
    open: Vec<(Uuid, String)>,
    disabled: Vec<(Uuid, String)>,
    store: bool,
    queue: bool,
    /// For those who run the engine, if the store says so.
    processes: Option<Vec<Process>>,
}

struct Row {
    id: Uuid,
    url: String,
    success: String,
    failed: String,
    p95: String,
}

async fn show(
    shell: Shell,
    caller: Caller,
    Query(asked): Query<Asked>,
) -> Result<Response, PageError> {
    let (range, length) = asked.range();
    let stats = caller.stats(length, None).await?;
    let looked_at = PageRequest {
        before: None,
        limit: LOOKED_AT,
    };
    let endpoints = caller.endpoints().list(looked_at).await?.items;
    let ids: Vec<_> = endpoints.iter().map(|it| it.id).collect();
    let health = caller.endpoints().health(&ids).await?;
    let urls: BTreeMap<_, _> = endpoints
        .iter()
        .map(|it| (it.id, shown_url(&it.url)))
        .collect();
    let url_of = |id: &Uuid| urls.get(id).cloned().unwrap_or_else(|| id.to_string());
    let is_open = |id: &&Uuid| {
        health
            .get(id)
            .is_some_and(|it| it.breaker != BreakerState::Closed)
    };
    let open = ids.iter().filter(is_open).map(|id| (*id, url_of(id)));
    let disabled = endpoints
        .iter()
        .filter(|it| it.state == webhook_core::EndpointState::Disabled);
    let failing = stats
        .endpoints
        .iter()
        .filter(|it| it.counts.failed_attempts() > 0);
    Ok(page(&Overview {
        shell,
        range,
        figures: figures(&stats),
        waiting: waiting(&stats),
        chart: Chart::attempts(&stats),
        worst: failing
            .take(WORST)
            .map(|it| row(it, url_of(&it.id)))
            .collect(),
        open: open.collect(),
        disabled: disabled.map(|it| (it.id, url_of(&it.id))).collect(),
        store: caller.dispatcher().ping().await.is_ok(),
        queue: caller.dispatcher().ping_queue().await.is_ok(),
        processes: caller.processes().await,
    }))
}

pub(super) fn figures(stats: &Stats) -> Vec<(&'static str, String)> {
    let total = &stats.total;
    let per_second = |count: u64| {
        let seconds = stats.now.since(stats.since).as_secs_f64().max(1.0);
        format!("{} ({:.2}/s)", number(count), count as f64 / seconds)
    };
    let latency = |percentile| maybe_span(total.latency.percentile(percentile));
    vec![
        ("Accepted", per_second(total.accepted)),
        ("Delivered", per_second(total.delivered)),
        (
            "Success of attempts",
            percent(total.delivered, total.attempts()),
        ),
        ("Dead letters", number(total.dead_lettered)),
        ("Latency p50", latency(50)),
        ("Latency p95", latency(95)),
        ("Latency p99", latency(99)),
        (
            "Until delivered, p95",
            maybe_span(total.delay.percentile(95)),
        ),
    ]
}

fn waiting(stats: &Stats) -> Option<Vec<(&'static str, String)>> {
    let depth = stats.depth?;
    Some(vec![
        ("Due", up_to(depth.ready)),
        ("Oldest due", lateness(depth.oldest_due, stats.now)),
        ("For later", up_to(depth.parked)),
        ("In flight", up_to(depth.leased)),
    ])
}

/// A count that is broken off at [`Depth::MOST`].
pub(super) fn up_to(count: u64) -> String {
    let more = if count >= Depth::MOST { "+" } else { "" };
    format!("{}{more}", number(count))
}

pub(super) fn lateness(oldest_due: Option<Timestamp>, now: Timestamp) -> String {
    let late = oldest_due.filter(|due| *due < now);
    late.map_or("on time".to_owned(), |due| {
        format!("{} late", span(now.since(due)))
    })
}

fn row(stats: &EndpointStats, url: String) -> Row {
    let counts = &stats.counts;
    Row {
        id: stats.id,
        url,
        success: percent(counts.delivered, counts.attempts()),
        failed: number(counts.failed_attempts()),
        p95: maybe_span(counts.latency.percentile(95)),
    }
}

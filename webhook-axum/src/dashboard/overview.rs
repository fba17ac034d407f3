//! `/dashboard/`: how it goes, and what needs a look.

use std::time::Duration;

use askama::Template;
use axum::Router;
use axum::response::Response;
use axum::routing::get;
use serde::Deserialize;
use uuid::Uuid;
use webhook_core::{
    BreakerState, Depth, Endpoint, EndpointState, EndpointStats, ManageError, PageRequest, Process,
    Stats, StatsRange, Timestamp,
};

use super::chart::Chart;
use super::format::{maybe_span, number, percent, span};
use super::shell::{PageError, Shell, page};
use crate::caller::Caller;
use crate::extract::Query;
use crate::router::Api;
use crate::routes::endpoints::shown_url;
use crate::routes::probes::Readiness;

/// How many endpoints are looked at to find open breakers and names.
const LOOKED_AT: usize = 200;
const WORST: usize = 8;
/// From when on a delivery that is due is late enough to say so.
const LATE: Duration = Duration::from_secs(60);

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
    /// Sentences on what needs a look now.
    trouble: Vec<String>,
    figures: Vec<(&'static str, String)>,
    waiting: Option<Vec<(&'static str, String)>>,
    chart: Chart,
    worst: Vec<Row>,
    open: Vec<Open>,
    disabled: Vec<(Uuid, String)>,
    /// Whether these are all there are.
    is_complete: bool,
    store: bool,
    queue: bool,
    /// For those who run the engine, if the store says so.
    processes: Option<Vec<Process>>,
}

/// An endpoint that its breaker leaves alone.
struct Open {
    id: Uuid,
    url: String,
    breaker: &'static str,
    until: Option<Timestamp>,
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
    let newest = caller.endpoints().list(looked_at).await?;
    let (open, disabled) = resting(&caller, &newest.items, &stats).await?;
    let mut failing: Vec<_> = stats.endpoints.iter().collect();
    failing.retain(|it| it.counts.failed_attempts() > 0);
    failing.truncate(WORST);
    let mut worst = Vec::new();
    for it in failing {
        worst.push(row(it, name_of(&caller, &newest.items, it.id).await));
    }
    let there = Readiness::of(caller.dispatcher()).await;
    let processes = caller.processes().await;
    Ok(page(&Overview {
        shell,
        range,
        trouble: trouble(&there, &stats, processes.as_deref()),
        figures: figures(&stats),
        waiting: waiting(&stats),
        chart: Chart::attempts(&stats),
        worst,
        open,
        disabled,
        is_complete: newest.next.is_none(),
        store: there.store,
        queue: there.queue,
        processes,
    }))
}

/// The endpoints that get nothing because of their breakers, and those that are disabled: of the newest, and of those
/// that fail most, which are the ones to look for.
async fn resting(
    caller: &Caller,
    newest: &[Endpoint],
    stats: &Stats,
) -> Result<(Vec<Open>, Vec<(Uuid, String)>), ManageError> {
    let mut ids: Vec<_> = newest.iter().map(|it| it.id).collect();
    let others = stats.endpoints.iter().map(|it| it.id);
    let others: Vec<_> = others.filter(|it| !ids.contains(it)).collect();
    ids.extend(others);
    let health = caller.endpoints().health(&ids).await?;
    let mut open = Vec::new();
    for id in ids {
        let breaker = health.get(&id).map(|it| it.breaker);
        let until = match breaker {
            None | Some(BreakerState::Closed) => continue,
            Some(BreakerState::Open(trip)) => Some(trip.until),
            Some(BreakerState::HalfOpen(_)) => None,
        };
        open.push(Open {
            id,
            url: name_of(caller, newest, id).await,
            breaker: super::endpoints::breaker(health.get(&id)),
            until,
        });
    }
    let disabled = newest
        .iter()
        .filter(|it| it.state == EndpointState::Disabled);
    let disabled = disabled.map(|it| (it.id, shown_url(&it.url))).collect();
    Ok((open, disabled))
}

/// An endpoint's URL, or what is left of it.
async fn name_of(caller: &Caller, known: &[Endpoint], id: Uuid) -> String {
    if let Some(known) = known.iter().find(|it| it.id == id) {
        return shown_url(&known.url);
    }
    let found = caller.endpoints().get(id).await;
    found.map_or_else(|_| id.to_string(), |it| shown_url(&it.url))
}

/// What is wrong with the engine itself, and what that means.
fn trouble(there: &Readiness, stats: &Stats, processes: Option<&[Process]>) -> Vec<String> {
    let mut trouble = Vec::new();
    if !there.store {
        trouble.push("The store does not answer: no event is accepted, and none delivered.".into());
    }
    if !there.queue {
        trouble.push(
            "The queue does not answer: events are accepted, and delivered when it is back.".into(),
        );
    }
    if processes.is_some_and(<[_]>::is_empty) {
        trouble.push("No process delivers: events are accepted, and wait.".into());
    }
    let oldest = stats.depth.and_then(|depth| depth.oldest_due);
    let late = oldest.map_or(Duration::ZERO, |due| stats.now.since(due));
    if late >= LATE {
        let late = span(late);
        trouble.push(format!(
            "The oldest delivery that is due is {late} late: there are too few workers, or none."
        ));
    }
    trouble
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
        ("Due or held", up_to(depth.ready)),
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

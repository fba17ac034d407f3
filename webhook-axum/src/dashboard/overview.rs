//! `/dashboard/`: how things are, and what somebody should look at.

use std::time::Duration;

use askama::Template;
use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use serde::Deserialize;
use uuid::Uuid;
use webhook_core::{Depth, EndpointStats, PageRequest, Process, Stats, StatsRange, Timestamp};

use super::chart::Chart;
use super::format::{maybe_span, number, percent, span};
use super::names::Names;
use super::outage;
use super::resting::{Kind, Open};
use super::shell::{PageError, Shell, page};
use crate::caller::Caller;
use crate::extract::Query;
use crate::page::MAX_LIMIT;
use crate::router::Api;
use crate::routes::probes::Readiness;

const WORST: usize = 8;
/// From when on a delivery that is due is late enough to say so.
const LATE: Duration = Duration::from_secs(60);
/// How long a process may say nothing of itself before it is no longer counted: by then it has left out a beat.
const SILENT: Duration = Duration::from_secs(Process::BEAT.as_secs() * 3 / 2);

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
    open: Kind<Open>,
    disabled: Kind<(Uuid, String)>,
    /// How many endpoints were looked at for these, if those were not all.
    looked_at: Option<usize>,
    queue: bool,
    /// For those who run the engine, if the store says so.
    processes: Option<Vec<Alive>>,
}

/// A process, and for how long it has been silent if it should have been heard of since.
struct Alive {
    process: Process,
    silent: Option<String>,
}

struct Row {
    id: Uuid,
    url: String,
    success: String,
    failed: String,
    p95: String,
}

async fn show(
    State(api): State<Api>,
    shell: Shell,
    caller: Caller,
    Query(asked): Query<Asked>,
) -> Result<Response, PageError> {
    let there = Readiness::of(caller.dispatcher()).await;
    let away = |shell| outage::page(shell, &caller, &api.limits.outage, there.queue);
    if !there.store {
        return Ok(away(shell));
    }
    match overview(&api, &caller, &asked, shell.clone(), there.queue).await {
        // Where it answers others, it has too much to do for people.
        Err(error) if error.is_away() && !Readiness::of(caller.dispatcher()).await.store => {
            Ok(away(shell))
        }
        shown => {
            api.limits.outage.is_over();
            shown
        }
    }
}

async fn overview(
    api: &Api,
    caller: &Caller,
    asked: &Asked,
    shell: Shell,
    queue: bool,
) -> Result<Response, PageError> {
    let (range, length) = asked.range();
    let stats = caller.stats(length, None).await?;
    let newest = caller
        .endpoints()
        .list(PageRequest::first(MAX_LIMIT))
        .await?;
    let failing: Vec<_> = stats.endpoints.iter().map(|it| it.id).collect();
    let rounds = &api.limits.resting;
    let resting = rounds
        .and(caller, &newest.items, newest.next, &failing)
        .await?;
    let mut names = Names::default();
    names.add(&newest.items);
    let worst = worst(caller, &stats, &mut names).await;
    let processes = caller.processes().await;
    let processes = processes.map(|all| alive(all, caller.now()));
    Ok(page(&Overview {
        shell,
        range,
        trouble: trouble(queue, &stats, processes.as_deref()),
        figures: figures(&stats),
        waiting: waiting(&stats),
        chart: Chart::attempts(&stats),
        worst,
        open: resting.open(caller, &mut names).await,
        disabled: resting.disabled(),
        looked_at: resting.broken_off_at(),
        queue,
        processes,
    }))
}

/// The endpoints at which most attempts failed.
async fn worst(caller: &Caller, stats: &Stats, names: &mut Names) -> Vec<Row> {
    let failing = stats.endpoints.iter();
    let failing = failing.filter(|it| it.counts.failed_attempts() > 0);
    let worst: Vec<_> = failing.take(WORST).collect();
    names.add_each(caller, worst.iter().map(|it| it.id)).await;
    worst
        .into_iter()
        .map(|it| row(it, names.of_id(&it.id)))
        .collect()
}

fn alive(processes: Vec<Process>, now: Timestamp) -> Vec<Alive> {
    let silent = |it: &Process| Some(now.since(it.seen_at)).filter(|it| *it > SILENT);
    let with = |process| Alive {
        silent: silent(&process).map(span),
        process,
    };
    processes.into_iter().map(with).collect()
}

/// What is wrong with the engine itself, and what that means.
fn trouble(queue: bool, stats: &Stats, processes: Option<&[Alive]>) -> Vec<String> {
    let mut trouble = Vec::new();
    if !queue {
        trouble.push(
            "The queue does not answer: events are accepted, and delivered when it is back.".into(),
        );
    }
    if let Some(processes) = processes {
        trouble.extend(silence(processes));
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

/// What follows from processes of which nothing was heard.
fn silence(processes: &[Alive]) -> Option<String> {
    let silent = processes.iter().filter(|it| it.silent.is_some()).count();
    match processes.len() {
        all if all == silent => Some("No process delivers: events are accepted, and wait.".into()),
        _ if silent == 0 => None,
        all => Some(format!(
            "Nothing was heard lately of {silent} of {all} processes: what they had in flight waits for its leases to end."
        )),
    }
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

//! `/stats`: what happened in a range of time, and what waits.

use std::time::Duration;

use axum::Router;
use axum::routing::get;
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use webhook_core::{
    Backlog, EndpointStats, Histogram, ManageError, Process, Stats, StatsCounts, StatsRange,
    Tenant, Timestamp,
};

use crate::caller::Caller;
use crate::error::ApiError;
use crate::extract::Query;

pub(super) fn routes() -> Router<crate::router::Api> {
    Router::new().route("/stats", get(show))
}

/// What the OpenAPI document says of them.
#[cfg(feature = "openapi")]
#[derive(utoipa::OpenApi)]
#[openapi(paths(show))]
pub(super) struct Document;

/// What happened in a range of time, and what waits.
#[cfg_attr(feature = "openapi", utoipa::path(
    get, path = "/stats",
    params(ShowStats),
    responses((status = 200, body = StatsView)),
))]
async fn show(
    caller: Caller,
    Query(query): Query<ShowStats>,
) -> Result<axum::Json<StatsView>, ApiError> {
    let caller = caller.narrowed(query.tenant)?;
    let stats = caller.stats(query.range.into(), query.endpoint_id).await?;
    let mut view = StatsView::of(query.range, &stats);
    match query.endpoint_id {
        Some(id) => match caller.endpoints().backlog(id).await {
            Ok(backlog) => view.waits(&backlog),
            // Its past is told all the same.
            Err(ManageError::NotFound(_)) => {}
            Err(error) => return Err(error.into()),
        },
        None => {
            let processes = caller.processes().await;
            view.processes = processes.map(|all| all.iter().map(ProcessView::of).collect());
        }
    }
    Ok(axum::Json(view))
}

/// The query of `GET /stats`.
#[derive(Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams), into_params(parameter_in = Query))]
#[serde(deny_unknown_fields)]
struct ShowStats {
    #[serde(default)]
    range: Range,
    tenant: Option<Tenant>,
    endpoint_id: Option<Uuid>,
}

/// How far back, and in which steps: of a minute, ten minutes, an hour, or six.
#[derive(Clone, Copy, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
enum Range {
    #[serde(rename = "1h")]
    Hour,
    #[default]
    #[serde(rename = "24h")]
    Day,
    #[serde(rename = "7d")]
    Week,
    #[serde(rename = "30d")]
    Month,
}

impl From<Range> for StatsRange {
    fn from(range: Range) -> Self {
        match range {
            Range::Hour => Self::Hour,
            Range::Day => Self::Day,
            Range::Week => Self::Week,
            Range::Month => Self::Month,
        }
    }
}

/// The answer of `GET /stats`.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
struct StatsView {
    range: Range,
    since: Timestamp,
    now: Timestamp,
    step_seconds: u64,
    #[serde(flatten)]
    total: Figures,
    accepted_per_second: f64,
    delivered_per_second: f64,
    /// Deliveries that are due and not taken up; `null`, as `parked` and `oldest_due`, if the queue does not answer,
    /// for a tenant alone, and for an endpoint that is gone.
    backlog: Option<u64>,
    /// Deliveries whose time has not come: retries, and events for later.
    parked: Option<u64>,
    /// `null` if the queue does not answer, and for a tenant or an endpoint alone.
    in_flight: Option<u64>,
    /// When the next delivery that nobody has taken up is, or was, due; of one endpoint, also if that is held.
    oldest_due: Option<Timestamp>,
    /// Every step, oldest first. The last is not over.
    series: Vec<Point>,
    /// At most 100, most failed attempts first.
    endpoints: Vec<OfEndpoint>,
    /// How many endpoints there were attempts at.
    endpoint_count: usize,
    /// The processes that deliver, the newest first; `null` for a tenant or an endpoint alone.
    processes: Option<Vec<ProcessView>>,
}

/// A process that delivers, as it last said of itself.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
struct ProcessView {
    id: Uuid,
    role: String,
    version: String,
    started_at: Timestamp,
    seen_at: Timestamp,
    in_flight: u32,
    slots: u32,
}

#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
struct Point {
    at: Timestamp,
    #[serde(flatten)]
    figures: Figures,
}

#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = EndpointStats))]
struct OfEndpoint {
    endpoint_id: Uuid,
    tenant: Tenant,
    #[serde(flatten)]
    figures: Figures,
}

/// What was counted.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
struct Figures {
    accepted: u64,
    delivered: u64,
    /// Deliveries that were given up: dead letters.
    failed: u64,
    cancelled: u64,
    attempts: Attempts,
    /// Of attempts; `null` if there were none.
    latency_ms: Option<Percentiles>,
    /// From when a delivery first was due to its success; `null` if there was none.
    delay_ms: Option<Percentiles>,
}

/// Attempts by what came of them.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
struct Attempts {
    total: u64,
    succeeded: u64,
    redirects: u64,
    client_errors: u64,
    server_errors: u64,
    timeouts: u64,
    unanswered: u64,
}

/// In ms, within 6.25 %.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
struct Percentiles {
    p50: f64,
    p95: f64,
    p99: f64,
}

impl StatsView {
    fn of(range: Range, stats: &Stats) -> Self {
        let (total, depth) = (&stats.total, stats.depth);
        Self {
            range,
            since: stats.since,
            now: stats.now,
            step_seconds: stats.step.as_secs(),
            total: Figures::of(total),
            accepted_per_second: per_second(total.accepted, stats),
            delivered_per_second: per_second(total.delivered, stats),
            backlog: depth.map(|depth| depth.ready),
            parked: depth.map(|depth| depth.parked),
            in_flight: depth.map(|depth| depth.leased),
            oldest_due: depth.and_then(|depth| depth.oldest_due),
            series: stats.series.iter().map(Point::of).collect(),
            endpoints: stats.endpoints.iter().map(OfEndpoint::of).collect(),
            endpoint_count: stats.endpoint_count,
            processes: None,
        }
    }

    /// What waits for one endpoint alone, which its store knows.
    fn waits(&mut self, backlog: &Backlog) {
        self.backlog = Some(backlog.due);
        self.parked = Some(backlog.parked);
        self.oldest_due = backlog.oldest_due;
    }
}

impl ProcessView {
    fn of(process: &Process) -> Self {
        Self {
            id: process.id,
            role: process.role.clone(),
            version: process.version.clone(),
            started_at: process.started_at,
            seen_at: process.seen_at,
            in_flight: process.in_flight,
            slots: process.slots,
        }
    }
}

impl Point {
    fn of((at, counts): &(Timestamp, StatsCounts)) -> Self {
        Self {
            at: *at,
            figures: Figures::of(counts),
        }
    }
}

impl OfEndpoint {
    fn of(stats: &EndpointStats) -> Self {
        Self {
            endpoint_id: stats.id,
            tenant: stats.tenant.clone(),
            figures: Figures::of(&stats.counts),
        }
    }
}

impl Figures {
    fn of(counts: &StatsCounts) -> Self {
        Self {
            accepted: counts.accepted,
            delivered: counts.delivered,
            failed: counts.dead_lettered,
            cancelled: counts.cancelled,
            attempts: Attempts {
                total: counts.attempts(),
                succeeded: counts.delivered,
                redirects: counts.redirects,
                client_errors: counts.client_errors,
                server_errors: counts.server_errors,
                timeouts: counts.timeouts,
                unanswered: counts.unanswered,
            },
            latency_ms: Percentiles::of(&counts.latency),
            delay_ms: Percentiles::of(&counts.delay),
        }
    }
}

impl Percentiles {
    fn of(histogram: &Histogram) -> Option<Self> {
        let millis = |percent| histogram.percentile(percent).map(as_millis);
        Some(Self {
            p50: millis(50)?,
            p95: millis(95)?,
            p99: millis(99)?,
        })
    }
}

fn as_millis(time: Duration) -> f64 {
    time.as_micros() as f64 / 1_000.0
}

/// The mean over the range, which may have begun before there was anything.
fn per_second(count: u64, stats: &Stats) -> f64 {
    let seconds = stats.now.since(stats.since).as_secs_f64();
    count as f64 / seconds.max(1.0)
}

//! [`Metrics`]: the engine's metrics for Prometheus.

use std::time::Duration;

use axum::Router;
use axum::extract::{FromRef, State};
use axum::middleware::from_fn_with_state;
use axum::response::IntoResponse;
use axum::routing::get;
use http::header;
use metrics_exporter_prometheus::{
    Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};
use webhook_core::Dispatcher;
use webhook_core::metrics::{METRICS, MetricKind};

use crate::auth::{Auth, authenticate};
use crate::caller::Caller;
use crate::error::ApiError;
use crate::router::Api;

/// The [text format](https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format).
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// How often histograms are condensed if nobody reads them.
const UPKEEP: Duration = Duration::from_secs(5);

/// The metrics of this process, as Prometheus reads them. Cheap to clone; clones are the same.
///
/// Install them before the dispatcher is built, which looks up once where it reports to. All that the process reports
/// to the facade [`metrics`](https://docs.rs/metrics) is then in the answer of `GET /metrics`, the host's own included;
/// what the engine reports is listed in [`webhook_core::metrics`].
///
/// ```
/// use webhook_axum::{Auth, Metrics, router};
/// # use webhook_core::testing::ScriptedTransport;
/// use webhook_core::{Dispatcher, MemoryStore};
///
/// let metrics = Metrics::install()?;
/// let dispatcher = Dispatcher::builder(MemoryStore::new())
/// #   .transport(ScriptedTransport::default())
///     .build()?;
/// let auth = Auth::bearer("a-long-random-token")?;
/// let app: axum::Router = router(dispatcher.clone(), auth.clone())
///     .merge(metrics.router(dispatcher, auth));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A process that is not scraped for long keeps each value of its histograms until it is, unless
/// [`upkeep`](Self::upkeep) runs beside.
#[derive(Clone, Debug)]
pub struct Metrics(PrometheusHandle);

/// Another recorder of metrics is installed in this process.
#[derive(Debug, thiserror::Error)]
#[error("this process has a recorder of metrics already: use `Metrics::from` with its handle")]
pub struct InstallError(#[source] Box<dyn std::error::Error + Send + Sync>);

impl Metrics {
    /// Makes a recorder that knows the engine's histograms, and installs it for the whole process.
    ///
    /// # Errors
    /// When one is installed already.
    pub fn install() -> Result<Self, InstallError> {
        let (recorder, metrics) = Self::recorder();
        metrics::set_global_recorder(recorder).map_err(|error| InstallError(error.into()))?;
        Ok(metrics)
    }

    /// The same without installing it: for hosts that put others around it.
    ///
    /// # Panics
    /// Never: all that could be wrong is a histogram of the engine without bounds.
    #[must_use]
    pub fn recorder() -> (PrometheusRecorder, Self) {
        let builder = METRICS
            .iter()
            .fold(PrometheusBuilder::new(), |builder, metric| {
                let MetricKind::Histogram(bounds) = metric.kind else {
                    return builder;
                };
                let name = Matcher::Full(metric.name.to_owned());
                builder
                    .set_buckets_for_metric(name, bounds)
                    .expect("the engine's histograms have bounds")
            });
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        (recorder, Self(handle))
    }

    /// `GET /metrics`, for those whom `auth` lets in and who may see all tenants: to be merged with
    /// [`router`](crate::router()) or [`probes`](crate::probes). Each answer asks the store and the queue how things are,
    /// as [`Dispatcher::sample`] says.
    pub fn router<T>(&self, dispatcher: impl Into<Dispatcher>, auth: Auth) -> Router<T>
    where
        T: Clone + Send + Sync + 'static,
    {
        let api = Api::new(dispatcher, auth);
        let state = Measured {
            api: api.clone(),
            metrics: self.clone(),
        };
        Router::new()
            .route("/metrics", get(show))
            .route_layer(from_fn_with_state(api, authenticate))
            .method_not_allowed_fallback(|| async { ApiError::method_not_allowed() })
            .with_state(state)
    }

    /// Condenses what was measured, again and again, until dropped: for a task of the host's.
    pub async fn upkeep(self) {
        loop {
            tokio::time::sleep(UPKEEP).await;
            self.0.run_upkeep();
        }
    }

    /// All that was measured, in the text format of Prometheus. The gauges are as of the last
    /// [`Dispatcher::sample`].
    #[must_use]
    pub fn render(&self) -> String {
        self.0.render()
    }
}

/// For a recorder of the host's own. Its histograms are summaries, unless it was given
/// [their bounds](webhook_core::metrics::MetricKind::Histogram).
impl From<PrometheusHandle> for Metrics {
    fn from(handle: PrometheusHandle) -> Self {
        Self(handle)
    }
}

#[derive(Clone)]
struct Measured {
    api: Api,
    metrics: Metrics,
}

impl FromRef<Measured> for Api {
    fn from_ref(measured: &Measured) -> Self {
        measured.api.clone()
    }
}

/// What the OpenAPI document says of it.
#[cfg(feature = "openapi")]
#[derive(utoipa::OpenApi)]
#[openapi(paths(show))]
pub(crate) struct Document;

/// The metrics of the process that answers, in the text format of Prometheus.
///
/// For callers who may see all tenants, where the host serves them.
#[cfg_attr(feature = "openapi", utoipa::path(
    get, path = "/metrics",
    responses(
        (status = 200, body = String, content_type = "text/plain"),
        (status = 404, description = "The host serves no metrics here."),
    ),
))]
async fn show(
    caller: Caller,
    State(Measured { api, metrics }): State<Measured>,
) -> Result<impl IntoResponse, ApiError> {
    caller.host_wide()?;
    api.dispatcher.sample().await;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], metrics.render()))
}

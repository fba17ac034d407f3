//! Where traces go: to a collector, by OTLP over HTTP.

use opentelemetry::trace::{
    SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState, TracerProvider,
};
use opentelemetry::{Context, Key};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::{Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::registry::LookupSpan;
use url::Url;
use webhook_delivery::{Propagation, TraceParent};

use crate::serve::Result;

/// What the spans of the engine are told by.
pub(crate) const TARGET: &str = "webhook_core::trace";
const NAME: &str = "webhook-delivery";

/// Exports the engine's spans, from a thread of its own.
pub(crate) struct Traces(SdkTracerProvider);

impl Traces {
    /// To the collector at this URL. What else the variables of OpenTelemetry say holds as well: headers, timeout,
    /// sampler and the service's name.
    pub(crate) fn to(collector: &Url) -> Result<Self> {
        // The exporter's client takes what encrypts from the process.
        rustls::crypto::ring::default_provider()
            .install_default()
            .ok();
        let mut url = collector.clone();
        url.set_path(&format!("{}/v1/traces", url.path().trim_end_matches('/')));
        let exporter = SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(url)
            .build()
            .map_err(|error| format!("the export of traces: {error}"))?;
        let provider = SdkTracerProvider::builder()
            .with_resource(resource())
            .with_batch_exporter(exporter);
        Ok(Self(provider.build()))
    }

    /// What hears of the spans.
    pub(crate) fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        let layer = tracing_opentelemetry::layer()
            .with_tracer(self.0.tracer(NAME))
            .with_location(false)
            .with_threads(false)
            .with_target(false);
        layer.with_filter(Targets::new().with_target(TARGET, Level::INFO))
    }

    /// Exports what is left. Waits for that, but not for long.
    pub(crate) fn end(&self) {
        if let Err(error) = self.0.shutdown() {
            tracing::warn!(%error, "the last traces could not be exported");
        }
    }
}

/// What the spans are of: a service that has our name, unless a variable gives it another.
fn resource() -> Resource {
    let found = Resource::builder().build();
    let name = found.get(&Key::from_static_str("service.name"));
    if name.is_some_and(|name| !name.as_str().starts_with("unknown_service")) {
        return found;
    }
    Resource::builder().with_service_name(NAME).build()
}

/// The traces of `opentelemetry`: a span belongs to the context in which it begins.
pub(crate) struct Contexts;

impl Propagation for Contexts {
    fn begin_in(&self, parent: TraceParent, begin: &mut dyn FnMut()) {
        let parent = SpanContext::new(
            TraceId::from_bytes(parent.trace_id()),
            SpanId::from_bytes(parent.span_id()),
            TraceFlags::new(parent.flags()),
            true,
            TraceState::default(),
        );
        let _current = Context::new().with_remote_span_context(parent).attach();
        begin();
    }

    fn current(&self) -> Option<TraceParent> {
        let context = Context::current();
        let span = context.span();
        let place = span.span_context();
        let (trace, span) = (place.trace_id().to_bytes(), place.span_id().to_bytes());
        TraceParent::new(trace, span, place.trace_flags().to_u8()).ok()
    }
}

//! Spans to a collector, over OTLP.

use std::time::Duration;

use anyhow::Context;
use http::HeaderMap;
use opentelemetry::{
    propagation::{Extractor, TextMapPropagator},
    trace::TracerProvider,
};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::{Resource, propagation::TraceContextPropagator, trace::SdkTracerProvider};
use tracing::{Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::{Layer, filter::Targets, registry::LookupSpan};

/// How long one export may take; spans that a slow collector does not take are dropped, never
/// waited for.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// Sends the last spans when dropped.
pub(crate) struct Export(SdkTracerProvider);

impl Drop for Export {
    fn drop(&mut self) {
        if let Err(error) = self.0.shutdown_with_timeout(EXPORT_TIMEOUT) {
            tracing::warn!("the last spans did not reach the collector: {error}");
        }
    }
}

/// The layer that exports, and its guard. To be called inside the runtime.
///
/// # Errors
/// An endpoint that is no URI.
pub(crate) fn layer<S>(endpoint: &str) -> anyhow::Result<(impl Layer<S>, Export)>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .with_timeout(EXPORT_TIMEOUT)
        .build()
        .with_context(|| format!("--otlp-endpoint {endpoint}"))?;
    let resource = Resource::builder().with_service_name("preheat-server");
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(resource.build())
        .build();
    let layer = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("preheat-server"))
        // Ours alone: the exporter's own calls would make spans for ever.
        .with_filter(Targets::new().with_target("preheat_server", tracing::Level::INFO));
    Ok((layer, Export(provider)))
}

/// Makes a span part of the caller's trace.
pub(crate) fn adopt(span: &Span, headers: &HeaderMap) {
    let parent = TraceContextPropagator::new().extract(&Headers(headers));
    // Without a layer that exports there is nothing to set.
    let _ = span.set_parent(parent);
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}

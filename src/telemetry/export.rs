//! OTLP exporters of traces, metrics and, if asked for, logs. They exist if the standard `OTEL_*` variables name a receiver.
//!
//! A receiver that is slow, absent or does not answer has no effect on requests. Data that cannot be sent is dropped, dropped
//! spans are counted, and a replica that stops waits for the receiver at most [`SHUTDOWN_TIMEOUT`].

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use opentelemetry_otlp::{LogExporter, MetricExporter, SpanExporter};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::metrics::PeriodicReader;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider, SpanData};

use super::sampling;

/// Maximum time that a stopping replica waits for its receiver.
pub const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);

/// Number of spans of this process that could not be sent.
static DROPPED_SPANS: AtomicU64 = AtomicU64::new(0);

/// Returns the number of spans of this process that could not be sent so far.
#[must_use]
pub(super) fn dropped_spans() -> u64 {
    DROPPED_SPANS.load(Ordering::Relaxed)
}

/// Resource that names this service to the receiver.
pub(super) fn resource() -> Resource {
    Resource::builder().with_service_name("portcullis").build()
}

/// Exporter that counts the spans that it could not send.
#[derive(Debug)]
struct CountingExporter(SpanExporter);

impl opentelemetry_sdk::trace::SpanExporter for CountingExporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len() as u64;
        let sent = self.0.export(batch).await;
        if sent.is_err() {
            DROPPED_SPANS.fetch_add(spans, Ordering::Relaxed);
        }
        sent
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.0.set_resource(resource);
    }
}

/// Creates the exporter of traces.
///
/// # Errors
/// A sentence with the SDK's message, which names the invalid variable.
pub(super) fn traces(share: Option<f64>) -> Result<SdkTracerProvider, String> {
    let exporter = SpanExporter::builder().with_tonic().build();
    let exporter = exporter.map_err(|error| format!("OTEL_*: {error}"))?;
    let mut provider = SdkTracerProvider::builder()
        .with_batch_exporter(CountingExporter(exporter))
        .with_resource(resource());
    if let Some(share) = share {
        sampling::set_ratio(share);
        // A request that has a span is sampled already, by `should_sample` or by the caller.
        provider = provider.with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOn)));
    }
    Ok(provider.build())
}

/// Creates the exporter of metrics.
///
/// # Errors
/// As [`traces`].
pub(super) fn metrics() -> Result<PeriodicReader<MetricExporter>, String> {
    let exporter = MetricExporter::builder().with_tonic().build();
    let exporter = exporter.map_err(|error| format!("OTEL_*: {error}"))?;
    Ok(PeriodicReader::builder(exporter).build())
}

/// Creates the exporter of logs.
///
/// # Errors
/// As [`traces`].
pub(super) fn logs() -> Result<SdkLoggerProvider, String> {
    let exporter = LogExporter::builder().with_tonic().build();
    let exporter = exporter.map_err(|error| format!("OTEL_*: {error}"))?;
    Ok(SdkLoggerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(resource())
        .build())
}

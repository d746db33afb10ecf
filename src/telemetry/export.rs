//! What is sent by OTLP where the standard `OTEL_*` variables name a receiver: traces, metrics and, by choice, logs.
//!
//! A receiver that is slow, deaf or absent changes nothing for requests. What could not be sent is dropped and counted, and a
//! replica that ends waits for it no longer than [`FAREWELL`].

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use opentelemetry_otlp::{LogExporter, MetricExporter, SpanExporter};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::metrics::PeriodicReader;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider, SpanData};

use super::sampling;

/// How long a replica that ends waits for its receiver.
pub const FAREWELL: Duration = Duration::from_secs(1);

/// Spans of this process that could not be sent.
static LOST: AtomicU64 = AtomicU64::new(0);

/// How many spans of this process could not be sent so far.
#[must_use]
pub(super) fn dropped_spans() -> u64 {
    LOST.load(Ordering::Relaxed)
}

/// Who sends.
pub(super) fn resource() -> Resource {
    Resource::builder().with_service_name("portcullis").build()
}

/// Sends spans, and counts those that it could not send.
#[derive(Debug)]
struct Counting(SpanExporter);

impl opentelemetry_sdk::trace::SpanExporter for Counting {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len() as u64;
        let sent = self.0.export(batch).await;
        if sent.is_err() {
            LOST.fetch_add(spans, Ordering::Relaxed);
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

/// # Errors
/// A sentence: the SDK's own words name the variable that it does not like.
pub(super) fn traces(share: Option<f64>) -> Result<SdkTracerProvider, String> {
    let exporter = SpanExporter::builder().with_tonic().build();
    let exporter = exporter.map_err(|error| format!("OTEL_*: {error}"))?;
    let mut provider = SdkTracerProvider::builder()
        .with_batch_exporter(Counting(exporter))
        .with_resource(resource());
    if let Some(share) = share {
        sampling::trace(share);
        // What has a span by then has been chosen, by us or by the caller.
        provider = provider.with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOn)));
    }
    Ok(provider.build())
}

/// # Errors
/// As [`traces`].
pub(super) fn metrics() -> Result<PeriodicReader<MetricExporter>, String> {
    let exporter = MetricExporter::builder().with_tonic().build();
    let exporter = exporter.map_err(|error| format!("OTEL_*: {error}"))?;
    Ok(PeriodicReader::builder(exporter).build())
}

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

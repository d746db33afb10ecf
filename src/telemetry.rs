//! Logs, traces and metrics, behind one guard that flushes when it is dropped.
//!
//! Logs go to standard output, a line each. Metrics belong to an [`App`](crate::app::App) and are read from `/metrics`. What is
//! sent by OTLP besides stands in `export`.

mod export;
mod log_limiter;
mod metrics;
mod sampling;

use std::collections::HashMap;
use std::io::IsTerminal;

use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{TraceContextExt, TracerProvider};
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::level_filters::LevelFilter;
use tracing::{Span, error, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::filter::{FilterExt, Targets, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

pub use export::SHUTDOWN_TIMEOUT;
pub use log_limiter::LogLimiter;
pub use metrics::{Act, Metrics, NAMES};

use crate::config::{LogFormat, TelemetryConfig};

/// The headers in which callers and called name their spans (W3C Trace Context).
const PARENT: &str = "traceparent";
const STATE: &str = "tracestate";
/// The target of spans. They are for traces; a log line carries what it needs itself.
const SPANS: &str = "portcullis::trace";

/// Flushes what is left when it is dropped.
#[derive(Debug)]
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
    logs: Option<SdkLoggerProvider>,
}

impl Telemetry {
    /// Sets up logs for a command: its audit events and what went wrong, as JSON on standard error. What it was asked for it
    /// prints itself.
    pub fn for_command() {
        let lines = tracing_subscriber::fmt()
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .with_writer(std::io::stderr);
        let filter = Targets::new()
            .with_target("portcullis", LevelFilter::WARN)
            .with_target("portcullis::cli::user", LevelFilter::INFO);
        lines
            .with_max_level(LevelFilter::INFO)
            .finish()
            .with(filter)
            .init();
        report_panics();
    }

    /// Sets up logs and traces for the whole process. Call it once, inside the runtime.
    ///
    /// # Errors
    /// A sentence where the exporter of traces cannot be made.
    pub fn start(config: &TelemetryConfig) -> Result<Self, String> {
        let filter: Targets = config.filter.parse().unwrap_or_default();
        #[expect(
            clippy::redundant_closure_for_method_calls,
            reason = "the method's lifetime does not fit where the filter is used"
        )]
        let events = || {
            let filter = filter.clone();
            filter.and(filter_fn(|metadata| metadata.is_event()))
        };
        let lines: Box<dyn Layer<Registry> + Send + Sync> = match config.format {
            LogFormat::Json => tracing_subscriber::fmt::layer()
                .json()
                .flatten_event(true)
                .with_current_span(false)
                .with_span_list(false)
                .boxed(),
            LogFormat::Text => {
                let lines = tracing_subscriber::fmt::layer().with_target(false);
                // Colours are for people; in a file they would be noise.
                if std::io::stdout().is_terminal() {
                    lines.boxed()
                } else {
                    lines.with_ansi(false).boxed()
                }
            }
        };
        let traces = config
            .exports
            .traces
            .then(|| export::traces(config.exports.traced_share));
        let traces = traces.transpose()?;
        let logs = config.exports.logs.then(export::logs).transpose()?;
        let mut layers = vec![lines.with_filter(events()).boxed()];
        if let Some(provider) = &logs {
            // What the exporter itself says must not go through it.
            let ours = Targets::new().with_target("portcullis", LevelFilter::TRACE);
            let sent = OpenTelemetryTracingBridge::new(provider).with_filter(events().and(ours));
            layers.push(sent.boxed());
        }
        // Only where it is wanted: a layer that is not there would let spans be made for nobody.
        if let Some(provider) = &traces {
            let layer = tracing_opentelemetry::layer()
                .with_tracer(provider.tracer("portcullis"))
                .with_location(false)
                .with_threads(false);
            let spans = Targets::new().with_target(SPANS, LevelFilter::INFO);
            layers.push(layer.with_filter(spans).boxed());
        }
        tracing_subscriber::registry().with(layers).init();
        report_panics();
        Ok(Self { traces, logs })
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        let traces = self
            .traces
            .take()
            .map(|it| it.shutdown_with_timeout(SHUTDOWN_TIMEOUT));
        if let Some(Err(failure)) = traces {
            error!(event = "traces_lost", %failure, "the last traces could not be sent");
        }
        if let Some(logs) = self.logs.take() {
            // They were on standard output too.
            logs.shutdown_with_timeout(SHUTDOWN_TIMEOUT).ok();
        }
    }
}

/// Says where, and not what: the message of a panic may hold anything.
fn report_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string);
        error!(event = "panic", location, "a fault of the service");
    }));
}

/// The span of a request: a child of the caller's, where that names itself in the request's headers.
#[must_use]
pub fn request_span<'a>(
    header: impl Fn(&str) -> Option<&'a str>,
    method: &'static str,
    route: &str,
) -> Span {
    let parent = header(PARENT).map(|parent| {
        TraceContextPropagator::new().extract(&Caller {
            parent: Some(parent),
            state: header(STATE),
        })
    });
    let parent = parent.filter(|parent| parent.span().span_context().is_valid());
    if parent.is_none() && !sampling::should_sample() {
        return Span::none();
    }
    let span = info_span!(
        target: "portcullis::trace",
        "request",
        otel.name = format_args!("{method} {route}"),
        otel.kind = "server",
        otel.status_code = tracing::field::Empty,
        http.request.method = method,
        http.route = route,
        http.response.status_code = tracing::field::Empty,
    );
    if let Some(parent) = parent
        && !span.is_disabled()
    {
        // Fails only where traces are not exported; then there is no parent to set.
        span.set_parent(parent).ok();
    }
    span
}

/// The trace that a span belongs to, where there is one.
#[must_use]
pub fn trace_id(span: &Span) -> Option<String> {
    if span.is_disabled() {
        return None;
    }
    let context = span.context();
    let context = context.span().span_context().clone();
    context.is_valid().then(|| context.trace_id().to_string())
}

/// What names a span to others.
#[must_use]
pub fn traceparent(span: &Span) -> Option<String> {
    if span.is_disabled() {
        return None;
    }
    let context = span.context();
    if !context.span().span_context().is_valid() {
        return None;
    }
    let mut carrier = HashMap::new();
    TraceContextPropagator::new().inject_context(&context, &mut carrier);
    carrier.remove(PARENT)
}

/// How a caller names himself.
struct Caller<'a> {
    parent: Option<&'a str>,
    state: Option<&'a str>,
}

impl Extractor for Caller<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        match name {
            PARENT => self.parent,
            STATE => self.state,
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec![PARENT, STATE]
    }
}

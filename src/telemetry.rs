//! Logs, traces and metrics, behind one guard that flushes when it is dropped.
//!
//! Logs go to standard output, one line each, and audit events also to the file `AUDIT_LOG`, if it is set (module `output`).
//! Metrics belong to an [`App`](crate::app::App) and are read from `/metrics`. Module `export` has the OTLP exporters.

mod console;
mod export;
mod log_limiter;
mod metrics;
mod output;
mod sampling;

use std::collections::HashMap;
use std::io::{self, IsTerminal};
use std::path::Path;
use std::time::Duration;

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
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

pub use console::{print, print_listing, report_early_panics, say};
pub use export::SHUTDOWN_TIMEOUT;
pub use log_limiter::LogLimiter;
pub use metrics::{Act, Metrics, NAMES};
pub use output::AUDIT;

use self::output::Output;
use crate::config::{LogFormat, TelemetryConfig};

/// Headers that carry the span of a caller (W3C Trace Context).
const PARENT: &str = "traceparent";
const STATE: &str = "tracestate";
/// Target of spans. Spans are for traces only; a log line has all its members itself.
const SPANS: &str = "portcullis::trace";

/// Layer that writes log lines.
type Lines = Box<dyn Layer<Registry> + Send + Sync>;

/// Guard of the exporters and the log; flushes them when it is dropped.
#[derive(Debug)]
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
    logs: Option<SdkLoggerProvider>,
}

impl Telemetry {
    /// Sets up logs for a command: its audit events and its errors, as JSON on standard error, and its audit events also in
    /// `AUDIT_LOG`. The command itself prints its result.
    ///
    /// # Errors
    /// A sentence, if `AUDIT_LOG` cannot be opened.
    pub fn for_command(config: &TelemetryConfig) -> Result<Self, String> {
        let filter = Targets::new()
            .with_target("portcullis", LevelFilter::WARN)
            .with_target(AUDIT, LevelFilter::INFO);
        let lines = json_lines(|| console::StderrWriter).with_filter(filter);
        let mut layers = vec![lines.boxed()];
        layers.extend(audit_log(config)?);
        tracing_subscriber::registry().with(layers).init();
        report_panics();
        Ok(Self {
            traces: None,
            logs: None,
        })
    }

    /// Waits until the audit events of a command are in `AUDIT_LOG`, if it is set. Returns `false` if some could not be written.
    #[must_use]
    pub fn are_audit_events_kept(&self) -> bool {
        let lost = output::close(output::FLUSH_TIMEOUT);
        let dropped = output::counts()
            .iter()
            .any(|(_, counts)| counts.is_some_and(|counts| counts.dropped_audit > 0));
        lost == 0 && !dropped
    }

    /// Sets up logs and traces for the process. Call it once, inside the runtime.
    ///
    /// # Errors
    /// A sentence, if an exporter cannot be created or `AUDIT_LOG` cannot be opened.
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
        let audit_log = audit_log(config)?;
        let output = Output::standard_output()?;
        let lines = match config.format {
            LogFormat::Json => json_lines(output),
            LogFormat::Text => tracing_subscriber::fmt::layer()
                .with_target(false)
                // Colours only on a terminal: in a file they would be noise.
                .with_ansi(io::stdout().is_terminal())
                .log_internal_errors(false)
                .with_writer(output)
                .boxed(),
        };
        let traces = config
            .exports
            .traces
            .then(|| export::traces(config.exports.traced_share));
        let traces = traces.transpose()?;
        let logs = config.exports.logs.then(export::logs).transpose()?;
        let mut layers = vec![lines.with_filter(events()).boxed()];
        layers.extend(audit_log);
        if let Some(provider) = &logs {
            // The exporter's own log lines must not go through the exporter.
            let ours = Targets::new().with_target("portcullis", LevelFilter::TRACE);
            let sent = OpenTelemetryTracingBridge::new(provider).with_filter(events().and(ours));
            layers.push(sent.boxed());
        }
        // Only if traces are exported: with this layer, spans are created for every request.
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
            // A failure is ignored: the same lines are on standard output.
            logs.shutdown_with_timeout(SHUTDOWN_TIMEOUT).ok();
        }
        close_logs(output::FLUSH_TIMEOUT);
    }
}

/// Creates the layer that writes events as lines of JSON.
fn json_lines<W>(writer: W) -> Lines
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        // Internal errors would go to standard error and block if its reader is stuck.
        .log_internal_errors(false)
        .with_writer(writer)
        .boxed()
}

/// Creates the layer that writes audit events to the file `AUDIT_LOG`, if it is set, regardless of `LOG_FILTER`.
fn audit_log(config: &TelemetryConfig) -> Result<Option<Lines>, String> {
    let Some(path) = &config.audit_log else {
        return Ok(None);
    };
    let filter = Targets::new().with_target(AUDIT, LevelFilter::TRACE);
    let lines = json_lines(Output::audit_log(path)?).with_filter(filter);
    Ok(Some(lines.boxed()))
}

/// Writes the remaining log lines, and waits for `timeout` if an output is blocked. Reports on standard error how many lines
/// were lost.
pub fn close_logs(timeout: Duration) {
    let lost = output::close(timeout);
    if lost > 0 {
        let lost =
            format!("portcullis: the log has lost {lost} lines, which were not written in time\n");
        console::say_within(Duration::ZERO, lost);
    }
}

/// Checks that `AUDIT_LOG` can be opened, without creating it.
///
/// # Errors
/// The reason, if it cannot.
pub fn check_audit_log(path: &Path) -> io::Result<()> {
    output::check_audit_log(path)
}

/// Logs the location of a panic, but not its message, which may contain secrets.
fn report_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string);
        error!(event = "panic", location, "a fault of the service");
    }));
}

/// Creates the span of a request: a child of the caller's span, if the request's headers name one.
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
        // Fails only if traces are not exported; then no parent is needed.
        span.set_parent(parent).ok();
    }
    span
}

/// Returns the trace id of a span, if the span is traced.
#[must_use]
pub fn trace_id(span: &Span) -> Option<String> {
    if span.is_disabled() {
        return None;
    }
    let context = span.context();
    let context = context.span().span_context().clone();
    context.is_valid().then(|| context.trace_id().to_string())
}

/// Returns the `traceparent` header of a span, if the span is traced.
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

/// Trace context headers of a caller.
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

//! Logs, and what is sent by OTLP.

use std::path::PathBuf;

use clap::Args;

use super::environment::exports;
use super::report::Report;
use super::values::Given;

/// As written.
#[derive(Debug, Args)]
#[command(next_help_heading = "Telemetry")]
pub(super) struct TelemetrySettings {
    /// What is logged, as a filter of `tracing`: error, warn, info, debug, or per module
    #[arg(long, env = "LOG", default_value = "info", value_name = "FILTER")]
    log: Given<String>,

    /// How log lines are written: json, or text for people
    #[arg(
        long,
        env = "LOG_FORMAT",
        default_value = "json",
        value_name = "json|text"
    )]
    log_format: Given<LogFormat>,

    /// File to which audit events are appended as lines of JSON, besides standard output and whatever LOG leaves out; it is
    /// made where there is none, and opened anew when it was renamed away
    #[arg(long, env = "AUDIT_LOG", value_name = "FILE")]
    audit_log: Option<Given<PathBuf>>,
}

/// Logs, and what is sent by OTLP.
#[derive(Debug, Clone)]
pub struct TelemetryConfig {
    /// A filter of `tracing`.
    pub filter: String,
    /// How lines are written.
    pub format: LogFormat,
    /// The file of audit events.
    pub audit_log: Option<PathBuf>,
    /// What is sent by OTLP.
    pub exports: Exports,
}

/// What the standard variables ask to be sent by OTLP.
#[derive(Debug, Clone, Copy, Default)]
pub struct Exports {
    /// Traces.
    pub traces: bool,
    /// The share of requests that are traced where nobody has decided it for us, from 0 to 1; `None` leaves that to the SDK.
    pub traced_share: Option<f64>,
    /// Metrics, beside `/metrics`.
    pub metrics: bool,
    /// Logs, beside standard output.
    pub logs: bool,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

impl TelemetrySettings {
    pub(super) fn check(self, report: &mut Report) -> TelemetryConfig {
        TelemetryConfig {
            filter: filter(report, self.log),
            format: report
                .value("LOG_FORMAT", "json or text", self.log_format)
                .unwrap_or(LogFormat::Json),
            audit_log: self
                .audit_log
                .and_then(Given::value)
                .filter(|path| !path.as_os_str().is_empty()),
            exports: exports(),
        }
    }
}

fn filter(report: &mut Report, given: Given<String>) -> String {
    let filter = given.value().unwrap_or_default();
    if filter
        .parse::<tracing_subscriber::filter::Targets>()
        .is_err()
    {
        report.mistake(
            "LOG",
            "must be a filter like info, or info,portcullis::store=debug",
        );
    }
    filter
}

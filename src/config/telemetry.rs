//! Logs and OTLP exports.

use std::path::PathBuf;

use clap::Args;

use super::environment::exports;
use super::errors::ErrorCollector;
use super::values::Parsed;

/// Options of this group, before they are checked.
#[derive(Debug, Args)]
#[command(next_help_heading = "Telemetry")]
pub(super) struct TelemetrySettings {
    /// Filter of log lines, in the syntax of `tracing`: error, warn, info, debug, or one per module
    #[arg(
        long,
        env = "LOG_FILTER",
        default_value = "info",
        value_name = "FILTER"
    )]
    log_filter: Parsed<String>,

    /// Format of log lines: json, or text for people
    #[arg(
        long,
        env = "LOG_FORMAT",
        default_value = "json",
        value_name = "json|text"
    )]
    log_format: Parsed<LogFormat>,

    /// File to which audit events are appended as lines of JSON, in addition to standard output and regardless of LOG_FILTER.
    /// It is created if it does not exist, and reopened after it was renamed
    #[arg(long, env = "AUDIT_LOG", value_name = "FILE")]
    audit_log: Option<Parsed<PathBuf>>,
}

/// Checked settings of the group.
#[derive(Debug, Clone)]
pub struct TelemetryConfig {
    /// Filter of log lines, in the syntax of `tracing`.
    pub filter: String,
    /// Format of log lines.
    pub format: LogFormat,
    /// File of audit events.
    pub audit_log: Option<PathBuf>,
    /// Signals that are exported by OTLP.
    pub exports: Exports,
}

/// Signals that the standard variables export by OTLP.
#[derive(Debug, Clone, Copy, Default)]
pub struct Exports {
    /// Traces.
    pub traces: bool,
    /// Share of requests without a sampled parent that are traced, from 0 to 1; `None` leaves the decision to the SDK.
    pub traced_share: Option<f64>,
    /// Metrics, in addition to `/metrics`.
    pub metrics: bool,
    /// Logs, in addition to standard output.
    pub logs: bool,
}

/// Format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// Text for people.
    Text,
}

impl TelemetrySettings {
    pub(super) fn check(self, errors: &mut ErrorCollector) -> TelemetryConfig {
        TelemetryConfig {
            filter: filter(errors, self.log_filter),
            format: errors
                .require("LOG_FORMAT", "json or text", self.log_format)
                .unwrap_or(LogFormat::Json),
            audit_log: self
                .audit_log
                .and_then(Parsed::value)
                .filter(|path| !path.as_os_str().is_empty()),
            exports: exports(),
        }
    }
}

fn filter(errors: &mut ErrorCollector, given: Parsed<String>) -> String {
    let filter = given.value().unwrap_or_default();
    if filter
        .parse::<tracing_subscriber::filter::Targets>()
        .is_err()
    {
        errors.add(
            "LOG_FILTER",
            "must be a filter like info, or info,portcullis::store=debug",
        );
    }
    filter
}

//! Logs, and what is sent by OTLP.

use clap::Args;

use super::environment::exports;
use super::report::Report;
use super::values::Given;

/// As written.
#[derive(Debug, Args)]
#[command(next_help_heading = "Telemetry")]
pub(super) struct TelemetrySettings {
    /// What is logged, as a filter of `tracing`: error, warn, info, debug, or per module
    #[arg(
        long,
        env = "LOG_FILTER",
        default_value = "info",
        value_name = "FILTER"
    )]
    log_filter: Given<String>,

    /// How log lines are written: json, or text for people
    #[arg(
        long,
        env = "LOG_FORMAT",
        default_value = "json",
        value_name = "json|text"
    )]
    log_format: Given<LogFormat>,
}

/// Logs, and what is sent by OTLP.
#[derive(Debug, Clone)]
pub struct TelemetryConfig {
    /// A filter of `tracing`.
    pub filter: String,
    /// How lines are written.
    pub format: LogFormat,
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
            filter: filter(report, self.log_filter),
            format: report
                .value("LOG_FORMAT", "json or text", self.log_format)
                .unwrap_or(LogFormat::Json),
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
            "LOG_FILTER",
            "must be a filter like info, or info,portcullis::store=debug",
        );
    }
    filter
}

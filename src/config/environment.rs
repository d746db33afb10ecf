//! Environment besides the settings: the `.env` file, the search path of programs, and the OTLP exports.

use std::ffi::OsString;
use std::path::Path;

use super::ConfigErrors;
use super::telemetry::Exports;

/// Reads a `.env` file in the working folder, if there is one, into the environment. Variables that are set already stay.
///
/// Call it before any thread is started: it changes the environment.
///
/// # Errors
/// A sentence that names the file, if it cannot be read or parsed.
pub fn read_dotenv() -> Result<(), ConfigErrors> {
    match dotenvy::from_path(Path::new(".env")) {
        Ok(()) => Ok(()),
        Err(error) if error.not_found() => Ok(()),
        // The error's own text would repeat the line, and with it perhaps a secret.
        Err(_) => Err(ConfigErrors(vec![
            ".env: cannot be read, or a line of it is not NAME=value".to_owned(),
        ])),
    }
}

/// Search path of programs (`PATH`).
pub(crate) fn search_path() -> OsString {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the module that reads the environment"
    )]
    std::env::var_os("PATH").unwrap_or_default()
}

/// Signals that the standard variables export: an endpoint is named, and no variable switches the signal off. Logs are on
/// standard output anyway and are exported only if a variable asks for that. The telemetry SDK reads all other `OTEL_*`
/// variables itself.
pub(super) fn exports() -> Exports {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the module that reads the environment"
    )]
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let is = |name: &str, wanted: &str| {
        variable(name).is_some_and(|value| value.eq_ignore_ascii_case(wanted))
    };
    let all = variable("OTEL_EXPORTER_OTLP_ENDPOINT").is_some();
    let on = !is("OTEL_SDK_DISABLED", "true");
    let own = |signal: &str| variable(&format!("OTEL_EXPORTER_OTLP_{signal}_ENDPOINT")).is_some();
    let sent = |signal: &str| {
        on && (all || own(signal)) && !is(&format!("OTEL_{signal}_EXPORTER"), "none")
    };
    Exports {
        traces: sent("TRACES"),
        traced_share: is("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
            .then(|| share(variable("OTEL_TRACES_SAMPLER_ARG").as_deref())),
        metrics: sent("METRICS"),
        logs: sent("LOGS") && (own("LOGS") || is("OTEL_LOGS_EXPORTER", "otlp")),
    }
}

/// Parses a share from 0 to 1. An invalid text means 1, as in the SDK.
fn share(text: Option<&str>) -> f64 {
    let share = text.and_then(|text| text.trim().parse().ok());
    let share = share.filter(|share| (0.0..=1.0).contains(share));
    share.unwrap_or(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_share_means_all() {
        let is = |text, wanted: f64| (share(text) - wanted).abs() < f64::EPSILON;
        assert!(is(Some("0.25"), 0.25));
        assert!(is(Some(" 0 "), 0.0));
        for text in [None, Some("2"), Some("-1"), Some("NaN"), Some("some")] {
            assert!(is(text, 1.0), "{text:?}");
        }
    }
}

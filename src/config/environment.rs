//! What is read from the environment besides the settings: a `.env` file, where programs are, and whether traces are wanted.

use std::ffi::OsString;
use std::path::Path;

use super::Mistakes;

/// Reads a `.env` file in the working folder, where there is one, into the environment; what is set already stays.
///
/// Call it before any thread is started.
///
/// # Errors
/// A sentence that names the file where it cannot be read or parsed.
pub fn read_dotenv() -> Result<(), Mistakes> {
    match dotenvy::from_path(Path::new(".env")) {
        Ok(()) => Ok(()),
        Err(error) if error.not_found() => Ok(()),
        // The error's own text would repeat the line, and with it perhaps a secret.
        Err(_) => Err(Mistakes(vec![
            ".env: cannot be read, or a line of it is not NAME=value".to_owned(),
        ])),
    }
}

/// Where programs are looked for.
pub(crate) fn search_path() -> OsString {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the module that reads the environment"
    )]
    std::env::var_os("PATH").unwrap_or_default()
}

/// Whether the standard variables ask for traces: a receiver is named, and nothing switches them off. What else those
/// variables say the telemetry SDK reads itself.
pub(super) fn traces_wanted() -> bool {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the module that reads the environment"
    )]
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let named = [
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    ]
    .into_iter()
    .any(|name| variable(name).is_some());
    let off = variable("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"))
        || variable("OTEL_TRACES_EXPORTER").is_some_and(|value| value == "none");
    named && !off
}

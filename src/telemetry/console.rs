//! Output of commands on standard output and standard error. A full disk, or a reader that is stuck or gone, does not end the
//! process: the exit code still tells if the command succeeded.

use std::io::{self, Write, stderr, stdout};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::output::descriptor;

/// Maximum time that a command waits for a reader that takes nothing.
const READER_TIMEOUT: Duration = Duration::from_secs(5);

/// State of standard error.
#[derive(Debug)]
struct Stderr {
    /// The reader has taken nothing for too long: the next line does not wait for it.
    is_stuck: bool,
    /// The output ends with half a line.
    is_cut: bool,
}

static STDERR: Mutex<Stderr> = Mutex::new(Stderr {
    is_stuck: false,
    is_cut: false,
});

/// Writes to standard error, if that is possible.
pub fn say(text: impl AsRef<[u8]>) {
    say_within(READER_TIMEOUT, text);
}

/// Writes to standard error, if that is possible within this time.
pub(super) fn say_within(timeout: Duration, text: impl AsRef<[u8]>) {
    let mut state = STDERR.lock().unwrap_or_else(PoisonError::into_inner);
    let newline: &[u8] = if state.is_cut { b"\n" } else { b"" };
    let text = [newline, text.as_ref()].concat();
    let timeout = if state.is_stuck {
        Duration::ZERO
    } else {
        timeout
    };
    let mut at = 0;
    let written = descriptor::write(stderr(), &text, &mut at, Some(timeout));
    state.is_stuck = written.is_err_and(|error| error.kind() == io::ErrorKind::TimedOut);
    if at > 0 {
        state.is_cut = at < text.len() && text[at - 1] != b'\n';
    }
}

/// Writes the result of a command to standard output.
///
/// # Errors
/// If standard output cannot be written, or its reader takes nothing for some seconds.
pub fn print(text: &str) -> io::Result<()> {
    descriptor::write(stdout(), text.as_bytes(), &mut 0, Some(READER_TIMEOUT))
}

/// Writes a listing to standard output, and waits for its reader without a limit: a pager stops reading for minutes.
///
/// # Errors
/// If standard output cannot be written.
pub fn print_listing(text: &str) -> io::Result<()> {
    descriptor::write(stdout(), text.as_bytes(), &mut 0, None)
}

/// Reports panics on standard error, with their location and without their message, until the log is set up.
pub fn report_early_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string);
        let location = location.unwrap_or_default();
        say(format!(
            "portcullis: a fault of the program at {location}\n"
        ));
    }));
}

/// Writer of a command's log lines.
#[derive(Debug)]
pub(super) struct StderrWriter;

impl Write for StderrWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        say(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

//! Log output: lines go through a bounded queue to a writer thread. No request waits for a reader or a disk.
//!
//! * Lines that do not fit into the queue are dropped and counted, audit lines last. When output continues, one line reports the
//!   number.
//! * A write that fails is tried again after a pause, with the same bytes. A line never follows half of another one directly.
//! * On a pipe every line of up to [`descriptor::PIECE`] bytes is written whole or not at all, also if the process is killed.
//! * A replica that stops waits for its lines as long as the output takes some, and [`FLUSH_TIMEOUT`] if the output is blocked.
//!
//! `tracing-appender` has a writer of this kind. It is not used because its queue is bounded by lines and not by bytes and has
//! no room apart for audit lines, because it drops a batch whose write fails, wherever that stopped, and because it cannot tell
//! in the log that lines were dropped (tokio-rs/tracing 1941).

mod audit_file;
pub(super) mod descriptor;
mod queue;
mod writer;

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tracing::Metadata;
use tracing_subscriber::fmt::MakeWriter;

use self::audit_file::AuditFile;
pub(super) use self::queue::Counts;
use self::queue::{Kind, Limits, Queue};
use self::writer::{Target, Writer};

/// Target of audit events. Their lines are dropped last.
pub const AUDIT: &str = "portcullis::audit";

/// Maximum time that a stopping process waits for a blocked output.
pub(super) const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);
/// Maximum number of such waits while the output takes some lines.
const MAX_FLUSH_WAITS: u32 = 5;

/// Standard output: some six thousand audit lines, of which the other lines may take the place of a quarter.
const STREAM_LIMITS: Limits = Limits {
    total: 2 << 20,
    other: 512 << 10,
};
/// `AUDIT_LOG`: some fifty thousand audit lines, for as long as its disk is full.
const FILE_LIMITS: Limits = Limits {
    total: 16 << 20,
    other: 0,
};

const STANDARD_OUTPUT: &str = "standard_output";
const AUDIT_LOG: &str = "audit_log";

/// The outputs of this process, for its metrics.
static STREAM: OnceLock<Output> = OnceLock::new();
static FILE: OnceLock<Output> = OnceLock::new();

/// Destination of lines, with its queue and its writer thread.
#[derive(Debug, Clone)]
pub(super) struct Output(Arc<Queue>);

impl Output {
    /// Starts the writer of standard output. Call it once.
    ///
    /// # Errors
    /// A sentence if the process has no descriptor or no thread left.
    pub(super) fn standard_output() -> Result<Self, String> {
        let open = || -> io::Result<Self> {
            let file = File::from(io::stdout().as_fd().try_clone_to_owned()?);
            Self::start(STANDARD_OUTPUT, STREAM_LIMITS, Target::Stream(file))
        };
        let output = open().map_err(|error| format!("log output cannot be started: {error}"))?;
        Ok(STREAM.get_or_init(|| output).clone())
    }

    /// Starts the writer of the file `AUDIT_LOG`. Call it once.
    ///
    /// # Errors
    /// A sentence that names the setting, if the file cannot be opened.
    pub(super) fn audit_log(path: &Path) -> Result<Self, String> {
        let open = || -> io::Result<Self> {
            let file = AuditFile::open(path)?;
            Self::start(AUDIT_LOG, FILE_LIMITS, Target::File(file))
        };
        let output = open().map_err(|error| format!("AUDIT_LOG: cannot be opened: {error}"))?;
        Ok(FILE.get_or_init(|| output).clone())
    }

    fn start(name: &'static str, limits: Limits, target: Target) -> io::Result<Self> {
        let queue = Arc::new(Queue::new(name, limits));
        let writer = Writer::new(Arc::clone(&queue), target);
        std::thread::Builder::new()
            .name(format!("log {name}"))
            .spawn(move || writer.run())?;
        Ok(Self(queue))
    }
}

impl<'a> MakeWriter<'a> for Output {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line::new(&self.0, Kind::Other)
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Line<'a> {
        let kind = if metadata.target() == AUDIT {
            Kind::Audit
        } else {
            Kind::Other
        };
        Line::new(&self.0, kind)
    }
}

/// Line that enters the queue when it is complete.
#[derive(Debug)]
pub(super) struct Line<'a> {
    queue: &'a Queue,
    kind: Kind,
    bytes: Vec<u8>,
}

impl<'a> Line<'a> {
    fn new(queue: &'a Queue, kind: Kind) -> Self {
        Self {
            queue,
            kind,
            bytes: Vec::new(),
        }
    }
}

impl io::Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        self.queue.push(self.kind, std::mem::take(&mut self.bytes));
    }
}

/// Checks that `AUDIT_LOG` can be opened, without creating it.
///
/// # Errors
/// The reason, if it cannot.
pub(super) fn check_audit_log(path: &Path) -> io::Result<()> {
    AuditFile::check(path)
}

/// Closes all outputs of this process, and waits for `timeout` if one is blocked. The audit log is closed first, so that its
/// failures can still be reported on standard output. Returns the number of lines that were lost without a report.
pub(super) fn close(timeout: Duration) -> u64 {
    let outputs = [&FILE, &STREAM].into_iter().filter_map(OnceLock::get);
    outputs
        .map(|output| output.0.close(timeout, MAX_FLUSH_WAITS))
        .sum()
}

/// Returns the numbers of dropped lines and failed writes so far, by output.
pub(super) fn counts() -> [(&'static str, Option<Counts>); 2] {
    let counts = |output: &OnceLock<Output>| output.get().map(|output| output.0.counts());
    [
        (STANDARD_OUTPUT, Some(counts(&STREAM).unwrap_or_default())),
        (AUDIT_LOG, counts(&FILE)),
    ]
}

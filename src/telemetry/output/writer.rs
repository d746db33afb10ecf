//! Thread that writes the lines of one output.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tracing::{error, info, warn};

use super::audit_file::AuditFile;
use super::descriptor::{PIECE, write};
use super::queue::{Counts, Queue};

/// Pause after a failed write: a full disk rarely gets room sooner.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// Destination of the lines.
#[derive(Debug)]
pub(super) enum Target {
    Stream(File),
    File(AuditFile),
}

impl Target {
    fn open(&mut self) -> io::Result<&File> {
        match self {
            Self::Stream(file) => Ok(file),
            Self::File(file) => file.current(),
        }
    }
}

/// Moves lines from the queue to the target, and logs failures and dropped lines.
#[derive(Debug)]
pub(super) struct Writer {
    queue: Arc<Queue>,
    target: Target,
    batch: Batch,
    is_failing: bool,
}

impl Writer {
    pub(super) fn new(queue: Arc<Queue>, target: Target) -> Self {
        Self {
            queue,
            target,
            batch: Batch::default(),
            is_failing: false,
        }
    }

    pub(super) fn run(mut self) {
        while self.queue.take(&mut self.batch.bytes, PIECE) && self.write_batch() {}
        self.queue.ended();
    }

    /// Writes the batch, in as many attempts as needed. Returns `false` if the output was closed and the last attempt failed.
    fn write_batch(&mut self) -> bool {
        let mut is_last = false;
        while let Err(error) = self.try_batch() {
            self.log_failure(&error);
            if is_last {
                return false;
            }
            is_last = !self.queue.pause(RETRY_DELAY);
        }
        let dropped = self.queue.wrote(self.batch.bytes.len());
        self.batch.clear();
        self.log_success(dropped);
        true
    }

    fn try_batch(&mut self) -> io::Result<()> {
        let file = self.target.open()?;
        self.batch.resume(file);
        let written = write(file, &self.batch.bytes, &mut self.batch.at, None);
        if written.is_err() {
            self.batch.interrupt(file);
        }
        written
    }

    fn log_failure(&mut self, failure: &io::Error) {
        self.queue.count_failure();
        if !std::mem::replace(&mut self.is_failing, true) {
            error!(
                event = "log_write_failed",
                output = self.queue.name,
                %failure,
                "log lines cannot be written; they wait as long as there is room, and are tried again each second"
            );
        }
    }

    fn log_success(&mut self, dropped: Option<Counts>) {
        if std::mem::take(&mut self.is_failing) {
            info!(
                event = "log_write_recovered",
                output = self.queue.name,
                "log lines are written again"
            );
        }
        if let Some(Counts {
            dropped_audit,
            dropped_other,
            ..
        }) = dropped
        {
            let dropped = dropped_audit + dropped_other;
            warn!(
                event = "log_lines_dropped",
                output = self.queue.name,
                dropped,
                dropped_audit,
                "log output was blocked: {dropped} lines dropped, of them {dropped_audit} audit lines"
            );
        }
    }
}

/// The lines being written.
#[derive(Debug, Default)]
struct Batch {
    bytes: Vec<u8>,
    /// Number of bytes that are written.
    at: usize,
    /// A write has failed within a line.
    cut: Option<Cut>,
}

/// Kind of output that ends with the first half of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    /// A regular file of this size.
    File(u64),
    /// A pipe, a socket or a terminal.
    Stream,
}

impl Batch {
    fn clear(&mut self) {
        self.bytes.clear();
        self.at = 0;
    }

    /// Notes that a write has failed.
    fn interrupt(&mut self, file: &File) {
        let is_within_line = self.at > 0 && self.bytes[self.at - 1] != b'\n';
        self.cut = is_within_line.then(|| end_of(file));
    }

    /// Continues after a failed write. The rest of a cut line follows its first half only if the file still ends with that half;
    /// otherwise the whole line is written again, on a line of its own.
    fn resume(&mut self, file: &File) {
        let Some(cut) = self.cut.take() else {
            return;
        };
        let end = end_of(file);
        if cut != Cut::Stream && cut == end {
            return;
        }
        let written = &self.bytes[..self.at];
        let start = written.iter().rposition(|byte| *byte == b'\n');
        self.bytes.drain(..start.map_or(0, |end| end + 1));
        if end != Cut::File(0) {
            self.bytes.insert(0, b'\n');
        }
        self.at = 0;
    }
}

fn end_of(file: &File) -> Cut {
    match file.metadata() {
        Ok(metadata) if metadata.is_file() => Cut::File(metadata.len()),
        _ => Cut::Stream,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn cut_batch() -> Batch {
        Batch {
            bytes: b"first\nsecond\nthird\n".to_vec(),
            at: 9,
            cut: None,
        }
    }

    #[test]
    fn a_cut_line_goes_on_in_a_file_that_ends_with_its_first_half() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"first\nsec").unwrap();
        let mut batch = cut_batch();
        batch.interrupt(&file);
        batch.resume(&file);
        assert_eq!(&batch.bytes[batch.at..], b"ond\nthird\n");
    }

    #[test]
    fn a_cut_line_is_written_again_in_a_file_that_has_changed() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"first\nsec").unwrap();
        let mut batch = cut_batch();
        batch.interrupt(&file);
        file.write_all(b"{\"of\":\"another process\"}\n").unwrap();
        batch.resume(&file);
        assert_eq!(&batch.bytes[batch.at..], b"\nsecond\nthird\n");

        let mut batch = cut_batch();
        batch.interrupt(&file);
        file.set_len(0).unwrap();
        batch.resume(&file);
        assert_eq!(&batch.bytes[batch.at..], b"second\nthird\n");
    }

    #[test]
    fn a_cut_line_is_written_again_where_nothing_is_known_of_the_reader() {
        let (_reader, writer) = io::pipe().unwrap();
        let pipe = File::from(std::os::fd::OwnedFd::from(writer));
        let mut batch = cut_batch();
        batch.interrupt(&pipe);
        batch.resume(&pipe);
        assert_eq!(&batch.bytes[batch.at..], b"\nsecond\nthird\n");

        let mut whole = cut_batch();
        whole.at = 6;
        whole.interrupt(&pipe);
        whole.resume(&pipe);
        assert_eq!(&whole.bytes[whole.at..], b"second\nthird\n");
    }
}

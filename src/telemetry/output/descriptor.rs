//! Writes to descriptors whose reader may be slow, stuck or gone, and which may be blocking or not.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// Longest piece of one write: `PIPE_BUF` of Linux. A pipe with any room takes such a piece whole and at once.
pub(super) const PIECE: usize = 4096;

/// Pause if `poll` reported room and the write found none: another process wrote there first.
const CONTENTION_DELAY: Duration = Duration::from_millis(10);

/// Writes the bytes from position `at` on, and moves `at` past the written ones.
///
/// # Errors
/// `TimedOut` if the descriptor takes nothing for `timeout`; otherwise the error of the write. The rest can be written later.
pub(in crate::telemetry) fn write(
    descriptor: impl AsFd,
    bytes: &[u8],
    at: &mut usize,
    timeout: Option<Duration>,
) -> io::Result<()> {
    let descriptor = descriptor.as_fd();
    while *at < bytes.len() {
        wait_for_room(descriptor, timeout)?;
        let end = bytes.len().min(*at + PIECE);
        match rustix::io::write(descriptor, &bytes[*at..end]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => *at += written,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => std::thread::sleep(CONTENTION_DELAY),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Waits until a write of one piece returns at once, with success or an error.
fn wait_for_room(descriptor: BorrowedFd<'_>, timeout: Option<Duration>) -> io::Result<()> {
    let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
    loop {
        let mut watched = [PollFd::from_borrowed_fd(descriptor, PollFlags::OUT)];
        match poll(&mut watched, timeout.as_ref()) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

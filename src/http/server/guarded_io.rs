//! Byte stream between the socket and hyper: scans the bytes, and passes one head at a time.
//!
//! Bytes behind a head are held back until the service has announced the body that follows. That keeps both parsers in
//! step: pipelined heads are checked as strictly as first ones, a body is never taken for a head, and the next head begins
//! at the byte that hyper expects. The common request, one head in one read, is passed through without a copy.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    activity::{Activity, Inbound},
    head::{Bounds, HeadScan, Scan},
};

/// Capacity that the buffer of held bytes keeps when it is empty.
const KEPT_CAPACITY: usize = 1024;

/// Stream that updates an [`Activity`] and obeys it.
#[derive(Debug)]
pub(super) struct GuardedIo<S> {
    stream: S,
    activity: Arc<Activity>,
    scan: HeadScan,
    /// Bytes read from the stream and held back from hyper; the first `released` of them are passed on already.
    held: Vec<u8>,
    released: usize,
}

/// Decision on a run of bytes from the client.
enum Inspected {
    /// This number of bytes may pass, at least one.
    Pass(usize),
    /// No byte may pass, now or later.
    Rejected,
}

impl<S> GuardedIo<S> {
    pub(super) fn new(stream: S, activity: Arc<Activity>, bounds: Bounds) -> Self {
        Self {
            stream,
            activity,
            scan: HeadScan::new(bounds),
            held: Vec::new(),
            released: 0,
        }
    }

    /// Returns the stream, and true if the client may still be sending bytes that will not be read.
    pub(super) fn into_inner(self) -> (S, bool) {
        let unread =
            self.released < self.held.len() || self.activity.inbound() != Inbound::BetweenMessages;
        (self.stream, unread)
    }

    /// Follows `bytes` through bodies and heads, up to the end of the first head.
    fn inspect(&mut self, bytes: &[u8]) -> io::Result<Inspected> {
        let mut passed = 0;
        while passed < bytes.len() {
            let rest = &bytes[passed..];
            match self.activity.inbound() {
                Inbound::Body(left) => {
                    let taken =
                        usize::try_from(left).map_or(rest.len(), |left| left.min(rest.len()));
                    passed += taken;
                    self.activity.set_inbound(match left - taken as u64 {
                        0 => Inbound::BetweenMessages,
                        left => Inbound::Body(left),
                    });
                }
                Inbound::Chunked => passed = bytes.len(),
                Inbound::BetweenMessages => {
                    if !self.activity.mark_busy() {
                        return Err(io::ErrorKind::ConnectionAborted.into());
                    }
                    self.activity.set_inbound(Inbound::Head);
                }
                Inbound::Head => match self.scan.feed(rest) {
                    Scan::More => passed = bytes.len(),
                    Scan::End(at) => {
                        passed += at;
                        self.activity.set_inbound(Inbound::HeadDelivered);
                        break;
                    }
                    Scan::Reject(status) => {
                        self.activity.reject(status);
                        break;
                    }
                },
                // hyper wants more after a complete head: the two parsers disagree, which is how request smuggling
                // works.
                Inbound::HeadDelivered => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
        // The body before a rejected head still goes to the request that it belongs to.
        Ok(if passed > 0 {
            Inspected::Pass(passed)
        } else {
            Inspected::Rejected
        })
    }

    fn release_held(&mut self, into: &mut ReadBuf<'_>) -> io::Result<Inspected> {
        let held = std::mem::take(&mut self.held);
        let offered = held.len().min(self.released + into.remaining());
        let inspected = self.inspect(&held[self.released..offered]);
        if let Ok(Inspected::Pass(count)) = inspected {
            into.put_slice(&held[self.released..self.released + count]);
            self.released += count;
        }
        self.held = held;
        if self.released == self.held.len() {
            self.released = 0;
            self.held.clear();
            self.held.shrink_to(KEPT_CAPACITY);
        }
        inspected
    }

    fn record_write(&self, outcome: &Poll<io::Result<usize>>) {
        match outcome {
            Poll::Pending => self.activity.write_blocked(),
            Poll::Ready(Ok(bytes)) => self.activity.wrote(*bytes),
            Poll::Ready(Err(_)) => {}
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for GuardedIo<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // A rejected client needs no waker: `Deadlines` checks for a rejection whenever hyper has nothing to do.
        if self.activity.rejection().is_some() {
            return Poll::Pending;
        }
        if !self.held.is_empty() {
            return match self.release_held(buf)? {
                Inspected::Pass(_) => Poll::Ready(Ok(())),
                Inspected::Rejected => Poll::Pending,
            };
        }

        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let fresh = &buf.filled()[before..];
        if fresh.is_empty() {
            return Poll::Ready(Ok(()));
        }
        match self.inspect(fresh)? {
            Inspected::Pass(count) => {
                self.held.extend_from_slice(&fresh[count..]);
                buf.set_filled(before + count);
                Poll::Ready(Ok(()))
            }
            Inspected::Rejected => {
                // `Ready` with an unchanged buffer would mean end of file.
                buf.set_filled(before);
                Poll::Pending
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for GuardedIo<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.record_write(&outcome);
        outcome
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.record_write(&outcome);
        outcome
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

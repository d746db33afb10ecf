//! The byte stream between the socket and hyper: watches what passes, and lets one head through at a time.
//!
//! Holding the bytes behind a head back until the service has told what body follows it is what makes the rest exact:
//! pipelined heads are read as strictly as first ones, a body is never mistaken for a head, and the next head begins
//! where hyper will look for it. The common request, one head in one read, is passed through without a copy.

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

/// The capacity that an empty store of held bytes may keep.
const KEPT_CAPACITY: usize = 1024;

/// A stream that reports to an [`Activity`] and obeys it.
#[derive(Debug)]
pub(super) struct Wire<S> {
    stream: S,
    activity: Arc<Activity>,
    scan: HeadScan,
    /// Bytes read from the stream that hyper may not see yet; the first `released` of them it has seen.
    held: Vec<u8>,
    released: usize,
}

/// How a run of bytes from the client is to be treated.
enum Admitted {
    /// So many may pass, at least one.
    Pass(usize),
    /// None, and none that follow.
    Refused,
}

impl<S> Wire<S> {
    pub(super) fn new(stream: S, activity: Arc<Activity>, bounds: Bounds) -> Self {
        Self {
            stream,
            activity,
            scan: HeadScan::new(bounds),
            held: Vec::new(),
            released: 0,
        }
    }

    /// Gives the stream back, and whether the client may still be sending something that nobody will read.
    pub(super) fn into_inner(self) -> (S, bool) {
        let unread = self.released < self.held.len() || self.activity.inbound() != Inbound::Between;
        (self.stream, unread)
    }

    /// Follows `bytes` through bodies and heads, up to the end of the first head.
    fn admit(&mut self, bytes: &[u8]) -> io::Result<Admitted> {
        let mut passed = 0;
        while passed < bytes.len() {
            let rest = &bytes[passed..];
            match self.activity.inbound() {
                Inbound::Body(left) => {
                    let taken =
                        usize::try_from(left).map_or(rest.len(), |left| left.min(rest.len()));
                    passed += taken;
                    self.activity.set_inbound(match left - taken as u64 {
                        0 => Inbound::Between,
                        left => Inbound::Body(left),
                    });
                }
                Inbound::Chunked => passed = bytes.len(),
                Inbound::Between => {
                    if !self.activity.stir() {
                        return Err(io::ErrorKind::ConnectionAborted.into());
                    }
                    self.activity.set_inbound(Inbound::Head);
                }
                Inbound::Head => match self.scan.feed(rest) {
                    Scan::More => passed = bytes.len(),
                    Scan::End(at) => {
                        passed += at;
                        self.activity.set_inbound(Inbound::Handed);
                        break;
                    }
                    Scan::Refuse(status) => {
                        self.activity.refuse(status);
                        break;
                    }
                },
                // hyper wants more after a head that is complete: the two readings disagree, which is how requests
                // are smuggled.
                Inbound::Handed => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
        // The body before a refused head is still owed to the request that it belongs to.
        Ok(if passed > 0 {
            Admitted::Pass(passed)
        } else {
            Admitted::Refused
        })
    }

    fn release_held(&mut self, into: &mut ReadBuf<'_>) -> io::Result<Admitted> {
        let held = std::mem::take(&mut self.held);
        let offered = held.len().min(self.released + into.remaining());
        let admitted = self.admit(&held[self.released..offered]);
        if let Ok(Admitted::Pass(count)) = admitted {
            into.put_slice(&held[self.released..self.released + count]);
            self.released += count;
        }
        self.held = held;
        if self.released == self.held.len() {
            self.released = 0;
            self.held.clear();
            self.held.shrink_to(KEPT_CAPACITY);
        }
        admitted
    }

    fn note_write(&self, outcome: &Poll<io::Result<usize>>) {
        match outcome {
            Poll::Pending => self.activity.write_blocked(),
            Poll::Ready(Ok(bytes)) => self.activity.wrote(*bytes),
            Poll::Ready(Err(_)) => {}
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // No waker is kept for a refused client: the watch looks at the refusal whenever hyper has nothing to do.
        if self.activity.refusal().is_some() {
            return Poll::Pending;
        }
        if !self.held.is_empty() {
            return match self.release_held(buf)? {
                Admitted::Pass(_) => Poll::Ready(Ok(())),
                Admitted::Refused => Poll::Pending,
            };
        }

        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let fresh = &buf.filled()[before..];
        if fresh.is_empty() {
            return Poll::Ready(Ok(()));
        }
        match self.admit(fresh)? {
            Admitted::Pass(count) => {
                self.held.extend_from_slice(&fresh[count..]);
                buf.set_filled(before + count);
                Poll::Ready(Ok(()))
            }
            Admitted::Refused => {
                // An unchanged buffer would mean end of file if it were ready.
                buf.set_filled(before);
                Poll::Pending
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.note_write(&outcome);
        outcome
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.note_write(&outcome);
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

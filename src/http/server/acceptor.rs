//! Listening socket: accepts connections, reports whether one is waiting, and backs off when accepts fail.

use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use tokio::{
    io::{Interest, unix::AsyncFd},
    net::{TcpListener, TcpStream},
    time::sleep,
};

/// Pause after an accept failed for lack of descriptors or memory.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(75);

/// Listener that can report a waiting connection without accepting it: at the cap a connection stays in the kernel's
/// backlog until it can be served.
#[derive(Debug)]
pub(super) struct Acceptor {
    listener: TcpListener,
    /// Duplicate of the listening socket, to probe its readiness.
    probe_fd: OwnedFd,
    is_stuck: bool,
}

impl Acceptor {
    pub(super) fn new(listener: TcpListener) -> io::Result<Self> {
        Ok(Self {
            probe_fd: listener.as_fd().try_clone_to_owned()?,
            listener,
            is_stuck: false,
        })
    }

    pub(super) fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Waits until a connection is waiting.
    pub(super) async fn readable(&self) -> io::Result<()> {
        // The listener's own readiness is of no use: tokio clears it only when an accept finds no connection, and none may
        // be tried here. A new registration starts from the present state.
        #[expect(
            deprecated,
            reason = "its successor is unsafe to call, for descriptors that may be closed meanwhile; this is borrowed"
        )]
        let probe = AsyncFd::with_interest(self.probe_fd.as_fd(), Interest::READABLE)?;
        probe.readable().await.map(drop)
    }

    /// True if the last accept failed for lack of a resource.
    pub(super) fn is_stuck(&self) -> bool {
        self.is_stuck
    }

    /// Accepts a connection. Returns `None` if that failed, after a pause if the next attempt would fail at once.
    pub(super) async fn accept(&mut self) -> Option<(TcpStream, SocketAddr)> {
        match self.listener.accept().await {
            Ok((stream, address)) => {
                if std::mem::take(&mut self.is_stuck) {
                    tracing::info!("connections are accepted again");
                }
                // Responses are small and written at once; Nagle would only delay the second of two. The call fails for a
                // client that has already left, and so will the next read.
                let _ = stream.set_nodelay(true);
                Some((stream, address))
            }
            Err(error) if is_connection_error(&error) => None,
            Err(error) => {
                if !std::mem::replace(&mut self.is_stuck, true) {
                    tracing::error!(%error, "cannot accept connections; retrying until an accept succeeds");
                }
                sleep(ACCEPT_RETRY_DELAY).await;
                None
            }
        }
    }
}

/// True if an accept failed because of that one connection, so that the next may be tried at once (accept(2)).
fn is_connection_error(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Interrupted
            | ErrorKind::ConnectionAborted
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionRefused
            | ErrorKind::PermissionDenied
            | ErrorKind::TimedOut
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
            | ErrorKind::NetworkDown
    )
}

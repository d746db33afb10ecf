//! The listening socket: lets connections in, tells whether somebody waits, and keeps calm when nobody can be let in.

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

/// How long nothing is accepted after an accept failed for want of descriptors or memory.
const STUCK_RETRY: Duration = Duration::from_millis(75);

/// A listener that can tell of a knock without opening: at the cap a connection stays in the kernel's backlog until
/// there is room for it.
#[derive(Debug)]
pub(super) struct Door {
    listener: TcpListener,
    /// The listening socket once more, for a second look at it.
    peephole: OwnedFd,
    is_stuck: bool,
}

impl Door {
    /// Takes a listener over.
    pub(super) fn new(listener: TcpListener) -> io::Result<Self> {
        Ok(Self {
            peephole: listener.as_fd().try_clone_to_owned()?,
            listener,
            is_stuck: false,
        })
    }

    /// The address it listens on.
    pub(super) fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Waits until somebody is waiting.
    pub(super) async fn knock(&self) -> io::Result<()> {
        // The listener's own readiness is of no use: it lasts until an accept finds nobody, and none may be tried here.
        // A new registration starts from what is so now.
        #[expect(
            deprecated,
            reason = "its successor is unsafe to call, for descriptors that may be closed meanwhile; this is borrowed"
        )]
        let peephole = AsyncFd::with_interest(self.peephole.as_fd(), Interest::READABLE)?;
        peephole.readable().await.map(drop)
    }

    /// Whether the last accept failed for want of something.
    pub(super) fn is_stuck(&self) -> bool {
        self.is_stuck
    }

    /// Lets one in; none if that failed, after a pause if it would fail again at once.
    pub(super) async fn open(&mut self) -> Option<(TcpStream, SocketAddr)> {
        match self.listener.accept().await {
            Ok((stream, address)) => {
                if std::mem::take(&mut self.is_stuck) {
                    tracing::info!("connections are accepted again");
                }
                // Answers are small and written at once; Nagle would only hold back the second of two. It fails for a
                // client that has already left, as whatever follows will.
                let _ = stream.set_nodelay(true);
                Some((stream, address))
            }
            Err(error) if is_about_the_guest(&error) => None,
            Err(error) => {
                if !std::mem::replace(&mut self.is_stuck, true) {
                    tracing::error!(%error, "cannot accept connections; trying again until it works");
                }
                sleep(STUCK_RETRY).await;
                None
            }
        }
    }
}

/// Whether an accept failed for a reason of the one connection, and the next may be tried at once (accept(2)).
fn is_about_the_guest(error: &io::Error) -> bool {
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

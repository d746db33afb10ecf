//! One connection from its accept to its end.

use std::{
    convert::Infallible,
    future::{poll_fn, ready},
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use poem::{Endpoint, Response, http::StatusCode};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    sync::oneshot,
    time::{Instant, sleep_until, timeout},
};

use super::{
    Reject,
    conn_service::ConnService,
    deadlines::{Action, Deadlines},
    guarded_io::GuardedIo,
    tls::Tls,
};

/// Time in which a rejected client must read the rejection, and then stop sending.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// Bytes that a rejected client may still send.
const MAX_LINGER_BYTES: usize = 1024 * 1024;

/// End of a connection.
enum End {
    /// hyper has closed its side.
    Finished,
    /// A deadline has passed, and no response is due.
    Expired,
    /// The client gets a response with this status.
    Rejected(StatusCode),
}

/// Serves one connection over TLS. It is idle, and may be evicted, until the handshake is complete.
pub(super) async fn serve_tls<E>(
    stream: TcpStream,
    tls: Arc<Tls>,
    service: Arc<ConnService<E>>,
    accepted: Instant,
    mut stop: oneshot::Receiver<()>,
) where
    E: Endpoint<Output = Response> + ?Sized + 'static,
{
    let deadline = accepted + service.server.limits.header;
    // Boxed: it has ended when the connection is served, whose future it would enlarge.
    let handshake = Box::pin(tls.handshake(stream, deadline));
    let stream = tokio::select! {
        biased;
        _ = &mut stop => return,
        stream = handshake => stream,
    };
    if let Some(stream) = stream {
        serve(stream, service, accepted, stop).await;
    }
}

/// Serves one connection until it ends; after `stop` the running request finishes and no other begins.
pub(super) async fn serve<S, E>(
    stream: S,
    service: Arc<ConnService<E>>,
    accepted: Instant,
    mut stop: oneshot::Receiver<()>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    E: Endpoint<Output = Response> + ?Sized + 'static,
{
    let server = Arc::clone(&service.server);
    let activity = Arc::clone(&service.activity);
    let io = GuardedIo::new(stream, Arc::clone(&activity), server.limits.bounds());
    let answer = service_fn(move |request| Arc::clone(&service).call(request));
    let mut connection = server.http.serve_connection(TokioIo::new(io), answer);
    let mut deadlines = Deadlines::new(server.limits, server.started, accepted);

    // The timer is polled here and not inside the stream's reads: if an earlier read was pending, hyper does not read
    // again after a response, and the timer would not be polled. It is moved to a later time only when it fires, so that
    // a busy connection does not touch it.
    let mut timer = pin!(sleep_until(accepted + server.limits.header));
    let mut stopping = false;
    let end = poll_fn(|cx| {
        loop {
            // Before `stop`, so that a request which has arrived is in flight when the shutdown begins.
            if Pin::new(&mut connection).poll(cx).is_ready() {
                return Poll::Ready(End::Finished);
            }
            if !stopping && Pin::new(&mut stop).poll(cx).is_ready() {
                stopping = true;
                Pin::new(&mut connection).graceful_shutdown();
                continue;
            }
            let deadline = match deadlines.poll(&activity, Instant::now()) {
                Action::Wait(deadline) => deadline,
                Action::Close => return Poll::Ready(End::Expired),
                Action::Reject(status) => return Poll::Ready(End::Rejected(status)),
            };
            if let Some(deadline) = deadline
                && (deadline < timer.deadline() || timer.is_elapsed())
            {
                timer.as_mut().reset(deadline);
            }
            if timer.as_mut().poll(cx).is_pending() || deadline.is_none() {
                return Poll::Pending;
            }
        }
    })
    .await;

    let io = connection.into_parts().io.into_inner();
    let (mut stream, has_unread) = io.into_inner();
    // Boxed: both are rare and would make the task of every connection larger.
    match end {
        End::Rejected(status) => {
            Box::pin(write_rejection(&mut stream, server.reject, status)).await;
            Box::pin(linger(stream)).await;
        }
        End::Finished if has_unread => Box::pin(linger(stream)).await,
        End::Finished | End::Expired => {}
    }
}

/// Writes a response although hyper has read no request: hyper reads a stand-in instead.
async fn write_rejection<S: AsyncWrite + Unpin>(
    stream: &mut S,
    reject: Reject,
    status: StatusCode,
) {
    const STAND_IN: &[u8] = b"GET / HTTP/1.1\r\n\r\n";

    let answer = service_fn(move |_| {
        let response = hyper::Response::from(reject(status));
        ready(Ok::<_, Infallible>(response))
    });
    let both = TokioIo::new(tokio::io::join(STAND_IN, stream));
    // The stand-in ends at once; without half_close hyper would take that for a client that disconnected.
    let response = http1::Builder::new()
        .half_close(true)
        .keep_alive(false)
        .serve_connection(both, answer);
    // A client that does not read the response in time does not get it.
    let _ = timeout(CLOSE_TIMEOUT, response).await;
}

/// Closes a connection once the client could read the last response: closing a socket with unread bytes resets it, and a
/// reset discards what the client has not read yet.
async fn linger<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) {
    let mut sink = vec![0; 8 * 1024];
    let mut budget = MAX_LINGER_BYTES;
    let until_closed = async {
        stream.shutdown().await?;
        while budget > 0 {
            match stream.read(&mut sink).await? {
                0 => break,
                bytes => budget = budget.saturating_sub(bytes),
            }
        }
        Ok::<_, io::Error>(())
    };
    // The connection is over, whether this succeeds or not.
    let _ = timeout(CLOSE_TIMEOUT, until_closed).await;
}

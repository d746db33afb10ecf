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
    Refuse,
    exchange::Exchange,
    tls::Tls,
    watch::{Verdict, Watch},
    wire::Wire,
};

/// How long a refused client may take to read the refusal, and then to stop sending.
const FAREWELL: Duration = Duration::from_secs(1);
/// What a refused client may still send, in bytes.
const FAREWELL_BYTES: usize = 1024 * 1024;

/// How it ended.
enum End {
    /// hyper has closed its side.
    Finished,
    /// A deadline has passed, and there is nothing to say.
    Expired,
    /// The client is to be told why.
    Refused(StatusCode),
}

/// Serves one connection over TLS. Until it has shaken hands it is idle, and may be asked to make room.
pub(super) async fn attend_tls<E>(
    stream: TcpStream,
    tls: Arc<Tls>,
    exchange: Arc<Exchange<E>>,
    accepted: Instant,
    mut stop: oneshot::Receiver<()>,
) where
    E: Endpoint<Output = Response> + ?Sized + 'static,
{
    let deadline = accepted + exchange.service.limits.header;
    // Boxed: it is over when the connection begins.
    let hands = Box::pin(tls.greet(stream, deadline));
    let stream = tokio::select! {
        biased;
        _ = &mut stop => return,
        stream = hands => stream,
    };
    if let Some(stream) = stream {
        attend(stream, exchange, accepted, stop).await;
    }
}

/// Serves one connection until it ends; `stop` asks it to finish what runs and to begin nothing.
pub(super) async fn attend<S, E>(
    stream: S,
    exchange: Arc<Exchange<E>>,
    accepted: Instant,
    mut stop: oneshot::Receiver<()>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    E: Endpoint<Output = Response> + ?Sized + 'static,
{
    let service = Arc::clone(&exchange.service);
    let activity = Arc::clone(&exchange.activity);
    let wire = Wire::new(stream, Arc::clone(&activity), service.limits.bounds());
    let answer = service_fn(move |request| Arc::clone(&exchange).answer(request));
    let mut connection = service.http.serve_connection(TokioIo::new(wire), answer);
    let mut watch = Watch::new(service.limits, service.started, accepted);

    // The alarm is looked at here and not inside the stream's reads: hyper does not read again after a response if it
    // had been told before that nothing is there, and then nobody would look. It is moved to a later time only when it
    // goes off, so that a connection at work leaves the timer alone.
    let mut alarm = pin!(sleep_until(accepted + service.limits.header));
    let mut stopping = false;
    let end = poll_fn(|cx| {
        loop {
            // First of all, so that a request which is already here is in flight before it is asked to stop.
            if Pin::new(&mut connection).poll(cx).is_ready() {
                return Poll::Ready(End::Finished);
            }
            if !stopping && Pin::new(&mut stop).poll(cx).is_ready() {
                stopping = true;
                Pin::new(&mut connection).graceful_shutdown();
                continue;
            }
            let deadline = match watch.look(&activity, Instant::now()) {
                Verdict::Wait(deadline) => deadline,
                Verdict::Close => return Poll::Ready(End::Expired),
                Verdict::Refuse(status) => return Poll::Ready(End::Refused(status)),
            };
            if let Some(deadline) = deadline
                && (deadline < alarm.deadline() || alarm.is_elapsed())
            {
                alarm.as_mut().reset(deadline);
            }
            if alarm.as_mut().poll(cx).is_pending() || deadline.is_none() {
                return Poll::Pending;
            }
        }
    })
    .await;

    let wire = connection.into_parts().io.into_inner();
    let (mut stream, has_unread) = wire.into_inner();
    // Boxed, because they are rare and would make the task of every connection larger.
    match end {
        End::Refused(status) => {
            Box::pin(tell(&mut stream, service.refuse, status)).await;
            Box::pin(linger(stream)).await;
        }
        End::Finished if has_unread => Box::pin(linger(stream)).await,
        End::Finished | End::Expired => {}
    }
}

/// Writes a response to nothing that hyper has read, by letting it read a stand-in.
async fn tell<S: AsyncWrite + Unpin>(stream: &mut S, refuse: Refuse, status: StatusCode) {
    const STAND_IN: &[u8] = b"GET / HTTP/1.1\r\n\r\n";

    let answer = service_fn(move |_| {
        let response = hyper::Response::from(refuse(status));
        ready(Ok::<_, Infallible>(response))
    });
    let both = TokioIo::new(tokio::io::join(STAND_IN, stream));
    // The stand-in ends at once; without half_close that would be a client that went away.
    let told = http1::Builder::new()
        .half_close(true)
        .keep_alive(false)
        .serve_connection(both, answer);
    // A client that does not take this does not get it.
    let _ = timeout(FAREWELL, told).await;
}

/// Closes after the client has had a chance to read the last response: closing a socket with unread bytes resets it,
/// and a reset discards what the client has not read yet.
async fn linger<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) {
    let mut sink = vec![0; 8 * 1024];
    let mut budget = FAREWELL_BYTES;
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
    // Whatever happens now, the connection is over.
    let _ = timeout(FAREWELL, until_closed).await;
}

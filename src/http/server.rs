//! The HTTP server: an accept loop over hyper that serves a poem endpoint.
//!
//! It exists because `poem::Server` has no deadline for heads, no cap on connections and no limit on the size of a head.
//! Its guarantees:
//!
//! * A slow client cannot hold a connection. A head is complete within [`Limits::header`], a connection without a
//!   request lasts [`Limits::idle`], a response that is not read is aborted after [`Limits::stall`]. (Middleware ends a slow
//!   request body: it knows how long that body may take.)
//! * At most [`Limits::connections`] are open. At the cap the connection that has been idle for the longest is closed; if
//!   none is idle, new connections wait in the kernel's backlog. One network has at most
//!   [`Limits::connections_of_network`] of them, except the proxies in [`Server::trusted`]: its own longest idle connection
//!   is closed, and if none is idle, its new connection is closed.
//! * A head beyond our limits, or one that two parsers could read differently, is answered with a problem and is the
//!   last on its connection. A head that hyper itself cannot parse gets hyper's bare 400, also as the last.
//! * A shutdown lets running requests finish within [`Server::drain`].
//! * With [`Server::tls`] no byte is sent in plaintext; the handshake counts against the time for the first head.
//!
//! HTTP/1.1 only, as proxies speak it upstream: attacks on HTTP/2 do not apply. HTTP/1.0 is answered without
//! keep-alive. A chunked request is the last on its connection, because only hyper knows where it ends.
//!
//! Deadlines use the runtime's clock, which wakes the task, and not [`Clock`](crate::domain::Clock). The runtime's clock
//! stands still while the machine sleeps: a connection then lasts longer, and revocation does not depend on it.
//!
//! Path of a request: `acceptor` accepts the connection and `connection_table` counts it. `connection` serves it with
//! `guarded_io` between socket and hyper, `conn_service` behind hyper, and `deadlines` beside hyper. They share an
//! `Activity`.

mod acceptor;
mod activity;
mod conn_service;
mod connection;
mod connection_table;
mod deadlines;
mod guarded_io;
mod head;
mod tls;

use std::{io, pin::pin, sync::Arc, time::Duration};

use hyper::server::conn::http1;
use ipnet::IpNet;
use poem::{
    Addr, Endpoint, Response,
    http::{StatusCode, uri::Scheme},
    web::{LocalAddr, RemoteAddr},
};
use tokio::{
    net::TcpListener,
    sync::oneshot,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use self::{
    acceptor::Acceptor, activity::Activity, conn_service::ConnService,
    connection_table::ConnectionTable, deadlines::micros, head::Bounds,
};
use super::context::is_trusted;
use crate::domain::Network;

pub use self::tls::Tls;

/// Renders the response to a request that does not reach the endpoint: 400, 408, 414 or 431.
pub type Reject = fn(StatusCode) -> Response;

/// Time after its accept during which a silent connection is not evicted. Without it a burst of new connections would
/// evict one another, each before its first request has been read.
const NEW_CONNECTION_GRACE: Duration = Duration::from_millis(500);
/// Interval between searches for an idle connection while the server is full and a client waits.
const EVICTION_RETRY_INTERVAL: Duration = Duration::from_millis(20);
/// Header fields that hyper parses without an allocation per request: its default limit.
const HYPER_FIELDS: usize = 100;

/// Limits on connections and on request heads.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Time for a request head, from the accept or from its first byte.
    pub header: Duration,
    /// Time a connection may stay open between requests.
    pub idle: Duration,
    /// Time in which a client must read 16 KiB of its response, or the rest of it.
    pub stall: Duration,
    /// Open connections, at least 1.
    pub connections: usize,
    /// Open connections of one network, at least 1.
    pub connections_of_network: usize,
    /// Header fields of a request.
    pub fields: usize,
    /// Bytes of a request's header section, without the request line.
    pub header_bytes: usize,
    /// Bytes of a request target.
    pub target_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header: Duration::from_secs(5),
            idle: Duration::from_mins(1),
            stall: Duration::from_mins(1),
            connections: 4096,
            connections_of_network: 4096,
            fields: 64,
            header_bytes: 16 * 1024,
            target_bytes: 8 * 1024,
        }
    }
}

impl Limits {
    fn bounds(&self) -> Bounds {
        Bounds {
            fields: self.fields,
            headers: self.header_bytes,
            target: self.target_bytes,
        }
    }

    /// Configures hyper with limits a little above ours, so that ours reject first.
    fn http(&self) -> http1::Builder {
        let mut http = http1::Builder::new();
        // Responses are short: copying a body behind its head costs less than a vectored write.
        http.writev(false);
        http.max_buf_size(self.target_bytes + self.header_bytes + 8 * 1024);
        if self.fields > HYPER_FIELDS {
            http.max_headers(self.fields);
        }
        http
    }
}

/// Counts of the connections that were open at shutdown, by how they ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Idle connections, closed at once.
    pub idle: usize,
    /// Busy connections that finished in time.
    pub finished: usize,
    /// Busy connections that were aborted.
    pub aborted: usize,
}

/// A server that has not been started.
#[derive(Debug)]
pub struct Server<E: ?Sized> {
    /// Endpoint that answers requests.
    pub endpoint: Arc<E>,
    /// Renders rejections.
    pub reject: Reject,
    /// Limits on clients.
    pub limits: Limits,
    /// Proxies, which carry connections of many clients and have no limit per network.
    pub trusted: Vec<IpNet>,
    /// TLS settings; `None` serves plaintext.
    pub tls: Option<Arc<Tls>>,
    /// Time that running requests have after shutdown.
    pub drain: Duration,
}

/// State that all connections share.
struct ServerState<E: ?Sized> {
    endpoint: Arc<E>,
    reject: Reject,
    limits: Limits,
    http: http1::Builder,
    /// Zero of the server's clock.
    started: Instant,
}

impl<E: Endpoint<Output = Response> + ?Sized + 'static> Server<E> {
    /// Serves connections of `listener` until `shutdown`, then lets running requests finish.
    ///
    /// The caller fails readiness first and cancels `shutdown` later, so that load balancers have time to choose another
    /// replica.
    ///
    /// # Errors
    ///
    /// Only if the runtime cannot register the listener. A failing accept is logged once and retried.
    pub async fn run(
        self,
        listener: TcpListener,
        shutdown: CancellationToken,
    ) -> io::Result<Drained> {
        let mut acceptor = Acceptor::new(listener)?;
        let local = LocalAddr(Addr::SocketAddr(acceptor.address()?));
        let mut connections = ConnectionTable::new(
            self.limits.connections.max(1),
            self.limits.connections_of_network.max(1),
        );
        let state = Arc::new(ServerState {
            http: self.limits.http(),
            endpoint: self.endpoint,
            reject: self.reject,
            limits: self.limits,
            started: Instant::now(),
        });

        let scheme = match self.tls {
            Some(_) => Scheme::HTTPS,
            None => Scheme::HTTP,
        };

        let mut stopped = pin!(shutdown.cancelled());
        loop {
            if connections.is_full() {
                tokio::select! {
                    biased;
                    () = &mut stopped => break,
                    () = connections.reap() => {}
                    readable = acceptor.readable() => {
                        readable?;
                        tokio::select! {
                            biased;
                            () = &mut stopped => break,
                            () = make_room(&mut connections, state.started) => {}
                        }
                    }
                }
                continue;
            }
            let incoming = tokio::select! {
                biased;
                () = &mut stopped => break,
                () = connections.reap() => continue,
                incoming = acceptor.accept() => incoming,
            };
            if let Some((stream, address)) = incoming {
                let accepted = Instant::now();
                let ip = address.ip().to_canonical();
                let network = (!is_trusted(ip, &self.trusted)).then(|| Network::from(ip));
                let now = micros(state.started, accepted);
                if network.is_some_and(|network| !connections.make_room_for(network, now)) {
                    continue;
                }
                let idle_from = micros(state.started, accepted + NEW_CONNECTION_GRACE);
                let activity = Arc::new(Activity::new(idle_from));
                let service = Arc::new(ConnService {
                    server: Arc::clone(&state),
                    activity: Arc::clone(&activity),
                    local: local.clone(),
                    remote: RemoteAddr(Addr::SocketAddr(address)),
                    scheme: scheme.clone(),
                });
                let (stop, stopping) = oneshot::channel();
                // Two future types, so that a plaintext connection does not pay for the size of a TLS one.
                match &self.tls {
                    None => {
                        let connection = connection::serve(stream, service, accepted, stopping);
                        connections.insert(network, activity, stop, connection);
                    }
                    Some(tls) => {
                        let tls = Arc::clone(tls);
                        let connection =
                            connection::serve_tls(stream, tls, service, accepted, stopping);
                        connections.insert(network, activity, stop, connection);
                    }
                }
            } else if acceptor.is_stuck() {
                // An idle connection may hold the descriptor that is missing.
                connections.evict(micros(state.started, Instant::now()));
            }
        }

        drop(acceptor);
        Ok(connections.drain(self.drain).await)
    }
}

/// Waits until one more connection may be served; evicts at most one.
async fn make_room(connections: &mut ConnectionTable, started: Instant) {
    let mut has_evicted = false;
    while connections.is_full() {
        has_evicted = has_evicted || connections.evict(micros(started, Instant::now()));
        tokio::select! {
            () = connections.reap() => {}
            () = sleep(EVICTION_RETRY_INTERVAL) => {}
        }
    }
}

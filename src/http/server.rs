//! The HTTP server: an accept loop over hyper that serves a poem endpoint.
//!
//! It exists because `poem::Server` has no deadline for heads, no cap on connections and no bound on what a head may
//! be. It keeps these promises:
//!
//! * No client holds a connection by being slow. A head is complete within [`Limits::header`], a connection without a
//!   request lasts [`Limits::idle`], a response that is not read is given up after [`Limits::stall`]. (A slow request
//!   body is for a middleware to end, which knows what the body is worth.)
//! * There are never more than [`Limits::connections`]. At the cap the one that has been idle for the longest makes
//!   room; if none is idle, a newcomer waits in the kernel's backlog. No network has more than
//!   [`Limits::connections_of_network`] of them, but for the proxies in [`Server::trusted`]: its own longest idle one makes room,
//!   and if none is idle, its newcomer is sent away.
//! * A head beyond our bounds, or one that two parsers could read differently, is answered with a problem and is the
//!   last on its connection. What hyper itself cannot parse gets its bare 400, likewise the last.
//! * A stop lets requests finish, and no longer than it was told to.
//! * With [`Server::tls`] nothing is said in the clear; the handshake counts against the time for the first head.
//!
//! HTTP/1.1 only, as proxies speak it upstream: HTTP/2's own attacks do not apply. HTTP/1.0 is answered, without
//! keep-alive. A chunked request is the last on its connection, since only hyper knows where it ends.
//!
//! Its deadlines are counted by the runtime, which has to wake up for them, and not by [`Clock`](crate::domain::Clock). The
//! runtime's stands still while the machine sleeps: a connection then lasts longer, and nothing about revocation depends on it.
//!
//! The way of a request: `door` lets a connection in, `roster` counts it, `connection` serves it with a `wire` under
//! hyper, an `exchange` behind it and a `watch` beside it; `activity` is what these tell one another.

mod activity;
mod connection;
mod door;
mod exchange;
mod head;
mod roster;
mod tls;
mod watch;
mod wire;

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
    activity::Activity, door::Door, exchange::Exchange, head::Bounds, roster::Roster, watch::micros,
};
use super::context::is_trusted;
use crate::domain::Network;

pub use self::tls::Tls;

/// Renders the answer to a request that does not reach the endpoint: 400, 408, 414 or 431.
pub type Refuse = fn(StatusCode) -> Response;

/// How long after its accept a connection that has sent nothing may be closed to make room. Without it a crowd at the
/// door would only push one another out, each before its first request has been read.
const SETTLING_IN: Duration = Duration::from_millis(500);
/// How often a full server looks for somebody who has become idle, while somebody waits.
const CROWDED_RETRY: Duration = Duration::from_millis(20);
/// The fields that hyper parses without an allocation for each request, its default limit.
const HYPER_FIELDS: usize = 100;

/// How much of a connection a client may have.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The time for a request head, from the accept or from its first byte.
    pub header: Duration,
    /// The time a connection may stay open between requests.
    pub idle: Duration,
    /// The time in which a client that is being answered must read 16 KiB, or the rest.
    pub stall: Duration,
    /// Connections at one time, at least 1.
    pub connections: usize,
    /// Of these, those of one network, at least 1.
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

    /// hyper with limits a little above ours, so that it is never the first to refuse.
    fn http(&self) -> http1::Builder {
        let mut http = http1::Builder::new();
        // Answers are short: to copy a body behind its head costs less than to write from two places.
        http.writev(false);
        http.max_buf_size(self.target_bytes + self.header_bytes + 8 * 1024);
        if self.fields > HYPER_FIELDS {
            http.max_headers(self.fields);
        }
        http
    }
}

/// What became of the connections that were open when the server was told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Connections without a request, closed at once.
    pub idle: usize,
    /// Connections at work that came to their end in time.
    pub finished: usize,
    /// Connections at work that were cut off.
    pub cut: usize,
}

/// A server that has not been started.
#[derive(Debug)]
pub struct Server<E: ?Sized> {
    /// What answers requests.
    pub endpoint: Arc<E>,
    /// What words refusals.
    pub refuse: Refuse,
    /// What a client may have.
    pub limits: Limits,
    /// Proxies, which bring connections of many.
    pub trusted: Vec<IpNet>,
    /// What greets clients, where they speak TLS.
    pub tls: Option<Arc<Tls>>,
    /// How long requests may go on after the stop.
    pub drain: Duration,
}

/// What all connections share.
struct Service<E: ?Sized> {
    endpoint: Arc<E>,
    refuse: Refuse,
    limits: Limits,
    http: http1::Builder,
    /// Zero on the server's clock.
    started: Instant,
}

impl<E: Endpoint<Output = Response> + ?Sized + 'static> Server<E> {
    /// Serves connections of `listener` until `shutdown`, then lets those at work finish.
    ///
    /// Between telling the world that it is about to stop and cancelling `shutdown` the caller leaves it running, so
    /// that load balancers have time to look elsewhere.
    ///
    /// # Errors
    ///
    /// Only if the runtime cannot watch the listener. A failing accept is logged once and tried again.
    pub async fn run(
        self,
        listener: TcpListener,
        shutdown: CancellationToken,
    ) -> io::Result<Drained> {
        let mut door = Door::new(listener)?;
        let local = LocalAddr(Addr::SocketAddr(door.address()?));
        let mut roster = Roster::new(
            self.limits.connections.max(1),
            self.limits.connections_of_network.max(1),
        );
        let service = Arc::new(Service {
            http: self.limits.http(),
            endpoint: self.endpoint,
            refuse: self.refuse,
            limits: self.limits,
            started: Instant::now(),
        });

        let scheme = match self.tls {
            Some(_) => Scheme::HTTPS,
            None => Scheme::HTTP,
        };

        let mut stopped = pin!(shutdown.cancelled());
        loop {
            if roster.is_full() {
                tokio::select! {
                    biased;
                    () = &mut stopped => break,
                    () = roster.ended() => {}
                    knock = door.knock() => {
                        knock?;
                        tokio::select! {
                            biased;
                            () = &mut stopped => break,
                            () = room(&mut roster, service.started) => {}
                        }
                    }
                }
                continue;
            }
            let guest = tokio::select! {
                biased;
                () = &mut stopped => break,
                () = roster.ended() => continue,
                guest = door.open() => guest,
            };
            if let Some((stream, address)) = guest {
                let accepted = Instant::now();
                let ip = address.ip().to_canonical();
                let network = (!is_trusted(ip, &self.trusted)).then(|| Network::from(ip));
                let now = micros(service.started, accepted);
                if network.is_some_and(|network| !roster.has_room_for(network, now)) {
                    continue;
                }
                let idle_from = micros(service.started, accepted + SETTLING_IN);
                let activity = Arc::new(Activity::new(idle_from));
                let exchange = Arc::new(Exchange {
                    service: Arc::clone(&service),
                    activity: Arc::clone(&activity),
                    local: local.clone(),
                    remote: RemoteAddr(Addr::SocketAddr(address)),
                    scheme: scheme.clone(),
                });
                let (stop, stopping) = oneshot::channel();
                // Two futures, so that connections without TLS do not pay for the size of those with it.
                match &self.tls {
                    None => {
                        let connection = connection::attend(stream, exchange, accepted, stopping);
                        roster.admit(network, activity, stop, connection);
                    }
                    Some(tls) => {
                        let tls = Arc::clone(tls);
                        let connection =
                            connection::attend_tls(stream, tls, exchange, accepted, stopping);
                        roster.admit(network, activity, stop, connection);
                    }
                }
            } else if door.is_stuck() {
                // Somebody idle may hold the descriptor that is wanting.
                roster.evict(micros(service.started, Instant::now()));
            }
        }

        drop(door);
        Ok(roster.drain(self.drain).await)
    }
}

/// Waits until one more connection may be served, closing at most one to that end.
async fn room(roster: &mut Roster, started: Instant) {
    let mut has_evicted = false;
    while roster.is_full() {
        has_evicted = has_evicted || roster.evict(micros(started, Instant::now()));
        tokio::select! {
            () = roster.ended() => {}
            () = sleep(CROWDED_RETRY) => {}
        }
    }
}

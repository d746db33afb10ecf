//! A proxy before Redis that injects network faults: it delays data, swallows matching data, closes connections, and refuses
//! new ones.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::redis::PASSWORD;

/// Faults that the proxy injects.
#[derive(Debug, Clone, Default)]
pub struct Weather {
    /// Greatest random delay of each chunk, in either direction.
    pub delay: Duration,
    /// A chunk towards Redis that contains all of these strings is swallowed, and all that follows it on the connection.
    pub swallow: Vec<&'static str>,
    /// Nothing passes; connections stay open.
    pub black_hole: bool,
    /// Connections that have sent this string are exempt from `black_hole`.
    pub spare: Option<&'static str>,
    /// New connections are closed at once.
    pub refuse: bool,
}

/// Proxy, which ends with the test.
pub struct Proxy {
    addr: SocketAddr,
    weather: Arc<Mutex<Weather>>,
    connections: Arc<Mutex<JoinSet<()>>>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// Starts a proxy to `target` that injects no faults yet.
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let weather: Arc<Mutex<Weather>> = Arc::default();
        let connections: Arc<Mutex<JoinSet<()>>> = Arc::default();
        let (sky, open) = (Arc::clone(&weather), Arc::clone(&connections));
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if sky.lock().unwrap().refuse {
                    continue;
                }
                let Ok(server) = TcpStream::connect(target).await else {
                    continue;
                };
                client.set_nodelay(true).unwrap();
                server.set_nodelay(true).unwrap();
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                let mut open = open.lock().unwrap();
                let spared = Arc::new(AtomicBool::new(false));
                let way = |towards_redis| Way {
                    weather: Arc::clone(&sky),
                    spared: Arc::clone(&spared),
                    towards_redis,
                };
                open.spawn(pass(from_client, to_server, way(true)));
                open.spawn(pass(from_server, to_client, way(false)));
            }
        });
        Self {
            addr,
            weather,
            connections,
            accepting,
        }
    }

    /// Address on which the proxy listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// URL of Redis behind this proxy.
    pub fn url(&self) -> String {
        format!("redis://portcullis:{PASSWORD}@{}", self.addr)
    }

    /// Replaces the faults from now on.
    pub fn set(&self, weather: Weather) {
        *self.weather.lock().unwrap() = weather;
    }

    /// Closes all connections.
    pub fn cut(&self) {
        self.connections.lock().unwrap().abort_all();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// One direction of a connection.
struct Way {
    weather: Arc<Mutex<Weather>>,
    /// True once the connection has sent the string that exempts it.
    spared: Arc<AtomicBool>,
    towards_redis: bool,
}

async fn pass(mut from: impl AsyncReadExt + Unpin, mut to: impl AsyncWriteExt + Unpin, way: Way) {
    let mut piece = vec![0; 64 * 1024];
    let mut number: u32 = 0;
    while let Ok(length @ 1..) = from.read(&mut piece).await {
        let now = way.weather.lock().unwrap().clone();
        let text = String::from_utf8_lossy(&piece[..length]);
        if way.towards_redis && now.spare.is_some_and(|word| text.contains(word)) {
            way.spared.store(true, Ordering::Relaxed);
        }
        let lost = now.black_hole && !way.spared.load(Ordering::Relaxed);
        let swallowed = way.towards_redis
            && !now.swallow.is_empty()
            && now.swallow.iter().all(|word| text.contains(word));
        if lost || swallowed {
            return std::future::pending().await;
        }
        if !now.delay.is_zero() {
            // Any distribution will do; a fixed sequence can be repeated.
            number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            tokio::time::sleep(now.delay.mul_f64(f64::from(number >> 16) / 65_536.0)).await;
        }
        if to.write_all(&piece[..length]).await.is_err() {
            return;
        }
    }
}

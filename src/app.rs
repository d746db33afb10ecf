//! The composition root: everything is put together here, once, and taken apart in the opposite order.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use poem::{Endpoint, Response};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::auth::accounts::Accounts;
use crate::auth::administration::Administration;
use crate::auth::clients::Clients;
use crate::auth::keyring::Keys;
use crate::auth::keyring::private_file::keep;
use crate::auth::passwords::Passwords;
use crate::auth::refresh_tokens::RefreshTokens;
use crate::auth::revocation::{Following, Revocations};
use crate::auth::sessions::{Lifetimes, Sessions};
use crate::auth::throttle::Throttle;
use crate::auth::tokens::Tokens;
use crate::config::{Config, HttpConfig, RedisAddress, RedisServer, Secret, SigningKey, TlsFiles};
use crate::domain::Clock;
use crate::http::management::{self, Health};
use crate::http::server::{Limits, Server, Tls};
use crate::http::{self, BrowserRules, Services};
use crate::store::{EmbeddedRedis, Keyspace, Redis};
use crate::telemetry::Metrics;

/// Connections to the management address; probes and scrapers are few.
const MANAGEMENT_CONNECTIONS: usize = 64;

/// One replica, bound to its addresses and not serving yet.
pub struct App {
    config: HttpConfig,
    readiness_grace: Duration,
    services: Services,
    revocations: Arc<Revocations>,
    following: Following,
    public: TcpListener,
    management: TcpListener,
    tls: Option<Arc<Tls>>,
    private_redis: Option<EmbeddedRedis>,
}

/// Why a replica cannot start: a sentence for whoever started it.
#[derive(Debug)]
pub struct StartError(pub String);

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StartError {}

impl App {
    /// Puts a replica together and binds its addresses; port 0 lets the system choose. A Redis that is named need not be
    /// there yet; a private one is started.
    ///
    /// # Errors
    /// A sentence: an address is taken, the key or the private Redis cannot be had.
    pub async fn build(config: Config) -> Result<Self, StartError> {
        let public = bind("LISTEN", config.http.listen).await?;
        let management = bind("MANAGEMENT_LISTEN", config.http.management_listen).await?;
        let tls = config.http.tls.clone().map(open_tls).transpose()?;
        let (address, private_redis) = redis_address(&config.redis.server).await?;
        let redis = Redis::new(&address, Keyspace::new(config.redis.prefix.clone()))
            .map_err(|error| StartError(error.to_string()))?;
        let (services, revocations, following) = compose(&config, &redis)?;
        Ok(Self {
            readiness_grace: config.revocation.readiness_grace,
            config: config.http,
            services,
            revocations,
            following,
            public,
            management,
            tls,
            private_redis,
        })
    }

    /// The address that clients connect to.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.public.local_addr().ok()
    }

    /// The address of probes and metrics.
    #[must_use]
    pub fn management_addr(&self) -> Option<SocketAddr> {
        self.management.local_addr().ok()
    }

    /// Serves until `shutdown`, then drains: readiness fails, a delay for balancers to notice, requests in flight finish.
    ///
    /// # Errors
    /// Where the runtime cannot watch the listeners, or a part of the replica has ended by itself.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> io::Result<()> {
        let (stop_serving, stop_rest) = (CancellationToken::new(), CancellationToken::new());
        let mut following = tokio::spawn(self.following.run(stop_rest.clone()));
        let keys = Arc::clone(&self.services.keys);
        let mut watching = tokio::spawn(keys.watch(stop_rest.clone()));
        let mut renewing = tokio::spawn(renew(self.tls.clone(), stop_rest.clone()));
        let grace = self.readiness_grace;
        let health = Arc::new(Health {
            revocations: Arc::clone(&self.revocations),
            grace,
            draining: AtomicBool::new(false),
        });
        let management =
            management::routes(Arc::clone(&health), Arc::clone(&self.services.metrics));
        let management = server(management, MANAGEMENT_CONNECTIONS, Duration::from_secs(1));
        let mut management = tokio::spawn(management.run(self.management, stop_rest.clone()));
        let metrics = Arc::clone(&self.services.metrics);
        let (origins, issuer) = (self.config.cors_origins, &self.services.issuer);
        let rules = BrowserRules::new(origins, self.config.cookies, issuer);
        let rules = rules.over_tls(self.tls.is_some());
        let trusted = self.config.trusted_proxies;
        let public = http::public(self.services, trusted.clone(), rules, self.config.docs);
        let mut public = server(
            public,
            self.config.max_connections,
            self.config.drain_timeout,
        );
        public.limits.connections_of_network = self.config.max_connections_of_network;
        public.trusted = trusted;
        public.tls = self.tls;
        let mut public = tokio::spawn(public.run(self.public, stop_serving.clone()));
        let mut private_redis = self.private_redis;

        // A replica that has lost a part of itself must end, and be started again, rather than look alive.
        tokio::select! {
            () = shutdown => {}
            _ = &mut following => return Err(io::Error::other("the follower of the feed has ended")),
            _ = &mut watching => return Err(io::Error::other("nobody watches the keys any more")),
            _ = &mut renewing => return Err(io::Error::other("nobody watches the certificate any more")),
            _ = &mut management => return Err(io::Error::other("the management server has ended")),
            _ = &mut public => return Err(io::Error::other("the server has ended")),
            () = ended(&mut private_redis) => return Err(io::Error::other("the private redis-server has ended")),
        }
        health.draining.store(true, Ordering::Relaxed);
        info!(
            event = "draining",
            "told to stop: readiness fails, requests in flight finish"
        );
        tokio::time::sleep(self.config.drain_delay).await;
        stop_serving.cancel();
        let drained = public.await.map_err(io::Error::other)??;
        self.revocations.finish().await;
        stop_rest.cancel();
        following.await.map_err(io::Error::other)?;
        watching.await.map_err(io::Error::other)?;
        renewing.await.map_err(io::Error::other)?;
        management.await.map_err(io::Error::other)??;
        if let Some(redis) = private_redis {
            redis.stop().await;
        }
        // It waits for whoever takes them, for a moment.
        let finished = tokio::task::spawn_blocking(move || metrics.finish());
        finished.await.map_err(io::Error::other)?;
        if drained.cut > 0 {
            warn!(
                event = "stopped",
                cut = drained.cut,
                "stopped; some requests did not finish in time"
            );
        } else {
            info!(event = "stopped", "stopped");
        }
        Ok(())
    }
}

/// The OpenAPI document. Nothing is connected, bound or kept for it.
///
/// # Errors
/// A sentence where a part cannot be made.
pub fn document(mut config: Config) -> Result<String, StartError> {
    // The key of a replica that makes its own would be written to its folder.
    config.tokens.signing = Some(SigningKey::Secret(Secret::generate()));
    config.tokens.key_folder = None;
    let nowhere = RedisAddress::plain(Secret::new("redis://127.0.0.1".to_owned()));
    let redis = Redis::new(&nowhere, Keyspace::new(String::new()))
        .map_err(|error| StartError(error.to_string()))?;
    let (services, ..) = compose(&config, &redis)?;
    Ok(http::document(&services))
}

fn compose(
    config: &Config,
    redis: &Redis,
) -> Result<(Services, Arc<Revocations>, Following), StartError> {
    let clock = Clock::machine();
    let metrics = Arc::new(Metrics::new(config.telemetry.exports).map_err(StartError)?);
    let tokens = &config.tokens;
    let secret = tokens.signing.as_ref().map(signing_secret).transpose()?;
    let refresh_tokens = RefreshTokens::new(&tokens.refresh_secrets, secret.as_ref())
        .map_err(|error| StartError(error.to_owned()))?;
    let keys = Keys::open(secret, tokens.key_folder.clone()).map_err(StartError)?;
    let keys = Arc::new(keys);
    let lifetimes = Lifetimes {
        idle: tokens.refresh_idle,
        longest: tokens.session_max,
        grace: tokens.refresh_grace,
    };
    let passwords = Passwords::new(&config.passwords)
        .map_err(|error| StartError(format!("hashing threads: {error}")))?;
    let passwords = Arc::new(passwords);
    let (revocations, following) =
        Revocations::new(redis.clone(), config.revocation, clock.clone());
    let revocations = Arc::new(revocations);
    metrics.watch(
        &revocations,
        &passwords,
        redis.clone(),
        Arc::clone(&keys),
        clock.clone(),
    );
    let tokens = Tokens::new(
        Arc::clone(&keys),
        tokens.issuer.clone(),
        tokens.audience.clone(),
        tokens.access_ttl,
        clock.clone(),
    );
    let throttle = Arc::new(Throttle::new(redis.clone(), config.throttles));
    if config.throttles.is_none() {
        warn!(
            event = "not_throttled",
            "THROTTLE=off: passwords can be guessed as fast as they can be hashed; never use this where others can reach it"
        );
    }
    let administration = Administration::new(redis.clone(), Arc::clone(&revocations));
    let accounts = Accounts::new(
        redis.clone(),
        Arc::clone(&passwords),
        Arc::clone(&revocations),
        Arc::clone(&throttle),
    );
    let sessions = Sessions::new(
        redis.clone(),
        Arc::clone(&passwords),
        (tokens, refresh_tokens),
        lifetimes,
        Arc::clone(&revocations),
        throttle,
    );
    let services = Services {
        accounts: Arc::new(accounts),
        administration: Arc::new(administration),
        passwords,
        sessions: Arc::new(sessions),
        clients: Arc::new(Clients::new(&config.clients)),
        issuer: config.tokens.issuer.clone(),
        keys,
        metrics,
        clock,
    };
    Ok((services, revocations, following))
}

/// A server with the bounds that hold for all.
fn server<E: Endpoint<Output = Response> + 'static>(
    endpoint: E,
    connections: usize,
    drain: Duration,
) -> Server<E> {
    let limits = Limits {
        connections,
        connections_of_network: connections,
        ..Limits::default()
    };
    Server {
        endpoint: Arc::new(endpoint),
        refuse: http::refusal,
        limits,
        trusted: Vec::new(),
        tls: None,
        drain,
    }
}

fn open_tls(files: TlsFiles) -> Result<Arc<Tls>, StartError> {
    Tls::open(files).map(Arc::new).map_err(StartError)
}

async fn renew(tls: Option<Arc<Tls>>, stop: CancellationToken) {
    match tls {
        Some(tls) => tls.watch(stop).await,
        None => stop.cancelled().await,
    }
}

async fn bind(setting: &str, address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address)
        .await
        .map_err(|error| StartError(format!("{setting}: cannot listen on {address}: {error}")))
}

async fn redis_address(
    server: &RedisServer,
) -> Result<(RedisAddress, Option<EmbeddedRedis>), StartError> {
    match server {
        RedisServer::At(address) => Ok((address.clone(), None)),
        RedisServer::Private(folder) => {
            let redis = EmbeddedRedis::start(folder)
                .await
                .map_err(|error| StartError(error.to_string()))?;
            Ok((RedisAddress::plain(Secret::new(redis.url())), Some(redis)))
        }
    }
}

fn signing_secret(signing: &SigningKey) -> Result<Secret, StartError> {
    match signing {
        SigningKey::Secret(secret) => Ok(secret.clone()),
        SigningKey::KeptIn(file) => {
            kept_secret(file).map_err(|error| StartError(format!("{}: {error}", file.display())))
        }
    }
}

/// The secret in the file, or a new one that is kept there.
fn kept_secret(file: &Path) -> io::Result<Secret> {
    if let Ok(text) = std::fs::read_to_string(file) {
        let secret = Secret::new(text.trim_end().to_owned());
        return match secret.weakness() {
            None => Ok(secret),
            Some(weakness) => Err(io::Error::other(format!(
                "the key in it {weakness}; delete the file to have one made"
            ))),
        };
    }
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let secret = Secret::generate();
    match keep(file, &secret) {
        Ok(()) => Ok(secret),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => kept_secret(file),
        Err(error) => Err(error),
    }
}

/// Resolves when the private Redis, where there is one, has ended by itself.
async fn ended(redis: &mut Option<EmbeddedRedis>) {
    match redis {
        Some(redis) => redis.ended().await,
        None => std::future::pending().await,
    }
}

//! Composition root: builds all services once, and stops them in the opposite order.

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
use crate::auth::keyring::KeyStore;
use crate::auth::keyring::private_file::write_new_private;
use crate::auth::passwords::Passwords;
use crate::auth::rate_limit::RateLimiter;
use crate::auth::refresh_tokens::RefreshTokens;
use crate::auth::revocation::{BackgroundTasks, Revocations};
use crate::auth::sessions::{Lifetimes, Sessions};
use crate::auth::tokens::Tokens;
use crate::config::{Config, HttpConfig, RedisAddress, RedisServer, Secret, SigningKey, TlsFiles};
use crate::domain::Clock;
use crate::http::management::{self, Health};
use crate::http::server::{Limits, Server, Tls};
use crate::http::{self, BrowserRules, Services};
use crate::store::{EmbeddedRedis, Keyspace, Redis};
use crate::telemetry::Metrics;

/// Maximum number of connections to the management address; probes and scrapers are few.
const MAX_MANAGEMENT_CONNECTIONS: usize = 64;

/// Replica that is bound to its addresses and does not serve yet.
pub struct App {
    config: HttpConfig,
    readiness_grace: Duration,
    services: Services,
    revocations: Arc<Revocations>,
    following: BackgroundTasks,
    public: TcpListener,
    management: TcpListener,
    tls: Option<Arc<Tls>>,
    private_redis: Option<EmbeddedRedis>,
}

/// Reason why a replica cannot start, as a sentence for the operator.
#[derive(Debug)]
pub struct StartError(pub String);

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StartError {}

impl App {
    /// Builds a replica and binds its addresses; port 0 lets the system choose. An external Redis need not be reachable yet; a
    /// private one is started.
    ///
    /// # Errors
    /// A sentence, if an address is in use, a key cannot be read, or the private Redis cannot start.
    pub async fn build(config: Config) -> Result<Self, StartError> {
        let public = bind("LISTEN", config.http.listen).await?;
        let management = bind("MANAGEMENT_LISTEN", config.http.management_listen).await?;
        let tls = config.http.tls.clone().map(open_tls).transpose()?;
        let (address, private_redis) = redis_address(&config.redis.server).await?;
        let redis = Redis::new(&address, Keyspace::new(config.redis.prefix.clone()))
            .map_err(|error| StartError(error.to_string()))?;
        let (services, revocations, following) = build_services(&config, &redis)?;
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

    /// Address that clients connect to.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.public.local_addr().ok()
    }

    /// Address of probes and metrics.
    #[must_use]
    pub fn management_addr(&self) -> Option<SocketAddr> {
        self.management.local_addr().ok()
    }

    /// Serves until `shutdown`, then drains: readiness fails, load balancers have a delay to notice, requests in flight finish.
    ///
    /// # Errors
    /// If the runtime cannot watch the listeners, or a task of the replica exited unexpectedly.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> io::Result<()> {
        let (stop_serving, stop_rest) = (CancellationToken::new(), CancellationToken::new());
        let mut feed_consumer = tokio::spawn(self.following.run(stop_rest.clone()));
        let keys = Arc::clone(&self.services.keys);
        let mut key_watcher = tokio::spawn(keys.watch(stop_rest.clone()));
        let mut certificate_watcher =
            tokio::spawn(watch_certificate(self.tls.clone(), stop_rest.clone()));
        let grace = self.readiness_grace;
        let health = Arc::new(Health {
            revocations: Arc::clone(&self.revocations),
            grace,
            draining: AtomicBool::new(false),
        });
        let management =
            management::routes(Arc::clone(&health), Arc::clone(&self.services.metrics));
        let management = server(
            management,
            MAX_MANAGEMENT_CONNECTIONS,
            Duration::from_secs(1),
        );
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

        // If a task exits, the replica exits too and is started again; otherwise it would look alive without that task.
        tokio::select! {
            () = shutdown => {}
            _ = &mut feed_consumer => return Err(io::Error::other("revocation feed consumer exited")),
            _ = &mut key_watcher => return Err(io::Error::other("signing key watcher exited")),
            _ = &mut certificate_watcher => return Err(io::Error::other("certificate watcher exited")),
            _ = &mut management => return Err(io::Error::other("management server exited")),
            _ = &mut public => return Err(io::Error::other("public server exited")),
            () = private_redis_exited(&mut private_redis) => return Err(io::Error::other("private redis-server exited")),
        }
        health.draining.store(true, Ordering::Relaxed);
        info!(
            event = "draining",
            "shutdown requested: readiness fails, requests in flight finish"
        );
        tokio::time::sleep(self.config.drain_delay).await;
        stop_serving.cancel();
        let drained = public.await.map_err(io::Error::other)??;
        self.revocations.finish().await;
        stop_rest.cancel();
        feed_consumer.await.map_err(io::Error::other)?;
        key_watcher.await.map_err(io::Error::other)?;
        certificate_watcher.await.map_err(io::Error::other)?;
        management.await.map_err(io::Error::other)??;
        if let Some(redis) = private_redis {
            redis.stop().await;
        }
        // Blocks up to `SHUTDOWN_TIMEOUT` if the receiver of metrics does not answer.
        let finished = tokio::task::spawn_blocking(move || metrics.shutdown());
        finished.await.map_err(io::Error::other)?;
        if drained.aborted > 0 {
            warn!(
                event = "stopped",
                aborted = drained.aborted,
                "stopped; some requests did not finish within DRAIN_TIMEOUT"
            );
        } else {
            info!(event = "stopped", "stopped");
        }
        Ok(())
    }
}

/// Generates the OpenAPI document, without a connection, a listener or a file.
///
/// # Errors
/// A sentence, if a service cannot be built.
pub fn openapi_document(mut config: Config) -> Result<String, StartError> {
    // Without this secret, a generated key would be written to DATA_DIR.
    config.tokens.signing = Some(SigningKey::Secret(Secret::generate()));
    config.tokens.key_folder = None;
    let unused = RedisAddress::plain(Secret::new("redis://127.0.0.1".to_owned()));
    let redis = Redis::new(&unused, Keyspace::new(String::new()))
        .map_err(|error| StartError(error.to_string()))?;
    let (services, ..) = build_services(&config, &redis)?;
    Ok(http::document(&services))
}

fn build_services(
    config: &Config,
    redis: &Redis,
) -> Result<(Services, Arc<Revocations>, BackgroundTasks), StartError> {
    let clock = Clock::machine();
    let metrics = Arc::new(Metrics::new(config.telemetry.exports).map_err(StartError)?);
    let tokens = &config.tokens;
    let secret = tokens.signing.as_ref().map(signing_secret).transpose()?;
    let refresh_tokens = RefreshTokens::new(&tokens.refresh_secrets, secret.as_ref())
        .map_err(|error| StartError(error.to_owned()))?;
    let keys = KeyStore::open(secret, tokens.key_folder.clone()).map_err(StartError)?;
    let keys = Arc::new(keys);
    let lifetimes = Lifetimes {
        idle: tokens.session_idle_timeout,
        longest: tokens.session_max_age,
        grace: tokens.refresh_reuse_interval,
    };
    let passwords = Passwords::new(&config.passwords)
        .map_err(|error| StartError(format!("hashing threads: {error}")))?;
    let passwords = Arc::new(passwords);
    let (revocations, following) =
        Revocations::new(redis.clone(), config.revocation, clock.clone());
    let revocations = Arc::new(revocations);
    metrics.register_gauges(&revocations, &passwords, redis.clone(), Arc::clone(&keys));
    let tokens = Tokens::new(
        Arc::clone(&keys),
        tokens.issuer.clone(),
        tokens.audience.clone(),
        tokens.access_ttl,
        clock.clone(),
    );
    let throttle = Arc::new(RateLimiter::new(redis.clone(), config.rate_limits));
    if config.rate_limits.is_none() {
        warn!(
            event = "not_throttled",
            "RATE_LIMIT=off: clients can guess passwords as fast as the replica can hash them; use it for load tests only"
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

/// Creates a server with the default limits.
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
        reject: http::reject,
        limits,
        trusted: Vec::new(),
        tls: None,
        drain,
    }
}

fn open_tls(files: TlsFiles) -> Result<Arc<Tls>, StartError> {
    Tls::open(files).map(Arc::new).map_err(StartError)
}

async fn watch_certificate(tls: Option<Arc<Tls>>, stop: CancellationToken) {
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
        SigningKey::File(file) => load_or_create_secret(file)
            .map_err(|error| StartError(format!("{}: {error}", file.display()))),
    }
}

/// Reads the secret in the file, or generates one and writes it there.
fn load_or_create_secret(file: &Path) -> io::Result<Secret> {
    if let Ok(text) = std::fs::read_to_string(file) {
        let secret = Secret::new(text.trim_end().to_owned());
        return match secret.weakness() {
            None => Ok(secret),
            Some(weakness) => Err(io::Error::other(format!(
                "the key in it {weakness}; delete the file to generate a new one"
            ))),
        };
    }
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let secret = Secret::generate();
    match write_new_private(file, &secret) {
        Ok(()) => Ok(secret),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => load_or_create_secret(file),
        Err(error) => Err(error),
    }
}

/// Resolves when the private Redis exits by itself; never without a private Redis.
async fn private_redis_exited(redis: &mut Option<EmbeddedRedis>) {
    match redis {
        Some(redis) => redis.ended().await,
        None => std::future::pending().await,
    }
}

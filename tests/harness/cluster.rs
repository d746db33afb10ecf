//! Replicas: the real application on free ports, in the process of the test.

use std::net::SocketAddr;
use std::sync::Once;
use std::time::Duration;

use portcullis::app::App;
use portcullis::config::{
    Config, Exports, HttpConfig, LogFormat, PasswordConfig, RedisAddress, RedisConfig, RedisServer,
    RevocationConfig, Secret, SigningKey, TelemetryConfig, TokenConfig,
};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::people::{Anonymous, PASSWORD, User, patiently};
use super::redis::Redis;

/// Secret that test replicas share, so that tests can sign their own tokens.
pub const SECRET: &str = "3fA9kQ2pX7vLr8TnB5yWc1ZeH6uMd0Js-for-tests";

/// Default settings for tests: free ports, cheap hashes, and no delays except where something depends on them.
pub fn config(redis_url: &str) -> Config {
    let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
    Config {
        http: HttpConfig {
            listen: any_port,
            management_listen: any_port,
            trusted_proxies: Vec::new(),
            max_connections: 10_000,
            max_connections_of_network: 10_000,
            tls: None,
            drain_delay: Duration::ZERO,
            drain_timeout: Duration::from_secs(5),
            cors_origins: Vec::new(),
            cookies: false,
            docs: true,
        },
        redis: RedisConfig {
            prefix: "portcullis:".to_owned(),
            server: RedisServer::At(RedisAddress::plain(Secret::new(redis_url.to_owned()))),
        },
        revocation: RevocationConfig {
            window: Duration::from_millis(50),
            stale_if_error: Duration::ZERO,
            readiness_grace: Duration::from_secs(10),
            alone: false,
        },
        tokens: TokenConfig {
            issuer: "http://localhost:8080".to_owned(),
            audience: "portcullis".to_owned(),
            access_ttl: Duration::from_hours(1),
            session_idle_timeout: Duration::from_hours(24 * 7),
            session_max_age: Duration::from_hours(24 * 30),
            refresh_reuse_interval: Duration::from_secs(30),
            refresh_secrets: Vec::new(),
            signing: Some(SigningKey::Secret(Secret::new(SECRET.to_owned()))),
            key_folder: None,
        },
        clients: Vec::new(),
        passwords: PasswordConfig {
            min_length: 8,
            pepper: None,
            cost: 4,
            threads: None,
            lanes: None,
            deadline: Duration::from_secs(10),
        },
        rate_limits: None,
        telemetry: TelemetryConfig {
            filter: "off".to_owned(),
            format: LogFormat::Json,
            audit_log: None,
            exports: Exports::default(),
        },
    }
}

/// Default settings for tests, with the number of Redis replicas that must acknowledge each write.
pub fn acknowledged(redis_url: &str, acknowledgements: u32) -> Config {
    let mut config = config(redis_url);
    if let RedisServer::At(address) = &mut config.redis.server {
        address.acknowledgements = acknowledgements;
    }
    config
}

/// Running replica.
pub struct Replica {
    pub addr: SocketAddr,
    pub management: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Replica {
    /// Starts a replica without waiting until it is ready. Its log is shown if the test fails.
    pub async fn start(config: Config) -> Self {
        static LOG: Once = Once::new();
        LOG.call_once(|| {
            tracing_subscriber::fmt()
                .with_max_level(tracing::Level::WARN)
                .init();
        });
        let app = App::build(config).await.unwrap();
        let (addr, management) = (app.local_addr().unwrap(), app.management_addr().unwrap());
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            app.run(async { stopped.await.unwrap_or(()) })
                .await
                .unwrap();
        });
        Self {
            addr,
            management,
            stop: Some(stop),
            task,
        }
    }

    /// Starts a replica and waits until it is ready.
    pub async fn serve(config: Config) -> Self {
        let replica = Self::start(config).await;
        replica.ready().await;
        replica
    }

    /// Starts `count` replicas and waits until all are ready.
    pub async fn serve_all(count: usize, config: &Config) -> Vec<Self> {
        let mut replicas = Vec::new();
        for _ in 0..count {
            replicas.push(Self::start(config.clone()).await);
        }
        for replica in &replicas {
            replica.ready().await;
        }
        replicas
    }

    /// Client without a login that sends its requests to this replica.
    pub fn anonymous(&self) -> Anonymous {
        Anonymous::at(self.addr)
    }

    /// Waits until the replica reports that it is ready.
    pub async fn ready(&self) {
        let management = Anonymous::at(self.management);
        for _ in 0..2000 {
            if management
                .try_get("/readyz")
                .await
                .is_ok_and(|answer| answer.status == 200)
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the replica does not become ready");
    }

    /// Response body of `/metrics`.
    pub async fn metrics(&self) -> String {
        Anonymous::at(self.management).get("/metrics").await.body
    }

    /// Tells the replica to stop and waits until it has stopped.
    pub async fn stop(mut self) {
        self.stop.take().unwrap().send(()).ok();
        self.task.await.unwrap();
    }
}

/// Replicas that share one Redis.
pub struct Cluster {
    pub redis: Redis,
    pub replicas: Vec<Replica>,
}

impl Cluster {
    /// Starts `replicas` replicas over a new Redis and waits until all are ready.
    pub async fn of(replicas: usize) -> Self {
        Self::with(replicas, |_, _| {}).await
    }

    /// Starts a replica that is configured as the only one of its Redis, and so is ready at once.
    pub async fn alone() -> Self {
        Self::with(1, |_, config| config.revocation.alone = true).await
    }

    /// Starts `replicas` replicas over a new Redis, each with changed settings, and waits until all are ready.
    pub async fn with(replicas: usize, change: impl Fn(usize, &mut Config)) -> Self {
        let redis = Redis::start().await;
        let mut started = Vec::new();
        for number in 0..replicas {
            let mut config = config(&redis.url());
            change(number, &mut config);
            started.push(Replica::start(config).await);
        }
        for replica in &started {
            replica.ready().await;
        }
        Self {
            redis,
            replicas: started,
        }
    }

    /// Client without a login that sends its requests to the first replica.
    pub fn anonymous(&self) -> Anonymous {
        self.replicas[0].anonymous()
    }

    /// Registers a user and logs in at the first replica.
    pub async fn user(&self, name: &str) -> User {
        User::register(&self.replicas[0], name).await
    }

    /// Logs in an administrator, whose role is stored before the login.
    pub async fn administrator(&self, name: &str) -> User {
        let at = self.anonymous();
        let registered = patiently(async || at.register(name, PASSWORD).await).await;
        assert_eq!(registered.status, 201, "{registered:?}");
        let key = self.record(name).await;
        let write = ["HSET", &key, "roles", "admin"];
        self.redis.command::<i64>(&write).await;
        User::log_in(&at, name).await
    }

    /// Redis key of a user's record.
    pub async fn record(&self, name: &str) -> String {
        let pattern = format!("*user:*:{name}");
        let keys: Vec<String> = self.redis.command(&["KEYS", &pattern]).await;
        let [key] = &keys[..] else { panic!("{keys:?}") };
        key.clone()
    }
}

//! Every setting, once: its name, its default and its text, and what it is allowed to be.
//!
//! A setting is an option of the command line (`--revocation-window`) and an environment variable
//! (`REVOCATION_WINDOW`); the option wins. A `.env` file in the working folder is read where a variable is missing. Secrets
//! are given as variables or as files (`JWT_SECRET`, `JWT_SECRET_FILE`), never as options: every user of a machine can read
//! the arguments of its processes.
//!
//! [`Settings`] is what was written, [`Config`] what it means. The step between them reports all mistakes together and
//! never repeats a value, which may be a secret. This is the only module that reads the environment; the telemetry SDK
//! reads the standard `OTEL_*` variables itself.

mod check;
mod environment;
mod secrets;
mod values;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use ipnet::IpNet;

pub use check::MAX_ACCESS_TTL;
pub use environment::read_dotenv;
pub(crate) use environment::search_path;
pub use secrets::Secret;
pub use values::{Given, Span, Switch};

/// The settings as written. The text of each is what `--help` and the README show.
#[derive(Debug, Args)]
pub struct Settings {
    /// Address and port that clients connect to
    #[arg(
        long,
        env = "LISTEN",
        default_value = "127.0.0.1:8080",
        value_name = "ADDRESS:PORT"
    )]
    #[arg(help_heading = "Network")]
    listen: Given<SocketAddr>,

    /// Port that clients connect to; replaces the port of LISTEN
    #[arg(long, env = "PORT", value_name = "PORT", help_heading = "Network")]
    port: Option<Given<u16>>,

    /// Address and port of /livez, /readyz and /metrics; never expose it to clients
    #[arg(
        long,
        env = "MANAGEMENT_LISTEN",
        default_value = "127.0.0.1:9090",
        value_name = "ADDRESS:PORT"
    )]
    #[arg(help_heading = "Network")]
    management_listen: Given<SocketAddr>,

    /// Proxies whose X-Forwarded-For is believed, as comma-separated CIDRs; none: the peer's own address counts
    #[arg(
        long,
        env = "TRUSTED_PROXIES",
        value_name = "CIDR,…",
        help_heading = "Network"
    )]
    trusted_proxies: Option<Given<String>>,

    /// Greatest number of client connections; at the cap the longest idle one is closed
    #[arg(
        long,
        env = "MAX_CONNECTIONS",
        default_value = "10000",
        value_name = "COUNT",
        help_heading = "Network"
    )]
    max_connections: Given<usize>,

    /// How long the server goes on serving after SIGTERM while readiness fails, for balancers to notice
    #[arg(
        long,
        env = "DRAIN_DELAY",
        default_value = "2s",
        value_name = "TIME",
        help_heading = "Network"
    )]
    drain_delay: Given<Span>,

    /// How long requests in flight may take to finish after that
    #[arg(
        long,
        env = "DRAIN_TIMEOUT",
        default_value = "25s",
        value_name = "TIME",
        help_heading = "Network"
    )]
    drain_timeout: Given<Span>,

    /// Whether the OpenAPI document and Swagger UI are served: on or off
    #[arg(
        long,
        env = "DOCS",
        default_value = "on",
        value_name = "on|off",
        help_heading = "Network"
    )]
    docs: Given<Switch>,

    /// Folder for what a replica of its own keeps: the generated signing key and the private Redis
    #[arg(
        long,
        env = "DATA_DIR",
        default_value = "data",
        value_name = "FOLDER",
        help_heading = "Storage"
    )]
    data_dir: PathBuf,

    /// REDIS_URL: redis://user:password@host:port/db, of which only the host must be there, or unix:///path. A secret: set the
    /// variable REDIS_URL, or name a file here. Without either, a replica on a loopback address starts a private redis-server
    #[arg(
        long,
        env = "REDIS_URL_FILE",
        value_name = "FILE",
        help_heading = "Storage"
    )]
    redis_url_file: Option<Given<PathBuf>>,

    /// What every key in Redis begins with
    #[arg(
        long,
        env = "REDIS_PREFIX",
        default_value = "portcullis:",
        value_name = "TEXT",
        help_heading = "Storage"
    )]
    redis_prefix: Given<String>,

    /// Freshness window: how old a replica's view of the revocations may be when it answers from it, and how long a logout
    /// waits; 0 to 1s. Replicas may differ
    #[arg(
        long,
        env = "REVOCATION_WINDOW",
        default_value = "50ms",
        value_name = "TIME",
        help_heading = "Revocation"
    )]
    revocation_window: Given<Span>,

    /// For how long a replica that cannot reach Redis goes on answering from memory, at the price of accepting tokens that
    /// were logged out elsewhere meanwhile; 0 answers 503 instead
    #[arg(
        long,
        env = "REVOCATION_STALE_IF_ERROR",
        default_value = "0s",
        value_name = "TIME",
        help_heading = "Revocation"
    )]
    revocation_stale_if_error: Given<Span>,

    /// How long the view of the revocations may be unusable before readiness fails; longer than a failover
    #[arg(
        long,
        env = "READINESS_GRACE",
        default_value = "10s",
        value_name = "TIME",
        help_heading = "Revocation"
    )]
    readiness_grace: Given<Span>,

    /// Who issues the tokens: one URL for all replicas
    #[arg(
        long,
        env = "ISSUER",
        default_value = "http://localhost:8080",
        value_name = "URL",
        help_heading = "Tokens"
    )]
    issuer: Given<String>,

    /// Whom the tokens are meant for
    #[arg(
        long,
        env = "AUDIENCE",
        default_value = "portcullis",
        value_name = "TEXT",
        help_heading = "Tokens"
    )]
    audience: Given<String>,

    /// Lifetime of an access token; 1s to 24h
    #[arg(
        long,
        env = "ACCESS_TTL",
        default_value = "1h",
        value_name = "TIME",
        help_heading = "Tokens"
    )]
    access_ttl: Given<Span>,

    /// JWT_SECRET: the key that signs tokens (HS256), at least 32 bytes, for example from `openssl rand -base64 48`. A secret:
    /// set the variable JWT_SECRET, or name a file here. Without either, a replica on a loopback address makes one and keeps
    /// it in DATA_DIR
    #[arg(
        long,
        env = "JWT_SECRET_FILE",
        value_name = "FILE",
        help_heading = "Tokens"
    )]
    jwt_secret_file: Option<Given<PathBuf>>,

    /// Fewest characters of a new password; 8 to 64. NIST asks for 15 where a password is the only factor
    #[arg(
        long,
        env = "PASSWORD_MIN_LENGTH",
        default_value = "8",
        value_name = "COUNT",
        help_heading = "Passwords"
    )]
    password_min_length: Given<usize>,

    /// PASSWORD_PEPPER: a key mixed into every password before bcrypt and kept outside Redis, written id:key with a key of at
    /// least 32 bytes. A secret: set the variable PASSWORD_PEPPER, or name a file here. Losing it makes its hashes useless
    #[arg(
        long,
        env = "PASSWORD_PEPPER_FILE",
        value_name = "FILE",
        help_heading = "Passwords"
    )]
    password_pepper_file: Option<Given<PathBuf>>,

    /// bcrypt cost of new hashes; 10 to 15, and 4 to 9 on a loopback address for tests. One more doubles the work
    #[arg(
        long,
        env = "BCRYPT_COST",
        default_value = "12",
        value_name = "COST",
        help_heading = "Passwords"
    )]
    bcrypt_cost: Given<u32>,

    /// Threads that hash passwords; as many as cores unless set
    #[arg(
        long,
        env = "HASH_THREADS",
        value_name = "COUNT",
        help_heading = "Passwords"
    )]
    hash_threads: Option<Given<usize>>,

    /// How long a password may wait for its hash; what would wait longer is refused at once with 503
    #[arg(
        long,
        env = "HASH_DEADLINE",
        default_value = "2s",
        value_name = "TIME",
        help_heading = "Passwords"
    )]
    hash_deadline: Given<Span>,

    /// What is logged, as a filter of `tracing`: error, warn, info, debug, or per module
    #[arg(
        long,
        env = "LOG",
        default_value = "info",
        value_name = "FILTER",
        help_heading = "Telemetry"
    )]
    log: Given<String>,

    /// How log lines are written: json, or text for people
    #[arg(
        long,
        env = "LOG_FORMAT",
        default_value = "json",
        value_name = "json|text",
        help_heading = "Telemetry"
    )]
    log_format: Given<LogFormat>,
}

/// What the settings mean, in the parts that the layers take.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where and how clients are served.
    pub http: HttpConfig,
    /// Which Redis holds the data.
    pub redis: RedisConfig,
    /// The revocation feed.
    pub revocation: RevocationConfig,
    /// Access tokens and their key.
    pub tokens: TokenConfig,
    /// Passwords and their hashing.
    pub passwords: PasswordConfig,
    /// Logs and traces.
    pub telemetry: TelemetryConfig,
}

/// Where and how clients are served.
#[derive(Debug, Clone)]
pub struct HttpConfig {
    /// The public address; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// The address of `/livez`, `/readyz` and `/metrics`.
    pub management_listen: SocketAddr,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// The connection cap.
    pub max_connections: usize,
    /// Between failing readiness and closing the door.
    pub drain_delay: Duration,
    /// For requests in flight after that.
    pub drain_timeout: Duration,
    /// Whether `/docs` and `/openapi.json` are served.
    pub docs: bool,
    /// How long the view may be unusable before readiness fails.
    pub readiness_grace: Duration,
}

/// Which Redis holds the data.
#[derive(Debug, Clone)]
pub struct RedisConfig {
    /// What every key begins with.
    pub prefix: String,
    /// Where the server is.
    pub server: RedisServer,
}

/// Where the Redis server is.
#[derive(Debug, Clone)]
pub enum RedisServer {
    /// At this URL, which may hold a password.
    At(Secret),
    /// A `redis-server` of this replica's own, which keeps its data in this folder.
    Private(PathBuf),
}

/// The revocation feed.
#[derive(Debug, Clone, Copy)]
pub struct RevocationConfig {
    /// The freshness window `W`.
    pub window: Duration,
    /// How old a view may be that answers while Redis cannot be reached.
    pub stale_if_error: Duration,
    /// Whether no other replica can know this Redis, so that there is nobody to wait for after a restart.
    pub alone: bool,
}

/// Access tokens and their key.
#[derive(Debug, Clone)]
pub struct TokenConfig {
    /// `iss`.
    pub issuer: String,
    /// `aud`.
    pub audience: String,
    /// Lifetime of an access token.
    pub access_ttl: Duration,
    /// The key that signs.
    pub signing: SigningKey,
}

/// The key that signs access tokens.
#[derive(Debug, Clone)]
pub enum SigningKey {
    /// From the settings.
    Secret(Secret),
    /// Made at the first start on a loopback address, and kept in this file.
    KeptIn(PathBuf),
}

/// Passwords and their hashing.
#[derive(Debug, Clone)]
pub struct PasswordConfig {
    /// Fewest characters of a new password.
    pub min_length: usize,
    /// The pepper's id and key.
    pub pepper: Option<(String, Secret)>,
    /// bcrypt cost of new hashes.
    pub cost: u32,
    /// Threads that hash; `None` for as many as cores.
    pub threads: Option<usize>,
    /// Longest wait for a hash to begin and end.
    pub deadline: Duration,
}

/// Logs and traces.
#[derive(Debug, Clone)]
pub struct TelemetryConfig {
    /// A filter of `tracing`.
    pub filter: String,
    /// How lines are written.
    pub format: LogFormat,
    /// Whether the standard variables name a receiver for traces.
    pub traces: bool,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// All that is wrong with the settings, a sentence each. No sentence repeats a value.
#[derive(Debug, PartialEq, Eq)]
pub struct Mistakes(pub Vec<String>);

impl std::fmt::Display for Mistakes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for Mistakes {}

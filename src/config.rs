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

mod clients;
mod environment;
mod network;
mod passwords;
mod rate_limits;
mod redis_address;
mod report;
mod revocation;
mod secrets;
mod storage;
mod telemetry;
mod tokens;
mod values;

use clap::Args;

pub use clients::ClientConfig;
use clients::ClientSettings;
pub use environment::read_dotenv;
pub(crate) use environment::search_path;
use network::NetworkSettings;
pub use network::{HttpConfig, TlsFiles};
pub use passwords::PasswordConfig;
use passwords::PasswordSettings;
pub use rate_limits::RateLimitConfig;
use rate_limits::RateLimitSettings;
pub use redis_address::{ClientCertificate, REDIS_URL_FORMS, RedisAddress, RedisKind, RedisTls};
use report::Report;
use revocation::RevocationSettings;
pub use revocation::{MAX_WINDOW, RevocationConfig};
pub use secrets::Secret;
use storage::StorageSettings;
pub use storage::{RedisConfig, RedisServer};
use telemetry::TelemetrySettings;
pub use telemetry::{Exports, LogFormat, TelemetryConfig};
use tokens::TokenSettings;
pub use tokens::{MAX_ACCESS_TTL, SigningKey, TokenConfig};
pub use values::{Given, Span, Switch};

/// The settings as written, a group in each file. The text of each is what `--help` and the README show.
#[derive(Debug, Args)]
pub struct Settings {
    #[command(flatten)]
    network: NetworkSettings,
    #[command(flatten)]
    storage: StorageSettings,
    #[command(flatten)]
    revocation: RevocationSettings,
    #[command(flatten)]
    tokens: TokenSettings,
    #[command(flatten)]
    clients: ClientSettings,
    #[command(flatten)]
    passwords: PasswordSettings,
    #[command(flatten)]
    rate_limits: RateLimitSettings,
    #[command(flatten)]
    telemetry: TelemetrySettings,
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
    /// Services with credentials.
    pub clients: Vec<ClientConfig>,
    /// Passwords and their hashing.
    pub passwords: PasswordConfig,
    /// How often passwords may be guessed; `None` where nothing is throttled.
    pub rate_limits: Option<RateLimitConfig>,
    /// Logs and traces.
    pub telemetry: TelemetryConfig,
}

impl Settings {
    /// The folder of signing keys, whatever else is set.
    #[must_use]
    pub fn key_folder(&self) -> Option<std::path::PathBuf> {
        self.tokens.key_folder()
    }

    /// Checks everything.
    ///
    /// # Errors
    /// All mistakes, each a sentence that names its setting.
    pub fn check(self) -> Result<Config, Mistakes> {
        let mut report = Report::default();
        let http = self.network.check(&mut report);
        // What is fit for trying the service out on one's own machine is not fit for a network.
        let loopback = http.listen.ip().is_loopback();
        let data_dir = self.storage.data_dir.clone();
        let redis = self.storage.check(&mut report, loopback);
        let alone = matches!(redis.server, RedisServer::Private(_));
        let config = Config {
            http,
            redis,
            revocation: self.revocation.check(&mut report, alone),
            tokens: self.tokens.check(&mut report, loopback, &data_dir),
            clients: self.clients.check(&mut report),
            passwords: self.passwords.check(&mut report, loopback),
            rate_limits: self.rate_limits.check(&mut report),
            telemetry: self.telemetry.check(&mut report),
        };
        report.finish(config)
    }
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

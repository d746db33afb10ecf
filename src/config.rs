//! Every setting, once: its name, default and help text, and its valid values.
//!
//! A setting is an option of the command line (`--revocation-window`) and an environment variable
//! (`REVOCATION_WINDOW`); the option wins. A `.env` file in the working folder supplies variables that are missing. Secrets
//! are given as variables or as files (`JWT_SECRET`, `JWT_SECRET_FILE`), never as options: every user of a machine can read
//! the arguments of its processes.
//!
//! [`Settings`] holds the options as given, [`Config`] the checked values. The step between them reports all errors together
//! and never repeats a value, which may be a secret. This is the only module that reads the environment; the telemetry SDK
//! reads the standard `OTEL_*` variables itself.

mod clients;
mod environment;
mod errors;
mod network;
mod passwords;
mod rate_limits;
mod redis_address;
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
use errors::ErrorCollector;
use network::NetworkSettings;
pub use network::{HttpConfig, TlsFiles};
pub use passwords::PasswordConfig;
use passwords::PasswordSettings;
pub use rate_limits::RateLimitConfig;
use rate_limits::RateLimitSettings;
pub use redis_address::{ClientCertificate, REDIS_URL_FORMS, RedisAddress, RedisKind, RedisTls};
use revocation::RevocationSettings;
pub use revocation::{MAX_WINDOW, RevocationConfig};
pub use secrets::Secret;
use storage::StorageSettings;
pub use storage::{RedisConfig, RedisServer};
use telemetry::TelemetrySettings;
pub use telemetry::{Exports, LogFormat, TelemetryConfig};
use tokens::TokenSettings;
pub use tokens::{MAX_ACCESS_TTL, SigningKey, TokenConfig};
pub use values::{HumanDuration, OnOff, Parsed};

/// Settings as given, one group per file. `--help` and docs/reference/settings.md show the doc line of each field.
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

/// Checked settings, one part for each layer.
#[derive(Debug, Clone)]
pub struct Config {
    /// Addresses, connection limits and TLS.
    pub http: HttpConfig,
    /// Redis server and key prefix.
    pub redis: RedisConfig,
    /// Revocation feed.
    pub revocation: RevocationConfig,
    /// Access tokens, refresh tokens and their keys.
    pub tokens: TokenConfig,
    /// Services that may introspect and revoke tokens.
    pub clients: Vec<ClientConfig>,
    /// Passwords and their hashing.
    pub passwords: PasswordConfig,
    /// Rate limits of wrong passwords and registrations; `None` if they are off.
    pub rate_limits: Option<RateLimitConfig>,
    /// Logs, traces and exported metrics.
    pub telemetry: TelemetryConfig,
}

impl Settings {
    /// Folder of signing keys, even if other settings are invalid.
    #[must_use]
    pub fn key_folder(&self) -> Option<std::path::PathBuf> {
        self.tokens.key_folder()
    }

    /// Checks all settings.
    ///
    /// # Errors
    /// All invalid settings, one sentence each.
    pub fn check(self) -> Result<Config, ConfigErrors> {
        let mut errors = ErrorCollector::default();
        let http = self.network.check(&mut errors);
        // A loopback address permits weaker settings, for trials and tests on one machine.
        let loopback = http.listen.ip().is_loopback();
        let data_dir = self.storage.data_dir.clone();
        let redis = self.storage.check(&mut errors, loopback);
        let alone = matches!(redis.server, RedisServer::Private(_));
        let config = Config {
            http,
            redis,
            revocation: self.revocation.check(&mut errors, alone),
            tokens: self.tokens.check(&mut errors, loopback, &data_dir),
            clients: self.clients.check(&mut errors),
            passwords: self.passwords.check(&mut errors, loopback),
            rate_limits: self.rate_limits.check(&mut errors),
            telemetry: self.telemetry.check(&mut errors),
        };
        errors.finish(config)
    }
}

/// Errors in the settings, one sentence each. A sentence names its setting and never repeats a value.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<String>);

impl std::fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for ConfigErrors {}

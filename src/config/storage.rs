//! Redis server, key prefix, and the folder for generated files.

use std::path::PathBuf;

use clap::Args;

use super::errors::ErrorCollector;
use super::redis_address::{RedisAddress, RedisOptions};
use super::secrets::secret;
use super::values::Parsed;

/// Options of this group, before they are checked.
#[derive(Debug, Args)]
#[command(next_help_heading = "Storage")]
pub(super) struct StorageSettings {
    /// Folder for the generated signing key and the data of the private Redis
    #[arg(long, env = "DATA_DIR", default_value = "data", value_name = "FOLDER")]
    pub(super) data_dir: PathBuf,

    /// REDIS_URL: redis://user:password@host:port/db, of which only the host is required, or unix:///path; with Sentinels:
    /// redis+sentinel://user:password@host:26379,host:26379/name; a Cluster:
    /// redis+cluster://user:password@host:6379,host:6379; with TLS: rediss://, rediss+sentinel:// and rediss+cluster://. A
    /// secret: set the variable REDIS_URL, or name a file here. Without either, a replica on a loopback address starts a
    /// private redis-server
    #[arg(long, env = "REDIS_URL_FILE", value_name = "FILE")]
    redis_url_file: Option<Parsed<PathBuf>>,

    /// Number of replicas of Redis that must acknowledge a write before a client gets its answer. If that is all of them, a
    /// failover loses nothing, and writes stop while one of them is down. Unless set: 1 with Sentinels or a Cluster, otherwise 0.
    /// `portcullis check` reports what the number guarantees
    #[arg(long, env = "REDIS_ACK_REPLICAS", value_name = "NUMBER")]
    redis_ack_replicas: Option<Parsed<u32>>,

    /// CA certificates for Redis and Sentinels, in PEM; those of the system unless set
    #[arg(long, env = "REDIS_CA", value_name = "FILE")]
    redis_ca: Option<Parsed<PathBuf>>,

    /// Client certificate for Redis and Sentinels, in PEM
    #[arg(long, env = "REDIS_CERT", value_name = "FILE")]
    redis_cert: Option<Parsed<PathBuf>>,

    /// Private key of REDIS_CERT, in PEM
    #[arg(long, env = "REDIS_KEY", value_name = "FILE")]
    redis_key: Option<Parsed<PathBuf>>,

    /// File with the password of the Sentinels, if they have one. A secret: or set the variable SENTINEL_PASSWORD
    #[arg(long, env = "SENTINEL_PASSWORD_FILE", value_name = "FILE")]
    sentinel_password_file: Option<Parsed<PathBuf>>,

    /// Prefix of every key in Redis
    #[arg(
        long,
        env = "REDIS_PREFIX",
        default_value = "portcullis:",
        value_name = "TEXT"
    )]
    redis_prefix: Parsed<String>,
}

/// Checked settings of the group.
#[derive(Debug, Clone)]
pub struct RedisConfig {
    /// Prefix of every key.
    pub prefix: String,
    /// Server.
    pub server: RedisServer,
}

/// Redis server: an external one or a private one.
#[derive(Debug, Clone)]
pub enum RedisServer {
    /// External server.
    At(RedisAddress),
    /// Private `redis-server` that this replica starts, with its data in this folder.
    Private(PathBuf),
}

impl StorageSettings {
    pub(super) fn check(self, errors: &mut ErrorCollector, loopback: bool) -> RedisConfig {
        let url = errors.secret(secret("REDIS_URL", self.redis_url_file));
        if !loopback {
            errors.require_off_loopback("REDIS_URL", &url);
        }
        let sentinel_password =
            errors.secret(secret("SENTINEL_PASSWORD", self.sentinel_password_file));
        let options = RedisOptions {
            acknowledgements: self
                .redis_ack_replicas
                .and_then(|given| errors.require("REDIS_ACK_REPLICAS", "a number", given)),
            ca: self.redis_ca.and_then(Parsed::value),
            certificate: self.redis_cert.and_then(Parsed::value),
            key: self.redis_key.and_then(Parsed::value),
            sentinel_password: sentinel_password.ok().flatten(),
        };
        let address = options.check(errors, url.ok().flatten());
        RedisConfig {
            prefix: prefix(errors, self.redis_prefix),
            server: address.map_or_else(
                || RedisServer::Private(self.data_dir.join("redis")),
                RedisServer::At,
            ),
        }
    }
}

fn prefix(errors: &mut ErrorCollector, given: Parsed<String>) -> String {
    let prefix = given.value().unwrap_or_default();
    // A brace in the prefix would become the hash tag and move a user's keys to other slots of a Cluster.
    if prefix.len() > 64
        || prefix.contains(['{', '}'])
        || !prefix.bytes().all(|byte| byte.is_ascii_graphic())
    {
        errors.add(
            "REDIS_PREFIX",
            "must be at most 64 visible ASCII characters without braces",
        );
    }
    prefix
}

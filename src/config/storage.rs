//! Which Redis holds the data, and where a replica of its own keeps what it makes.

use std::path::PathBuf;

use clap::Args;

use super::redis_address::{RedisAddress, Written};
use super::report::Report;
use super::secrets::secret;
use super::values::Given;

/// As written.
#[derive(Debug, Args)]
#[command(next_help_heading = "Storage")]
pub(super) struct StorageSettings {
    /// Folder for what a replica of its own keeps: the generated signing key and the private Redis
    #[arg(long, env = "DATA_DIR", default_value = "data", value_name = "FOLDER")]
    pub(super) data_dir: PathBuf,

    /// REDIS_URL: redis://user:password@host:port/db, of which only the host must be there, or unix:///path; servers that
    /// Sentinels watch: redis+sentinel://user:password@host:26379,host:26379/name; a Cluster:
    /// redis+cluster://user:password@host:6379,host:6379; with TLS rediss://, rediss+sentinel:// and rediss+cluster://. A
    /// secret: set the variable REDIS_URL, or name a file here. Without either, a replica on a loopback address starts a
    /// private redis-server
    #[arg(long, env = "REDIS_URL_FILE", value_name = "FILE")]
    redis_url_file: Option<Given<PathBuf>>,

    /// How many replicas of Redis must have what is acknowledged to a client; as many as there are loses nothing in a failover
    /// and stops while one of them is down. 1 with Sentinels or a Cluster, otherwise 0, where not set. `portcullis check` says
    /// what the number promises
    #[arg(long, env = "REDIS_ACK_REPLICAS", value_name = "NUMBER")]
    redis_ack_replicas: Option<Given<u32>>,

    /// Certificates of the authority that vouches for Redis and Sentinels, in PEM; those of the system where not set
    #[arg(long, env = "REDIS_CA", value_name = "FILE")]
    redis_ca: Option<Given<PathBuf>>,

    /// Certificate by which this service shows itself to Redis and Sentinels, in PEM
    #[arg(long, env = "REDIS_CERT", value_name = "FILE")]
    redis_cert: Option<Given<PathBuf>>,

    /// The private key of that certificate, in PEM
    #[arg(long, env = "REDIS_KEY", value_name = "FILE")]
    redis_key: Option<Given<PathBuf>>,

    /// File with the password of the Sentinels, where they have one. A secret: or set the variable SENTINEL_PASSWORD
    #[arg(long, env = "SENTINEL_PASSWORD_FILE", value_name = "FILE")]
    sentinel_password_file: Option<Given<PathBuf>>,

    /// What every key in Redis begins with
    #[arg(
        long,
        env = "REDIS_PREFIX",
        default_value = "portcullis:",
        value_name = "TEXT"
    )]
    redis_prefix: Given<String>,
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
    /// There.
    At(RedisAddress),
    /// A `redis-server` of this replica's own, which keeps its data in this folder.
    Private(PathBuf),
}

impl StorageSettings {
    pub(super) fn check(self, report: &mut Report, loopback: bool) -> RedisConfig {
        let url = report.secret(secret("REDIS_URL", self.redis_url_file));
        if !loopback {
            report.needs_off_loopback("REDIS_URL", &url);
        }
        let sentinel_password =
            report.secret(secret("SENTINEL_PASSWORD", self.sentinel_password_file));
        let written = Written {
            acknowledgements: self
                .redis_ack_replicas
                .and_then(|given| report.value("REDIS_ACK_REPLICAS", "a number", given)),
            ca: self.redis_ca.and_then(Given::value),
            certificate: self.redis_cert.and_then(Given::value),
            key: self.redis_key.and_then(Given::value),
            sentinel_password: sentinel_password.ok().flatten(),
        };
        let address = written.check(report, url.ok().flatten());
        RedisConfig {
            prefix: prefix(report, self.redis_prefix),
            server: address.map_or_else(
                || RedisServer::Private(self.data_dir.join("redis")),
                RedisServer::At,
            ),
        }
    }
}

fn prefix(report: &mut Report, given: Given<String>) -> String {
    let prefix = given.value().unwrap_or_default();
    // A brace would move the hash tag, and with it a user's keys to other slots of a Cluster.
    if prefix.len() > 64
        || prefix.contains(['{', '}'])
        || !prefix.bytes().all(|byte| byte.is_ascii_graphic())
    {
        report.mistake(
            "REDIS_PREFIX",
            "must be at most 64 visible ASCII characters without braces",
        );
    }
    prefix
}

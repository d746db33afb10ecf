//! Which Redis holds the data, and where a replica of its own keeps what it makes.

use std::path::PathBuf;

use clap::Args;

use super::report::Report;
use super::secrets::{Secret, secret};
use super::values::Given;

/// As written.
#[derive(Debug, Args)]
#[command(next_help_heading = "Storage")]
pub(super) struct StorageSettings {
    /// Folder for what a replica of its own keeps: the generated signing key and the private Redis
    #[arg(long, env = "DATA_DIR", default_value = "data", value_name = "FOLDER")]
    pub(super) data_dir: PathBuf,

    /// REDIS_URL: redis://user:password@host:port/db, of which only the host must be there, or unix:///path. A secret: set the
    /// variable REDIS_URL, or name a file here. Without either, a replica on a loopback address starts a private redis-server
    #[arg(long, env = "REDIS_URL_FILE", value_name = "FILE")]
    redis_url_file: Option<Given<PathBuf>>,

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
    /// At this URL, which may hold a password.
    At(Secret),
    /// A `redis-server` of this replica's own, which keeps its data in this folder.
    Private(PathBuf),
}

impl StorageSettings {
    pub(super) fn check(self, report: &mut Report, loopback: bool) -> RedisConfig {
        let url = report.secret(secret("REDIS_URL", self.redis_url_file));
        if !loopback {
            report.needs_off_loopback("REDIS_URL", &url);
        }
        let url = redis_url(report, url.ok().flatten());
        RedisConfig {
            prefix: prefix(report, self.redis_prefix),
            server: url.map_or_else(
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

/// The scheme alone: what else a URL may hold is the store's to know.
fn redis_url(report: &mut Report, url: Option<Secret>) -> Option<Secret> {
    let known = |url: &Secret| {
        ["redis://", "unix://"]
            .iter()
            .any(|scheme| url.expose().starts_with(scheme))
    };
    if url.as_ref().is_some_and(|url| !known(url)) {
        report.mistake(
            "REDIS_URL",
            "must be like redis://user:password@host:6379/0 or unix:///path",
        );
    }
    url
}

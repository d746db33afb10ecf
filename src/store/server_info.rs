//! Inspection of a Redis server: role, version, eviction, persistence and the rights that a restart needs.

use std::fmt;

use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, RedisError, RedisResult, Value};

use super::connection::{DEADLINE, Redis, StoreError, within};

/// Properties that a server reports about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerInfo {
    /// True for a server that takes writes; a replica of another server does not.
    pub is_primary: bool,
    /// Version, such as `7.0.15`.
    pub version: String,
    /// `maxmemory-policy`; `None` if `INFO` does not show it and `CONFIG` is not permitted.
    pub eviction_policy: Option<String>,
    /// Durability over a restart: an append-only file, or at least snapshots.
    pub persistence: Persistence,
    /// Number of connected replicas.
    pub replicas: u32,
    /// True if the user `default` may run the commands of scripts, which loading an append-only file requires; `None`
    /// if our user may not ask.
    pub default_user_may_write: Option<bool>,
    /// True if this server checks the rights of `default` when it loads the file.
    checks_default_user: bool,
}

/// Durability of a server over a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Persistence {
    /// Keeps every acknowledged write (`appendfsync always`).
    EveryWrite,
    /// Append-only file that is synced about once a second.
    EverySecond,
    /// Append-only file that is synced when the operating system chooses.
    Unforced,
    /// No persistence, or snapshots only.
    Poor,
    /// Unknown: our user may not ask.
    Unknown,
}

/// Reason to reject a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnsupportedServer {
    /// The server takes no writes.
    NotPrimary,
    /// Older than Redis 7.0, whose scripts and streams the store needs.
    TooOld(String),
    /// The server would evict users and revocations when its memory is full.
    Evicts(String),
}

impl fmt::Display for UnsupportedServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotPrimary => f.write_str("the server is not a primary"),
            Self::TooOld(version) => {
                write!(f, "Redis {version} is too old: 7.0 or newer is needed")
            }
            Self::Evicts(policy) => {
                write!(
                    f,
                    "Redis has maxmemory-policy {policy}, which forgets users and revocations: set noeviction"
                )
            }
        }
    }
}

impl ServerInfo {
    /// Returns true if the next restart would lose the writes of scripts, as far as our user may find out.
    #[must_use]
    pub fn will_lose_transactions(&self) -> bool {
        self.checks_default_user
            && self.default_user_may_write == Some(false)
            && self.persistence != Persistence::Poor
    }

    /// Returns true if a restart may lose the writes of scripts, and the rights of our user do not let it know.
    #[must_use]
    pub fn default_user_is_unknown(&self) -> bool {
        self.checks_default_user
            && self.default_user_may_write.is_none()
            && self.persistence != Persistence::Poor
    }

    /// Returns the reason to reject this server, if there is one.
    #[must_use]
    pub fn unsupported_reason(&self) -> Option<UnsupportedServer> {
        let major = self
            .version
            .split('.')
            .next()
            .and_then(|major| major.parse::<u32>().ok());
        if major.is_none_or(|major| major < 7) {
            return Some(UnsupportedServer::TooOld(self.version.clone()));
        }
        if !self.is_primary {
            return Some(UnsupportedServer::NotPrimary);
        }
        let policy = self.eviction_policy.as_ref()?;
        (policy != "noeviction").then(|| UnsupportedServer::Evicts(policy.clone()))
    }
}

impl Redis {
    /// Inspects the primary of the feed.
    ///
    /// # Errors
    /// If the server cannot be reached.
    pub async fn inspect(&self) -> Result<ServerInfo, StoreError> {
        let primary = self.primary(&self.keys().feed()).await?;
        let mut connection = primary.connect().await?;
        within(DEADLINE, inspect(&mut connection)).await
    }
}

/// Warning about a server that will lose transactions, shown by `check` and in the log.
pub const WILL_LOSE_TRANSACTIONS: &str = "the user `default` may not write: a restart would leave out what scripts wrote (set `user default \
     off ~* &* +@all` in the users file and, now, ACL SETUSER default off ~* &* +@all)";

/// Warning about a server that does not tell, shown by `check` and in the log.
pub const DEFAULT_USER_UNKNOWN: &str = "the rights of the user `default` are unknown, without which a restart loses what scripts wrote \
     (permit this user +acl|dryrun, or see docs/operate/redis.md)";

/// Commands that scripts run, each with valid arguments. If one of them is not permitted, Redis skips all commands of
/// the transaction.
const WRITES: [&[&str]; 8] = [
    &["SET", "k", "v"],
    &["DEL", "k"],
    &["PEXPIREAT", "k", "1"],
    &["HSET", "k", "f", "v"],
    &["SADD", "k", "m"],
    &["ZADD", "k", "1", "m"],
    &["XADD", "k", "*", "f", "v"],
    &["EXEC"],
];

pub(super) async fn inspect(connection: &mut MultiplexedConnection) -> RedisResult<ServerInfo> {
    // INFO shows the policy and whether there is an append-only file; only CONFIG shows how often the file is synced. A
    // managed Redis often does not permit CONFIG, so an error there is a valid answer. One round trip for both.
    let mut ask = redis::pipe();
    ask.cmd("INFO")
        .arg("server")
        .arg("memory")
        .arg("persistence")
        .arg("replication");
    ask.cmd("CONFIG").arg("GET").arg("appendfsync");
    for words in WRITES {
        ask.cmd("ACL").arg("DRYRUN").arg("default").arg(words);
    }
    let mut answers: Vec<RedisResult<Value>> = ask.ignore_errors().query_async(connection).await?;
    let dry_runs = answers.split_off(2);
    let fsync = answers.pop().and_then(Result::ok);
    let fsync: Option<(String, String)> = fsync.and_then(|it| redis::from_redis_value(it).ok());
    let info = answers.pop().ok_or_else(unanswered)??;
    let info: String = redis::from_redis_value(info)?;
    let permitted: RedisResult<Vec<String>> = dry_runs
        .into_iter()
        .map(|answer| Ok(redis::from_redis_value(answer?)?))
        .collect();
    let permitted = permitted.map(|answers| answers.iter().all(|answer| answer == "OK"));
    let field = |name: &str| {
        info.lines()
            .find_map(|line| line.strip_prefix(name))
            .map(str::to_owned)
    };
    let persistence = match (
        field("aof_enabled:").as_deref(),
        fsync.as_ref().map(|(_, value)| value.as_str()),
    ) {
        (Some("1"), Some("always")) => Persistence::EveryWrite,
        (Some("1"), Some("everysec")) => Persistence::EverySecond,
        (Some("1"), Some(_)) => Persistence::Unforced,
        (Some("1"), None) => Persistence::Unknown,
        _ => Persistence::Poor,
    };
    Ok(ServerInfo {
        is_primary: field("role:").as_deref() == Some("master"),
        version: field("redis_version:").unwrap_or_default(),
        eviction_policy: field("maxmemory_policy:"),
        persistence,
        replicas: field("connected_slaves:")
            .and_then(|number| number.parse().ok())
            .unwrap_or_default(),
        default_user_may_write: permitted.ok(),
        checks_default_user: checks_default_user(field("valkey_version:").as_deref()),
    })
}

fn unanswered() -> RedisError {
    (ErrorKind::Client, "INFO was not answered").into()
}

/// Returns true unless this is Valkey 9.1 or newer, which loads its file without a check of `default` (tried with
/// 9.1.2; Redis checks in 7.0.15 and 8.2.3).
fn checks_default_user(valkey: Option<&str>) -> bool {
    let Some(version) = valkey else { return true };
    let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
    let (major, minor): (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    (major, minor) < (9, 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(version: &str, policy: Option<&str>) -> ServerInfo {
        let eviction_policy = policy.map(str::to_owned);
        ServerInfo {
            is_primary: true,
            version: version.to_owned(),
            eviction_policy,
            persistence: Persistence::EveryWrite,
            replicas: 0,
            default_user_may_write: None,
            checks_default_user: true,
        }
    }

    #[test]
    fn a_default_user_without_rights_matters_where_the_server_asks_for_them() {
        let server = |may_write, valkey| ServerInfo {
            default_user_may_write: may_write,
            checks_default_user: checks_default_user(valkey),
            ..server("7.2.4", None)
        };
        assert!(server(Some(false), None).will_lose_transactions());
        assert!(server(Some(false), Some("9.0.3")).will_lose_transactions());
        assert!(!server(Some(false), Some("9.1.2")).will_lose_transactions());
        assert!(!server(Some(true), None).will_lose_transactions());
        assert!(!server(None, None).will_lose_transactions());
        assert!(server(None, None).default_user_is_unknown());
        assert!(!server(Some(true), None).default_user_is_unknown());
        assert!(!server(None, Some("9.1.2")).default_user_is_unknown());
    }

    #[test]
    fn an_evicting_or_old_server_is_unsupported() {
        assert_eq!(
            server("7.0.15", Some("noeviction")).unsupported_reason(),
            None
        );
        assert_eq!(server("8.2.1", None).unsupported_reason(), None);
        assert_eq!(
            server("7.2.0", Some("allkeys-lru")).unsupported_reason(),
            Some(UnsupportedServer::Evicts("allkeys-lru".to_owned()))
        );
        assert_eq!(
            server("6.2.6", Some("noeviction")).unsupported_reason(),
            Some(UnsupportedServer::TooOld("6.2.6".to_owned()))
        );
        assert_eq!(
            server("", None).unsupported_reason(),
            Some(UnsupportedServer::TooOld(String::new()))
        );
    }
}

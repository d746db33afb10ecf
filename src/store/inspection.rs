//! What kind of server answers: whether it may be trusted with users and revocations at all.

use std::fmt;

use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, RedisError, RedisResult, Value};

use super::connection::{DEADLINE, Redis, StoreError, within};

/// What the server says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// Whether it takes writes: a replica of another server does not.
    pub is_primary: bool,
    /// Its version, like `7.0.15`.
    pub version: String,
    /// `maxmemory-policy`; `None` where `CONFIG` is not permitted and `INFO` does not tell.
    pub eviction_policy: Option<String>,
    /// Whether it keeps data over a restart: an append-only file, or at least snapshots.
    pub persistence: Persistence,
    /// How many replicas follow it.
    pub replicas: u32,
    /// If the user `default` may run what scripts write, as reading an append-only file asks of it; `None` where this user of
    /// ours may not ask.
    pub default_user_may_write: Option<bool>,
    /// If this server asks that of `default` at all.
    checks_default_user: bool,
}

/// How a server keeps data over a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Persistence {
    /// Every acknowledged write (`appendfsync always`).
    EveryWrite,
    /// An append-only file that is written out about once a second.
    EverySecond,
    /// An append-only file that is written out when the system likes.
    Unforced,
    /// Not at all, or by snapshots only.
    Poor,
    /// The server does not let us ask.
    Unknown,
}

/// Why a server is not used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unfit {
    /// It takes no writes.
    NotPrimary,
    /// Older than Redis 7.0, whose scripts and streams the store needs.
    TooOld(String),
    /// It would forget users and revocations when it is full.
    Evicts(String),
}

impl fmt::Display for Unfit {
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

impl Inspection {
    /// If the next restart would leave out what scripts wrote, as far as the rights of this user let it know.
    #[must_use]
    pub fn will_lose_transactions(&self) -> bool {
        self.checks_default_user
            && self.default_user_may_write == Some(false)
            && self.persistence != Persistence::Poor
    }

    /// Why this server must not be used, if it must not.
    #[must_use]
    pub fn unfit(&self) -> Option<Unfit> {
        let major = self
            .version
            .split('.')
            .next()
            .and_then(|major| major.parse::<u32>().ok());
        if major.is_none_or(|major| major < 7) {
            return Some(Unfit::TooOld(self.version.clone()));
        }
        if !self.is_primary {
            return Some(Unfit::NotPrimary);
        }
        let policy = self.eviction_policy.as_ref()?;
        (policy != "noeviction").then(|| Unfit::Evicts(policy.clone()))
    }
}

impl Redis {
    /// Asks the server what it is.
    ///
    /// # Errors
    /// Where it cannot be reached.
    pub async fn inspect(&self) -> Result<Inspection, StoreError> {
        let primary = self.primary(&self.keys().feed()).await?;
        let mut connection = primary.connect().await?;
        within(DEADLINE, inspect(&mut connection)).await
    }
}

/// What is said of a server that will lose transactions; `check` and the log show it.
pub const WILL_LOSE_TRANSACTIONS: &str = "the user `default` may not write: a restart would leave out what scripts wrote (set `user default \
     off ~* &* +@all` in the users file and, now, ACL SETUSER default off ~* &* +@all)";

/// Commands that scripts run, each with arguments that fit. All commands of a transaction are left out where one of them is
/// not permitted.
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

pub(super) async fn inspect(connection: &mut MultiplexedConnection) -> RedisResult<Inspection> {
    // INFO shows the policy and whether there is an append-only file; how often it is written out only CONFIG tells, and
    // a managed Redis often does not permit CONFIG: an error there is an answer too. One round trip for both.
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
    Ok(Inspection {
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

/// Valkey reads its file without asking since 9.1 (tried with 9.1.2; Redis asks in 7.0.15 and 8.2.3).
fn checks_default_user(valkey: Option<&str>) -> bool {
    let Some(version) = valkey else { return true };
    let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
    let (major, minor): (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    (major, minor) < (9, 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(version: &str, policy: Option<&str>) -> Inspection {
        let eviction_policy = policy.map(str::to_owned);
        Inspection {
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
        let server = |may_write, valkey| Inspection {
            default_user_may_write: may_write,
            checks_default_user: checks_default_user(valkey),
            ..server("7.2.4", None)
        };
        assert!(server(Some(false), None).will_lose_transactions());
        assert!(server(Some(false), Some("9.0.3")).will_lose_transactions());
        assert!(!server(Some(false), Some("9.1.2")).will_lose_transactions());
        assert!(!server(Some(true), None).will_lose_transactions());
        assert!(!server(None, None).will_lose_transactions());
    }

    #[test]
    fn an_evicting_or_old_server_is_unfit() {
        assert_eq!(server("7.0.15", Some("noeviction")).unfit(), None);
        assert_eq!(server("8.2.1", None).unfit(), None);
        assert_eq!(
            server("7.2.0", Some("allkeys-lru")).unfit(),
            Some(Unfit::Evicts("allkeys-lru".to_owned()))
        );
        assert_eq!(
            server("6.2.6", Some("noeviction")).unfit(),
            Some(Unfit::TooOld("6.2.6".to_owned()))
        );
        assert_eq!(server("", None).unfit(), Some(Unfit::TooOld(String::new())));
    }
}

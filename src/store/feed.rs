//! Revocation feed in Redis: reading pages with the state of the server that answered, appending, putting back,
//! trimming.
//!
//! `auth::revocation` consumes the feed, and explains why revocation is strict.

use std::fmt;
use std::sync::LazyLock;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{FromRedisValue, Script};

use super::connection::{DEADLINE, Pipeline, Redis, StoreError, load_scripts, parse_reply, within};
use super::entries::Entry;
use super::server_info::{ServerInfo, inspect};
use crate::config::MAX_WINDOW;
use crate::domain::Timestamp;

/// Identity of a history of the feed. A restart, a failover or a promotion begins a new history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryId {
    run_id: String,
    replication_id: String,
}

impl HistoryId {
    /// Creates the identity from the `run_id` and `replication_id` that `INFO` reports.
    #[must_use]
    pub fn new(run_id: String, replication_id: String) -> Self {
        Self {
            run_id,
            replication_id,
        }
    }
}

impl fmt::Display for HistoryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.run_id, self.replication_id)
    }
}

/// Page of the feed and the state of the server that answered, all from one snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// History that the page belongs to.
    pub history: HistoryId,
    /// Time of the read by Redis' clock.
    pub time: Timestamp,
    /// Number of entries ever added in this history; `None` if the feed is missing.
    pub added: Option<u64>,
    /// Time from which on this history is settled; `None` if no replica has begun to settle it.
    pub settled: Option<Timestamp>,
    /// True while a replica puts lost entries back.
    pub reappending: bool,
    /// Entries after the requested id, oldest first.
    pub entries: Vec<Entry>,
    /// Id of the last entry of this page, or the requested id if the page is empty.
    pub last: String,
    /// True if no entry follows this page.
    pub at_end: bool,
}

impl Page {
    /// Returns the age that the newest entry of this page had when it was read; `None` for an empty page.
    #[must_use]
    pub fn propagation(&self) -> Option<Duration> {
        let appended: u64 = self.last.split('-').next()?.parse().ok()?;
        let age = self.time.as_millis().saturating_sub(appended);
        (!self.entries.is_empty()).then(|| Duration::from_millis(age))
    }
}

static READ: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/feed_read.lua")));
static APPEND: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/feed_append.lua")));
static ANNOUNCE: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/feed_announce.lua")));
static LOCK: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/feed_lock.lua")));
static REPAIR: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/repair_user.lua")));
static SETTLE: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/feed_settle.lua")));

/// Time for every replica to put back the entries that it knows after a discontinuity. Longer than any view or lease of
/// the old history can last.
pub const SETTLING: Duration = Duration::from_secs(3);

/// Settling time after a restart of a standalone Redis. There are no leases, and every consumer notices the restart by
/// its broken connection (a `FLUSHALL` it would notice only by its next read). Longer than any view lasts, and than the
/// longest pause before a consumer reconnects.
const SETTLING_AFTER_RESTART: Duration = Duration::from_millis(1500);

/// Returns the settling time of a history that began with a restart. `replaceable` says that another server could have
/// become the primary meanwhile.
#[must_use]
pub const fn settling_after_restart(replaceable: bool) -> Duration {
    if replaceable {
        SETTLING
    } else {
        SETTLING_AFTER_RESTART
    }
}

/// Entries in a page; few enough that one page never blocks Redis for a millisecond.
const MAX_PAGE_ENTRIES: usize = 1000;

/// Entries that one trim examines.
const TRIM_BATCH: usize = 1000;

/// Reply: role, run id, replication id, seconds, microseconds, last id, entries ever added, settled, 1 while a replica
/// puts entries back, last id of the page, its entries as lines.
type ReadReply = (
    String,
    String,
    String,
    u64,
    u64,
    String,
    u64,
    String,
    u8,
    String,
    String,
);

/// Dedicated connection of a consumer to the feed. After any error, drop it and connect again.
pub struct Feed {
    connection: MultiplexedConnection,
    redis: Redis,
}

impl Redis {
    /// Opens a dedicated connection to the feed, and inspects the server.
    ///
    /// # Errors
    /// If no server can be reached in time.
    pub async fn open_feed(&self) -> Result<(Feed, ServerInfo), StoreError> {
        let primary = self.primary(&self.keys().feed()).await?;
        let opened = async {
            let mut connection = primary.connect().await?;
            let inspection = within(DEADLINE, inspect(&mut connection)).await?;
            // A restarted server has lost the scripts. Loaded here, they cost no request a second round trip.
            let scripts = [&*READ, &*ANNOUNCE, &*SETTLE, &*APPEND, &*LOCK, &*REPAIR];
            within(DEADLINE, load_scripts(&mut connection, &scripts)).await?;
            Ok((connection, inspection))
        };
        let (connection, inspection) = opened
            .await
            .inspect_err(|_: &StoreError| self.invalidate_topology())?;
        Ok((
            Feed {
                connection,
                redis: self.clone(),
            },
            inspection,
        ))
    }

    /// Appends entries to the feed. Returns the time for which a view without them may still count on some replica: no
    /// caller may be told that they hold before that time has passed. That is the longest window of a replica. In a
    /// history that has not settled, where primaries can be replaced, it is also the time in which the leases on a
    /// former primary end.
    ///
    /// # Errors
    /// If the store cannot answer. The entries may have been appended nevertheless.
    pub async fn append(&self, entries: &[Entry]) -> Result<Duration, StoreError> {
        let keys = [
            self.keys().feed(),
            self.keys().windows(),
            self.keys().stable_since(),
        ];
        let unknown = if self.acknowledgements() > 0 {
            SETTLING
        } else {
            MAX_WINDOW
        };
        let mut args = vec![unknown.as_millis().to_string()];
        args.extend(entries.iter().map(Entry::to_string));
        self.script(&APPEND, &keys, &args)
            .await
            .map(Duration::from_millis)
    }
}

impl Redis {
    /// Returns the first entries of the feed, oldest first, each with its id.
    ///
    /// # Errors
    /// If the store cannot answer.
    pub async fn head_of_feed(&self) -> Result<Vec<(String, Entry)>, StoreError> {
        let key = self.keys().feed();
        let head: Vec<(String, Vec<(String, String)>)> = self
            .ask(
                &key,
                redis::cmd("XRANGE")
                    .arg(&key)
                    .arg("-")
                    .arg("+")
                    .arg("COUNT")
                    .arg(TRIM_BATCH),
            )
            .await?;
        let entry = |(id, fields): (String, Vec<(String, String)>)| {
            let text = fields.into_iter().next().map(|(_, text)| text);
            let entry = text.and_then(|text| text.parse().ok());
            entry
                .map(|entry| (id, entry))
                .ok_or(StoreError::unexpected("an entry of the feed"))
        };
        head.into_iter().map(entry).collect()
    }

    /// Removes these entries from the feed. They are named one by one: if the history was replaced meanwhile by one
    /// whose clock is behind, "everything up to an id" could include entries that were not examined.
    ///
    /// # Errors
    /// If the store cannot answer.
    pub async fn trim_feed(&self, ids: &[String]) -> Result<(), StoreError> {
        let key = self.keys().feed();
        self.ask(&key, redis::cmd("XDEL").arg(&key).arg(ids)).await
    }

    /// Takes or renews the lock of the replica that puts lost entries back. Returns `false` if another replica has it.
    ///
    /// # Errors
    /// If the store cannot answer.
    pub async fn lock_reappending(&self, replica: &str, ttl: Duration) -> Result<bool, StoreError> {
        let args = [replica.to_owned(), ttl.as_millis().to_string()];
        let taken: u8 = self
            .script(&LOCK, &[self.keys().repair_lock()], &args)
            .await?;
        Ok(taken == 1)
    }

    /// Repairs in the users' slots what a loss of data may have undone: deletes the record of a revoked session, raises
    /// a user's version and `min_session_version`, deletes a deleted user.
    ///
    /// # Errors
    /// If the store cannot answer. Some may have been repaired.
    pub async fn repair(&self, entries: &[Entry]) -> Result<(), StoreError> {
        let mut records = Vec::new();
        for entry in entries {
            match entry {
                Entry::Session(session) => {
                    records.push(self.keys().session(session.tag, session.sid));
                }
                Entry::User(user) => {
                    let args = [
                        user.id.to_string(),
                        user.version.to_string(),
                        user.min_session_version.to_string(),
                        u8::from(user.deleted).to_string(),
                    ];
                    let keys = [
                        self.keys().user(&user.username),
                        self.keys().sessions(&user.username),
                    ];
                    let () = self.script(&REPAIR, &keys, &args).await?;
                }
            }
        }
        let deletions = records.iter().map(|record| {
            let deletion = redis::cmd("DEL").arg(record).clone();
            (record.as_str(), deletion)
        });
        self.run_by_slot(deletions.collect(), None)
            .await
            .map(|_| ())
    }
}

impl Feed {
    /// Inspects the server again.
    ///
    /// # Errors
    /// If the store cannot answer.
    pub async fn inspect(&mut self) -> Result<ServerInfo, StoreError> {
        let inspected = within(DEADLINE, inspect(&mut self.connection)).await;
        self.invalidate_on_error(inspected)
    }

    /// Announces the freshness window that this replica uses.
    ///
    /// # Errors
    /// If the store cannot answer.
    pub async fn announce(&mut self, window: Duration) -> Result<(), StoreError> {
        let keys = [
            self.redis.keys().windows(),
            self.redis.keys().stable_since(),
        ];
        // Rounded up: others wait for this replica at least as long as its window.
        let args = [window.as_nanos().div_ceil(1_000_000).to_string()];
        self.script(&ANNOUNCE, &keys, &args).await
    }

    /// Begins to settle a history that no replica has settled.
    ///
    /// # Errors
    /// If the store cannot answer.
    pub async fn settle(&mut self, history: &HistoryId) -> Result<(), StoreError> {
        let keys = [self.redis.keys().feed(), self.redis.keys().stable_since()];
        let after_restart = settling_after_restart(self.redis.acknowledgements() > 0);
        let [long, short] = [SETTLING, after_restart].map(|time| time.as_millis().to_string());
        let args = [history.to_string(), long, short];
        self.script(&SETTLE, &keys, &args).await
    }

    /// Reads the page after `last` (`0-0` for the first page).
    ///
    /// # Errors
    /// If the store cannot answer, or the server is no longer a primary.
    pub async fn read(&mut self, last: &str) -> Result<Page, StoreError> {
        let keys = &self.redis.keys();
        let keys = [keys.feed(), keys.stable_since(), keys.repair_lock()];
        let args = [last.to_owned(), MAX_PAGE_ENTRIES.to_string()];
        let answer: ReadReply = self.script(&READ, &keys, &args).await?;
        let (role, run_id, replication_id, seconds, micros, end, added, settled, reappending, ..) =
            &answer;
        let (.., last, lines) = &answer;
        if role != "master" {
            self.redis.invalidate_topology();
            return Err(StoreError::refused("the server is not a primary"));
        }
        let history = HistoryId::new(run_id.clone(), replication_id.clone());
        let settled = settled
            .strip_prefix(&history.to_string())
            .and_then(|from| from.trim_start().parse().ok())
            .map(Timestamp::from_millis);
        let missing = end.is_empty();
        let entries = Entry::parse_all(lines.lines())?;
        Ok(Page {
            history,
            time: Timestamp::from_millis(seconds * 1000 + micros / 1000),
            added: (!missing).then_some(*added),
            settled,
            reappending: *reappending == 1,
            at_end: entries.len() < MAX_PAGE_ENTRIES,
            entries,
            last: last.clone(),
        })
    }

    /// Runs a script on this connection. It waits for no replicas: these scripts acknowledge nothing to a client.
    async fn script<T: FromRedisValue>(
        &mut self,
        script: &Script,
        keys: &[String],
        args: &[String],
    ) -> Result<T, StoreError> {
        let pipeline = Pipeline::script(script, keys, args);
        let made = within(DEADLINE, pipeline.execute(&mut self.connection)).await;
        parse_reply(self.invalidate_on_error(made)?)
    }

    /// Invalidates the topology after an error: the server may have been replaced.
    fn invalidate_on_error<T>(&self, outcome: Result<T, StoreError>) -> Result<T, StoreError> {
        outcome.inspect_err(|_| self.redis.invalidate_topology())
    }
}

//! The revocation feed as Redis holds it: pages, and what a read tells about where it was answered; appending, putting back,
//! trimming.
//!
//! Who follows it, and why that is strict, is `auth::revocation`'s business.

use std::fmt;
use std::sync::LazyLock;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{FromRedisValue, Script};

use super::connection::{Call, DEADLINE, Redis, StoreError, load, read, within};
use super::entries::Entry;
use super::inspection::{Inspection, inspect};
use crate::config::MAX_WINDOW;
use crate::domain::Timestamp;

/// Which history a read belongs to. A restart, a failover or a promotion changes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryId {
    run_id: String,
    replication_id: String,
}

impl HistoryId {
    /// The history of the process `run_id` under `replication_id`, as `INFO` tells them.
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

/// One page of the feed and where it was read, all from one snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Which history it belongs to.
    pub history: HistoryId,
    /// Redis' clock.
    pub time: Timestamp,
    /// How many entries this history has ever had; `None` where the feed is missing.
    pub added: Option<u64>,
    /// From when on this history is settled, if somebody has begun that.
    pub settled: Option<Timestamp>,
    /// Whether some replica is putting lost entries back at this moment.
    pub reappending: bool,
    /// The entries after the id that was asked for, oldest first.
    pub entries: Vec<Entry>,
    /// The id of the last entry of this page, or the id that was asked for.
    pub last: String,
    /// Whether nothing follows this page.
    pub at_end: bool,
}

impl Page {
    /// How old the newest entry of this page was when it was read; `None` for an empty page.
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

/// How long everybody is given to put back what he knows after a discontinuity: longer than any view or lease of the old
/// history can last.
pub const SETTLING: Duration = Duration::from_secs(3);

/// The same after a restart of a Redis that nobody replaces: there are no leases, and who follows was cut off by it and knows,
/// where he would find out about a `FLUSHALL` only by his next read. Longer than any view lasts, and than anybody waits before
/// he tries to connect again.
const AFTER_RESTART: Duration = Duration::from_millis(1500);

/// How long a history settles that began with a restart, by whether others could have been made the primary meanwhile.
#[must_use]
pub const fn settling_after_restart(replaceable: bool) -> Duration {
    if replaceable { SETTLING } else { AFTER_RESTART }
}

/// Entries a page; few enough that one page never blocks Redis for a millisecond.
const PAGE: usize = 1000;

/// Entries that are looked at for one trim.
const TRIM: usize = 1000;

/// Role, run id, replication id, seconds, microseconds, last id, entries ever added, settled, whether somebody puts entries
/// back, last id of the page, its entries in lines.
type Answer = (
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

/// The follower's own connection to the feed. Any error spoils it: drop it and connect again.
pub struct Feed {
    connection: MultiplexedConnection,
    redis: Redis,
}

impl Redis {
    /// Opens a connection of its own to the feed, and asks the server what it is.
    ///
    /// # Errors
    /// Where no server can be reached within the deadline.
    pub async fn open_feed(&self) -> Result<(Feed, Inspection), StoreError> {
        let primary = self.primary(&self.keys().feed()).await?;
        let opened = async {
            let mut connection = primary.connect().await?;
            let inspection = within(DEADLINE, inspect(&mut connection)).await?;
            // A server that was restarted has lost them; loaded here, they cost nobody else a second round trip.
            let scripts = [&*READ, &*ANNOUNCE, &*SETTLE, &*APPEND, &*LOCK, &*REPAIR];
            within(DEADLINE, load(&mut connection, &scripts)).await?;
            Ok((connection, inspection))
        };
        let (connection, inspection) = opened.await.inspect_err(|_: &StoreError| self.doubt())?;
        Ok((
            Feed {
                connection,
                redis: self.clone(),
            },
            inspection,
        ))
    }

    /// Appends entries to the feed. Returns for how long a view without them may still count somewhere: nobody may be told that
    /// they hold before that time has passed. That is the greatest window of a replica; and in a history that has not settled,
    /// where primaries can be replaced, the time in which also the leases on a former primary end.
    ///
    /// # Errors
    /// Where the store cannot answer; the entries may have been appended all the same.
    pub async fn append(&self, entries: &[Entry]) -> Result<Duration, StoreError> {
        let keys = [
            self.keys().feed(),
            self.keys().windows(),
            self.keys().settled(),
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
    /// The first entries of the feed, oldest first, each with its id.
    ///
    /// # Errors
    /// Where the store cannot answer.
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
                    .arg(TRIM),
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

    /// Removes these entries of the feed. They are named one by one: were the history replaced meanwhile by one whose clock is
    /// behind, everything up to an id could be more than was looked at.
    ///
    /// # Errors
    /// Where the store cannot answer.
    pub async fn trim_feed(&self, ids: &[String]) -> Result<(), StoreError> {
        let key = self.keys().feed();
        self.ask(&key, redis::cmd("XDEL").arg(&key).arg(ids)).await
    }

    /// Takes, or keeps, the lock of those who put lost entries back. `false` where another replica has it.
    ///
    /// # Errors
    /// Where the store cannot answer.
    pub async fn lock_reappending(&self, replica: &str, ttl: Duration) -> Result<bool, StoreError> {
        let args = [replica.to_owned(), ttl.as_millis().to_string()];
        let taken: u8 = self.script(&LOCK, &[self.keys().reappend()], &args).await?;
        Ok(taken == 1)
    }

    /// Repairs what a loss of data may have undone in the users' slots: a revoked session's record goes, a user's version
    /// and `sessions_from` are raised, a deleted user goes.
    ///
    /// # Errors
    /// Where the store cannot answer; some may have been repaired.
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
                        user.sessions_from.to_string(),
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
        self.each(deletions.collect(), None).await.map(|_| ())
    }
}

impl Feed {
    /// Asks the server again what it is.
    ///
    /// # Errors
    /// Where the store cannot answer.
    pub async fn inspect(&mut self) -> Result<Inspection, StoreError> {
        let inspected = within(DEADLINE, inspect(&mut self.connection)).await;
        self.spoiled(inspected)
    }

    /// Announces the window that this replica uses.
    ///
    /// # Errors
    /// Where the store cannot answer.
    pub async fn announce(&mut self, window: Duration) -> Result<(), StoreError> {
        let keys = [self.redis.keys().windows(), self.redis.keys().settled()];
        // Rounded up: whoever waits for us must wait long enough.
        let args = [window.as_nanos().div_ceil(1_000_000).to_string()];
        self.script(&ANNOUNCE, &keys, &args).await
    }

    /// Begins the settling of a history that nobody has settled.
    ///
    /// # Errors
    /// Where the store cannot answer.
    pub async fn settle(&mut self, history: &HistoryId) -> Result<(), StoreError> {
        let keys = [self.redis.keys().feed(), self.redis.keys().settled()];
        let after_restart = settling_after_restart(self.redis.acknowledgements() > 0);
        let [long, short] = [SETTLING, after_restart].map(|time| time.as_millis().to_string());
        let args = [history.to_string(), long, short];
        self.script(&SETTLE, &keys, &args).await
    }

    /// Reads the page after `last` (`0-0` for the first).
    ///
    /// # Errors
    /// Where the store cannot answer, or the server is no longer a primary.
    pub async fn read(&mut self, last: &str) -> Result<Page, StoreError> {
        let keys = &self.redis.keys();
        let keys = [keys.feed(), keys.settled(), keys.reappend()];
        let args = [last.to_owned(), PAGE.to_string()];
        let answer: Answer = self.script(&READ, &keys, &args).await?;
        let (role, run_id, replication_id, seconds, micros, end, added, settled, reappending, ..) =
            &answer;
        let (.., last, lines) = &answer;
        if role != "master" {
            self.redis.doubt();
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
            at_end: entries.len() < PAGE,
            entries,
            last: last.clone(),
        })
    }

    /// Runs a script on this connection. It waits for no replicas: nothing is acknowledged to anybody by these.
    async fn script<T: FromRedisValue>(
        &mut self,
        script: &Script,
        keys: &[String],
        args: &[String],
    ) -> Result<T, StoreError> {
        let call = Call::script(script, keys, args);
        let made = within(DEADLINE, call.make(&mut self.connection)).await;
        read(self.spoiled(made)?)
    }

    /// Whoever fails may have been replaced.
    fn spoiled<T>(&self, outcome: Result<T, StoreError>) -> Result<T, StoreError> {
        outcome.inspect_err(|_| self.redis.doubt())
    }
}

//! The revocation feed as Redis holds it: entries, pages, and what a read tells about where it was answered.
//!
//! Who follows it, and why that is strict, is `auth::revocation`'s business.

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;
use std::time::Duration;

use redis::Script;
use redis::aio::MultiplexedConnection;

use super::connection::{Redis, StoreError, invoke, within};
use super::inspection::{Inspection, inspect};
use crate::domain::{Malformed, SessionId, Timestamp, UserTag};

/// What a revocation refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// A session's tokens.
    Session(SessionEntry),
}

/// Refuses the tokens of one session, until the last of them has expired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionEntry {
    /// Where the session's record lies.
    pub tag: UserTag,
    /// The session.
    pub sid: SessionId,
    /// From when on the entry is needed no longer.
    pub until: Timestamp,
}

impl SessionEntry {
    /// The entry's text without its date, which only Redis knows.
    pub(super) fn undated(tag: UserTag, sid: SessionId) -> String {
        format!("s:{tag}:{sid}:")
    }
}

impl Entry {
    pub(super) fn parse_all(texts: &[String]) -> Result<Vec<Self>, StoreError> {
        texts
            .iter()
            .map(|text| {
                text.parse()
                    .map_err(|Malformed| StoreError::unexpected("an entry of the feed"))
            })
            .collect()
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Session(SessionEntry { tag, sid, until }) => {
                write!(
                    f,
                    "{}{}",
                    SessionEntry::undated(*tag, *sid),
                    until.as_millis()
                )
            }
        }
    }
}

impl FromStr for Entry {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let mut parts = text.split(':');
        let (Some("s"), Some(tag), Some(sid), Some(until), None) = (
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
        ) else {
            return Err(Malformed);
        };
        let until = Timestamp::from_millis(until.parse().map_err(|_| Malformed)?);
        Ok(Self::Session(SessionEntry {
            tag: tag.parse()?,
            sid: sid.parse()?,
            until,
        }))
    }
}

/// Which history a read belongs to. A restart, a failover or a promotion changes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryId {
    run_id: String,
    replication_id: String,
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
    /// Since when this history is settled, if somebody has settled it.
    pub settled: Option<Timestamp>,
    /// The entries after the id that was asked for, oldest first.
    pub entries: Vec<Entry>,
    /// The id of the last entry of this page, or the id that was asked for.
    pub last: String,
    /// Whether nothing follows this page.
    pub at_end: bool,
}

static READ: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/feed_read.lua")));
static APPEND: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/feed_append.lua")));
static ANNOUNCE: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/feed_announce.lua")));
static LOCK: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/feed_lock.lua")));
static SETTLE: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/feed_settle.lua")));

/// Entries a page; few enough that one page never blocks Redis for a millisecond.
const PAGE: usize = 1000;

/// The follower's own connection to the feed. Any error spoils it: drop it and connect again.
pub struct Feed {
    connection: MultiplexedConnection,
    redis: Redis,
}

impl Redis {
    /// Opens a connection of its own to the feed, and asks the server what it is.
    ///
    /// # Errors
    /// Where no primary can be reached within the deadline.
    pub async fn open_feed(&self) -> Result<(Feed, Inspection), StoreError> {
        let mut connection = self.connect().await?;
        let inspection = within(async { inspect(&mut connection).await }).await?;
        Ok((
            Feed {
                connection,
                redis: self.clone(),
            },
            inspection,
        ))
    }

    /// Appends entries to the feed. Returns the greatest window that any replica has announced: nobody may be told that
    /// the entries hold before that time has passed.
    ///
    /// # Errors
    /// Where the store cannot answer; the entries may have been appended all the same.
    pub async fn append(&self, entries: &[Entry]) -> Result<Duration, StoreError> {
        let keys = [
            self.keys().feed(),
            self.keys().windows(),
            self.keys().settled(),
        ];
        let args: Vec<String> = entries.iter().map(Entry::to_string).collect();
        self.script(&APPEND, &keys, &args)
            .await
            .map(Duration::from_millis)
    }
}

impl Redis {
    /// Takes, or keeps, the lock of those who put lost entries back. `false` where another replica has it.
    ///
    /// # Errors
    /// Where the store cannot answer.
    pub async fn lock_reappending(&self, replica: &str, ttl: Duration) -> Result<bool, StoreError> {
        let args = [replica.to_owned(), ttl.as_millis().to_string()];
        let taken: u8 = self.script(&LOCK, &[self.keys().reappend()], &args).await?;
        Ok(taken == 1)
    }

    /// Removes the records of revoked sessions, where a loss of data has brought them back.
    ///
    /// # Errors
    /// Where the store cannot answer.
    pub async fn remove_sessions(&self, sessions: &[SessionEntry]) -> Result<(), StoreError> {
        let mut pipeline = redis::pipe();
        for session in sessions {
            pipeline
                .del(self.keys().session(session.tag, session.sid))
                .ignore();
        }
        self.run(async |connection| pipeline.query_async(connection).await)
            .await
    }
}

impl Feed {
    /// Asks the server again what it is.
    ///
    /// # Errors
    /// Where the store cannot answer.
    pub async fn inspect(&mut self) -> Result<Inspection, StoreError> {
        within(async { inspect(&mut self.connection).await }).await
    }

    /// Announces the window that this replica uses.
    ///
    /// # Errors
    /// Where the store cannot answer.
    pub async fn announce(&mut self, window: Duration) -> Result<(), StoreError> {
        let keys = [self.redis.keys().windows()];
        // Rounded up: whoever waits for us must wait long enough.
        let millis = window.as_micros().div_ceil(1000).to_string();
        within(invoke(&mut self.connection, &ANNOUNCE, &keys, &[millis])).await
    }

    /// Begins the settling of a history that nobody has settled.
    ///
    /// # Errors
    /// Where the store cannot answer.
    pub async fn settle(&mut self, history: &HistoryId) -> Result<(), StoreError> {
        let keys = [self.redis.keys().feed(), self.redis.keys().settled()];
        within(invoke(
            &mut self.connection,
            &SETTLE,
            &keys,
            &[history.to_string()],
        ))
        .await
    }

    /// Reads the page after `last` (`0-0` for the first).
    ///
    /// # Errors
    /// Where the store cannot answer, or the server is no longer a primary.
    pub async fn read(&mut self, last: &str) -> Result<Page, StoreError> {
        let keys = [self.redis.keys().feed(), self.redis.keys().settled()];
        let args = [last.to_owned(), PAGE.to_string()];
        type Answer = (
            String,
            String,
            String,
            u64,
            u64,
            String,
            u64,
            String,
            Vec<String>,
        );
        let answer: Answer = within(invoke(&mut self.connection, &READ, &keys, &args)).await?;
        let (role, run_id, replication_id, seconds, micros, end, added, settled, page) = answer;
        if role != "master" {
            return Err(StoreError::refused("the server is not a primary"));
        }
        let history = HistoryId {
            run_id,
            replication_id,
        };
        let settled = settled
            .strip_prefix(&history.to_string())
            .and_then(|since| since.trim_start().parse().ok())
            .map(Timestamp::from_millis);
        let missing = end.is_empty();
        let last = page
            .chunks_exact(2)
            .next_back()
            .map_or_else(|| last.to_owned(), |pair| pair[0].clone());
        let texts: Vec<String> = page.into_iter().skip(1).step_by(2).collect();
        Ok(Page {
            history,
            time: Timestamp::from_millis(seconds * 1000 + micros / 1000),
            added: (!missing).then_some(added),
            settled,
            at_end: texts.len() < PAGE,
            entries: Entry::parse_all(&texts)?,
            last,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_survives_being_written() {
        let entry = Entry::Session(SessionEntry {
            tag: UserTag::from_bits(0x2bd8_06c9),
            sid: SessionId::random(),
            until: Timestamp::from_millis(1_800_000_000_123),
        });
        assert_eq!(entry.to_string().parse(), Ok(entry));
    }

    #[test]
    fn what_is_not_an_entry_is_refused() {
        for text in [
            "",
            "s",
            "s:2bd806c9:x:1",
            "s:2bd806c9:AAAAAAAAAAAAAAAAAAAAAA:1:2",
            "q:2bd806c9:AAAAAAAAAAAAAAAAAAAAAA:1",
        ] {
            assert_eq!(text.parse::<Entry>(), Err(Malformed), "{text:?}");
        }
    }
}

//! Sessions: a record each, beside the user it belongs to.

use std::sync::LazyLock;
use std::time::Duration;

use redis::Script;

use super::connection::{Redis, StoreError};
use super::entries::{Entry, SessionEntry};
use super::session_list::MOST_SESSIONS;
use super::users::{User, parse_roles};
use crate::config::MAX_ACCESS_TTL;
use crate::domain::{ClientInfo, Role, SessionId, Timestamp, UserId, Username};

/// How long a revocation is kept beyond the last token it refuses: the leeway of verification (5 s) and two minutes for
/// clocks and for what was under way.
pub const MARGIN: Duration = Duration::from_secs(125);

/// A session to open, after the password of `user` was verified.
#[derive(Debug)]
pub struct OpenSession<'a> {
    /// The user as seen before the password was verified.
    pub user: &'a User,
    /// The new session.
    pub sid: SessionId,
    /// Lifetime of its access token.
    pub access_ttl: Duration,
    /// Lifetime of its refresh token.
    pub idle: Duration,
    /// How long it lives at most.
    pub longest: Duration,
    /// Where it is opened.
    pub origin: &'a ClientInfo,
    /// What the feed knows of the user. The store is raised to that first: a version that a loss of data has undone must
    /// not be used twice.
    pub known: Known,
}

/// What the feed knows of a user; zero where it knows nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Known {
    /// Tokens of a lower version are refused.
    pub version: u64,
    /// Sessions opened under a lower version are void.
    pub sessions_from: u64,
}

/// All sessions of a user, to be ended.
#[derive(Debug)]
pub struct EndAll<'a> {
    /// Whose.
    pub username: &'a Username,
    /// The account that the acting token speaks of.
    pub user: UserId,
    /// The session of the acting token, which must stand.
    pub acting: SessionId,
    /// What the feed knows of the user.
    pub known: Known,
}

/// What became of opening a session.
#[derive(Debug)]
pub enum Opened {
    /// It is open.
    Open {
        /// When, by Redis' clock.
        now: Timestamp,
        /// The user's version.
        version: u64,
        /// The user's roles.
        roles: Vec<Role>,
        /// Entries found in the user's outbox, to be appended to the feed before anyone is answered.
        outbox: Vec<Entry>,
        /// When its refresh token expires.
        expires: Timestamp,
        /// Sessions of the user beyond the number that he may have, to be revoked before anyone is answered.
        beyond: Vec<SessionId>,
    },
    /// The account is no longer the one that was seen: password changed, disabled, deleted, or registered again.
    AccountChanged,
}

/// What a script has decided about tokens that are to be taken away.
#[derive(Debug)]
pub struct Decided {
    /// Whether they are.
    pub revoked: bool,
    /// What the feed has to be told before anyone is answered, either way: this entry, if there is one, and any earlier one
    /// of that name which the feed has not taken yet.
    pub outbox: Vec<Entry>,
}

/// A session to revoke.
#[derive(Debug)]
pub struct RevokeSession<'a> {
    /// Whose.
    pub username: &'a Username,
    /// Which.
    pub sid: SessionId,
    /// When the access token at hand expires.
    pub token_expires: Timestamp,
    /// Lifetime of access tokens.
    pub access_ttl: Duration,
}

/// 1, now, version, roles, outbox entries, expiry of the refresh token, sessions beyond the number.
type OpenAnswer = (u8, u64, u64, String, Vec<String>, u64, Vec<String>);

static OPEN: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/open_session.lua")));
static REVOKE: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/revoke_session.lua")));
static END_ALL: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/end_all_sessions.lua")));
static ACKNOWLEDGE: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/acknowledge.lua")));

impl Redis {
    /// Opens a session, unless the account has changed since it was seen.
    ///
    /// # Errors
    /// Where the store cannot answer; a session that nobody knows may be open then, until it expires.
    pub async fn open_session(&self, open: &OpenSession<'_>) -> Result<Opened, StoreError> {
        let name = &open.user.username;
        let keys = [
            self.keys().user(name),
            self.keys().session(name.tag(), open.sid),
            self.keys().sessions(name),
            self.keys().outbox(name),
        ];
        let args = [
            open.user.id.to_string(),
            open.user.sessions_from.to_string(),
            open.sid.to_string(),
            open.access_ttl.as_millis().to_string(),
            open.known.version.to_string(),
            open.known.sessions_from.to_string(),
            open.idle.as_millis().to_string(),
            open.longest.as_millis().to_string(),
            open.origin.user_agent.clone(),
            open.origin
                .address
                .map_or_else(String::new, |address| address.to_string()),
            MOST_SESSIONS.to_string(),
        ];
        let answer: redis::Value = self.script(&OPEN, &keys, &args).await?;
        if matches!(&answer, redis::Value::Array(parts) if parts.len() == 1) {
            return Ok(Opened::AccountChanged);
        }
        let (_, now, version, roles, outbox, expires, beyond): OpenAnswer =
            redis::from_redis_value(answer).map_err(|_| StoreError::unexpected("open_session"))?;
        let beyond = beyond.iter().filter_map(|sid| sid.parse().ok());
        Ok(Opened::Open {
            now: Timestamp::from_millis(now),
            version,
            roles: parse_roles(&roles).ok_or(StoreError::unexpected("roles"))?,
            outbox: Entry::parse_all(&outbox)?,
            expires: Timestamp::from_millis(expires),
            beyond: beyond.collect(),
        })
    }

    /// Decides that a session is revoked. One that is gone, or revoked already, is decided again.
    ///
    /// # Errors
    /// Where the store cannot answer; the decision may stand all the same.
    pub async fn revoke_session(&self, revoke: &RevokeSession<'_>) -> Result<Decided, StoreError> {
        let tag = revoke.username.tag();
        let keys = [
            self.keys().session(tag, revoke.sid),
            self.keys().outbox(revoke.username),
        ];
        let args = [
            SessionEntry::undated(tag, revoke.sid),
            revoke.token_expires.as_millis().to_string(),
            revoke.access_ttl.as_millis().to_string(),
            MARGIN.as_millis().to_string(),
        ];
        let outbox: Vec<String> = self.script(&REVOKE, &keys, &args).await?;
        Ok(Decided {
            revoked: true,
            outbox: Entry::parse_all(&outbox)?,
        })
    }

    /// Decides that all sessions of a user are void, unless the acting session does not stand, or the account is another.
    ///
    /// # Errors
    /// Where the store cannot answer; the decision may stand all the same.
    pub async fn end_all_sessions(&self, end: &EndAll<'_>) -> Result<Decided, StoreError> {
        let name = end.username;
        let keys = [
            self.keys().user(name),
            self.keys().session(name.tag(), end.acting),
            self.keys().sessions(name),
            self.keys().outbox(name),
        ];
        let args = [
            end.user.to_string(),
            name.to_string(),
            end.known.version.to_string(),
            (MAX_ACCESS_TTL + MARGIN).as_millis().to_string(),
        ];
        let (decided, outbox): (u8, Vec<String>) = self.script(&END_ALL, &keys, &args).await?;
        Ok(Decided {
            revoked: decided == 1,
            outbox: Entry::parse_all(&outbox)?,
        })
    }

    /// What lies in a name's outbox.
    ///
    /// # Errors
    /// Where the store cannot answer.
    pub async fn outbox(&self, name: &Username) -> Result<Vec<Entry>, StoreError> {
        let key = self.keys().outbox(name);
        let outbox: Vec<String> = self.ask(&key, redis::cmd("SMEMBERS").arg(&key)).await?;
        Entry::parse_all(&outbox)
    }

    /// Clears entries that the feed has taken from a name's outbox, and removes the sessions they revoke.
    ///
    /// # Errors
    /// Where the store cannot answer; the entries are appended once more later, which changes nothing.
    pub async fn acknowledge(&self, name: &Username, taken: &[Entry]) -> Result<(), StoreError> {
        let mut keys = vec![self.keys().outbox(name), self.keys().sessions(name)];
        let mut args = Vec::with_capacity(taken.len() * 2);
        for entry in taken {
            let sid = match entry {
                Entry::Session(session) => {
                    keys.push(self.keys().session(session.tag, session.sid));
                    session.sid.to_string()
                }
                Entry::User(_) => String::new(),
            };
            args.extend([entry.to_string(), sid]);
        }
        self.script(&ACKNOWLEDGE, &keys, &args).await
    }
}

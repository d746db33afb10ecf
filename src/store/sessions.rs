//! Records of sessions, one for each session, in the slot of its user.

use std::sync::LazyLock;
use std::time::Duration;

use redis::Script;

use super::connection::{Redis, StoreError};
use super::entries::{Entry, SessionEntry};
use super::session_list::MAX_SESSIONS;
use super::users::{User, parse_roles};
use crate::config::MAX_ACCESS_TTL;
use crate::domain::{ClientInfo, Role, SessionId, Timestamp, UserId, Username};

/// Time for which a revocation is kept beyond the last token that it refuses: the leeway of verification (5 s), and two
/// minutes for clock differences and requests in flight.
pub const MARGIN: Duration = Duration::from_secs(125);

/// Request to open a session after the password of `user` was verified.
#[derive(Debug)]
pub struct OpenSession<'a> {
    /// User as read before the password was verified.
    pub user: &'a User,
    /// Id of the new session.
    pub sid: SessionId,
    /// Lifetime of the access token.
    pub access_ttl: Duration,
    /// Lifetime of the refresh token.
    pub idle: Duration,
    /// Maximum lifetime of the session.
    pub longest: Duration,
    /// Client that opens the session.
    pub origin: &'a ClientInfo,
    /// Minimums that the feed has published for the user. The script raises the stored values to these first: a version
    /// that a loss of data has undone must not be used twice.
    pub known: RevocationFloor,
}

/// Minimums that the feed has published for a user; zero if there are none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RevocationFloor {
    /// Tokens of a lower version are refused.
    pub version: u64,
    /// Sessions opened under a lower version are void.
    pub min_session_version: u64,
}

/// Request to revoke all sessions of a user.
#[derive(Debug)]
pub struct EndAll<'a> {
    /// Name of the user.
    pub username: &'a Username,
    /// Account id in the acting token.
    pub user: UserId,
    /// Session of the acting token, which must still be valid.
    pub acting: SessionId,
    /// Minimums that the feed has published for the user.
    pub known: RevocationFloor,
}

/// Outcome of opening a session.
#[derive(Debug)]
pub enum Opened {
    /// The session is open.
    Open {
        /// Time of the decision by Redis' clock.
        now: Timestamp,
        /// Version of the user.
        version: u64,
        /// Roles of the user.
        roles: Vec<Role>,
        /// Entries of the user's outbox, to be appended to the feed before the caller gets an answer.
        outbox: Vec<Entry>,
        /// Expiry of the refresh token.
        expires: Timestamp,
        /// Sessions beyond the maximum for a user, to be revoked before the caller gets an answer.
        evicted: Vec<SessionId>,
    },
    /// The account has changed since it was read: new password, disabled, deleted, or registered again.
    AccountChanged,
}

/// Decision of a script to revoke tokens.
#[derive(Debug)]
pub struct RevocationResult {
    /// True if the tokens are revoked.
    pub revoked: bool,
    /// Entries to append to the feed before the caller gets an answer, whatever was decided: the entry of this
    /// decision, if there is one, and earlier entries of this name that the feed has not taken yet.
    pub outbox: Vec<Entry>,
}

/// Request to revoke a session.
#[derive(Debug)]
pub struct RevokeSession<'a> {
    /// Name of the user.
    pub username: &'a Username,
    /// Id of the session.
    pub sid: SessionId,
    /// Expiry of the presented access token.
    pub token_expires: Timestamp,
    /// Lifetime of access tokens.
    pub access_ttl: Duration,
}

/// Reply: 1, now, version, roles, outbox entries, expiry of the refresh token, sessions beyond the maximum.
type OpenAnswer = (u8, u64, u64, String, Vec<String>, u64, Vec<String>);

static OPEN: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/open_session.lua")));
static REVOKE: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/revoke_session.lua")));
static END_ALL: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/end_all_sessions.lua")));
static ACKNOWLEDGE: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/ack_outbox.lua")));

impl Redis {
    /// Opens a session, unless the account has changed since it was read.
    ///
    /// # Errors
    /// If the store cannot answer. A session may be open then that no client knows, until it expires.
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
            open.user.min_session_version.to_string(),
            open.sid.to_string(),
            open.access_ttl.as_millis().to_string(),
            open.known.version.to_string(),
            open.known.min_session_version.to_string(),
            open.idle.as_millis().to_string(),
            open.longest.as_millis().to_string(),
            open.origin.user_agent.clone(),
            open.origin
                .address
                .map_or_else(String::new, |address| address.to_string()),
            MAX_SESSIONS.to_string(),
        ];
        let answer: redis::Value = self.script(&OPEN, &keys, &args).await?;
        if matches!(&answer, redis::Value::Array(parts) if parts.len() == 1) {
            return Ok(Opened::AccountChanged);
        }
        let (_, now, version, roles, outbox, expires, evicted): OpenAnswer =
            redis::from_redis_value(answer).map_err(|_| StoreError::unexpected("open_session"))?;
        let evicted = evicted.iter().filter_map(|sid| sid.parse().ok());
        Ok(Opened::Open {
            now: Timestamp::from_millis(now),
            version,
            roles: parse_roles(&roles).ok_or(StoreError::unexpected("roles"))?,
            outbox: Entry::parse_all(&outbox)?,
            expires: Timestamp::from_millis(expires),
            evicted: evicted.collect(),
        })
    }

    /// Revokes a session. A session that is gone, or revoked already, is revoked again.
    ///
    /// # Errors
    /// If the store cannot answer. The decision may hold nevertheless.
    pub async fn revoke_session(
        &self,
        revoke: &RevokeSession<'_>,
    ) -> Result<RevocationResult, StoreError> {
        let tag = revoke.username.tag();
        let keys = [
            self.keys().session(tag, revoke.sid),
            self.keys().outbox(revoke.username),
        ];
        let args = [
            SessionEntry::entry_prefix(tag, revoke.sid),
            revoke.token_expires.as_millis().to_string(),
            revoke.access_ttl.as_millis().to_string(),
            MARGIN.as_millis().to_string(),
        ];
        let outbox: Vec<String> = self.script(&REVOKE, &keys, &args).await?;
        Ok(RevocationResult {
            revoked: true,
            outbox: Entry::parse_all(&outbox)?,
        })
    }

    /// Revokes all sessions of a user, unless the acting session is no longer valid or the account is another one.
    ///
    /// # Errors
    /// If the store cannot answer. The decision may hold nevertheless.
    pub async fn end_all_sessions(&self, end: &EndAll<'_>) -> Result<RevocationResult, StoreError> {
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
        Ok(RevocationResult {
            revoked: decided == 1,
            outbox: Entry::parse_all(&outbox)?,
        })
    }

    /// Returns the entries of a name's outbox.
    ///
    /// # Errors
    /// If the store cannot answer.
    pub async fn outbox(&self, name: &Username) -> Result<Vec<Entry>, StoreError> {
        let key = self.keys().outbox(name);
        let outbox: Vec<String> = self.ask(&key, redis::cmd("SMEMBERS").arg(&key)).await?;
        Entry::parse_all(&outbox)
    }

    /// Removes entries that the feed has taken from a name's outbox, and deletes the sessions that they revoke.
    ///
    /// # Errors
    /// If the store cannot answer. The entries are appended again later, which has no effect.
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

//! List of a user's sessions.

use super::connection::{Redis, StoreError};
use super::users::User;
use crate::domain::{SessionId, Timestamp};

/// Maximum number of sessions of a user; opening another one ends the session that was not refreshed for the longest
/// time.
pub const MAX_SESSIONS: usize = 20;

/// Session as shown to its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRecord {
    /// Id.
    pub sid: SessionId,
    /// Time at which the session was opened.
    pub created: Timestamp,
    /// Time at which the session was opened or last refreshed.
    pub last_seen: Timestamp,
    /// User agent of the client that opened it.
    pub user_agent: String,
    /// Address of the client that opened it.
    pub address: String,
}

type Fields = (
    Option<String>,
    Option<u64>,
    Option<String>,
    Option<u64>,
    Option<u64>,
    Option<String>,
    Option<String>,
);

/// Fields read of a session, in the order of [`Fields`].
const FIELDS: [&str; 7] = [
    "user", "version", "revoked", "created", "seen", "agent", "address",
];

impl Redis {
    /// Returns the valid sessions of a user, the newest first.
    ///
    /// # Errors
    /// If the store cannot answer.
    pub async fn sessions_of(&self, user: &User) -> Result<Vec<SessionRecord>, StoreError> {
        let name = &user.username;
        let index = self.keys().sessions(name);
        let range = redis::cmd("ZRANGE").arg(&index).arg(0).arg(-1).clone();
        let sids: Vec<String> = self.ask(&index, &range).await?;
        let sids: Vec<SessionId> = sids.iter().filter_map(|sid| sid.parse().ok()).collect();
        let keys = sids.iter().map(|sid| self.keys().session(name.tag(), *sid));
        let keys: Vec<String> = keys.collect();
        let questions = keys.iter().map(|key| {
            let question = redis::cmd("HMGET").arg(key).arg(&FIELDS).clone();
            (key.as_str(), question)
        });
        let records = self
            .run_by_slot(questions.collect(), None)
            .await?
            .into_iter();
        let records: Result<Vec<Fields>, _> = records.map(redis::from_redis_value).collect();
        let records = records.map_err(|_| StoreError::unexpected("a session"))?;
        let standing = |(sid, record): (&SessionId, Fields)| {
            let (owner, version, revoked, created, seen, agent, address) = record;
            let stands = owner? == user.id.to_string()
                && version? >= user.min_session_version
                && revoked.is_none();
            stands.then_some(SessionRecord {
                sid: *sid,
                created: Timestamp::from_millis(created?),
                last_seen: Timestamp::from_millis(seen?),
                user_agent: agent?,
                address: address?,
            })
        };
        let mut sessions: Vec<_> = sids.iter().zip(records).filter_map(standing).collect();
        sessions.sort_by_key(|session| std::cmp::Reverse((session.created, session.sid.to_bits())));
        Ok(sessions)
    }
}

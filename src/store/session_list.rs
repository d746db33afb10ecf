//! The sessions of one user, to be looked at.

use super::connection::{Redis, StoreError};
use super::users::User;
use crate::domain::{SessionId, Timestamp};

/// How many sessions a user has at most; the next one ends that which was not refreshed for the longest time.
pub const MOST_SESSIONS: usize = 20;

/// A session as its owner sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRecord {
    /// Identity.
    pub sid: SessionId,
    /// When it was opened.
    pub created: Timestamp,
    /// When it was opened or last refreshed.
    pub last_seen: Timestamp,
    /// The program that opened it, as it calls itself.
    pub user_agent: String,
    /// From where it was opened.
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

/// What is read of a session, in the order of [`Fields`].
const FIELDS: [&str; 7] = [
    "user", "version", "revoked", "created", "seen", "agent", "address",
];

impl Redis {
    /// The sessions of a user that stand, the newest first.
    ///
    /// # Errors
    /// Where the store cannot answer.
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
        let records = self.each(questions.collect(), None).await?.into_iter();
        let records: Result<Vec<Fields>, _> = records.map(redis::from_redis_value).collect();
        let records = records.map_err(|_| StoreError::unexpected("a session"))?;
        let standing = |(sid, record): (&SessionId, Fields)| {
            let (owner, version, revoked, created, seen, agent, address) = record;
            let stands = owner? == user.id.to_string()
                && version? >= user.sessions_from
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

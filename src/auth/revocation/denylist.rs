//! The denylist in memory: all revocations that some token may still be refused by.

use std::sync::Arc;

use super::session_table::SessionTable;
use super::user_table::UserTable;
use crate::domain::{SessionId, Timestamp, UserId};
use crate::store::{Entry, UserEntry};

/// Revoked sessions, and users of whom tokens below a version are refused. A reader takes no lock and allocates nothing.
#[derive(Debug, Default)]
pub struct Denylist {
    sessions: SessionTable,
    users: UserTable,
}

/// What an entry is about: two entries about the same refuse the same tokens, or one more than the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Subject {
    /// A session.
    Session(SessionId),
    /// A user, and the version below which tokens are refused (`u64::MAX` for a deleted one).
    User(UserId, u64),
}

impl Subject {
    /// What `entry` is about.
    #[must_use]
    pub fn of(entry: &Entry) -> Self {
        match entry {
            Entry::Session(entry) => Self::Session(entry.sid),
            Entry::User(entry) => Self::User(
                entry.id,
                if entry.deleted {
                    u64::MAX
                } else {
                    entry.version
                },
            ),
        }
    }
}

impl Denylist {
    /// Whether any entry refuses a token of that session, user and version.
    #[must_use]
    pub fn refuses(&self, sid: SessionId, user: UserId, version: u64) -> bool {
        self.sessions.contains(sid) || self.users.refuses(user, version)
    }

    /// Whether what `entry` refuses is refused already.
    #[must_use]
    pub fn covers(&self, entry: &Entry) -> bool {
        match entry {
            Entry::Session(entry) => self.sessions.contains(entry.sid),
            Entry::User(entry) => self.users.get(entry.id).is_some_and(|known| {
                known.version >= entry.version
                    && known.min_session_version >= entry.min_session_version
                    && (known.deleted || !entry.deleted)
            }),
        }
    }

    /// The entry of a user.
    #[must_use]
    pub fn user(&self, id: UserId) -> Option<Arc<UserEntry>> {
        self.users.get(id)
    }

    /// Adds an entry, unless it has expired.
    pub fn insert(&self, entry: &Entry, now: Timestamp) {
        match entry {
            Entry::Session(entry) => self.sessions.insert(entry, now),
            Entry::User(entry) => self.users.insert(entry, now),
        }
    }

    /// How many entries are held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sessions.len() + self.users.len()
    }

    /// Whether nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every entry that has not expired. What is added meanwhile may be missing.
    pub fn entries(&self, now: Timestamp) -> impl Iterator<Item = Entry> + '_ {
        self.sessions
            .entries(now)
            .map(Entry::Session)
            .chain(self.users.entries(now).map(Entry::User))
    }

    /// Drops a part of what has expired. Call it once a second.
    pub fn tend(&self, now: Timestamp) {
        self.sessions.tend(now);
        self.users.tend(now);
    }

    /// Bytes that the table of sessions takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.sessions.bytes()
    }
}

//! The denylist in memory: all revocations that may still apply to an unexpired token.

use std::sync::Arc;

use super::session_table::SessionTable;
use super::user_table::UserTable;
use crate::domain::{SessionId, Timestamp, UserId};
use crate::store::{Entry, UserEntry};

/// Revoked sessions, and users with the version below which tokens are rejected. A lookup takes no lock and allocates nothing.
#[derive(Debug, Default)]
pub struct Denylist {
    sessions: SessionTable,
    users: UserTable,
}

/// Subject of an entry. Of two entries with the same subject, one rejects at least the tokens that the other rejects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Subject {
    /// A session.
    Session(SessionId),
    /// A user, and the version below which tokens are rejected (`u64::MAX` for a deleted user).
    User(UserId, u64),
}

impl Subject {
    /// Returns the subject of `entry`.
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
    /// Returns whether any entry rejects a token with this session, user and version.
    #[must_use]
    pub fn refuses(&self, sid: SessionId, user: UserId, version: u64) -> bool {
        self.sessions.contains(sid) || self.users.refuses(user, version)
    }

    /// Returns whether every token that `entry` rejects is rejected already.
    #[must_use]
    pub fn subsumes(&self, entry: &Entry) -> bool {
        match entry {
            Entry::Session(entry) => self.sessions.contains(entry.sid),
            Entry::User(entry) => self.users.get(entry.id).is_some_and(|known| {
                known.version >= entry.version
                    && known.min_session_version >= entry.min_session_version
                    && (known.deleted || !entry.deleted)
            }),
        }
    }

    /// Returns the entry of a user.
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

    /// Returns the number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sessions.len() + self.users.len()
    }

    /// Returns whether there are no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns every entry that has not expired. Entries added during the iteration may be missing.
    pub fn entries(&self, now: Timestamp) -> impl Iterator<Item = Entry> + '_ {
        self.sessions
            .entries(now)
            .map(Entry::Session)
            .chain(self.users.entries(now).map(Entry::User))
    }

    /// Evicts expired entries from a part of the list, another part at each call. Call it once a second.
    pub fn evict_expired(&self, now: Timestamp) {
        self.sessions.evict_expired(now);
        self.users.evict_expired(now);
    }

    /// Returns the memory of the session table in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.sessions.bytes()
    }
}

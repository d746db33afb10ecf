//! The users with a version below which tokens are rejected.
//!
//! They are few compared to the sessions, so an entry may be larger and a write may copy a small part of the table. Readers
//! take no lock and never wait.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use crate::domain::{Timestamp, UserId};
use crate::store::UserEntry;

/// Number of parts of the table; a write copies one of them.
const PARTS: usize = 1024;
/// Number of parts that one call of [`UserTable::evict_expired`] visits.
const PARTS_PER_CALL: usize = 16;

type Part = HashMap<UserId, Arc<UserEntry>>;

/// Users by id, each with one entry that rejects all tokens that any of its entries rejects.
#[derive(Debug)]
pub(super) struct UserTable {
    parts: Vec<ArcSwap<Part>>,
    writer: Mutex<()>,
    len: AtomicUsize,
    next_part: AtomicUsize,
}

impl UserTable {
    /// Creates an empty table.
    #[must_use]
    pub(super) fn new() -> Self {
        Self {
            parts: (0..PARTS).map(|_| ArcSwap::default()).collect(),
            writer: Mutex::new(()),
            len: AtomicUsize::new(0),
            next_part: AtomicUsize::new(0),
        }
    }

    /// Returns whether a token with this user and version is rejected.
    #[must_use]
    pub(super) fn refuses(&self, user: UserId, version: u64) -> bool {
        // Fast path: usually the table is empty.
        self.len.load(Ordering::Acquire) > 0
            && self
                .part(user)
                .load()
                .get(&user)
                .is_some_and(|entry| entry.deleted || version < entry.version)
    }

    /// Returns the entry of a user.
    #[must_use]
    pub(super) fn get(&self, user: UserId) -> Option<Arc<UserEntry>> {
        self.part(user).load().get(&user).cloned()
    }

    /// Returns the number of users.
    #[must_use]
    pub(super) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// Adds an entry, or merges it with the user's present one: of each field the stricter value counts.
    pub(super) fn insert(&self, entry: &UserEntry, now: Timestamp) {
        if entry.until <= now {
            return;
        }
        let _guard = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let part = self.part(entry.id);
        let mut next = Part::clone(&part.load());
        let merged = match next.get(&entry.id) {
            None => entry.clone(),
            Some(known) => UserEntry {
                username: entry.username.clone(),
                id: entry.id,
                version: known.version.max(entry.version),
                min_session_version: known.min_session_version.max(entry.min_session_version),
                deleted: known.deleted || entry.deleted,
                until: known.until.max(entry.until),
            },
        };
        if next.insert(entry.id, Arc::new(merged)).is_none() {
            self.len.fetch_add(1, Ordering::Release);
        }
        part.store(Arc::new(next));
    }

    /// Returns every entry that has not expired.
    pub(super) fn entries(&self, now: Timestamp) -> impl Iterator<Item = UserEntry> + '_ {
        self.parts.iter().flat_map(move |part| {
            let part = part.load_full();
            let live: Vec<_> = part
                .values()
                .filter(|entry| entry.until > now)
                .map(|entry| (**entry).clone())
                .collect();
            live
        })
    }

    /// Evicts expired entries from some parts, the next ones at each call. Call it once a second.
    pub(super) fn evict_expired(&self, now: Timestamp) {
        let _guard = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let first = self.next_part.fetch_add(PARTS_PER_CALL, Ordering::Relaxed);
        for number in first..first + PARTS_PER_CALL {
            let part = &self.parts[number % PARTS];
            let before = part.load_full();
            if before.values().any(|entry| entry.until <= now) {
                let mut next = Part::clone(&before);
                next.retain(|_, entry| entry.until > now);
                self.len
                    .fetch_sub(before.len() - next.len(), Ordering::Relaxed);
                part.store(Arc::new(next));
            }
        }
    }

    fn part(&self, user: UserId) -> &ArcSwap<Part> {
        &self.parts[user.shard_hash() % PARTS]
    }
}

impl Default for UserTable {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    fn entry(id: UserId, version: u64) -> UserEntry {
        let (username, until) = (
            "alice".parse().unwrap(),
            Timestamp::from_secs(1_800_000_100),
        );
        UserEntry {
            username,
            id,
            version,
            min_session_version: version,
            deleted: false,
            until,
        }
    }

    #[test]
    fn tokens_below_the_version_are_rejected_and_others_accepted() {
        let (table, alice, bob) = (UserTable::new(), UserId::new(), UserId::new());
        assert!(!table.refuses(alice, 1));
        table.insert(&entry(alice, 7), NOW);
        assert!(table.refuses(alice, 6) && !table.refuses(alice, 7) && !table.refuses(bob, 1));
    }

    #[test]
    fn an_older_entry_does_not_weaken_a_newer_one() {
        let (table, alice) = (UserTable::new(), UserId::new());
        table.insert(&entry(alice, 7), NOW);
        table.insert(&entry(alice, 3), NOW);
        assert!(table.refuses(alice, 6));
        table.insert(
            &UserEntry {
                deleted: true,
                ..entry(alice, 1)
            },
            NOW,
        );
        assert!(table.refuses(alice, u64::MAX));
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn expired_entries_are_dropped() {
        let table = UserTable::new();
        for _ in 0..500 {
            table.insert(&entry(UserId::new(), 7), NOW);
        }
        assert_eq!((table.len(), table.entries(NOW).count()), (500, 500));
        for _ in 0..PARTS / PARTS_PER_CALL {
            table.evict_expired(Timestamp::from_secs(1_800_000_100));
        }
        assert_eq!(table.len(), 0);
    }
}

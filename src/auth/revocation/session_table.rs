//! The revoked sessions in memory: every one with a token that may not have expired.
//!
//! A check looks up one of perhaps millions of sessions on the path of every request, so a reader takes no lock, never waits
//! and allocates nothing. Writers are few (one entry per logout) and exclude each other.
//!
//! The list is sharded by random bits of the session id. A shard is an open-addressing table with three atomic words per
//! slot: the two halves of the session id, and a word with the date and the tag. When 70 % of a table's slots are used, it is
//! replaced by one with 60 % used: 34 to 40 bytes per entry while the list grows, and at most 60 while it shrinks. Readers go
//! on in the table that they hold. [`SessionTable::evict_expired`] evicts expired entries one shard at a time, never all at once.
//!
//! A lock-free reader sees every entry that it must see. A writer stores the halves first and the word with the date last,
//! and a view of the feed is published only after its entries were stored here: a reader that sees the view sees the entries.
//! A reader concurrent with a writer may miss only entries that no published view contains yet. Slots of expired entries are
//! reused: a reader that meets a half-written slot compares 128 random bits, half of which belong to another session, and
//! goes on.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use crate::domain::{SessionId, Timestamp, UserTag};
use crate::store::SessionEntry;

/// Number of shards; a growing table copies only its own shard.
const SHARDS: usize = 64;
/// Number of slots in a shard's first table.
const FIRST_SLOTS: usize = 16;

/// Revoked sessions, shared by all requests and the feed consumer.
#[derive(Debug)]
pub(super) struct SessionTable {
    shards: Vec<Shard>,
    len: AtomicUsize,
    next_shard: AtomicUsize,
}

#[derive(Debug)]
struct Shard {
    table: ArcSwap<Table>,
    writer: Mutex<Writer>,
}

/// Counts of a shard that only its writer uses.
#[derive(Debug, Default)]
struct Writer {
    /// Number of slots that hold an entry.
    live: usize,
    /// Number of slots that hold or held an entry: a reader must probe past them.
    used: usize,
}

#[derive(Debug)]
struct Table(Box<[Slot]>);

/// `state` is 0 in a slot that was never used, [`DEAD`] in one whose entry has expired, and otherwise the date in whole
/// seconds above the tag.
#[derive(Debug, Default)]
struct Slot {
    high: AtomicU64,
    low: AtomicU64,
    state: AtomicU64,
}

const DEAD: u64 = 1;

impl SessionTable {
    /// Creates an empty table.
    #[must_use]
    pub(super) fn new() -> Self {
        let shard = || Shard {
            table: ArcSwap::from_pointee(Table::with_slots(FIRST_SLOTS)),
            writer: Mutex::default(),
        };
        Self {
            shards: (0..SHARDS).map(|_| shard()).collect(),
            len: AtomicUsize::new(0),
            next_shard: AtomicUsize::new(0),
        }
    }

    /// Returns whether the session is revoked.
    #[must_use]
    pub(super) fn contains(&self, sid: SessionId) -> bool {
        self.shard(sid).table.load().find(sid).is_some()
    }

    /// Returns the number of sessions; expired ones count until they are evicted.
    #[must_use]
    pub(super) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// Adds an entry, or keeps the later date if the session is there already. Expired entries are not added.
    pub(super) fn insert(&self, entry: &SessionEntry, now: Timestamp) {
        if entry.until <= now {
            return;
        }
        let shard = self.shard(entry.sid);
        let mut writer = shard.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut table = shard.table.load_full();
        if let Some(slot) = table.find(entry.sid) {
            let newer = state_of(entry).max(slot.state.load(Ordering::Relaxed));
            slot.state.store(newer, Ordering::Release);
            return;
        }
        if (writer.used + 1) * 10 > table.0.len() * 7 {
            table = self.rebuild(shard, &mut writer, now);
        }
        writer.used += usize::from(table.put(entry));
        writer.live += 1;
        self.len.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns every entry that has not expired, shard by shard. Entries added during the iteration may be missing.
    pub(super) fn entries(&self, now: Timestamp) -> impl Iterator<Item = SessionEntry> + '_ {
        self.shards
            .iter()
            .flat_map(move |shard| shard.table.load().live(now))
    }

    /// Evicts expired entries from one shard, the next one at each call, and shrinks its table if few entries are left. Call it
    /// once a second: an entry is gone about a minute after it has expired.
    pub(super) fn evict_expired(&self, now: Timestamp) {
        let shard = &self.shards[self.next_shard.fetch_add(1, Ordering::Relaxed) % SHARDS];
        let mut writer = shard.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let table = shard.table.load_full();
        for slot in &table.0 {
            if slot.entry().is_some_and(|entry| entry.until <= now) {
                slot.state.store(DEAD, Ordering::Release);
                writer.live -= 1;
                self.len.fetch_sub(1, Ordering::Relaxed);
            }
        }
        if table.0.len() > FIRST_SLOTS && writer.live * 10 < table.0.len() * 4 {
            self.rebuild(shard, &mut writer, now);
        }
    }

    /// Returns the memory of the tables in bytes.
    #[must_use]
    pub(super) fn bytes(&self) -> usize {
        self.shards
            .iter()
            .map(|shard| shard.table.load().0.len() * size_of::<Slot>())
            .sum()
    }

    fn shard(&self, sid: SessionId) -> &Shard {
        &self.shards[usize::try_from(sid.to_bits() >> 64 & (SHARDS as u128 - 1)).unwrap_or(0)]
    }

    /// Replaces a shard's table by one with room to spare for the entries that have not expired.
    fn rebuild(&self, shard: &Shard, writer: &mut Writer, now: Timestamp) -> Arc<Table> {
        let kept = shard.table.load().live(now);
        let table = Arc::new(Table::with_slots((kept.len() * 10 / 6).max(FIRST_SLOTS)));
        self.len
            .fetch_sub(writer.live - kept.len(), Ordering::Relaxed);
        writer.live = kept.len();
        writer.used = kept.len();
        for entry in &kept {
            table.put(entry);
        }
        shard.table.store(Arc::clone(&table));
        table
    }
}

impl Default for SessionTable {
    fn default() -> Self {
        Self::new()
    }
}

impl Table {
    fn with_slots(slots: usize) -> Self {
        Self((0..slots).map(|_| Slot::default()).collect())
    }

    /// Returns the slots in the probe order of a session.
    fn probe(&self, sid: SessionId) -> impl Iterator<Item = &Slot> {
        // The low half is random already. A product instead of a remainder spreads it over a table of any size.
        let spread = (u128::from(low(sid)) * self.0.len() as u128) >> 64;
        let start = usize::try_from(spread).unwrap_or(0);
        self.0[start..].iter().chain(&self.0[..start])
    }

    fn live(&self, now: Timestamp) -> Vec<SessionEntry> {
        self.0
            .iter()
            .filter_map(Slot::entry)
            .filter(|entry| entry.until > now)
            .collect()
    }

    fn find(&self, sid: SessionId) -> Option<&Slot> {
        for slot in self.probe(sid) {
            match slot.state.load(Ordering::Acquire) {
                0 => return None,
                DEAD => {}
                _ if slot.low.load(Ordering::Relaxed) == low(sid)
                    && slot.high.load(Ordering::Relaxed) == high(sid) =>
                {
                    return Some(slot);
                }
                _ => {}
            }
        }
        None
    }

    /// Puts a new entry into the first free slot. Returns whether that slot was never used before.
    fn put(&self, entry: &SessionEntry) -> bool {
        for slot in self.probe(entry.sid) {
            let state = slot.state.load(Ordering::Relaxed);
            if state <= DEAD {
                slot.low.store(low(entry.sid), Ordering::Relaxed);
                slot.high.store(high(entry.sid), Ordering::Relaxed);
                slot.state.store(state_of(entry), Ordering::Release);
                return state == 0;
            }
        }
        unreachable!("a table always has free slots")
    }
}

impl Slot {
    fn entry(&self) -> Option<SessionEntry> {
        let state = self.state.load(Ordering::Acquire);
        if state <= DEAD {
            return None;
        }
        let sid = u128::from(self.high.load(Ordering::Relaxed)) << 64
            | u128::from(self.low.load(Ordering::Relaxed));
        Some(SessionEntry {
            tag: UserTag::from_bits(u32::try_from(state & u64::from(u32::MAX)).unwrap_or(0)),
            sid: SessionId::from_bits(sid),
            until: Timestamp::from_secs(state >> 32),
        })
    }
}

/// Returns the state word of an entry. The date is rounded up to a second: an entry may live longer than needed, never shorter.
fn state_of(entry: &SessionEntry) -> u64 {
    let seconds = entry
        .until
        .as_millis()
        .div_ceil(1000)
        .min(u64::from(u32::MAX));
    seconds << 32 | u64::from(entry.tag.to_bits())
}

fn low(sid: SessionId) -> u64 {
    u64::try_from(sid.to_bits() & u128::from(u64::MAX)).unwrap_or(0)
}

fn high(sid: SessionId) -> u64 {
    u64::try_from(sid.to_bits() >> 64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    fn entry(until: Timestamp) -> SessionEntry {
        SessionEntry {
            tag: UserTag::from_bits(7),
            sid: SessionId::random(),
            until,
        }
    }

    fn later(secs: u64) -> Timestamp {
        Timestamp::from_secs(NOW.as_secs() + secs)
    }

    #[test]
    fn only_added_sessions_are_found() {
        let list = SessionTable::new();
        let all: Vec<_> = (0..100_000).map(|_| entry(later(60))).collect();
        for entry in &all {
            list.insert(entry, NOW);
        }
        assert!(all.iter().all(|entry| list.contains(entry.sid)));
        assert!((0..100_000).all(|_| !list.contains(SessionId::random())));
        assert_eq!(list.len(), all.len());
        let found: HashSet<_> = list.entries(NOW).map(|entry| entry.sid).collect();
        assert_eq!(found.len(), all.len());
        assert!(
            list.entries(NOW)
                .all(|found| found.tag == UserTag::from_bits(7) && found.until == later(60))
        );
    }

    #[test]
    fn an_entry_takes_at_most_48_bytes() {
        let list = SessionTable::new();
        for number in 1..=200_000 {
            list.insert(&entry(later(60)), NOW);
            if number % 1000 == 0 && number >= 10_000 {
                assert!(
                    list.bytes() <= number * 48,
                    "{} bytes for {number} entries",
                    list.bytes()
                );
            }
        }
    }

    #[test]
    fn expired_entries_make_room_without_growth() {
        let list = SessionTable::new();
        for second in 0..400 {
            list.evict_expired(later(second));
            for _ in 0..100 {
                list.insert(&entry(later(second + 10)), later(second));
            }
        }
        assert!(list.bytes() < 400_000, "{} bytes", list.bytes());
        assert_eq!(list.entries(later(399)).count(), 1000);
    }

    #[test]
    fn memory_is_given_back_once_entries_have_expired() {
        let list = SessionTable::new();
        for _ in 0..50_000 {
            list.insert(&entry(later(10)), NOW);
        }
        let full = list.bytes();
        for second in 10..10 + SHARDS as u64 {
            list.evict_expired(later(second));
        }
        assert_eq!(list.len(), 0);
        assert!(list.bytes() * 10 < full, "{} of {full} bytes", list.bytes());
    }

    #[test]
    fn an_entry_added_again_keeps_the_later_date() {
        let list = SessionTable::new();
        let first = entry(later(60));
        list.insert(&first, NOW);
        list.insert(
            &SessionEntry {
                until: later(90),
                ..first
            },
            NOW,
        );
        list.insert(
            &SessionEntry {
                until: later(30),
                ..first
            },
            NOW,
        );
        assert_eq!(list.len(), 1);
        assert_eq!(list.entries(later(89)).count(), 1);
    }

    #[test]
    fn readers_see_published_entries_while_writers_go_on() {
        let list = SessionTable::new();
        let published = AtomicUsize::new(0);
        let all: Vec<_> = (0..50_000).map(|_| entry(later(60))).collect();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for (index, entry) in all.iter().enumerate() {
                    list.insert(entry, NOW);
                    published.store(index + 1, Ordering::Release);
                }
            });
            for _ in 0..2 {
                scope.spawn(|| {
                    loop {
                        let seen = published.load(Ordering::Acquire);
                        if let Some(last) = seen.checked_sub(1) {
                            assert!(
                                list.contains(all[last].sid) && list.contains(all[last / 2].sid)
                            );
                        }
                        if seen == all.len() {
                            break;
                        }
                    }
                });
            }
        });
    }
}

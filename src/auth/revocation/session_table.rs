//! The revoked sessions in memory: every one whose tokens have not all expired.
//!
//! A check looks up one of perhaps millions of sessions on the path of every request, so a reader takes no lock, waits for
//! nobody and allocates nothing. Writers are few (one entry a logout) and take turns.
//!
//! The list is cut into shards by the session's own random bits. A shard is an open-addressing table of three words a slot,
//! all of them atomic: the two halves of the session id, and a word with the date and the tag. A table of which seven
//! slots in ten are used is replaced by one of which six in ten are: 34 to 40 bytes an entry while the list grows, and at most
//! 60 while it shrinks. Readers go on in whichever table they hold. Expired entries are dropped a shard at a time by
//! [`SessionTable::tend`], never all at once.
//!
//! Why a reader without a lock sees what it must: a writer stores the halves first and the word with the date last, and a
//! view of the feed is published only after its entries were stored here, so whoever sees the view sees the entries. A
//! reader that runs beside a writer may miss only what no published view contains yet. Slots of expired entries are used
//! again: a reader that meets one half-written compares 128 random bits of which half belong to another session, and goes
//! on.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use crate::domain::{SessionId, Timestamp, UserTag};
use crate::store::SessionEntry;

/// Shards; a table that grows copies one of so many parts of the list.
const SHARDS: usize = 64;
/// Slots of a shard's first table.
const FIRST: usize = 16;

/// The revoked sessions. Shared by all who ask, and by the one who learns.
#[derive(Debug)]
pub(super) struct SessionTable {
    shards: Vec<Shard>,
    len: AtomicUsize,
    tended: AtomicUsize,
}

#[derive(Debug)]
struct Shard {
    table: ArcSwap<Table>,
    writer: Mutex<Writer>,
}

/// What only a writer knows of its shard.
#[derive(Debug, Default)]
struct Writer {
    /// Slots that hold an entry.
    live: usize,
    /// Slots that hold or have held one: a reader must look beyond them.
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
    /// An empty list.
    #[must_use]
    pub(super) fn new() -> Self {
        let shard = || Shard {
            table: ArcSwap::from_pointee(Table::of(FIRST)),
            writer: Mutex::default(),
        };
        Self {
            shards: (0..SHARDS).map(|_| shard()).collect(),
            len: AtomicUsize::new(0),
            tended: AtomicUsize::new(0),
        }
    }

    /// Whether the session is revoked.
    #[must_use]
    pub(super) fn contains(&self, sid: SessionId) -> bool {
        self.shard(sid).table.load().find(sid).is_some()
    }

    /// How many sessions are held; expired ones count until they are swept.
    #[must_use]
    pub(super) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// Adds an entry; the later date counts where the session is there already. An entry that has expired is not added.
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

    /// Every entry that has not expired, shard by shard. What is added meanwhile may be missing.
    pub(super) fn entries(&self, now: Timestamp) -> impl Iterator<Item = SessionEntry> + '_ {
        self.shards
            .iter()
            .flat_map(move |shard| shard.table.load().live(now))
    }

    /// Drops what has expired from one shard, another at each call, and gives its memory back where much has. Call it once a
    /// second: an entry is gone about a minute after it has expired.
    pub(super) fn tend(&self, now: Timestamp) {
        let shard = &self.shards[self.tended.fetch_add(1, Ordering::Relaxed) % SHARDS];
        let mut writer = shard.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let table = shard.table.load_full();
        for slot in &table.0 {
            if slot.entry().is_some_and(|entry| entry.until <= now) {
                slot.state.store(DEAD, Ordering::Release);
                writer.live -= 1;
                self.len.fetch_sub(1, Ordering::Relaxed);
            }
        }
        if table.0.len() > FIRST && writer.live * 10 < table.0.len() * 4 {
            self.rebuild(shard, &mut writer, now);
        }
    }

    /// Bytes that the tables take.
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

    /// Replaces a shard's table by one with room to spare for what has not expired.
    fn rebuild(&self, shard: &Shard, writer: &mut Writer, now: Timestamp) -> Arc<Table> {
        let kept = shard.table.load().live(now);
        let table = Arc::new(Table::of((kept.len() * 10 / 6).max(FIRST)));
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
    fn of(slots: usize) -> Self {
        Self((0..slots).map(|_| Slot::default()).collect())
    }

    /// The slots in the order in which a session is looked for.
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

    /// Puts an entry that is not there into the first free slot. Tells whether that slot was never used before.
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

/// The date rounded up to a second: an entry may live longer than needed, never shorter.
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
    fn what_was_added_is_found_and_nothing_else() {
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
            list.tend(later(second));
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
            list.tend(later(second));
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
    fn readers_see_what_was_published_while_writers_go_on() {
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

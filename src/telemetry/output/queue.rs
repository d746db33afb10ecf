//! Bounded queue between the threads that log and the writer thread.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Memory of a queued line besides its bytes.
const LINE_OVERHEAD: usize = 64;

/// Kind of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Audit,
    Other,
}

/// Maximum sizes in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// All lines together.
    pub(super) total: usize,
    /// Lines that are not audit lines.
    pub(super) other: usize,
}

/// Lines that were dropped because there was no room, and writes that failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::telemetry) struct Counts {
    pub(in crate::telemetry) dropped_audit: u64,
    pub(in crate::telemetry) dropped_other: u64,
    pub(in crate::telemetry) failed_writes: u64,
}

impl Counts {
    fn dropped(&mut self, kind: Kind) {
        match kind {
            Kind::Audit => self.dropped_audit += 1,
            Kind::Other => self.dropped_other += 1,
        }
    }
}

/// Lines of one kind, each with its position among all lines.
#[derive(Debug, Default)]
struct Lines {
    lines: VecDeque<(u64, Vec<u8>)>,
    size: usize,
}

impl Lines {
    fn push(&mut self, place: u64, line: Vec<u8>) {
        self.size += size(&line);
        self.lines.push_back((place, line));
    }

    fn first_place(&self) -> u64 {
        self.lines.front().map_or(u64::MAX, |(place, _)| *place)
    }

    fn pop_first(&mut self) -> Option<Vec<u8>> {
        let (_, line) = self.lines.pop_front()?;
        self.size -= size(&line);
        Some(line)
    }

    fn pop_last(&mut self) -> Option<Vec<u8>> {
        let (_, line) = self.lines.pop_back()?;
        self.size -= size(&line);
        Some(line)
    }
}

fn size(line: &[u8]) -> usize {
    line.len() + LINE_OVERHEAD
}

/// All lines in their order, within the limits.
#[derive(Debug)]
struct Store {
    limits: Limits,
    audit: Lines,
    other: Lines,
    next_place: u64,
    counts: Counts,
    /// Part of `counts` that the log has not reported yet.
    unreported: Counts,
}

impl Store {
    fn new(limits: Limits) -> Self {
        Self {
            limits,
            audit: Lines::default(),
            other: Lines::default(),
            next_place: 0,
            counts: Counts::default(),
            unreported: Counts::default(),
        }
    }

    /// Adds a line. An audit line replaces the newest other lines; a line without room is dropped.
    fn push(&mut self, kind: Kind, line: Vec<u8>) {
        let size = size(&line);
        if kind == Kind::Audit {
            while self.size() + size > self.limits.total && self.other.pop_last().is_some() {
                self.count(Kind::Other);
            }
        }
        let has_room = self.size() + size <= self.limits.total
            && (kind == Kind::Audit || self.other.size + size <= self.limits.other);
        if !has_room {
            self.count(kind);
            return;
        }
        let lines = match kind {
            Kind::Audit => &mut self.audit,
            Kind::Other => &mut self.other,
        };
        lines.push(self.next_place, line);
        self.next_place += 1;
    }

    /// Moves whole lines to `batch`, as many as fit into `limit` bytes and at least one. `false` if there is none.
    fn take(&mut self, batch: &mut Vec<u8>, limit: usize) -> bool {
        let mut took = false;
        loop {
            let lines = if self.audit.first_place() < self.other.first_place() {
                &mut self.audit
            } else {
                &mut self.other
            };
            let Some((_, first)) = lines.lines.front() else {
                return took;
            };
            if took && batch.len() + first.len() > limit {
                return true;
            }
            batch.extend(lines.pop_first().unwrap_or_default());
            took = true;
        }
    }

    fn size(&self) -> usize {
        self.audit.size + self.other.size
    }

    fn len(&self) -> usize {
        self.audit.lines.len() + self.other.lines.len()
    }

    fn count(&mut self, kind: Kind) {
        self.counts.dropped(kind);
        self.unreported.dropped(kind);
    }

    /// Takes the counts since the last report, once there is room again for a line that reports them.
    fn take_unreported(&mut self) -> Option<Counts> {
        let is_roomy =
            self.size() <= self.limits.total / 2 && self.other.size <= self.limits.other / 2;
        let any = self.unreported.dropped_audit + self.unreported.dropped_other > 0;
        (any && is_roomy).then(|| std::mem::take(&mut self.unreported))
    }
}

#[derive(Debug)]
struct State {
    store: Store,
    /// Lines that the writer has taken and not written yet.
    in_hand: usize,
    /// Bytes written so far; they show that the output is not blocked.
    written: u64,
    is_closed: bool,
    has_ended: bool,
}

/// The queue of one output.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) name: &'static str,
    state: Mutex<State>,
    /// There is something to do for the writer.
    work: Condvar,
    /// The writer has ended.
    end: Condvar,
}

impl Queue {
    pub(super) fn new(name: &'static str, limits: Limits) -> Self {
        Self {
            name,
            state: Mutex::new(State {
                store: Store::new(limits),
                in_hand: 0,
                written: 0,
                is_closed: false,
                has_ended: false,
            }),
            work: Condvar::new(),
            end: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push(&self, kind: Kind, line: Vec<u8>) {
        if line.is_empty() {
            return;
        }
        self.lock().store.push(kind, line);
        self.work.notify_one();
    }

    /// Waits for lines and moves some to `batch`. `false` if there are none and none will come.
    pub(super) fn take(&self, batch: &mut Vec<u8>, limit: usize) -> bool {
        let mut state = self.lock();
        loop {
            let before = state.store.len();
            if state.store.take(batch, limit) {
                state.in_hand = before - state.store.len();
                return true;
            }
            if state.is_closed {
                return false;
            }
            state = self
                .work
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Records that the batch is written. Returns the dropped lines, if the log is to report them now.
    pub(super) fn wrote(&self, bytes: usize) -> Option<Counts> {
        let mut state = self.lock();
        state.in_hand = 0;
        state.written += bytes as u64;
        state.store.take_unreported()
    }

    /// Waits before the next attempt after a failed write. Returns `false` if the output is closed: one attempt is left.
    pub(super) fn pause(&self, delay: Duration) -> bool {
        let state = self.lock();
        let (state, _) = self
            .work
            .wait_timeout_while(state, delay, |state| !state.is_closed)
            .unwrap_or_else(PoisonError::into_inner);
        !state.is_closed
    }

    pub(super) fn count_failure(&self) {
        self.lock().store.counts.failed_writes += 1;
    }

    /// The writer has ended.
    pub(super) fn ended(&self) {
        self.lock().has_ended = true;
        self.end.notify_all();
    }

    /// Closes the queue and waits for the writer: for `timeout`, and up to `waits` times as long while it writes. Returns the
    /// number of lines that were lost and can no longer be reported in the log.
    pub(super) fn close(&self, timeout: Duration, waits: u32) -> u64 {
        let mut state = self.lock();
        state.is_closed = true;
        self.work.notify_one();
        for _ in 0..waits {
            let written = state.written;
            (state, _) = self
                .end
                .wait_timeout_while(state, timeout, |state| !state.has_ended)
                .unwrap_or_else(PoisonError::into_inner);
            if state.has_ended || state.written == written {
                break;
            }
        }
        let Counts {
            dropped_audit,
            dropped_other,
            ..
        } = state.store.unreported;
        dropped_audit + dropped_other + (state.store.len() + state.in_hand) as u64
    }

    pub(super) fn counts(&self) -> Counts {
        self.lock().store.counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: usize = 100 - LINE_OVERHEAD;

    fn line(text: &str) -> Vec<u8> {
        format!("{text:<width$}\n", width = LINE - 1).into_bytes()
    }

    fn store(total: usize, other: usize) -> Store {
        Store::new(Limits {
            total: total * 100,
            other: other * 100,
        })
    }

    fn drain(store: &mut Store) -> Vec<String> {
        let mut batch = Vec::new();
        while store.take(&mut batch, 4096) {}
        let text = String::from_utf8(batch).unwrap();
        text.lines()
            .map(|line| line.trim_end().to_owned())
            .collect()
    }

    #[test]
    fn lines_keep_their_order_across_kinds() {
        let mut store = store(10, 5);
        store.push(Kind::Other, line("1"));
        store.push(Kind::Audit, line("2"));
        store.push(Kind::Audit, line("3"));
        store.push(Kind::Other, line("4"));
        assert_eq!(drain(&mut store), ["1", "2", "3", "4"]);
        assert_eq!(store.size(), 0);
    }

    #[test]
    fn other_lines_leave_room_for_audit_lines_and_make_way_for_them() {
        let mut store = store(4, 2);
        for text in ["1", "2", "3"] {
            store.push(Kind::Other, line(text));
        }
        assert_eq!(
            (store.counts.dropped_other, store.other.lines.len()),
            (1, 2)
        );
        for text in ["a", "b", "c", "d"] {
            store.push(Kind::Audit, line(text));
        }
        assert_eq!(store.counts.dropped_other, 3);
        assert_eq!(store.counts.dropped_audit, 0);
        store.push(Kind::Audit, line("e"));
        store.push(Kind::Other, line("5"));
        assert_eq!(
            (store.counts.dropped_audit, store.counts.dropped_other),
            (1, 4)
        );
        assert_eq!(drain(&mut store), ["a", "b", "c", "d"]);
    }

    #[test]
    fn a_batch_holds_whole_lines_and_at_least_one() {
        let mut store = store(10, 10);
        for text in ["1", "2", "3"] {
            store.push(Kind::Other, line(text));
        }
        let mut batch = Vec::new();
        assert!(store.take(&mut batch, 2 * LINE + 1));
        assert_eq!(batch.len(), 2 * LINE);
        batch.clear();
        assert!(store.take(&mut batch, 1));
        assert_eq!(batch.len(), LINE);
        assert!(!store.take(&mut batch, 1));
    }

    #[test]
    fn what_was_dropped_is_told_once_and_not_before_there_is_room() {
        let mut store = store(4, 4);
        for text in ["1", "2", "3", "4", "5", "6"] {
            store.push(Kind::Other, line(text));
        }
        assert_eq!(store.take_unreported(), None);
        store.take(&mut Vec::new(), 2 * LINE);
        let told = store.take_unreported().unwrap();
        assert_eq!((told.dropped_audit, told.dropped_other), (0, 2));
        assert_eq!(store.take_unreported(), None);
        assert_eq!(store.counts.dropped_other, 2);
    }
}

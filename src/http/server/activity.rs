//! What one connection is doing, in a handful of atomic cells.
//!
//! A connection is one task, but its parts have different owners: the wire and the service belong to hyper, the watch
//! stands outside. They meet here. Only `idle` is ever touched by another task, the accept loop, which may take an idle
//! connection away; every other cell stays inside the connection's task, where relaxed order is program order. No
//! request takes a lock or a contended cache line.

use std::sync::atomic::{
    AtomicBool, AtomicU16, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};

use poem::http::StatusCode;

/// The value of `idle` while something is going on.
const BUSY: u64 = 0;
/// The value of `idle` once the accept loop has taken the connection away.
const EVICTED: u64 = u64::MAX;

/// What the next byte from the client belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Inbound {
    /// Nothing yet: the last message is complete, the next has not begun.
    Between,
    /// A head that has begun and not ended.
    Head,
    /// Unknown: a head is complete and the service has not seen it yet.
    Handed,
    /// A body of which this many bytes are still to come.
    Body(u64),
    /// A chunked body; its end is known to hyper alone.
    Chunked,
}

impl Inbound {
    const HEAD: u64 = u64::MAX;
    const HANDED: u64 = u64::MAX - 1;
    const CHUNKED: u64 = u64::MAX - 2;
    const LONGEST: u64 = u64::MAX - 3;

    fn to_cell(self) -> u64 {
        match self {
            Self::Between => 0,
            Self::Head => Self::HEAD,
            Self::Handed => Self::HANDED,
            Self::Chunked => Self::CHUNKED,
            Self::Body(left) => left.min(Self::LONGEST),
        }
    }

    fn from_cell(cell: u64) -> Self {
        match cell {
            0 => Self::Between,
            Self::HEAD => Self::Head,
            Self::HANDED => Self::Handed,
            Self::CHUNKED => Self::Chunked,
            left => Self::Body(left),
        }
    }
}

/// Which of the deadlines counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing has begun.
    Waiting,
    /// The client owes the rest of a message and nothing is being answered.
    Head,
    /// A request runs, or its response is still being written.
    Request,
}

/// The cells of one connection.
#[derive(Debug)]
pub(super) struct Activity {
    idle: AtomicU64,
    inbound: AtomicU64,
    requests: AtomicU64,
    answering: AtomicBool,
    blocked: AtomicBool,
    sent: AtomicU64,
    refusal: AtomicU16,
}

impl Activity {
    /// A connection that has just been accepted and counts as idle from `idle_from` on, in microseconds of the
    /// server's clock.
    pub(super) fn new(idle_from: u64) -> Self {
        Self {
            idle: AtomicU64::new(idle_from),
            inbound: AtomicU64::new(Inbound::Between.to_cell()),
            requests: AtomicU64::new(0),
            answering: AtomicBool::new(false),
            blocked: AtomicBool::new(false),
            sent: AtomicU64::new(0),
            refusal: AtomicU16::new(0),
        }
    }

    // Told by the wire.

    /// Leaves idleness for the first byte of a head; false if the accept loop was faster and has taken the connection.
    pub(super) fn stir(&self) -> bool {
        match self.idle.load(Relaxed) {
            BUSY => true,
            EVICTED => false,
            since => self
                .idle
                .compare_exchange(since, BUSY, AcqRel, Relaxed)
                .is_ok(),
        }
    }

    pub(super) fn inbound(&self) -> Inbound {
        Inbound::from_cell(self.inbound.load(Relaxed))
    }

    pub(super) fn set_inbound(&self, inbound: Inbound) {
        self.inbound.store(inbound.to_cell(), Relaxed);
    }

    /// Notes that the client is to be sent away with this status.
    pub(super) fn refuse(&self, status: StatusCode) {
        self.refusal.store(status.as_u16(), Relaxed);
    }

    /// Notes that the socket takes no more bytes for now.
    pub(super) fn write_blocked(&self) {
        self.blocked.store(true, Relaxed);
    }

    /// Notes that the socket took `bytes`.
    pub(super) fn wrote(&self, bytes: usize) {
        self.blocked.store(false, Relaxed);
        // Load and store, not fetch_add: there is one writer, and this needs no bus lock.
        self.sent
            .store(self.sent.load(Relaxed).wrapping_add(bytes as u64), Relaxed);
    }

    // Told by the service.

    /// Notes that a request runs; `body` is what follows its head.
    pub(super) fn request_begun(&self, body: Inbound) {
        self.requests
            .store(self.requests.load(Relaxed).wrapping_add(1), Relaxed);
        self.answering.store(true, Relaxed);
        self.set_inbound(body);
    }

    /// Notes that hyper has taken all of the response.
    pub(super) fn request_ended(&self) {
        self.answering.store(false, Relaxed);
    }

    // Asked by the watch.

    pub(super) fn phase(&self) -> Phase {
        if self.answering.load(Relaxed) || self.blocked.load(Relaxed) {
            Phase::Request
        } else if self.inbound() == Inbound::Between {
            Phase::Waiting
        } else {
            Phase::Head
        }
    }

    /// How many requests have begun so far.
    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Relaxed)
    }

    pub(super) fn is_write_blocked(&self) -> bool {
        self.blocked.load(Relaxed)
    }

    /// How many bytes the socket has taken so far.
    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    pub(super) fn refusal(&self) -> Option<StatusCode> {
        StatusCode::from_u16(self.refusal.load(Relaxed)).ok()
    }

    /// Becomes idle as of `now`, in microseconds of the server's clock.
    pub(super) fn rest(&self, now: u64) {
        self.idle.store(now.clamp(BUSY + 1, EVICTED - 1), Release);
    }

    // Asked and told by the accept loop.

    /// Since when the connection has been idle, in microseconds of the server's clock.
    pub(super) fn idle_since(&self) -> Option<u64> {
        match self.idle.load(Acquire) {
            BUSY | EVICTED => None,
            since => Some(since),
        }
    }

    /// Takes the connection away if it has been idle since exactly `since`; afterwards no request can begin on it.
    pub(super) fn evict(&self, since: u64) -> bool {
        self.idle
            .compare_exchange(since, EVICTED, AcqRel, Relaxed)
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_either_evicted_or_stirs() {
        let activity = Activity::new(5);
        assert!(activity.stir());
        assert!(!activity.evict(5));

        let activity = Activity::new(5);
        assert!(activity.evict(5));
        assert!(!activity.stir());
        assert_eq!(activity.idle_since(), None);
    }

    #[test]
    fn a_stale_stamp_does_not_evict_a_connection_that_worked_meanwhile() {
        let activity = Activity::new(5);
        assert!(activity.stir());
        activity.rest(9);
        assert!(!activity.evict(5));
        assert_eq!(activity.idle_since(), Some(9));
    }

    #[test]
    fn what_is_inbound_survives_its_cell() {
        for inbound in [
            Inbound::Between,
            Inbound::Head,
            Inbound::Handed,
            Inbound::Chunked,
            Inbound::Body(1),
            Inbound::Body(16 * 1024),
        ] {
            assert_eq!(Inbound::from_cell(inbound.to_cell()), inbound);
        }
        // An absurd Content-Length must not turn into one of the marks.
        let absurd = Inbound::from_cell(Inbound::Body(u64::MAX - 2).to_cell());
        assert!(matches!(absurd, Inbound::Body(_)));
    }
}

//! State of one connection, in a few atomic cells.
//!
//! A connection is one task, but its parts have different owners: hyper owns `GuardedIo` and `ConnService`, and
//! `Deadlines` is outside hyper. They share this state. Only `idle` is touched by another task: the accept loop may evict
//! an idle connection. Every other cell stays inside the connection's task, where relaxed order is program order. A request
//! takes no lock and no contended cache line.

use std::sync::atomic::{
    AtomicBool, AtomicU16, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};

use poem::http::StatusCode;

/// Value of `idle` while a message is received or answered.
const BUSY: u64 = 0;
/// Value of `idle` once the accept loop has evicted the connection.
const EVICTED: u64 = u64::MAX;

/// Part of a message that the next byte from the client belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Inbound {
    /// None: the last message is complete, the next has not begun.
    BetweenMessages,
    /// A head that has begun and not ended.
    Head,
    /// Unknown: a head is complete, and `ConnService` has not received it yet.
    HeadDelivered,
    /// A body with this number of bytes still to come.
    Body(u64),
    /// A chunked body; only hyper knows where it ends.
    Chunked,
}

impl Inbound {
    const HEAD: u64 = u64::MAX;
    const HEAD_DELIVERED: u64 = u64::MAX - 1;
    const CHUNKED: u64 = u64::MAX - 2;
    const MAX_BODY: u64 = u64::MAX - 3;

    fn to_cell(self) -> u64 {
        match self {
            Self::BetweenMessages => 0,
            Self::Head => Self::HEAD,
            Self::HeadDelivered => Self::HEAD_DELIVERED,
            Self::Chunked => Self::CHUNKED,
            Self::Body(left) => left.min(Self::MAX_BODY),
        }
    }

    fn from_cell(cell: u64) -> Self {
        match cell {
            0 => Self::BetweenMessages,
            Self::HEAD => Self::Head,
            Self::HEAD_DELIVERED => Self::HeadDelivered,
            Self::CHUNKED => Self::Chunked,
            left => Self::Body(left),
        }
    }
}

/// Phase that determines which deadline applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnPhase {
    /// No message has begun.
    Waiting,
    /// The client owes the rest of a message, and no request is being answered.
    Head,
    /// A request runs, or its response is still being written.
    Request,
}

/// State of one connection.
#[derive(Debug)]
pub(super) struct Activity {
    idle: AtomicU64,
    inbound: AtomicU64,
    requests: AtomicU64,
    answering: AtomicBool,
    blocked: AtomicBool,
    sent: AtomicU64,
    rejection: AtomicU16,
}

impl Activity {
    /// State of a newly accepted connection, which counts as idle from `idle_from` on, in microseconds of the server's
    /// clock.
    pub(super) fn new(idle_from: u64) -> Self {
        Self {
            idle: AtomicU64::new(idle_from),
            inbound: AtomicU64::new(Inbound::BetweenMessages.to_cell()),
            requests: AtomicU64::new(0),
            answering: AtomicBool::new(false),
            blocked: AtomicBool::new(false),
            sent: AtomicU64::new(0),
            rejection: AtomicU16::new(0),
        }
    }

    // Called by `GuardedIo`.

    /// Marks the connection busy at the first byte of a head. Returns false if the accept loop has evicted it before.
    pub(super) fn mark_busy(&self) -> bool {
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

    /// Records the status with which the client is to be rejected.
    pub(super) fn reject(&self, status: StatusCode) {
        self.rejection.store(status.as_u16(), Relaxed);
    }

    /// Records that the socket takes no more bytes for now.
    pub(super) fn write_blocked(&self) {
        self.blocked.store(true, Relaxed);
    }

    /// Records that the socket took `bytes`.
    pub(super) fn wrote(&self, bytes: usize) {
        self.blocked.store(false, Relaxed);
        // Load and store instead of fetch_add: there is one writer, so no bus lock is needed.
        self.sent
            .store(self.sent.load(Relaxed).wrapping_add(bytes as u64), Relaxed);
    }

    // Called by `ConnService`.

    /// Records that a request runs; `body` describes the bytes that follow its head.
    pub(super) fn request_started(&self, body: Inbound) {
        self.requests
            .store(self.requests.load(Relaxed).wrapping_add(1), Relaxed);
        self.answering.store(true, Relaxed);
        self.set_inbound(body);
    }

    /// Records that hyper has taken all of the response.
    pub(super) fn request_ended(&self) {
        self.answering.store(false, Relaxed);
    }

    // Called by `Deadlines`.

    pub(super) fn phase(&self) -> ConnPhase {
        if self.answering.load(Relaxed) || self.blocked.load(Relaxed) {
            ConnPhase::Request
        } else if self.inbound() == Inbound::BetweenMessages {
            ConnPhase::Waiting
        } else {
            ConnPhase::Head
        }
    }

    /// Number of requests that have begun so far.
    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Relaxed)
    }

    pub(super) fn is_write_blocked(&self) -> bool {
        self.blocked.load(Relaxed)
    }

    /// Number of bytes that the socket has taken so far.
    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    pub(super) fn rejection(&self) -> Option<StatusCode> {
        StatusCode::from_u16(self.rejection.load(Relaxed)).ok()
    }

    /// Marks the connection idle as of `now`, in microseconds of the server's clock.
    pub(super) fn mark_idle(&self, now: u64) {
        self.idle.store(now.clamp(BUSY + 1, EVICTED - 1), Release);
    }

    // Called by the accept loop.

    /// Time since which the connection has been idle, in microseconds of the server's clock; `None` if it is busy.
    pub(super) fn idle_since(&self) -> Option<u64> {
        match self.idle.load(Acquire) {
            BUSY | EVICTED => None,
            since => Some(since),
        }
    }

    /// Evicts the connection if it has been idle since exactly `since`; afterwards no request can begin on it.
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
    fn a_connection_is_either_evicted_or_marked_busy() {
        let activity = Activity::new(5);
        assert!(activity.mark_busy());
        assert!(!activity.evict(5));

        let activity = Activity::new(5);
        assert!(activity.evict(5));
        assert!(!activity.mark_busy());
        assert_eq!(activity.idle_since(), None);
    }

    #[test]
    fn a_stale_timestamp_does_not_evict_a_connection_that_was_busy_since() {
        let activity = Activity::new(5);
        assert!(activity.mark_busy());
        activity.mark_idle(9);
        assert!(!activity.evict(5));
        assert_eq!(activity.idle_since(), Some(9));
    }

    #[test]
    fn inbound_round_trips_through_its_cell() {
        for inbound in [
            Inbound::BetweenMessages,
            Inbound::Head,
            Inbound::HeadDelivered,
            Inbound::Chunked,
            Inbound::Body(1),
            Inbound::Body(16 * 1024),
        ] {
            assert_eq!(Inbound::from_cell(inbound.to_cell()), inbound);
        }
        // A huge Content-Length must not become one of the special values.
        let huge = Inbound::from_cell(Inbound::Body(u64::MAX - 2).to_cell());
        assert!(matches!(huge, Inbound::Body(_)));
    }
}

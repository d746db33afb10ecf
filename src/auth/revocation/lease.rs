//! The lease: proof that the primary which this replica reads from has not been replaced.
//!
//! A primary that was paused or partitioned and then replaced still answers reads. But it cannot get a write acknowledged by
//! Redis replicas that follow the new primary. So each second a heartbeat is written and its acknowledgement awaited. A read
//! counts only if an acknowledged heartbeat of the same history was **sent** shortly before it. The arrival time of the
//! acknowledgement proves nothing: it may have waited in the socket of a primary that stood still.
//!
//! If a lease is lost and regained in the same history, no read counts until a settling time has passed. Redis' replicas may
//! have followed another primary in between, and replicas need time to append the entries which that primary took.

use std::time::Duration;

use crate::domain::Uptime;
use crate::store::{HistoryId, SETTLING};

/// Interval between two heartbeats.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);

/// Time after a heartbeat was sent for which reads may count, once it is acknowledged.
pub const LEASE_TTL: Duration = Duration::from_secs(2);

/// Newest acknowledged heartbeat.
#[derive(Debug, Default)]
pub struct Lease(Option<Heartbeat>);

#[derive(Debug)]
struct Heartbeat {
    history: HistoryId,
    sent: Uptime,
    /// Time from which reads count, if the lease was lost before.
    counts_from: Option<Uptime>,
}

impl Lease {
    /// Records a heartbeat, sent at `sent`, that was acknowledged in `history`.
    pub fn acknowledged(&mut self, history: HistoryId, sent: Uptime) {
        let before = self.0.take().filter(|before| before.history == history);
        let counts_from = before.and_then(|before| {
            if sent.since(before.sent) > LEASE_TTL {
                Some(sent.plus(SETTLING))
            } else {
                before.counts_from
            }
        });
        self.0 = Some(Heartbeat {
            history,
            sent,
            counts_from,
        });
    }

    /// Returns whether a read of `history` sent at `read_sent` may count.
    #[must_use]
    pub fn holds(&self, history: &HistoryId, read_sent: Uptime) -> bool {
        self.0.as_ref().is_some_and(|heartbeat| {
            heartbeat.history == *history
                && read_sent.since(heartbeat.sent) <= LEASE_TTL
                && heartbeat.counts_from.is_none_or(|from| read_sent >= from)
        })
    }

    /// Returns whether the lease is held in another history: then `history` comes from a primary that was replaced.
    #[must_use]
    pub fn held_by_other_primary(&self, history: &HistoryId, now: Uptime) -> bool {
        let elsewhere = self
            .0
            .as_ref()
            .is_some_and(|heartbeat| heartbeat.history != *history);
        elsewhere && self.is_held(now)
    }

    /// Returns whether the newest acknowledged heartbeat is young enough at `now`.
    #[must_use]
    pub fn is_held(&self, now: Uptime) -> bool {
        self.0
            .as_ref()
            .is_some_and(|heartbeat| now.since(heartbeat.sent) <= LEASE_TTL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Uptime {
        Uptime::from_nanos(millis * 1_000_000)
    }

    fn history(name: &str) -> HistoryId {
        HistoryId::new(name.to_owned(), name.to_owned())
    }

    #[test]
    fn a_read_counts_for_two_seconds_after_a_heartbeat_in_its_history() {
        let mut lease = Lease::default();
        assert!(!lease.holds(&history("a"), at(0)));
        lease.acknowledged(history("a"), at(1000));
        assert!(lease.holds(&history("a"), at(1000)) && lease.holds(&history("a"), at(3000)));
        assert!(!lease.holds(&history("a"), at(3001)) && !lease.holds(&history("b"), at(1000)));
    }

    #[test]
    fn a_lease_that_was_lost_counts_again_only_after_a_settling() {
        let mut lease = Lease::default();
        lease.acknowledged(history("a"), at(1000));
        lease.acknowledged(history("a"), at(3001));
        assert!(!lease.holds(&history("a"), at(3001)));
        for second in 4..6 {
            lease.acknowledged(history("a"), at(second * 1000));
            assert!(!lease.holds(&history("a"), at(second * 1000)));
        }
        lease.acknowledged(history("a"), at(6000));
        assert!(!lease.holds(&history("a"), at(6000)) && lease.holds(&history("a"), at(6001)));
        lease.acknowledged(history("b"), at(6500));
        assert!(lease.holds(&history("b"), at(6500)));
    }
}

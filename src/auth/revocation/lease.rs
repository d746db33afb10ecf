//! The lease: how a replica knows that the primary it reads from is still the primary.
//!
//! A primary that was paused or cut off and has been replaced still answers reads. What it cannot do is have a write
//! acknowledged by those who follow another by now. So each second a beat is written and waited for, and a read counts only
//! if a beat that was **sent** a short time before it was acknowledged, in the history that the read shows. What counts is
//! not when the acknowledgement came: it may have lain in the socket of a primary that stood still.
//!
//! A lease that was lost and comes back in the same history lets nothing count before a settling has passed. Redis' replicas
//! may have followed another primary meanwhile, and what that one was told others must have time to put back.

use std::time::Duration;

use crate::domain::Uptime;
use crate::store::{HistoryId, SETTLING};

/// How often a beat is sent.
pub const BEAT: Duration = Duration::from_secs(1);

/// For how long after it was sent an acknowledged beat lets reads count.
pub const LEASE: Duration = Duration::from_secs(2);

/// The newest beat that was acknowledged.
#[derive(Debug, Default)]
pub struct Lease(Option<Beat>);

#[derive(Debug)]
struct Beat {
    history: HistoryId,
    sent: Uptime,
    /// From when on reads count, where the lease was lost before.
    counts_from: Option<Uptime>,
}

impl Lease {
    /// Takes note of a beat that `history` has acknowledged.
    pub fn acknowledged(&mut self, history: HistoryId, sent: Uptime) {
        let before = self.0.take().filter(|before| before.history == history);
        let counts_from = before.and_then(|before| {
            if sent.since(before.sent) > LEASE {
                Some(sent.plus(SETTLING))
            } else {
                before.counts_from
            }
        });
        self.0 = Some(Beat {
            history,
            sent,
            counts_from,
        });
    }

    /// Whether a read sent at `read_sent` that shows `history` may count.
    #[must_use]
    pub fn holds(&self, history: &HistoryId, read_sent: Uptime) -> bool {
        self.0.as_ref().is_some_and(|beat| {
            beat.history == *history
                && read_sent.since(beat.sent) <= LEASE
                && beat.counts_from.is_none_or(|from| read_sent >= from)
        })
    }

    /// Whether it is held in another history than that: whoever reads there reads from a primary that was replaced.
    #[must_use]
    pub fn is_elsewhere(&self, history: &HistoryId, now: Uptime) -> bool {
        let elsewhere = self.0.as_ref().is_some_and(|beat| beat.history != *history);
        elsewhere && self.is_held(now)
    }

    /// Whether the newest acknowledged beat is young enough at `now`.
    #[must_use]
    pub fn is_held(&self, now: Uptime) -> bool {
        self.0
            .as_ref()
            .is_some_and(|beat| now.since(beat.sent) <= LEASE)
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
    fn a_read_counts_for_two_seconds_after_a_beat_was_sent_and_only_in_its_history() {
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

//! The freshness window: the rules that use it, without any I/O.
//!
//! A view may answer if it is no older than its replica's window. A revocation waits for the longest window of all replicas.
//! A replica whose window may be unknown to the others must not let its views count.

use std::time::Duration;

use crate::domain::Uptime;

/// Interval between two announcements of a replica's window; Redis keeps one for five minutes.
pub const ANNOUNCE_INTERVAL: Duration = Duration::from_mins(1);

/// Returns whether a request that arrived at `arrived` may be answered from a view whose read was sent at `read_sent`, which is
/// `None` before the first.
#[must_use]
pub fn is_fresh_at(read_sent: Option<Uptime>, arrived: Uptime, window: Duration) -> bool {
    read_sent.is_some_and(|sent| sent >= arrived.minus(window))
}

/// Returns how long a revocation waits after its append. `announced` is the longest window that a replica may have, as the
/// append returned it.
///
/// The wait is one percent longer than the window. Two clocks measure it, this one and that of the replica which answers from
/// a view, and each may run half a percent fast or slow. NTP corrects a clock by a tenth of that.
#[must_use]
pub fn propagation_wait(announced: Duration, own: Duration) -> Duration {
    let longest = announced.max(own);
    longest + longest / 100
}

/// State of this replica's announcement, which makes revocations on other replicas wait for its window.
///
/// An announcement can be lost like all data in Redis. So it counts only in the history in which it was made, and is repeated
/// after every discontinuity, before a view counts.
#[derive(Debug, Default)]
pub struct Announcement(Option<Uptime>);

impl Announcement {
    /// Returns whether the window must be announced before a read sent at `sent`.
    #[must_use]
    pub fn is_due(&self, sent: Uptime) -> bool {
        self.0
            .is_none_or(|made| sent.since(made) >= ANNOUNCE_INTERVAL)
    }

    /// Records an acknowledged announcement, dated by when it was *sent*: its lifetime in Redis does not include the delay of the
    /// reply.
    pub fn made(&mut self, sent: Uptime) {
        self.0 = Some(sent);
    }

    /// Records that Redis may have lost the announcement.
    pub fn lost(&mut self) {
        self.0 = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const W: Duration = Duration::from_millis(50);

    fn at(millis: u64) -> Uptime {
        Uptime::from_nanos(millis * 1_000_000)
    }

    #[test]
    fn a_view_answers_for_one_window_and_a_missing_view_never() {
        assert!(is_fresh_at(Some(at(1000)), at(1050), W));
        assert!(!is_fresh_at(Some(at(1000)), at(1051), W));
        assert!(!is_fresh_at(None, at(10), W));
    }

    #[test]
    fn a_window_of_zero_requires_a_read_sent_after_the_request_arrived() {
        assert!(is_fresh_at(Some(at(1000)), at(1000), Duration::ZERO));
        assert!(!is_fresh_at(Some(at(1000)), at(1001), Duration::ZERO));
    }

    #[test]
    fn a_revocation_waits_for_the_slowest_and_for_clocks_that_differ() {
        assert_eq!(propagation_wait(W, W * 2), Duration::from_millis(101));
        assert_eq!(
            propagation_wait(Duration::ZERO, Duration::ZERO),
            Duration::ZERO
        );
    }

    #[test]
    fn an_announcement_is_due_at_first_each_minute_and_after_a_loss() {
        let mut announcement = Announcement::default();
        assert!(announcement.is_due(at(0)));
        announcement.made(at(1000));
        assert!(!announcement.is_due(at(60_999)));
        assert!(announcement.is_due(at(61_000)));
        announcement.lost();
        assert!(announcement.is_due(at(1001)));
    }
}

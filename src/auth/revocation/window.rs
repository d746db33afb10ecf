//! The freshness window: the rules in which it occurs, without any input or output.
//!
//! A view may answer as long as it is no older than its replica's window; a revocation waits for the longest window that any
//! replica has; and a replica whose window the others may not know must not let its views count.

use std::time::Duration;

use crate::domain::Uptime;

/// How often a replica announces its window; Redis remembers it for five minutes.
pub const ANNOUNCE: Duration = Duration::from_mins(1);

/// Whether a request that arrived at `arrived` may be answered from a view whose read was sent at `read_sent`; `None` before
/// the first.
#[must_use]
pub fn may_answer(read_sent: Option<Uptime>, arrived: Uptime, window: Duration) -> bool {
    read_sent.is_some_and(|sent| sent >= arrived.minus(window))
}

/// How long a revocation waits after its append has answered `announced`, the longest window that a replica may have.
///
/// A hundredth longer than the window: it is measured here and by whoever answers from a view, on two clocks, each of which
/// may run half a percent fast or slow. NTP corrects a clock by a tenth of that.
#[must_use]
pub fn holds_after(announced: Duration, own: Duration) -> Duration {
    let longest = announced.max(own);
    longest + longest / 100
}

/// Whether those who revoke know this replica's window, so that they wait for its views.
///
/// An announcement can be lost with everything else that Redis has. So it counts for the history only in which it was made,
/// and is made again after every discontinuity, before a view counts.
#[derive(Debug, Default)]
pub struct Announcement(Option<Uptime>);

impl Announcement {
    /// Whether a read sent at `sent` must wait until the window has been announced.
    #[must_use]
    pub fn is_due(&self, sent: Uptime) -> bool {
        self.0.is_none_or(|made| sent.since(made) >= ANNOUNCE)
    }

    /// Takes note of one that was acknowledged. Dated by when it was *sent*: what the answer met on its way, Redis has not
    /// waited for.
    pub fn made(&mut self, sent: Uptime) {
        self.0 = Some(sent);
    }

    /// Takes note that Redis may have lost it.
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
    fn a_view_answers_for_one_window_and_no_view_for_none() {
        assert!(may_answer(Some(at(1000)), at(1050), W));
        assert!(!may_answer(Some(at(1000)), at(1051), W));
        assert!(!may_answer(None, at(10), W));
    }

    #[test]
    fn a_window_of_zero_wants_a_read_sent_after_the_request_arrived() {
        assert!(may_answer(Some(at(1000)), at(1000), Duration::ZERO));
        assert!(!may_answer(Some(at(1000)), at(1001), Duration::ZERO));
    }

    #[test]
    fn a_revocation_waits_for_the_slowest_and_for_clocks_that_differ() {
        assert_eq!(holds_after(W, W * 2), Duration::from_millis(101));
        assert_eq!(holds_after(Duration::ZERO, Duration::ZERO), Duration::ZERO);
    }

    #[test]
    fn a_window_is_announced_before_anything_counts_each_minute_and_after_a_loss() {
        let mut announcement = Announcement::default();
        assert!(announcement.is_due(at(0)));
        announcement.made(at(1000));
        assert!(!announcement.is_due(at(60_999)));
        assert!(announcement.is_due(at(61_000)));
        announcement.lost();
        assert!(announcement.is_due(at(1001)));
    }
}

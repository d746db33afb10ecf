//! The freshness window: the rules in which it occurs, without any input or output.
//!
//! A view may answer as long as it is no older than its replica's window.

use std::time::Duration;

use crate::domain::Uptime;

/// Whether a request that arrived at `arrived` may be answered from a view whose read was sent at `read_sent`; `None` before
/// the first.
#[must_use]
pub fn may_answer(read_sent: Option<Uptime>, arrived: Uptime, window: Duration) -> bool {
    read_sent.is_some_and(|sent| sent >= arrived.minus(window))
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
}

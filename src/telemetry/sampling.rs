//! Which requests are traced where nobody has decided it for us, by `OTEL_TRACES_SAMPLER=parentbased_traceidratio`.
//!
//! The SDK decides that too, but only about spans that have been made, and making one that is thrown away costs a request more
//! than all else that is measured about it. So it is decided before, and the SDK is told to take what is left. A request whose
//! caller sends a `traceparent` is as before: it has a trace, and the caller has decided.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::domain::SessionId;

/// Requests of which the drawn number is at most this have a trace: all, unless told otherwise.
static GREATEST: AtomicU64 = AtomicU64::new(u64::MAX);

thread_local! {
    /// Where this thread is in its sequence of numbers; none may be zero.
    static DRAWN: Cell<u64> = Cell::new(seed());
}

/// From now on that share of requests has a trace.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a share from 0 to 1 of all numbers; the last bits do not matter"
)]
pub(super) fn trace(share: f64) {
    GREATEST.store((share * u64::MAX as f64) as u64, Ordering::Relaxed);
}

/// Whether the request that comes now is to have a trace.
pub(super) fn is_chosen() -> bool {
    let greatest = GREATEST.load(Ordering::Relaxed);
    // No number is zero, so that a share of nothing is nothing.
    greatest == u64::MAX || draw() <= greatest
}

/// The next number of this thread (Marsaglia's xorshift). Nothing secret depends on it.
fn draw() -> u64 {
    DRAWN.with(|drawn| {
        let mut bits = drawn.get();
        bits ^= bits << 13;
        bits ^= bits >> 7;
        bits ^= bits << 17;
        drawn.set(bits);
        bits
    })
}

fn seed() -> u64 {
    u64::try_from(SessionId::random().to_bits() >> 64).unwrap_or(0) | 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_of_requests_is_what_was_asked_for() {
        for (share, least, most) in [(0.0, 0, 0), (0.01, 800, 1200), (1.0, 100_000, 100_000)] {
            trace(share);
            let chosen = (0..100_000).filter(|_| is_chosen()).count();
            assert!(
                (least..=most).contains(&chosen),
                "{chosen} of 100,000 by {share}"
            );
        }
    }
}

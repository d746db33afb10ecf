//! How a hashing thread makes way for the rest of the server.
//!
//! A low priority bounds the share of a core that hashing takes, not how long others wait for their turn: a system lets the
//! running thread finish its slice, milliseconds in which a request of fifty microseconds waits. So the thread offers its core
//! after each half turn of its lanes, many times in a millisecond. Where nobody waits for the core that costs next to nothing.
//! Where the rest of the server takes all of it, offers would leave little for logins: then it makes fewer of them.

use std::thread;
use std::time::Duration;

use crate::domain::{Clock, Uptime};

/// A thread makes way as long as that leaves it one part of its core in so many.
const SHARE: u32 = 8;
/// What is remembered: so much time on either side.
const MEMORY: Duration = Duration::from_millis(20);

/// Whether a thread can afford to offer its core.
#[derive(Debug)]
pub(super) struct Courtesy {
    clock: Clock,
    /// How much longer others might have had the core: from 0 to twice [`MEMORY`].
    saved: Duration,
    /// The shortest stretch of work that it has seen: one that nobody interrupted.
    shortest: Duration,
    /// Time that offers have taken since [`Courtesy::take_offered`] was called.
    offered: Duration,
}

impl Courtesy {
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            clock,
            saved: MEMORY,
            shortest: Duration::MAX,
            offered: Duration::ZERO,
        }
    }

    /// Time that offers have taken since the last call.
    pub(super) fn take_offered(&mut self) -> Duration {
        std::mem::take(&mut self.offered)
    }

    /// Lets go whoever waits for the core, where that can be afforded, after a stretch of work. Tells when it goes on.
    pub(super) fn make_way(&mut self, begun: Uptime) -> Uptime {
        let ended = self.clock.uptime();
        if !self.affords_it(ended.since(begun)) {
            return ended;
        }
        thread::yield_now();
        let resumed = self.clock.uptime();
        let away = resumed.since(ended);
        self.offered += away;
        self.was_away(away);
        resumed
    }

    /// After a stretch of work that took so long.
    fn affords_it(&mut self, worked: Duration) -> bool {
        self.shortest = self.shortest.min(worked);
        self.saved = (self.saved + self.shortest * (SHARE - 1)).min(MEMORY * 2);
        self.was_away(worked.saturating_sub(self.shortest));
        self.saved >= MEMORY
    }

    fn was_away(&mut self, time: Duration) {
        self.saved = self.saved.saturating_sub(time);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORK: Duration = Duration::from_micros(30);

    /// What part of the time a thread works, and how many of its stretches it offers the core after, where an offer costs so much.
    fn beside_others(offer: impl Fn(u32) -> Duration) -> (f64, f64) {
        const STRETCHES: u32 = 100_000;
        let mut courtesy = Courtesy::new(Clock::machine());
        let (mut away, mut offers) = (Duration::ZERO, 0_u32);
        for stretch in 0..STRETCHES {
            if courtesy.affords_it(WORK) {
                offers += 1;
                courtesy.was_away(offer(stretch));
                away += offer(stretch);
            }
        }
        let worked = (WORK * STRETCHES).as_secs_f64();
        (
            worked / (worked + away.as_secs_f64()),
            f64::from(offers) / f64::from(STRETCHES),
        )
    }

    #[test]
    fn where_others_need_the_core_now_and_then_it_is_offered_each_time() {
        // A half of the time, in requests of half a millisecond.
        let (_, offers) =
            beside_others(|stretch| Duration::from_micros(u64::from(stretch % 16 == 0) * 500));
        assert!(offers > 0.999_9, "{offers} of the times");
        let (_, offers) = beside_others(|_| Duration::from_nanos(300));
        assert!(offers > 0.999_9, "{offers} of the times");
    }

    #[test]
    fn a_stretch_that_was_interrupted_counts_as_a_short_one() {
        let mut courtesy = Courtesy::new(Clock::machine());
        assert!(courtesy.affords_it(WORK));
        assert!(!courtesy.affords_it(WORK + MEMORY));
    }

    #[test]
    fn where_others_take_all_there_is_an_eighth_is_left() {
        for away in [Duration::from_millis(1), Duration::from_millis(13)] {
            let (worked, offers) = beside_others(|_| away);
            assert!((0.12..0.13).contains(&worked), "{worked} of the time");
            assert!(offers > 0.01, "{offers} of the times");
        }
    }
}

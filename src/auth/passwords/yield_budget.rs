//! Budget of time that a hashing thread may yield to the rest of the server.
//!
//! A low priority bounds the share of a core that hashing takes, but not how long other threads wait for their turn: the kernel
//! lets the running thread finish its slice, which takes milliseconds, and a request of fifty microseconds waits that long. So a
//! hashing thread yields its core after each half iteration of its lanes, many times in a millisecond. If no other thread waits for
//! the core, a yield costs next to nothing. If the rest of the server needs all of the core, yields would leave little for logins:
//! then the thread yields less often.

use std::thread;
use std::time::Duration;

use crate::domain::{Clock, Uptime};

/// A thread yields as long as it keeps one part of its core in this many.
const MIN_SHARE: u32 = 8;
/// Time without the core that is remembered, in surplus as well as in deficit.
const MEMORY: Duration = Duration::from_millis(20);

/// Decides whether a thread can afford to yield its core.
#[derive(Debug)]
pub(super) struct YieldBudget {
    clock: Clock,
    /// Time for which other threads may still have the core: from 0 to twice [`MEMORY`].
    balance: Duration,
    /// Shortest stretch of work so far: one that was not interrupted.
    shortest: Duration,
    /// Time that yields have taken since the last call of [`YieldBudget::take_yielded`].
    yielded: Duration,
}

impl YieldBudget {
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            clock,
            balance: MEMORY,
            shortest: Duration::MAX,
            yielded: Duration::ZERO,
        }
    }

    /// Time that yields have taken since the last call.
    pub(super) fn take_yielded(&mut self) -> Duration {
        std::mem::take(&mut self.yielded)
    }

    /// Yields the core if the budget allows it, after a stretch of work that began at `begun`. Returns when work goes on.
    pub(super) fn maybe_yield(&mut self, begun: Uptime) -> Uptime {
        let ended = self.clock.uptime();
        if !self.can_afford(ended.since(begun)) {
            return ended;
        }
        thread::yield_now();
        let resumed = self.clock.uptime();
        let away = resumed.since(ended);
        self.yielded += away;
        self.charge(away);
        resumed
    }

    /// Credits a stretch of work, and charges what it took longer than an uninterrupted one.
    fn can_afford(&mut self, worked: Duration) -> bool {
        self.shortest = self.shortest.min(worked);
        self.balance = (self.balance + self.shortest * (MIN_SHARE - 1)).min(MEMORY * 2);
        self.charge(worked.saturating_sub(self.shortest));
        self.balance >= MEMORY
    }

    fn charge(&mut self, time: Duration) {
        self.balance = self.balance.saturating_sub(time);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORK: Duration = Duration::from_micros(30);

    /// Share of the time in which a thread works, and share of its stretches after which it yields, if a yield takes this long.
    fn beside_others(time_away: impl Fn(u32) -> Duration) -> (f64, f64) {
        const STRETCHES: u32 = 100_000;
        let mut budget = YieldBudget::new(Clock::machine());
        let (mut away, mut yields) = (Duration::ZERO, 0_u32);
        for stretch in 0..STRETCHES {
            if budget.can_afford(WORK) {
                yields += 1;
                budget.charge(time_away(stretch));
                away += time_away(stretch);
            }
        }
        let worked = (WORK * STRETCHES).as_secs_f64();
        (
            worked / (worked + away.as_secs_f64()),
            f64::from(yields) / f64::from(STRETCHES),
        )
    }

    #[test]
    fn a_thread_always_yields_if_others_need_the_core_now_and_then() {
        // Half of the time, in requests of half a millisecond.
        let (_, yields) =
            beside_others(|stretch| Duration::from_micros(u64::from(stretch % 16 == 0) * 500));
        assert!(yields > 0.999_9, "{yields} of the times");
        let (_, yields) = beside_others(|_| Duration::from_nanos(300));
        assert!(yields > 0.999_9, "{yields} of the times");
    }

    #[test]
    fn an_interruption_is_charged() {
        let mut budget = YieldBudget::new(Clock::machine());
        assert!(budget.can_afford(WORK));
        assert!(!budget.can_afford(WORK + MEMORY));
    }

    #[test]
    fn a_thread_keeps_an_eighth_if_others_take_all_there_is() {
        for away in [Duration::from_millis(1), Duration::from_millis(13)] {
            let (worked, yields) = beside_others(|_| away);
            assert!((0.12..0.13).contains(&worked), "{worked} of the time");
            assert!(yields > 0.01, "{yields} of the times");
        }
    }
}

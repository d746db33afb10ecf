//! Estimate of how fast the hashing threads work, corrected by every iteration that their lanes run.
//!
//! An iteration takes as long as the core needs for it, and longer by what the thread has to wait for the core. The two change
//! for different reasons, so they are estimated apart:
//!
//! * The time of the core depends on the number of busy lanes. It is the shortest recent iteration with that number. Two rules
//!   hold for any core: more lanes are not faster than fewer, and `n` lanes take at most `n` times as long as one. So an iteration
//!   with one or two lanes bounds the estimate for all of them.
//! * The slowdown is the time that has passed, divided by the time of the core, over the last quarter of a second of work. It does
//!   not depend on the number of busy lanes, and follows a busy machine in both directions. It halves for every ten seconds
//!   without work: a thread that has nothing to do cannot see that the machine is quiet again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::domain::Uptime;

/// Work that an estimate of the slowdown remembers. It is longer than a thread usually waits for its core, so that one
/// interruption does not count for much.
const MEMORY: Duration = Duration::from_millis(250);
/// Time without work in which the known slowdown halves.
const HALF_LIFE: Duration = Duration::from_secs(10);
/// The shortest iteration is forgotten by one part in so many with each iteration: a core may have become slower.
const FORGETTING: u64 = 4096;

/// Speed of all threads of a pool. Threads write it, and requests read it.
#[derive(Debug)]
pub(super) struct Throughput {
    /// Shortest recent iteration in nanoseconds; the first is for one busy lane.
    shortest: Box<[AtomicU64]>,
    slowdowns: Box<[Slowdown]>,
}

/// Slowdown of one thread when it was last at work.
#[derive(Debug)]
struct Slowdown {
    /// An `f64`, in its bits.
    factor: AtomicU64,
    /// Nanoseconds since the start of the machine.
    observed_at: AtomicU64,
}

/// Recent work of one thread, which only this thread sees.
#[derive(Debug)]
pub(super) struct RecentWork {
    worker: usize,
    elapsed: Duration,
    undisturbed: Duration,
}

/// Duration of one iteration.
#[derive(Debug, Clone, Copy)]
pub(super) struct Iteration {
    /// Number of busy lanes.
    pub(super) busy: usize,
    /// Time from its beginning to its end.
    pub(super) elapsed: Duration,
    /// The same without the time in which the thread offered its core to others.
    pub(super) worked: Duration,
}

/// Expected durations of iterations.
#[derive(Debug, Clone, Copy)]
pub(super) struct Estimate {
    /// Lanes of all threads together.
    pub(super) lanes: usize,
    /// Duration of an iteration if one lane of a thread is busy.
    pub(super) one_lane: Duration,
    /// Duration of an iteration if all lanes of a thread are busy.
    pub(super) all_lanes: Duration,
}

impl Throughput {
    /// Throughput of a number of threads. `measured` holds an undisturbed iteration with one busy lane, two, and so on.
    pub(super) fn new(threads: usize, measured: impl IntoIterator<Item = Duration>) -> Self {
        let shortest = measured.into_iter().map(|time| nanos(time).into());
        let slowdown = || Slowdown {
            factor: 1.0_f64.to_bits().into(),
            observed_at: 0.into(),
        };
        Self {
            shortest: shortest.collect(),
            slowdowns: (0..threads).map(|_| slowdown()).collect(),
        }
    }

    /// Takes note of an iteration that has just ended.
    pub(super) fn observe(&self, recent: &mut RecentWork, iteration: Iteration, now: Uptime) {
        let number = iteration.busy.wrapping_sub(1);
        let (Some(shortest), Some(slowdown)) =
            (self.shortest.get(number), self.slowdowns.get(recent.worker))
        else {
            return;
        };
        let known = shortest.load(Ordering::Relaxed);
        let forgotten = known.saturating_add(known / FORGETTING + 1);
        shortest.store(forgotten.min(nanos(iteration.worked)), Ordering::Relaxed);
        recent.add(iteration.elapsed, self.undisturbed(iteration.busy));
        let factor = recent.slowdown().to_bits();
        slowdown.factor.store(factor, Ordering::Relaxed);
        let now = nanos(now.since(Uptime::from_nanos(0)));
        slowdown.observed_at.store(now, Ordering::Relaxed);
    }

    /// Returns the durations to expect at this time.
    pub(super) fn estimate(&self, now: Uptime) -> Estimate {
        let (mut threads, mut speed) = (0.0, 0.0);
        for slowdown in &self.slowdowns {
            threads += 1.0;
            speed += 1.0 / slowdown.at(now);
        }
        let slowdown = threads / speed;
        let expected = |busy| self.undisturbed(busy).mul_f64(slowdown);
        Estimate {
            lanes: self.shortest.len() * self.slowdowns.len(),
            one_lane: expected(1),
            all_lanes: expected(self.shortest.len()),
        }
    }

    /// Time that a core needs for an iteration: the least that any number of busy lanes lets expect for this one.
    fn undisturbed(&self, busy: usize) -> Duration {
        let bounds = self.shortest.iter().enumerate().map(|(index, shortest)| {
            let seen = index as u64 + 1;
            // More lanes take at most their multiple of the time, and fewer lanes at most the same time.
            let shortest = shortest.load(Ordering::Relaxed);
            shortest.saturating_mul(seen.max(busy as u64)) / seen
        });
        Duration::from_nanos(bounds.min().unwrap_or(0).max(1))
    }
}

impl Slowdown {
    fn at(&self, now: Uptime) -> f64 {
        let factor = f64::from_bits(self.factor.load(Ordering::Relaxed));
        let observed = Uptime::from_nanos(self.observed_at.load(Ordering::Relaxed));
        let half_lives = now.since(observed).div_duration_f64(HALF_LIFE);
        1.0 + (factor - 1.0) * (-half_lives).exp2()
    }
}

impl RecentWork {
    /// Work of the thread with this number, which has not begun. A quiet machine is assumed until work shows another.
    pub(super) fn new(worker: usize) -> Self {
        Self {
            worker,
            elapsed: MEMORY,
            undisturbed: MEMORY,
        }
    }

    fn add(&mut self, elapsed: Duration, undisturbed: Duration) {
        // A process that was stopped for longer learns nothing about the speed at which it goes on.
        let elapsed = elapsed.min(MEMORY);
        let kept = MEMORY.div_duration_f64(MEMORY + elapsed);
        self.elapsed = self.elapsed.mul_f64(kept) + elapsed;
        self.undisturbed = self.undisturbed.mul_f64(kept) + undisturbed;
    }

    fn slowdown(&self) -> f64 {
        self.elapsed.div_duration_f64(self.undisturbed).max(1.0)
    }
}

impl Estimate {
    /// Time in which all lanes together run so many iterations.
    pub(super) fn shared(&self, iterations: u64) -> Duration {
        times(self.all_lanes, iterations) / u32::try_from(self.lanes.max(1)).unwrap_or(u32::MAX)
    }

    /// Time in which one lane runs so many iterations. Other lanes may be busy.
    pub(super) fn single(&self, iterations: u64, others_are_busy: bool) -> Duration {
        let iteration = if others_are_busy {
            self.all_lanes
        } else {
            self.one_lane
        };
        times(iteration, iterations)
    }
}

fn times(one: Duration, count: u64) -> Duration {
    Duration::from_nanos(nanos(one).saturating_mul(count))
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Iterations of a core: the second lane costs a little, the fifth a fifth.
    const CORE: [Duration; 5] = [
        Duration::from_micros(50),
        Duration::from_micros(51),
        Duration::from_micros(53),
        Duration::from_micros(56),
        Duration::from_micros(60),
    ];

    /// One thread, whose work takes place at times that the test decides.
    struct Bench {
        throughput: Throughput,
        recent: RecentWork,
        now: Uptime,
    }

    impl Bench {
        fn measured(measured: [Duration; 5]) -> Self {
            Self {
                throughput: Throughput::new(1, measured),
                recent: RecentWork::new(0),
                now: Uptime::from_nanos(7_000_000_000_000),
            }
        }

        /// Works for a time. The thread runs for `slice` and then waits `away` for its core, again and again.
        fn work(&mut self, time: Duration, busy: usize, slice: Duration, away: Duration) {
            let (end, mut left) = (self.now.plus(time), slice);
            while self.now < end {
                let mut elapsed = CORE[busy - 1];
                left = left.saturating_sub(elapsed);
                if left.is_zero() {
                    elapsed += away;
                    left = slice;
                }
                self.now = self.now.plus(elapsed);
                let iteration = Iteration {
                    busy,
                    elapsed,
                    worked: elapsed,
                };
                self.throughput
                    .observe(&mut self.recent, iteration, self.now);
            }
        }

        fn work_quietly(&mut self, time: Duration, busy: usize) {
            self.work(time, busy, Duration::from_secs(1), Duration::ZERO);
        }

        /// By how much an iteration of all lanes is expected to take longer than it does on a quiet machine.
        fn all_lanes(&self) -> f64 {
            let estimate = self.throughput.estimate(self.now);
            estimate.all_lanes.div_duration_f64(CORE[4])
        }

        fn one_lane(&self) -> f64 {
            let estimate = self.throughput.estimate(self.now);
            estimate.one_lane.div_duration_f64(CORE[0])
        }
    }

    #[test]
    fn a_disturbed_measurement_is_corrected_by_the_first_iteration() {
        let mut bench = Bench::measured(CORE.map(|time| time * 100));
        assert!(bench.all_lanes() > 99.0);
        bench.work_quietly(CORE[0], 1);
        assert!(bench.one_lane() < 1.01, "{}", bench.one_lane());
        // Five lanes take at most five times as long as one.
        assert!(bench.all_lanes() < 4.2, "{}", bench.all_lanes());
        bench.work_quietly(CORE[1], 2);
        assert!(bench.all_lanes() < 2.2, "{}", bench.all_lanes());
        bench.work_quietly(CORE[4], 5);
        assert!(bench.all_lanes() < 1.01, "{}", bench.all_lanes());
    }

    #[test]
    fn one_disturbed_measurement_of_many_lanes_is_bounded_by_the_others() {
        let mut measured = CORE;
        measured[4] *= 100;
        let bench = Bench::measured(measured);
        assert!(bench.all_lanes() < 1.2, "{}", bench.all_lanes());
        let mut measured = CORE.map(|time| time * 100);
        measured[4] = CORE[4];
        let bench = Bench::measured(measured);
        assert!(bench.one_lane() < 1.3, "{}", bench.one_lane());
    }

    #[test]
    fn work_with_one_lane_shows_a_busy_machine_to_all_lanes_and_a_quiet_one_too() {
        let mut bench = Bench::measured(CORE);
        // A tenth of the core.
        let (slice, away) = (Duration::from_millis(3), Duration::from_millis(27));
        bench.work(Duration::from_secs(2), 1, slice, away);
        assert!(
            (8.0..12.0).contains(&bench.all_lanes()),
            "{}",
            bench.all_lanes()
        );
        bench.work_quietly(Duration::from_secs(1), 1);
        assert!(bench.all_lanes() < 1.1, "{}", bench.all_lanes());
    }

    #[test]
    fn a_short_interruption_counts_for_little_and_a_stop_of_minutes_not_for_more_than_a_second() {
        let mut bench = Bench::measured(CORE);
        bench.work_quietly(Duration::from_secs(1), 2);
        let slice = Duration::from_micros(1);
        bench.work(CORE[1], 2, slice, Duration::from_millis(20));
        assert!(
            (1.05..1.1).contains(&bench.all_lanes()),
            "{}",
            bench.all_lanes()
        );
        bench.work(CORE[1], 2, slice, Duration::from_mins(5));
        assert!(
            (1.5..3.5).contains(&bench.all_lanes()),
            "{}",
            bench.all_lanes()
        );
        bench.work_quietly(Duration::from_secs(1), 1);
        assert!(bench.all_lanes() < 1.1, "{}", bench.all_lanes());
    }

    #[test]
    fn a_slowdown_is_forgotten_without_work() {
        let mut bench = Bench::measured(CORE);
        let (slice, away) = (Duration::from_millis(3), Duration::from_millis(27));
        bench.work(Duration::from_secs(2), 5, slice, away);
        let busy = bench.all_lanes();
        bench.now = bench.now.plus(HALF_LIFE);
        let half = f64::midpoint(busy, 1.0);
        assert!((half - 0.1..half + 0.1).contains(&bench.all_lanes()));
        bench.now = bench.now.plus(HALF_LIFE * 10);
        assert!(bench.all_lanes() < 1.1, "{}", bench.all_lanes());
    }

    #[test]
    fn a_core_that_has_become_slower_is_noticed() {
        let mut bench = Bench::measured(CORE.map(|time| time / 3));
        bench.work_quietly(Duration::from_secs(1), 1);
        assert!(
            (0.9..1.1).contains(&bench.one_lane()),
            "{}",
            bench.one_lane()
        );
        // Also after a time without work, in which the slowdown is forgotten.
        for busy in 2..=5 {
            bench.work_quietly(Duration::from_secs(1), busy);
        }
        bench.now = bench.now.plus(HALF_LIFE * 10);
        assert!(
            (0.9..1.1).contains(&bench.all_lanes()),
            "{}",
            bench.all_lanes()
        );
    }

    #[test]
    fn offers_of_the_core_slow_down_and_do_not_count_as_work() {
        let mut bench = Bench::measured(CORE);
        for _ in 0..50_000 {
            let iteration = Iteration {
                busy: 5,
                elapsed: CORE[4] * 2,
                worked: CORE[4],
            };
            bench
                .throughput
                .observe(&mut bench.recent, iteration, bench.now);
        }
        assert!(
            (1.9..2.1).contains(&bench.all_lanes()),
            "{}",
            bench.all_lanes()
        );
        assert_eq!(bench.throughput.undisturbed(5), CORE[4]);
    }

    #[test]
    fn a_slow_thread_counts_for_less_than_a_fast_one() {
        let throughput = Throughput::new(2, CORE);
        let now = Uptime::from_nanos(7_000_000_000_000);
        let mut recent = RecentWork::new(1);
        for _ in 0..100_000 {
            let iteration = Iteration {
                busy: 5,
                elapsed: CORE[4] * 4,
                worked: CORE[4],
            };
            throughput.observe(&mut recent, iteration, now);
        }
        // One core and a quarter of another instead of two.
        let slowdown = throughput.estimate(now).all_lanes.div_duration_f64(CORE[4]);
        assert!((1.55..1.65).contains(&slowdown), "{slowdown}");
    }
}

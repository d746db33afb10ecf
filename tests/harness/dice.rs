//! Random numbers that can be repeated: the seed is printed, and `PORTCULLIS_SEED` sets it.

use std::time::{Duration, SystemTime};

/// Random number generator with a seed (SplitMix64). It must not be used for secrets.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// Creates a generator and prints its seed with the test's output.
    pub fn new() -> Self {
        let chosen = std::env::var("PORTCULLIS_SEED").ok();
        let seed = chosen.map_or_else(from_the_clock, |seed| {
            seed.parse().expect("PORTCULLIS_SEED must be a number")
        });
        println!("PORTCULLIS_SEED={seed}");
        Self(seed)
    }

    /// Creates an independent generator from this one.
    pub fn split(&mut self) -> Self {
        Self(self.next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Random number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }

    /// Returns true with a probability of `chance` percent.
    pub fn percent(&mut self, chance: usize) -> bool {
        self.below(100) < chance
    }

    /// Random duration between two numbers of milliseconds.
    pub fn millis(&mut self, from: usize, to: usize) -> Duration {
        Duration::from_micros((from * 1000 + self.below((to - from) * 1000)) as u64)
    }

    /// Shuffles the slice.
    pub fn shuffle<T>(&mut self, things: &mut [T]) {
        for last in (1..things.len()).rev() {
            things.swap(last, self.below(last + 1));
        }
    }
}

fn from_the_clock() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    u64::from(now.unwrap().subsec_nanos())
}

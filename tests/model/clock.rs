//! Clocks that run at nearly the same rate and show anything.

use std::time::Duration;

use portcullis::domain::{Timestamp, Uptime};

use super::random::Random;

/// The time that nobody in the model can see, in microseconds.
pub type Time = u64;

pub const MILLI: Time = 1000;
pub const SECOND: Time = 1_000_000;

/// Clocks run up to so many parts in a million fast or slow.
const RATE_ERROR: u64 = 4900;
const MILLION: u64 = 1_000_000;

/// One machine's clock.
#[derive(Debug, Clone, Copy)]
pub struct Drift {
    /// Microseconds that it counts in a second.
    rate: u64,
    /// What it showed when the model began, in microseconds.
    ahead: u64,
}

impl Drift {
    pub fn any(random: &mut Random) -> Self {
        Self {
            rate: random.pick(&[MILLION - RATE_ERROR, MILLION, MILLION + RATE_ERROR]),
            ahead: random.between(1, 20 * SECOND),
        }
    }

    fn shows(self, now: Time) -> u64 {
        self.ahead
            + u64::try_from(u128::from(now) * u128::from(self.rate) / u128::from(MILLION)).unwrap()
    }

    /// What a replica measures ages by.
    pub fn uptime(self, now: Time) -> Uptime {
        Uptime::from_nanos(self.shows(now) * 1000)
    }

    /// The date by a Redis, in milliseconds as the scripts compute it.
    pub fn date(self, now: Time) -> Timestamp {
        Timestamp::from_millis(1_800_000_000_000 + self.shows(now) / MILLI)
    }

    /// How long it takes until this clock has counted `duration`.
    pub fn takes(self, duration: Duration) -> Time {
        micros(duration) * MILLION / self.rate + 1
    }

    /// When this clock shows `date`.
    pub fn reaches(self, date: Timestamp, now: Time) -> Time {
        let mut at = now
            + self
                .takes(date.since(self.date(now)))
                .saturating_sub(2 * MILLI);
        while self.date(at) < date {
            at += 50;
        }
        at
    }
}

pub fn micros(duration: Duration) -> Time {
    u64::try_from(duration.as_micros()).unwrap()
}

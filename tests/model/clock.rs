//! Clocks that run at nearly the same rate and show any time.

use std::time::Duration;

use portcullis::domain::{Timestamp, Uptime};

use super::random::Random;

/// True time in microseconds, which no replica or server in the model can read.
pub type Time = u64;

pub const MILLI: Time = 1000;
pub const SECOND: Time = 1_000_000;

/// Rate error of clocks, fast or slow, in parts per million.
const RATE_ERROR: u64 = 4900;
const MILLION: u64 = 1_000_000;

/// Clock of one machine.
#[derive(Debug, Clone, Copy)]
pub struct Drift {
    /// Microseconds that the clock counts in a true second.
    rate: u64,
    /// Time on the clock when the model began, in microseconds.
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

    /// Boot time, by which a replica measures ages.
    pub fn uptime(self, now: Time) -> Uptime {
        Uptime::from_nanos(self.shows(now) * 1000)
    }

    /// Date on a Redis server, in milliseconds as the scripts compute it.
    pub fn date(self, now: Time) -> Timestamp {
        Timestamp::from_millis(1_800_000_000_000 + self.shows(now) / MILLI)
    }

    /// True time that passes until this clock has counted `duration`.
    pub fn takes(self, duration: Duration) -> Time {
        micros(duration) * MILLION / self.rate + 1
    }

    /// True time at which this clock shows `date`.
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

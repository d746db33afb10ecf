//! Rate limit of log lines: in an outage, every request fails for the same reason.

use std::sync::Mutex;
use std::time::Duration;

use crate::domain::{Clock, Uptime};

/// Maximum number of lines of one kind in a second.
const MAX_LINES_PER_SECOND: u32 = 20;

/// Limits the log lines of one kind.
#[derive(Debug)]
pub struct LogLimiter {
    clock: Clock,
    second: Mutex<Second>,
}

#[derive(Debug, Default)]
struct Second {
    began: Option<Uptime>,
    written: u32,
    left_out: u64,
}

impl LogLimiter {
    /// Creates a limiter of `MAX_LINES_PER_SECOND` by this clock.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            second: Mutex::default(),
        }
    }

    /// Takes the right to write one line. Returns the number of lines left out since the last written one; `None` if this line
    /// is to be left out too.
    pub fn try_acquire(&self) -> Option<u64> {
        let now = self.clock.uptime();
        let mut second = self
            .second
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let is_over = |began: Uptime| now.since(began) >= Duration::from_secs(1);
        if second.began.is_none_or(is_over) {
            second.began = Some(now);
            second.written = 0;
        }
        if second.written == MAX_LINES_PER_SECOND {
            second.left_out += 1;
            return None;
        }
        second.written += 1;
        Some(std::mem::take(&mut second.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;

    #[test]
    fn twenty_lines_a_second_are_written_and_the_rest_is_counted() {
        let clock = Clock::manual(Timestamp::from_secs(1_800_000_000));
        let limiter = LogLimiter::new(clock.clone());
        let written = |times: u32| {
            (0..times)
                .filter_map(|_| limiter.try_acquire())
                .collect::<Vec<_>>()
        };
        assert_eq!(written(1000), [0; 20]);
        clock.advance(Duration::from_millis(999));
        assert_eq!(written(1), [0; 0]);
        clock.advance(Duration::from_millis(1));
        assert_eq!(written(3), [981, 0, 0]);
    }
}

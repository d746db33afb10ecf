//! Whose turn it is to put lost entries back: a lock keeps a hundred replicas from doing it all at once, and nobody's safety
//! may depend on it.
//!
//! A holder that is slow, or puts back other entries than ours, or stops, would hold up what this replica alone knows until
//! the history has settled without it. So shortly before that a replica to whose entries nothing happens puts some back
//! without the lock: the latest revocations, which are those that nobody else may know.

use std::time::Duration;

use crate::domain::Uptime;

/// From when before the end of the settling nobody waits for the lock any longer.
const LAST_CALL: Duration = Duration::from_secs(1);
/// For how long nothing happens to the entries until then.
const STALLED: Duration = Duration::from_millis(250);

/// How many entries are put back at once without the lock.
pub const WITHOUT_LOCK: usize = 100;

/// What became of this replica's entries while it waited for the lock.
#[derive(Debug, Default)]
pub struct Turn(Option<Waited>);

#[derive(Debug)]
struct Waited {
    /// How many entries were lacking when that last changed.
    lacking: usize,
    since: Uptime,
}

impl Turn {
    /// Whether a replica that lacks so many entries and does not get the lock goes ahead without it. `left` is how long the
    /// history still settles.
    pub fn cannot_wait(&mut self, lacking: usize, left: Duration, now: Uptime) -> bool {
        match &self.0 {
            Some(waited) if waited.lacking == lacking => {
                left <= LAST_CALL && now.since(waited.since) >= STALLED
            }
            _ => {
                self.0 = Some(Waited {
                    lacking,
                    since: now,
                });
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Uptime {
        Uptime::from_nanos(millis * 1_000_000)
    }

    #[test]
    fn the_lock_is_waited_for_until_the_settling_is_nearly_over() {
        let mut turn = Turn::default();
        let early = LAST_CALL + Duration::from_millis(1);
        assert!(!turn.cannot_wait(3, early, at(0)));
        assert!(!turn.cannot_wait(3, early, at(900)));
        assert!(turn.cannot_wait(3, LAST_CALL, at(901)));
        assert!(turn.cannot_wait(3, Duration::ZERO, at(2000)));
    }

    #[test]
    fn whoever_sees_his_entries_being_put_back_waits() {
        let mut turn = Turn::default();
        for (lacking, millis) in [(300, 0), (200, 240), (100, 480), (100, 700)] {
            assert!(!turn.cannot_wait(lacking, Duration::ZERO, at(millis)));
        }
        assert!(turn.cannot_wait(100, Duration::ZERO, at(730)));
    }
}

//! Bypass of the repair lock. The lock keeps a hundred replicas from appending lost entries all at once; the guarantee of
//! revocation must not depend on it.
//!
//! A lock holder that is slow, appends other entries, or stops could keep out entries that only this replica has, until the
//! history has settled without them. Shortly before that, a replica whose missing entries make no progress appends some of
//! them without the lock: the latest revocations, which other replicas may not have read.

use std::time::Duration;

use crate::domain::Uptime;

/// Time before the end of the settling from which the lock may be bypassed.
const LAST_CALL: Duration = Duration::from_secs(1);
/// Time without progress after which the lock may be bypassed.
const STALLED: Duration = Duration::from_millis(250);

/// Maximum number of entries in a batch that is appended without the lock.
pub const WITHOUT_LOCK: usize = 100;

/// Progress of this replica's missing entries while it waits for the lock.
#[derive(Debug, Default)]
pub struct Turn(Option<Waited>);

#[derive(Debug)]
struct Waited {
    /// Number of missing entries at its last change.
    lacking: usize,
    since: Uptime,
}

impl Turn {
    /// Returns whether to go ahead without the lock. `lacking` is the number of missing entries, and `left` the rest of the
    /// settling time.
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

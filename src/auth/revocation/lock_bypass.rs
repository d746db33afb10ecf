//! Bypass of the repair lock. The lock keeps a hundred replicas from appending lost entries all at once; the guarantee of
//! revocation must not depend on it.
//!
//! A lock holder that is slow, appends other entries, or stops could keep out entries that only this replica has, until the
//! history has settled without them. Shortly before that, a replica whose missing entries make no progress appends some of
//! them without the lock: the latest revocations, which other replicas may not have read.

use std::time::Duration;

use crate::domain::Uptime;

/// Time before the end of the settling from which the lock may be bypassed.
const BYPASS_PERIOD: Duration = Duration::from_secs(1);
/// Time without progress after which the lock may be bypassed.
const STALL_TIMEOUT: Duration = Duration::from_millis(250);

/// Maximum number of entries in a batch that is appended without the lock.
pub const MAX_BYPASS_BATCH: usize = 100;

/// Progress of this replica's missing entries while it waits for the lock.
#[derive(Debug, Default)]
pub struct LockBypass(Option<Waited>);

#[derive(Debug)]
struct Waited {
    /// Number of missing entries at its last change.
    missing: usize,
    since: Uptime,
}

impl LockBypass {
    /// Returns whether to go ahead without the lock. `missing` is the number of missing entries, and `left` the rest of the
    /// settling time.
    pub fn should_bypass(&mut self, missing: usize, left: Duration, now: Uptime) -> bool {
        match &self.0 {
            Some(waited) if waited.missing == missing => {
                left <= BYPASS_PERIOD && now.since(waited.since) >= STALL_TIMEOUT
            }
            _ => {
                self.0 = Some(Waited {
                    missing,
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
    fn the_lock_is_not_bypassed_until_the_settling_is_nearly_over() {
        let mut bypass = LockBypass::default();
        let early = BYPASS_PERIOD + Duration::from_millis(1);
        assert!(!bypass.should_bypass(3, early, at(0)));
        assert!(!bypass.should_bypass(3, early, at(900)));
        assert!(bypass.should_bypass(3, BYPASS_PERIOD, at(901)));
        assert!(bypass.should_bypass(3, Duration::ZERO, at(2000)));
    }

    #[test]
    fn a_replica_whose_missing_entries_decrease_waits() {
        let mut bypass = LockBypass::default();
        for (missing, millis) in [(300, 0), (200, 240), (100, 480), (100, 700)] {
            assert!(!bypass.should_bypass(missing, Duration::ZERO, at(millis)));
        }
        assert!(bypass.should_bypass(100, Duration::ZERO, at(730)));
    }
}

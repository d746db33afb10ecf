//! Checks of the server that the feed consumer reads from, and warnings for its operator.

use std::time::Duration;

use tracing::{error, warn};

use crate::store::{
    DEFAULT_USER_UNKNOWN, Persistence, Redis, ReplicationGuarantee, ServerInfo, StoreError,
    WILL_LOSE_TRANSACTIONS,
};

/// Clock difference above which a warning is logged.
const MAX_SKEW: Duration = Duration::from_secs(5);

/// Last state of each check, so that a warning is logged once and not at every inspection.
#[derive(Debug, Default)]
pub(super) struct ServerMonitor {
    persistence: Option<Persistence>,
    replicas: Option<u32>,
    will_lose_transactions: bool,
    default_user_is_unknown: bool,
    skewed: bool,
}

impl ServerMonitor {
    /// Rejects an unsupported server, and warns once about weak persistence.
    pub(super) fn check(&mut self, server: &ServerInfo, redis: &Redis) -> Result<(), StoreError> {
        if let Some(unfit) = server.unsupported_reason() {
            return Err(StoreError::unsupported(&unfit));
        }
        if self.persistence.replace(server.persistence) != Some(server.persistence) {
            match server.persistence {
                Persistence::EveryWrite => {}
                Persistence::EverySecond => warn!(
                    event = "redis_persistence",
                    "Redis syncs its append-only file once a second: a power cut loses acknowledged writes of that second (set appendfsync always)"
                ),
                Persistence::Unforced => warn!(
                    event = "redis_persistence",
                    "Redis leaves syncing its append-only file to the system: a power cut loses acknowledged writes (set appendfsync always)"
                ),
                Persistence::Poor => warn!(
                    event = "redis_persistence",
                    "Redis keeps no append-only file: a restart loses users and revocations (set appendonly yes)"
                ),
                Persistence::Unknown => {
                    warn!(
                        event = "redis_persistence",
                        "Redis does not permit CONFIG: the durability of acknowledged writes is unknown"
                    );
                }
            }
        }
        let will_lose = server.will_lose_transactions();
        if will_lose && !self.will_lose_transactions {
            error!(event = "redis_default_user", "{WILL_LOSE_TRANSACTIONS}");
        }
        self.will_lose_transactions = will_lose;
        let unknown = server.default_user_is_unknown();
        if unknown && !self.default_user_is_unknown {
            warn!(event = "redis_default_user", "{DEFAULT_USER_UNKNOWN}");
        }
        self.default_user_is_unknown = unknown;
        self.check_replicas(server, redis);
        Ok(())
    }

    /// Warns when this machine's clock starts to differ from Redis' clock.
    pub(super) fn check_clock(&mut self, difference: Duration) {
        let skewed = difference > MAX_SKEW;
        if skewed && !self.skewed {
            let seconds = difference.as_secs();
            warn!(
                event = "clock_skew",
                seconds,
                "this machine's clock differs from Redis' clock, which is authoritative; check NTP"
            );
        }
        self.skewed = skewed;
    }

    fn check_replicas(&mut self, server: &ServerInfo, redis: &Redis) {
        if self.replicas.replace(server.replicas) == Some(server.replicas) {
            return;
        }
        let promise = ReplicationGuarantee::new(redis.acknowledgements(), server.replicas);
        if !promise.is_sound() {
            warn!(
                event = "redis_replicas",
                replicas = server.replicas,
                acknowledgements = redis.acknowledgements(),
                "{promise}"
            );
        }
    }
}

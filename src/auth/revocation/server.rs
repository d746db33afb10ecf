//! What kind of server the follower reads from: whether it is fit, and what its operator should hear once.

use std::time::Duration;

use tracing::{error, warn};

use crate::store::{
    Persistence, Redis, ReplicationGuarantee, ServerInfo, StoreError, WILL_LOSE_TRANSACTIONS,
};

/// A clock that differs by more deserves a warning.
const SKEW: Duration = Duration::from_secs(5);

/// What was said of the server so far.
#[derive(Debug, Default)]
pub(super) struct Server {
    persistence: Option<Persistence>,
    replicas: Option<u32>,
    will_lose_transactions: bool,
    skewed: bool,
}

impl Server {
    /// Refuses a server that would forget, and says once how well it remembers.
    pub(super) fn judge(&mut self, server: &ServerInfo, redis: &Redis) -> Result<(), StoreError> {
        if let Some(unfit) = server.unsupported_reason() {
            return Err(StoreError::unsupported(&unfit));
        }
        if self.persistence.replace(server.persistence) != Some(server.persistence) {
            match server.persistence {
                Persistence::EveryWrite => {}
                Persistence::EverySecond => warn!(
                    event = "redis_persistence",
                    "Redis writes out once a second: a power cut loses what was acknowledged in that second (set appendfsync always)"
                ),
                Persistence::Unforced => warn!(
                    event = "redis_persistence",
                    "Redis leaves it to the system when to write out: a power cut loses what was acknowledged (set appendfsync always)"
                ),
                Persistence::Poor => warn!(
                    event = "redis_persistence",
                    "Redis keeps no append-only file: a restart loses users and revocations (set appendonly yes)"
                ),
                Persistence::Unknown => {
                    warn!(
                        event = "redis_persistence",
                        "Redis does not permit CONFIG: whether it keeps what it acknowledges is not known"
                    );
                }
            }
        }
        let will_lose = server.will_lose_transactions();
        if will_lose && !self.will_lose_transactions {
            error!(event = "redis_default_user", "{WILL_LOSE_TRANSACTIONS}");
        }
        self.will_lose_transactions = will_lose;
        self.judge_replicas(server, redis);
        Ok(())
    }

    /// Says once that this machine's clock differs, and once that it does not any more.
    pub(super) fn watch_clock(&mut self, difference: Duration) {
        let skewed = difference > SKEW;
        if skewed && !self.skewed {
            let seconds = difference.as_secs();
            warn!(
                event = "clock_skew",
                seconds, "this machine's clock differs from Redis' clock, which counts"
            );
        }
        self.skewed = skewed;
    }

    fn judge_replicas(&mut self, server: &ServerInfo, redis: &Redis) {
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

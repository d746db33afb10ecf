//! Lease renewer: sends the heartbeats that hold the lease, on a connection of its own.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::lease::{HEARTBEAT_INTERVAL, Lease};
use crate::domain::{Clock, Uptime};
use crate::store::{Heartbeats, HistoryId, Redis, StoreError};

/// Delay before a failed heartbeat is sent again.
const RETRY_DELAY: Duration = Duration::from_millis(100);

/// Lease, shared by the renewer and the feed consumer.
#[derive(Debug, Default)]
pub(super) struct SharedLease {
    lease: Mutex<Lease>,
    renewed: Notify,
}

impl SharedLease {
    /// Returns whether a read of `history` sent at `sent` may count.
    pub(super) fn covers_read(&self, history: &HistoryId, sent: Uptime) -> bool {
        self.lease().holds(history, sent)
    }

    /// Returns whether the lease is held in another history: then `history` comes from a primary that was replaced.
    pub(super) fn held_by_other_primary(&self, history: &HistoryId, now: Uptime) -> bool {
        self.lease().held_by_other_primary(history, now)
    }

    /// Returns whether the lease is held at `now`.
    pub(super) fn is_held(&self, now: Uptime) -> bool {
        self.lease().is_held(now)
    }

    /// Resolves when the next heartbeat is acknowledged.
    pub(super) async fn renewed(&self) {
        self.renewed.notified().await;
    }

    fn lease(&self) -> std::sync::MutexGuard<'_, Lease> {
        self.lease.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sender of the heartbeats of one replica.
pub(super) struct LeaseRenewer {
    pub(super) redis: Redis,
    pub(super) clock: Clock,
    pub(super) lease: Arc<SharedLease>,
}

impl LeaseRenewer {
    /// Sends heartbeats until `stop`; none if no acknowledgements are required.
    pub(super) async fn run(self, stop: CancellationToken) {
        if self.redis.acknowledgements() == 0 {
            return;
        }
        let mut connection = None;
        let mut logged_held = false;
        loop {
            let sent = self.clock.uptime();
            let failure = match self.send_heartbeat(&mut connection, sent).await {
                Ok(()) => None,
                Err(error) => {
                    connection = None;
                    Some(error)
                }
            };
            let held = self.lease.is_held(self.clock.uptime());
            if held != logged_held {
                logged_held = held;
                match &failure {
                    Some(why) if !held => {
                        warn!(event = "lease", held, %why, "lease on the primary lost: Redis replicas acknowledge no heartbeat, the primary may have been replaced");
                    }
                    _ => info!(
                        event = "lease",
                        held, "lease on the primary held: Redis replicas acknowledge heartbeats"
                    ),
                }
            }
            let pause = if failure.is_some() {
                RETRY_DELAY
            } else {
                HEARTBEAT_INTERVAL.saturating_sub(self.clock.uptime().since(sent))
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn send_heartbeat(
        &self,
        connection: &mut Option<Heartbeats>,
        sent: Uptime,
    ) -> Result<(), StoreError> {
        if connection.is_none() {
            *connection = Some(self.redis.open_heartbeats().await?);
        }
        let Some(open) = connection else {
            return Ok(());
        };
        // Dated by the start of the round: a slow connect makes the heartbeat older, never younger.
        let history = open.heartbeat().await?;
        self.lease.lease().acknowledged(history, sent);
        self.lease.renewed.notify_waiters();
        Ok(())
    }
}

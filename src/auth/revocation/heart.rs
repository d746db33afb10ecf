//! Lease renewer: sends the heartbeats that hold the lease, on a connection of its own.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::lease::{BEAT, Lease};
use crate::domain::{Clock, Uptime};
use crate::store::{Beats, HistoryId, Redis, StoreError};

/// Delay before a failed heartbeat is sent again.
const AGAIN: Duration = Duration::from_millis(100);

/// Lease, shared by the renewer and the feed consumer.
#[derive(Debug, Default)]
pub(super) struct Held {
    lease: Mutex<Lease>,
    beaten: Notify,
}

impl Held {
    /// Returns whether a read of `history` sent at `sent` may count.
    pub(super) fn lets_count(&self, history: &HistoryId, sent: Uptime) -> bool {
        self.lease().holds(history, sent)
    }

    /// Returns whether the lease is held in another history: then `history` comes from a primary that was replaced.
    pub(super) fn is_elsewhere(&self, history: &HistoryId, now: Uptime) -> bool {
        self.lease().is_elsewhere(history, now)
    }

    /// Returns whether the lease is held at `now`.
    pub(super) fn is_held(&self, now: Uptime) -> bool {
        self.lease().is_held(now)
    }

    /// Resolves when the next heartbeat is acknowledged.
    pub(super) async fn beaten(&self) {
        self.beaten.notified().await;
    }

    fn lease(&self) -> std::sync::MutexGuard<'_, Lease> {
        self.lease.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sender of the heartbeats of one replica.
pub(super) struct Heart {
    pub(super) redis: Redis,
    pub(super) clock: Clock,
    pub(super) held: Arc<Held>,
}

impl Heart {
    /// Sends heartbeats until `stop`; none if no acknowledgements are required.
    pub(super) async fn run(self, stop: CancellationToken) {
        if self.redis.acknowledgements() == 0 {
            return;
        }
        let mut beats = None;
        let mut said_held = false;
        loop {
            let sent = self.clock.uptime();
            let failure = match self.beat(&mut beats, sent).await {
                Ok(()) => None,
                Err(error) => {
                    beats = None;
                    Some(error)
                }
            };
            let held = self.held.is_held(self.clock.uptime());
            if held != said_held {
                said_held = held;
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
                AGAIN
            } else {
                BEAT.saturating_sub(self.clock.uptime().since(sent))
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn beat(&self, beats: &mut Option<Beats>, sent: Uptime) -> Result<(), StoreError> {
        if beats.is_none() {
            *beats = Some(self.redis.open_beats().await?);
        }
        let Some(open) = beats else {
            return Ok(());
        };
        // Dated by the start of the round: a slow connect makes the heartbeat older, never younger.
        let history = open.beat().await?;
        self.held.lease().acknowledged(history, sent);
        self.held.beaten.notify_waiters();
        Ok(())
    }
}

//! The heart: sends the beats that hold the lease, on a connection of its own.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::lease::{BEAT, Lease};
use crate::domain::{Clock, Uptime};
use crate::store::{Heartbeats, HistoryId, Redis, StoreError};

/// How soon a beat that failed is sent again.
const AGAIN: Duration = Duration::from_millis(100);

/// The lease, as the heart and the follower share it.
#[derive(Debug, Default)]
pub(super) struct Held {
    lease: Mutex<Lease>,
    beaten: Notify,
}

impl Held {
    /// Whether a read sent at `sent` that shows `history` may count.
    pub(super) fn lets_count(&self, history: &HistoryId, sent: Uptime) -> bool {
        self.lease().holds(history, sent)
    }

    /// Whether the primary is another by now than the one that shows `history`.
    pub(super) fn is_elsewhere(&self, history: &HistoryId, now: Uptime) -> bool {
        self.lease().is_elsewhere(history, now)
    }

    /// Whether there is one at `now`.
    pub(super) fn is_held(&self, now: Uptime) -> bool {
        self.lease().is_held(now)
    }

    /// Resolves with the next beat that is acknowledged.
    pub(super) async fn beaten(&self) {
        self.beaten.notified().await;
    }

    fn lease(&self) -> std::sync::MutexGuard<'_, Lease> {
        self.lease.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends beats for one replica.
pub(super) struct Heart {
    pub(super) redis: Redis,
    pub(super) clock: Clock,
    pub(super) held: Arc<Held>,
}

impl Heart {
    /// Beats until told to stop; never where no acknowledgements are asked for.
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
                        warn!(event = "lease", held, %why, "nothing vouches for the primary: it may have been replaced");
                    }
                    _ => info!(
                        event = "lease",
                        held, "replicas of Redis vouch for the primary"
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

    async fn beat(&self, beats: &mut Option<Heartbeats>, sent: Uptime) -> Result<(), StoreError> {
        if beats.is_none() {
            *beats = Some(self.redis.open_heartbeats().await?);
        }
        let Some(open) = beats else {
            return Ok(());
        };
        // Dated by when the round began: connecting only makes it older.
        let history = open.heartbeat().await?;
        self.held.lease().acknowledged(history, sent);
        self.held.beaten.notify_waiters();
        Ok(())
    }
}

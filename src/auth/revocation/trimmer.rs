//! The trimmer: removes expired entries from the head of the feed.
//!
//! It runs after an append, outside the request. The changes that the expired entries name are repaired in the users' shards
//! once more before the entries go: otherwise a shard that lost a deletion would restore a logged-out session, and no entry
//! would reject it any longer. The feed key has no expiry of its own: a feed that vanishes is a lost history.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::domain::Clock;
use crate::store::{Redis, StoreError};

/// Minimum interval between two trims of one replica.
const TRIM_INTERVAL: Duration = Duration::from_secs(1);

/// Trimmer of one replica.
pub(super) struct Trimmer {
    pub(super) redis: Redis,
    pub(super) clock: Clock,
    pub(super) appended: Arc<Notify>,
}

impl Trimmer {
    /// Trims after each append until `stop`.
    pub(super) async fn run(self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.appended.notified() => {}
            }
            // A feed that stays long costs only memory; the next append retries.
            if let Err(why) = self.trim().await {
                debug!(event = "feed_not_trimmed", %why, "the feed was not trimmed");
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(TRIM_INTERVAL) => {}
            }
        }
    }

    async fn trim(&self) -> Result<(), StoreError> {
        loop {
            let head = self.redis.head_of_feed().await?;
            let now = self.clock.now();
            let expired: Vec<_> = head
                .into_iter()
                .take_while(|(_, entry)| entry.until() <= now)
                .collect();
            if expired.is_empty() {
                return Ok(());
            }
            let (ids, entries): (Vec<_>, Vec<_>) = expired.into_iter().unzip();
            self.redis.repair(&entries).await?;
            self.redis.trim_feed(&ids).await?;
        }
    }
}

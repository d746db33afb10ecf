//! The trimmer: keeps the feed as short as it can be.
//!
//! It follows an append, outside the request. What the expired head of the feed names is repaired once more before it goes: a
//! shard that lost a deletion would otherwise bring a logged-out session back once nothing speaks against it any longer. The
//! feed has no lifetime of its own: a feed that vanishes is a lost history.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::domain::Clock;
use crate::store::{Redis, StoreError};

/// The shortest time between two trims of one replica.
const PAUSE: Duration = Duration::from_secs(1);

/// Trims after appends.
pub(super) struct Trimmer {
    pub(super) redis: Redis,
    pub(super) clock: Clock,
    pub(super) appended: Arc<Notify>,
}

impl Trimmer {
    /// Trims until told to stop.
    pub(super) async fn run(self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.appended.notified() => {}
            }
            // A feed that stays long for a while costs memory and nothing else; the next append tries again.
            if let Err(why) = self.trim().await {
                debug!(event = "feed_not_trimmed", %why, "the feed was not trimmed");
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(PAUSE) => {}
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

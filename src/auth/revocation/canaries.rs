//! Keeps the canary of each Redis server: see [`store`](crate::store) for what it shows.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::store::Redis;

/// The time between two looks: after a rewrite of the append-only file, a loss shows from then on.
const INTERVAL: Duration = Duration::from_secs(5);

/// Compares and renews the canaries until told to stop.
pub(super) async fn keep_canaries(redis: Redis, stop: CancellationToken) {
    loop {
        // A server that has lost transactions was logged when that was found; an unreachable one is logged by the feed.
        let pause = match redis.renew_canaries().await {
            Ok(()) => INTERVAL,
            Err(error) => {
                debug!(event = "canary", %error, "the canary of a Redis server could not be kept");
                Duration::from_secs(1)
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

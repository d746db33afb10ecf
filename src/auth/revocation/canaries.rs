//! Renewal of the canary of each Redis server: [`store`](crate::store) describes its purpose.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::store::Redis;

/// Interval between two renewals. After a rewrite of the append-only file, a loss is detectable from the next one on.
const INTERVAL: Duration = Duration::from_secs(5);

/// Checks and renews the canaries until `stop`.
pub(super) async fn keep_canaries(redis: Redis, stop: CancellationToken) {
    loop {
        // The store has logged a server that lost transactions, and the feed consumer logs an unreachable one.
        let pause = match redis.renew_canaries().await {
            Ok(()) => INTERVAL,
            Err(error) => {
                debug!(event = "canary", %error, "the canary of a Redis server could not be renewed");
                Duration::from_secs(1)
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

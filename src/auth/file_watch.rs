//! Polling of files that change while the program runs: keys and certificates, replaced by operators and by Kubernetes.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

/// Interval between two polls.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Polls once a second until `stop`, and keeps the state between polls. Each poll runs on a blocking thread: the files may lie
/// on a network file system that hangs.
pub async fn poll_each_second<W: Default + Send + 'static>(
    mut state: W,
    poll: impl Fn(&mut W) + Send + Sync + 'static,
    stop: CancellationToken,
) {
    let poll = Arc::new(poll);
    loop {
        let poll = Arc::clone(&poll);
        let polled = tokio::task::spawn_blocking(move || {
            poll(&mut state);
            state
        });
        tokio::select! {
            () = stop.cancelled() => return,
            done = polled => state = done.unwrap_or_default(),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(POLL_INTERVAL) => {}
        }
    }
}

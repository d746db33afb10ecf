//! Polling of files that change while the program runs: keys and certificates, replaced by operators and by Kubernetes.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

/// Interval between two polls.
const LOOK: Duration = Duration::from_secs(1);

/// Polls once a second until `stop`, and keeps the state between polls. Each poll runs on a blocking thread: the files may lie
/// on a network file system that hangs.
pub async fn look_each_second<W: Default + Send + 'static>(
    mut seen: W,
    look: impl Fn(&mut W) + Send + Sync + 'static,
    stop: CancellationToken,
) {
    let look = Arc::new(look);
    loop {
        let look = Arc::clone(&look);
        let looked = tokio::task::spawn_blocking(move || {
            look(&mut seen);
            seen
        });
        tokio::select! {
            () = stop.cancelled() => return,
            done = looked => seen = done.unwrap_or_default(),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

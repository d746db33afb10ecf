//! Looking at files that others change while the program runs: keys and certificates, replaced by people and by Kubernetes.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

/// How often they are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Looks once a second until told to stop, and remembers what was seen. Each look is off the async threads: files may lie on a
/// network that hangs.
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

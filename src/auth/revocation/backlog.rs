//! The backlog: users whose outbox may hold revocations that the feed has not taken.
//!
//! A revocation is decided in the user's slot and told to the feed afterwards. When the second step fails, the request is
//! answered 503, and here the replica goes on trying until the outbox is empty. A replica that dies meanwhile leaves the
//! outbox behind; the next verb on that user empties it.

use std::collections::HashSet;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::domain::Username;
use crate::store::{Redis, StoreError};

/// Between two attempts, while Redis does not take them.
const PAUSE: Duration = Duration::from_millis(500);

/// Takes note of users whose outbox must be emptied. The number of entries is bounded by the number of users.
#[derive(Debug, Clone)]
pub(super) struct Backlog(UnboundedSender<Username>);

/// The other end, to be run once.
pub(super) struct Worker(UnboundedReceiver<Username>);

pub(super) fn backlog() -> (Backlog, Worker) {
    let (sender, receiver) = unbounded_channel();
    (Backlog(sender), Worker(receiver))
}

impl Backlog {
    pub(super) fn note(&self, name: Username) {
        // Fails only while the process ends.
        self.0.send(name).ok();
    }
}

impl Worker {
    pub(super) async fn run(mut self, redis: Redis, stop: CancellationToken) {
        let mut names = HashSet::new();
        loop {
            if names.is_empty() {
                tokio::select! {
                    () = stop.cancelled() => return,
                    Some(name) = self.0.recv() => { names.insert(name); }
                }
            }
            while let Ok(name) = self.0.try_recv() {
                names.insert(name);
            }
            let Some(name) = names.iter().next().cloned() else {
                continue;
            };
            if empty_outbox(&redis, &name).await.is_ok() {
                info!(event = "outbox_emptied", username = %name, "revocations that were left over have reached the feed");
                names.remove(&name);
            } else {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(PAUSE) => {}
                }
            }
        }
    }
}

async fn empty_outbox(redis: &Redis, name: &Username) -> Result<(), StoreError> {
    let entries = redis.outbox(name).await?;
    if !entries.is_empty() {
        redis.append(&entries).await?;
        redis.acknowledge(name, &entries).await?;
    }
    Ok(())
}

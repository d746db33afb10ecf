//! The backlog: users of whom the feed has not taken all revocations.
//!
//! A revocation is decided in the user's slot and told to the feed afterwards. When either step fails, the request is
//! answered 503, and here the replica goes on trying until the outbox is empty and the feed has what this replica refuses
//! already: where the decision itself did not come through, nobody else knows of it. A replica that dies meanwhile leaves the
//! outbox behind; the next verb on that user empties it.

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::denylist::Subject;
use crate::domain::Username;
use crate::store::{Entry, Redis, StoreError};

/// Between two attempts, while Redis does not take them.
const PAUSE: Duration = Duration::from_millis(500);

/// A user, and what this replica refuses and may be alone to know.
type Owed = (Username, Option<Entry>);

/// Takes note of users. What is kept is bounded by the number of users and of their sessions.
#[derive(Debug, Clone)]
pub(super) struct Backlog(UnboundedSender<Owed>);

/// The other end, to be run once.
pub(super) struct Worker {
    owed: UnboundedReceiver<Owed>,
    names: HashMap<Username, HashMap<Subject, Entry>>,
}

pub(super) fn backlog() -> (Backlog, Worker) {
    let (sender, owed) = unbounded_channel();
    let names = HashMap::new();
    (Backlog(sender), Worker { owed, names })
}

impl Backlog {
    /// Notes that the user's outbox must be emptied, and that the feed must have this entry too, if there is one.
    pub(super) fn note(&self, name: Username, alone: Option<Entry>) {
        // Fails only while the process ends.
        self.0.send((name, alone)).ok();
    }
}

impl Worker {
    pub(super) async fn run(mut self, redis: Redis, stop: CancellationToken) {
        loop {
            if self.names.is_empty() {
                tokio::select! {
                    () = stop.cancelled() => return,
                    Some(owed) = self.owed.recv() => self.take(owed),
                }
            }
            while let Ok(owed) = self.owed.try_recv() {
                self.take(owed);
            }
            let Some((name, alone)) = self.names.iter().next() else {
                continue;
            };
            if catch_up(&redis, name, alone.values()).await.is_ok() {
                info!(event = "outbox_emptied", username = %name, "revocations that were left over have reached the feed");
                let name = name.clone();
                self.names.remove(&name);
            } else {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(PAUSE) => {}
                }
            }
        }
    }

    fn take(&mut self, (name, alone): Owed) {
        let known = self.names.entry(name).or_default();
        known.extend(alone.map(|entry| (Subject::of(&entry), entry)));
    }
}

async fn catch_up(
    redis: &Redis,
    name: &Username,
    alone: impl Iterator<Item = &Entry>,
) -> Result<(), StoreError> {
    let mut entries = redis.outbox(name).await?;
    entries.extend(alone.cloned());
    if !entries.is_empty() {
        redis.append(&entries).await?;
        redis.acknowledge(name, &entries).await?;
    }
    Ok(())
}

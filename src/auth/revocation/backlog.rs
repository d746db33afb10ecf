//! The backlog: revocations that were asked for and have not reached the feed.
//!
//! A revocation is decided in the user's slot and told to the feed afterwards. Where either step fails, the request is
//! answered 503, and here the replica goes on: it decides again, which changes nothing where it was decided already, and
//! tells the feed whatever lies in the user's outbox. A replica that dies meanwhile leaves what was decided in the outbox;
//! the next verb on that user empties it.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::decision::Decision;
use crate::domain::Username;
use crate::store::{Redis, StoreError};

/// Between two attempts, while Redis does not take them.
const PAUSE: Duration = Duration::from_millis(500);
/// How many are remembered. A replica that is cut off for so long that there are more forgets the newest, and says so.
const MOST: usize = 100_000;

/// Something to be completed for a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Task {
    pub(super) username: Username,
    /// What was to be decided; `None` where that is done and only the outbox is left.
    pub(super) decision: Option<Decision>,
}

/// Takes note of what must be completed.
#[derive(Debug, Clone)]
pub(super) struct Backlog(UnboundedSender<Task>);

/// The other end, to be run once.
pub(super) struct Worker(UnboundedReceiver<Task>);

pub(super) fn backlog() -> (Backlog, Worker) {
    let (sender, receiver) = unbounded_channel();
    (Backlog(sender), Worker(receiver))
}

impl Backlog {
    pub(super) fn note(&self, task: Task) {
        // Fails only while the process ends.
        self.0.send(task).ok();
    }
}

impl Worker {
    pub(super) async fn run(mut self, redis: Redis, stop: CancellationToken) {
        let mut tasks = VecDeque::new();
        loop {
            if tasks.is_empty() {
                tokio::select! {
                    () = stop.cancelled() => return,
                    Some(task) = self.0.recv() => tasks.push_back(task),
                }
            }
            while let Ok(task) = self.0.try_recv() {
                if tasks.len() >= MOST {
                    warn!(event = "backlog_full", username = %task.username, "a revocation is not remembered: say it again");
                } else if !tasks.contains(&task) {
                    tasks.push_back(task);
                }
            }
            let Some(task) = tasks.pop_front() else {
                continue;
            };
            if complete(&redis, &task).await.is_ok() {
                info!(event = "backlog", username = %task.username, "a revocation that was left over has reached the feed");
                continue;
            }
            // To the end of the line: one user whose slot does not answer must not keep the others waiting.
            tasks.push_back(task);
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }
}

async fn complete(redis: &Redis, task: &Task) -> Result<(), StoreError> {
    if let Some(decision) = &task.decision {
        decision.make(redis, &task.username).await?;
    }
    let entries = redis.outbox(&task.username).await?;
    if !entries.is_empty() {
        redis.append(&entries).await?;
        redis.acknowledge(&task.username, &entries).await?;
    }
    Ok(())
}

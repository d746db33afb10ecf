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
        let mut line = Line::default();
        loop {
            if line.tasks.is_empty() {
                tokio::select! {
                    () = stop.cancelled() => return,
                    Some(task) = self.0.recv() => line.join(task),
                }
            }
            while let Ok(task) = self.0.try_recv() {
                line.join(task);
            }
            let Some(task) = line.tasks.pop_front() else {
                continue;
            };
            if complete(&redis, &task).await.is_ok() {
                line.completed();
                continue;
            }
            // To the end of the line: one user whose slot does not answer must not keep the others waiting.
            line.tasks.push_back(task);
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }
}

/// Those that wait. The log hears when the first has come and when the last has gone, not of each: in an outage they are many.
#[derive(Default)]
struct Line {
    tasks: VecDeque<Task>,
    completed: usize,
    forgotten: usize,
}

impl Line {
    fn join(&mut self, task: Task) {
        if self.tasks.len() >= MOST {
            if self.forgotten == 0 {
                warn!(event = "backlog_full", username = %task.username, "revocations are not remembered any more: say them again");
            }
            self.forgotten += 1;
        } else if !self.tasks.contains(&task) {
            if self.tasks.is_empty() {
                warn!(event = "backlog", username = %task.username, "revocations do not reach the feed; they are tried again until they do");
            }
            self.tasks.push_back(task);
        }
    }

    fn completed(&mut self) {
        self.completed += 1;
        if self.tasks.is_empty() {
            let Self {
                completed,
                forgotten,
                ..
            } = std::mem::take(self);
            info!(
                event = "backlog_empty",
                completed, forgotten, "all revocations that were left over have reached the feed"
            );
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

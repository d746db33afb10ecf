//! Retry queue: revocations that were requested and have not reached the feed.
//!
//! A revocation is committed in the user's slot and published afterwards. If either step fails, the request is answered with
//! 503, and the replica retries here: it applies the command again, which is idempotent, and publishes the user's outbox. If
//! the replica dies first, a committed revocation stays in the outbox, and the next command on that user publishes it.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::decision::Decision;
use crate::domain::Username;
use crate::store::{Redis, StoreError};

/// Interval between two attempts after a failure.
const PAUSE: Duration = Duration::from_millis(500);
/// Capacity of the queue. Beyond it, after a long outage, new tasks are dropped with a warning.
const MOST: usize = 100_000;

/// Revocation to complete for a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Task {
    pub(super) username: Username,
    /// The command to apply; `None` if only the outbox is left to publish.
    pub(super) decision: Option<Decision>,
}

/// Sending half of the queue.
#[derive(Debug, Clone)]
pub(super) struct Backlog(UnboundedSender<Task>);

/// Receiving half of the queue, to be run once.
pub(super) struct Worker(UnboundedReceiver<Task>);

pub(super) fn backlog() -> (Backlog, Worker) {
    let (sender, receiver) = unbounded_channel();
    (Backlog(sender), Worker(receiver))
}

impl Backlog {
    pub(super) fn note(&self, task: Task) {
        // Fails only during shutdown, when the worker is gone.
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
            // To the end of the queue: a slot that does not answer must not delay the other users.
            line.tasks.push_back(task);
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }
}

/// Waiting tasks. Only the first task and the last completion are logged: an outage queues many.
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
                warn!(event = "backlog_full", username = %task.username, "retry queue full: new revocations are dropped; repeat those that were answered with 503");
            }
            self.forgotten += 1;
        } else if !self.tasks.contains(&task) {
            if self.tasks.is_empty() {
                warn!(event = "backlog", username = %task.username, "revocations do not reach the feed; they are retried until they do");
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
                completed, forgotten, "all queued revocations have reached the feed"
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

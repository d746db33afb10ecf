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

use super::command::RevocationCommand;
use crate::domain::Username;
use crate::store::{Redis, StoreError};

/// Interval between two attempts after a failure.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);
/// Capacity of the queue. Beyond it, after a long outage, new tasks are dropped with a warning.
const MAX_TASKS: usize = 100_000;

/// Revocation to complete for a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Task {
    pub(super) username: Username,
    /// The command to apply; `None` if only the outbox is left to publish.
    pub(super) command: Option<RevocationCommand>,
}

/// Sending half of the queue.
#[derive(Debug, Clone)]
pub(super) struct RetryQueue(UnboundedSender<Task>);

/// Receiving half of the queue, to be run once.
pub(super) struct Worker(UnboundedReceiver<Task>);

pub(super) fn retry_queue() -> (RetryQueue, Worker) {
    let (sender, receiver) = unbounded_channel();
    (RetryQueue(sender), Worker(receiver))
}

impl RetryQueue {
    pub(super) fn enqueue(&self, task: Task) {
        // Fails only during shutdown, when the worker is gone.
        self.0.send(task).ok();
    }
}

impl Worker {
    pub(super) async fn run(mut self, redis: Redis, stop: CancellationToken) {
        let mut queue = Queue::default();
        loop {
            if queue.tasks.is_empty() {
                tokio::select! {
                    () = stop.cancelled() => return,
                    Some(task) = self.0.recv() => queue.push(task),
                }
            }
            while let Ok(task) = self.0.try_recv() {
                queue.push(task);
            }
            let Some(task) = queue.tasks.pop_front() else {
                continue;
            };
            if complete(&redis, &task).await.is_ok() {
                queue.completed();
                continue;
            }
            // To the end of the queue: a slot that does not answer must not delay the other users.
            queue.tasks.push_back(task);
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(RETRY_INTERVAL) => {}
            }
        }
    }
}

/// Waiting tasks. Only the first task and the last completion are logged: an outage queues many.
#[derive(Default)]
struct Queue {
    tasks: VecDeque<Task>,
    completed: usize,
    forgotten: usize,
}

impl Queue {
    fn push(&mut self, task: Task) {
        if self.tasks.len() >= MAX_TASKS {
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
    if let Some(command) = &task.command {
        command.apply(redis, &task.username).await?;
    }
    let entries = redis.outbox(&task.username).await?;
    if !entries.is_empty() {
        redis.append(&entries).await?;
        redis.acknowledge(&task.username, &entries).await?;
    }
    Ok(())
}

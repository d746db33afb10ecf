//! Publishing of revocations: from the commit in the user's slot to the moment when they are in effect on every replica.
//!
//! Every change that revokes tokens takes the same steps: commit it, apply the outbox to this replica's denylist, append it to
//! the feed, wait for the window. A change that fails on the way goes to the retry queue.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::REDIS_BUDGET;
use super::Revocations;
use super::command::RevocationCommand;
use super::retry_queue::Task;
use super::window::propagation_wait;
use crate::auth::{ServiceError, Unavailable};
use crate::domain::{AccessClaims, SessionId, Timestamp, Username};
use crate::store::{
    Change, Entry, MARGIN, Precondition, RevocationResult, SessionEntry, StoreError,
};

/// The task of a revocation ended before it was done.
const CUT_SHORT: ServiceError = ServiceError::Internal("a revocation was cut short");

/// Outcome of ending all sessions of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// All sessions have ended, the calling one too.
    All,
    /// The calling session has ended in the meantime, or the account is gone; nothing was changed.
    ActingSessionGone,
}

impl Revocations {
    /// Revokes a session. Once this has returned `Ok`, no replica accepts any of its tokens. After an error this replica rejects
    /// them all the same, and for as long as it runs it retries to publish the revocation.
    ///
    /// # Errors
    /// If the entry could not be published in time. It is safe to call this again.
    pub async fn revoke_session(
        self: &Arc<Self>,
        claims: &AccessClaims,
        access_ttl: Duration,
    ) -> Result<(), ServiceError> {
        let (username, sid) = (claims.username.clone(), claims.sid);
        let token_expires = Timestamp::from_secs(claims.exp);
        let now = self.clock.now();
        let until = token_expires.max(now.plus(access_ttl)).plus(MARGIN);
        self.denylist.insert(
            &Entry::Session(SessionEntry {
                tag: username.tag(),
                sid,
                until,
            }),
            now,
        );
        let command = RevocationCommand::Revoke {
            sid,
            token_expires,
            access_ttl,
        };
        // Concurrent logouts of one session are published once, and an acknowledged one is not published again: otherwise a
        // single token could fill the feed.
        let acknowledge = async { self.execute(username, command).await.map(|_| ()) };
        self.acknowledged
            .get_or_insert_async(&sid, acknowledge)
            .await
    }

    /// Revokes a session without one of its tokens. Otherwise like [`revoke_session`](Self::revoke_session).
    ///
    /// # Errors
    /// If the entry could not be published in time. It is safe to call this again.
    pub async fn revoke_session_of(
        self: &Arc<Self>,
        username: &Username,
        sid: SessionId,
        access_ttl: Duration,
    ) -> Result<(), ServiceError> {
        let command = RevocationCommand::Revoke {
            sid,
            // The session record holds the expiry of its last token; a token issued now expires after one `access_ttl`.
            token_expires: self.clock.now(),
            access_ttl,
        };
        self.execute(username.clone(), command).await.map(|_| ())
    }

    /// Ends all sessions of the token's user. Once this has returned [`Ended::All`], no replica accepts any token that was
    /// issued before; after [`Ended::ActingSessionGone`], no replica accepts the caller's token.
    ///
    /// # Errors
    /// If the entry could not be published in time; the replica keeps trying.
    pub async fn end_all_sessions(
        self: &Arc<Self>,
        claims: &AccessClaims,
    ) -> Result<Ended, ServiceError> {
        let known = self.known(claims.sub);
        let command = RevocationCommand::EndAll {
            user: claims.sub,
            acting: claims.sid,
            known,
        };
        let decided = self.execute(claims.username.clone(), command).await?;
        Ok(if decided {
            Ended::All
        } else {
            Ended::ActingSessionGone
        })
    }

    /// Changes an account and returns `true`, or returns `false` if the account no longer matches `seen`. After `Ok` of either
    /// value, no replica accepts a token that any earlier change has revoked.
    ///
    /// # Errors
    /// If the entry could not be published in time; the replica keeps trying.
    pub async fn change_user(
        self: &Arc<Self>,
        username: &Username,
        seen: Precondition,
        change: Change,
    ) -> Result<bool, ServiceError> {
        let known = self.known(seen.id);
        let command = RevocationCommand::Change {
            seen,
            change,
            known,
        };
        self.execute(username.clone(), command).await
    }

    /// Commits a command, publishes it, and waits until it is in effect on every replica. Returns `false` if the command's
    /// precondition failed.
    ///
    /// A failed precondition takes the same steps. It tells the caller that the session has ended; the change that ended it may
    /// still lie in the outbox, or was appended a moment ago, and after this response no replica may accept the token.
    ///
    /// Runs on a task of its own: a client that disconnects must not leave the command half done.
    async fn execute(
        self: &Arc<Self>,
        username: Username,
        command: RevocationCommand,
    ) -> Result<bool, ServiceError> {
        let (redis, name, made) = (self.redis.clone(), username.clone(), command.clone());
        let decided = async move {
            let RevocationResult { revoked, outbox } = made.apply(&redis, &name).await?;
            Ok((revoked, outbox))
        };
        let task = Task {
            username,
            command: Some(command),
        };
        self.begin(task, decided).await.unwrap_or(Err(CUT_SHORT))
    }

    /// Runs a command that revokes tokens as a side effect and must not be repeated. Publishes the outbox that it left, and waits
    /// until that is in effect, before the command's outcome is returned. Runs on a task of its own, too.
    ///
    /// # Errors
    /// If the store does not answer, or the outbox could not be published in time. The command may be committed all the same; the
    /// replica then keeps trying to publish it.
    pub async fn publish_outcome<T: Send + 'static>(
        self: &Arc<Self>,
        username: Username,
        decided: impl Future<Output = Result<(T, Vec<Entry>), StoreError>> + Send + 'static,
    ) -> Result<T, ServiceError> {
        let task = Task {
            username,
            command: None,
        };
        self.begin(task, decided).await.unwrap_or(Err(CUT_SHORT))
    }

    fn begin<T: Send + 'static>(
        self: &Arc<Self>,
        task: Task,
        decided: impl Future<Output = Result<(T, Vec<Entry>), StoreError>> + Send + 'static,
    ) -> JoinHandle<Result<T, ServiceError>> {
        let this = Arc::clone(self);
        let work = async move {
            let published = async {
                let (outcome, outbox) = decided.await?;
                let window = this.publish(&task.username, &outbox).await?;
                Ok((outcome, window))
            };
            let why = match tokio::time::timeout(REDIS_BUDGET, published).await {
                Ok(Ok((outcome, window))) => {
                    tokio::time::sleep(window).await;
                    return Ok(outcome);
                }
                Ok(Err(error)) => Unavailable::Store(error),
                Err(_) => Unavailable::Deadline,
            };
            Err(this.enqueue_retry(task, why))
        };
        self.under_way.spawn(work)
    }

    /// Publishes a user's outbox that another command found, before that command is answered. Does nothing if it is empty.
    ///
    /// # Errors
    /// If the entries could not be published in time; the retry queue keeps trying.
    pub async fn publish_pending(
        &self,
        name: &Username,
        outbox: Vec<Entry>,
    ) -> Result<(), ServiceError> {
        if outbox.is_empty() {
            return Ok(());
        }
        self.publish_and_wait(name, outbox).await
    }

    /// Publishes a user's outbox and waits a window, even if the outbox is empty. Required before a client learns that a session
    /// has ended: the change that ended it may still lie in the outbox, or was appended a moment ago, and after the response no
    /// replica may accept the session's tokens.
    ///
    /// # Errors
    /// If the entries could not be published in time; the retry queue keeps trying.
    pub async fn publish_and_wait(
        &self,
        name: &Username,
        outbox: Vec<Entry>,
    ) -> Result<(), ServiceError> {
        match self.publish(name, &outbox).await {
            Ok(window) => {
                tokio::time::sleep(window).await;
                Ok(())
            }
            Err(error) => {
                let task = Task {
                    username: name.clone(),
                    command: None,
                };
                Err(self.enqueue_retry(task, Unavailable::Store(error)))
            }
        }
    }

    /// Applies entries to this replica, appends them to the feed, and clears them from the outbox. Returns how long to wait until
    /// they are in effect on every replica.
    async fn publish(&self, name: &Username, entries: &[Entry]) -> Result<Duration, StoreError> {
        let now = self.clock.now();
        for entry in entries {
            self.denylist.insert(entry, now);
        }
        let announced = self.redis.append(entries).await?;
        self.appended.notify_one();
        // The feed has the entries; leaving them in the outbox costs a second append and no correctness.
        if !entries.is_empty() && self.redis.acknowledge(name, entries).await.is_err() {
            self.retry_queue.enqueue(Task {
                username: name.clone(),
                command: None,
            });
        }
        Ok(propagation_wait(announced, self.config.window))
    }

    fn enqueue_retry(&self, task: Task, why: Unavailable) -> ServiceError {
        self.retry_queue.enqueue(task);
        ServiceError::Unavailable(why)
    }

    /// Waits for running revocations.
    pub async fn finish(&self) {
        self.under_way.close();
        self.under_way.wait().await;
    }
}

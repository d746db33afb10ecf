//! Making revocations: how what is decided gets to the feed, and when it holds everywhere.
//!
//! Every change that takes tokens away goes the same way: decide it, append what lies in the outbox, apply it here, wait for
//! the window. What does not get through is left to the backlog.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::PATIENCE;
use super::Revocations;
use super::backlog::Task;
use super::decision::Decision;
use super::window::holds_after;
use crate::auth::{Failure, Unavailable};
use crate::domain::{AccessClaims, SessionId, Timestamp, Username};
use crate::store::{
    Change, Entry, MARGIN, Precondition, RevocationResult, SessionEntry, StoreError,
};

/// The task of a revocation has ended before it was done.
const CUT_SHORT: Failure = Failure::Internal("a revocation was cut short");

/// What became of ending all sessions of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// They have ended, the acting one too.
    All,
    /// The acting session has ended meanwhile, or the account is gone; nothing was changed.
    ActingSessionGone,
}

impl Revocations {
    /// Revokes a session. When this has returned `Ok`, no replica accepts any of its tokens. When it has not, this replica
    /// refuses them all the same, and goes on trying to tell the others for as long as it lives.
    ///
    /// # Errors
    /// Where the feed could not be told in time. It is safe to call this again.
    pub async fn revoke_session(
        self: &Arc<Self>,
        claims: &AccessClaims,
        access_ttl: Duration,
    ) -> Result<(), Failure> {
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
        let decision = Decision::Revoke {
            sid,
            token_expires,
            access_ttl,
        };
        // Logouts of one session at the same time are one logout, and one that was acknowledged need not be told again:
        // otherwise a single token could fill the feed.
        let acknowledge = async { self.carry_out(username, decision).await.map(|_| ()) };
        self.acknowledged
            .get_or_insert_async(&sid, acknowledge)
            .await
    }

    /// Revokes a session of which no token is at hand. As [`revoke_session`](Self::revoke_session) otherwise.
    ///
    /// # Errors
    /// Where the feed could not be told in time. It is safe to call this again.
    pub async fn revoke_session_of(
        self: &Arc<Self>,
        username: &Username,
        sid: SessionId,
        access_ttl: Duration,
    ) -> Result<(), Failure> {
        let decision = Decision::Revoke {
            sid,
            // The record knows when the last one expires, and one that is issued now expires in a lifetime.
            token_expires: self.clock.now(),
            access_ttl,
        };
        self.carry_out(username.clone(), decision).await.map(|_| ())
    }

    /// Ends all sessions of the token's user. When this has returned [`Ended::All`], no replica accepts any token that was
    /// issued before; when [`Ended::ActingSessionGone`], none accepts the token at hand.
    ///
    /// # Errors
    /// Where the feed could not be told in time; the replica goes on trying.
    pub async fn end_all_sessions(
        self: &Arc<Self>,
        claims: &AccessClaims,
    ) -> Result<Ended, Failure> {
        let known = self.known(claims.sub);
        let decision = Decision::EndAll {
            user: claims.sub,
            acting: claims.sid,
            known,
        };
        let decided = self.carry_out(claims.username.clone(), decision).await?;
        Ok(if decided {
            Ended::All
        } else {
            Ended::ActingSessionGone
        })
    }

    /// Changes an account, unless it is no longer as it was seen. When this has returned `Ok`, either way, no replica accepts
    /// a token that any change up to then has refused.
    ///
    /// # Errors
    /// Where the feed could not be told in time; the replica goes on trying.
    pub async fn change_user(
        self: &Arc<Self>,
        username: &Username,
        seen: Precondition,
        change: Change,
    ) -> Result<bool, Failure> {
        let known = self.known(seen.id);
        let decision = Decision::Change {
            seen,
            change,
            known,
        };
        self.carry_out(username.clone(), decision).await
    }

    /// Decides, tells the feed, and waits until it holds everywhere: the way of every change that takes tokens away. `false`
    /// where it may not be decided.
    ///
    /// A refusal goes the same way. It tells the caller that his session has ended; what has ended it may lie in the outbox
    /// still, or was appended a moment ago, and a replica that says so must not accept the token after that.
    ///
    /// On a task of its own: a client that hangs up must not leave it half done.
    async fn carry_out(
        self: &Arc<Self>,
        username: Username,
        decision: Decision,
    ) -> Result<bool, Failure> {
        let (redis, name, made) = (self.redis.clone(), username.clone(), decision.clone());
        let decided = async move {
            let RevocationResult { revoked, outbox } = made.make(&redis, &name).await?;
            Ok((revoked, outbox))
        };
        let task = Task {
            username,
            decision: Some(decision),
        };
        self.begin(task, decided).await.unwrap_or(Err(CUT_SHORT))
    }

    /// Carries out a verb that takes tokens away beside what else it does, and cannot be decided again: what it has left in
    /// the outbox is told to the feed and waited for before its outcome is returned. On a task of its own, too.
    ///
    /// # Errors
    /// Where the store could not answer or the feed could not be told in time; it may have been decided all the same, and then
    /// the replica goes on trying to tell the others.
    pub async fn carry<T: Send + 'static>(
        self: &Arc<Self>,
        username: Username,
        decided: impl Future<Output = Result<(T, Vec<Entry>), StoreError>> + Send + 'static,
    ) -> Result<T, Failure> {
        let task = Task {
            username,
            decision: None,
        };
        self.begin(task, decided).await.unwrap_or(Err(CUT_SHORT))
    }

    fn begin<T: Send + 'static>(
        self: &Arc<Self>,
        task: Task,
        decided: impl Future<Output = Result<(T, Vec<Entry>), StoreError>> + Send + 'static,
    ) -> JoinHandle<Result<T, Failure>> {
        let this = Arc::clone(self);
        let work = async move {
            let told = async {
                let (outcome, outbox) = decided.await?;
                let window = this.tell(&task.username, &outbox).await?;
                Ok((outcome, window))
            };
            let why = match tokio::time::timeout(PATIENCE, told).await {
                Ok(Ok((outcome, window))) => {
                    tokio::time::sleep(window).await;
                    return Ok(outcome);
                }
                Ok(Err(error)) => Unavailable::Store(error),
                Err(_) => Unavailable::Deadline,
            };
            Err(this.left_over(task, why))
        };
        self.under_way.spawn(work)
    }

    /// Appends what was found in a user's outbox by another verb, before that is answered.
    ///
    /// # Errors
    /// Where the feed could not be told in time; the backlog goes on.
    pub async fn flush(&self, name: &Username, outbox: Vec<Entry>) -> Result<(), Failure> {
        if outbox.is_empty() {
            return Ok(());
        }
        self.before_refusing(name, outbox).await
    }

    /// Does what must have been done before anybody hears that a session has ended: what has ended it may lie in the outbox
    /// still, or was appended a moment ago, and no replica may accept the session's tokens after that.
    ///
    /// # Errors
    /// Where the feed could not be told in time; the backlog goes on.
    pub async fn before_refusing(
        &self,
        name: &Username,
        outbox: Vec<Entry>,
    ) -> Result<(), Failure> {
        match self.tell(name, &outbox).await {
            Ok(window) => {
                tokio::time::sleep(window).await;
                Ok(())
            }
            Err(error) => {
                let task = Task {
                    username: name.clone(),
                    decision: None,
                };
                Err(self.left_over(task, Unavailable::Store(error)))
            }
        }
    }

    /// Appends entries, applies them here, clears them from the outbox, and tells how long to wait before they hold
    /// everywhere.
    async fn tell(&self, name: &Username, entries: &[Entry]) -> Result<Duration, StoreError> {
        let now = self.clock.now();
        for entry in entries {
            self.denylist.insert(entry, now);
        }
        let announced = self.redis.append(entries).await?;
        self.appended.notify_one();
        // The feed has them; that the outbox still does costs nobody anything but a second append.
        if !entries.is_empty() && self.redis.acknowledge(name, entries).await.is_err() {
            self.backlog.note(Task {
                username: name.clone(),
                decision: None,
            });
        }
        Ok(holds_after(announced, self.config.window))
    }

    fn left_over(&self, task: Task, why: Unavailable) -> Failure {
        self.backlog.note(task);
        Failure::Unavailable(why)
    }

    /// Waits for revocations under way.
    pub async fn finish(&self) {
        self.under_way.close();
        self.under_way.wait().await;
    }
}

//! Administration: reading and changing any account, for administrators and for the operator.
//!
//! Every change is published like a revocation: once it is answered, it is in effect on every replica.

use std::sync::Arc;

use super::revocation::{Revocations, TokenStatus};
use super::{ServiceError, Unavailable};
use crate::domain::{AccessClaims, Username};
use crate::store::{
    Change, NewUser, Precondition, Redis, Registered, SessionRecord, User, UserCursor,
};

/// Maximum number of attempts if concurrent requests change the same account.
const ATTEMPTS: usize = 5;

/// Service that reads and changes accounts.
#[derive(Debug)]
pub struct Administration {
    redis: Redis,
    revocations: Arc<Revocations>,
}

/// Authority under which an account is changed.
#[derive(Debug, Clone, Copy)]
pub enum Authority<'a> {
    /// An administrator, whose session must be active until just before the change.
    Administrator(&'a AccessClaims),
    /// The operator, who has write access to Redis anyway.
    Operator,
}

/// Outcome of a change.
#[derive(Debug)]
pub enum Changed {
    /// The change is in effect. Holds the account as it was before; its id and name never change.
    Done(User),
    /// No account has the name.
    NoSuchUser,
    /// The administrator's session has ended in the meantime; nothing was changed.
    ActingSessionGone,
}

impl Administration {
    /// Creates the service for the accounts in `redis`.
    #[must_use]
    pub fn new(redis: Redis, revocations: Arc<Revocations>) -> Self {
        Self { redis, revocations }
    }

    /// Returns the account with this name.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn find(&self, name: &Username) -> Result<Option<User>, ServiceError> {
        Ok(self.redis.find_user(name).await?)
    }

    /// Returns the sessions of the account with this name, the newest first; `None` if there is no such account.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn sessions(
        &self,
        name: &Username,
    ) -> Result<Option<Vec<SessionRecord>>, ServiceError> {
        match self.redis.find_user(name).await? {
            Some(user) => Ok(Some(self.redis.sessions_of(&user).await?)),
            None => Ok(None),
        }
    }

    /// Changes the account with this name. Once this has returned [`Changed::Done`], no replica accepts a token that the change
    /// revokes.
    ///
    /// # Errors
    /// If the store or the feed does not answer in time. Call again.
    pub async fn change(
        &self,
        authority: Authority<'_>,
        name: &Username,
        change: &Change,
    ) -> Result<Changed, ServiceError> {
        for _ in 0..ATTEMPTS {
            let Some(user) = self.redis.find_user(name).await? else {
                // A deletion that is committed but not yet published must be in effect before a caller learns that the user is gone.
                let outbox = self.redis.outbox(name).await?;
                self.revocations.publish_pending(name, outbox).await?;
                return Ok(Changed::NoSuchUser);
            };
            // The token was checked when the request arrived; its session may have ended since.
            if !self.is_active(authority).await? {
                return Ok(Changed::ActingSessionGone);
            }
            let seen = Precondition::by_administrator(&user);
            if self
                .revocations
                .change_user(name, seen, change.clone())
                .await?
            {
                return Ok(Changed::Done(user));
            }
        }
        Err(ServiceError::Unavailable(Unavailable::Deadline))
    }

    /// Creates accounts in one round trip, and returns the outcome for each.
    ///
    /// # Errors
    /// If the store or the feed does not answer; any of the accounts may exist then.
    pub async fn create(&self, new: &[NewUser]) -> Result<Vec<Registered>, ServiceError> {
        let created = self.redis.register_users(new).await?;
        for (new, registered) in new.iter().zip(&created) {
            // Revocations of an earlier account with this name must be in effect before the new account is used.
            if let Registered::Created(_, outbox) = registered {
                self.revocations
                    .publish_pending(&new.username, outbox.clone())
                    .await?;
            }
        }
        Ok(created)
    }

    /// Returns one page of accounts and the cursor of the next; a cursor of `None` marks the end.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn list_page(
        &self,
        from: UserCursor,
    ) -> Result<(Option<UserCursor>, Vec<User>), ServiceError> {
        Ok(self.redis.scan_users(from).await?)
    }

    async fn is_active(&self, authority: Authority<'_>) -> Result<bool, ServiceError> {
        let Authority::Administrator(claims) = authority else {
            return Ok(true);
        };
        let status = self
            .revocations
            .token_status(claims.sid, claims.sub, claims.ver);
        let status = status.await.map_err(ServiceError::Unavailable)?;
        Ok(status == TokenStatus::Active)
    }
}

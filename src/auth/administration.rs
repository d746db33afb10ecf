//! Administration: looking at the accounts of others and changing them, for administrators and for the operator.
//!
//! Every change goes the way of revocation: once it has been answered, it holds on every replica.

use std::sync::Arc;

use super::revocation::{Revocations, Standing};
use super::{Failure, Unavailable};
use crate::domain::{AccessClaims, Username};
use crate::store::{
    Change, NewUser, Precondition, Redis, Registered, SessionRecord, User, UserCursor,
};

/// How often a change is tried where the account is changed by somebody else at the same moment.
const ATTEMPTS: usize = 5;

/// Changes accounts.
#[derive(Debug)]
pub struct Administration {
    redis: Redis,
    revocations: Arc<Revocations>,
}

/// On whose word accounts are changed.
#[derive(Debug, Clone, Copy)]
pub enum Authority<'a> {
    /// An administrator's, whose session must stand until just before the change.
    Administrator(&'a AccessClaims),
    /// Of whoever can write to Redis anyway.
    Operator,
}

/// What became of a change.
#[derive(Debug)]
pub enum Changed {
    /// It holds; here is the account as it was before, of which its identity and name have not changed.
    Done(User),
    /// Nobody has the name.
    NoSuchUser,
    /// The administrator's session has ended meanwhile; nothing was changed.
    ActingSessionGone,
}

impl Administration {
    /// Administers the accounts in `redis`.
    #[must_use]
    pub fn new(redis: Redis, revocations: Arc<Revocations>) -> Self {
        Self { redis, revocations }
    }

    /// The account of that name.
    ///
    /// # Errors
    /// Where the store could not answer.
    pub async fn find(&self, name: &Username) -> Result<Option<User>, Failure> {
        Ok(self.redis.find_user(name).await?)
    }

    /// The sessions of the account of that name, the newest first; `None` where nobody has it.
    ///
    /// # Errors
    /// Where the store could not answer.
    pub async fn sessions(&self, name: &Username) -> Result<Option<Vec<SessionRecord>>, Failure> {
        match self.redis.find_user(name).await? {
            Some(user) => Ok(Some(self.redis.sessions_of(&user).await?)),
            None => Ok(None),
        }
    }

    /// Changes the account of that name. Once this has returned [`Changed::Done`], no replica accepts a token that the change
    /// refuses.
    ///
    /// # Errors
    /// Where the store or the feed could not answer in time. Say it again.
    pub async fn change(
        &self,
        authority: Authority<'_>,
        name: &Username,
        change: &Change,
    ) -> Result<Changed, Failure> {
        for _ in 0..ATTEMPTS {
            let Some(user) = self.redis.find_user(name).await? else {
                // A deletion that was decided and not yet told must hold before anybody hears that there is no such user.
                let outbox = self.redis.outbox(name).await?;
                self.revocations.flush(name, outbox).await?;
                return Ok(Changed::NoSuchUser);
            };
            // The token was checked when the request arrived; its session may have ended since.
            if !self.stands(authority).await? {
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
        Err(Failure::Unavailable(Unavailable::Deadline))
    }

    /// Creates accounts in one round trip, and tells of each what became of it.
    ///
    /// # Errors
    /// Where the store or the feed could not answer; any of the accounts may exist.
    pub async fn create(&self, new: &[NewUser]) -> Result<Vec<Registered>, Failure> {
        let created = self.redis.register_users(new).await?;
        for (new, registered) in new.iter().zip(&created) {
            // What an earlier account of the name has left must hold before this one is used.
            if let Registered::Created(_, outbox) = registered {
                self.revocations
                    .flush(&new.username, outbox.clone())
                    .await?;
            }
        }
        Ok(created)
    }

    /// Some accounts, and where to go on; `None` is the end.
    ///
    /// # Errors
    /// Where the store could not answer.
    pub async fn some(&self, from: UserCursor) -> Result<(Option<UserCursor>, Vec<User>), Failure> {
        Ok(self.redis.scan_users(from).await?)
    }

    async fn stands(&self, authority: Authority<'_>) -> Result<bool, Failure> {
        let Authority::Administrator(claims) = authority else {
            return Ok(true);
        };
        let standing = self
            .revocations
            .standing(claims.sid, claims.sub, claims.ver);
        let standing = standing.await.map_err(Failure::Unavailable)?;
        Ok(standing == Standing::Stands)
    }
}

//! Accounts: registration, and reading and deleting the caller's own account.

use std::sync::Arc;

use super::ServiceError;
use super::passwords::{Checked, Passwords};
use super::rate_limit::RateLimiter;
use super::revocation::Revocations;
use crate::domain::{
    AccessClaims, AttemptedName, Guess, Network, Password, Timestamp, UserId, Username,
};
use crate::store::{self, Change, Precondition, Redis, Registered, User};

/// Service that registers, reads and deletes accounts.
#[derive(Debug)]
pub struct Accounts {
    pub(super) redis: Redis,
    pub(super) passwords: Arc<Passwords>,
    pub(super) revocations: Arc<Revocations>,
    pub(super) rate_limiter: Arc<RateLimiter>,
}

/// Outcome of a registration.
#[derive(Debug)]
pub enum Registration {
    /// The account was created.
    Registered(RegisteredUser),
    /// Another account has the name.
    NameTaken,
}

/// Outcome of a user's deletion of their own account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deletion {
    /// The account is gone, and so are all of its sessions.
    Deleted,
    /// The password is wrong; nothing was changed.
    WrongPassword,
    /// The calling session has ended, or the account has changed or is gone; nothing was changed.
    ActingSessionGone,
}

/// User that was just registered.
#[derive(Debug)]
pub struct RegisteredUser {
    /// The id.
    pub id: UserId,
    /// The name.
    pub username: Username,
    /// Time of the registration.
    pub created: Timestamp,
}

impl Accounts {
    /// Creates the service for the accounts in `redis`.
    #[must_use]
    pub fn new(
        redis: Redis,
        passwords: Arc<Passwords>,
        revocations: Arc<Revocations>,
        rate_limiter: Arc<RateLimiter>,
    ) -> Self {
        Self {
            redis,
            passwords,
            revocations,
            rate_limiter,
        }
    }

    /// Registers a user whose name and password follow the rules.
    ///
    /// # Errors
    /// If a rate limit is reached, or hashing or the store fails. The account may exist then; repeating the registration shows it.
    pub async fn register(
        &self,
        from: Option<Network>,
        username: Username,
        password: &Password,
    ) -> Result<Registration, ServiceError> {
        self.rate_limiter.registration(from).await?;
        let asker = Guess {
            name: AttemptedName::of(username.as_str()),
            from,
        };
        let hash = self.passwords.hash(asker, password).await?;
        let id = UserId::new();
        let new = store::NewUser {
            id,
            username: username.clone(),
            password: hash,
            roles: Vec::new(),
            disabled: false,
            imported: None,
        };
        let mut registered = self.redis.register_user(&new).await?;
        if matches!(registered, Registered::NameTaken { .. })
            && let Some(taken) = self.redis.find_user(&username).await?
            && self.revocations.repair(&taken).await?
        {
            // The name may belong to a deleted account that a failover has restored.
            registered = self.redis.register_user(&new).await?;
        }
        match registered {
            Registered::Created(created, outbox) => {
                self.revocations.publish_pending(&username, outbox).await?;
                Ok(Registration::Registered(RegisteredUser {
                    id,
                    username,
                    created,
                }))
            }
            Registered::NameTaken { .. } => Ok(Registration::NameTaken),
        }
    }

    /// Returns the account of a token; `None` if it is gone, even if a new account has the same name.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn find_for(&self, claims: &AccessClaims) -> Result<Option<User>, ServiceError> {
        let user = self.redis.find_user(&claims.username).await?;
        Ok(user.filter(|user| user.id == claims.sub))
    }

    /// Deletes the account of a token if the password is right. Once this has returned [`Deletion::Deleted`], no replica accepts
    /// any of its tokens, and registering the name creates another account.
    ///
    /// # Errors
    /// If a rate limit is reached, or hashing or the store fails.
    pub async fn delete(
        &self,
        claims: &AccessClaims,
        from: Option<Network>,
        password: &Password,
    ) -> Result<Deletion, ServiceError> {
        let asker = Guess {
            name: AttemptedName::of(claims.username.as_str()),
            from,
        };
        let mut user = None;
        let check = Box::pin(async {
            user = self.find_for(claims).await?;
            let stored = user.as_ref().map(|user| &user.password);
            self.passwords.check(asker, password, stored).await
        });
        let checked = self.rate_limiter.password(asker, check).await?;
        let Some(user) = user else {
            // An earlier deletion that is committed but not yet published must be in effect before the client learns of it.
            let outbox = self.redis.outbox(&claims.username).await?;
            self.revocations
                .publish_pending(&claims.username, outbox)
                .await?;
            return Ok(Deletion::ActingSessionGone);
        };
        if matches!(checked, Checked::Invalid) {
            return Ok(Deletion::WrongPassword);
        }
        let seen = Precondition::by_owner(&user, claims.sid);
        let deleted = self
            .revocations
            .change_user(&user.username, seen, Change::Delete);
        Ok(if deleted.await? {
            Deletion::Deleted
        } else {
            Deletion::ActingSessionGone
        })
    }
}

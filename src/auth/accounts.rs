//! Accounts: registering one, and looking at one's own.

use std::sync::Arc;

use super::Failure;
use super::passwords::Passwords;
use super::revocation::Revocations;
use super::throttle::Throttle;
use crate::domain::{
    AccessClaims, AttemptedName, Guess, Network, Password, Timestamp, UserId, Username,
};
use crate::store::{Redis, Registered, User};

/// Registers users and finds them again.
#[derive(Debug)]
pub struct Accounts {
    pub(super) redis: Redis,
    pub(super) passwords: Arc<Passwords>,
    pub(super) revocations: Arc<Revocations>,
    pub(super) throttle: Arc<Throttle>,
}

/// What became of a registration.
#[derive(Debug)]
pub enum Registration {
    /// The account exists.
    Registered(NewUser),
    /// Somebody has the name.
    NameTaken,
}

/// A user who was just registered.
#[derive(Debug)]
pub struct NewUser {
    /// Identity.
    pub id: UserId,
    /// Name.
    pub username: Username,
    /// When.
    pub created: Timestamp,
}

impl Accounts {
    /// Registers accounts in `redis`.
    #[must_use]
    pub fn new(
        redis: Redis,
        passwords: Arc<Passwords>,
        revocations: Arc<Revocations>,
        throttle: Arc<Throttle>,
    ) -> Self {
        Self {
            redis,
            passwords,
            revocations,
            throttle,
        }
    }

    /// Registers a user whose name and password follow the rules.
    ///
    /// # Errors
    /// Where the hash or the store could not answer. The account may exist then; the same registration again says so.
    pub async fn register(
        &self,
        from: Option<Network>,
        username: Username,
        password: &Password,
    ) -> Result<Registration, Failure> {
        self.throttle.registration(from).await?;
        let asker = Guess {
            name: AttemptedName::of(username.as_str()),
            from,
        };
        let hash = self.passwords.hash(asker, password).await?;
        let id = UserId::new();
        match self.redis.register_user(id, &username, &hash).await? {
            Registered::Created(created, outbox) => {
                self.revocations.flush(&username, outbox).await?;
                Ok(Registration::Registered(NewUser {
                    id,
                    username,
                    created,
                }))
            }
            Registered::NameTaken => Ok(Registration::NameTaken),
        }
    }

    /// The account that a token speaks of; `None` where it is gone, also where its name belongs to somebody else by now.
    ///
    /// # Errors
    /// Where the store could not answer.
    pub async fn of(&self, claims: &AccessClaims) -> Result<Option<User>, Failure> {
        let user = self.redis.find_user(&claims.username).await?;
        Ok(user.filter(|user| user.id == claims.sub))
    }
}

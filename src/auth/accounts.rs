//! Accounts: registering one, looking at one's own, and deleting it.

use std::sync::Arc;

use super::Failure;
use super::passwords::{Checked, Passwords};
use super::revocation::Revocations;
use super::throttle::Throttle;
use crate::domain::{
    AccessClaims, AttemptedName, Guess, Network, Password, Timestamp, UserId, Username,
};
use crate::store::{self, Change, Precondition, Redis, Registered, User};

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

/// What became of deleting an own account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deletion {
    /// It is gone, and so are all of its sessions.
    Deleted,
    /// The password is wrong; nothing was changed.
    WrongPassword,
    /// The acting session has ended, or the account has changed or gone meanwhile; nothing was changed.
    ActingSessionGone,
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
            // By an account that was deleted, perhaps, which a failover has brought back.
            registered = self.redis.register_user(&new).await?;
        }
        match registered {
            Registered::Created(created, outbox) => {
                self.revocations.flush(&username, outbox).await?;
                Ok(Registration::Registered(NewUser {
                    id,
                    username,
                    created,
                }))
            }
            Registered::NameTaken { .. } => Ok(Registration::NameTaken),
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

    /// Deletes the account that a token speaks of, if its password is right. Once this has returned [`Deletion::Deleted`], no
    /// replica accepts any of its tokens, and whoever registers the name has another account.
    ///
    /// # Errors
    /// Where the throttle, the hash or the store could not answer.
    pub async fn delete(
        &self,
        claims: &AccessClaims,
        from: Option<Network>,
        password: &Password,
    ) -> Result<Deletion, Failure> {
        let asker = Guess {
            name: AttemptedName::of(claims.username.as_str()),
            from,
        };
        let mut user = None;
        let check = Box::pin(async {
            user = self.of(claims).await?;
            let stored = user.as_ref().map(|user| &user.password);
            self.passwords.check(asker, password, stored).await
        });
        let checked = self.throttle.password(asker, check).await?;
        let Some(user) = user else {
            // The same deletion, decided before and not yet told, must hold before anybody hears that it is done.
            let outbox = self.redis.outbox(&claims.username).await?;
            self.revocations.flush(&claims.username, outbox).await?;
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

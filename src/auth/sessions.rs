//! Sessions: a login opens one, a logout revokes it.

use std::sync::Arc;

use super::Failure;
use super::passwords::{Checked, Passwords};
use super::revocation::{Ended, Revocations, Standing};
use super::throttle::Throttle;
use super::tokens::{Grant, InvalidToken, Tokens};
use crate::domain::{AccessClaims, Guess, Password, SessionId, UserId, Username};
use crate::store::{OpenSession, Opened, Redis, User};

/// Opens, checks and revokes sessions.
#[derive(Debug)]
pub struct Sessions {
    redis: Redis,
    passwords: Arc<Passwords>,
    tokens: Tokens,
    revocations: Arc<Revocations>,
    throttle: Arc<Throttle>,
}

/// What became of a login.
#[derive(Debug)]
pub enum Login {
    /// A session is open.
    In(NewSession),
    /// Wrong name or wrong password, or a disabled account: nobody is told which.
    Refused,
}

/// A session that was just opened.
#[derive(Debug)]
pub struct NewSession {
    /// Its access token.
    pub token: String,
    /// Lifetime of the token in whole seconds.
    pub expires_in: u64,
    /// Whose it is.
    pub user: UserId,
}

impl Sessions {
    /// Keeps sessions in `redis`.
    #[must_use]
    pub fn new(
        redis: Redis,
        passwords: Arc<Passwords>,
        tokens: Tokens,
        revocations: Arc<Revocations>,
        throttle: Arc<Throttle>,
    ) -> Self {
        Self {
            redis,
            passwords,
            tokens,
            revocations,
            throttle,
        }
    }

    /// Logs in. Every refusal takes as long as checking one password. `None` stands for a name or a password that nobody can
    /// have.
    ///
    /// # Errors
    /// Where the hash or the store could not answer.
    pub async fn log_in(
        &self,
        guess: Guess,
        username: Option<Username>,
        password: &Password,
    ) -> Result<Login, Failure> {
        let mut user = None;
        let check = Box::pin(async {
            if let Some(name) = &username {
                user = self.redis.find_user(name).await?;
            }
            user = user.take().filter(|user| !user.disabled);
            let stored = user.as_ref().map(|user| &user.password);
            self.passwords.check(guess, password, stored).await
        });
        match self.throttle.password(guess, check).await? {
            Checked::Wrong => return Ok(Login::Refused),
            Checked::Right => {}
            Checked::RightButOutdated(new) => {
                if let Some(user) = &user {
                    // Somebody else's change of the password is newer than our rehash: then nothing is written.
                    self.redis.replace_password(user, &new).await?;
                }
            }
        }
        match user {
            Some(user) => self.open(&user).await,
            None => Ok(Login::Refused),
        }
    }

    /// Opens a session for a user whose password was verified.
    async fn open(&self, user: &User) -> Result<Login, Failure> {
        let (sid, access_ttl, known) = (
            SessionId::random(),
            self.tokens.ttl(),
            self.revocations.known(user.id),
        );
        match self
            .redis
            .open_session(&OpenSession {
                user,
                sid,
                access_ttl,
                known,
            })
            .await?
        {
            Opened::AccountChanged => Ok(Login::Refused),
            Opened::Open {
                now,
                version,
                roles,
                outbox,
            } => {
                self.revocations.flush(&user.username, outbox).await?;
                // A hash lies between the look at the user and here, and a loss of data may lie between the two stores: what
                // the feed has said meanwhile counts.
                let standing = self.revocations.standing(sid, user.id, version).await;
                if standing.map_err(Failure::Unavailable)? == Standing::Revoked {
                    return Ok(Login::Refused);
                }
                let grant = Grant {
                    user: user.id,
                    username: user.username.clone(),
                    roles,
                    version,
                    sid,
                    issued: now,
                };
                let token = self.tokens.issue(grant).map_err(Failure::Internal)?;
                Ok(Login::In(NewSession {
                    token,
                    expires_in: access_ttl.as_secs(),
                    user: user.id,
                }))
            }
        }
    }

    /// What a token says, if it is valid and its session stands. Costs no round trip.
    ///
    /// # Errors
    /// Where no view of the revocations is fresh enough and none came in time.
    pub async fn authenticate(
        &self,
        token: &str,
    ) -> Result<Result<Arc<AccessClaims>, InvalidToken>, Failure> {
        let Ok(claims) = self.tokens.verify(token) else {
            return Ok(Err(InvalidToken));
        };
        match self
            .revocations
            .standing(claims.sid, claims.sub, claims.ver)
            .await
            .map_err(Failure::Unavailable)?
        {
            Standing::Stands => Ok(Ok(claims)),
            Standing::Revoked => Ok(Err(InvalidToken)),
        }
    }

    /// What a token says, if it is valid, whether or not its session stands. For a logout alone: whoever repeats one that was
    /// not acknowledged holds a token that this replica refuses already.
    ///
    /// # Errors
    /// [`InvalidToken`].
    pub fn recognise(&self, token: &str) -> Result<Arc<AccessClaims>, InvalidToken> {
        self.tokens.verify(token)
    }

    /// Logs out: once this has returned, no replica accepts any token of the session.
    ///
    /// # Errors
    /// Where Redis could not be told in time. Say it again; until then this replica refuses the session's tokens.
    pub async fn log_out(&self, claims: &AccessClaims) -> Result<(), Failure> {
        self.revocations
            .revoke_session(claims, self.tokens.ttl())
            .await
    }

    /// Logs out everywhere: once this has returned [`Ended::All`], no replica accepts any token that was issued before.
    ///
    /// # Errors
    /// Where Redis could not be told in time; the replica goes on trying.
    pub async fn log_out_everywhere(&self, claims: &AccessClaims) -> Result<Ended, Failure> {
        self.revocations.end_all_sessions(claims).await
    }
}

//! Sessions: a login opens one, a logout revokes it. How one is kept open is told in `refresh`.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;

use super::Failure;
use super::passwords::{Checked, Passwords};
use super::refresh_tokens::RefreshTokens;
use super::revocation::{Ended, Revocations, Standing};
use super::throttle::Throttle;
use super::tokens::{Grant, InvalidToken, Tokens};
use crate::domain::{
    AccessClaims, Guess, Origin, Password, RefreshClaims, SessionId, Timestamp, UserId, Username,
};
use crate::store::{OpenSession, Opened, Redis, SessionRecord, User};

/// Opens, checks and revokes sessions.
#[derive(Debug)]
pub struct Sessions {
    pub(super) redis: Redis,
    pub(super) passwords: Arc<Passwords>,
    pub(super) tokens: Tokens,
    pub(super) refresh_tokens: RefreshTokens,
    pub(super) lifetimes: Lifetimes,
    pub(super) revocations: Arc<Revocations>,
    pub(super) throttle: Arc<Throttle>,
}

/// How long sessions last.
#[derive(Debug, Clone, Copy)]
pub struct Lifetimes {
    /// Without a refresh.
    pub idle: Duration,
    /// At most.
    pub longest: Duration,
    /// How long a traded refresh token still has the same successor.
    pub grace: Duration,
}

/// What became of a login.
#[derive(Debug)]
pub enum Login {
    /// A session is open.
    In(NewSession),
    /// Wrong name or wrong password, or a disabled account: nobody is told which.
    Refused,
}

/// The tokens of a session that was just opened or refreshed.
#[derive(Debug)]
pub struct NewSession {
    /// Its access token.
    pub token: String,
    /// Lifetime of the access token in whole seconds.
    pub expires_in: u64,
    /// Its refresh token.
    pub refresh_token: String,
    /// Lifetime of the refresh token in whole seconds.
    pub refresh_expires_in: u64,
    /// The name of the account.
    pub username: Username,
    /// Whose it is.
    pub user: UserId,
}

impl Sessions {
    /// Keeps sessions in `redis`.
    #[must_use]
    pub fn new(
        redis: Redis,
        passwords: Arc<Passwords>,
        (tokens, refresh_tokens): (Tokens, RefreshTokens),
        lifetimes: Lifetimes,
        revocations: Arc<Revocations>,
        throttle: Arc<Throttle>,
    ) -> Self {
        Self {
            redis,
            passwords,
            tokens,
            refresh_tokens,
            lifetimes,
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
        origin: &Origin,
    ) -> Result<Login, Failure> {
        let mut user = None;
        let check = Box::pin(async {
            if let Some(name) = &username {
                user = self.redis.find_user(name).await?;
                if let Some(found) = &user
                    && self.revocations.repair(found).await?
                {
                    user = self.redis.find_user(name).await?;
                }
            } else {
                self.redis.dummy_lookup(guess.name).await?;
            }
            user = user.take().filter(|user| !user.disabled);
            let stored = user.as_ref().map(|user| &user.password);
            self.passwords.check(guess, password, stored).await
        });
        match self.throttle.password(guess, check).await? {
            Checked::Invalid => return Ok(Login::Refused),
            Checked::Valid => {}
            Checked::ValidNeedsRehash(new) => {
                if let Some(user) = &user {
                    // Somebody else's change of the password is newer than our rehash: then nothing is written.
                    self.redis.replace_password(user, &new).await?;
                }
            }
        }
        match user {
            Some(user) => self.open(&user, origin).await,
            None => Ok(Login::Refused),
        }
    }

    /// Opens a session for a user whose password was verified.
    async fn open(&self, user: &User, origin: &Origin) -> Result<Login, Failure> {
        let open = OpenSession {
            user,
            sid: SessionId::random(),
            access_ttl: self.tokens.ttl(),
            idle: self.lifetimes.idle,
            longest: self.lifetimes.longest,
            origin,
            known: self.revocations.known(user.id),
        };
        let Opened::Open {
            now,
            version,
            roles,
            outbox,
            expires,
            evicted,
        } = self.redis.open_session(&open).await?
        else {
            return Ok(Login::Refused);
        };
        self.revocations.flush(&user.username, outbox).await?;
        for sid in evicted {
            self.revocations
                .revoke_session_of(&user.username, sid, self.tokens.ttl())
                .await?;
        }
        let refresh = RefreshClaims {
            user: user.id,
            username: user.username.clone(),
            sid: open.sid,
            number: 1,
        };
        let grant = Grant {
            user: user.id,
            username: user.username.clone(),
            roles,
            version,
            sid: open.sid,
            issued: now,
            ends: now.plus(self.lifetimes.longest),
        };
        let session = self.hand_out(grant, &refresh, expires).await?;
        Ok(session.map_or(Login::Refused, Login::In))
    }

    /// Makes the tokens of a session, unless it was revoked meanwhile. A hash may lie between the look at the user and here,
    /// and a loss of data between the two stores: what the feed has said meanwhile counts.
    pub(super) async fn hand_out(
        &self,
        grant: Grant,
        refresh: &RefreshClaims,
        refresh_expires: Timestamp,
    ) -> Result<Option<NewSession>, Failure> {
        let standing = self
            .revocations
            .standing(grant.sid, grant.user, grant.version);
        if standing.await.map_err(Failure::Unavailable)? == Standing::Revoked {
            return Ok(None);
        }
        let (now, ends) = (grant.issued, grant.ends);
        let expires = now.plus(self.tokens.ttl()).min(ends);
        Ok(Some(NewSession {
            token: self.tokens.issue(grant).map_err(Failure::Internal)?,
            expires_in: expires.since(now).as_secs(),
            refresh_token: self.refresh_tokens.make(refresh),
            refresh_expires_in: refresh_expires.since(now).as_secs(),
            username: refresh.username.clone(),
            user: refresh.user,
        }))
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

    /// Ends the session of an access or a refresh token, and tells whose it was; `None` for what is no token of ours. Once this
    /// has returned, no replica accepts any of its tokens.
    ///
    /// # Errors
    /// Where Redis could not be told in time; the replica goes on trying.
    pub async fn revoke(&self, token: &str) -> Result<Option<(UserId, Username)>, Failure> {
        if let Ok(claims) = self.tokens.verify(token) {
            self.log_out(&claims).await?;
            return Ok(Some((claims.sub, claims.username.clone())));
        }
        let Some(claims) = self.refresh_tokens.recognise(token) else {
            return Ok(None);
        };
        self.revocations
            .revoke_session_of(&claims.username, claims.sid, self.tokens.ttl())
            .await?;
        Ok(Some((claims.user, claims.username)))
    }

    /// Ends all sessions of the token's user but this one: once this has returned, no replica accepts any token of those that
    /// were open when it was asked for. Returns how many there were; `None` where the account is gone.
    ///
    /// # Errors
    /// Where Redis could not be told in time; the replica goes on trying. Some may have ended.
    pub async fn end_others(&self, claims: &AccessClaims) -> Result<Option<usize>, Failure> {
        let Some(sessions) = self.of(claims).await? else {
            return Ok(None);
        };
        let others = sessions.iter().filter(|session| session.sid != claims.sid);
        let ended = others.map(|session| {
            self.revocations
                .revoke_session_of(&claims.username, session.sid, self.tokens.ttl())
        });
        // All at once: each waits for a window.
        let ended = try_join_all(ended).await?;
        Ok(Some(ended.len()))
    }

    /// Logs out everywhere: once this has returned [`Ended::All`], no replica accepts any token that was issued before.
    ///
    /// # Errors
    /// Where Redis could not be told in time; the replica goes on trying.
    pub async fn log_out_everywhere(&self, claims: &AccessClaims) -> Result<Ended, Failure> {
        self.revocations.end_all_sessions(claims).await
    }

    /// The sessions of the token's user, the newest first; `None` where the account is gone.
    ///
    /// # Errors
    /// Where the store could not answer.
    pub async fn of(&self, claims: &AccessClaims) -> Result<Option<Vec<SessionRecord>>, Failure> {
        let user = self.redis.find_user(&claims.username).await?;
        match user.filter(|user| user.id == claims.sub) {
            Some(user) => Ok(Some(self.redis.sessions_of(&user).await?)),
            None => Ok(None),
        }
    }

    /// Ends a session of the token's user: once this has returned `true`, no replica accepts any of its tokens. `false` where
    /// he has no such session.
    ///
    /// # Errors
    /// Where Redis could not be told in time; the replica goes on trying.
    pub async fn end(&self, claims: &AccessClaims, sid: SessionId) -> Result<bool, Failure> {
        if sid == claims.sid {
            return self.log_out(claims).await.map(|()| true);
        }
        let sessions = self.of(claims).await?.unwrap_or_default();
        if !sessions.iter().any(|session| session.sid == sid) {
            return Ok(false);
        }
        self.revocations
            .revoke_session_of(&claims.username, sid, self.tokens.ttl())
            .await?;
        Ok(true)
    }
}

//! Sessions: a login opens one, a logout revokes it. The module `refresh` keeps one open.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;

use super::ServiceError;
use super::passwords::{Checked, Passwords};
use super::rate_limit::RateLimiter;
use super::refresh_tokens::RefreshTokens;
use super::revocation::{Ended, Revocations, TokenStatus};
use super::tokens::{AccessTokenParams, InvalidToken, Tokens};
use crate::domain::{
    AccessClaims, ClientInfo, Guess, Password, RefreshClaims, SessionId, Timestamp, UserId,
    Username,
};
use crate::store::{OpenSession, Opened, Redis, SessionRecord, User};

/// Service that opens, checks and revokes sessions.
#[derive(Debug)]
pub struct Sessions {
    pub(super) redis: Redis,
    pub(super) passwords: Arc<Passwords>,
    pub(super) tokens: Tokens,
    pub(super) refresh_tokens: RefreshTokens,
    pub(super) lifetimes: Lifetimes,
    pub(super) revocations: Arc<Revocations>,
    pub(super) rate_limiter: Arc<RateLimiter>,
}

/// Limits on the lifetime of a session.
#[derive(Debug, Clone, Copy)]
pub struct Lifetimes {
    /// Lifetime without a refresh.
    pub idle: Duration,
    /// Maximum age.
    pub longest: Duration,
    /// Time after a rotation in which the old refresh token still returns the same new one.
    pub grace: Duration,
}

/// Outcome of a login.
#[derive(Debug)]
pub enum LoginOutcome {
    /// A session was opened.
    Authenticated(TokenPair),
    /// Wrong name or wrong password, or a disabled account. The client is not told which.
    Rejected,
}

/// Tokens of a session that was just opened or refreshed.
#[derive(Debug)]
pub struct TokenPair {
    /// The access token.
    pub token: String,
    /// Lifetime of the access token in whole seconds.
    pub expires_in: u64,
    /// The refresh token.
    pub refresh_token: String,
    /// Lifetime of the refresh token in whole seconds.
    pub refresh_expires_in: u64,
    /// The name of the account.
    pub username: Username,
    /// The user the session belongs to.
    pub user: UserId,
}

impl Sessions {
    /// Creates the service for the sessions in `redis`.
    #[must_use]
    pub fn new(
        redis: Redis,
        passwords: Arc<Passwords>,
        (tokens, refresh_tokens): (Tokens, RefreshTokens),
        lifetimes: Lifetimes,
        revocations: Arc<Revocations>,
        rate_limiter: Arc<RateLimiter>,
    ) -> Self {
        Self {
            redis,
            passwords,
            tokens,
            refresh_tokens,
            lifetimes,
            revocations,
            rate_limiter,
        }
    }

    /// Logs a user in. Every rejection takes as long as checking one password. A `username` of `None` stands for a name or a
    /// password that no account can have.
    ///
    /// # Errors
    /// If hashing or the store fails, or a rate limit is reached.
    pub async fn log_in(
        &self,
        guess: Guess,
        username: Option<Username>,
        password: &Password,
        origin: &ClientInfo,
    ) -> Result<LoginOutcome, ServiceError> {
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
        match self.rate_limiter.password(guess, check).await? {
            Checked::Invalid => return Ok(LoginOutcome::Rejected),
            Checked::Valid => {}
            Checked::ValidNeedsRehash(new) => {
                if let Some(user) = &user {
                    // If a concurrent request has changed the password, that is newer than this rehash and nothing is written.
                    self.redis.replace_password(user, &new).await?;
                }
            }
        }
        match user {
            Some(user) => self.open(&user, origin).await,
            None => Ok(LoginOutcome::Rejected),
        }
    }

    /// Opens a session for a user whose password is verified.
    async fn open(&self, user: &User, origin: &ClientInfo) -> Result<LoginOutcome, ServiceError> {
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
            return Ok(LoginOutcome::Rejected);
        };
        self.revocations
            .publish_pending(&user.username, outbox)
            .await?;
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
        let params = AccessTokenParams {
            user: user.id,
            username: user.username.clone(),
            roles,
            version,
            sid: open.sid,
            issued: now,
            ends: now.plus(self.lifetimes.longest),
        };
        let session = self.issue_tokens(params, &refresh, expires).await?;
        Ok(session.map_or(LoginOutcome::Rejected, LoginOutcome::Authenticated))
    }

    /// Issues the tokens of a session, unless it is revoked. Hashing takes time, and Redis may lose data between two commands:
    /// check the revocations once more.
    pub(super) async fn issue_tokens(
        &self,
        params: AccessTokenParams,
        refresh: &RefreshClaims,
        refresh_expires: Timestamp,
    ) -> Result<Option<TokenPair>, ServiceError> {
        let status = self
            .revocations
            .token_status(params.sid, params.user, params.version);
        if status.await.map_err(ServiceError::Unavailable)? == TokenStatus::Revoked {
            return Ok(None);
        }
        let (now, ends) = (params.issued, params.ends);
        let expires = now.plus(self.tokens.ttl()).min(ends);
        Ok(Some(TokenPair {
            token: self.tokens.issue(params).map_err(ServiceError::Internal)?,
            expires_in: expires.since(now).as_secs(),
            refresh_token: self.refresh_tokens.encode(refresh),
            refresh_expires_in: refresh_expires.since(now).as_secs(),
            username: refresh.username.clone(),
            user: refresh.user,
        }))
    }

    /// Returns the claims of a token if it is valid and its session is not revoked. Costs no round trip.
    ///
    /// # Errors
    /// If no fresh view of the revocations came in time.
    pub async fn authenticate(
        &self,
        token: &str,
    ) -> Result<Result<Arc<AccessClaims>, InvalidToken>, ServiceError> {
        let Ok(claims) = self.tokens.verify(token) else {
            return Ok(Err(InvalidToken));
        };
        match self
            .revocations
            .token_status(claims.sid, claims.sub, claims.ver)
            .await
            .map_err(ServiceError::Unavailable)?
        {
            TokenStatus::Active => Ok(Ok(claims)),
            TokenStatus::Revoked => Ok(Err(InvalidToken)),
        }
    }

    /// Returns the claims of a token if it is valid, even if its session is revoked. Only for a logout: a client that repeats a
    /// logout that was not acknowledged sends a token that this replica rejects already.
    ///
    /// # Errors
    /// [`InvalidToken`].
    pub fn verify_signature(&self, token: &str) -> Result<Arc<AccessClaims>, InvalidToken> {
        self.tokens.verify(token)
    }

    /// Logs out: once this has returned, no replica accepts any token of the session.
    ///
    /// # Errors
    /// If Redis does not answer in time. Call again; until then this replica alone rejects the session's tokens.
    pub async fn log_out(&self, claims: &AccessClaims) -> Result<(), ServiceError> {
        self.revocations
            .revoke_session(claims, self.tokens.ttl())
            .await
    }

    /// Revokes the session of an access or a refresh token, and returns its user; `None` if the token was not issued here. Once
    /// this has returned, no replica accepts any token of the session.
    ///
    /// # Errors
    /// If Redis does not answer in time; the replica keeps trying.
    pub async fn revoke_by_token(
        &self,
        token: &str,
    ) -> Result<Option<(UserId, Username)>, ServiceError> {
        if let Ok(claims) = self.tokens.verify(token) {
            self.log_out(&claims).await?;
            return Ok(Some((claims.sub, claims.username.clone())));
        }
        let Some(claims) = self.refresh_tokens.verify_signature(token) else {
            return Ok(None);
        };
        self.revocations
            .revoke_session_of(&claims.username, claims.sid, self.tokens.ttl())
            .await?;
        Ok(Some((claims.user, claims.username)))
    }

    /// Revokes all sessions of the token's user except this one: once this has returned, no replica accepts any token of the
    /// sessions that were open at the call. Returns their number; `None` if the account is gone.
    ///
    /// # Errors
    /// If Redis does not answer in time; the replica keeps trying. Some sessions may be revoked then.
    pub async fn revoke_others(
        &self,
        claims: &AccessClaims,
    ) -> Result<Option<usize>, ServiceError> {
        let Some(sessions) = self.list_for(claims).await? else {
            return Ok(None);
        };
        let others = sessions.iter().filter(|session| session.sid != claims.sid);
        let ended = others.map(|session| {
            self.revocations
                .revoke_session_of(&claims.username, session.sid, self.tokens.ttl())
        });
        // Concurrently: each revocation waits for a window.
        let ended = try_join_all(ended).await?;
        Ok(Some(ended.len()))
    }

    /// Logs out everywhere: once this has returned [`Ended::All`], no replica accepts any token that was issued before.
    ///
    /// # Errors
    /// If Redis does not answer in time; the replica keeps trying.
    pub async fn log_out_everywhere(&self, claims: &AccessClaims) -> Result<Ended, ServiceError> {
        self.revocations.end_all_sessions(claims).await
    }

    /// Returns the sessions of the token's user, the newest first; `None` if the account is gone.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn list_for(
        &self,
        claims: &AccessClaims,
    ) -> Result<Option<Vec<SessionRecord>>, ServiceError> {
        let user = self.redis.find_user(&claims.username).await?;
        match user.filter(|user| user.id == claims.sub) {
            Some(user) => Ok(Some(self.redis.sessions_of(&user).await?)),
            None => Ok(None),
        }
    }

    /// Revokes a session of the token's user: once this has returned `true`, no replica accepts any of its tokens. Returns
    /// `false` if the user has no such session.
    ///
    /// # Errors
    /// If Redis does not answer in time; the replica keeps trying.
    pub async fn revoke(
        &self,
        claims: &AccessClaims,
        sid: SessionId,
    ) -> Result<bool, ServiceError> {
        if sid == claims.sid {
            return self.log_out(claims).await.map(|()| true);
        }
        let sessions = self.list_for(claims).await?.unwrap_or_default();
        if !sessions.iter().any(|session| session.sid == sid) {
            return Ok(false);
        }
        self.revocations
            .revoke_session_of(&claims.username, sid, self.tokens.ttl())
            .await?;
        Ok(true)
    }
}

//! Password change: once it is answered, an attacker who knows the old password is logged out.
//!
//! The current password is required, so that a stolen token is not enough. All other sessions end. The calling session goes on
//! with new tokens, because its old ones are rejected like all that were issued before.

use super::passwords::Checked;
use super::sessions::{Sessions, TokenPair};
use super::tokens::AccessTokenParams;
use super::{ServiceError, Unavailable};
use crate::domain::{AccessClaims, Guess, Password, PasswordRule, RefreshClaims};
use crate::store::{ChangePassword, RotatedToken, Written};

/// Maximum number of attempts if concurrent logins rehash the same password.
const ATTEMPTS: usize = 3;

/// Outcome of a password change.
#[derive(Debug)]
pub enum PasswordChange {
    /// The password is changed. No replica accepts any token that was issued before; holds new ones for this session.
    Changed(TokenPair),
    /// The current password is wrong.
    Wrong,
    /// The new password breaks a rule.
    Breaks(PasswordRule),
    /// The calling session has ended, or the account is gone.
    SessionGone,
}

impl Sessions {
    /// Changes the password of the token's user. A `current` of `None` stands for input that no account can have as its password.
    ///
    /// # Errors
    /// If a rate limit is reached, or hashing or the store does not finish in time. The password may be changed then.
    pub async fn change_password(
        &self,
        claims: &AccessClaims,
        guess: Guess,
        current: Option<&Password>,
        new: &Password,
    ) -> Result<PasswordChange, ServiceError> {
        let judged = self
            .passwords
            .check_policy(guess, new, claims.username.as_str());
        if let Some(rule) = judged.await? {
            return Ok(PasswordChange::Breaks(rule));
        }
        let Some(current) = current else {
            return Ok(PasswordChange::Wrong);
        };
        for _ in 0..ATTEMPTS {
            let user = self.redis.find_user(&claims.username).await?;
            let Some(user) = user.filter(|user| user.id == claims.sub) else {
                return Ok(PasswordChange::SessionGone);
            };
            let check = self.passwords.check(guess, current, Some(&user.password));
            if let Checked::Invalid = self.rate_limiter.password(guess, check).await? {
                return Ok(PasswordChange::Wrong);
            }
            let change = ChangePassword {
                new: self.passwords.hash(guess, new).await?,
                user,
                acting: claims.sid,
                known: self.revocations.known(claims.sub),
                access_ttl: self.tokens.ttl(),
                idle: self.lifetimes.idle,
            };
            let redis = self.redis.clone();
            let decided = async move { redis.change_password(&change).await };
            let name = claims.username.clone();
            match self.revocations.publish_outcome(name, decided).await? {
                Written::Done(successor) => {
                    return self.issue_after_change(claims, *successor).await;
                }
                Written::SessionGone => return Ok(PasswordChange::SessionGone),
                Written::HashChanged => {}
            }
        }
        Err(ServiceError::Unavailable(Unavailable::Deadline))
    }

    /// Issues new tokens for the session that has changed the password.
    async fn issue_after_change(
        &self,
        claims: &AccessClaims,
        successor: RotatedToken,
    ) -> Result<PasswordChange, ServiceError> {
        let refresh = RefreshClaims {
            user: claims.sub,
            username: claims.username.clone(),
            sid: claims.sid,
            number: successor.sequence,
        };
        let params = AccessTokenParams {
            user: claims.sub,
            username: claims.username.clone(),
            roles: successor.roles,
            version: successor.version,
            sid: claims.sid,
            issued: successor.now,
            ends: successor.ends,
        };
        let session = self
            .issue_tokens(params, &refresh, successor.expires)
            .await?;
        Ok(session.map_or(PasswordChange::SessionGone, PasswordChange::Changed))
    }
}

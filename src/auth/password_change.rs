//! Changing one's password: whoever has learned the old one is out when that is answered.
//!
//! The current password is asked for, so that a token that was left lying around does not suffice. All other sessions end;
//! the one that asks goes on with new tokens, because those it had are refused like all earlier ones.

use super::passwords::Checked;
use super::sessions::{NewSession, Sessions};
use super::tokens::Grant;
use super::{Failure, Unavailable};
use crate::domain::{AccessClaims, Guess, Password, PasswordRule, RefreshClaims};
use crate::store::{ChangePassword, RotatedToken, Written};

/// How often it is tried where a login hashes the same password anew meanwhile.
const ATTEMPTS: usize = 3;

/// What became of changing a password.
#[derive(Debug)]
pub enum PasswordChange {
    /// It is the new one. No replica accepts any token that was issued before; here are new ones for this session.
    Changed(NewSession),
    /// The current password is wrong.
    Wrong,
    /// The new password breaks a rule.
    Breaks(PasswordRule),
    /// The session that asks has ended, or the account is gone.
    SessionGone,
}

impl Sessions {
    /// Changes the password of the token's user. A current password that nobody can have is `None`.
    ///
    /// # Errors
    /// Where a hash or the store could not answer in time. The password may be the new one then.
    pub async fn change_password(
        &self,
        claims: &AccessClaims,
        guess: Guess,
        current: Option<&Password>,
        new: &Password,
    ) -> Result<PasswordChange, Failure> {
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
            if let Checked::Invalid = self.throttle.password(guess, check).await? {
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
            match self.revocations.carry(name, decided).await? {
                Written::Done(successor) => return self.go_on(claims, *successor).await,
                Written::SessionGone => return Ok(PasswordChange::SessionGone),
                Written::HashChanged => {}
            }
        }
        Err(Failure::Unavailable(Unavailable::Deadline))
    }

    /// The session that has changed the password goes on.
    async fn go_on(
        &self,
        claims: &AccessClaims,
        successor: RotatedToken,
    ) -> Result<PasswordChange, Failure> {
        let refresh = RefreshClaims {
            user: claims.sub,
            username: claims.username.clone(),
            sid: claims.sid,
            number: successor.sequence,
        };
        let grant = Grant {
            user: claims.sub,
            username: claims.username.clone(),
            roles: successor.roles,
            version: successor.version,
            sid: claims.sid,
            issued: successor.now,
            ends: successor.ends,
        };
        let session = self.hand_out(grant, &refresh, successor.expires).await?;
        Ok(session.map_or(PasswordChange::SessionGone, PasswordChange::Changed))
    }
}

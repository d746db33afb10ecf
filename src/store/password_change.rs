//! Change of a password, in one script with the end of all other sessions.

use std::sync::LazyLock;
use std::time::Duration;

use redis::Script;

use super::connection::{Redis, StoreError};
use super::entries::Entry;
use super::refresh::{RotatedToken, RotationKind, read, successor};
use super::sessions::{MARGIN, RevocationFloor};
use super::users::User;
use crate::config::MAX_ACCESS_TTL;
use crate::domain::{PasswordHash, SessionId};

/// Request to change a password.
#[derive(Debug)]
pub struct ChangePassword {
    /// User as read when the current password was verified.
    pub user: User,
    /// Session that asks for the change, which continues.
    pub acting: SessionId,
    /// Hash of the new password.
    pub new: PasswordHash,
    /// Minimums that the feed has published for the user.
    pub known: RevocationFloor,
    /// Lifetime of access tokens.
    pub access_ttl: Duration,
    /// Lifetime of refresh tokens.
    pub idle: Duration,
}

/// Outcome of a password change.
#[derive(Debug)]
pub enum Written {
    /// The password was changed, and the acting session continues with this refresh token.
    Done(Box<RotatedToken>),
    /// The acting session is no longer valid, or the account is another one by now.
    SessionGone,
    /// The stored hash is no longer the verified one: the password has changed, or a login has hashed the same password
    /// again.
    HashChanged,
}

static CHANGE: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/change_password.lua")));

impl Redis {
    /// Changes a password. Returns the outcome and the entries to append to the feed before the caller gets an answer.
    ///
    /// # Errors
    /// If the store cannot answer. The password may have been changed nevertheless.
    pub async fn change_password(
        &self,
        change: &ChangePassword,
    ) -> Result<(Written, Vec<Entry>), StoreError> {
        let (user, name) = (&change.user, &change.user.username);
        let keys = [
            self.keys().user(name),
            self.keys().session(name.tag(), change.acting),
            self.keys().sessions(name),
            self.keys().outbox(name),
        ];
        let args = [
            user.id.to_string(),
            user.password.to_string(),
            change.new.to_string(),
            name.to_string(),
            change.acting.to_string(),
            change.known.version.to_string(),
            change.access_ttl.as_millis().to_string(),
            change.idle.as_millis().to_string(),
            (MAX_ACCESS_TTL + MARGIN).as_millis().to_string(),
        ];
        let mut answer: Vec<redis::Value> = self.script(&CHANGE, &keys, &args).await?;
        if answer.len() < 2 {
            return Err(StoreError::unexpected("change_password"));
        }
        let rest = answer.split_off(2);
        let (changed, outbox): (u8, Vec<String>) = read(redis::Value::Array(answer))?;
        let written = match changed {
            1 => Written::Done(Box::new(successor(RotationKind::Rotated, rest)?)),
            2 => Written::HashChanged,
            _ => Written::SessionGone,
        };
        Ok((written, Entry::parse_all(&outbox)?))
    }
}

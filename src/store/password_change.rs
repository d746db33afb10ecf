//! Writing a new password, in one script with the end of all other sessions.

use std::sync::LazyLock;
use std::time::Duration;

use redis::Script;

use super::connection::{Redis, StoreError};
use super::entries::Entry;
use super::refresh::{Succession, Successor, read, successor};
use super::sessions::{Known, MARGIN};
use super::users::User;
use crate::config::MAX_ACCESS_TTL;
use crate::domain::{PasswordHash, SessionId};

/// A new password to write.
#[derive(Debug)]
pub struct ChangePassword {
    /// The user as seen when the current password was verified.
    pub user: User,
    /// The session that acts, which goes on.
    pub acting: SessionId,
    /// The hash of the new password.
    pub new: PasswordHash,
    /// What the feed knows of the user.
    pub known: Known,
    /// Lifetime of access tokens.
    pub access_ttl: Duration,
    /// Lifetime of refresh tokens.
    pub idle: Duration,
}

/// What became of writing a new password.
#[derive(Debug)]
pub enum Written {
    /// It is the new one, and the acting session goes on with this.
    Done(Box<Successor>),
    /// The acting session does not stand, or the account is another by now.
    SessionGone,
    /// The stored hash is not the one that was verified: of another password, or of the same one, hashed anew by a login.
    Outrun,
}

static CHANGE: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/change_password.lua")));

impl Redis {
    /// Writes a new password. With what became of it comes what the feed has to be told before anyone is answered.
    ///
    /// # Errors
    /// Where the store cannot answer; the password may be the new one all the same.
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
            1 => Written::Done(Box::new(successor(Succession::Rotated, rest)?)),
            2 => Written::Outrun,
            _ => Written::SessionGone,
        };
        Ok((written, Entry::parse_all(&outbox)?))
    }
}

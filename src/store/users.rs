//! Users: one hash each, for ever.

use std::sync::LazyLock;

use redis::Script;

use super::connection::{Redis, StoreError};
use super::entries::Entry;
use crate::domain::{PasswordHash, Role, Timestamp, UserId, Username};

/// A user as stored.
#[derive(Debug, Clone)]
pub struct User {
    /// Identity, never used again for another account.
    pub id: UserId,
    /// Name.
    pub username: Username,
    /// Hash of the password.
    pub password: PasswordHash,
    /// Roles.
    pub roles: Vec<Role>,
    /// Whether an administrator has disabled the account.
    pub disabled: bool,
    /// Tokens of a lower version are refused.
    pub version: u64,
    /// Sessions opened under a lower version are void; a verb that follows a look at the user names what it saw.
    pub sessions_from: u64,
    /// When the account was created.
    pub created: Timestamp,
}

/// What became of a registration.
#[derive(Debug)]
pub enum Registered {
    /// The account exists now, created at that time. The entries were left in the name's outbox by an earlier account and
    /// must be appended to the feed before anyone is answered.
    Created(Timestamp, Vec<Entry>),
    /// Somebody has the name.
    NameTaken,
}

static REGISTER: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/register_user.lua")));
static REPLACE_PASSWORD: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/replace_password.lua")));

impl Redis {
    /// Creates a user, unless the name is taken. Of any number of attempts at the same instant one succeeds.
    ///
    /// # Errors
    /// Where the store cannot answer; the account may exist all the same.
    pub async fn register_user(
        &self,
        id: UserId,
        name: &Username,
        password: &PasswordHash,
    ) -> Result<Registered, StoreError> {
        let keys = [self.keys().user(name), self.keys().outbox(name)];
        let args = [id.to_string(), name.to_string(), password.to_string()];
        let answer: (u8, Option<u64>, Option<Vec<String>>) =
            match self.script(&REGISTER, &keys, &args).await? {
                redis::Value::Array(parts) if parts.len() == 1 => (0, None, None),
                other => redis::from_redis_value(other)
                    .map_err(|_| StoreError::unexpected("register_user"))?,
            };
        match answer {
            (1, Some(created), Some(outbox)) => Ok(Registered::Created(
                Timestamp::from_millis(created),
                Entry::parse_all(&outbox)?,
            )),
            _ => Ok(Registered::NameTaken),
        }
    }

    /// The user of that name.
    ///
    /// # Errors
    /// Where the store cannot answer, or what it holds is not a user.
    pub async fn find_user(&self, name: &Username) -> Result<Option<User>, StoreError> {
        const FIELDS: [&str; 8] = [
            "id",
            "username",
            "password",
            "roles",
            "disabled",
            "version",
            "sessions_from",
            "created",
        ];
        let key = self.keys().user(name);
        let fields: Vec<Option<String>> = self
            .run(async |connection| {
                redis::cmd("HMGET")
                    .arg(&key)
                    .arg(&FIELDS)
                    .query_async(connection)
                    .await
            })
            .await?;
        let Ok(
            [
                id,
                username,
                password,
                roles,
                disabled,
                version,
                sessions_from,
                created,
            ],
        ) = <[_; 8]>::try_from(fields)
        else {
            return Err(StoreError::unexpected("fields of a user"));
        };
        let Some(id) = id else { return Ok(None) };
        let record = || -> Option<User> {
            Some(User {
                id: id.parse().ok()?,
                username: username?.parse().ok()?,
                password: password?.parse().ok()?,
                roles: parse_roles(&roles?)?,
                disabled: disabled? != "0",
                version: version?.parse().ok()?,
                sessions_from: sessions_from?.parse().ok()?,
                created: Timestamp::from_millis(created?.parse().ok()?),
            })
        };
        // A record that was tampered with is no user of ours, and no reason to fall over.
        record()
            .map(Some)
            .ok_or_else(|| StoreError::refused(format!("the record of user {name} is damaged")))
    }

    /// Writes a new hash of the same password over the very one that was verified. `false` where the account or its
    /// password has changed meanwhile; nothing is written then.
    ///
    /// # Errors
    /// Where the store cannot answer.
    pub async fn replace_password(
        &self,
        seen: &User,
        new: &PasswordHash,
    ) -> Result<bool, StoreError> {
        let args = [
            seen.id.to_string(),
            seen.password.to_string(),
            new.to_string(),
        ];
        let written: u8 = self
            .script(
                &REPLACE_PASSWORD,
                &[self.keys().user(&seen.username)],
                &args,
            )
            .await?;
        Ok(written == 1)
    }
}

/// Roles are stored as one text, separated by commas.
pub(super) fn parse_roles(text: &str) -> Option<Vec<Role>> {
    text.split(',')
        .filter(|role| !role.is_empty())
        .map(|role| role.parse().ok())
        .collect()
}

/// Roles as they are stored: each once, in alphabetical order, so that the same roles are the same text.
pub(super) fn write_roles(roles: &[Role]) -> String {
    let mut words: Vec<_> = roles.iter().map(Role::as_str).collect();
    words.sort_unstable();
    words.dedup();
    words.join(",")
}

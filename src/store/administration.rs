//! Changes to an account that take its tokens away, each decided in one script in the user's slot.

use std::sync::LazyLock;

use redis::Script;

use super::connection::{Redis, StoreError};
use super::entries::Entry;
use super::sessions::{Decided, Known, MARGIN};
use super::users::{User, write_roles};
use crate::config::MAX_ACCESS_TTL;
use crate::domain::{Role, SessionId, UserId, Username};

/// What is to become of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// What is given is set. Disabling ends all sessions; new roles refuse the old tokens and keep the sessions.
    Set {
        /// Whether the account is disabled.
        disabled: Option<bool>,
        /// Its roles.
        roles: Option<Vec<Role>>,
    },
    /// All of its sessions end.
    EndSessions,
    /// It is deleted.
    Delete,
}

/// What must still hold of an account when it is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Which account it is: the name may be another's by now.
    pub id: UserId,
    /// Nothing that raises the version has happened.
    pub version: Option<u64>,
    /// Its password is the same, and nothing has ended its sessions.
    pub sessions_from: Option<u64>,
    /// The session of the account's own that asks for the change stands.
    pub acting: Option<SessionId>,
}

impl Seen {
    /// The account as an administrator has seen it.
    #[must_use]
    pub fn by_administrator(user: &User) -> Self {
        Self {
            id: user.id,
            version: Some(user.version),
            sessions_from: None,
            acting: None,
        }
    }

    /// The account whose password was verified, and the session in which it was typed.
    #[must_use]
    pub fn by_owner(user: &User, acting: SessionId) -> Self {
        Self {
            id: user.id,
            version: None,
            sessions_from: Some(user.sessions_from),
            acting: Some(acting),
        }
    }
}

static CHANGE: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/change_user.lua")));

impl Redis {
    /// Decides a change of an account, unless the account is no longer as it was seen.
    ///
    /// # Errors
    /// Where the store cannot answer; the decision may stand all the same.
    pub async fn change_user(
        &self,
        name: &Username,
        seen: Seen,
        change: &Change,
        known: Known,
    ) -> Result<Decided, StoreError> {
        let mut keys = vec![
            self.keys().user(name),
            self.keys().sessions(name),
            self.keys().outbox(name),
        ];
        keys.extend(seen.acting.map(|sid| self.keys().session(name.tag(), sid)));
        let number = |number: Option<u64>| number.map_or_else(String::new, |it| it.to_string());
        let (verb, disabled, roles) = match change {
            Change::Set { disabled, roles } => ("set", *disabled, roles.as_deref()),
            Change::EndSessions => ("end", None, None),
            Change::Delete => ("delete", None, None),
        };
        let args = [
            seen.id.to_string(),
            number(seen.version),
            number(seen.sessions_from),
            name.to_string(),
            known.version.to_string(),
            known.sessions_from.to_string(),
            (MAX_ACCESS_TTL + MARGIN).as_millis().to_string(),
            verb.to_owned(),
            number(disabled.map(u64::from)),
            u8::from(roles.is_some()).to_string(),
            write_roles(roles.unwrap_or_default()),
        ];
        let (decided, outbox): (u8, Vec<String>) = self.script(&CHANGE, &keys, &args).await?;
        Ok(Decided {
            revoked: decided == 1,
            outbox: Entry::parse_all(&outbox)?,
        })
    }
}

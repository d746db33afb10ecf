//! Changes of an account that revoke its tokens, each decided by one script in the user's slot.

use std::sync::LazyLock;

use redis::Script;

use super::connection::{Redis, StoreError};
use super::entries::Entry;
use super::sessions::{MARGIN, RevocationFloor, RevocationResult};
use super::users::{User, write_roles};
use crate::config::MAX_ACCESS_TTL;
use crate::domain::{Role, SessionId, UserId, Username};

/// Change of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Sets the given properties. Disabling ends all sessions; new roles refuse the old tokens and keep the sessions.
    Set {
        /// New state: true to disable the account.
        disabled: Option<bool>,
        /// New roles.
        roles: Option<Vec<Role>>,
    },
    /// Ends all sessions of the account.
    EndSessions,
    /// Deletes the account.
    Delete,
}

/// Preconditions of a change: properties of the account that must still hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Precondition {
    /// Id of the account: another account may have the name by now.
    pub id: UserId,
    /// Version of the account, if nothing may have raised it.
    pub version: Option<u64>,
    /// `min_session_version` of the account, if its password must be the same and nothing may have ended its sessions.
    pub min_session_version: Option<u64>,
    /// Session of the account's owner that asks for the change, which must still be valid.
    pub acting: Option<SessionId>,
}

impl Precondition {
    /// Requires the account to be as an administrator has read it.
    #[must_use]
    pub fn by_administrator(user: &User) -> Self {
        Self {
            id: user.id,
            version: Some(user.version),
            min_session_version: None,
            acting: None,
        }
    }

    /// Requires the account whose password was verified, and the session in which the owner entered it.
    #[must_use]
    pub fn by_owner(user: &User, acting: SessionId) -> Self {
        Self {
            id: user.id,
            version: None,
            min_session_version: Some(user.min_session_version),
            acting: Some(acting),
        }
    }
}

static CHANGE: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/change_user.lua")));

impl Redis {
    /// Changes an account, unless it no longer meets the preconditions.
    ///
    /// # Errors
    /// If the store cannot answer. The decision may hold nevertheless.
    pub async fn change_user(
        &self,
        name: &Username,
        seen: Precondition,
        change: &Change,
        known: RevocationFloor,
    ) -> Result<RevocationResult, StoreError> {
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
            number(seen.min_session_version),
            name.to_string(),
            known.version.to_string(),
            known.min_session_version.to_string(),
            (MAX_ACCESS_TTL + MARGIN).as_millis().to_string(),
            verb.to_owned(),
            number(disabled.map(u64::from)),
            u8::from(roles.is_some()).to_string(),
            write_roles(roles.unwrap_or_default()),
        ];
        let (decided, outbox): (u8, Vec<String>) = self.script(&CHANGE, &keys, &args).await?;
        Ok(RevocationResult {
            revoked: decided == 1,
            outbox: Entry::parse_all(&outbox)?,
        })
    }
}

//! Trading a refresh token for its successor, in one script on Redis' time.

use std::sync::LazyLock;
use std::time::Duration;

use redis::{FromRedisValue, Script, Value};

use super::connection::{Redis, StoreError};
use super::entries::{Entry, SessionEntry};
use super::sessions::{Known, MARGIN};
use super::users::parse_roles;
use crate::domain::{RefreshClaims, Role, Timestamp};

/// A refresh token to trade, whose MAC was checked.
#[derive(Debug)]
pub struct Rotate<'a> {
    /// What the token says.
    pub token: &'a RefreshClaims,
    /// What the feed knows of the user.
    pub known: Known,
    /// Lifetime of access tokens.
    pub access_ttl: Duration,
    /// Lifetime of refresh tokens.
    pub idle: Duration,
    /// For how long after a rotation the token before is answered with the same successor.
    pub grace: Duration,
}

/// What became of a refresh token, and what the feed has to be told before anyone is answered.
#[derive(Debug)]
pub struct Rotated {
    /// What became of it.
    pub outcome: Rotation,
    /// Entries found in the user's outbox.
    pub outbox: Vec<Entry>,
}

/// What became of a refresh token.
#[derive(Debug)]
pub enum Rotation {
    /// It has a successor.
    Successor(Successor),
    /// It was traded long ago: somebody has a copy, and the session is revoked.
    Reused,
    /// Its session has ended, or is nobody's.
    Refused,
}

/// The successor of a refresh token.
#[derive(Debug)]
pub struct Successor {
    /// How it came about.
    pub how: Succession,
    /// Its number.
    pub number: u64,
    /// When, by Redis' clock.
    pub now: Timestamp,
    /// The user's version.
    pub version: u64,
    /// The user's roles.
    pub roles: Vec<Role>,
    /// When it expires.
    pub expires: Timestamp,
    /// When the session ends in any case.
    pub ends: Timestamp,
}

/// How a successor came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Succession {
    /// The current token was traded.
    Rotated,
    /// The one before it was traded once more, within the grace: the successor is the same.
    Repeated,
    /// A token was traded that is newer than what the store knows: a loss of data has undone its rotation.
    Resynchronised,
}

static ROTATE: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/rotate_session.lua")));

impl Redis {
    /// Trades a refresh token.
    ///
    /// # Errors
    /// Where the store cannot answer; the token may have been traded all the same, and the same one gives the same successor
    /// within the grace.
    pub async fn rotate_session(&self, rotate: &Rotate<'_>) -> Result<Rotated, StoreError> {
        let token = rotate.token;
        let (name, tag) = (&token.username, token.username.tag());
        let keys = [
            self.keys().user(name),
            self.keys().session(tag, token.sid),
            self.keys().sessions(name),
            self.keys().outbox(name),
        ];
        let args = [
            token.user.to_string(),
            token.number.to_string(),
            token.sid.to_string(),
            rotate.access_ttl.as_millis().to_string(),
            rotate.known.version.to_string(),
            rotate.known.sessions_from.to_string(),
            rotate.idle.as_millis().to_string(),
            rotate.grace.as_millis().to_string(),
            SessionEntry::undated(tag, token.sid),
            MARGIN.as_millis().to_string(),
        ];
        let mut answer: Vec<Value> = self.script(&ROTATE, &keys, &args).await?;
        if answer.len() < 2 {
            return Err(StoreError::unexpected("rotate_session"));
        }
        let rest = answer.split_off(2);
        let (outcome, outbox): (u8, Vec<String>) = read(Value::Array(answer))?;
        let how = match outcome {
            0 => None,
            1 => Some(Succession::Rotated),
            2 => Some(Succession::Repeated),
            3 => Some(Succession::Resynchronised),
            4 => {
                return Ok(Rotated {
                    outcome: Rotation::Reused,
                    outbox: Entry::parse_all(&outbox)?,
                });
            }
            _ => return Err(StoreError::unexpected("rotate_session")),
        };
        let outcome = match how {
            None => Rotation::Refused,
            Some(how) => Rotation::Successor(successor(how, rest)?),
        };
        Ok(Rotated {
            outcome,
            outbox: Entry::parse_all(&outbox)?,
        })
    }
}

pub(super) fn successor(how: Succession, answer: Vec<Value>) -> Result<Successor, StoreError> {
    let (number, now, version, roles, expires, ends): (u64, u64, u64, String, u64, u64) =
        read(Value::Array(answer))?;
    Ok(Successor {
        how,
        number,
        now: Timestamp::from_millis(now),
        version,
        roles: parse_roles(&roles).ok_or(StoreError::unexpected("roles"))?,
        expires: Timestamp::from_millis(expires),
        ends: Timestamp::from_millis(ends),
    })
}

pub(super) fn read<T: FromRedisValue>(value: Value) -> Result<T, StoreError> {
    redis::from_redis_value(value).map_err(|_| StoreError::unexpected("rotate_session"))
}

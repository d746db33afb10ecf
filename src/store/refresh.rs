//! Rotation of refresh tokens, in one script on Redis' time.

use std::sync::LazyLock;
use std::time::Duration;

use redis::{FromRedisValue, Script, Value};

use super::connection::{Redis, StoreError};
use super::entries::{Entry, SessionEntry};
use super::sessions::{MARGIN, RevocationFloor};
use super::users::parse_roles;
use crate::domain::{RefreshClaims, Role, Timestamp};

/// Request to rotate a refresh token whose MAC was verified.
#[derive(Debug)]
pub struct RotateRequest<'a> {
    /// Claims of the token.
    pub token: &'a RefreshClaims,
    /// Minimums that the feed has published for the user.
    pub known: RevocationFloor,
    /// Lifetime of access tokens.
    pub access_ttl: Duration,
    /// Lifetime of refresh tokens.
    pub idle: Duration,
    /// Time after a rotation in which the previous token is answered with the same successor.
    pub grace: Duration,
}

/// Outcome of a rotation, and the entries to append to the feed before the caller gets an answer.
#[derive(Debug)]
pub struct RotateResponse {
    /// Outcome of the rotation.
    pub outcome: RotationOutcome,
    /// Entries of the user's outbox.
    pub outbox: Vec<Entry>,
}

/// Outcome of a rotation.
#[derive(Debug)]
pub enum RotationOutcome {
    /// The token was exchanged for a successor.
    Rotated(RotatedToken),
    /// The token was rotated long ago: another client has a copy, and the session is revoked.
    Reused,
    /// The session has ended, or does not exist.
    Refused,
}

/// Successor of a refresh token.
#[derive(Debug)]
pub struct RotatedToken {
    /// Kind of the rotation.
    pub kind: RotationKind,
    /// Sequence number in the session.
    pub sequence: u64,
    /// Time of the rotation by Redis' clock.
    pub now: Timestamp,
    /// Version of the user.
    pub version: u64,
    /// Roles of the user.
    pub roles: Vec<Role>,
    /// Expiry of the refresh token.
    pub expires: Timestamp,
    /// Time at which the session ends in any case.
    pub ends: Timestamp,
}

/// Kind of a rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RotationKind {
    /// The current token was exchanged.
    Rotated,
    /// The previous token was presented again within the grace: the successor is the same.
    Repeated,
    /// The token is newer than the stored number: a loss of data has undone its rotation.
    Resynchronised,
}

static ROTATE: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/rotate_session.lua")));

impl Redis {
    /// Rotates a refresh token.
    ///
    /// # Errors
    /// If the store cannot answer. The token may have been rotated nevertheless; within the grace the same token gives
    /// the same successor.
    pub async fn rotate_session(
        &self,
        rotate: &RotateRequest<'_>,
    ) -> Result<RotateResponse, StoreError> {
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
            rotate.known.min_session_version.to_string(),
            rotate.idle.as_millis().to_string(),
            rotate.grace.as_millis().to_string(),
            SessionEntry::entry_prefix(tag, token.sid),
            MARGIN.as_millis().to_string(),
        ];
        let mut answer: Vec<Value> = self.script(&ROTATE, &keys, &args).await?;
        if answer.len() < 2 {
            return Err(StoreError::unexpected("rotate_session"));
        }
        let rest = answer.split_off(2);
        let (outcome, outbox): (u8, Vec<String>) = read(Value::Array(answer))?;
        let kind = match outcome {
            0 => None,
            1 => Some(RotationKind::Rotated),
            2 => Some(RotationKind::Repeated),
            3 => Some(RotationKind::Resynchronised),
            4 => {
                return Ok(RotateResponse {
                    outcome: RotationOutcome::Reused,
                    outbox: Entry::parse_all(&outbox)?,
                });
            }
            _ => return Err(StoreError::unexpected("rotate_session")),
        };
        let outcome = match kind {
            None => RotationOutcome::Refused,
            Some(kind) => RotationOutcome::Rotated(successor(kind, rest)?),
        };
        Ok(RotateResponse {
            outcome,
            outbox: Entry::parse_all(&outbox)?,
        })
    }
}

pub(super) fn successor(
    kind: RotationKind,
    answer: Vec<Value>,
) -> Result<RotatedToken, StoreError> {
    let (sequence, now, version, roles, expires, ends): (u64, u64, u64, String, u64, u64) =
        read(Value::Array(answer))?;
    Ok(RotatedToken {
        kind,
        sequence,
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

//! Decisions to take tokens away, each made in one script in the user's slot. Making one again changes nothing.

use std::time::Duration;

use crate::domain::{SessionId, Timestamp, UserId, Username};
use crate::store::{
    Change, EndAll, Precondition, Redis, RevocationFloor, RevocationResult, RevokeSession,
    StoreError,
};

/// What is to be decided for a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Decision {
    /// A session is revoked.
    Revoke {
        sid: SessionId,
        /// When the token at hand expires.
        token_expires: Timestamp,
        /// Lifetime of access tokens.
        access_ttl: Duration,
    },
    /// All sessions of the account end.
    EndAll {
        user: UserId,
        /// The session that asks for it, which must stand.
        acting: SessionId,
        /// What the feed knows of the user.
        known: RevocationFloor,
    },
    /// An account is changed. One that has changed since it was seen is left alone: what is decided late, after somebody
    /// has decided otherwise, must not undo that.
    Change {
        /// What must still hold.
        seen: Precondition,
        change: Change,
        /// What the feed knows of the user.
        known: RevocationFloor,
    },
}

impl Decision {
    /// Makes it, unless it may not be made, and tells what the feed has to be told either way.
    ///
    /// # Errors
    /// Where the store cannot answer; it may have been made all the same.
    pub(super) async fn make(
        &self,
        redis: &Redis,
        username: &Username,
    ) -> Result<RevocationResult, StoreError> {
        match self {
            &Self::Revoke {
                sid,
                token_expires,
                access_ttl,
            } => {
                let revoke = RevokeSession {
                    username,
                    sid,
                    token_expires,
                    access_ttl,
                };
                redis.revoke_session(&revoke).await
            }
            &Self::EndAll {
                user,
                acting,
                known,
            } => {
                redis
                    .end_all_sessions(&EndAll {
                        username,
                        user,
                        acting,
                        known,
                    })
                    .await
            }
            Self::Change {
                seen,
                change,
                known,
            } => redis.change_user(username, *seen, change, *known).await,
        }
    }
}

//! Commands that revoke tokens. Each runs as one script in the user's slot and is idempotent.

use std::time::Duration;

use crate::domain::{SessionId, Timestamp, UserId, Username};
use crate::store::{
    Change, EndAll, Precondition, Redis, RevocationFloor, RevocationResult, RevokeSession,
    StoreError,
};

/// Command to apply to a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RevocationCommand {
    /// Revokes a session.
    Revoke {
        sid: SessionId,
        /// Expiry of the token that the caller presented.
        token_expires: Timestamp,
        /// Lifetime of access tokens.
        access_ttl: Duration,
    },
    /// Ends all sessions of the account.
    EndAll {
        user: UserId,
        /// The calling session, which must be active.
        acting: SessionId,
        /// Minimum versions of the user that the feed requires.
        known: RevocationFloor,
    },
    /// Changes an account, unless it has changed since it was read: a command that is applied late must not undo a newer one.
    Change {
        /// Precondition of the change.
        seen: Precondition,
        change: Change,
        /// Minimum versions of the user that the feed requires.
        known: RevocationFloor,
    },
}

impl RevocationCommand {
    /// Applies the command if its precondition holds, and returns the entries to publish in either case.
    ///
    /// # Errors
    /// If the store does not answer; the command may be applied all the same.
    pub(super) async fn apply(
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

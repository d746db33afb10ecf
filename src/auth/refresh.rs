//! Refresh token rotation: each refresh token is exchanged for new tokens once.
//!
//! A token that is presented a second time comes either from its owner, who lost the response or has two tabs open, or from
//! an attacker with a copy. During a short grace period after the rotation the same new token is returned again. After that a
//! reuse ends the session, for owner and attacker alike (RFC 9700 §4.14.2).

use super::ServiceError;
use super::sessions::{Sessions, TokenPair};
use super::tokens::AccessTokenParams;
use crate::domain::RefreshClaims;
use crate::store::{RotateRequest, RotateResponse, RotatedToken, RotationKind, RotationOutcome};

/// Outcome of a refresh.
#[derive(Debug)]
pub enum Refreshed {
    /// New tokens of the session.
    New(TokenPair, RotationKind),
    /// The token was rotated before and its grace period is over. The session is revoked: no replica accepts any of its tokens.
    Reused(RefreshClaims),
    /// The token was not issued here, has expired, or its session has ended.
    Refused,
}

impl Sessions {
    /// Exchanges a refresh token for new tokens of the same session. Roles are those of the account at this moment.
    ///
    /// # Errors
    /// If Redis does not answer in time. The token may have been rotated all the same; within the grace period the same token
    /// returns the same new one.
    pub async fn refresh(&self, token: &str) -> Result<Refreshed, ServiceError> {
        let Some(claims) = self.refresh_tokens.verify_signature(token) else {
            return Ok(Refreshed::Refused);
        };
        let rotate = RotateRequest {
            token: &claims,
            known: self.revocations.known(claims.user),
            access_ttl: self.tokens.ttl(),
            idle: self.lifetimes.idle,
            grace: self.lifetimes.grace,
        };
        let RotateResponse { outcome, outbox } = self.redis.rotate_session(&rotate).await?;
        match outcome {
            RotationOutcome::Rotated(successor) => {
                self.revocations
                    .publish_pending(&claims.username, outbox)
                    .await?;
                self.issue_rotated(claims, successor).await
            }
            RotationOutcome::Reused => {
                self.revocations
                    .publish_and_wait(&claims.username, outbox)
                    .await?;
                Ok(Refreshed::Reused(claims))
            }
            RotationOutcome::Refused => {
                self.revocations
                    .publish_and_wait(&claims.username, outbox)
                    .await?;
                Ok(Refreshed::Refused)
            }
        }
    }

    async fn issue_rotated(
        &self,
        claims: RefreshClaims,
        successor: RotatedToken,
    ) -> Result<Refreshed, ServiceError> {
        let refresh = RefreshClaims {
            number: successor.sequence,
            ..claims
        };
        let params = AccessTokenParams {
            user: refresh.user,
            username: refresh.username.clone(),
            roles: successor.roles,
            version: successor.version,
            sid: refresh.sid,
            issued: successor.now,
            ends: successor.ends,
        };
        let session = self
            .issue_tokens(params, &refresh, successor.expires)
            .await?;
        Ok(session.map_or(Refreshed::Refused, |session| {
            Refreshed::New(session, successor.kind)
        }))
    }
}

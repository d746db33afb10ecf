//! Keeping a session open: a refresh token is traded for new tokens, once.
//!
//! Whoever presents a token that was traded already is either its owner, whose answer got lost or who has two tabs, or
//! somebody who has a copy. For a short while after the trade he gets the same successor again; later the session ends, for
//! owner and thief alike (RFC 9700 §4.14.2).

use super::Failure;
use super::sessions::{NewSession, Sessions};
use super::tokens::Grant;
use crate::domain::RefreshClaims;
use crate::store::{RotateRequest, RotateResponse, RotatedToken, RotationKind, RotationOutcome};

/// What became of a refresh token.
#[derive(Debug)]
pub enum Refreshed {
    /// Here are new tokens.
    New(NewSession, RotationKind),
    /// It was traded long ago. The session has ended: no replica accepts any of its tokens.
    Reused(RefreshClaims),
    /// It is not ours, has expired, or its session has ended.
    Refused,
}

impl Sessions {
    /// Trades a refresh token for new tokens of the same session. Roles are those of the account at this moment.
    ///
    /// # Errors
    /// Where Redis could not answer in time. It may have been traded all the same; the same token gives the same successor
    /// within the grace.
    pub async fn refresh(&self, token: &str) -> Result<Refreshed, Failure> {
        let Some(claims) = self.refresh_tokens.recognise(token) else {
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
                self.revocations.flush(&claims.username, outbox).await?;
                self.succeed(claims, successor).await
            }
            RotationOutcome::Reused => {
                self.revocations
                    .before_refusing(&claims.username, outbox)
                    .await?;
                Ok(Refreshed::Reused(claims))
            }
            RotationOutcome::Refused => {
                self.revocations
                    .before_refusing(&claims.username, outbox)
                    .await?;
                Ok(Refreshed::Refused)
            }
        }
    }

    async fn succeed(
        &self,
        claims: RefreshClaims,
        successor: RotatedToken,
    ) -> Result<Refreshed, Failure> {
        let refresh = RefreshClaims {
            number: successor.sequence,
            ..claims
        };
        let grant = Grant {
            user: refresh.user,
            username: refresh.username.clone(),
            roles: successor.roles,
            version: successor.version,
            sid: refresh.sid,
            issued: successor.now,
            ends: successor.ends,
        };
        let session = self.hand_out(grant, &refresh, successor.expires).await?;
        Ok(session.map_or(Refreshed::Refused, |session| {
            Refreshed::New(session, successor.kind)
        }))
    }
}

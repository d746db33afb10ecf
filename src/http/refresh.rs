//! `POST /refresh`, and the tokens that it answers with, as a login does.

use std::sync::Arc;

use poem::Request;
use poem_openapi::payload::Json as Answer;
use poem_openapi::{ApiResponse, Object, OpenApi};
use serde::Deserialize;

use super::Tag;
use super::audit::Audit;
use super::body::Json;
use super::cookies;
use super::problem::{ApiError, ProblemCode};
use crate::auth::refresh::Refreshed;
use crate::auth::sessions::{NewSession, Sessions};
use crate::store::RotationKind;
use crate::telemetry::Act;

/// The tokens of a session.
#[derive(Object)]
#[oai(example)]
pub struct TokenBody {
    /// The access token, to be sent as `Authorization: Bearer …`; empty where a browser has it in a cookie
    token: String,
    /// Always `Bearer`
    token_type: String,
    /// Seconds until the access token expires
    expires_in: u64,
    /// The refresh token, to be sent once to `POST /refresh` for new tokens of the same session; empty where a browser has it in a
    /// cookie
    refresh_token: String,
    /// Seconds until the refresh token expires
    refresh_expires_in: u64,
}

impl From<NewSession> for TokenBody {
    fn from(session: NewSession) -> Self {
        Self {
            token: session.token,
            token_type: "Bearer".to_owned(),
            expires_in: session.expires_in,
            refresh_token: session.refresh_token,
            refresh_expires_in: session.refresh_expires_in,
        }
    }
}

impl poem_openapi::types::Example for TokenBody {
    fn example() -> Self {
        Self {
            token: "eyJ0eXAiOiJhdCtqd3Qi….eyJpc3MiOiJodHRw….c2lnbmF0dXJl".to_owned(),
            token_type: "Bearer".to_owned(),
            expires_in: 3600,
            refresh_token: "AeOwxEK8b1tLq9O8…".to_owned(),
            refresh_expires_in: 604_800,
        }
    }
}

/// A refresh token to trade.
#[derive(Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(deny_unknown_fields, example)]
pub(super) struct RefreshBody {
    /// The refresh token that the last login or refresh has answered; empty where a browser has it in a cookie
    refresh_token: String,
}

/// Shows no token.
impl std::fmt::Debug for RefreshBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RefreshBody(…)")
    }
}

impl poem_openapi::types::Example for RefreshBody {
    fn example() -> Self {
        Self {
            refresh_token: "AeOwxEK8b1tLq9O8…".to_owned(),
        }
    }
}

/// What a refresh may come to.
#[derive(ApiResponse)]
pub enum RefreshResponse {
    /// Here are new tokens. The refresh token that was sent is used up.
    #[oai(status = 200)]
    Refreshed(
        Answer<TokenBody>,
        /// The tokens of a browser
        #[oai(header = "Set-Cookie")]
        Option<String>,
    ),
}

/// The route of this file.
pub(super) struct RefreshApi {
    pub(super) sessions: Arc<Sessions>,
    pub(super) audit: Audit,
}

#[OpenApi]
impl RefreshApi {
    /// Refresh
    ///
    /// Trades a refresh token for new tokens of the same session. Sent again within half a minute it gives the same refresh
    /// token again, so that tabs and lost answers do no harm; sent later, it counts as stolen, and the session ends on all
    /// replicas. Roles are those of the account at this moment.
    #[oai(path = "/refresh", method = "post", tag = Tag::Quickstart, operation_id = "refresh")]
    async fn refresh(
        &self,
        request: &Request,
        Json(body): Json<RefreshBody>,
    ) -> Result<RefreshResponse, ApiError> {
        // A page does not know what its browser has in a cookie.
        let token = match cookies::refresh_token(request) {
            Some(token) if body.refresh_token.is_empty() => token,
            _ => &body.refresh_token,
        };
        match self.sessions.refresh(token).await? {
            Refreshed::New(session, how) => {
                let outcome = match how {
                    RotationKind::Rotated => "rotated",
                    RotationKind::Repeated => "repeated",
                    RotationKind::Resynchronised => "resynchronised",
                };
                let user = Some(session.user);
                self.audit
                    .record(Act::Refresh, outcome, user, Some(&session.username));
                let (body, cookie) = cookies::hand_out(request, session);
                Ok(RefreshResponse::Refreshed(Answer(body), cookie))
            }
            Refreshed::Reused(token) => {
                let user = Some(token.user);
                self.audit
                    .record(Act::Refresh, "reused", user, Some(&token.username));
                Err(ApiError::new(ProblemCode::InvalidToken))
            }
            Refreshed::Refused => {
                self.audit.record(Act::Refresh, "refused", None, None);
                Err(ApiError::new(ProblemCode::InvalidToken))
            }
        }
    }
}

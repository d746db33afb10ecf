//! `POST /refresh`, and the token response, which a login shares.

use std::sync::Arc;

use poem::Request;
use poem_openapi::payload::Json;
use poem_openapi::{ApiResponse, Object, OpenApi};
use serde::Deserialize;

use super::Tag;
use super::audit::Audit;
use super::body::JsonBody;
use super::cookie_auth;
use super::problem::{ApiError, ProblemCode};
use crate::auth::refresh::Refreshed;
use crate::auth::sessions::{Sessions, TokenPair};
use crate::store::RotationKind;
use crate::telemetry::Act;

/// Tokens of a session.
#[derive(Object)]
#[oai(example)]
pub struct TokenResponse {
    /// Access token, to be sent as `Authorization: Bearer …`; empty if a browser holds it in a cookie
    token: String,
    /// Always `Bearer`
    token_type: String,
    /// Seconds until the access token expires
    expires_in: u64,
    /// Refresh token, to be sent once to `POST /refresh` for new tokens of the same session; empty if a browser holds it in a
    /// cookie
    refresh_token: String,
    /// Seconds until the refresh token expires
    refresh_expires_in: u64,
}

impl From<TokenPair> for TokenResponse {
    fn from(session: TokenPair) -> Self {
        Self {
            token: session.token,
            token_type: "Bearer".to_owned(),
            expires_in: session.expires_in,
            refresh_token: session.refresh_token,
            refresh_expires_in: session.refresh_expires_in,
        }
    }
}

impl poem_openapi::types::Example for TokenResponse {
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

/// Refresh token to exchange.
#[derive(Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(deny_unknown_fields, example)]
pub(super) struct RefreshBody {
    /// Refresh token from the last login or refresh; empty if a browser holds it in a cookie
    refresh_token: String,
}

/// Hides the token.
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

/// Responses to a refresh.
#[derive(ApiResponse)]
pub enum RefreshResponse {
    /// New tokens. The refresh token of the request is used up.
    #[oai(status = 200)]
    Ok(
        Json<TokenResponse>,
        /// Cookie with the tokens of a browser
        #[oai(header = "Set-Cookie")]
        Option<String>,
    ),
}

/// Route of this file.
pub(super) struct RefreshApi {
    pub(super) sessions: Arc<Sessions>,
    pub(super) audit: Audit,
}

#[OpenApi]
impl RefreshApi {
    /// Refresh tokens
    ///
    /// Exchanges a refresh token for new tokens of the same session. If the token is sent again within half a minute, the
    /// response has the same new refresh token, so that concurrent tabs and lost responses do no harm. If it is sent later, it
    /// counts as stolen, and the session is revoked on all replicas. The new access token has the present roles of the account.
    #[oai(path = "/refresh", method = "post", tag = Tag::Quickstart, operation_id = "refreshTokens")]
    async fn refresh_tokens(
        &self,
        request: &Request,
        JsonBody(body): JsonBody<RefreshBody>,
    ) -> Result<RefreshResponse, ApiError> {
        // A page cannot read the cookie of its browser, and sends an empty token.
        let token = match cookie_auth::refresh_token(request) {
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
                let (body, cookie) = cookie_auth::token_response(request, session);
                Ok(RefreshResponse::Ok(Json(body), cookie))
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

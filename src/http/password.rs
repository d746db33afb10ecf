//! `PUT /me/password`: password change.

use std::sync::Arc;

use poem::Request;
use poem_openapi::payload::Json;
use poem_openapi::{ApiResponse, Object, OpenApi};
use serde::Deserialize;

use super::Tag;
use super::accounts::EXAMPLE_PASSWORD;
use super::audit::Audit;
use super::authenticated::Authenticated;
use super::body::JsonBody;
use super::problem::{ApiError, FieldError, ProblemCode};
use super::refresh::TokenResponse;
use super::{context, cookie_auth};
use crate::auth::password_change::PasswordChange;
use crate::auth::sessions::Sessions;
use crate::domain::{AttemptedName, Guess, Password, PasswordRule};
use crate::telemetry::Act;

/// Current and new password.
#[derive(Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(deny_unknown_fields, example)]
pub(super) struct PasswordBody {
    /// Current password
    current_password: String,
    /// New password: at least 8 characters, not easy to guess
    new_password: String,
}

/// Hides the passwords.
impl std::fmt::Debug for PasswordBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PasswordBody(…)")
    }
}

impl poem_openapi::types::Example for PasswordBody {
    fn example() -> Self {
        Self {
            current_password: EXAMPLE_PASSWORD.to_owned(),
            new_password: "amber-heron-lagoon-17".to_owned(),
        }
    }
}

/// Responses to a password change.
#[derive(ApiResponse)]
pub enum PasswordResponse {
    /// The password is changed. All other sessions are revoked on every replica; the body has new tokens for this session.
    #[oai(status = 200)]
    Ok(
        Json<TokenResponse>,
        /// Cookie with the tokens of a browser
        #[oai(header = "Set-Cookie")]
        Option<String>,
    ),
}

/// Route of this file.
pub(super) struct PasswordApi {
    pub(super) sessions: Arc<Sessions>,
    pub(super) audit: Audit,
}

#[OpenApi]
impl PasswordApi {
    /// Change your password
    ///
    /// Requires the current password. Once this has answered, no replica accepts any token that was issued before, of this
    /// session or another. The response has new tokens for this session, and all other sessions are revoked. A wrong current
    /// password is 422: after a 401 clients would refresh a token that is valid.
    #[oai(path = "/me/password", method = "put", tag = Tag::Account, operation_id = "changePassword")]
    async fn change_password(
        &self,
        Authenticated(claims): Authenticated,
        request: &Request,
        JsonBody(body): JsonBody<PasswordBody>,
    ) -> Result<PasswordResponse, ApiError> {
        let guess = Guess {
            name: AttemptedName::of(claims.username.as_str()),
            from: context::client_network(),
        };
        let current = Password::parse(body.current_password).ok();
        let Ok(new) = Password::parse(body.new_password) else {
            return Err(field_error(
                "/new_password",
                PasswordRule::TooLong.to_string(),
            ));
        };
        let change = self
            .sessions
            .change_password(&claims, guess, current.as_ref(), &new);
        let on_failure = |failure| {
            self.audit
                .record_failure(Act::ChangePassword, Some(&claims.username), failure)
        };
        let change = change.await.map_err(on_failure)?;
        let (outcome, answer) = response(request, change);
        self.audit.record(
            Act::ChangePassword,
            outcome,
            Some(claims.sub),
            Some(&claims.username),
        );
        answer
    }
}

/// Returns the outcome for the audit log, and the response.
fn response(
    request: &Request,
    change: PasswordChange,
) -> (&'static str, Result<PasswordResponse, ApiError>) {
    match change {
        PasswordChange::Changed(session) => {
            let (body, cookie) = cookie_auth::token_response(request, session);
            ("changed", Ok(PasswordResponse::Ok(Json(body), cookie)))
        }
        PasswordChange::Wrong => {
            let rule = "is not the current password".to_owned();
            ("refused", Err(field_error("/current_password", rule)))
        }
        PasswordChange::Breaks(rule) => {
            ("weak", Err(field_error("/new_password", rule.to_string())))
        }
        PasswordChange::SessionGone => (
            "session_gone",
            Err(ApiError::new(ProblemCode::InvalidToken)),
        ),
    }
}

fn field_error(pointer: &str, rule: String) -> ApiError {
    ApiError::validation(vec![FieldError {
        pointer: pointer.to_owned(),
        detail: rule,
    }])
}

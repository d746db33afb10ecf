//! `PUT /me/password`: change one's password.

use std::sync::Arc;

use poem::Request;
use poem_openapi::payload::Json as Answer;
use poem_openapi::{ApiResponse, Object, OpenApi};
use serde::Deserialize;

use super::Tag;
use super::accounts::EXAMPLE_PASSWORD;
use super::audit::Audit;
use super::authenticated::Authenticated;
use super::body::Json;
use super::problem::{ApiError, FieldError, ProblemCode};
use super::refresh::TokenBody;
use super::{context, cookies};
use crate::auth::password_change::PasswordChange;
use crate::auth::sessions::Sessions;
use crate::domain::{AttemptedName, Guess, Password, PasswordRule};
use crate::telemetry::Act;

/// A password to change.
#[derive(Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(deny_unknown_fields, example)]
pub(super) struct PasswordBody {
    /// The password as it is
    current_password: String,
    /// The password as it shall be: at least 8 characters that are not easily guessed
    new_password: String,
}

/// Shows no password.
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

/// What changing a password may come to.
#[derive(ApiResponse)]
pub enum PasswordResponse {
    /// It is the new one. All other sessions have ended on every replica; here are new tokens for this one.
    #[oai(status = 200)]
    Changed(
        Answer<TokenBody>,
        /// The tokens of a browser
        #[oai(header = "Set-Cookie")]
        Option<String>,
    ),
}

/// The route of this file.
pub(super) struct PasswordApi {
    pub(super) sessions: Arc<Sessions>,
    pub(super) audit: Audit,
}

#[OpenApi]
impl PasswordApi {
    /// Change one's password
    ///
    /// Needs the current one. Once this has answered, no replica accepts any token that was issued before, of this session
    /// or another; the answer has new tokens for this session, and all others have ended. A wrong current password is 422:
    /// 401 would send clients to refresh a token that is good.
    #[oai(path = "/me/password", method = "put", tag = Tag::Account, operation_id = "change_password")]
    async fn change(
        &self,
        Authenticated(claims): Authenticated,
        request: &Request,
        Json(body): Json<PasswordBody>,
    ) -> Result<PasswordResponse, ApiError> {
        let guess = Guess {
            name: AttemptedName::of(claims.username.as_str()),
            from: context::network(),
        };
        let current = Password::parse(body.current_password).ok();
        let Ok(new) = Password::parse(body.new_password) else {
            return Err(broken("/new_password", PasswordRule::TooLong.to_string()));
        };
        let change = self
            .sessions
            .change_password(&claims, guess, current.as_ref(), &new);
        let throttled = |failure| {
            self.audit
                .refused(Act::ChangePassword, Some(&claims.username), failure)
        };
        let change = change.await.map_err(throttled)?;
        let (outcome, answer) = answer(request, change);
        self.audit.record(
            Act::ChangePassword,
            outcome,
            Some(claims.sub),
            Some(&claims.username),
        );
        answer
    }
}

/// What is told of a change, in one word to the log and otherwise to the client.
fn answer(
    request: &Request,
    change: PasswordChange,
) -> (&'static str, Result<PasswordResponse, ApiError>) {
    match change {
        PasswordChange::Changed(session) => {
            let (body, cookie) = cookies::hand_out(request, session);
            (
                "changed",
                Ok(PasswordResponse::Changed(Answer(body), cookie)),
            )
        }
        PasswordChange::Wrong => {
            let rule = "is not the current password".to_owned();
            ("refused", Err(broken("/current_password", rule)))
        }
        PasswordChange::Breaks(rule) => ("weak", Err(broken("/new_password", rule.to_string()))),
        PasswordChange::SessionGone => (
            "session_gone",
            Err(ApiError::new(ProblemCode::InvalidToken)),
        ),
    }
}

fn broken(pointer: &str, rule: String) -> ApiError {
    ApiError::validation(vec![FieldError {
        pointer: pointer.to_owned(),
        detail: rule,
    }])
}

//! `POST /login`, `POST /logout` and `DELETE /sessions`.

use std::sync::Arc;

use poem_openapi::payload::Json as Answer;
use poem_openapi::{ApiResponse, Object, OpenApi};

use super::Tag;
use super::accounts::Credentials;
use super::audit::Audit;
use super::authenticated::{Authenticated, Recognised};
use super::body::Json;
use super::context;
use super::problem::{ApiError, ProblemCode, ProblemJson};
use crate::auth::revocation::Ended;
use crate::auth::sessions::{Login, Sessions};
use crate::domain::{AttemptedName, Guess, Password, Username};
use crate::telemetry::Act;

/// A session that was just opened.
#[derive(Object)]
#[oai(example)]
pub struct TokenBody {
    /// The access token, to be sent as `Authorization: Bearer …`
    token: String,
    /// Always `Bearer`
    token_type: String,
    /// Seconds until the token expires
    expires_in: u64,
}

impl poem_openapi::types::Example for TokenBody {
    fn example() -> Self {
        Self {
            token: "eyJ0eXAiOiJhdCtqd3Qi….eyJpc3MiOiJodHRw….c2lnbmF0dXJl".to_owned(),
            token_type: "Bearer".to_owned(),
            expires_in: 3600,
        }
    }
}

/// What a login may come to.
#[derive(ApiResponse)]
pub enum LoginResponse {
    /// A session is open; here is its token.
    #[oai(status = 200)]
    In(Answer<TokenBody>),
    /// The username or the password is wrong. The answer is the same, and takes as long, whether there is such a user or not.
    #[oai(status = 401)]
    Refused(ProblemJson, #[oai(header = "WWW-Authenticate")] String),
}

/// What a logout may come to.
#[derive(ApiResponse)]
pub enum LogoutResponse {
    /// What was to end has ended: no replica accepts any of its tokens.
    #[oai(status = 204)]
    Out,
}

/// The routes of this file.
pub(super) struct SessionsApi {
    pub(super) sessions: Arc<Sessions>,
    pub(super) audit: Audit,
}

#[OpenApi]
impl SessionsApi {
    /// Log in
    ///
    /// Checks the password and opens a session. The answer holds an access token, which every replica accepts until it
    /// expires or is logged out.
    #[oai(path = "/login", method = "post", tag = Tag::Sessions, operation_id = "login")]
    async fn login(&self, Json(body): Json<Credentials>) -> Result<LoginResponse, ApiError> {
        let guess = Guess {
            name: AttemptedName::of(&body.username),
            from: context::network(),
        };
        let username = body.username.parse::<Username>().ok();
        // Nobody has a password that is too long to be one: it is refused like a wrong one, and takes as long.
        let (username, password) = match Password::typed(body.password) {
            Ok(password) => (username, password),
            Err(_) => (None, Password::none()),
        };
        let login = self.sessions.log_in(guess, username.clone(), &password);
        let throttled = |failure| self.audit.refused(Act::LogIn, username.as_ref(), failure);
        match login.await.map_err(throttled)? {
            Login::In(session) => {
                self.audit
                    .record(Act::LogIn, "in", Some(session.user), username.as_ref());
                let body = TokenBody {
                    token: session.token,
                    token_type: "Bearer".to_owned(),
                    expires_in: session.expires_in,
                };
                Ok(LoginResponse::In(Answer(body)))
            }
            Login::Refused => {
                self.audit
                    .record(Act::LogIn, "refused", None, username.as_ref());
                let challenge = r#"Bearer realm="portcullis""#.to_owned();
                Ok(LoginResponse::Refused(
                    ProblemJson::of(ProblemCode::InvalidCredentials),
                    challenge,
                ))
            }
        }
    }

    /// Log out
    ///
    /// Ends the session of the token. Once this has answered, no replica accepts any token of the session. If it answers 503
    /// instead, say it again: this replica refuses the token from then on, but others may not have heard yet.
    #[oai(path = "/logout", method = "post", tag = Tag::Sessions, operation_id = "logout")]
    async fn logout(&self, Recognised(claims): Recognised) -> Result<LogoutResponse, ApiError> {
        self.sessions.log_out(&claims).await?;
        self.audit
            .record(Act::LogOut, "out", Some(claims.sub), Some(&claims.username));
        Ok(LogoutResponse::Out)
    }

    /// Log out everywhere
    ///
    /// Ends all sessions of the account, the one of this token too. Once this has answered, no replica accepts any token that
    /// was issued before.
    #[oai(path = "/sessions", method = "delete", tag = Tag::Sessions, operation_id = "logout_everywhere")]
    async fn logout_everywhere(
        &self,
        Authenticated(claims): Authenticated,
    ) -> Result<LogoutResponse, ApiError> {
        match self.sessions.log_out_everywhere(&claims).await? {
            Ended::All => {
                self.audit.record(
                    Act::LogOut,
                    "out_everywhere",
                    Some(claims.sub),
                    Some(&claims.username),
                );
                Ok(LogoutResponse::Out)
            }
            Ended::ActingSessionGone => Err(ApiError::new(ProblemCode::InvalidToken)),
        }
    }
}

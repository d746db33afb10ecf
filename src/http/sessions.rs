//! `POST /login`, `POST /logout`, and the list of sessions at `/sessions`.

use std::sync::Arc;

use poem::Request;
use poem_openapi::param::{Path, Query};
use poem_openapi::payload::Json;
use poem_openapi::{ApiResponse, Enum, Object, OpenApi};

use super::Tag;
use super::accounts::Credentials;
use super::audit::Audit;
use super::authenticated::{Authenticated, SignatureOnly};
use super::body::JsonBody;
use super::context;
use super::cookie_auth;
use super::problem::{ApiError, ProblemCode, ProblemJson};
use super::refresh::TokenResponse;
use crate::auth::revocation::Ended;
use crate::auth::sessions::{LoginOutcome, Sessions};
use crate::domain::{AttemptedName, Guess, Password, SessionId, Username};
use crate::store::SessionRecord;
use crate::telemetry::Act;

/// Responses to a login.
#[derive(ApiResponse)]
pub enum LoginResponse {
    /// A session is open; the body has its tokens.
    #[oai(status = 200)]
    Ok(
        Json<TokenResponse>,
        /// Cookie with the tokens of a browser
        #[oai(header = "Set-Cookie")]
        Option<String>,
    ),
    /// The username or the password is wrong. Response and duration are the same, whether the user exists or not.
    #[oai(status = 401)]
    Unauthorized(ProblemJson, #[oai(header = "WWW-Authenticate")] String),
}

/// Responses to a logout.
#[derive(ApiResponse)]
pub enum LogoutResponse {
    /// The session, or sessions, are revoked: no replica accepts any of their tokens.
    #[oai(status = 204)]
    NoContent(
        /// Deletes the cookie of a browser whose own session is revoked
        #[oai(header = "Set-Cookie")]
        Option<String>,
    ),
}

/// Session of the user.
#[derive(Object)]
#[oai(example)]
pub(super) struct SessionBody {
    /// ID of the session
    sid: String,
    /// Time of the login (RFC 3339)
    created_at: String,
    /// Time of the login or the last refresh (RFC 3339)
    last_seen_at: String,
    /// User-Agent of the login
    user_agent: String,
    /// Client address of the login; empty if unknown
    address: String,
    /// True for the session of the token in this request
    current: bool,
}

impl SessionBody {
    fn new(session: SessionRecord, current: SessionId) -> Self {
        Self {
            current: session.sid == current,
            sid: session.sid.to_string(),
            created_at: session.created.to_string(),
            last_seen_at: session.last_seen.to_string(),
            user_agent: session.user_agent,
            address: session.address,
        }
    }
}

impl poem_openapi::types::Example for SessionBody {
    fn example() -> Self {
        Self {
            sid: "q83vEjRWeJASNFZ4kBI0Vg".to_owned(),
            created_at: "2026-01-31T12:00:00Z".to_owned(),
            last_seen_at: "2026-01-31T12:30:00Z".to_owned(),
            user_agent: "Mozilla/5.0".to_owned(),
            address: "203.0.113.7".to_owned(),
            current: true,
        }
    }
}

/// Session to keep when all others are revoked.
#[derive(Debug, Clone, Copy, Enum)]
#[oai(rename_all = "snake_case")]
pub(super) enum Keep {
    /// The session of the token in this request.
    Current,
}

/// Sessions of the user, the newest first.
#[derive(Object)]
#[oai(example)]
pub struct SessionList {
    /// Sessions; at most 20
    items: Vec<SessionBody>,
    /// Always null: there is one page
    next_cursor: Option<String>,
}

impl poem_openapi::types::Example for SessionList {
    fn example() -> Self {
        Self {
            items: vec![SessionBody::example()],
            next_cursor: None,
        }
    }
}

/// Responses with the sessions of the user.
#[derive(ApiResponse)]
pub enum SessionsResponse {
    /// The open sessions.
    #[oai(status = 200)]
    Ok(Json<SessionList>),
}

/// Routes of this file.
pub(super) struct SessionsApi {
    pub(super) sessions: Arc<Sessions>,
    pub(super) audit: Audit,
}

#[OpenApi]
impl SessionsApi {
    /// Log in
    ///
    /// Checks the password and opens a session. The response has an access token, which every replica accepts until it
    /// expires or is revoked.
    #[oai(path = "/login", method = "post", tag = Tag::Quickstart, operation_id = "login")]
    async fn login(
        &self,
        request: &Request,
        JsonBody(body): JsonBody<Credentials>,
    ) -> Result<LoginResponse, ApiError> {
        let guess = Guess {
            name: AttemptedName::of(&body.username),
            from: context::client_network(),
        };
        let username = body.username.parse::<Username>().ok();
        // No account has a password that is too long: it is rejected like a wrong one, and takes as long.
        let (username, password) = match Password::parse(body.password) {
            Ok(password) => (username, password),
            Err(_) => (None, Password::unmatchable()),
        };
        let origin = context::client_info(request);
        let login = self
            .sessions
            .log_in(guess, username.clone(), &password, &origin);
        let on_failure = |failure| {
            self.audit
                .record_failure(Act::LogIn, username.as_ref(), failure)
        };
        match login.await.map_err(on_failure)? {
            LoginOutcome::Authenticated(session) => {
                self.audit.record(
                    Act::LogIn,
                    "succeeded",
                    Some(session.user),
                    username.as_ref(),
                );
                let (body, cookie) = cookie_auth::token_response(request, session);
                Ok(LoginResponse::Ok(Json(body), cookie))
            }
            LoginOutcome::Rejected => {
                self.audit
                    .record(Act::LogIn, "refused", None, username.as_ref());
                let challenge = r#"Bearer realm="portcullis""#.to_owned();
                Ok(LoginResponse::Unauthorized(
                    ProblemJson::new(ProblemCode::InvalidCredentials),
                    challenge,
                ))
            }
        }
    }

    /// Log out
    ///
    /// Revokes the session of the token. Once this has answered 204, no replica accepts any token of the session. After a 503,
    /// send it again: this replica rejects the token from then on, but other replicas may not know of the logout yet.
    #[oai(path = "/logout", method = "post", tag = Tag::Quickstart, operation_id = "logout")]
    async fn logout(
        &self,
        SignatureOnly(claims): SignatureOnly,
        request: &Request,
    ) -> Result<LogoutResponse, ApiError> {
        self.sessions.log_out(&claims).await?;
        self.audit.record(
            Act::LogOut,
            "logged_out",
            Some(claims.sub),
            Some(&claims.username),
        );
        Ok(LogoutResponse::NoContent(cookie_auth::clear_cookie(
            request,
        )))
    }

    /// Log out everywhere
    ///
    /// Revokes all sessions of the account, including the session of this token, unless `keep` is set. Once this has answered, no
    /// replica accepts any token of the revoked sessions.
    #[oai(path = "/sessions", method = "delete", tag = Tag::Sessions, operation_id = "revokeAllSessions")]
    async fn revoke_all_sessions(
        &self,
        Authenticated(claims): Authenticated,
        request: &Request,
        /// `current` keeps the session of this token
        keep: Query<Option<Keep>>,
    ) -> Result<LogoutResponse, ApiError> {
        if keep.0.is_some() {
            let ended = self.sessions.revoke_others(&claims).await?;
            ended.ok_or(ApiError::new(ProblemCode::InvalidToken))?;
            let (user, name) = (Some(claims.sub), Some(&claims.username));
            self.audit
                .record(Act::LogOut, "logged_out_elsewhere", user, name);
            return Ok(LogoutResponse::NoContent(None));
        }
        match self.sessions.log_out_everywhere(&claims).await? {
            Ended::All => {
                self.audit.record(
                    Act::LogOut,
                    "logged_out_everywhere",
                    Some(claims.sub),
                    Some(&claims.username),
                );
                Ok(LogoutResponse::NoContent(cookie_auth::clear_cookie(
                    request,
                )))
            }
            Ended::ActingSessionGone => Err(ApiError::new(ProblemCode::InvalidToken)),
        }
    }

    /// List your sessions
    ///
    /// Open sessions, the newest first, with the client of the login and the time of the last refresh.
    #[oai(path = "/sessions", method = "get", tag = Tag::Sessions, operation_id = "listSessions")]
    async fn list_sessions(
        &self,
        Authenticated(claims): Authenticated,
    ) -> Result<SessionsResponse, ApiError> {
        let sessions = self.sessions.list_for(&claims).await?;
        // The account is deleted, and its sessions with it.
        let sessions = sessions.ok_or(ApiError::new(ProblemCode::InvalidToken))?;
        let items = sessions
            .into_iter()
            .map(|session| SessionBody::new(session, claims.sid));
        Ok(SessionsResponse::Ok(Json(SessionList {
            items: items.collect(),
            next_cursor: None,
        })))
    }

    /// Revoke one of your sessions
    ///
    /// Once this has answered, no replica accepts any token of that session. A session of another user is not found.
    #[oai(path = "/sessions/:sid", method = "delete", tag = Tag::Sessions, operation_id = "revokeSession")]
    async fn revoke_session(
        &self,
        Authenticated(claims): Authenticated,
        request: &Request,
        /// ID of the session, from the list of sessions
        sid: Path<String>,
    ) -> Result<LogoutResponse, ApiError> {
        let sid: SessionId = sid
            .0
            .parse()
            .map_err(|_| ApiError::new(ProblemCode::NotFound))?;
        if !self.sessions.revoke(&claims, sid).await? {
            return Err(ApiError::new(ProblemCode::NotFound));
        }
        self.audit.record(
            Act::LogOut,
            "ended",
            Some(claims.sub),
            Some(&claims.username),
        );
        let own = sid == claims.sid;
        Ok(LogoutResponse::NoContent(
            own.then(|| cookie_auth::clear_cookie(request)).flatten(),
        ))
    }
}

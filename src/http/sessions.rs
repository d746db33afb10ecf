//! `POST /login`, `POST /logout`, and the list of sessions at `/sessions`.

use std::sync::Arc;

use poem::Request;
use poem_openapi::param::{Path, Query};
use poem_openapi::payload::Json as Answer;
use poem_openapi::{ApiResponse, Enum, Object, OpenApi};

use super::Tag;
use super::accounts::Credentials;
use super::audit::Audit;
use super::authenticated::{Authenticated, Recognised};
use super::body::Json;
use super::context;
use super::cookies;
use super::problem::{ApiError, ProblemCode, ProblemJson};
use super::refresh::TokenBody;
use crate::auth::revocation::Ended;
use crate::auth::sessions::{Login, Sessions};
use crate::domain::{AttemptedName, Guess, Password, SessionId, Username};
use crate::store::SessionRecord;
use crate::telemetry::Act;

/// What a login may come to.
#[derive(ApiResponse)]
pub enum LoginResponse {
    /// A session is open; here is its token.
    #[oai(status = 200)]
    In(
        Answer<TokenBody>,
        /// The tokens of a browser
        #[oai(header = "Set-Cookie")]
        Option<String>,
    ),
    /// The username or the password is wrong. The answer is the same, and takes as long, whether there is such a user or not.
    #[oai(status = 401)]
    Refused(ProblemJson, #[oai(header = "WWW-Authenticate")] String),
}

/// What a logout may come to.
#[derive(ApiResponse)]
pub enum LogoutResponse {
    /// What was to end has ended: no replica accepts any of its tokens.
    #[oai(status = 204)]
    Out(
        /// Takes the tokens from a browser whose own session has ended
        #[oai(header = "Set-Cookie")]
        Option<String>,
    ),
}

/// A session of one's own.
#[derive(Object)]
#[oai(example)]
pub(super) struct SessionBody {
    /// Identifies it
    sid: String,
    /// When it was opened (RFC 3339)
    created_at: String,
    /// When it was opened or last refreshed (RFC 3339)
    last_seen_at: String,
    /// The program that opened it, as it calls itself
    user_agent: String,
    /// The address from which it was opened; empty where that is not known
    address: String,
    /// Whether it is the session of the token at hand
    current: bool,
}

impl SessionBody {
    fn of(session: SessionRecord, current: SessionId) -> Self {
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

/// Which session stays when all others end.
#[derive(Debug, Clone, Copy, Enum)]
#[oai(rename_all = "snake_case")]
pub(super) enum Keep {
    /// That of the token at hand.
    Current,
}

/// Sessions of one's own, the newest first.
#[derive(Object)]
#[oai(example)]
pub struct SessionList {
    /// The sessions; at most 20
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

/// What looking at one's sessions may come to.
#[derive(ApiResponse)]
pub enum SessionsResponse {
    /// These are open.
    #[oai(status = 200)]
    Open(Answer<SessionList>),
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
    #[oai(path = "/login", method = "post", tag = Tag::Quickstart, operation_id = "login")]
    async fn login(
        &self,
        request: &Request,
        Json(body): Json<Credentials>,
    ) -> Result<LoginResponse, ApiError> {
        let guess = Guess {
            name: AttemptedName::of(&body.username),
            from: context::network(),
        };
        let username = body.username.parse::<Username>().ok();
        // Nobody has a password that is too long to be one: it is refused like a wrong one, and takes as long.
        let (username, password) = match Password::parse(body.password) {
            Ok(password) => (username, password),
            Err(_) => (None, Password::unmatchable()),
        };
        let origin = context::origin(request);
        let login = self
            .sessions
            .log_in(guess, username.clone(), &password, &origin);
        let throttled = |failure| self.audit.refused(Act::LogIn, username.as_ref(), failure);
        match login.await.map_err(throttled)? {
            Login::In(session) => {
                self.audit.record(
                    Act::LogIn,
                    "succeeded",
                    Some(session.user),
                    username.as_ref(),
                );
                let (body, cookie) = cookies::hand_out(request, session);
                Ok(LoginResponse::In(Answer(body), cookie))
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
    #[oai(path = "/logout", method = "post", tag = Tag::Quickstart, operation_id = "logout")]
    async fn logout(
        &self,
        Recognised(claims): Recognised,
        request: &Request,
    ) -> Result<LogoutResponse, ApiError> {
        self.sessions.log_out(&claims).await?;
        self.audit.record(
            Act::LogOut,
            "logged_out",
            Some(claims.sub),
            Some(&claims.username),
        );
        Ok(LogoutResponse::Out(cookies::clear(request)))
    }

    /// Log out everywhere
    ///
    /// Ends all sessions of the account, the one of this token too, unless it is to be kept. Once this has answered, no replica
    /// accepts any token of those that have ended.
    #[oai(path = "/sessions", method = "delete", tag = Tag::Sessions, operation_id = "logout_everywhere")]
    async fn logout_everywhere(
        &self,
        Authenticated(claims): Authenticated,
        request: &Request,
        /// `current` keeps the session of this token
        keep: Query<Option<Keep>>,
    ) -> Result<LogoutResponse, ApiError> {
        if keep.0.is_some() {
            let ended = self.sessions.end_others(&claims).await?;
            ended.ok_or(ApiError::new(ProblemCode::InvalidToken))?;
            let (user, name) = (Some(claims.sub), Some(&claims.username));
            self.audit
                .record(Act::LogOut, "logged_out_elsewhere", user, name);
            return Ok(LogoutResponse::Out(None));
        }
        match self.sessions.log_out_everywhere(&claims).await? {
            Ended::All => {
                self.audit.record(
                    Act::LogOut,
                    "logged_out_everywhere",
                    Some(claims.sub),
                    Some(&claims.username),
                );
                Ok(LogoutResponse::Out(cookies::clear(request)))
            }
            Ended::ActingSessionGone => Err(ApiError::new(ProblemCode::InvalidToken)),
        }
    }

    /// See one's sessions
    ///
    /// Those that are open, the newest first: where each was opened, and when it was last refreshed.
    #[oai(path = "/sessions", method = "get", tag = Tag::Sessions, operation_id = "sessions")]
    async fn list(
        &self,
        Authenticated(claims): Authenticated,
    ) -> Result<SessionsResponse, ApiError> {
        let sessions = self.sessions.of(&claims).await?;
        // The account is gone, and so is the session.
        let sessions = sessions.ok_or(ApiError::new(ProblemCode::InvalidToken))?;
        let items = sessions
            .into_iter()
            .map(|session| SessionBody::of(session, claims.sid));
        Ok(SessionsResponse::Open(Answer(SessionList {
            items: items.collect(),
            next_cursor: None,
        })))
    }

    /// End one of one's sessions
    ///
    /// Once this has answered, no replica accepts any token of that session. What is not a session of one's own is not found.
    #[oai(path = "/sessions/:sid", method = "delete", tag = Tag::Sessions, operation_id = "end_session")]
    async fn end(
        &self,
        Authenticated(claims): Authenticated,
        request: &Request,
        /// The session, as the list of sessions names it
        sid: Path<String>,
    ) -> Result<LogoutResponse, ApiError> {
        let sid: SessionId = sid
            .0
            .parse()
            .map_err(|_| ApiError::new(ProblemCode::NotFound))?;
        if !self.sessions.end(&claims, sid).await? {
            return Err(ApiError::new(ProblemCode::NotFound));
        }
        self.audit.record(
            Act::LogOut,
            "ended",
            Some(claims.sub),
            Some(&claims.username),
        );
        let own = sid == claims.sid;
        Ok(LogoutResponse::Out(
            own.then(|| cookies::clear(request)).flatten(),
        ))
    }
}

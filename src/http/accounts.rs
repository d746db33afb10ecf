//! `POST /register`, `GET /me` and `POST /me/delete`.

use std::sync::Arc;

use poem::Request;
use poem_openapi::payload::Json;
use poem_openapi::{ApiResponse, Object, OpenApi};
use serde::Deserialize;

use super::Tag;
use super::audit::Audit;
use super::authenticated::Authenticated;
use super::body::JsonBody;
use super::problem::{ApiError, FieldError, ProblemCode, ProblemJson};
use super::{context, cookie_auth};
use crate::auth::accounts::{Accounts, Deletion, Registration};
use crate::auth::passwords::Passwords;
use crate::domain::{AttemptedName, Guess, Password, PasswordRule, Role, Username};
use crate::store::User;
use crate::telemetry::Act;

/// Password of all examples, so that they work in sequence. It passes the default policy.
pub(super) const EXAMPLE_PASSWORD: &str = "correct horse battery staple";

/// Username and password.
#[derive(Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(deny_unknown_fields, example)]
pub(super) struct Credentials {
    /// 3 to 64 of a-z, 0-9 and . _ - + @, beginning with a letter or a digit; upper case counts as lower case
    pub username: String,
    /// At least 8 characters (the operator may require more), at most 256; not easy to guess
    #[oai(write_only)]
    pub password: String,
}

impl poem_openapi::types::Example for Credentials {
    fn example() -> Self {
        Self {
            username: "alice".to_owned(),
            password: EXAMPLE_PASSWORD.to_owned(),
        }
    }
}

/// An account.
#[derive(Debug, Object)]
#[oai(example)]
pub struct Account {
    /// ID of the account; never reused
    id: String,
    /// Name of the account, in lower case
    username: String,
    /// Roles of the account, for access beyond its own data
    roles: Vec<String>,
    /// True if an administrator has disabled the account
    disabled: bool,
    /// Time of the registration (RFC 3339)
    created_at: String,
}

impl poem_openapi::types::Example for Account {
    fn example() -> Self {
        Self {
            id: "0197a5a2-6d2f-7c1e-9d3b-0a1b2c3d4e5f".to_owned(),
            username: "alice".to_owned(),
            roles: Vec::new(),
            disabled: false,
            created_at: "2026-01-31T12:00:00Z".to_owned(),
        }
    }
}

impl From<User> for Account {
    fn from(user: User) -> Self {
        Self {
            id: user.id.to_string(),
            username: user.username.to_string(),
            roles: user.roles.into_iter().map(Role::into).collect(),
            disabled: user.disabled,
            created_at: user.created.to_string(),
        }
    }
}

/// Password that confirms an action on the account.
#[derive(Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(deny_unknown_fields, example)]
pub(super) struct PasswordConfirmation {
    /// Password of the account
    #[oai(write_only)]
    pub password: String,
}

impl poem_openapi::types::Example for PasswordConfirmation {
    fn example() -> Self {
        Self {
            password: EXAMPLE_PASSWORD.to_owned(),
        }
    }
}

/// Responses to a deletion.
#[derive(ApiResponse)]
pub enum DeleteResponse {
    /// The account is deleted: no replica accepts any of its tokens, and its name can be registered again.
    #[oai(status = 204)]
    NoContent(
        /// Deletes the cookie of a browser
        #[oai(header = "Set-Cookie")]
        Option<String>,
    ),
}

/// A new account.
#[derive(Debug, Object)]
#[oai(example)]
pub struct RegisteredBody {
    /// Message for people
    message: String,
    /// The account
    user: Account,
}

impl poem_openapi::types::Example for RegisteredBody {
    fn example() -> Self {
        Self {
            message: "User registered successfully".to_owned(),
            user: Account::example(),
        }
    }
}

/// Responses to a registration.
#[derive(ApiResponse)]
pub enum RegisterResponse {
    /// The account is registered.
    #[oai(status = 201)]
    Created(Json<RegisteredBody>),
    /// The username is taken.
    #[oai(status = 409)]
    Conflict(ProblemJson),
}

/// Responses to reading your account.
#[derive(ApiResponse)]
pub enum MeResponse {
    /// The account as it is stored now.
    #[oai(status = 200)]
    Ok(Json<Account>),
}

/// Routes of this file.
pub(super) struct AccountsApi {
    pub(super) accounts: Arc<Accounts>,
    pub(super) passwords: Arc<Passwords>,
    pub(super) audit: Audit,
}

#[OpenApi]
impl AccountsApi {
    /// Register an account
    ///
    /// Creates an account with a username and a password. If several clients register one name at the same moment, one
    /// succeeds. Registering does not log in: send `POST /login` next.
    #[oai(path = "/register", method = "post", tag = Tag::Quickstart, operation_id = "register")]
    async fn register(
        &self,
        JsonBody(body): JsonBody<Credentials>,
    ) -> Result<RegisterResponse, ApiError> {
        let (username, password) = self.validate(body).await?;
        let registration =
            self.accounts
                .register(context::client_network(), username.clone(), &password);
        let on_failure = |failure| {
            self.audit
                .record_failure(Act::Register, Some(&username), failure)
        };
        match registration.await.map_err(on_failure)? {
            Registration::Registered(user) => {
                self.audit
                    .record(Act::Register, "registered", Some(user.id), Some(&username));
                Ok(RegisterResponse::Created(Json(RegisteredBody {
                    message: "User registered successfully".to_owned(),
                    user: Account {
                        id: user.id.to_string(),
                        username: user.username.to_string(),
                        roles: Vec::new(),
                        disabled: false,
                        created_at: user.created.to_string(),
                    },
                })))
            }
            Registration::NameTaken => {
                self.audit
                    .record(Act::Register, "name_taken", None, Some(&username));
                Ok(RegisterResponse::Conflict(ProblemJson::new(
                    ProblemCode::NameTaken,
                )))
            }
        }
    }

    /// Get your account
    ///
    /// Returns the account of the token as it is stored now. `GET /dashboard` returns the claims of the token itself, which
    /// needs no lookup.
    #[oai(path = "/me", method = "get", tag = Tag::Account, operation_id = "getMe")]
    async fn get_me(&self, Authenticated(claims): Authenticated) -> Result<MeResponse, ApiError> {
        let user = self
            .accounts
            .find_for(&claims)
            .await?
            .ok_or(ApiError::new(ProblemCode::InvalidToken))?;
        Ok(MeResponse::Ok(Json(Account::from(user))))
    }

    /// Delete your account
    ///
    /// Requires the password; a wrong one is 422. Once this has answered, no replica accepts any token of the account. The name
    /// can then be registered again, as another account.
    #[oai(path = "/me/delete", method = "post", tag = Tag::Account, operation_id = "deleteMe")]
    async fn delete_me(
        &self,
        Authenticated(claims): Authenticated,
        request: &Request,
        JsonBody(body): JsonBody<PasswordConfirmation>,
    ) -> Result<DeleteResponse, ApiError> {
        let (act, name) = (Act::DeleteAccount, Some(&claims.username));
        // No account has a password that is too long: it is rejected like a wrong one, and takes as long.
        let password = Password::parse(body.password).unwrap_or_else(|_| Password::unmatchable());
        let deletion = self
            .accounts
            .delete(&claims, context::client_network(), &password);
        let on_failure = |failure| self.audit.record_failure(act, name, failure);
        let (outcome, answer) = match deletion.await.map_err(on_failure)? {
            Deletion::Deleted => {
                let gone = DeleteResponse::NoContent(cookie_auth::clear_cookie(request));
                ("deleted", Ok(gone))
            }
            Deletion::WrongPassword => ("refused", Err(wrong_password())),
            Deletion::ActingSessionGone => {
                let gone = ApiError::new(ProblemCode::InvalidToken);
                ("session_ended", Err(gone))
            }
        };
        self.audit.record(act, outcome, Some(claims.sub), name);
        answer
    }
}

/// 422, because after a 401 clients would get a new token, which would not help.
fn wrong_password() -> ApiError {
    ApiError::validation(vec![FieldError {
        pointer: "/password".to_owned(),
        detail: "is not the password of this account".to_owned(),
    }])
}

impl AccountsApi {
    /// Validates a username and a password; the error lists every rule that is broken.
    async fn validate(&self, body: Credentials) -> Result<(Username, Password), ApiError> {
        let username = body
            .username
            .parse::<Username>()
            .map_err(|_| Username::RULE.to_owned());
        let attempt = Guess {
            name: AttemptedName::of(&body.username),
            from: context::client_network(),
        };
        // Also reports a weak password if the name is invalid.
        let about = username.as_ref().map_or("", Username::as_str);
        let password = match Password::parse(body.password) {
            Err(_) => Err(PasswordRule::TooLong),
            Ok(password) => match self
                .passwords
                .check_policy(attempt, &password, about)
                .await?
            {
                None => Ok(password),
                Some(rule) => Err(rule),
            },
        };
        match (username, password) {
            (Ok(username), Ok(password)) => Ok((username, password)),
            (username, password) => {
                let broken = [
                    ("/username", username.err()),
                    ("/password", password.err().map(|rule| rule.to_string())),
                ];
                let error = |(pointer, rule): (&str, Option<String>)| {
                    Some(FieldError {
                        pointer: pointer.to_owned(),
                        detail: rule?,
                    })
                };
                Err(ApiError::validation(
                    broken.into_iter().filter_map(error).collect(),
                ))
            }
        }
    }
}

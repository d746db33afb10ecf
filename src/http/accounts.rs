//! `POST /register`, `GET /me` and `POST /me/delete`.

use std::sync::Arc;

use poem::Request;
use poem_openapi::payload::Json as Answer;
use poem_openapi::{ApiResponse, Object, OpenApi};
use serde::Deserialize;

use super::Tag;
use super::audit::Audit;
use super::authenticated::Authenticated;
use super::body::Json;
use super::problem::{ApiError, FieldError, ProblemCode, ProblemJson};
use super::{context, cookies};
use crate::auth::accounts::{Accounts, Deletion, Registration};
use crate::auth::passwords::Passwords;
use crate::domain::{AttemptedName, Guess, Password, PasswordRule, Role, Username};
use crate::store::User;
use crate::telemetry::Act;

/// Password in the examples, which lead from one to the next. It passes the default policy.
pub(super) const EXAMPLE_PASSWORD: &str = "correct horse battery staple";

/// What a user registers and logs in with.
#[derive(Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(deny_unknown_fields, example)]
pub(super) struct Credentials {
    /// 3 to 64 of a-z, 0-9 and . _ - + @, beginning with a letter or a digit; upper case counts as lower case
    pub username: String,
    /// At least 8 characters (the operator may ask for more), at most 256; nothing that is easy to guess
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
    /// Identifies the account for ever
    id: String,
    /// Its name, in lower case
    username: String,
    /// What it may do beyond its own affairs
    roles: Vec<String>,
    /// Whether an administrator has disabled it
    disabled: bool,
    /// When it was registered (RFC 3339)
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

/// What proves that an account is one's own.
#[derive(Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(deny_unknown_fields, example)]
pub(super) struct Proof {
    /// The password of the account
    #[oai(write_only)]
    pub password: String,
}

impl poem_openapi::types::Example for Proof {
    fn example() -> Self {
        Self {
            password: EXAMPLE_PASSWORD.to_owned(),
        }
    }
}

/// What a deletion may come to.
#[derive(ApiResponse)]
pub enum DeleteResponse {
    /// The account is gone: no replica accepts any of its tokens, and anybody can register its name.
    #[oai(status = 204)]
    Deleted(
        /// Takes the tokens from a browser
        #[oai(header = "Set-Cookie")]
        Option<String>,
    ),
}

/// A new account.
#[derive(Debug, Object)]
#[oai(example)]
pub struct RegisteredBody {
    /// For people
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

/// What a registration may come to.
#[derive(ApiResponse)]
pub enum RegisterResponse {
    /// The account exists now.
    #[oai(status = 201)]
    Registered(Answer<RegisteredBody>),
    /// Somebody has this username.
    #[oai(status = 409)]
    NameTaken(ProblemJson),
}

/// An own account.
#[derive(ApiResponse)]
pub enum MeResponse {
    /// The account as it is now.
    #[oai(status = 200)]
    Account(Answer<Account>),
}

/// The routes of this file.
pub(super) struct AccountsApi {
    pub(super) accounts: Arc<Accounts>,
    pub(super) passwords: Arc<Passwords>,
    pub(super) audit: Audit,
}

#[OpenApi]
impl AccountsApi {
    /// Register an account
    ///
    /// Creates an account with a username and a password. Of several registrations of one name at the same moment, one
    /// succeeds. Registering does not log in: that is the next request.
    #[oai(path = "/register", method = "post", tag = Tag::Quickstart, operation_id = "register")]
    async fn register(&self, Json(body): Json<Credentials>) -> Result<RegisterResponse, ApiError> {
        let (username, password) = self.new_account(body).await?;
        let registration = self
            .accounts
            .register(context::network(), username.clone(), &password);
        let throttled = |failure| self.audit.refused(Act::Register, Some(&username), failure);
        match registration.await.map_err(throttled)? {
            Registration::Registered(user) => {
                self.audit
                    .record(Act::Register, "registered", Some(user.id), Some(&username));
                Ok(RegisterResponse::Registered(Answer(RegisteredBody {
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
                Ok(RegisterResponse::NameTaken(ProblemJson::of(
                    ProblemCode::NameTaken,
                )))
            }
        }
    }

    /// Look at one's own account
    ///
    /// Answers the account that the token speaks of, as it is stored now. For what the token itself says, which costs the
    /// service nothing to look up, see `GET /dashboard`.
    #[oai(path = "/me", method = "get", tag = Tag::Account, operation_id = "me")]
    async fn me(&self, Authenticated(claims): Authenticated) -> Result<MeResponse, ApiError> {
        let user = self
            .accounts
            .find_for(&claims)
            .await?
            .ok_or(ApiError::new(ProblemCode::InvalidToken))?;
        Ok(MeResponse::Account(Answer(Account::from(user))))
    }

    /// Delete one's own account
    ///
    /// Needs the password once more; a wrong one is 422. Once this has answered, no replica accepts any token of the account,
    /// and whoever registers the name next has another account.
    #[oai(path = "/me/delete", method = "post", tag = Tag::Account, operation_id = "delete_me")]
    async fn delete(
        &self,
        Authenticated(claims): Authenticated,
        request: &Request,
        Json(body): Json<Proof>,
    ) -> Result<DeleteResponse, ApiError> {
        let (act, name) = (Act::DeleteAccount, Some(&claims.username));
        // Nobody has a password that is too long to be one: it is refused like a wrong one, and takes as long.
        let password = Password::parse(body.password).unwrap_or_else(|_| Password::unmatchable());
        let deletion = self.accounts.delete(&claims, context::network(), &password);
        let throttled = |failure| self.audit.refused(act, name, failure);
        let (outcome, answer) = match deletion.await.map_err(throttled)? {
            Deletion::Deleted => {
                let gone = DeleteResponse::Deleted(cookies::clear(request));
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

/// 422 and not 401: that would send clients away to get another token, which would change nothing.
fn wrong_password() -> ApiError {
    ApiError::validation(vec![FieldError {
        pointer: "/password".to_owned(),
        detail: "is not the password of this account".to_owned(),
    }])
}

impl AccountsApi {
    /// A name and a password that follow the rules, or all that breaks one.
    async fn new_account(&self, body: Credentials) -> Result<(Username, Password), ApiError> {
        let username = body
            .username
            .parse::<Username>()
            .map_err(|_| Username::RULE.to_owned());
        let asker = Guess {
            name: AttemptedName::of(&body.username),
            from: context::network(),
        };
        // Where the name is bad, the strength of the password is still worth telling.
        let about = username.as_ref().map_or("", Username::as_str);
        let password = match Password::parse(body.password) {
            Err(_) => Err(PasswordRule::TooLong),
            Ok(password) => match self.passwords.check_policy(asker, &password, about).await? {
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

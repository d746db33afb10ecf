//! `GET`, `PATCH` and `DELETE /users/{username}`, and `DELETE /users/{username}/sessions`: for administrators.

use std::sync::Arc;

use poem_openapi::param::Path;
use poem_openapi::payload::Json as Answer;
use poem_openapi::{ApiResponse, Object, OpenApi};
use serde::Deserialize;

use super::Tag;
use super::accounts::Account;
use super::audit::Audit;
use super::authenticated::Administrator;
use super::body::{Json, not_null};
use super::problem::{ApiError, FieldError, ProblemCode, ProblemJson};
use crate::auth::administration::{Administration, Authority, Changed};
use crate::domain::{AccessClaims, Role, Username};
use crate::store::{Change, User};
use crate::telemetry::Act;

/// What is to be set of an account; what is left out stays as it is.
#[derive(Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(deny_unknown_fields, example)]
pub(super) struct UserChange {
    /// Whether the account is disabled: then it has no sessions, and nobody can log in to it
    #[serde(default, deserialize_with = "not_null")]
    pub disabled: Option<bool>,
    /// All roles of the account: words of at most 32 of a-z, 0-9, - and _, beginning with a letter; 16 at most
    #[serde(default, deserialize_with = "not_null")]
    pub roles: Option<Vec<String>>,
}

impl poem_openapi::types::Example for UserChange {
    fn example() -> Self {
        Self {
            disabled: Some(false),
            roles: Some(vec!["editor".to_owned()]),
        }
    }
}

/// The account of somebody.
#[derive(ApiResponse)]
pub enum UserResponse {
    /// The account as it is now.
    #[oai(status = 200)]
    Account(Answer<Account>),
    /// Nobody has this username.
    #[oai(status = 404)]
    NoSuchUser(ProblemJson),
}

/// What became of an account, or of its sessions.
#[derive(ApiResponse)]
pub enum EndedResponse {
    /// What was to end has ended: no replica accepts any of its tokens.
    #[oai(status = 204)]
    Ended,
    /// Nobody has this username.
    #[oai(status = 404)]
    NoSuchUser(ProblemJson),
}

/// More roles than anybody needs would make every token of the account too long.
const MOST_ROLES: usize = 16;

/// The routes of this file.
pub(super) struct UsersApi {
    pub(super) administration: Arc<Administration>,
    pub(super) audit: Audit,
}

#[OpenApi]
impl UsersApi {
    /// Look at an account
    ///
    /// Answers the account of that name as it is stored now. Needs the role `admin`.
    #[oai(path = "/users/:username", method = "get", tag = Tag::Administration, operation_id = "user")]
    async fn user(
        &self,
        _administrator: Administrator,
        /// The name of the account
        username: Path<String>,
    ) -> Result<UserResponse, ApiError> {
        let user = match username.parse::<Username>() {
            Ok(name) => self.administration.find(&name).await?,
            Err(_) => None,
        };
        Ok(user.map_or_else(
            || UserResponse::NoSuchUser(ProblemJson::of(ProblemCode::NotFound)),
            |user| UserResponse::Account(Answer(Account::from(user))),
        ))
    }

    /// Disable or enable an account, or set its roles
    ///
    /// Once this has answered, the change holds on every replica. Disabling ends all sessions of the account. New roles refuse
    /// the tokens that say otherwise and keep the sessions; the next token brings the new roles. Needs the role `admin`.
    #[oai(path = "/users/:username", method = "patch", tag = Tag::Administration, operation_id = "change_user")]
    async fn change_user(
        &self,
        Administrator(claims): Administrator,
        /// The name of the account
        username: Path<String>,
        Json(body): Json<UserChange>,
    ) -> Result<UserResponse, ApiError> {
        let disabled = body.disabled;
        let roles = body.roles.as_deref().map(parse_roles).transpose()?;
        let acts = acts(disabled, roles.is_some());
        let change = Change::Set { disabled, roles };
        let Some(before) = self.change(&claims, &username, &change, &acts).await? else {
            return Ok(UserResponse::NoSuchUser(ProblemJson::of(
                ProblemCode::NotFound,
            )));
        };
        let now = self.administration.find(&before.username).await?;
        let now = now.filter(|now| now.id == before.id);
        Ok(now.map_or_else(
            || UserResponse::NoSuchUser(ProblemJson::of(ProblemCode::NotFound)),
            |user| UserResponse::Account(Answer(Account::from(user))),
        ))
    }

    /// Delete an account
    ///
    /// Once this has answered, no replica accepts any token of the account, and anybody can register its name, which is then
    /// another account. Needs the role `admin`.
    #[oai(path = "/users/:username", method = "delete", tag = Tag::Administration, operation_id = "delete_user")]
    async fn delete_user(
        &self,
        Administrator(claims): Administrator,
        /// The name of the account
        username: Path<String>,
    ) -> Result<EndedResponse, ApiError> {
        let acts = [Act::DeleteUser];
        let changed = self.change(&claims, &username, &Change::Delete, &acts);
        Ok(ended(changed.await?))
    }

    /// End all sessions of an account
    ///
    /// Once this has answered, no replica accepts any token of the account that was issued before. Its user can log in again.
    /// Needs the role `admin`.
    #[oai(path = "/users/:username/sessions", method = "delete", tag = Tag::Administration, operation_id = "end_user_sessions")]
    async fn end_sessions(
        &self,
        Administrator(claims): Administrator,
        /// The name of the account
        username: Path<String>,
    ) -> Result<EndedResponse, ApiError> {
        let acts = [Act::EndUserSessions];
        let changed = self.change(&claims, &username, &Change::EndSessions, &acts);
        Ok(ended(changed.await?))
    }
}

impl UsersApi {
    /// Changes an account and takes note of it; `None` where nobody has the name.
    async fn change(
        &self,
        claims: &AccessClaims,
        username: &str,
        change: &Change,
        acts: &[Act],
    ) -> Result<Option<User>, ApiError> {
        let Ok(name) = username.parse::<Username>() else {
            return Ok(None);
        };
        let authority = Authority::Administrator(claims);
        let changed = self.administration.change(authority, &name, change).await;
        let outcome = match &changed {
            Ok(Changed::Done(_)) => "done",
            Ok(Changed::NoSuchUser) => "no_such_user",
            Ok(Changed::ActingSessionGone) => "session_ended",
            Err(_) => "unavailable",
        };
        for act in acts {
            self.audit.administered(*act, outcome, claims, &name);
        }
        match changed? {
            Changed::Done(user) => Ok(Some(user)),
            Changed::NoSuchUser => Ok(None),
            Changed::ActingSessionGone => Err(ApiError::new(ProblemCode::InvalidToken)),
        }
    }
}

fn ended(changed: Option<User>) -> EndedResponse {
    changed.map_or_else(
        || EndedResponse::NoSuchUser(ProblemJson::of(ProblemCode::NotFound)),
        |_| EndedResponse::Ended,
    )
}

fn acts(disabled: Option<bool>, roles: bool) -> Vec<Act> {
    let switch = disabled.map(|disabled| {
        if disabled {
            Act::DisableUser
        } else {
            Act::EnableUser
        }
    });
    switch
        .into_iter()
        .chain(roles.then_some(Act::SetRoles))
        .collect()
}

/// The roles, or every one that cannot be a role.
fn parse_roles(words: &[String]) -> Result<Vec<Role>, ApiError> {
    let error = |pointer: String, detail: &str| FieldError {
        pointer,
        detail: detail.to_owned(),
    };
    if words.len() > MOST_ROLES {
        let many = error("/roles".to_owned(), "must be 16 roles at most");
        return Err(ApiError::validation(vec![many]));
    }
    let parsed: Vec<_> = words.iter().map(|word| word.parse::<Role>()).collect();
    let bad = parsed.iter().enumerate().filter(|(_, role)| role.is_err());
    let rule = "must be at most 32 of a-z, 0-9, - and _, beginning with a letter";
    let bad: Vec<_> = bad
        .map(|(number, _)| error(format!("/roles/{number}"), rule))
        .collect();
    if bad.is_empty() {
        Ok(parsed.into_iter().flatten().collect())
    } else {
        Err(ApiError::validation(bad))
    }
}

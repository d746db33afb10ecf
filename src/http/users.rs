//! `GET`, `PATCH` and `DELETE /users/{username}`, and `DELETE /users/{username}/sessions`: for administrators.

use std::sync::Arc;

use poem_openapi::param::Path;
use poem_openapi::payload::Json;
use poem_openapi::{ApiResponse, Object, OpenApi};
use serde::Deserialize;

use super::Tag;
use super::accounts::Account;
use super::audit::Audit;
use super::authenticated::Administrator;
use super::body::{JsonBody, not_null};
use super::problem::{ApiError, FieldError, ProblemCode, ProblemJson};
use crate::auth::administration::{Administration, Authority, Changed};
use crate::domain::{AccessClaims, Role, Username};
use crate::store::{Change, User};
use crate::telemetry::Act;

/// Changes to an account; members that are left out stay unchanged.
#[derive(Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(deny_unknown_fields, example)]
pub(super) struct UserChange {
    /// True disables the account: it has no sessions, and a login to it is rejected
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

/// Responses with an account.
#[derive(ApiResponse)]
pub enum UserResponse {
    /// The account as it is stored now.
    #[oai(status = 200)]
    Ok(Json<Account>),
    /// No account has this username.
    #[oai(status = 404)]
    NotFound(ProblemJson),
}

/// Responses to deleting an account or revoking its sessions.
#[derive(ApiResponse)]
pub enum NoContentResponse {
    /// The account is deleted, or its sessions are revoked: no replica accepts any of its tokens.
    #[oai(status = 204)]
    NoContent,
    /// No account has this username.
    #[oai(status = 404)]
    NotFound(ProblemJson),
}

/// Maximum number of roles of an account: every token carries them all.
const MAX_ROLES: usize = 16;

/// Routes of this file.
pub(super) struct UsersApi {
    pub(super) administration: Arc<Administration>,
    pub(super) audit: Audit,
}

#[OpenApi]
impl UsersApi {
    /// Get an account
    ///
    /// Returns the account as it is stored now. Requires the role `admin`.
    #[oai(path = "/users/:username", method = "get", tag = Tag::Administration, operation_id = "getUser")]
    async fn get_user(
        &self,
        _administrator: Administrator,
        /// Username of the account
        username: Path<String>,
    ) -> Result<UserResponse, ApiError> {
        let user = match username.parse::<Username>() {
            Ok(name) => self.administration.find(&name).await?,
            Err(_) => None,
        };
        Ok(user.map_or_else(
            || UserResponse::NotFound(ProblemJson::new(ProblemCode::NotFound)),
            |user| UserResponse::Ok(Json(Account::from(user))),
        ))
    }

    /// Disable or enable an account, or set its roles
    ///
    /// Once this has answered, the change applies on every replica. Disabling revokes all sessions of the account. New roles
    /// revoke the tokens with other roles and keep the sessions; the next token has the new roles. Requires the role `admin`.
    #[oai(path = "/users/:username", method = "patch", tag = Tag::Administration, operation_id = "updateUser")]
    async fn update_user(
        &self,
        Administrator(claims): Administrator,
        /// Username of the account
        username: Path<String>,
        JsonBody(body): JsonBody<UserChange>,
    ) -> Result<UserResponse, ApiError> {
        let disabled = body.disabled;
        let roles = body.roles.as_deref().map(parse_roles).transpose()?;
        let acts = audited_acts(disabled, roles.is_some());
        let change = Change::Set { disabled, roles };
        let Some(before) = self.apply(&claims, &username, &change, &acts).await? else {
            return Ok(UserResponse::NotFound(ProblemJson::new(
                ProblemCode::NotFound,
            )));
        };
        let now = self.administration.find(&before.username).await?;
        let now = now.filter(|now| now.id == before.id);
        Ok(now.map_or_else(
            || UserResponse::NotFound(ProblemJson::new(ProblemCode::NotFound)),
            |user| UserResponse::Ok(Json(Account::from(user))),
        ))
    }

    /// Delete an account
    ///
    /// Once this has answered, no replica accepts any token of the account. The name can then be registered again, as another
    /// account. Requires the role `admin`.
    #[oai(path = "/users/:username", method = "delete", tag = Tag::Administration, operation_id = "deleteUser")]
    async fn delete_user(
        &self,
        Administrator(claims): Administrator,
        /// Username of the account
        username: Path<String>,
    ) -> Result<NoContentResponse, ApiError> {
        let acts = [Act::DeleteUser];
        let changed = self.apply(&claims, &username, &Change::Delete, &acts);
        Ok(no_content(changed.await?))
    }

    /// Revoke all sessions of an account
    ///
    /// Once this has answered, no replica accepts any token of the account that was issued before. The user can log in again.
    /// Requires the role `admin`.
    #[oai(path = "/users/:username/sessions", method = "delete", tag = Tag::Administration, operation_id = "revokeUserSessions")]
    async fn revoke_user_sessions(
        &self,
        Administrator(claims): Administrator,
        /// Username of the account
        username: Path<String>,
    ) -> Result<NoContentResponse, ApiError> {
        let acts = [Act::EndUserSessions];
        let changed = self.apply(&claims, &username, &Change::EndSessions, &acts);
        Ok(no_content(changed.await?))
    }
}

impl UsersApi {
    /// Changes an account and records that in the audit log; returns `None` if there is no such account.
    async fn apply(
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
            self.audit
                .record_administration(*act, outcome, claims, &name);
        }
        match changed? {
            Changed::Done(user) => Ok(Some(user)),
            Changed::NoSuchUser => Ok(None),
            Changed::ActingSessionGone => Err(ApiError::new(ProblemCode::InvalidToken)),
        }
    }
}

fn no_content(changed: Option<User>) -> NoContentResponse {
    changed.map_or_else(
        || NoContentResponse::NotFound(ProblemJson::new(ProblemCode::NotFound)),
        |_| NoContentResponse::NoContent,
    )
}

fn audited_acts(disabled: Option<bool>, roles: bool) -> Vec<Act> {
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

/// Parses roles; the error lists every invalid one.
fn parse_roles(words: &[String]) -> Result<Vec<Role>, ApiError> {
    let error = |pointer: String, detail: &str| FieldError {
        pointer,
        detail: detail.to_owned(),
    };
    if words.len() > MAX_ROLES {
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

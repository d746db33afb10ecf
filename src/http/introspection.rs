//! `POST /introspect` (RFC 7662) and `POST /revoke` (RFC 7009), for clients with credentials.

use std::sync::Arc;

use poem_openapi::payload::Json;
use poem_openapi::{ApiResponse, Object, OpenApi};
use serde::Deserialize;

use super::Tag;
use super::audit::Audit;
use super::oauth::{CHALLENGE, ClientForm, ClientRejection, OauthError};
use super::problem::ApiError;
use crate::auth::sessions::Sessions;
use crate::domain::{AccessClaims, Role};
use crate::telemetry::Act;

/// Token to introspect or to revoke.
#[derive(Deserialize, Object)]
#[oai(example)]
pub(super) struct TokenForm {
    /// The token
    token: String,
    /// Expected type of the token; ignored, because the service detects the type
    #[serde(default)]
    token_type_hint: Option<String>,
}

impl poem_openapi::types::Example for TokenForm {
    fn example() -> Self {
        Self {
            token: "eyJ0eXAiOiJhdCtqd3Qi….eyJpc3MiOiJodHRw….c2lnbmF0dXJl".to_owned(),
            token_type_hint: Some("access_token".to_owned()),
        }
    }
}

/// Hides the token.
impl std::fmt::Debug for TokenForm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenForm(…)")
    }
}

/// State of a token (RFC 7662 §2.2).
#[derive(Object)]
#[oai(skip_serializing_if_is_none, example)]
pub struct Introspection {
    /// True for a valid access token that is not revoked. If false, all other members are left out
    active: bool,
    /// Always `Bearer`
    token_type: Option<String>,
    /// Issuer of the token
    iss: Option<String>,
    /// ID of the account
    sub: Option<String>,
    /// Audience of the token
    aud: Option<String>,
    /// Client that the token was issued to
    client_id: Option<String>,
    /// Time of expiry, in seconds since 1970
    exp: Option<u64>,
    /// Time from which the token is valid, in seconds since 1970
    nbf: Option<u64>,
    /// Time of issue, in seconds since 1970
    iat: Option<u64>,
    /// ID of the token
    jti: Option<String>,
    /// Username of the account
    username: Option<String>,
    /// ID of the session
    sid: Option<String>,
    /// Roles of the account
    roles: Option<Vec<String>>,
}

impl Introspection {
    fn inactive() -> Self {
        Self {
            active: false,
            token_type: None,
            iss: None,
            sub: None,
            aud: None,
            client_id: None,
            exp: None,
            nbf: None,
            iat: None,
            jti: None,
            username: None,
            sid: None,
            roles: None,
        }
    }

    fn active(claims: &AccessClaims) -> Self {
        Self {
            active: true,
            token_type: Some("Bearer".to_owned()),
            iss: Some(claims.iss.clone()),
            sub: Some(claims.sub.to_string()),
            aud: Some(claims.aud.clone()),
            client_id: Some(claims.client_id.clone()),
            exp: Some(claims.exp),
            nbf: Some(claims.nbf),
            iat: Some(claims.iat),
            jti: Some(claims.jti.into()),
            username: Some(claims.username.to_string()),
            sid: Some(claims.sid.to_string()),
            roles: Some(claims.roles.iter().cloned().map(Role::into).collect()),
        }
    }
}

impl poem_openapi::types::Example for Introspection {
    fn example() -> Self {
        Self {
            active: true,
            token_type: Some("Bearer".to_owned()),
            username: Some("alice".to_owned()),
            exp: Some(1_800_003_600),
            ..Self::inactive()
        }
    }
}

/// Responses to an introspection.
#[derive(ApiResponse)]
pub enum IntrospectResponse {
    /// The state of the token.
    #[oai(status = 200)]
    Ok(Json<Introspection>),
    /// The body is not a form, or has no token.
    #[oai(status = 400)]
    BadRequest(Json<OauthError>),
    /// The client is unknown, or its secret is wrong.
    #[oai(status = 401)]
    Unauthorized(Json<OauthError>, #[oai(header = "WWW-Authenticate")] String),
}

/// Responses to a revocation.
#[derive(ApiResponse)]
pub enum RevokeResponse {
    /// The session of the token is revoked on every replica, or the token was invalid.
    #[oai(status = 200)]
    Ok,
    /// The body is not a form, or has no token.
    #[oai(status = 400)]
    BadRequest(Json<OauthError>),
    /// The client is unknown, or its secret is wrong.
    #[oai(status = 401)]
    Unauthorized(Json<OauthError>, #[oai(header = "WWW-Authenticate")] String),
}

/// Routes of this file.
pub(super) struct IntrospectionApi {
    pub(super) sessions: Arc<Sessions>,
    pub(super) audit: Audit,
}

#[OpenApi]
impl IntrospectionApi {
    /// Introspect a token
    ///
    /// RFC 7662, for services with credentials. Returns the claims of a valid access token. Any other token is not active,
    /// including refresh tokens, which concern only their holder. Needs no Redis round trip.
    #[oai(path = "/introspect", method = "post", tag = Tag::Services, operation_id = "introspect")]
    async fn introspect(
        &self,
        ClientForm(form): ClientForm<TokenForm>,
    ) -> Result<IntrospectResponse, ApiError> {
        let form = match form {
            Ok(form) => form,
            Err(rejection) => {
                return Ok(self.reject_client(
                    rejection,
                    IntrospectResponse::BadRequest,
                    IntrospectResponse::Unauthorized,
                ));
            }
        };
        let introspection = match self.sessions.authenticate(&form.token).await? {
            Ok(claims) => Introspection::active(&claims),
            Err(_) => Introspection::inactive(),
        };
        Ok(IntrospectResponse::Ok(Json(introspection)))
    }

    /// Revoke a token
    ///
    /// RFC 7009, for services with credentials. Revokes the session of an access or a refresh token: once this has answered, no
    /// replica accepts any token of the session. An invalid token gets the same response.
    #[oai(path = "/revoke", method = "post", tag = Tag::Services, operation_id = "revokeToken")]
    async fn revoke_token(
        &self,
        ClientForm(form): ClientForm<TokenForm>,
    ) -> Result<RevokeResponse, ApiError> {
        let form = match form {
            Ok(form) => form,
            Err(rejection) => {
                return Ok(self.reject_client(
                    rejection,
                    RevokeResponse::BadRequest,
                    RevokeResponse::Unauthorized,
                ));
            }
        };
        if let Some((user, username)) = self.sessions.revoke_by_token(&form.token).await? {
            self.audit
                .record(Act::LogOut, "revoked", Some(user), Some(&username));
        }
        Ok(RevokeResponse::Ok)
    }
}

impl IntrospectionApi {
    /// Maps a rejected client to the error format of the route.
    fn reject_client<T>(
        &self,
        rejection: ClientRejection,
        bad_request: fn(Json<OauthError>) -> T,
        unauthorized: fn(Json<OauthError>, String) -> T,
    ) -> T {
        match rejection {
            ClientRejection::InvalidRequest => bad_request(Json(rejection.body())),
            ClientRejection::InvalidClient => {
                self.audit.record(Act::Client, "refused", None, None);
                unauthorized(Json(rejection.body()), CHALLENGE.to_owned())
            }
        }
    }
}

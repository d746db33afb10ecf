//! `POST /introspect` (RFC 7662) and `POST /revoke` (RFC 7009): for services with credentials of their own.

use std::sync::Arc;

use poem_openapi::payload::Json as Answer;
use poem_openapi::{ApiResponse, Object, OpenApi};
use serde::Deserialize;

use super::Tag;
use super::audit::Audit;
use super::oauth::{CHALLENGE, FromClient, OauthError, Refused};
use super::problem::ApiError;
use crate::auth::sessions::Sessions;
use crate::domain::{AccessClaims, Role};
use crate::telemetry::Act;

/// A token to be asked about, or to be revoked.
#[derive(Deserialize, Object)]
#[oai(example)]
pub(super) struct TokenForm {
    /// The token
    token: String,
    /// What kind of token it is thought to be; it is found out all the same
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

/// Shows no token.
impl std::fmt::Debug for TokenForm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenForm(…)")
    }
}

/// What is known of a token (RFC 7662 §2.2).
#[derive(Object)]
#[oai(skip_serializing_if_is_none, example)]
pub struct Introspection {
    /// Whether it is an access token that stands. Nothing else is said of one that is not
    active: bool,
    /// Always `Bearer`
    token_type: Option<String>,
    /// Who has issued it
    iss: Option<String>,
    /// Identifies the account
    sub: Option<String>,
    /// Whom it is meant for
    aud: Option<String>,
    /// The client that it was issued to
    client_id: Option<String>,
    /// When it expires, in seconds since 1970
    exp: Option<u64>,
    /// From when on it stands, in seconds since 1970
    nbf: Option<u64>,
    /// When it was issued, in seconds since 1970
    iat: Option<u64>,
    /// Identifies the token
    jti: Option<String>,
    /// The name of the account
    username: Option<String>,
    /// Identifies the session
    sid: Option<String>,
    /// The roles of the account
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

    fn of(claims: &AccessClaims) -> Self {
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

/// What asking about a token may come to.
#[derive(ApiResponse)]
pub enum IntrospectResponse {
    /// This is known of the token.
    #[oai(status = 200)]
    Known(Answer<Introspection>),
    /// The form is not one, or has no token.
    #[oai(status = 400)]
    BadForm(Answer<OauthError>),
    /// No client, or a wrong secret.
    #[oai(status = 401)]
    NoClient(
        Answer<OauthError>,
        #[oai(header = "WWW-Authenticate")] String,
    ),
}

/// What revoking a token may come to.
#[derive(ApiResponse)]
pub enum RevokeResponse {
    /// The session of the token has ended on every replica, or the token was none.
    #[oai(status = 200)]
    Revoked,
    /// The form is not one, or has no token.
    #[oai(status = 400)]
    BadForm(Answer<OauthError>),
    /// No client, or a wrong secret.
    #[oai(status = 401)]
    NoClient(
        Answer<OauthError>,
        #[oai(header = "WWW-Authenticate")] String,
    ),
}

/// The routes of this file.
pub(super) struct IntrospectionApi {
    pub(super) sessions: Arc<Sessions>,
    pub(super) audit: Audit,
}

#[OpenApi]
impl IntrospectionApi {
    /// Ask about a token
    ///
    /// RFC 7662, for services with credentials. Of an access token that stands it says what the token says; anything else is not
    /// active, refresh tokens too: they are nobody's business but their holder's. Costs no Redis round trip.
    #[oai(path = "/introspect", method = "post", tag = Tag::Services, operation_id = "introspect")]
    async fn introspect(
        &self,
        FromClient(form): FromClient<TokenForm>,
    ) -> Result<IntrospectResponse, ApiError> {
        let form = match form {
            Ok(form) => form,
            Err(why) => {
                return Ok(self.turned_away(
                    why,
                    IntrospectResponse::BadForm,
                    IntrospectResponse::NoClient,
                ));
            }
        };
        let said = match self.sessions.authenticate(&form.token).await? {
            Ok(claims) => Introspection::of(&claims),
            Err(_) => Introspection::inactive(),
        };
        Ok(IntrospectResponse::Known(Answer(said)))
    }

    /// Revoke a token
    ///
    /// RFC 7009, for services with credentials. Ends the session of an access or a refresh token: once this has answered, no
    /// replica accepts any of its tokens. What is no token of ours is answered alike.
    #[oai(path = "/revoke", method = "post", tag = Tag::Services, operation_id = "revoke")]
    async fn revoke(
        &self,
        FromClient(form): FromClient<TokenForm>,
    ) -> Result<RevokeResponse, ApiError> {
        let form = match form {
            Ok(form) => form,
            Err(why) => {
                return Ok(self.turned_away(
                    why,
                    RevokeResponse::BadForm,
                    RevokeResponse::NoClient,
                ));
            }
        };
        if let Some((user, username)) = self.sessions.revoke_by_token(&form.token).await? {
            self.audit
                .record(Act::LogOut, "revoked", Some(user), Some(&username));
        }
        Ok(RevokeResponse::Revoked)
    }
}

impl IntrospectionApi {
    /// The answer to whoever is not answered, in the words of either route.
    fn turned_away<T>(
        &self,
        why: Refused,
        bad_form: fn(Answer<OauthError>) -> T,
        no_client: fn(Answer<OauthError>, String) -> T,
    ) -> T {
        match why {
            Refused::Request => bad_form(Answer(why.body())),
            Refused::Client => {
                self.audit.record(Act::Client, "refused", None, None);
                no_client(Answer(why.body()), CHALLENGE.to_owned())
            }
        }
    }
}

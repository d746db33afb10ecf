//! Bearer extractors: only requests with a valid token reach a handler that takes [`Authenticated`].
//!
//! Take it as the first parameter: parameters are extracted in order, and a missing token must be reported before an invalid
//! body.

use std::sync::Arc;

use poem::http::header::AUTHORIZATION;
use poem::{Request, RequestBody};
use poem_openapi::registry::{MetaSecurityScheme, Registry};
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};

use super::AuthState;
use super::problem::{ApiError, ProblemCode};
use crate::auth::sessions::Sessions;
use crate::auth::tokens::InvalidToken;
use crate::domain::{AccessClaims, Role};

/// Name of the security scheme in the document.
const SCHEME: &str = "bearer";

/// Claims of a valid token that is not revoked.
#[derive(Debug)]
pub(super) struct Authenticated(pub Arc<AccessClaims>);

/// Claims of a valid token that is not revoked and has the role `admin`. Removing a role from a user revokes the tokens that
/// carry it.
#[derive(Debug)]
pub(super) struct Administrator(pub Arc<AccessClaims>);

/// Claims of a token with a valid signature, revoked or not. Only for the logout: see [`Sessions::verify_signature`].
#[derive(Debug)]
pub(super) struct SignatureOnly(pub Arc<AccessClaims>);

/// Implements the extractor for a wrapper of claims; `$check` turns the sessions and a token into the claims.
macro_rules! bearer_extractor {
    ($name:ident, $check:expr) => {
        impl<'a> ApiExtractor<'a> for $name {
            const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];

            type ParamType = ();
            type ParamRawType = ();

            fn register(registry: &mut Registry) {
                registry.create_security_scheme(SCHEME, scheme());
            }

            fn security_schemes() -> Vec<&'static str> {
                vec![SCHEME]
            }

            async fn from_request(
                request: &'a Request,
                _: &mut RequestBody,
                _: ExtractParamOptions<()>,
            ) -> poem::Result<Self> {
                let token = bearer_token(request)?;
                let state = request
                    .data::<AuthState>()
                    .ok_or(ApiError::new(ProblemCode::Internal))?;
                let check: Result<Arc<AccessClaims>, ApiError> =
                    $check(&*state.sessions, token).await;
                Ok(Self(check?))
            }
        }
    };
}

bearer_extractor!(Authenticated, async |sessions: &Sessions, token| {
    sessions
        .authenticate(token)
        .await?
        .map_err(|InvalidToken| ApiError::new(ProblemCode::InvalidToken))
});

bearer_extractor!(Administrator, async |sessions: &Sessions, token| {
    let claims = sessions
        .authenticate(token)
        .await?
        .map_err(|InvalidToken| ApiError::new(ProblemCode::InvalidToken))?;
    if claims.roles.iter().any(|role| role.as_str() == Role::ADMIN) {
        Ok(claims)
    } else {
        Err(ApiError::new(ProblemCode::Forbidden))
    }
});

bearer_extractor!(SignatureOnly, async |sessions: &Sessions, token| {
    sessions
        .verify_signature(token)
        .map_err(|InvalidToken| ApiError::new(ProblemCode::InvalidToken))
});

fn scheme() -> MetaSecurityScheme {
    MetaSecurityScheme {
        ty: "http",
        description: Some("Access token from a login."),
        name: None,
        key_in: None,
        scheme: Some("bearer"),
        bearer_format: None,
        flows: None,
        openid_connect_url: None,
    }
}

/// Reads the token from the single `Authorization` header (RFC 6750 §2.1), and from no other place.
fn bearer_token(request: &Request) -> Result<&str, ApiError> {
    let mut headers = request.headers().get_all(AUTHORIZATION).iter();
    let Some(header) = headers.next() else {
        return Err(ApiError::new(ProblemCode::MissingToken));
    };
    let doubled = headers.next().is_some();
    let in_query = request.uri().query().is_some_and(|query| {
        query
            .split('&')
            .any(|part| part.starts_with("access_token="))
    });
    if doubled || in_query {
        return Err(ApiError::new(ProblemCode::InvalidRequest));
    }
    let header = header
        .to_str()
        .map_err(|_| ApiError::new(ProblemCode::InvalidToken))?;
    let (scheme, token) = header.split_once(' ').unwrap_or((header, ""));
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(ApiError::new(ProblemCode::MissingToken));
    }
    // Two headers that a proxy has joined (RFC 9110 §5.3): no token has a comma.
    if memchr::memchr(b',', token.as_bytes()).is_some() {
        return Err(ApiError::new(ProblemCode::InvalidRequest));
    }
    Ok(token)
}

//! `/verify`: forward authentication. A proxy calls it for each request before it forwards that request.
//!
//! Some proxies call it with the method of the checked request, so [`AnyMethod`] answers every method alike.

#![expect(
    clippy::unused_async,
    reason = "poem-openapi takes async handlers only"
)]

use poem::http::Method;
use poem::{Endpoint, Request};
use poem_openapi::{ApiResponse, OpenApi};

use super::Tag;
use super::authenticated::Authenticated;
use super::problem::ApiError;
use crate::domain::{AccessClaims, Role};

/// Responses to a proxy.
#[derive(ApiResponse)]
pub enum VerifyResponse {
    /// The token is valid; the headers identify its user.
    #[oai(status = 200)]
    Ok(
        /// ID of the account
        #[oai(header = "X-Auth-Subject")]
        String,
        /// Username of the account
        #[oai(header = "X-Auth-Username")]
        String,
        /// Roles of the account, separated by commas; empty for none
        #[oai(header = "X-Auth-Roles")]
        String,
        /// ID of the session
        #[oai(header = "X-Auth-Session")]
        String,
    ),
}

/// Route of this file.
pub(super) struct VerifyApi;

#[OpenApi]
impl VerifyApi {
    /// Verify a token for a proxy
    ///
    /// For forward authentication (nginx `auth_request`, Caddy `forward_auth`, HAProxy by a script, Traefik `ForwardAuth`): 200 with headers for the
    /// service behind the proxy, or 401. Every other method is answered in the same way, because some proxies send the method of
    /// the request that they check. Costs no Redis round trip.
    #[oai(path = "/verify", method = "get", tag = Tag::Services, operation_id = "verify")]
    async fn verify(
        &self,
        Authenticated(claims): Authenticated,
    ) -> Result<VerifyResponse, ApiError> {
        Ok(identity_headers(&claims))
    }
}

/// Routes every method of `/verify` to its one handler. Outer layers still see the method that was sent.
pub(super) struct AnyMethod<E>(pub(super) E);

impl<E: Endpoint> Endpoint for AnyMethod<E> {
    type Output = E::Output;

    async fn call(&self, mut request: Request) -> poem::Result<E::Output> {
        if request.uri().path() == "/verify" {
            request.set_method(Method::GET);
        }
        self.0.call(request).await
    }
}

fn identity_headers(claims: &AccessClaims) -> VerifyResponse {
    let roles: Vec<String> = claims.roles.iter().cloned().map(Role::into).collect();
    VerifyResponse::Ok(
        claims.sub.to_string(),
        claims.username.to_string(),
        roles.join(","),
        claims.sid.to_string(),
    )
}

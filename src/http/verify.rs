//! `/verify`: forward authentication. A proxy asks it about each request before it lets that through.
//!
//! Some proxies send the method of the request that they check, so [`AnyMethod`] answers every method alike.

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

/// What a proxy is told.
#[derive(ApiResponse)]
pub enum VerifyResponse {
    /// The token is good, and this is whose it is.
    #[oai(status = 200)]
    Good(
        /// Identifies the account
        #[oai(header = "X-Auth-Subject")]
        String,
        /// The name of the account
        #[oai(header = "X-Auth-Username")]
        String,
        /// The roles of the account, separated by commas; empty for none
        #[oai(header = "X-Auth-Roles")]
        String,
        /// Identifies the session
        #[oai(header = "X-Auth-Session")]
        String,
    ),
}

/// The route of this file.
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
        Ok(told(&claims))
    }
}

/// Routes every method of `/verify` to its one handler. Layers around this one still see the method that was sent.
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

fn told(claims: &AccessClaims) -> VerifyResponse {
    let roles: Vec<String> = claims.roles.iter().cloned().map(Role::into).collect();
    VerifyResponse::Good(
        claims.sub.to_string(),
        claims.username.to_string(),
        roles.join(","),
        claims.sid.to_string(),
    )
}

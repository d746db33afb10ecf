//! `/verify`: forward authentication. A proxy asks it about each request before it lets that through.
//!
//! Some proxies ask with the method of the request that they ask about, so every method is answered alike.

#![expect(
    clippy::unused_async,
    reason = "poem-openapi takes async handlers only"
)]

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
    /// service behind the proxy, or 401. Any method is answered alike. Costs no Redis round trip.
    #[oai(path = "/verify", method = "get", tag = Tag::Protected, operation_id = "verify")]
    async fn get(&self, Authenticated(claims): Authenticated) -> Result<VerifyResponse, ApiError> {
        Ok(told(&claims))
    }

    /// Verify a token for a proxy, asked by `POST`
    ///
    /// As by `GET`: some proxies ask with the method of the request that they ask about.
    #[oai(path = "/verify", method = "post", tag = Tag::Protected, operation_id = "verify_post")]
    async fn post(&self, Authenticated(claims): Authenticated) -> Result<VerifyResponse, ApiError> {
        Ok(told(&claims))
    }

    /// Verify a token for a proxy, asked by `PUT`
    ///
    /// As by `GET`: some proxies ask with the method of the request that they ask about.
    #[oai(path = "/verify", method = "put", tag = Tag::Protected, operation_id = "verify_put")]
    async fn put(&self, Authenticated(claims): Authenticated) -> Result<VerifyResponse, ApiError> {
        Ok(told(&claims))
    }

    /// Verify a token for a proxy, asked by `PATCH`
    ///
    /// As by `GET`: some proxies ask with the method of the request that they ask about.
    #[oai(path = "/verify", method = "patch", tag = Tag::Protected, operation_id = "verify_patch")]
    async fn patch(
        &self,
        Authenticated(claims): Authenticated,
    ) -> Result<VerifyResponse, ApiError> {
        Ok(told(&claims))
    }

    /// Verify a token for a proxy, asked by `DELETE`
    ///
    /// As by `GET`: some proxies ask with the method of the request that they ask about.
    #[oai(path = "/verify", method = "delete", tag = Tag::Protected, operation_id = "verify_delete")]
    async fn delete(
        &self,
        Authenticated(claims): Authenticated,
    ) -> Result<VerifyResponse, ApiError> {
        Ok(told(&claims))
    }

    /// Verify a token for a proxy, asked by `OPTIONS`
    ///
    /// As by `GET`: some proxies ask with the method of the request that they ask about.
    #[oai(path = "/verify", method = "options", tag = Tag::Protected, operation_id = "verify_options")]
    async fn options(
        &self,
        Authenticated(claims): Authenticated,
    ) -> Result<VerifyResponse, ApiError> {
        Ok(told(&claims))
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

//! `GET /.well-known/oauth-authorization-server`: metadata (RFC 8414).

#![expect(
    clippy::unused_async,
    reason = "poem-openapi takes async handlers only"
)]

use poem_openapi::payload::Json;
use poem_openapi::{ApiResponse, Object, OpenApi};

use super::Tag;
use super::problem::ApiError;

/// Caching of the metadata.
const CACHE_CONTROL: &str = "public, max-age=3600";

/// Metadata (RFC 8414 §2). `POST /login`, which issues tokens, is not an OAuth grant: there is no token endpoint, and no OAuth
/// grant type or response type is supported.
#[derive(Object, Clone)]
#[oai(skip_serializing_if_is_none, example)]
pub struct Metadata {
    /// Issuer of the tokens
    issuer: String,
    /// URL of the public keys
    jwks_uri: String,
    /// URL of the documentation
    service_documentation: String,
    /// Only `none`: no response type issues a token
    response_types_supported: Vec<String>,
    /// Empty: no grant type is supported
    grant_types_supported: Vec<String>,
    /// URL of token introspection
    introspection_endpoint: Option<String>,
    /// Authentication methods of clients at that endpoint
    introspection_endpoint_auth_methods_supported: Option<Vec<String>>,
    /// URL of token revocation
    revocation_endpoint: Option<String>,
    /// Authentication methods of clients at that endpoint
    revocation_endpoint_auth_methods_supported: Option<Vec<String>>,
}

impl Metadata {
    /// Creates the metadata of an issuer, with the endpoints for clients if there are any.
    pub(super) fn new(issuer: &str, with_clients: bool) -> Self {
        let at = |path: &str| format!("{}{path}", issuer.trim_end_matches('/'));
        let basic = || with_clients.then(|| vec!["client_secret_basic".to_owned()]);
        Self {
            issuer: issuer.to_owned(),
            jwks_uri: at("/.well-known/jwks.json"),
            service_documentation: at("/docs"),
            response_types_supported: vec!["none".to_owned()],
            grant_types_supported: Vec::new(),
            introspection_endpoint: with_clients.then(|| at("/introspect")),
            introspection_endpoint_auth_methods_supported: basic(),
            revocation_endpoint: with_clients.then(|| at("/revoke")),
            revocation_endpoint_auth_methods_supported: basic(),
        }
    }
}

impl poem_openapi::types::Example for Metadata {
    fn example() -> Self {
        Self::new("https://auth.example.com", true)
    }
}

/// Responses with the metadata.
#[derive(ApiResponse)]
pub enum MetadataResponse {
    /// The metadata.
    #[oai(status = 200)]
    Ok(
        Json<Metadata>,
        /// Time for which the response may be cached
        #[oai(header = "Cache-Control")]
        String,
    ),
}

/// Route of this file.
pub(super) struct DiscoveryApi {
    pub(super) metadata: Metadata,
}

#[OpenApi]
impl DiscoveryApi {
    /// Get the metadata
    ///
    /// Metadata of RFC 8414. No OAuth grant type is supported. `/introspect` and `/revoke` are listed only if clients are
    /// configured.
    #[oai(path = "/.well-known/oauth-authorization-server", method = "get", tag = Tag::Services, operation_id = "getMetadata")]
    async fn get_metadata(&self) -> Result<MetadataResponse, ApiError> {
        let metadata = Json(self.metadata.clone());
        Ok(MetadataResponse::Ok(metadata, CACHE_CONTROL.to_owned()))
    }
}

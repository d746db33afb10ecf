//! `GET /.well-known/oauth-authorization-server` (RFC 8414): where things are, and what is not there.

#![expect(
    clippy::unused_async,
    reason = "poem-openapi takes async handlers only"
)]

use poem_openapi::payload::Json as Answer;
use poem_openapi::{ApiResponse, Object, OpenApi};

use super::Tag;
use super::problem::ApiError;

/// How long it may be kept.
const CACHE_CONTROL: &str = "public, max-age=3600";

/// What there is (RFC 8414 §2). Tokens are had by `POST /login`, which is no grant of OAuth: there is no token endpoint, and
/// no grant and no response type of OAuth is supported.
#[derive(Object, Clone)]
#[oai(skip_serializing_if_is_none, example)]
pub struct Metadata {
    /// Who issues the tokens
    issuer: String,
    /// The public keys
    jwks_uri: String,
    /// Where to read about this service
    service_documentation: String,
    /// None of those that mean a token
    response_types_supported: Vec<String>,
    /// None
    grant_types_supported: Vec<String>,
    /// Where to ask about a token
    introspection_endpoint: Option<String>,
    /// How a client shows itself there
    introspection_endpoint_auth_methods_supported: Option<Vec<String>>,
    /// Where to revoke a token
    revocation_endpoint: Option<String>,
    /// How a client shows itself there
    revocation_endpoint_auth_methods_supported: Option<Vec<String>>,
}

impl Metadata {
    /// What there is at this issuer; with clients, also what they may use.
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

/// What asking may come to.
#[derive(ApiResponse)]
pub enum MetadataResponse {
    /// This is what there is.
    #[oai(status = 200)]
    There(
        Answer<Metadata>,
        /// How long it may be kept
        #[oai(header = "Cache-Control")]
        String,
    ),
}

/// The route of this file.
pub(super) struct DiscoveryApi {
    pub(super) metadata: Metadata,
}

#[OpenApi]
impl DiscoveryApi {
    /// Find out what there is
    ///
    /// The metadata of RFC 8414. It tells the truth: that no grant of OAuth is supported, and `/introspect` and `/revoke` only
    /// where clients are known.
    #[oai(path = "/.well-known/oauth-authorization-server", method = "get", tag = Tag::Services, operation_id = "metadata")]
    async fn metadata(&self) -> Result<MetadataResponse, ApiError> {
        let metadata = Answer(self.metadata.clone());
        Ok(MetadataResponse::There(metadata, CACHE_CONTROL.to_owned()))
    }
}

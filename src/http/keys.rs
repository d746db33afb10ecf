//! `GET /.well-known/jwks.json`: public keys for services that verify tokens locally.

#![expect(
    clippy::unused_async,
    reason = "poem-openapi takes async handlers only"
)]

use std::sync::Arc;

use poem_openapi::param::Header;
use poem_openapi::payload::Json;
use poem_openapi::{ApiResponse, Object, OpenApi};

use super::Tag;
use super::problem::ApiError;
use crate::auth::keyring::{KeyStore, PublicKey, PublicParameters};

/// Caching of the key set. A key is published for longer than this before it signs.
const CACHE_CONTROL: &str = "public, max-age=300";

/// A public key (RFC 7517).
#[derive(Object)]
#[oai(skip_serializing_if_is_none)]
pub(super) struct JsonWebKey {
    /// Type of the key: OKP, EC or RSA
    kty: String,
    /// ID of the key in tokens: its thumbprint (RFC 7638)
    kid: String,
    /// The only algorithm of this key
    alg: String,
    /// Always `sig`: it verifies signatures
    #[oai(rename = "use")]
    purpose: String,
    /// Curve, of OKP and EC
    crv: Option<String>,
    /// First coordinate, of OKP and EC
    x: Option<String>,
    /// Second coordinate, of EC
    y: Option<String>,
    /// Modulus, of RSA
    n: Option<String>,
    /// Exponent, of RSA
    e: Option<String>,
}

impl From<&PublicKey> for JsonWebKey {
    fn from(key: &PublicKey) -> Self {
        let (kty, crv, [x, y, n, e]) = match key.parameters.clone() {
            PublicParameters::Ed25519 { x } => {
                ("OKP", Some("Ed25519"), [Some(x), None, None, None])
            }
            PublicParameters::P256 { x, y } => {
                ("EC", Some("P-256"), [Some(x), Some(y), None, None])
            }
            PublicParameters::Rsa { n, e } => ("RSA", None, [None, None, Some(n), Some(e)]),
        };
        Self {
            kty: kty.to_owned(),
            kid: key.kid.clone(),
            alg: key.algorithm.to_owned(),
            purpose: "sig".to_owned(),
            crv: crv.map(str::to_owned),
            x,
            y,
            n,
            e,
        }
    }
}

/// Public keys (RFC 7517 §5).
#[derive(Object)]
#[oai(example)]
pub struct JsonWebKeySet {
    /// Keys that sign now, will sign, or have signed; empty if a shared secret signs
    keys: Vec<JsonWebKey>,
}

impl poem_openapi::types::Example for JsonWebKeySet {
    fn example() -> Self {
        let key = PublicKey {
            kid: "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k".to_owned(),
            algorithm: "EdDSA",
            parameters: PublicParameters::Ed25519 {
                x: "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo".to_owned(),
            },
        };
        Self {
            keys: vec![JsonWebKey::from(&key)],
        }
    }
}

/// Responses with the public keys.
#[derive(ApiResponse)]
pub enum KeysResponse {
    /// The public keys.
    #[oai(status = 200)]
    Ok(
        Json<JsonWebKeySet>,
        /// ETag of the key set
        #[oai(header = "ETag")]
        String,
        /// Time for which the response may be cached
        #[oai(header = "Cache-Control")]
        String,
    ),
    /// The key set still has this ETag.
    #[oai(status = 304)]
    NotModified(
        /// ETag of the key set
        #[oai(header = "ETag")]
        String,
        /// Time for which the response may be cached
        #[oai(header = "Cache-Control")]
        String,
    ),
}

/// Route of this file.
pub(super) struct KeysApi {
    pub(super) keys: Arc<KeyStore>,
}

#[OpenApi]
impl KeysApi {
    /// Get the public keys
    ///
    /// For services that verify access tokens locally. They do not see logouts: they accept a revoked token until it expires.
    #[oai(path = "/.well-known/jwks.json", method = "get", tag = Tag::Services, operation_id = "getJwks")]
    async fn get_jwks(
        &self,
        /// ETag of the cached key set
        #[oai(name = "If-None-Match")]
        known: Header<Option<String>>,
    ) -> Result<KeysResponse, ApiError> {
        let ring = self.keys.ring();
        let published = ring.published();
        let (etag, cache_control) = (format!("\"{}\"", published.etag), CACHE_CONTROL.to_owned());
        if known.0.is_some_and(|known| etag_matches(&known, &etag)) {
            return Ok(KeysResponse::NotModified(etag, cache_control));
        }
        let keys = published.keys.iter().map(JsonWebKey::from).collect();
        Ok(KeysResponse::Ok(
            Json(JsonWebKeySet { keys }),
            etag,
            cache_control,
        ))
    }
}

/// True if `If-None-Match` matches an ETag by weak comparison, as for `GET` (RFC 9110 §13.1.2).
fn etag_matches(known: &str, etag: &str) -> bool {
    known
        .split(',')
        .map(|one| one.trim().trim_start_matches("W/"))
        .any(|one| one == etag || one == "*")
}

//! `GET /.well-known/jwks.json`: the public keys, for whoever verifies tokens by himself.

#![expect(
    clippy::unused_async,
    reason = "poem-openapi takes async handlers only"
)]

use std::sync::Arc;

use poem_openapi::param::Header;
use poem_openapi::payload::Json as Answer;
use poem_openapi::{ApiResponse, Object, OpenApi};

use super::Tag;
use super::problem::ApiError;
use crate::auth::keyring::{KeyStore, PublicKey, PublicParameters};

/// For how long others may keep the set without asking. A key is published for longer before it signs.
const CACHE_CONTROL: &str = "public, max-age=300";

/// A public key (RFC 7517).
#[derive(Object)]
#[oai(skip_serializing_if_is_none)]
pub(super) struct JsonWebKey {
    /// The kind of key: OKP, EC or RSA
    kty: String,
    /// The name by which tokens call it: its thumbprint (RFC 7638)
    kid: String,
    /// The only algorithm it is used with
    alg: String,
    /// Always `sig`: it verifies signatures
    #[oai(rename = "use")]
    purpose: String,
    /// The curve, of OKP and EC
    crv: Option<String>,
    /// A coordinate, of OKP and EC
    x: Option<String>,
    /// The other coordinate, of EC
    y: Option<String>,
    /// The modulus, of RSA
    n: Option<String>,
    /// The exponent, of RSA
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

/// The public keys (RFC 7517 §5).
#[derive(Object)]
#[oai(example)]
pub struct KeySet {
    /// Those that sign, that will sign, and that have signed; none where a secret signs
    keys: Vec<JsonWebKey>,
}

impl poem_openapi::types::Example for KeySet {
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

/// What asking for the keys may come to.
#[derive(ApiResponse)]
pub enum KeysResponse {
    /// These are the keys.
    #[oai(status = 200)]
    Keys(
        Answer<KeySet>,
        /// Names this set
        #[oai(header = "ETag")]
        String,
        /// How long it may be kept
        #[oai(header = "Cache-Control")]
        String,
    ),
    /// The set is the one that was named.
    #[oai(status = 304)]
    NotModified(
        /// Names this set
        #[oai(header = "ETag")]
        String,
        /// How long it may be kept
        #[oai(header = "Cache-Control")]
        String,
    ),
}

/// The route of this file.
pub(super) struct KeysApi {
    pub(super) keys: Arc<KeyStore>,
}

#[OpenApi]
impl KeysApi {
    /// Get the public keys
    ///
    /// For services that verify access tokens by themselves. They do not see logouts: a token that was logged out stands there
    /// until it expires.
    #[oai(path = "/.well-known/jwks.json", method = "get", tag = Tag::Services, operation_id = "jwks")]
    async fn jwks(
        &self,
        /// The set that is known already, as its ETag
        #[oai(name = "If-None-Match")]
        known: Header<Option<String>>,
    ) -> Result<KeysResponse, ApiError> {
        let ring = self.keys.ring();
        let published = ring.published();
        let (tag, cache) = (format!("\"{}\"", published.etag), CACHE_CONTROL.to_owned());
        if known.0.is_some_and(|known| names(&known, &tag)) {
            return Ok(KeysResponse::NotModified(tag, cache));
        }
        let keys = published.keys.iter().map(JsonWebKey::from).collect();
        Ok(KeysResponse::Keys(Answer(KeySet { keys }), tag, cache))
    }
}

/// Whether `If-None-Match` names a tag; weakly, as for `GET` (RFC 9110 §13.1.2).
fn names(known: &str, tag: &str) -> bool {
    known
        .split(',')
        .map(|one| one.trim().trim_start_matches("W/"))
        .any(|one| one == tag || one == "*")
}

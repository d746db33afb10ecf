//! Access tokens: issued, and verified with every check that RFC 8725 and RFC 9068 require.
//!
//! The library checks the signature only. Everything else is checked here, because by default the library accepts tokens
//! without `iss`, `aud`, `sub` or `jti`, any `typ`, unknown critical headers, and dates a minute off. The reason for a
//! rejection is not reported: a client must not learn it.
//!
//! A cache of verified tokens limits the cost to one signature check for each token in use. An entry is keyed by the whole
//! token and valid only for the keyring that verified it; its dates are checked again on every use. Revocation is checked on
//! every use too, by `revocation`.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::Validation;
use quick_cache::sync::Cache;
use serde::Deserialize;

use super::keyring::{KeyStore, Keyring};
use crate::domain::{AccessClaims, Clock, Role, SessionId, Timestamp, TokenId, UserId, Username};

/// Maximum length of a token; longer input is rejected undecoded.
pub const MAX_TOKEN_BYTES: usize = 4096;
/// Tolerated clock difference in seconds. All replicas use Redis' clock, so this is generous.
const LEEWAY: u64 = 5;
/// Capacity of the cache of verified tokens.
const REMEMBERED: usize = 16_384;
/// `client_id` of every token.
const CLIENT_ID: &str = "portcullis";

/// Issuer and verifier of access tokens.
pub struct Tokens {
    keys: Arc<KeyStore>,
    issuer: String,
    audience: String,
    ttl: Duration,
    clock: Clock,
    verified: Cache<Box<str>, Verified>,
}

/// Verified claims, and the generation of the keyring that verified them.
#[derive(Clone)]
struct Verified {
    generation: u64,
    claims: Arc<AccessClaims>,
}

/// Rejection of a token: expired, forged, for another audience, or no token at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidToken;

/// Parameters of a new access token that do not come from the configuration.
#[derive(Debug)]
pub struct AccessTokenParams {
    /// The user, `sub` of the token.
    pub user: UserId,
    /// The name of the account.
    pub username: Username,
    /// The roles of the account.
    pub roles: Vec<Role>,
    /// The user's version.
    pub version: u64,
    /// The session.
    pub sid: SessionId,
    /// Time of issue, by Redis' clock.
    pub issued: Timestamp,
    /// End of the session's maximum age: the token does not outlive it.
    pub ends: Timestamp,
}

/// Token header as issued here. A header with any other member, such as `crit` or an embedded key, is rejected.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OurHeader {
    typ: String,
    alg: String,
    kid: String,
}

impl Tokens {
    /// Creates an issuer and verifier with an empty cache.
    #[must_use]
    pub fn new(
        keys: Arc<KeyStore>,
        issuer: String,
        audience: String,
        ttl: Duration,
        clock: Clock,
    ) -> Self {
        Self {
            keys,
            issuer,
            audience,
            ttl,
            clock,
            verified: Cache::new(REMEMBERED),
        }
    }

    /// Returns the lifetime of new tokens.
    #[must_use]
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// Issues a signed token.
    ///
    /// # Errors
    /// A sentence if the cryptographic library fails.
    pub fn issue(&self, params: AccessTokenParams) -> Result<String, &'static str> {
        let issued = params.issued.as_secs();
        self.keys.ring().sign(&AccessClaims {
            iss: self.issuer.clone(),
            sub: params.user,
            aud: self.audience.clone(),
            client_id: CLIENT_ID.to_owned(),
            exp: params.issued.plus(self.ttl).min(params.ends).as_secs(),
            nbf: issued,
            iat: issued,
            jti: TokenId::random(),
            sid: params.sid,
            ver: params.version,
            username: params.username,
            roles: params.roles,
        })
    }

    /// Verifies a token and returns its claims. Revocation is not checked here.
    ///
    /// # Errors
    /// [`InvalidToken`], for every reason.
    pub fn verify(&self, token: &str) -> Result<Arc<AccessClaims>, InvalidToken> {
        let ring = self.keys.ring();
        if let Some(known) = self.verified.get(token)
            && known.generation == ring.generation()
        {
            self.dates_hold(&known.claims)?;
            return Ok(known.claims);
        }
        let claims = Arc::new(self.verify_anew(&ring, token)?);
        let known = Verified {
            generation: ring.generation(),
            claims: Arc::clone(&claims),
        };
        self.verified.insert(token.into(), known);
        Ok(claims)
    }

    fn verify_anew(&self, ring: &Keyring, token: &str) -> Result<AccessClaims, InvalidToken> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(InvalidToken);
        }
        let header = token.split('.').next().ok_or(InvalidToken)?;
        let header = BASE64_URL_SAFE_NO_PAD
            .decode(header)
            .map_err(|_| InvalidToken)?;
        let header: OurHeader = serde_json::from_slice(&header).map_err(|_| InvalidToken)?;
        let key = ring.verifying(&header.kid).ok_or(InvalidToken)?;
        if header.typ != "at+jwt" || header.alg.parse() != Ok(key.algorithm) {
            return Err(InvalidToken);
        }
        let mut validation = Validation::new(key.algorithm);
        // Dates, issuer and audience are checked below: the library uses the machine's clock, and accepts lists.
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        let claims = jsonwebtoken::decode::<AccessClaims>(token, &key.key, &validation)
            .map_err(|_| InvalidToken)?
            .claims;
        let ours = claims.iss == self.issuer
            && claims.aud == self.audience
            && claims.client_id == CLIENT_ID;
        if !ours {
            return Err(InvalidToken);
        }
        self.dates_hold(&claims)?;
        Ok(claims)
    }

    /// Checks that `nbf` and `iat` have passed and `exp` has not, each with the leeway, and that their order and distance are
    /// those of a token issued here.
    fn dates_hold(&self, claims: &AccessClaims) -> Result<(), InvalidToken> {
        let now = self.clock.now().as_secs();
        let begun = claims.nbf.max(claims.iat) <= now.saturating_add(LEEWAY);
        let not_over = now < claims.exp.saturating_add(LEEWAY);
        let longest = crate::config::MAX_ACCESS_TTL.as_secs();
        let in_order = claims.exp >= claims.iat && claims.exp - claims.iat <= longest;
        if begun && not_over && in_order {
            Ok(())
        } else {
            Err(InvalidToken)
        }
    }
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens")
            .field("keys", &self.keys)
            .finish_non_exhaustive()
    }
}

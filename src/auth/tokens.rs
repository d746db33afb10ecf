//! Access tokens: made, and verified with every check that RFC 8725 and RFC 9068 ask for.
//!
//! The library checks the signature; everything else is checked here, because by default it accepts tokens without
//! `iss`, `aud`, `sub` or `jti`, any `typ`, unknown critical headers, and dates a minute off. A token is valid or it is not:
//! why it is not is nobody's business.
//!
//! Verified tokens are remembered, so that a token costs one signature check for as long as it is in use. What is remembered
//! is keyed by the whole token, belongs to the keyring that verified it, and its dates are looked at again on every use.
//! Revocation is asked elsewhere, on every use too.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::Validation;
use quick_cache::sync::Cache;
use serde::Deserialize;

use super::keyring::{Keyring, Keys};
use crate::domain::{AccessClaims, Clock, Role, SessionId, Timestamp, TokenId, UserId, Username};

/// No token of ours is longer.
pub const MAX_TOKEN_BYTES: usize = 4096;
/// By how much two clocks may differ, in seconds. Replicas agree on Redis' clock, so this is generous.
const LEEWAY: u64 = 5;
/// How many verified tokens are remembered.
const REMEMBERED: usize = 16_384;
/// The client that all tokens are issued to.
const CLIENT_ID: &str = "portcullis";

/// Makes and verifies access tokens.
pub struct Tokens {
    keys: Arc<Keys>,
    issuer: String,
    audience: String,
    ttl: Duration,
    clock: Clock,
    verified: Cache<Box<str>, Verified>,
}

/// What was verified, and by which ring.
#[derive(Clone)]
struct Verified {
    generation: u64,
    claims: Arc<AccessClaims>,
}

/// The token is not valid: expired, forged, for somebody else, or not a token at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidToken;

/// What a new token says beyond the settings.
#[derive(Debug)]
pub struct Grant {
    /// Whom it speaks of.
    pub user: UserId,
    /// The name of the account.
    pub username: Username,
    /// The roles of the account.
    pub roles: Vec<Role>,
    /// The user's version.
    pub version: u64,
    /// The session.
    pub sid: SessionId,
    /// When it is issued, by Redis' clock.
    pub issued: Timestamp,
    /// When the session ends in any case: the token does not outlive it.
    pub ends: Timestamp,
}

/// The header as we write it; any other member, `crit` and embedded keys among them, makes it no header of ours.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OurHeader {
    typ: String,
    alg: String,
    kid: String,
}

impl Tokens {
    /// Prepares to make and verify tokens.
    #[must_use]
    pub fn new(
        keys: Arc<Keys>,
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

    /// Lifetime of the tokens made here.
    #[must_use]
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// Makes a token.
    ///
    /// # Errors
    /// A sentence where the cryptographic library fails.
    pub fn issue(&self, grant: Grant) -> Result<String, &'static str> {
        let issued = grant.issued.as_secs();
        self.keys.ring().sign(&AccessClaims {
            iss: self.issuer.clone(),
            sub: grant.user,
            aud: self.audience.clone(),
            client_id: CLIENT_ID.to_owned(),
            exp: grant.issued.plus(self.ttl).min(grant.ends).as_secs(),
            nbf: issued,
            iat: issued,
            jti: TokenId::random(),
            sid: grant.sid,
            ver: grant.version,
            username: grant.username,
            roles: grant.roles,
        })
    }

    /// Verifies a token and tells what it says. Whether it was revoked is another question.
    ///
    /// # Errors
    /// [`InvalidToken`], whatever the reason.
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
        // Dates, issuer and audience are ours to check: the library reads the machine's clock, and takes lists.
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

    /// `nbf` and `iat` have passed, `exp` has not, each with the leeway; and they are in an order that we would write.
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

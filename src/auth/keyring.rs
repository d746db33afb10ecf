//! The keyring: which key signs, which keys verify, and what each is called.
//!
//! A key is bound to one algorithm; the header of a token only chooses among the keys by name (`kid`), it never chooses the
//! algorithm (RFC 8725 §3.1). The name is the RFC 7638 thumbprint, so all replicas call the same key the same.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use jsonwebtoken::jwk::{Jwk, ThumbprintHash};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header};

use crate::config::Secret;
use crate::domain::AccessClaims;

/// A set of keys at one moment. It does not change; a changed set is a new ring with a new generation.
pub struct Keyring {
    active: ActiveKey,
    verifying: HashMap<String, VerifyingKey>,
    generation: u64,
}

struct ActiveKey {
    header: Header,
    key: EncodingKey,
}

/// A key that verifies, and the only algorithm it does that with.
pub(super) struct VerifyingKey {
    pub(super) algorithm: Algorithm,
    pub(super) key: DecodingKey,
}

static GENERATIONS: AtomicU64 = AtomicU64::new(1);

impl Keyring {
    /// A ring of one HS256 key, whose bytes are the secret's.
    ///
    /// # Errors
    /// A sentence where the cryptographic library refuses the key.
    pub fn from_secret(secret: &Secret) -> Result<Self, &'static str> {
        let bytes = secret.expose().as_bytes();
        let key = EncodingKey::from_secret(bytes);
        let thumbprint = Jwk::from_encoding_key(&key, Algorithm::HS256)
            .and_then(|jwk| jwk.thumbprint(ThumbprintHash::SHA256))
            .map_err(|_| "JWT_SECRET: cannot be used as a key")?;
        let header = Header {
            typ: Some("at+jwt".to_owned()),
            kid: Some(thumbprint.clone()),
            ..Header::new(Algorithm::HS256)
        };
        let verifying = VerifyingKey {
            algorithm: Algorithm::HS256,
            key: DecodingKey::from_secret(bytes),
        };
        Ok(Self {
            active: ActiveKey { header, key },
            verifying: HashMap::from([(thumbprint, verifying)]),
            generation: GENERATIONS.fetch_add(1, Ordering::Relaxed),
        })
    }

    /// Tells rings apart. What was verified by an earlier ring is verified again.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Signs with the active key.
    ///
    /// # Errors
    /// A sentence where the cryptographic library fails.
    pub(super) fn sign(&self, claims: &AccessClaims) -> Result<String, &'static str> {
        jsonwebtoken::encode(&self.active.header, claims, &self.active.key)
            .map_err(|_| "a token cannot be signed")
    }

    /// The key of that name.
    pub(super) fn verifying(&self, kid: &str) -> Option<&VerifyingKey> {
        self.verifying.get(kid)
    }
}

/// Shows no key.
impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keyring")
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

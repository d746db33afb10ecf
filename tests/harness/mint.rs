//! Forges tokens like an attacker who holds the key: the test chooses every byte of them.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use portcullis::auth::keyring::KeyStore;
use portcullis::auth::tokens::{AccessTokenParams, Tokens};
use portcullis::config::Secret;
use portcullis::domain::{Clock, SessionId, Timestamp, UserId};
use serde_json::Value;

use super::cluster::SECRET;

/// Present time of the forge's clock, in seconds of Unix time.
pub const NOW: u64 = 1_767_225_600;
pub const HOUR: u64 = 3600;
pub const ISSUER: &str = "http://localhost:8080";

/// Encodes base64url without padding.
pub fn segment(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// Signs a header and claims, as they are written, with any key.
pub fn signed_by(algorithm: hmac::Algorithm, key: &[u8], header: &str, claims: &str) -> String {
    let signed = format!("{}.{}", segment(header), segment(claims));
    let signature = hmac::sign(&hmac::Key::new(algorithm, key), signed.as_bytes());
    format!("{signed}.{}", segment(signature))
}

/// Signs a header and claims with the key and the algorithm of the test replicas.
pub fn signed(header: &str, claims: &str) -> String {
    signed_by(hmac::HMAC_SHA256, SECRET.as_bytes(), header, claims)
}

/// Header and claims of a token.
pub fn opened(token: &str) -> (Value, Value) {
    let mut parts = token.split('.').map(|part| {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(part).unwrap();
        serde_json::from_slice(&bytes).unwrap_or_default()
    });
    (parts.next().unwrap(), parts.next().unwrap())
}

/// JSON of the object with a member set to a value.
pub fn with(object: &Value, member: &str, value: impl Into<Value>) -> String {
    let mut object = object.clone();
    object[member] = value.into();
    object.to_string()
}

/// JSON of the object without a member.
pub fn without(object: &Value, member: &str) -> String {
    let mut object = object.clone();
    object.as_object_mut().unwrap().remove(member).unwrap();
    object.to_string()
}

/// JSON of the object with one more member at its end, which may duplicate a member; serde_json cannot write duplicates.
pub fn with_another(object: &Value, member: &str, value: &Value) -> String {
    let text = object.to_string();
    format!(
        r#"{},"{member}":{value}}}"#,
        text.strip_suffix('}').unwrap()
    )
}

/// Token verifier, and a token that it has issued.
pub struct Desk {
    tokens: Tokens,
    pub clock: Clock,
    pub token: String,
    pub header: Value,
    pub claims: Value,
}

/// Creates a verifier and issuer with this key, issuer and audience.
pub fn tokens(secret: &str, issuer: &str, audience: &str, clock: &Clock) -> Tokens {
    let keys = KeyStore::open(Some(Secret::new(secret.to_owned())), None).unwrap();
    let hour = Duration::from_secs(HOUR);
    Tokens::new(
        Arc::new(keys),
        issuer.to_owned(),
        audience.to_owned(),
        hour,
        clock.clone(),
    )
}

/// Issues a genuine token.
pub fn issue(tokens: &Tokens) -> String {
    let grant = AccessTokenParams {
        user: UserId::new(),
        username: "alice".parse().unwrap(),
        roles: vec!["admin".parse().unwrap()],
        version: 7,
        sid: SessionId::random(),
        issued: Timestamp::from_secs(NOW),
        ends: Timestamp::from_secs(u64::from(u32::MAX)),
    };
    tokens.issue(grant).unwrap()
}

impl Desk {
    /// Creates a verifier with the settings of the test replicas and a stopped clock.
    pub fn open() -> Self {
        let clock = Clock::manual(Timestamp::from_secs(NOW));
        let tokens = tokens(SECRET, ISSUER, "portcullis", &clock);
        let token = issue(&tokens);
        let (header, claims) = opened(&token);
        Self {
            tokens,
            clock,
            token,
            header,
            claims,
        }
    }

    /// Returns true if a token is accepted.
    pub fn accepts(&self, token: &str) -> bool {
        self.tokens.verify(token).is_ok()
    }

    /// Signs other claims under the genuine header.
    pub fn claiming(&self, claims: &str) -> String {
        signed(&self.header.to_string(), claims)
    }

    /// Signs the genuine claims under another header.
    pub fn headed(&self, header: &str) -> String {
        signed(header, &self.claims.to_string())
    }

    /// Checks that none of these is accepted, and that the genuine token still is.
    pub fn refuses_all(&self, what: &str, forged: &[String]) {
        for token in forged {
            assert!(
                !self.accepts(token),
                "{what}: accepted {:?}",
                opened_or(token)
            );
        }
        assert!(
            self.accepts(&self.headed(&self.header.to_string())),
            "the control"
        );
        // Each is a case by itself and no random sample: there is no rate to bound.
        println!("{what}: {} tried, 0 accepted", forged.len());
    }
}

/// Header and claims of a token, or the token itself if they cannot be read.
fn opened_or(token: &str) -> String {
    let parts = token.split('.').take(2);
    let text = parts.map(|part| {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(part);
        bytes.map_or(part.to_owned(), |bytes| {
            String::from_utf8_lossy(&bytes).into_owned()
        })
    });
    text.collect::<Vec<_>>().join(" . ")
}

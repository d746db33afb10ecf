//! Refresh tokens: encoding and verification. Clients treat a token as opaque.
//!
//! A token holds its session id and its sequence number in that session, and a MAC over both. This has three effects: a
//! forged token is rejected without a lookup in Redis; no data in Redis is a token or can be turned into one; and the next
//! token of a session can be encoded again, byte for byte. The session record says whether a genuine token is still current.
//!
//! The MAC keys (`REFRESH_SECRET`) are separate, because signing keys retire long before refresh tokens expire. The first key
//! encodes tokens and every key verifies them. To rotate, append a new key on all replicas, then move it to the front.

use aws_lc_rs::{hkdf, hmac};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use crate::config::Secret;
use crate::domain::{RefreshClaims, SessionId, Username};

/// Maximum length of a token; longer input is rejected undecoded.
const MAX_TOKEN_BYTES: usize = 512;
/// Version of the token format.
const FORMAT_VERSION: u8 = 1;
/// Length of a key name in bytes.
const KEY_NAME_LEN: usize = 4;
/// Length of the MAC in bytes (HMAC-SHA-256).
const MAC_LEN: usize = 32;

/// Codec of refresh tokens.
pub struct RefreshTokens {
    keys: Vec<Key>,
}

struct Key {
    name: [u8; KEY_NAME_LEN],
    mac: hmac::Key,
}

impl RefreshTokens {
    /// Creates the codec from the configured secrets; the first one encodes. If access tokens are signed with a secret, a key
    /// derived from that secret (HKDF, RFC 5869) comes last. It encodes tokens as long as `secrets` is empty, and still verifies
    /// those tokens after a secret has been set.
    ///
    /// # Errors
    /// A sentence if there is no key at all, or if the cryptographic library fails.
    pub fn new(secrets: &[Secret], signing: Option<&Secret>) -> Result<Self, &'static str> {
        let mut keys: Vec<_> = secrets
            .iter()
            .map(|secret| Key::new(secret.expose().as_bytes()))
            .collect();
        if let Some(signing) = signing {
            let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"portcullis");
            let mut derived = Zeroizing::new([0; MAC_LEN]);
            salt.extract(signing.expose().as_bytes())
                .expand(&[b"refresh tokens, version 1"], hkdf::HKDF_SHA256)
                .and_then(|key| key.fill(&mut *derived))
                .map_err(|_| "a key for refresh tokens cannot be derived")?;
            keys.push(Key::new(&*derived));
        }
        if keys.is_empty() {
            return Err("REFRESH_SECRET: must be set beside JWT_KEYS_DIR");
        }
        Ok(Self { keys })
    }

    /// Encodes a token. The same claims give the same token as long as the first key stays the same.
    #[must_use]
    pub fn encode(&self, claims: &RefreshClaims) -> String {
        let Some(key) = self.keys.first() else {
            return String::new();
        };
        let mut bytes = vec![FORMAT_VERSION];
        bytes.extend(key.name);
        bytes.extend(claims.sid.to_bits().to_be_bytes());
        bytes.extend(claims.number.to_be_bytes());
        // The user id has a fixed length; the name takes the rest.
        bytes.extend(claims.user.to_string().as_bytes());
        bytes.extend(claims.username.as_str().as_bytes());
        let mac = hmac::sign(&key.mac, &bytes);
        bytes.extend(mac.as_ref());
        BASE64_URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Verifies the MAC of a token and returns its claims; `None` if the token was not issued here.
    #[must_use]
    pub fn verify_signature(&self, token: &str) -> Option<RefreshClaims> {
        if token.len() > MAX_TOKEN_BYTES {
            return None;
        }
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(token).ok()?;
        let (claimed, mac) = bytes.split_at_checked(bytes.len().checked_sub(MAC_LEN)?)?;
        let (form, rest) = claimed.split_first()?;
        let (name, rest) = rest.split_first_chunk::<KEY_NAME_LEN>()?;
        let known = self.keys.iter().filter(|key| key.name == *name);
        let made_by = |key: &Key| hmac::verify(&key.mac, claimed, mac).is_ok();
        if *form != FORMAT_VERSION || !known.into_iter().any(made_by) {
            return None;
        }
        let (sid, rest) = rest.split_first_chunk::<16>()?;
        let (number, rest) = rest.split_first_chunk::<8>()?;
        let (user, username) = std::str::from_utf8(rest).ok()?.split_at_checked(36)?;
        Some(RefreshClaims {
            user: user.parse().ok()?,
            username: username.parse::<Username>().ok()?,
            sid: SessionId::from_bits(u128::from_be_bytes(*sid)),
            number: u64::from_be_bytes(*number),
        })
    }
}

impl Key {
    fn new(secret: &[u8]) -> Self {
        let mac = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let mut name = [0; KEY_NAME_LEN];
        name.copy_from_slice(&hmac::sign(&mac, b"name of the key").as_ref()[..KEY_NAME_LEN]);
        Self { name, mac }
    }
}

/// Shows the number of keys only: a key must not reach a log.
impl std::fmt::Debug for RefreshTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RefreshTokens")
            .field("keys", &self.keys.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::UserId;

    fn secret(text: &str) -> Secret {
        Secret::new(text.to_owned())
    }

    fn tokens(secrets: &[&str]) -> RefreshTokens {
        let secrets: Vec<_> = secrets.iter().map(|text| secret(text)).collect();
        RefreshTokens::new(&secrets, Some(&secret("signing"))).unwrap()
    }

    fn claims() -> RefreshClaims {
        RefreshClaims {
            user: UserId::new(),
            username: "alice@example.org".parse().unwrap(),
            sid: SessionId::random(),
            number: 7,
        }
    }

    #[test]
    fn a_token_decodes_to_its_claims_and_encodes_the_same_each_time() {
        let (tokens, claims) = (tokens(&["one"]), claims());
        let token = tokens.encode(&claims);
        assert_eq!(tokens.verify_signature(&token), Some(claims.clone()));
        assert_eq!(tokens.encode(&claims), token);
    }

    #[test]
    fn changed_truncated_and_extended_tokens_are_rejected() {
        let tokens = tokens(&["one"]);
        let token = tokens.encode(&claims());
        let mut tried = 0;
        for at in 0..token.len() {
            assert_eq!(tokens.verify_signature(&token[..at]), None);
            for byte in 0x21..0x7F {
                let mut changed = token.clone().into_bytes();
                if changed[at] == byte {
                    continue;
                }
                changed[at] = byte;
                let changed = String::from_utf8(changed).unwrap();
                assert_eq!(tokens.verify_signature(&changed), None, "{changed}");
                tried += 1;
            }
        }
        assert_eq!(tokens.verify_signature(&format!("{token}A")), None);
        println!("0 of {tried} changed tokens were accepted");
    }

    #[test]
    fn every_key_verifies_and_the_first_encodes() {
        let (old, both, new) = (tokens(&["one"]), tokens(&["two", "one"]), tokens(&["two"]));
        let claims = claims();
        let (first, second) = (old.encode(&claims), both.encode(&claims));
        assert_eq!(both.verify_signature(&first).as_ref(), Some(&claims));
        assert_eq!(new.verify_signature(&second).as_ref(), Some(&claims));
        assert_eq!(
            (old.verify_signature(&second), new.verify_signature(&first)),
            (None, None)
        );
    }

    #[test]
    fn without_a_secret_the_key_is_derived_and_still_verifies_once_one_is_set() {
        let derived = |signing: &str| RefreshTokens::new(&[], Some(&secret(signing))).unwrap();
        let claims = claims();
        let token = derived("signing").encode(&claims);
        assert!(derived("signing").verify_signature(&token).is_some());
        assert!(derived("another").verify_signature(&token).is_none());
        assert!(
            RefreshTokens::new(&[secret("signing")], None)
                .unwrap()
                .verify_signature(&token)
                .is_none()
        );
        // A secret that is set later encodes tokens, and sessions opened before stay open.
        let later = tokens(&["one"]);
        assert!(later.verify_signature(&token).is_some());
        assert!(
            derived("signing")
                .verify_signature(&later.encode(&claims))
                .is_none()
        );
        assert!(RefreshTokens::new(&[], None).is_err());
    }
}

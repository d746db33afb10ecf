//! Refresh tokens: opaque to whoever holds them, made and recognised here.
//!
//! A token says which session it belongs to and its number among those of that session, and carries a MAC over both. So a
//! forged one is refused without a look into Redis, nothing in Redis is a token or can be made one, and the successor of a
//! token can be handed out again as it was. What became of a token that is ours, the session's record knows.
//!
//! The keys are their own (`REFRESH_SECRET`), because signing keys retire long before refresh tokens do. The first makes
//! tokens, all recognise them: a new key is appended on all replicas, and then moved to the front.

use aws_lc_rs::{hkdf, hmac};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use crate::config::Secret;
use crate::domain::{RefreshClaims, SessionId, Username};

/// No token of ours is longer.
const MAX_TOKEN_BYTES: usize = 512;
/// The form of tokens; another one would have another number.
const FORM: u8 = 1;
/// How many bytes name a key.
const KEY_NAME: usize = 4;
/// How many bytes the MAC has (HMAC-SHA-256).
const MAC: usize = 32;

/// Makes and recognises refresh tokens.
pub struct RefreshTokens {
    keys: Vec<Key>,
}

struct Key {
    name: [u8; KEY_NAME],
    mac: hmac::Key,
}

impl RefreshTokens {
    /// With the secrets of the settings, of which the first makes tokens. Last stands a key that is derived from the secret that
    /// signs access tokens (HKDF, RFC 5869), where there is one: so it makes tokens where no secret is set, and what it has made
    /// is recognised after one was.
    ///
    /// # Errors
    /// A sentence where the cryptographic library fails.
    pub fn new(secrets: &[Secret], signing: Option<&Secret>) -> Result<Self, &'static str> {
        let mut keys: Vec<_> = secrets
            .iter()
            .map(|secret| Key::new(secret.expose().as_bytes()))
            .collect();
        if let Some(signing) = signing {
            let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"portcullis");
            let mut derived = Zeroizing::new([0; MAC]);
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

    /// Makes a token. The same claims make the same token for as long as the first key stays.
    #[must_use]
    pub fn make(&self, claims: &RefreshClaims) -> String {
        let Some(key) = self.keys.first() else {
            return String::new();
        };
        let mut bytes = vec![FORM];
        bytes.extend(key.name);
        bytes.extend(claims.sid.to_bits().to_be_bytes());
        bytes.extend(claims.number.to_be_bytes());
        // The identity has a fixed length, and the name takes the rest.
        bytes.extend(claims.user.to_string().as_bytes());
        bytes.extend(claims.username.as_str().as_bytes());
        let mac = hmac::sign(&key.mac, &bytes);
        bytes.extend(mac.as_ref());
        BASE64_URL_SAFE_NO_PAD.encode(bytes)
    }

    /// What a token says; `None` for what we have not made.
    #[must_use]
    pub fn recognise(&self, token: &str) -> Option<RefreshClaims> {
        if token.len() > MAX_TOKEN_BYTES {
            return None;
        }
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(token).ok()?;
        let (claimed, mac) = bytes.split_at_checked(bytes.len().checked_sub(MAC)?)?;
        let (form, rest) = claimed.split_first()?;
        let (name, rest) = rest.split_first_chunk::<KEY_NAME>()?;
        let known = self.keys.iter().filter(|key| key.name == *name);
        let made_by = |key: &Key| hmac::verify(&key.mac, claimed, mac).is_ok();
        if *form != FORM || !known.into_iter().any(made_by) {
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
        let mut name = [0; KEY_NAME];
        name.copy_from_slice(&hmac::sign(&mac, b"name of the key").as_ref()[..KEY_NAME]);
        Self { name, mac }
    }
}

/// Shows no key.
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
    fn a_token_says_what_it_was_made_of_and_is_the_same_each_time() {
        let (tokens, claims) = (tokens(&["one"]), claims());
        let token = tokens.make(&claims);
        assert_eq!(tokens.recognise(&token), Some(claims.clone()));
        assert_eq!(tokens.make(&claims), token);
    }

    #[test]
    fn no_changed_byte_no_beginning_and_no_lengthening_is_recognised() {
        let tokens = tokens(&["one"]);
        let token = tokens.make(&claims());
        let mut tried = 0;
        for at in 0..token.len() {
            assert_eq!(tokens.recognise(&token[..at]), None);
            for byte in 0x21..0x7F {
                let mut changed = token.clone().into_bytes();
                if changed[at] == byte {
                    continue;
                }
                changed[at] = byte;
                let changed = String::from_utf8(changed).unwrap();
                assert_eq!(tokens.recognise(&changed), None, "{changed}");
                tried += 1;
            }
        }
        assert_eq!(tokens.recognise(&format!("{token}A")), None);
        println!("0 of {tried} changed tokens were recognised");
    }

    #[test]
    fn all_keys_of_the_list_recognise_and_the_first_makes() {
        let (old, both, new) = (tokens(&["one"]), tokens(&["two", "one"]), tokens(&["two"]));
        let claims = claims();
        let (first, second) = (old.make(&claims), both.make(&claims));
        assert_eq!(both.recognise(&first).as_ref(), Some(&claims));
        assert_eq!(new.recognise(&second).as_ref(), Some(&claims));
        assert_eq!(
            (old.recognise(&second), new.recognise(&first)),
            (None, None)
        );
    }

    #[test]
    fn without_a_secret_the_key_comes_from_the_signing_secret_and_is_recognised_after_one_is_set() {
        let derived = |signing: &str| RefreshTokens::new(&[], Some(&secret(signing))).unwrap();
        let claims = claims();
        let token = derived("signing").make(&claims);
        assert!(derived("signing").recognise(&token).is_some());
        assert!(derived("another").recognise(&token).is_none());
        assert!(
            RefreshTokens::new(&[secret("signing")], None)
                .unwrap()
                .recognise(&token)
                .is_none()
        );
        // A secret that is set later makes tokens, and ends nobody's session.
        let later = tokens(&["one"]);
        assert!(later.recognise(&token).is_some());
        assert!(derived("signing").recognise(&later.make(&claims)).is_none());
        assert!(RefreshTokens::new(&[], None).is_err());
    }
}

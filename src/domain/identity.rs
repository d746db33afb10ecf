//! Identifiers of users, sessions and tokens, and names of roles.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::rand;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::ParseError;

/// Id of an account (UUID version 7). It is never reused, even if the username is deleted and registered again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UserId(Uuid);

impl UserId {
    /// Generates a new id.
    #[must_use]
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }

    /// Number that distributes users evenly over shards: the random end of the id.
    #[must_use]
    pub fn shard_hash(self) -> usize {
        let (_, random) = self.0.as_u64_pair();
        usize::try_from(random & u64::from(u32::MAX)).unwrap_or(0)
    }
}

impl Default for UserId {
    fn default() -> Self {
        Self::new()
    }
}

impl TryFrom<String> for UserId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse().map_err(|ParseError| "not a user's identity")
    }
}

impl From<UserId> for String {
    fn from(id: UserId) -> Self {
        id.to_string()
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for UserId {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        // Only the form that `Display` writes: 36 characters with hyphens.
        if text.len() != 36 {
            return Err(ParseError);
        }
        Uuid::try_parse(text).map(Self).map_err(|_| ParseError)
    }
}

/// Id of a session, that is of all tokens that descend from one login: 128 random bits, written as 22 characters of base64url.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SessionId(u128);

impl SessionId {
    /// Generates a new id.
    #[must_use]
    pub fn random() -> Self {
        Self(random_bits())
    }

    /// Creates an id from its bits.
    #[must_use]
    pub const fn from_bits(bits: u128) -> Self {
        Self(bits)
    }

    /// The 128 bits.
    #[must_use]
    pub const fn to_bits(self) -> u128 {
        self.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_bits(self.0, f)
    }
}

impl FromStr for SessionId {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        parse_bits(text).map(Self)
    }
}

impl TryFrom<String> for SessionId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse().map_err(|ParseError| "not a session identity")
    }
}

impl From<SessionId> for String {
    fn from(sid: SessionId) -> Self {
        sid.to_string()
    }
}

/// Id of a token (`jti`, RFC 7519 §4.1.7): 128 random bits, written as 22 characters of base64url.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TokenId(u128);

impl TokenId {
    /// Generates a new id.
    #[must_use]
    pub fn random() -> Self {
        Self(random_bits())
    }
}

impl TryFrom<String> for TokenId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        parse_bits(&text)
            .map(Self)
            .map_err(|ParseError| "not a token identity")
    }
}

impl From<TokenId> for String {
    fn from(id: TokenId) -> Self {
        Encoded(id.0).to_string()
    }
}

/// Role: a permission beyond the user's own account. 1 to 32 of `a-z 0-9 _ -`, beginning with a letter.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Role(String);

impl Role {
    /// Role that may administer other accounts.
    pub const ADMIN: &str = "admin";

    /// Name of the role.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Role {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let allowed =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
        let begins_well = text
            .bytes()
            .next()
            .is_some_and(|byte| byte.is_ascii_lowercase());
        if text.len() <= 32 && begins_well && text.bytes().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(ParseError)
        }
    }
}

impl TryFrom<String> for Role {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse().map_err(|ParseError| "not the name of a role")
    }
}

impl From<Role> for String {
    fn from(role: Role) -> Self {
        role.0
    }
}

struct Encoded(u128);

impl fmt::Display for Encoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_bits(self.0, f)
    }
}

fn random_bits() -> u128 {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).expect("the operating system provides randomness");
    u128::from_be_bytes(bytes)
}

fn write_bits(bits: u128, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut text = [0; 22];
    BASE64_URL_SAFE_NO_PAD
        .encode_slice(bits.to_be_bytes(), &mut text)
        .map_err(|_| fmt::Error)?;
    f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
}

fn parse_bits(text: &str) -> Result<u128, ParseError> {
    let mut bytes = [0; 16];
    if text.len() != 22 || BASE64_URL_SAFE_NO_PAD.decode_slice(text, &mut bytes) != Ok(16) {
        return Err(ParseError);
    }
    Ok(u128::from_be_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_identity_survives_being_written() {
        let sid = SessionId::random();
        assert_eq!(sid.to_string().len(), 22);
        assert_eq!(sid.to_string().parse(), Ok(sid));
    }

    #[test]
    fn a_session_identity_has_one_spelling_only() {
        // The last character carries four bits that must be zero; another spelling of the same bits is refused.
        let text = SessionId::from_bits(0).to_string();
        assert_eq!(
            format!("{}B", &text[..21]).parse::<SessionId>(),
            Err(ParseError)
        );
        assert_eq!(format!("{text}==").parse::<SessionId>(), Err(ParseError));
    }

    #[test]
    fn a_user_identity_survives_being_written() {
        let id = UserId::new();
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(
            id.to_string().replace('-', "").parse::<UserId>(),
            Err(ParseError)
        );
    }

    #[test]
    fn roles_are_plain_words() {
        assert!("admin".parse::<Role>().is_ok());
        for text in ["", "Admin", "9", "a b", "a,b", &"a".repeat(33)] {
            assert_eq!(text.parse::<Role>(), Err(ParseError), "{text:?}");
        }
    }
}

//! Usernames, and the hash tag that places a user's data in Redis.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use super::ParseError;

/// Name of an account: 3 to 64 of `a-z 0-9 . _ - + @`, beginning with a letter or digit.
///
/// Upper case is folded to lower case: `Alice` and `alice` are one account. E-mail addresses are valid. Only ASCII is
/// allowed, so two names that look alike are equal.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Username(String);

impl Username {
    /// Rule for usernames, as an error sentence.
    pub const RULE: &'static str = "must be 3 to 64 of a-z, 0-9 and . _ - + @, and begin with a letter or a digit (upper case counts as lower case)";

    /// Name in lower case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Hash tag that places all keys of this user in one slot of a Redis Cluster.
    #[must_use]
    pub fn tag(&self) -> UserTag {
        let hash = digest(&SHA256, self.0.as_bytes());
        let mut tag = [0; 4];
        tag.copy_from_slice(&hash.as_ref()[..4]);
        UserTag(u32::from_be_bytes(tag))
    }
}

impl FromStr for Username {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        if !(3..=64).contains(&text.len()) {
            return Err(ParseError);
        }
        let name = text.to_ascii_lowercase();
        let allowed = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-+@".contains(&byte)
        };
        let first = name.as_bytes()[0];
        if (first.is_ascii_lowercase() || first.is_ascii_digit()) && name.bytes().all(allowed) {
            Ok(Self(name))
        } else {
            Err(ParseError)
        }
    }
}

impl TryFrom<String> for Username {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse().map_err(|ParseError| Self::RULE)
    }
}

impl From<Username> for String {
    fn from(name: Username) -> Self {
        name.0
    }
}

impl fmt::Display for Username {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Hash tag of a user: the first four bytes of the SHA-256 of the username. Users with the same tag share only a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct UserTag(u32);

impl UserTag {
    /// Creates a tag from its number.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// Number of the tag.
    #[must_use]
    pub const fn to_bits(self) -> u32 {
        self.0
    }
}

impl fmt::Display for UserTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl FromStr for UserTag {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        if text.len() != 8 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(ParseError);
        }
        u32::from_str_radix(text, 16)
            .map(Self)
            .map_err(|_| ParseError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_is_folded() {
        assert_eq!("Alice".parse::<Username>().unwrap().as_str(), "alice");
    }

    #[test]
    fn e_mail_addresses_fit() {
        assert!("alice+shop@example.org".parse::<Username>().is_ok());
    }

    #[test]
    fn look_alikes_and_control_characters_do_not_fit() {
        for name in [
            "аdmin",
            "ⓐdmin",
            "admin\u{200b}",
            "ﬁle",
            "İstanbul",
            "a\0b",
            "a b c",
            "*",
            "a:b:c",
            "{evil}",
            "-dash",
            "ab",
            "",
        ] {
            assert_eq!(name.parse::<Username>(), Err(ParseError), "{name:?}");
        }
        assert_eq!("a".repeat(65).parse::<Username>(), Err(ParseError));
        assert!("a".repeat(64).parse::<Username>().is_ok());
    }

    #[test]
    fn a_tag_is_the_start_of_the_hash_of_the_name() {
        // sha256("alice") = 2bd806c9…
        let tag = "alice".parse::<Username>().unwrap().tag();
        assert_eq!(tag.to_string(), "2bd806c9");
        assert_eq!("2bd806c9".parse(), Ok(tag));
    }
}

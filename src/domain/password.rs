//! Typed passwords and stored hashes: two types, so that one cannot be passed for the other.

use std::fmt;
use std::str::FromStr;

use unicode_normalization::UnicodeNormalization;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::ParseError;

/// Password as typed, in Unicode's NFKC form: the same password typed on two keyboards is equal.
///
/// The text is not trimmed, truncated or case-folded. `Debug` shows nothing, and the text is wiped when dropped.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Password(String);

impl Password {
    /// Maximum number of characters (Unicode scalar values) in a password.
    pub const MAX_CHARS: usize = 256;

    /// Maximum number of bytes of a typed text, checked before anything else: four per character.
    const MAX_BYTES: usize = Self::MAX_CHARS * 4;

    /// Normalises a typed text. Fails only if the text is longer than the maximum.
    ///
    /// # Errors
    /// [`ParseError`] for more than [`Password::MAX_CHARS`] characters.
    pub fn parse(mut text: String) -> Result<Self, ParseError> {
        let fits = text.len() <= Self::MAX_BYTES && text.chars().count() <= Self::MAX_CHARS;
        let normal = fits.then(|| Self(text.nfkc().collect()));
        text.zeroize();
        normal.ok_or(ParseError)
    }

    /// Placeholder for a text that cannot be a password: it is checked like any other and never matches.
    #[must_use]
    pub fn unmatchable() -> Self {
        Self(String::new())
    }

    /// The text, for hashing and the strength estimate only.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Checks the rules for new passwords; returns the rule that is broken, if any. A password is refused if it is too short, or
    /// easy to guess by an attacker who knows the username. There are no composition rules (NIST SP 800-63B §3.1.1.2).
    #[must_use]
    pub fn check_policy(&self, min_chars: usize, username: &str) -> Option<PasswordRule> {
        if self.0.chars().count() < min_chars {
            return Some(PasswordRule::TooShort { min_chars });
        }
        let context = [username, "portcullis"];
        let score = zxcvbn::zxcvbn(&self.0, &context).score();
        (score < zxcvbn::Score::Three).then_some(PasswordRule::Guessable)
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// Rule for new passwords that was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PasswordRule {
    /// Fewer characters than the minimum.
    TooShort {
        /// Minimum number of characters.
        min_chars: usize,
    },
    /// More than [`Password::MAX_CHARS`] characters.
    TooLong,
    /// Easy to guess.
    Guessable,
}

impl fmt::Display for PasswordRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort { min_chars } => write!(f, "must have at least {min_chars} characters"),
            Self::TooLong => write!(f, "must have at most {} characters", Password::MAX_CHARS),
            Self::Guessable => f.write_str(
                "is too easy to guess: avoid common words, repetitions, dates and the username; a few unrelated words make a good one",
            ),
        }
    }
}

/// Stored password hash: the scheme of the bcrypt input, the id of the pepper if there is one, and the bcrypt string.
///
/// Written as `p1$$2b$12$…` (pre-hashed with the built-in key), `p1:<pepper id>$$2b$12$…` (with a pepper), or as a plain
/// bcrypt string from elsewhere (`$2a$`, `$2b$`, `$2y$`). Only the form is checked here.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash {
    scheme: Scheme,
    bcrypt: String,
}

/// Scheme of the input of bcrypt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scheme {
    /// The password itself, as in hashes from other programs.
    Plain,
    /// Keyed pre-hash of the password.
    Prehashed {
        /// Id of the pepper that is the key; `None` for the built-in key.
        pepper: Option<String>,
    },
}

impl PasswordHash {
    /// Creates a hash from its parts.
    #[must_use]
    pub fn new(scheme: Scheme, bcrypt: String) -> Self {
        Self { scheme, bcrypt }
    }

    /// Scheme of the input of bcrypt.
    #[must_use]
    pub fn scheme(&self) -> &Scheme {
        &self.scheme
    }

    /// The bcrypt string: `$2b$12$` and 53 characters.
    #[must_use]
    pub fn bcrypt(&self) -> &str {
        &self.bcrypt
    }
}

impl FromStr for PasswordHash {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let (scheme, bcrypt) = if text.starts_with('$') {
            (Scheme::Plain, text)
        } else {
            let (scheme, bcrypt) = text.split_once('$').ok_or(ParseError)?;
            let pepper = match scheme.split_once(':') {
                None if scheme == "p1" => None,
                Some(("p1", id)) if !id.is_empty() => Some(id.to_owned()),
                _ => return Err(ParseError),
            };
            (Scheme::Prehashed { pepper }, bcrypt)
        };
        let known = ["$2a$", "$2b$", "$2y$"]
            .iter()
            .any(|prefix| bcrypt.starts_with(prefix));
        if known && bcrypt.len() == 60 && bcrypt.is_ascii() {
            Ok(Self {
                scheme,
                bcrypt: bcrypt.to_owned(),
            })
        } else {
            Err(ParseError)
        }
    }
}

impl fmt::Display for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.scheme {
            Scheme::Plain => f.write_str(&self.bcrypt),
            Scheme::Prehashed { pepper: None } => write!(f, "p1${}", self.bcrypt),
            Scheme::Prehashed { pepper: Some(id) } => write!(f, "p1:{id}${}", self.bcrypt),
        }
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(text: &str) -> Password {
        Password::parse(text.to_owned()).unwrap()
    }

    #[test]
    fn composed_and_decomposed_letters_are_one_password() {
        assert_eq!(
            password("caf\u{e9} au lait").expose(),
            password("cafe\u{301} au lait").expose()
        );
    }

    #[test]
    fn spaces_and_case_count() {
        assert_ne!(password(" secret ").expose(), password("secret").expose());
        assert_ne!(password("Secret").expose(), password("secret").expose());
    }

    #[test]
    fn sixty_four_characters_of_four_bytes_fit_and_257_do_not() {
        assert!(Password::parse("\u{1F512}".repeat(64)).is_ok());
        assert!(Password::parse("a".repeat(257)).is_err());
        assert!(Password::parse("a".repeat(1 << 20)).is_err());
    }

    #[test]
    fn a_guessable_password_is_refused_with_the_username_as_context() {
        assert_eq!(
            password("passwordpassword").check_policy(8, "alice"),
            Some(PasswordRule::Guessable)
        );
        assert_eq!(
            password("margaret-thatcherson").check_policy(8, "margaret-thatcherson"),
            Some(PasswordRule::Guessable)
        );
        assert_eq!(
            password("short").check_policy(8, "alice"),
            Some(PasswordRule::TooShort { min_chars: 8 })
        );
        assert_eq!(
            password("correct horse battery staple").check_policy(8, "alice"),
            None
        );
    }

    #[test]
    fn neither_a_password_nor_a_hash_shows_in_debug() {
        let hash: PasswordHash = format!("p1$$2b$12${}", "x".repeat(53)).parse().unwrap();
        assert_eq!(
            format!("{:?} {hash:?}", password("hunter2hunter2")),
            "Password(…) PasswordHash(…)"
        );
    }

    #[test]
    fn every_stored_form_survives_being_written() {
        let bcrypt = format!("$2b$12${}", "x".repeat(53));
        for text in [
            bcrypt.clone(),
            format!("p1${bcrypt}"),
            format!("p1:k7${bcrypt}"),
        ] {
            assert_eq!(text.parse::<PasswordHash>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "p1$",
            "p2$x",
            "p1:$$2b$",
            "$2b$12$short",
            &"é".repeat(30),
        ] {
            assert!(text.parse::<PasswordHash>().is_err(), "{text:?}");
        }
    }
}

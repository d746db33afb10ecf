//! Secrets: reading them, detecting weak ones, and a type whose `Debug` never shows them.

use std::fmt;
use std::path::PathBuf;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use super::Parsed;

/// A secret value. `Debug` shows nothing; it is wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Wraps a secret.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// Generates 256 random bits, as base64url.
    ///
    /// # Panics
    /// If the operating system provides no randomness.
    #[must_use]
    pub fn generate() -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        aws_lc_rs::rand::fill(&mut *bytes).expect("the operating system provides randomness");
        Self::new(BASE64_URL_SAFE_NO_PAD.encode(*bytes))
    }

    /// The secret itself, for code that must use it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Reason to refuse this secret as a key: too short, well known, or repetitive. `None` if it is strong enough.
    #[must_use]
    pub fn weakness(&self) -> Option<&'static str> {
        let text = self.expose();
        let folded = text.to_ascii_lowercase();
        // Well-known secrets first: an operator who uses one learns that, even if it is short too.
        if WELL_KNOWN
            .iter()
            .any(|known| folded.replace(known, "").len() * 2 < folded.len())
        {
            Some("is, or repeats, a secret that is published in examples")
        } else if text.len() < 32 {
            Some("is shorter than 32 bytes")
        } else if is_repetitive(text.as_bytes()) {
            Some("repeats itself")
        } else {
            None
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Secrets from tutorials and examples, in lower case. The first is from the tutorial that this service replaces.
const WELL_KNOWN: [&str; 16] = [
    "supersecretkey",
    "your-256-bit-secret",
    "your_jwt_secret",
    "your-secret-key",
    "your_secret_key",
    "mysecretkey",
    "mysecret",
    "secretkey",
    "supersecret",
    "jwt_secret",
    "jwtsecret",
    "changeme",
    "change-me",
    "change_me",
    "password",
    "keyboard cat",
];

/// Returns `true` for fewer than ten different bytes, or a period that fits at least twice.
fn is_repetitive(bytes: &[u8]) -> bool {
    let mut seen = [false; 256];
    for &byte in bytes {
        seen[usize::from(byte)] = true;
    }
    let different = seen.iter().filter(|&&s| s).count();
    let periodic =
        (1..=bytes.len() / 2).any(|period| bytes[period..].iter().zip(bytes).all(|(a, b)| a == b));
    different < 10 || periodic
}

/// Reads a secret from its variable or its file; `None` if neither is set. An empty value counts as unset: compose files pass
/// unset variables on as empty ones.
///
/// # Errors
/// A sentence, if the value is not text, the file cannot be read, or both are set.
pub(super) fn secret(
    variable: &'static str,
    file: Option<Parsed<PathBuf>>,
) -> Result<Option<Secret>, String> {
    #[expect(
        clippy::disallowed_methods,
        reason = "secrets are not options, so clap does not read them"
    )]
    let inline = std::env::var_os(variable).filter(|text| !text.is_empty());
    let file = file
        .and_then(Parsed::value)
        .filter(|path| !path.as_os_str().is_empty());
    match (inline, file) {
        (Some(_), Some(_)) => Err(format!("{variable}: set it or {variable}_FILE, not both")),
        (Some(text), None) => match text.into_string() {
            Ok(text) => Ok(Some(Secret::new(text))),
            Err(_) => Err(format!("{variable}: must be text in UTF-8")),
        },
        (None, None) => Ok(None),
        (None, Some(path)) => match std::fs::read_to_string(path) {
            Ok(text) => Ok(Some(Secret::new(
                text.trim_end_matches(['\r', '\n']).to_owned(),
            ))),
            Err(error) => Err(format!(
                "{variable}_FILE: the file cannot be read ({})",
                error.kind()
            )),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weakness(text: &str) -> Option<&'static str> {
        Secret::new(text.to_owned()).weakness()
    }

    #[test]
    fn secrets_of_tutorials_are_refused() {
        for text in [
            "supersecretkey",
            "SuperSecretKey",
            "changemechangemechangemechangemechangeme",
            "your-256-bit-secret",
        ] {
            assert_eq!(
                weakness(text),
                Some("is, or repeats, a secret that is published in examples"),
                "{text}"
            );
        }
    }

    #[test]
    fn short_and_repetitive_secrets_are_refused() {
        assert!(weakness("").is_some());
        assert!(weakness("3fA9kQ2pX7vLr8TnB5yWc1ZeH6uMd0J").is_some());
        assert!(weakness(&"a".repeat(32)).is_some());
        assert!(weakness(&"qwertyuiop1".repeat(4)).is_some());
    }

    #[test]
    fn a_random_secret_is_accepted() {
        assert_eq!(weakness("3fA9kQ2pX7vLr8TnB5yWc1ZeH6uMd0Js"), None);
    }

    #[test]
    fn debug_hides_a_secret() {
        assert_eq!(format!("{:?}", Secret::new("abc".to_owned())), "Secret(…)");
    }
}

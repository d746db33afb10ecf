//! Steps of a key rotation in a folder of keys: generate the next key, activate it, retire an old one.
//!
//! Names are dates, so that the newest key has the greatest name, and the greatest name signs.

use std::fs;
use std::path::Path;

use super::folder::{KeyFile, KeyState, read, write};
use super::key::KeyKind;
use crate::domain::Timestamp;

/// Description of a key in the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyInfo {
    /// File name.
    pub name: String,
    /// Key id in the tokens.
    pub kid: String,
    /// Algorithm of the key.
    pub algorithm: String,
    /// State of the key.
    pub state: KeyState,
}

impl From<KeyFile> for KeyInfo {
    fn from(file: KeyFile) -> Self {
        Self {
            algorithm: format!("{:?}", file.key.algorithm),
            name: file.name,
            kid: file.key.kid,
            state: file.state,
        }
    }
}

/// Returns the keys of the folder, in the order of their names.
///
/// # Errors
/// A sentence that names the file that is not a key.
pub fn list(folder: &Path) -> Result<Vec<KeyInfo>, String> {
    Ok(read(folder)?.into_iter().map(KeyInfo::from).collect())
}

/// Generates the first key, which signs at once. Returns the name of its file.
///
/// # Errors
/// A sentence if a key signs already: its successor must be published before it signs.
pub fn generate(folder: &Path, kind: KeyKind, now: Timestamp) -> Result<String, String> {
    let there = folder.exists().then(|| list(folder)).transpose()?;
    let signs = |key: &KeyInfo| key.state == KeyState::Active;
    if there.is_some_and(|keys| keys.iter().any(signs)) {
        return Err(
            "there is a key that signs already: make the next one with: portcullis keys stage"
                .to_owned(),
        );
    }
    let name = format!("{}.pem", date(now));
    write(folder, &name, &kind.generate()?)?;
    Ok(name)
}

/// Generates a key that is published and does not sign yet. Returns the name of its file.
///
/// # Errors
/// A sentence if the key cannot be generated or written.
pub fn stage(folder: &Path, kind: KeyKind, now: Timestamp) -> Result<String, String> {
    let name = format!("{}.next.pem", date(now));
    write(folder, &name, &kind.generate()?)?;
    Ok(name)
}

/// Activates the next key, which signs from now on. Returns its old and its new name.
///
/// # Errors
/// A sentence if there is no next key, or more than one.
pub fn activate(folder: &Path, now: Timestamp) -> Result<(String, String), String> {
    let keys = list(folder)?;
    let mut next = keys.iter().filter(|key| key.state == KeyState::Next);
    let (Some(key), None) = (next.next(), next.next()) else {
        return Err(
            "there must be one key that is next: make it with: portcullis keys stage".to_owned(),
        );
    };
    // An operator may have chosen a name that is greater than a date. The new name then extends it: a tilde sorts after the dot.
    let greatest = keys.iter().rfind(|other| other.state == KeyState::Active);
    let greatest = greatest.and_then(|active| active.name.strip_suffix(".pem"));
    let name = match greatest {
        Some(greatest) if *greatest >= *date(now) => format!("{greatest}~{}.pem", date(now)),
        _ => format!("{}.pem", date(now)),
    };
    fs::rename(folder.join(&key.name), folder.join(&name))
        .map_err(|error| format!("{} cannot be renamed ({error})", key.name))?;
    Ok((key.name.clone(), name))
}

/// Removes a key that does not sign. Tokens signed with it are rejected from then on.
///
/// # Errors
/// A sentence if no key has this name or kid, or if the key signs.
pub fn retire(folder: &Path, which: &str) -> Result<String, String> {
    let keys = list(folder)?;
    let key = keys
        .into_iter()
        .find(|key| key.name == which || key.kid == which)
        .ok_or("there is no key of that name in the folder")?;
    if key.state == KeyState::Active {
        return Err(format!(
            "{} signs: let another one sign first, with: portcullis keys activate",
            key.name
        ));
    }
    fs::remove_file(folder.join(&key.name))
        .map_err(|error| format!("{} cannot be removed ({error})", key.name))?;
    Ok(key.name)
}

/// Returns the creation time of a key, if its name begins with a date.
pub(super) fn created_at(name: &str) -> Option<Timestamp> {
    // `2026-01-31T120000`, written by [`date`]: RFC 3339 requires colons in the time.
    let (day, time) = name.get(..17)?.split_once('T')?;
    let time = [time.get(..2)?, time.get(2..4)?, time.get(4..)?].join(":");
    format!("{day}T{time}Z").parse().ok()
}

/// Formats a date that sorts chronologically: `2026-01-31T120000.123Z`.
fn date(now: Timestamp) -> String {
    let text = now.to_string().replace(':', "");
    let text = text
        .trim_end_matches('Z')
        .split('.')
        .next()
        .unwrap_or_default()
        .to_owned();
    format!("{text}.{:03}Z", now.as_millis() % 1000)
}

//! The steps of a rotation, on a folder of keys: make the next key, let it sign, take an old one away.
//!
//! Names are dates, so that the newest is the greatest, and the greatest signs.

use std::fs;
use std::path::Path;

use super::folder::{KeyFile, KeyState, read, write};
use super::key::KeyKind;
use crate::domain::Timestamp;

/// A key in the folder, as one looks at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The name of its file.
    pub name: String,
    /// What tokens call it.
    pub kid: String,
    /// The algorithm it signs with.
    pub algorithm: String,
    /// What it is for.
    pub state: KeyState,
}

impl From<KeyFile> for Listed {
    fn from(file: KeyFile) -> Self {
        Self {
            algorithm: format!("{:?}", file.key.algorithm),
            name: file.name,
            kid: file.key.kid,
            state: file.state,
        }
    }
}

/// The keys in the folder, in the order of their names.
///
/// # Errors
/// A sentence that names the file that is no key.
pub fn list(folder: &Path) -> Result<Vec<Listed>, String> {
    Ok(read(folder)?.into_iter().map(Listed::from).collect())
}

/// Makes the first key, which signs at once. Returns the name of its file.
///
/// # Errors
/// A sentence: there is one that signs already, which a new one may replace only after it was published.
pub fn generate(folder: &Path, kind: KeyKind, now: Timestamp) -> Result<String, String> {
    let there = folder.exists().then(|| list(folder)).transpose()?;
    let signs = |key: &Listed| key.state == KeyState::Active;
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

/// Makes a key that is published and does not sign yet. Returns the name of its file.
///
/// # Errors
/// A sentence where it cannot be made or written.
pub fn stage(folder: &Path, kind: KeyKind, now: Timestamp) -> Result<String, String> {
    let name = format!("{}.next.pem", date(now));
    write(folder, &name, &kind.generate()?)?;
    Ok(name)
}

/// Lets the next key sign. Returns its former and its new name.
///
/// # Errors
/// A sentence: there is none, or more than one.
pub fn activate(folder: &Path, now: Timestamp) -> Result<(String, String), String> {
    let keys = list(folder)?;
    let mut next = keys.iter().filter(|key| key.state == KeyState::Next);
    let (Some(key), None) = (next.next(), next.next()) else {
        return Err(
            "there must be one key that is next: make it with: portcullis keys stage".to_owned(),
        );
    };
    // A tilde sorts after the dot: where a name that somebody chose is greater than a date, the new one continues it.
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

/// Takes a key away that does not sign: tokens that it has signed are refused from then on.
///
/// # Errors
/// A sentence: there is none of that name or kid, or it signs.
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

/// The date in the name of a key, where that begins with one.
pub(super) fn made(name: &str) -> Option<Timestamp> {
    // `2026-01-31T120000`, written by [`date`]: RFC 3339 wants colons in it.
    let (day, time) = name.get(..17)?.split_once('T')?;
    let time = [time.get(..2)?, time.get(2..4)?, time.get(4..)?].join(":");
    format!("{day}T{time}Z").parse().ok()
}

/// A date that sorts as time goes: `2026-01-31T120000.123Z`.
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

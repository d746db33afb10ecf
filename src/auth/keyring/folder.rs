//! A folder of private keys: which of them there are, and what their names say.
//!
//! `*.next.pem` is published and does not sign yet; of the others the greatest name signs, and the rest only verify. Names
//! that begin with a dot are nobody's business: editors leave such files behind, and so does Kubernetes, which swaps a
//! folder of files by a symbolic link.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::key::Key;
use crate::config::Secret;

/// How a name ends that does not sign yet.
const NEXT: &str = ".next.pem";

/// The longest file that is read.
const MAX_BYTES: u64 = 64 * 1024;

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyState {
    /// It is published, so that verifiers know it before it signs.
    Next,
    /// It signs.
    Active,
    /// It verifies what it has signed.
    Retired,
}

impl KeyState {
    /// One word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Next => "next",
            Self::Active => "active",
            Self::Retired => "retired",
        }
    }
}

/// A key in the folder.
#[derive(Debug)]
pub(super) struct KeyFile {
    pub(super) name: String,
    pub(super) state: KeyState,
    pub(super) key: Key,
}

/// What the folder looked like: where it is the same, nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Look(Vec<(String, u64, u64, i64, i64)>);

/// Looks at the names in the folder, and at what they lead to.
pub(super) fn look(folder: &Path) -> Result<Look, String> {
    let mut seen = Vec::new();
    for name in names(folder)? {
        let file = fs::metadata(folder.join(&name)).map_err(|error| sentence(&name, &error))?;
        let (size, inode) = (file.size(), file.ino());
        seen.push((name, size, inode, file.mtime(), file.mtime_nsec()));
    }
    Ok(Look(seen))
}

/// Reads all keys, in the order of their names.
///
/// # Errors
/// A sentence that names the file, and shows nothing of what is in it.
pub(super) fn read(folder: &Path) -> Result<Vec<KeyFile>, String> {
    let mut files = Vec::new();
    for name in names(folder)? {
        let path = folder.join(&name);
        let size = fs::metadata(&path)
            .map_err(|error| sentence(&name, &error))?
            .size();
        if size > MAX_BYTES {
            return Err(format!("JWT_KEYS: {name} is longer than a key"));
        }
        let text = fs::read_to_string(&path).map_err(|error| sentence(&name, &error))?;
        let key =
            Key::from_pem(&Secret::new(text)).map_err(|why| format!("JWT_KEYS: {name} {why}"))?;
        let state = if name.ends_with(NEXT) {
            KeyState::Next
        } else {
            KeyState::Retired
        };
        files.push(KeyFile { name, state, key });
    }
    if let Some(active) = files
        .iter_mut()
        .rfind(|file| file.state == KeyState::Retired)
    {
        active.state = KeyState::Active;
    }
    Ok(files)
}

fn names(folder: &Path) -> Result<Vec<String>, String> {
    let unreadable =
        |error: std::io::Error| format!("JWT_KEYS: the folder cannot be read ({})", error.kind());
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        if let Ok(name) = entry.map_err(unreadable)?.file_name().into_string()
            && Path::new(&name)
                .extension()
                .is_some_and(|extension| extension == "pem")
            && !name.starts_with('.')
        {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

fn sentence(name: &str, error: &std::io::Error) -> String {
    format!("JWT_KEYS: {name} cannot be read ({})", error.kind())
}

/// Writes a new key: for its owner's eyes only, and under its name only when it is whole.
pub(super) fn write(folder: &Path, name: &str, pem: &Secret) -> Result<PathBuf, String> {
    let failed = |error: std::io::Error| format!("{name} cannot be written ({error})");
    fs::create_dir_all(folder).map_err(failed)?;
    let (path, partial) = (folder.join(name), folder.join(format!(".{name}.new")));
    let mut options = fs::OpenOptions::new();
    let options = options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(&partial).map_err(failed)?;
    file.write_all(pem.expose().as_bytes()).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    // Not over a key that is there.
    let named = fs::hard_link(&partial, &path);
    fs::remove_file(&partial).map_err(failed)?;
    named.map_err(failed)?;
    Ok(path)
}

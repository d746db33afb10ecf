//! A folder of private keys: which of them there are, and what their names say.
//!
//! `*.next.pem` is published and does not sign yet; of the others the greatest name signs, and the rest only verify. Names
//! that begin with a dot are nobody's business: editors leave such files behind, and so does Kubernetes, which swaps a
//! folder of files by a symbolic link.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

use super::key::Key;
use super::private_file::keep;
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
pub(super) struct Look(Vec<(String, u64, u64, [i64; 4])>);

/// Looks at the names in the folder, and at what they lead to.
pub(super) fn look(folder: &Path) -> Result<Look, String> {
    let mut seen = Vec::new();
    for name in names(folder)? {
        let file = fs::metadata(folder.join(&name)).map_err(|error| sentence(&name, &error))?;
        let (size, inode) = (file.size(), file.ino());
        let dates = [
            file.mtime(),
            file.mtime_nsec(),
            file.ctime(),
            file.ctime_nsec(),
        ];
        seen.push((name, size, inode, dates));
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
        let file = fs::metadata(&path).map_err(|error| sentence(&name, &error))?;
        // To read a pipe or a device would wait, or never end.
        if !file.is_file() || file.len() > MAX_BYTES {
            return Err(format!(
                "JWT_KEYS_DIR: {name} is no file, or longer than a key"
            ));
        }
        let text = fs::read_to_string(&path).map_err(|error| sentence(&name, &error))?;
        let key = Key::from_pem(&Secret::new(text))
            .map_err(|why| format!("JWT_KEYS_DIR: {name} {why}"))?;
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
    let unreadable = |error: std::io::Error| {
        format!("JWT_KEYS_DIR: the folder cannot be read ({})", error.kind())
    };
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
    format!("JWT_KEYS_DIR: {name} cannot be read ({})", error.kind())
}

/// Writes a new key.
pub(super) fn write(folder: &Path, name: &str, pem: &Secret) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{name} cannot be written ({error})");
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(failed)?;
    keep(&folder.join(name), pem).map_err(failed)
}

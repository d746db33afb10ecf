//! Folder of private keys; a file's name tells the state of its key.
//!
//! `*.next.pem` is published and does not sign yet. Of the others, the greatest name signs, and the rest only verify. Names
//! that begin with a dot are ignored: editors leave such files behind, and so does Kubernetes, which swaps a folder of files
//! by a symbolic link.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

use super::key::Key;
use super::private_file::write_new_private;
use crate::config::Secret;

/// Suffix of a key that does not sign yet.
const NEXT: &str = ".next.pem";

/// Maximum size of a key file.
const MAX_BYTES: u64 = 64 * 1024;

/// State of a key in the rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyState {
    /// Published, so that verifiers have the key before it signs.
    Next,
    /// Signs new tokens.
    Active,
    /// Only verifies tokens that it signed before.
    Retired,
}

impl KeyState {
    /// Returns the name of the state as the CLI shows it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Next => "next",
            Self::Active => "active",
            Self::Retired => "retired",
        }
    }
}

/// Key of the folder.
#[derive(Debug)]
pub(super) struct KeyFile {
    pub(super) name: String,
    pub(super) state: KeyState,
    pub(super) key: Key,
}

/// Names, sizes, inodes and dates of the folder's files. Equal snapshots mean that nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DirSnapshot(Vec<(String, u64, u64, [i64; 4])>);

/// Takes a snapshot of the folder. Symbolic links are followed.
pub(super) fn snapshot(folder: &Path) -> Result<DirSnapshot, String> {
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
    Ok(DirSnapshot(seen))
}

/// Reads all keys, in the order of their names.
///
/// # Errors
/// A sentence that names the file and shows none of its content.
pub(super) fn read(folder: &Path) -> Result<Vec<KeyFile>, String> {
    let mut files = Vec::new();
    for name in names(folder)? {
        let path = folder.join(&name);
        let file = fs::metadata(&path).map_err(|error| sentence(&name, &error))?;
        // Reading a pipe or a device could block, or never end.
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

/// Writes a new key; creates the folder if needed.
pub(super) fn write(folder: &Path, name: &str, pem: &Secret) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{name} cannot be written ({error})");
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(failed)?;
    write_new_private(&folder.join(name), pem).map_err(failed)
}

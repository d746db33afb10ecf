//! Files that hold a secret: for their owner's eyes only, and there only when they are whole.

use std::fs::{File, OpenOptions, hard_link, remove_file};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::config::Secret;

/// Keeps a secret in a file that is not there yet, and outlives a crash from then on. Neither a crash nor somebody who does
/// the same just now leaves half of it behind.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] where the file is there: it stays as it is.
pub fn keep(file: &Path, secret: &Secret) -> io::Result<()> {
    let folder = file.parent().unwrap_or(Path::new("."));
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let whole = folder.join(format!(".{name}.{}", std::process::id()));
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(true).mode(0o600);
    let mut kept = options.open(&whole)?;
    kept.write_all(secret.expose().as_bytes())?;
    kept.sync_all()?;
    let named = hard_link(&whole, file);
    remove_file(&whole)?;
    named?;
    File::open(folder)?.sync_all()
}

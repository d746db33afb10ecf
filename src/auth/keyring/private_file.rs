//! Files that hold a secret: readable by their owner only, and never visible half-written.

use std::fs::{File, OpenOptions, hard_link, remove_file};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::config::Secret;

/// Writes a secret to a new file, which is durable when this returns. Neither a crash nor a concurrent call leaves an
/// incomplete file.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] if the file exists; it stays as it is.
pub fn write_new_private(file: &Path, secret: &Secret) -> io::Result<()> {
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

//! File of `AUDIT_LOG`: lines are appended, and the file is reopened after it was renamed or removed.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Open file, with the path under which it was opened.
#[derive(Debug)]
pub(super) struct AuditFile {
    path: PathBuf,
    file: File,
}

impl AuditFile {
    /// Opens the file, and creates it if it does not exist.
    ///
    /// # Errors
    /// If that fails, or it is not a regular file.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            file: open(path, true)?,
        })
    }

    /// Checks that the file can be opened, or that its folder exists.
    ///
    /// # Errors
    /// The reason, if not.
    pub(super) fn check(path: &Path) -> io::Result<()> {
        match open(path, false) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let folder = path.parent().filter(|it| !it.as_os_str().is_empty());
                std::fs::read_dir(folder.unwrap_or(Path::new("."))).map(drop)
            }
            opened => opened.map(drop),
        }
    }

    /// Returns the file that has the path now, which is another one after a rotation.
    ///
    /// # Errors
    /// If the file was renamed and no new one can be opened. The old file gets no more lines: it may be compressed already.
    pub(super) fn current(&mut self) -> io::Result<&File> {
        let identity = |metadata: Metadata| (metadata.dev(), metadata.ino());
        let named = match std::fs::metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            named => Some(identity(named?)),
        };
        if named != Some(identity(self.file.metadata()?)) {
            self.file = open(&self.path, true)?;
        }
        Ok(&self.file)
    }
}

fn open(path: &Path, create: bool) -> io::Result<File> {
    let mut file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(create)
        .mode(0o600)
        .open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    // A process that was killed, or a disk that was full, may have left half a line.
    if create && metadata.len() > 0 {
        let mut last = [0];
        file.read_exact_at(&mut last, metadata.len() - 1)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
        }
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_line_at_the_end_is_ended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        std::fs::write(&path, "whole\nhal").unwrap();
        AuditFile::open(&path).unwrap();
        AuditFile::open(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "whole\nhal\n");
    }

    #[test]
    fn a_file_that_was_renamed_or_removed_is_opened_anew() {
        let folder = tempfile::tempdir().unwrap();
        let (path, old) = (folder.path().join("audit.log"), folder.path().join("old"));
        let mut audit = AuditFile::open(&path).unwrap();
        let mut write = |text: &str| audit.current().unwrap().write_all(text.as_bytes()).unwrap();
        write("1\n");
        std::fs::rename(&path, &old).unwrap();
        write("2\n");
        write("3\n");
        assert_eq!(std::fs::read_to_string(&old).unwrap(), "1\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "2\n3\n");
        std::fs::remove_file(&path).unwrap();
        write("4\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "4\n");
        let mode = std::fs::metadata(&path).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn what_is_no_file_is_refused_and_a_check_makes_none() {
        let folder = tempfile::tempdir().unwrap();
        assert!(AuditFile::open(Path::new("/dev/null")).is_err());
        assert!(AuditFile::open(folder.path()).is_err());
        let path = folder.path().join("audit.log");
        AuditFile::check(&path).unwrap();
        assert!(!path.exists());
        assert!(AuditFile::check(&folder.path().join("none/audit.log")).is_err());
    }
}

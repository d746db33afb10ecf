//! System faults that a preloaded library injects, switched on and off.

use std::path::PathBuf;

use tempfile::TempDir;

use crate::harness::tools::compile;

/// File that describes the current fault to the program into which `bad_hour.c` is preloaded.
pub struct BadHour {
    folder: TempDir,
}

impl BadHour {
    pub fn new() -> Self {
        let this = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        compile("tests/faults/bad_hour.c", &this.library());
        this
    }

    fn library(&self) -> PathBuf {
        self.folder.path().join("bad_hour.so")
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("now")
    }

    /// Environment variables of a program that has this fault.
    pub fn preloaded(&self, kind: &'static str) -> [(&'static str, String); 2] {
        let text = |path: PathBuf| path.display().to_string();
        [
            ("LD_PRELOAD", text(self.library())),
            (kind, text(self.file())),
        ]
    }

    pub fn begin(&self, how: &str) {
        // The rename is atomic: a reader always sees a whole file.
        let next = self.folder.path().join("next");
        std::fs::write(&next, how).unwrap();
        std::fs::rename(next, self.file()).unwrap();
    }

    pub fn end(&self) {
        std::fs::remove_file(self.file()).unwrap();
    }
}

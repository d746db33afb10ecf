//! A simulated power cut: `tests/durability/power_cut.c`, preloaded into servers, records the length up to which each file was
//! written out. Afterwards the harness cuts the files to that length.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use tempfile::TempDir;

use super::tools::compile;

/// Recorded lengths of the files.
pub struct Disk(TempDir);

impl Disk {
    /// Compiles the library that records the lengths.
    pub fn new() -> Self {
        let disk = Self(tempfile::tempdir().unwrap());
        compile("tests/durability/power_cut.c", disk.library().as_ref());
        disk
    }

    fn library(&self) -> String {
        self.0.path().join("power_cut.so").display().to_string()
    }

    fn notes(&self) -> String {
        self.0.path().join("written_out").display().to_string()
    }

    /// Environment variables with which a server must be started.
    pub fn variables(&self) -> [(&'static str, String); 2] {
        [
            ("LD_PRELOAD", self.library()),
            ("POWER_CUT_LOG", self.notes()),
        ]
    }

    /// Discards all recorded lengths: the disk is empty.
    pub fn forget(&self) {
        std::fs::write(self.notes(), "").unwrap();
    }

    /// Cuts every file under `folder` to the length that was written out. Returns the number of bytes that this removes.
    pub fn cut(&self, folder: &Path) -> u64 {
        let notes = std::fs::read_to_string(self.notes()).unwrap();
        let mut written_out: HashMap<(u64, u64), u64> = HashMap::new();
        for line in notes.lines() {
            let numbers: Vec<u64> = line.split(' ').map(|it| it.parse().unwrap()).collect();
            let length = written_out.entry((numbers[0], numbers[1])).or_default();
            *length = numbers[2].max(*length);
        }
        assert!(!written_out.is_empty(), "no write was ever noted");
        let mut lost = 0;
        let mut folders = vec![folder.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let file = path.metadata().unwrap();
                if file.is_dir() {
                    folders.push(path);
                    continue;
                }
                let kept = written_out.get(&(file.dev(), file.ino())).copied();
                let kept = kept.unwrap_or(0).min(file.len());
                lost += file.len() - kept;
                let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
                file.set_len(kept).unwrap();
            }
        }
        lost
    }
}

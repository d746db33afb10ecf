//! The program itself, with nothing in its environment but what a test says.

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

/// What must never be printed.
pub const PLANTED: &str = "S3cret-Planted-Value";

/// A working folder with nothing in it.
pub struct Desk(TempDir);

impl Desk {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.0.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    pub fn command(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        command
            .args(arguments)
            .env_clear()
            .envs(variables.iter().copied())
            .current_dir(self.0.path())
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// Runs the program to its end.
    pub async fn run(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Ran {
        let running = self.command(arguments, variables).output();
        let output = tokio::time::timeout(Duration::from_secs(30), running).await;
        Ran::from(output.expect("it does not end").unwrap())
    }

    /// Runs `check`, which ends whatever the settings are.
    pub async fn check(&self, variables: &[(&str, &str)]) -> Ran {
        self.run(&["check"], variables).await
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

/// What became of a run.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().expect("ended by a signal"),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Ran {
    /// The settings that are reported as mistakes, sorted; checks that this is how mistakes are reported.
    pub fn mistakes(&self) -> Vec<&str> {
        assert_eq!(self.code, 64, "{self:?}");
        assert_eq!(self.out, "", "mistakes go to standard error");
        assert!(!self.err.contains(PLANTED), "{}", self.err);
        let setting = |line| {
            let line: &str = line;
            let line = line
                .strip_prefix("portcullis: ")
                .unwrap_or_else(|| panic!("{line}"));
            line.split_once(": ").unwrap().0
        };
        let mut settings: Vec<_> = self.err.lines().map(setting).collect();
        settings.sort_unstable();
        settings
    }
}

/// A program that serves, and what it has logged when it began to.
pub async fn serve(
    desk: &Desk,
    variables: &[(&str, &str)],
) -> (tokio::process::Child, serde_json::Value) {
    let mut child = desk
        .command(&[], variables)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let started = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            let line: serde_json::Value = serde_json::from_str(&line).unwrap();
            if line["event"] == "listening" {
                return line;
            }
        }
        panic!("it does not listen");
    };
    let line = tokio::time::timeout(Duration::from_secs(30), started)
        .await
        .unwrap();
    // Whoever does not read the log must not hold the program up.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    (child, line)
}

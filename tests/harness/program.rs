//! The program itself, with only the environment that a test gives it.

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

/// Planted secret, which must never be printed.
pub const PLANTED: &str = "S3cret-Planted-Value";

/// Working folder of the program, empty at first.
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

    /// Runs `check`, which exits for any settings.
    pub async fn check(&self, variables: &[(&str, &str)]) -> Ran {
        self.run(&["check"], variables).await
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

/// Exit code and output of a run.
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
    /// Names of the settings that are reported as mistakes, sorted; checks the format of the report.
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

/// Starts a program that serves, and returns it with its first log lines.
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
    // The program must not wait for a reader of its log.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    (child, line)
}

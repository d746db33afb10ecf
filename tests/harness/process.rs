//! The program itself, as an operator runs it: a process that inherits nothing and is controlled by variables and signals.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::people::Anonymous;

/// Timeout of each step. It is long because it says nothing about speed.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// Running replica, which is killed with the test.
pub struct Process {
    child: Child,
    pid: Pid,
    /// Lines of standard output: the log.
    log: Lines,
    /// Lines of standard error: messages for the operator who starts the program.
    errors: Lines,
    pub addr: SocketAddr,
    pub management: SocketAddr,
}

impl Process {
    /// Starts the program without waiting for anything. It inherits only these variables and `PATH`.
    pub fn spawn(folder: &Path, variables: &[(&str, &str)], arguments: &[&str]) -> Self {
        let mut child = program(folder, variables)
            .args(arguments)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let log = Lines::of(child.stdout.take().unwrap());
        let errors = Lines::of(child.stderr.take().unwrap());
        let pid = Pid::from_raw(child.id().unwrap().cast_signed()).unwrap();
        let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
        Self {
            child,
            pid,
            log,
            errors,
            addr: unknown,
            management: unknown,
        }
    }

    /// Starts a replica on free ports and waits until it listens; it may not be ready yet.
    pub async fn listen(folder: &Path, variables: &[(&str, &str)]) -> Self {
        let mut all = vec![
            ("LISTEN", "127.0.0.1:0"),
            ("MANAGEMENT_LISTEN", "127.0.0.1:0"),
            ("DRAIN_DELAY", "0s"),
            ("BCRYPT_COST", "4"),
            // Tests send the requests of many users from one address.
            ("RATE_LIMIT", "off"),
        ];
        all.extend(variables);
        let mut process = Self::spawn(folder, &all, &["serve"]);
        process.listening().await;
        process
    }

    /// Waits until a spawned replica listens, and reads its addresses from the log.
    pub async fn listening(&mut self) {
        let line = self.event("listening").await;
        let address = |name: &str| line[name].as_str().unwrap().parse().unwrap();
        self.addr = address("listen");
        self.management = address("management");
    }

    /// Starts a replica on free ports and waits until it is ready.
    pub async fn serve(folder: &Path, variables: &[(&str, &str)]) -> Self {
        let process = Self::listen(folder, variables).await;
        process.ready().await;
        process
    }

    /// Waits until the replica reports that it is ready.
    pub async fn ready(&self) {
        let probe = self.probes();
        let wait = async {
            while !probe
                .try_get("/readyz")
                .await
                .is_ok_and(|it| it.status == 200)
            {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let ready = tokio::time::timeout(PATIENCE, wait).await;
        assert!(
            ready.is_ok(),
            "it does not become ready: {:?}",
            self.log.now()
        );
    }

    /// Client without a login.
    pub fn anonymous(&self) -> Anonymous {
        Anonymous::at(self.addr)
    }

    /// Client that sends its requests to the management address.
    pub fn probes(&self) -> Anonymous {
        Anonymous::at(self.management)
    }

    /// Process ID of the replica.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().cast_unsigned()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid, signal).unwrap();
    }

    /// Waits for the first log line of this event. The line may have been written before the call.
    pub async fn event(&self, event: &str) -> Value {
        let is_it = |line: &Value| line["event"] == event;
        let found = self
            .log
            .wait(|lines| lines.iter().map(|line| parsed(line)).find(is_it))
            .await;
        found.unwrap_or_else(|| {
            panic!(
                "no event {event}; log {:#?}, errors {:#?}",
                self.log.now(),
                self.errors.now()
            )
        })
    }

    /// Lines of the log so far, unparsed.
    pub fn log(&self) -> Vec<String> {
        self.log.now()
    }

    /// Log lines of this event so far.
    pub fn events(&self, event: &str) -> Vec<Value> {
        let lines = self.log.now().into_iter().map(|line| parsed(&line));
        lines.filter(|line| line["event"] == event).collect()
    }

    /// Lines of standard error so far.
    pub fn errors(&self) -> Vec<String> {
        self.errors.now()
    }

    /// Waits until the process has ended and all its output has been read.
    pub async fn ended(&mut self) -> ExitStatus {
        let ended = async {
            let status = self.child.wait().await.unwrap();
            self.log.end().await;
            self.errors.end().await;
            status
        };
        tokio::time::timeout(PATIENCE, ended)
            .await
            .unwrap_or_else(|_| panic!("it does not end"))
    }

    /// Tells the replica to stop and waits until it has: it finishes all requests in flight.
    pub async fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.ended().await
    }
}

/// Command for the program with these variables and no others.
pub fn program(folder: &Path, variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command
        .current_dir(folder)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Creates an empty folder, whose path is short enough for a Unix socket.
pub fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// Parses a line of the log, which must be one JSON object.
pub fn parsed(line: &str) -> Value {
    let value = serde_json::from_str(line).unwrap_or_else(|_| panic!("not a log line: {line}"));
    assert!(matches!(value, Value::Object(_)), "{line}");
    value
}

/// Process IDs of the living processes with this name that `parent` has started.
pub fn children(parent: u32, name: &str) -> Vec<u32> {
    let folders = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = folders.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_child =
        |pid: &u32| process_state(*pid).is_some_and(|(called, by)| called == name && by == parent);
    pids.filter(is_child).collect()
}

/// Waits until the process no longer exists.
pub async fn gone(pid: u32) {
    let wait = async {
        while process_state(pid).is_some() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait)
        .await
        .unwrap_or_else(|_| panic!("process {pid} lives on"));
}

/// Name and parent of a process; `None` if it has exited or is a zombie.
fn process_state(pid: u32) -> Option<(String, u32)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (before, rest) = stat.rsplit_once(')')?;
    let (_, name) = before.split_once('(')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    (!["Z", "X"].contains(&state)).then(|| (name.to_owned(), parent))
}

/// Lines that a process writes, collected as they arrive.
struct Lines {
    lines: watch::Receiver<Vec<String>>,
    reading: JoinHandle<()>,
}

impl Lines {
    fn of(stream: impl AsyncRead + Send + Unpin + 'static) -> Self {
        let (sender, lines) = watch::channel(Vec::new());
        let reading = tokio::spawn(async move {
            let mut stream = BufReader::new(stream);
            let mut line = Vec::new();
            while stream
                .read_until(b'\n', &mut line)
                .await
                .is_ok_and(|n| n > 0)
            {
                let text = String::from_utf8_lossy(&line);
                let text = text.strip_suffix('\n').unwrap_or(&text).to_owned();
                sender.send_modify(|lines| lines.push(text));
                line.clear();
            }
        });
        Self { lines, reading }
    }

    fn now(&self) -> Vec<String> {
        self.lines.borrow().clone()
    }

    /// Waits until `find` returns a value. Returns `None` if the output ends or the timeout passes first.
    async fn wait<T>(&self, find: impl Fn(&[String]) -> Option<T>) -> Option<T> {
        let mut lines = self.lines.clone();
        let search = async {
            loop {
                if let Some(found) = find(&lines.borrow_and_update()) {
                    return Some(found);
                }
                lines.changed().await.ok()?;
            }
        };
        tokio::time::timeout(PATIENCE, search).await.ok()?
    }

    /// Waits until the output has ended.
    async fn end(&mut self) {
        (&mut self.reading).await.unwrap();
    }
}

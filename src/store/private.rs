//! The private `redis-server`: what a single replica on a loopback address uses when no Redis is named.
//!
//! It listens on a unix socket in the data folder only, keeps every acknowledged write (`appendfsync always`), and never
//! outlives its replica, however that ends. To have that without unsafe code, the replica starts *itself* with a hidden
//! command, which asks the kernel for a signal at its parent's death, makes sure that the parent is still there, takes the
//! folder's lock, and then becomes `redis-server` (see [`become_redis_server`]).

use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};

use super::connection::StoreError;
use crate::config::search_path;

/// How long it may take to load its data and answer.
const START: Duration = Duration::from_mins(1);
/// How long it may take to write everything out and end.
const STOP: Duration = Duration::from_secs(10);
/// The kernel's limit on the path of a socket, with room for the file's name.
const SOCKET_PATH: usize = 100;

/// A running private server.
#[derive(Debug)]
pub struct PrivateRedis {
    child: Child,
    socket: PathBuf,
}

impl PrivateRedis {
    /// Starts a server that keeps its data in `folder`, and waits until it answers.
    ///
    /// Call it on a thread that lives as long as the process: the kernel sends the death signal when the *thread* that
    /// started the child ends.
    ///
    /// # Errors
    /// A sentence: the folder cannot be used or is in use, the program is not installed, or it does not start.
    pub async fn start(folder: &Path) -> Result<Self, StoreError> {
        let refused = |what: &str, error: io::Error| {
            StoreError::refused(format!("{}: {what}: {error}", folder.display()))
        };
        // The address of a socket cannot be relative. What lies here is for nobody else's eyes.
        let folder =
            &std::path::absolute(folder).map_err(|error| refused("cannot be found", error))?;
        let mut maker = std::fs::DirBuilder::new();
        std::os::unix::fs::DirBuilderExt::mode(&mut maker, 0o700);
        let made = maker.recursive(true).create(folder);
        made.map_err(|error| refused("cannot be made", error))?;
        let socket = folder.join("redis.sock");
        if socket.as_os_str().len() > SOCKET_PATH {
            return Err(StoreError::refused(
                "DATA_DIR: the path is too long for a socket; use a shorter one",
            ));
        }
        let program = std::env::current_exe().map_err(|error| refused("cannot start", error))?;
        let child = Command::new(program)
            .args([
                "private-redis",
                "--parent",
                &std::process::id().to_string(),
                "--folder",
            ])
            .arg(folder)
            // The settings hold secrets that are none of its business.
            .env_clear()
            .env("PATH", search_path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            // Until it answers, this is where it says why it cannot; then it writes to a file.
            .stderr(Stdio::piped())
            // Ctrl-C in a terminal goes to the whole process group; the server must outlive the drain.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| refused("cannot start", error))?;
        let mut server = Self { child, socket };
        match tokio::time::timeout(START, server.answers()).await {
            Ok(Ok(())) => Ok(server),
            Ok(Err(status)) => Err(StoreError::refused(server.last_words(status).await)),
            Err(_) => Err(StoreError::refused(
                "the private redis-server does not answer",
            )),
        }
    }

    /// Its address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// Resolves when it has ended by itself.
    pub async fn ended(&mut self) {
        // An error here means that it is not there to wait for.
        self.child.wait().await.ok();
    }

    /// Lets it write everything out and end.
    pub async fn stop(mut self) {
        if let Some(pid) = self
            .child
            .id()
            .and_then(|id| Pid::from_raw(id.cast_signed()))
        {
            // It may have ended by itself; then there is nobody to tell.
            rustix::process::kill_process(pid, Signal::TERM).ok();
        }
        if tokio::time::timeout(STOP, self.child.wait()).await.is_err() {
            self.child.kill().await.ok();
        }
    }

    /// Why it has ended: in its own words, where it had any.
    async fn last_words(&mut self, status: ExitStatus) -> String {
        let mut words = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            stderr.read_to_string(&mut words).await.ok();
        }
        let words = words.trim();
        let words = words.strip_prefix("portcullis: ").unwrap_or(words);
        if words.is_empty() {
            format!("the private redis-server ended at once ({status})")
        } else {
            words.to_owned()
        }
    }

    /// Resolves when it answers, or with its status if it has ended. Another replica's server may answer on the same
    /// socket, or one that is about to end; ours is the one with the child's process id, which becoming `redis-server` keeps.
    async fn answers(&mut self) -> Result<(), ExitStatus> {
        let ours = format!("process_id:{}", self.child.id().unwrap_or_default());
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(status);
            }
            let ask = async {
                let client = redis::Client::open(self.url())?;
                let mut connection = client.get_multiplexed_async_connection().await?;
                let mut info = redis::cmd("INFO");
                info.arg("server")
                    .query_async::<String>(&mut connection)
                    .await
            };
            // One that is loading its data refuses to tell anything.
            let answered = ask.await;
            if answered.is_ok_and(|info| info.lines().any(|line| line == ours)) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Turns this process into the private server of process `parent`, with its data in `folder`. Returns only on failure.
#[must_use]
pub fn become_redis_server(parent: u32, folder: &Path) -> io::Error {
    if let Err(error) = die_with(parent).and_then(|()| lock(folder)) {
        return error;
    }
    let mut server = std::process::Command::new("redis-server");
    server.current_dir(folder);
    for (name, value) in [
        ("--port", "0"),
        ("--unixsocket", "redis.sock"),
        ("--unixsocketperm", "700"),
        ("--appendonly", "yes"),
        ("--appendfsync", "always"),
        ("--save", ""),
        ("--propagation-error-behavior", "panic"),
        ("--maxmemory-policy", "noeviction"),
        ("--logfile", "redis.log"),
        ("--daemonize", "no"),
    ] {
        server.args([name, value]);
    }
    let error = std::os::unix::process::CommandExt::exec(&mut server);
    if error.kind() == io::ErrorKind::NotFound {
        return io::Error::other(
            "redis-server is not installed: install the package redis-server (7.0 or newer), or set REDIS_URL",
        );
    }
    error
}

/// Asks for a signal at the parent's death, and fails if that has happened already.
fn die_with(parent: u32) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?;
    let now = rustix::process::getppid().map(Pid::as_raw_nonzero);
    if now.map(|pid| pid.get().cast_unsigned()) == Some(parent) {
        Ok(())
    } else {
        Err(io::Error::other(
            "the replica that asked for a private redis-server is gone",
        ))
    }
}

/// Takes the folder's lock and lets it pass on to `redis-server`: two servers on one append-only file would ruin it. A
/// server whose replica was killed a moment ago is given time to end.
fn lock(folder: &Path) -> io::Result<()> {
    let file = std::fs::File::create(folder.join("lock"))?;
    let mut left = STOP;
    while file.try_lock().is_err() {
        if left.is_zero() {
            return Err(io::Error::other(format!(
                "{} is in use by another replica: set another DATA_DIR, or give all replicas one REDIS_URL",
                folder.display()
            )));
        }
        let pause = Duration::from_millis(100);
        std::thread::sleep(pause);
        left = left.saturating_sub(pause);
    }
    rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty())?;
    // Kept open over exec, so that the lock lives as long as the server.
    std::mem::forget(file);
    Ok(())
}

//! Private `redis-server` of a single replica on a loopback address, used when no Redis is configured.
//!
//! It listens on a unix socket in the data folder only, keeps every acknowledged write (`appendfsync always`), and
//! never outlives its replica, however the replica ends. To guarantee this without unsafe code, the replica starts
//! *itself* with a hidden command. The command asks the kernel for a signal at its parent's death, verifies that the
//! parent still lives, takes the folder's lock, and then becomes `redis-server` (see [`become_redis_server`]).

use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};

use super::connection::StoreError;
use crate::config::search_path;

/// Timeout for loading the data and answering.
const START_TIMEOUT: Duration = Duration::from_mins(1);
/// Timeout for writing all data out and exiting.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// Limit of the kernel on the path of a socket, with room for the file's name.
const MAX_SOCKET_PATH: usize = 100;

/// Running private server.
#[derive(Debug)]
pub struct EmbeddedRedis {
    child: Child,
    socket: PathBuf,
}

impl EmbeddedRedis {
    /// Starts a server that keeps its data in `folder`, and waits until it answers.
    ///
    /// Call it on a thread that lives as long as the process: the kernel sends the death signal when the *thread* that
    /// started the child ends.
    ///
    /// # Errors
    /// A sentence if the folder cannot be used or is in use, `redis-server` is not installed, or it does not start.
    pub async fn start(folder: &Path) -> Result<Self, StoreError> {
        let refused = |what: &str, error: io::Error| {
            StoreError::refused(format!("{}: {what}: {error}", folder.display()))
        };
        // The address of a socket cannot be relative. Only our user may read the folder.
        let folder =
            &std::path::absolute(folder).map_err(|error| refused("cannot be found", error))?;
        let mut builder = std::fs::DirBuilder::new();
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        let created = builder.recursive(true).create(folder);
        created.map_err(|error| refused("cannot be made", error))?;
        let socket = folder.join("redis.sock");
        if socket.as_os_str().len() > MAX_SOCKET_PATH {
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
            // The environment holds secrets that the server does not need.
            .env_clear()
            .env("PATH", search_path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            // The server writes its errors here until it answers; then it logs to a file.
            .stderr(Stdio::piped())
            // Ctrl-C in a terminal goes to the whole process group; the server must outlive the drain.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| refused("cannot start", error))?;
        let mut server = Self { child, socket };
        match tokio::time::timeout(START_TIMEOUT, server.wait_until_ready()).await {
            Ok(Ok(())) => {
                server.rewrite_file().await;
                Ok(server)
            }
            Ok(Err(status)) => Err(StoreError::refused(server.exit_reason(status).await)),
            Err(_) => Err(StoreError::refused(
                "the private redis-server does not answer",
            )),
        }
    }

    /// Has the append-only file rewritten in the background. A file whose end was cut within a transaction is read, and would be
    /// refused at the start after the next; a rewritten one is whole. All of it was read: anything else ends the server.
    async fn rewrite_file(&self) {
        let rewrite = async {
            let client = redis::Client::open(self.url())?;
            let mut connection = client.get_multiplexed_async_connection().await?;
            redis::cmd("BGREWRITEAOF")
                .query_async::<redis::Value>(&mut connection)
                .await
        };
        if let Err(error) = rewrite.await {
            tracing::warn!(event = "redis_rewrite", %error, "the private Redis did not begin to rewrite its file");
        }
    }

    /// Returns the URL of the server.
    #[must_use]
    pub fn url(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// Resolves when the server has exited by itself.
    pub async fn ended(&mut self) {
        // An error means that there is no process to wait for.
        self.child.wait().await.ok();
    }

    /// Stops the server after it has written all data out.
    pub async fn stop(mut self) {
        if let Some(pid) = self
            .child
            .id()
            .and_then(|id| Pid::from_raw(id.cast_signed()))
        {
            // The server may have exited by itself; then there is no process to signal.
            rustix::process::kill_process(pid, Signal::TERM).ok();
        }
        if tokio::time::timeout(STOP_TIMEOUT, self.child.wait())
            .await
            .is_err()
        {
            self.child.kill().await.ok();
        }
    }

    /// Returns the reason for the exit, in the server's own words if it wrote any.
    async fn exit_reason(&mut self, status: ExitStatus) -> String {
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

    /// Resolves when the server answers, or with its status if it has exited. The server of another replica, or one
    /// that is about to exit, may answer on the same socket; ours is the one with the child's process id, which `exec`
    /// keeps.
    async fn wait_until_ready(&mut self) -> Result<(), ExitStatus> {
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
            // A server that is loading its data refuses INFO.
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
    if let Err(error) = request_death_signal(parent).and_then(|()| lock_folder(folder)) {
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

/// Requests a signal at the parent's death, and fails if the parent is already dead.
fn request_death_signal(parent: u32) -> io::Result<()> {
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

/// Takes the folder's lock and passes it on to `redis-server`: two servers on one append-only file would destroy it. A
/// server whose replica was killed a moment ago gets time to exit.
fn lock_folder(folder: &Path) -> io::Result<()> {
    let file = std::fs::File::create(folder.join("lock"))?;
    let mut left = STOP_TIMEOUT;
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
    // The file stays open over exec, so that the lock lives as long as the server.
    std::mem::forget(file);
    Ok(())
}

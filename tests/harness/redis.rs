//! A real `redis-server` on loopback that a test can kill, pause and restart. It runs `deploy/redis.conf` and
//! `deploy/redis-users.conf` as they are shipped, byte for byte and one after the other. The harness adds a port, an address,
//! passwords, and the options of the test.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::installed;
use super::tools::repository;

/// Redis server with its own data folder. It ends with the test.
pub struct Redis {
    folder: TempDir,
    /// Separate from the data, because a simulated power cut may truncate the data.
    settings: TempDir,
    port: u16,
    options: Vec<String>,
    variables: Vec<(String, String)>,
    /// True if it has the users of `deploy/redis-users.conf`; otherwise it needs no login, as in `deploy/compose.yaml`.
    has_users: bool,
    child: Option<Child>,
}

impl Redis {
    /// Starts a server with the configuration that we recommend to operators: it keeps every acknowledged write and evicts
    /// nothing.
    pub async fn start() -> Self {
        Self::with(&[]).await
    }

    /// Starts a server with additional options.
    pub async fn with(options: &[&str]) -> Self {
        Self::under(&[], options).await
    }

    /// Starts a server with additional options and environment variables.
    pub async fn under(variables: &[(&str, &str)], options: &[&str]) -> Self {
        Self::on_free_port(variables, options, true).await
    }

    /// Starts a server as `deploy/compose.yaml` does: without users, with these words after the name of the configuration.
    pub async fn of_compose(variables: &[(&str, &str)], words: &[&str]) -> Self {
        Self::on_free_port(variables, words, false).await
    }

    async fn on_free_port(variables: &[(&str, &str)], options: &[&str], has_users: bool) -> Self {
        let mut server = Self::prepare(free_port(), variables, options, has_users);
        // Another test may have taken the port meanwhile.
        for _ in 0..20 {
            if server.try_start().await {
                return server;
            }
            server.port = free_port();
        }
        panic!("redis-server does not answer");
    }

    /// Starts a server on that port that keeps every acknowledged write, with additional options. It may be a replica of
    /// another server.
    pub async fn on(port: u16, options: &[&str]) -> Self {
        Self::on_under(port, &[], options).await
    }

    /// Starts a server on that port, with additional options and environment variables.
    pub async fn on_under(port: u16, variables: &[(&str, &str)], options: &[&str]) -> Self {
        let mut server = Self::prepare(port, variables, options, true);
        server.start_again().await;
        server
    }

    fn prepare(port: u16, variables: &[(&str, &str)], options: &[&str], has_users: bool) -> Self {
        let variables = variables.iter();
        let variables = variables.map(|&(name, value)| (name.to_owned(), value.to_owned()));
        Self {
            folder: data_folder(),
            settings: settings(has_users),
            port,
            options: options.iter().map(|&option| option.to_owned()).collect(),
            variables: variables.collect(),
            has_users,
            child: None,
        }
    }

    /// Restarts the server on the same port with its present data.
    pub async fn start_again(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        assert!(self.try_start().await, "redis-server does not answer");
    }

    /// Starts the server; returns false if another server answers on its port.
    pub async fn try_start(&mut self) -> bool {
        let mut child = installed("redis-server", "redis-server")
            .current_dir(self.folder.path())
            .arg(self.config_file())
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"])
            .args(&self.options)
            .envs(self.variables.iter().cloned())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let own = format!("process_id:{}\r", child.id());
        for _ in 0..500 {
            if child.try_wait().unwrap().is_some() {
                return false;
            }
            if let Ok(server) = self.try_command::<String>(&["INFO", "server"]).await
                && server.contains(&own)
                // While a server loads its data it answers `INFO` and refuses all other commands.
                && self.try_command::<String>(&["PING"]).await.is_ok()
            {
                self.child = Some(child);
                return true;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        child.kill().ok();
        child.wait().ok();
        false
    }

    /// Sends `SIGTERM`: the server writes everything out and ends.
    pub fn terminate(&mut self) {
        self.signal("TERM");
        self.child.take().unwrap().wait().unwrap();
    }

    /// Rewrites the append-only file and waits until the rewrite is done.
    pub async fn rewrite(&self) {
        let () = self.command(&["BGREWRITEAOF"]).await;
        loop {
            let info: String = self.command(&["INFO", "persistence"]).await;
            if info.contains("aof_rewrite_in_progress:0")
                && info.contains("aof_rewrite_scheduled:0")
            {
                assert!(info.contains("aof_last_bgrewrite_status:ok"), "{info}");
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Sends `SIGKILL`.
    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Sends `SIGSTOP`: connections stay open, and the server does not answer.
    pub fn pause(&self) {
        self.signal("STOP");
    }

    /// Sends `SIGCONT`.
    pub fn resume(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let pid = self.child.as_ref().unwrap().id().to_string();
        assert!(
            std::process::Command::new("kill")
                .args([format!("-{name}"), pid])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Data folder of the server.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// Address of the server.
    pub fn addr(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// URL for the service, whose Redis user has only the permissions that it needs.
    pub fn url(&self) -> String {
        if !self.has_users {
            return format!("redis://127.0.0.1:{}", self.port);
        }
        format!("redis://portcullis:{PASSWORD}@127.0.0.1:{}", self.port)
    }

    /// URL for a test, whose Redis user has all permissions: tests break things.
    pub fn admin_url(&self) -> String {
        if !self.has_users {
            return self.url();
        }
        format!("redis://admin:{PASSWORD}@127.0.0.1:{}", self.port)
    }

    /// Path of the configuration, which includes the users.
    pub fn config_file(&self) -> std::path::PathBuf {
        self.settings.path().join("redis.conf")
    }

    /// Runs a command.
    pub async fn command<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        self.try_command(words).await.unwrap()
    }

    /// Runs a command that may fail.
    pub async fn try_command<T: redis::FromRedisValue>(
        &self,
        words: &[&str],
    ) -> redis::RedisResult<T> {
        let client = redis::Client::open(self.admin_url())?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        let mut command = redis::cmd(words[0]);
        for word in &words[1..] {
            command.arg(*word);
        }
        command.query_async(&mut connection).await
    }

    /// Number of calls of each command since the last reset, from `INFO commandstats`.
    pub async fn command_counts(&self) -> Vec<(String, u64)> {
        let stats: String = self.command(&["INFO", "commandstats"]).await;
        let count = |line: &str| -> Option<(String, u64)> {
            let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
            Some((name.to_owned(), rest.split(',').next()?.parse().ok()?))
        };
        stats.lines().filter_map(count).collect()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            self.child = None;
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// Password of all users of a test's Redis.
pub const PASSWORD: &str = "a-password-for-tests";

/// Creates a folder with a copy of the configuration and of the users that we tell operators to append to it. It must be a
/// copy, because Sentinels make servers rewrite their configuration.
fn settings(has_users: bool) -> TempDir {
    let mut config = std::fs::read_to_string(repository("deploy/redis.conf")).unwrap();
    if has_users {
        config += &shipped_users(PASSWORD);
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("redis.conf"), config).unwrap();
    folder
}

/// Content of `deploy/redis-users.conf` with a password for each user, set as its first lines describe.
pub fn shipped_users(password: &str) -> String {
    let text = std::fs::read_to_string(repository("deploy/redis-users.conf")).unwrap();
    text.replace(">PASSWORD", &format!(">{password}"))
}

/// Environment variables with which `redis-cli`, and scripts that run it, log in as the operator; Sentinels of tests have no
/// password.
pub fn admin_by_redis_cli() -> [(&'static str, &'static str); 3] {
    [
        ("REDISCLI_AUTH", PASSWORD),
        ("REDISCLI_OPTIONS", "--user admin"),
        ("SENTINELCLI_AUTH", ""),
    ]
}

/// Finds a port that is free at the moment. It lies outside the system's range for outgoing connections: tests make thousands
/// of these, so a port in that range would not stay free for long.
pub fn free_port() -> u16 {
    let random = || RandomState::new().build_hasher().finish();
    let ports = std::iter::repeat_with(|| 10_000 + u16::try_from(random() % 20_000).unwrap());
    ports
        .take(1000)
        .find(|&port| TcpListener::bind(("127.0.0.1", port)).is_ok())
        .unwrap()
}

/// Creates a data folder, in memory if the system has a place for that. Other writes to the machine's disk must not make a
/// server that syncs every write miss its deadlines. No test depends on a real disk.
fn data_folder() -> TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap()
}

//! A real `redis-server` on loopback, which can be killed, paused and started again. It runs `deploy/redis.conf` and
//! `deploy/redis-users.conf` as they are shipped, byte for byte; added are a port, an address, passwords, and what a test says.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::installed;
use super::tools::repository;

/// A server with data of its own. It ends with the test.
pub struct Redis {
    folder: TempDir,
    /// Apart from the data, which a power cut may cut.
    settings: TempDir,
    port: u16,
    options: Vec<String>,
    variables: Vec<(String, String)>,
    /// If it has the users of `deploy/redis-users.conf`; otherwise everything is open, as in `deploy/compose.yaml`.
    has_users: bool,
    child: Option<Child>,
}

impl Redis {
    /// A server as we tell operators to set it up: every acknowledged write is kept, nothing is evicted.
    pub async fn start() -> Self {
        Self::with(&[]).await
    }

    /// A server with options of its own.
    pub async fn with(options: &[&str]) -> Self {
        Self::under(&[], options).await
    }

    /// A server with options and environment variables of its own.
    pub async fn under(variables: &[(&str, &str)], options: &[&str]) -> Self {
        Self::on_free_port(variables, options, true).await
    }

    /// A server as `deploy/compose.yaml` runs it: without users, with these words after the name of the configuration.
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

    /// A server that keeps every acknowledged write, on that port, with options of its own. It may follow another one.
    pub async fn on(port: u16, options: &[&str]) -> Self {
        Self::on_under(port, &[], options).await
    }

    /// The same, with environment variables of its own.
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
            settings: settings(),
            port,
            options: options.iter().map(|&option| option.to_owned()).collect(),
            variables: variables.collect(),
            has_users,
            child: None,
        }
    }

    /// Starts the server on the same port with the data it has.
    pub async fn start_again(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        assert!(self.try_start().await, "redis-server does not answer");
    }

    /// Starts the server, and tells whether it is the one that answers on its port.
    pub async fn try_start(&mut self) -> bool {
        let mut child = installed("redis-server", "redis-server")
            .current_dir(self.folder.path())
            .arg(self.settings.path().join(CONFIG))
            .args(self.include_users())
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
                // While it loads its data it tells about itself and serves nobody.
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

    fn include_users(&self) -> Vec<std::ffi::OsString> {
        if self.has_users {
            vec!["--include".into(), self.users_file().into()]
        } else {
            Vec::new()
        }
    }

    /// `SIGTERM`: it writes everything out and ends.
    pub fn terminate(&mut self) {
        self.signal("TERM");
        self.child.take().unwrap().wait().unwrap();
    }

    /// Rewrites the append-only file, and waits until that is done.
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

    /// `SIGKILL`.
    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// `SIGSTOP`: connections stay open, nothing answers.
    pub fn pause(&self) {
        self.signal("STOP");
    }

    /// `SIGCONT`.
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

    /// Where the server keeps its files.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// Its address.
    pub fn addr(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Its URL for the service, which may do no more than it needs.
    pub fn url(&self) -> String {
        if !self.has_users {
            return format!("redis://127.0.0.1:{}", self.port);
        }
        format!("redis://portcullis:{PASSWORD}@127.0.0.1:{}", self.port)
    }

    /// Its URL for a test, which may do everything: tests break things.
    pub fn admin_url(&self) -> String {
        if !self.has_users {
            return self.url();
        }
        format!("redis://admin:{PASSWORD}@127.0.0.1:{}", self.port)
    }

    /// The users that this server was started with.
    pub fn users_file(&self) -> std::path::PathBuf {
        self.settings.path().join(USERS)
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

    /// How often each command was run since the last reset, by `INFO commandstats`.
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

/// The password of all users of a test's Redis.
pub const PASSWORD: &str = "a-password-for-tests";

const CONFIG: &str = "redis.conf";
const USERS: &str = "redis-users.conf";

/// A folder with the configuration and the users that we tell operators to make. Copies: Sentinels have servers rewrite them.
fn settings() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(repository("deploy/redis.conf"), folder.path().join(CONFIG)).unwrap();
    std::fs::write(folder.path().join(USERS), shipped_users(PASSWORD)).unwrap();
    folder
}

/// `deploy/redis-users.conf` with a password for each user, as its first lines say.
pub fn shipped_users(password: &str) -> String {
    let text = std::fs::read_to_string(repository("deploy/redis-users.conf")).unwrap();
    text.replace(">PASSWORD", &format!(">{password}"))
}

/// What `redis-cli`, and a script that runs it, must know to be let in as the operator; Sentinels of tests have no password.
pub fn admin_by_redis_cli() -> [(&'static str, &'static str); 3] {
    [
        ("REDISCLI_AUTH", PASSWORD),
        ("REDISCLI_OPTIONS", "--user admin"),
        ("SENTINELCLI_AUTH", ""),
    ]
}

/// A port that nobody uses at the moment. Not one of those that the system gives to outgoing connections, of which tests make
/// thousands: it would not be free for long.
pub fn free_port() -> u16 {
    let random = || RandomState::new().build_hasher().finish();
    let ports = std::iter::repeat_with(|| 10_000 + u16::try_from(random() % 20_000).unwrap());
    ports
        .take(1000)
        .find(|&port| TcpListener::bind(("127.0.0.1", port)).is_ok())
        .unwrap()
}

/// In memory where the system has a place for that: what else the machine writes to its disk must not make a server that
/// keeps every write miss its deadlines. Nothing here depends on the disk.
fn data_folder() -> TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap()
}

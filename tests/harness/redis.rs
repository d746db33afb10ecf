//! A real `redis-server` on loopback, which can be killed, paused and started again.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::installed;

/// A server with data of its own. It ends with the test.
pub struct Redis {
    folder: TempDir,
    /// Apart from the data, which a power cut may cut.
    settings: TempDir,
    port: u16,
    options: Vec<String>,
    variables: Vec<(String, String)>,
    child: Option<Child>,
}

impl Redis {
    /// A server as we tell operators to set it up: every acknowledged write is kept, nothing is evicted.
    pub async fn start() -> Self {
        Self::with(&["--appendonly", "yes", "--appendfsync", "always"]).await
    }

    /// A server with options of its own.
    pub async fn with(options: &[&str]) -> Self {
        Self::under(&[], options).await
    }

    /// A server with options and environment variables of its own.
    pub async fn under(variables: &[(&str, &str)], options: &[&str]) -> Self {
        let variables = variables.iter();
        let variables = variables.map(|&(name, value)| (name.to_owned(), value.to_owned()));
        let options = options.iter().map(|&option| option.to_owned()).collect();
        let mut server = Self {
            folder: data_folder(),
            settings: settings(),
            port: free_port(),
            options,
            variables: variables.collect(),
            child: None,
        };
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
        let kept = ["--appendonly", "yes", "--appendfsync", "always"];
        let options = kept.iter().chain(options).map(|&option| option.to_owned());
        let mut server = Self {
            folder: data_folder(),
            settings: settings(),
            port,
            options: options.collect(),
            variables: Vec::new(),
            child: None,
        };
        server.start_again().await;
        server
    }

    /// Starts the server on the same port with the data it has.
    pub async fn start_again(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        assert!(self.try_start().await, "redis-server does not answer");
    }

    /// Starts the server, and tells whether it is the one that answers on its port.
    async fn try_start(&mut self) -> bool {
        let config = self.settings.path().join("redis.conf");
        let mut child = installed("redis-server", "redis-server")
            .current_dir(self.folder.path())
            .arg(config)
            .args([
                "--port",
                &self.port.to_string(),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
            ])
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
        format!("redis://portcullis:{PASSWORD}@127.0.0.1:{}", self.port)
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
        let client = redis::Client::open(format!("redis://127.0.0.1:{}", self.port))?;
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

/// The password of all users of a test's Redis but the first, which may do everything and has none: tests break things.
pub const PASSWORD: &str = "a-password-for-tests";

/// A folder with a configuration: the users that we tell operators to make.
fn settings() -> TempDir {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/redis-users.conf");
    let text = std::fs::read_to_string(file).unwrap();
    let users = text.replace(">PASSWORD", &format!(">{PASSWORD}"));
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("redis.conf");
    std::fs::write(config, users.replace("user default off", "")).unwrap();
    folder
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

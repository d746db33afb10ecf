//! Three Redis servers in replication and three Sentinels that monitor them. A proxy before each server can cut it off.

use std::net::SocketAddr;
use std::process::{Child, Stdio};
use std::time::Duration;

use futures_util::future::join_all;
use tempfile::TempDir;

use super::{Proxy, REDIS_PASSWORD, Redis, free_port, installed};

/// Number of servers.
pub const SERVERS: usize = 3;

/// Name of the primary in the Sentinels' configuration.
pub const NAME: &str = "mymaster";

/// Servers and Sentinels, which end with the test.
pub struct Watched {
    pub servers: Vec<Redis>,
    pub proxies: Vec<Proxy>,
    sentinels: Vec<Sentinel>,
}

/// Sentinel, which ends with the test.
pub struct Sentinel {
    port: u16,
    child: Child,
    _folder: TempDir,
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Watched {
    /// Starts one primary with two replicas. Sentinels consider a server down after one second.
    pub async fn start() -> Self {
        let ports: Vec<u16> = (0..SERVERS).map(|_| free_port()).collect();
        let proxies = ports.iter().map(|&port| Proxy::to(local(port)));
        let proxies = join_all(proxies).await;
        let first = proxies[0].addr().port().to_string();
        let mut servers = Vec::new();
        for (port, proxy) in ports.iter().zip(&proxies) {
            let announced = proxy.addr().port().to_string();
            let mut options = vec![
                "--replica-announce-ip",
                "127.0.0.1",
                "--replica-announce-port",
                &announced,
                "--masteruser",
                "replica",
                "--masterauth",
                REDIS_PASSWORD,
                "--repl-diskless-sync-delay",
                "0",
                "--repl-ping-replica-period",
                "1",
                "--repl-timeout",
                "5",
            ];
            if !servers.is_empty() {
                options.extend(["--replicaof", "127.0.0.1", &first]);
            }
            servers.push(Redis::on(*port, &options).await);
        }
        let sentinels = (0..3).map(|_| Sentinel::watch(proxies[0].addr().port()));
        let sentinels = sentinels.collect();
        let this = Self {
            servers,
            proxies,
            sentinels,
        };
        this.complete().await;
        this
    }

    /// URL for the service.
    pub fn url(&self) -> String {
        let sentinels: Vec<_> = self
            .sentinels
            .iter()
            .map(|it| format!("127.0.0.1:{}", it.port))
            .collect();
        format!(
            "redis+sentinel://portcullis:{REDIS_PASSWORD}@{}/{NAME}",
            sentinels.join(",")
        )
    }

    /// Address of one of the Sentinels.
    pub fn sentinel(&self) -> String {
        format!("127.0.0.1:{}", self.sentinels[0].port)
    }

    /// Index of the server that the Sentinels report as the primary.
    pub async fn primary(&self) -> usize {
        self.try_primary().await.unwrap()
    }

    async fn try_primary(&self) -> Option<usize> {
        let ask = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME];
        let (_, port): (String, u16) = self.ask(&ask).await.ok()?;
        let is_it = |proxy: &Proxy| proxy.addr().port() == port;
        self.proxies.iter().position(is_it)
    }

    /// Sends a command to the first Sentinel.
    pub async fn ask<T: redis::FromRedisValue>(&self, words: &[&str]) -> redis::RedisResult<T> {
        self.sentinels[0].ask(words).await
    }

    /// Waits until all other servers replicate one server and all Sentinels know that.
    pub async fn complete(&self) {
        for _ in 0..600 {
            if self.is_complete().await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("the servers do not come together");
    }

    async fn is_complete(&self) -> bool {
        let Some(primary) = self.try_primary().await else {
            return false;
        };
        let info: redis::RedisResult<String> = self.servers[primary]
            .try_command(&["INFO", "replication"])
            .await;
        let online = info.is_ok_and(|info| {
            info.contains("role:master") && info.matches("state=online").count() == SERVERS - 1
        });
        if !online {
            return false;
        }
        for sentinel in &self.sentinels {
            let known: redis::RedisResult<Vec<(String, String)>> =
                sentinel.ask(&["SENTINEL", "MASTER", NAME]).await;
            let known = known.unwrap_or_default();
            let is = |name: &str, value: &str| known.contains(&(name.to_owned(), value.to_owned()));
            let port = self.proxies[primary].addr().port().to_string();
            if !(is("num-slaves", "2")
                && is("num-other-sentinels", "2")
                && is("flags", "master")
                && is("port", &port))
            {
                return false;
            }
        }
        true
    }
}

impl Sentinel {
    /// Starts a Sentinel for a primary. Two Sentinels must agree that it is down, which takes a second.
    fn watch(primary: u16) -> Self {
        let port = free_port();
        let text = format!(
            "port {port}\nsentinel monitor {NAME} 127.0.0.1 {primary} 2\n\
             sentinel down-after-milliseconds {NAME} 1000\n\
             sentinel failover-timeout {NAME} 6000\n\
             sentinel parallel-syncs {NAME} 2\n"
        );
        Self::start(port, &text)
    }

    /// Starts a Sentinel with a configuration that names a primary; the harness adds the login.
    pub fn start(port: u16, config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("sentinel.conf");
        let text = format!(
            "bind 127.0.0.1\ndir {}\n{config}\
             sentinel auth-user {NAME} sentinel\nsentinel auth-pass {NAME} {REDIS_PASSWORD}\n",
            folder.path().display()
        );
        std::fs::write(&file, text).unwrap();
        let mut command = installed("redis-server", "redis-server");
        let command = command.arg(file).arg("--sentinel").stdout(Stdio::null());
        Self {
            port,
            child: command.spawn().unwrap(),
            _folder: folder,
        }
    }

    async fn ask<T: redis::FromRedisValue>(&self, words: &[&str]) -> redis::RedisResult<T> {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}", self.port))?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]).query_async(&mut connection).await
    }
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

//! A Redis Cluster: three primaries, each with a replica.

use super::tools::printed;
use super::{REDIS_PASSWORD, Redis, free_port, installed};

/// Redis Cluster of six servers, which ends with the test.
pub struct Shards {
    pub servers: Vec<Redis>,
}

impl Shards {
    /// Starts six servers. A primary is considered down after a second and a half.
    pub async fn start() -> Self {
        Self::with(&[]).await
    }

    /// Starts six servers with additional options.
    pub async fn with(more: &[&str]) -> Self {
        Self::under(&[], more).await
    }

    /// Starts six servers with additional options and environment variables.
    pub async fn under(variables: &[(&str, &str)], more: &[&str]) -> Self {
        let this = Self::apart(variables, more).await;
        this.join().await;
        this
    }

    /// Starts six servers that have not been joined yet.
    pub async fn apart(variables: &[(&str, &str)], more: &[&str]) -> Self {
        let mut servers = Vec::new();
        for _ in 0..6 {
            let mut options = vec![
                "--cluster-enabled",
                "yes",
                "--cluster-node-timeout",
                "1500",
                "--repl-diskless-sync-delay",
                "0",
                "--masteruser",
                "replica",
                "--masterauth",
                REDIS_PASSWORD,
            ];
            options.extend(more);
            servers.push(Redis::on_under(port(), variables, &options).await);
        }
        Self { servers }
    }

    /// Joins the servers to a Cluster, as an operator does.
    pub async fn join(&self) {
        let addresses = self.servers.iter().map(|it| it.addr().to_string());
        let mut create = installed("redis-cli", "redis-tools");
        create.env("REDISCLI_AUTH", REDIS_PASSWORD);
        create.args(["--user", "admin", "--cluster", "create"]);
        create.args(addresses);
        create.args(["--cluster-replicas", "1", "--cluster-yes"]);
        printed(&mut create);
        self.complete().await;
    }

    /// URL for the service.
    pub fn url(&self) -> String {
        let hosts: Vec<_> = self
            .servers
            .iter()
            .map(|it| it.addr().to_string())
            .collect();
        format!(
            "redis+cluster://portcullis:{REDIS_PASSWORD}@{}",
            hosts.join(",")
        )
    }

    /// Waits until all slots are served and every primary has its replica.
    pub async fn complete(&self) {
        for _ in 0..600 {
            let mut good = 0;
            for server in &self.servers {
                let info = server.try_command::<String>(&["CLUSTER", "INFO"]).await;
                let state = info.is_ok_and(|info| info.contains("cluster_state:ok"));
                let info = server.try_command::<String>(&["INFO", "replication"]).await;
                let follows = info.is_ok_and(|info| {
                    info.contains("state=online") || info.contains("master_link_status:up")
                });
                good += usize::from(state && follows);
            }
            if good == self.servers.len() {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        panic!("the Cluster does not come together");
    }

    /// Index of the server that serves the slot of a key.
    pub async fn primary_of(&self, key: &str) -> usize {
        let slot = self.slot(key).await;
        let ranges: Vec<Vec<redis::Value>> = self.ask(&["CLUSTER", "SLOTS"]).await;
        for range in ranges {
            let (first, last): (u16, u16) =
                redis::from_redis_value(redis::Value::Array(range[..2].to_vec())).unwrap();
            if (first..=last).contains(&slot) {
                let redis::Value::Array(node) = &range[2] else {
                    panic!("not a server: {range:?}");
                };
                let port: u16 = redis::from_redis_value(node[1].clone()).unwrap();
                let is_it = |server: &Redis| server.addr().port() == port;
                return self.servers.iter().position(is_it).unwrap();
            }
        }
        panic!("nobody serves slot {slot}");
    }

    /// Index of a server that replicates `primary`.
    pub async fn replica_of(&self, primary: usize) -> usize {
        let port = format!("master_port:{}", self.servers[primary].addr().port());
        for (number, server) in self.servers.iter().enumerate() {
            let info: String = server.command(&["INFO", "replication"]).await;
            if info.lines().any(|line| line.trim() == port) {
                return number;
            }
        }
        panic!("nobody follows it");
    }

    /// Slot of a key.
    pub async fn slot(&self, key: &str) -> u16 {
        self.ask(&["CLUSTER", "KEYSLOT", key]).await
    }

    /// Moves a slot and its keys to another primary, as `redis-cli --cluster reshard` does.
    pub async fn move_slot(&self, key: &str, to: usize) {
        let from = self.primary_of(key).await;
        let slot = self.slot(key).await.to_string();
        let (source, target) = (&self.servers[from], &self.servers[to]);
        let source_id: String = source.command(&["CLUSTER", "MYID"]).await;
        let target_id: String = target.command(&["CLUSTER", "MYID"]).await;
        let set = async |at: &Redis, words: &[&str]| {
            let mut command = vec!["CLUSTER", "SETSLOT", &slot];
            command.extend(words);
            let () = at.command(&command).await;
        };
        set(target, &["IMPORTING", &source_id]).await;
        set(source, &["MIGRATING", &target_id]).await;
        let port = target.addr().port().to_string();
        loop {
            let keys: Vec<String> = source
                .command(&["CLUSTER", "GETKEYSINSLOT", &slot, "10"])
                .await;
            if keys.is_empty() {
                break;
            }
            let mut migrate = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000"];
            migrate.extend(["AUTH2", "admin", REDIS_PASSWORD, "KEYS"]);
            migrate.extend(keys.iter().map(String::as_str));
            let _: redis::Value = source.command(&migrate).await;
        }
        set(target, &["NODE", &target_id]).await;
        set(source, &["NODE", &target_id]).await;
    }

    /// Sends a command to any server that answers.
    pub async fn ask<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        for server in &self.servers {
            if let Ok(answer) = server.try_command(words).await {
                return answer;
            }
        }
        panic!("no server answers");
    }
}

/// Finds a free port. Its bus port is 10,000 higher, and must lie outside the system's range for outgoing connections.
fn port() -> u16 {
    std::iter::repeat_with(free_port)
        .find(|port| *port < 22_000)
        .unwrap()
}

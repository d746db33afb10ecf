//! Ways to run Redis that our documentation describes, and operations on their servers.

use std::path::{Path, PathBuf};

use crate::harness::pods::{Hosts, Pods, ask, password_of, primary, role, wait};
use crate::harness::power::Disk;
use crate::harness::process::Process;
use crate::harness::shards::Shards;
use crate::harness::tools::{repository, yaml};
use crate::harness::{Redis, SECRET};

const HOSTS: Hosts = ["127.0.10.1", "127.0.10.2", "127.0.10.3"];

/// Way to run Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// One server with `deploy/redis.conf` and `deploy/redis-users.conf`.
    One,
    /// One server with the command of `deploy/compose.yaml`.
    Compose,
    /// Scripts and files of `k8s/overlays/sentinel`.
    Sentinel,
    /// A Cluster of six servers with `deploy/redis.conf` and `deploy/redis-users.conf`.
    Cluster,
}

impl Way {
    pub(super) fn has_failover(self) -> bool {
        matches!(self, Self::Sentinel | Self::Cluster)
    }
}

/// Running servers; the harness records their files as a power cut would leave them.
pub(super) struct Servers {
    kind: Running,
    disk: Disk,
}

enum Running {
    One(Redis),
    Sentinel(Pods),
    Cluster(Shards),
}

/// Settings of a replica.
pub(super) struct Settings {
    pub(super) redis_url: String,
    acknowledgements: String,
}

impl Settings {
    pub(super) fn variables(&self) -> Vec<(&'static str, &str)> {
        vec![
            ("REDIS_URL", &self.redis_url),
            ("REDIS_ACK_REPLICAS", &self.acknowledgements),
            ("JWT_SECRET", SECRET),
            ("JWT_KEYS_DIR", "keys"),
            ("TRUSTED_PROXIES", "127.0.0.1/32"),
            ("RATE_LIMIT", "on"),
        ]
    }

    /// Starts a replica with its signing keys under `files`, and waits until it is ready.
    pub(super) async fn replica(&self, files: &Path) -> Process {
        if !files.join("keys").exists() {
            std::fs::create_dir(files.join("keys")).unwrap();
            self.run(files, &["keys", "generate"]).await;
        }
        Process::serve(files, &self.variables()).await
    }

    /// Runs a command of the program, which must succeed.
    pub(super) async fn run(&self, files: &Path, arguments: &[&str]) {
        let mut variables = self.variables();
        variables.push(("BCRYPT_COST", "4"));
        let mut program = crate::harness::process::program(files, &variables);
        let output = program.args(arguments).output().await.unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    }
}

impl Servers {
    pub(super) async fn start(way: Way) -> Self {
        let disk = Disk::new();
        disk.forget();
        let variables = disk.variables();
        let borrowed: Vec<_> = variables.iter().map(|(n, v)| (*n, v.as_str())).collect();
        let kind = match way {
            Way::One => Running::One(Redis::under(&borrowed, &[]).await),
            Way::Compose => {
                let words = words_of_compose();
                let words: Vec<_> = words.iter().map(String::as_str).collect();
                Running::One(Redis::of_compose(&borrowed, &words).await)
            }
            Way::Sentinel => Running::Sentinel(Pods::under(HOSTS, &variables)),
            Way::Cluster => Running::Cluster(Shards::under(&borrowed, &[]).await),
        };
        Self { kind, disk }
    }

    pub(super) fn settings(&self) -> Settings {
        let (redis_url, acknowledgements) = match &self.kind {
            Running::One(redis) => (redis.url(), "0"),
            Running::Sentinel(pods) => {
                let sentinels = pods.hosts.map(|host| format!("{host}:26379")).join(",");
                let password = password_of("portcullis");
                let url = format!("redis+sentinel://portcullis:{password}@{sentinels}/portcullis");
                // All replicas must acknowledge: only then does no failover lose anything.
                (url, "2")
            }
            Running::Cluster(shards) => (shards.url(), "1"),
        };
        Settings {
            redis_url,
            acknowledgements: acknowledgements.to_owned(),
        }
    }

    /// Ends all servers with a signal, and restarts them on the data that they kept.
    pub(super) async fn restart(&mut self, signal: &str) {
        self.stop(signal);
        self.start_again().await;
    }

    /// Cuts the power of all servers.
    pub(super) async fn cut_power(&mut self) {
        self.stop("-KILL");
        for folder in self.folders() {
            self.disk.cut(&folder);
        }
        self.start_again().await;
    }

    fn stop(&mut self, signal: &str) {
        let stop = |redis: &mut Redis| match signal {
            "-TERM" => redis.terminate(),
            _ => redis.kill(),
        };
        match &mut self.kind {
            Running::One(redis) => stop(redis),
            Running::Cluster(shards) => shards.servers.iter_mut().for_each(stop),
            Running::Sentinel(pods) => pods.stop_all(signal),
        }
    }

    async fn start_again(&mut self) {
        match &mut self.kind {
            Running::One(redis) => redis.start_again().await,
            Running::Cluster(shards) => {
                for server in &mut shards.servers {
                    server.start_again().await;
                }
                shards.complete().await;
            }
            Running::Sentinel(pods) => pods.start_all(),
        }
    }

    /// Folders of the append-only files.
    fn folders(&self) -> Vec<PathBuf> {
        let folders = match &self.kind {
            Running::One(redis) => vec![redis.folder().to_owned()],
            Running::Cluster(shards) => {
                let folders = shards.servers.iter().map(|it| it.folder().to_owned());
                folders.collect()
            }
            Running::Sentinel(pods) => (0..3).map(|number| pods.volume(number)).collect(),
        };
        let folders = folders.into_iter();
        folders.map(|it| it.join("appendonlydir")).collect()
    }

    /// Rewrites the append-only file of every server.
    pub(super) async fn rewrite(&self) {
        match &self.kind {
            Running::One(redis) => redis.rewrite().await,
            Running::Cluster(shards) => {
                for server in &shards.servers {
                    server.rewrite().await;
                }
            }
            Running::Sentinel(pods) => {
                for host in pods.hosts {
                    ask(host, "6379", &["BGREWRITEAOF"]);
                    wait("a rewritten file", || {
                        let info = ask(host, "6379", &["INFO", "persistence"]);
                        info.contains("aof_rewrite_in_progress:0")
                            && info.contains("aof_rewrite_scheduled:0")
                    });
                }
            }
        }
    }

    /// Kills a primary, waits until another server has taken over and the first follows it, and repeats this once.
    pub(super) async fn fail_over_and_back(&mut self) {
        for _ in 0..2 {
            match &mut self.kind {
                Running::One(_) => panic!("there is nothing to fail over to"),
                Running::Sentinel(pods) => {
                    let before = primary(pods.hosts[0]);
                    let number = pods.hosts.iter().position(|host| *host == before).unwrap();
                    pods.kill(number);
                    wait("another primary", || {
                        let now = primary(pods.hosts[(number + 1) % 3]);
                        now != before && role(&now) == "master"
                    });
                    pods.servers[number] = pods.run(number, "start-redis.sh");
                    pods.quiet();
                }
                Running::Cluster(shards) => {
                    let before = shards.primary_of("portcullis:{feed}:revocations").await;
                    shards.servers[before].kill();
                    while shards.primary_of("portcullis:{feed}:revocations").await == before {
                        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                    }
                    shards.servers[before].start_again().await;
                    shards.complete().await;
                }
            }
        }
    }
}

/// Words after the name of the configuration in the command of compose's Redis, byte for byte.
fn words_of_compose() -> Vec<String> {
    let compose = &yaml(&repository("deploy/compose.yaml"))[0];
    let command: Vec<_> = compose["services"]["redis"]["command"]
        .as_array()
        .unwrap()
        .iter()
        .map(|word| word.as_str().unwrap().to_owned())
        .collect();
    assert_eq!(command[..2], ["redis-server", "/etc/redis.conf"]);
    let mounted = compose["services"]["redis"]["volumes"].to_string();
    assert!(
        mounted.contains("./redis.conf:/etc/redis.conf"),
        "{mounted}"
    );
    command[2..].to_vec()
}

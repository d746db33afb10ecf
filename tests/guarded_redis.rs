//! The start scripts of `k8s/components/redis-sentinel`, with real servers and Sentinels on addresses of this machine: a primary
//! that comes back with an empty disk does not make the others as empty, and one that leaves hands over first.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::harness::installed;
use crate::harness::tools::repository;

const HOSTS: [&str; 3] = ["127.0.9.1", "127.0.9.2", "127.0.9.3"];
const KEYS: usize = 200;
/// Long, because it says nothing about speed.
const PATIENCE: Duration = Duration::from_mins(1);

/// Three pods.
struct Pods {
    volumes: TempDir,
    servers: Vec<Child>,
    sentinels: Vec<Child>,
}

fn script(name: &str) -> Command {
    let mut command = Command::new(repository("k8s/components/redis-sentinel").join(name));
    command
        .env("PEERS", HOSTS.join(" "))
        .env(
            "AUTH",
            repository("k8s/overlays/sentinel/secrets/redis-auth.conf"),
        )
        .env(
            "CONFIG",
            repository("k8s/components/redis-sentinel/redis.conf"),
        )
        .env("PATIENCE", "1")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// What `redis-cli` says to that at a port of a pod; no text where nobody answers.
fn ask(host: &str, port: &str, words: &[&str]) -> String {
    let mut command = installed("redis-cli", "redis-tools");
    command.args(["-h", host, "-p", port]);
    if port == "6379" {
        let auth = repository("k8s/overlays/sentinel/secrets/redis-auth.conf");
        let auth = std::fs::read_to_string(auth).unwrap();
        let admin = auth
            .lines()
            .find_map(|line| line.strip_prefix("user admin on >"));
        let password = admin.unwrap().split(' ').next().unwrap();
        command.args(["--user", "admin", "-a", password, "--no-auth-warning"]);
    }
    let output = command.args(words).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn role(host: &str) -> String {
    let role = ask(host, "6379", &["ROLE"]);
    role.lines().next().unwrap_or_default().to_owned()
}

/// Whom the Sentinel of a pod takes for the primary.
fn primary(host: &str) -> String {
    let words = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "portcullis"];
    let told = ask(host, "26379", &words);
    told.lines().next().unwrap_or_default().to_owned()
}

fn keys(host: &str) -> String {
    ask(host, "6379", &["DBSIZE"])
}

fn wait(what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

impl Pods {
    fn start() -> Self {
        let volumes = tempfile::tempdir().unwrap();
        let mut this = Self {
            volumes,
            servers: Vec::new(),
            sentinels: Vec::new(),
        };
        for number in 0..3 {
            let server = this.run(number, "start-redis.sh");
            this.servers.push(server);
        }
        wait("a primary of two", || {
            HOSTS
                .map(role)
                .iter()
                .filter(|role| *role == "slave")
                .count()
                == 2
        });
        for number in 0..3 {
            let sentinel = this.run(number, "start-sentinel.sh");
            this.sentinels.push(sentinel);
        }
        wait("Sentinels that know one another", || {
            HOSTS.iter().all(|host| {
                let told = ask(host, "26379", &["INFO", "sentinel"]);
                told.contains("slaves=2,sentinels=3")
            })
        });
        this
    }

    fn volume(&self, number: usize) -> PathBuf {
        self.volumes.path().join(number.to_string())
    }

    fn run(&self, number: usize, name: &str) -> Child {
        let host = HOSTS[number];
        script(name)
            .env("ME", host)
            .env("BIND", host)
            .env("DATA", self.volume(number))
            .spawn()
            .unwrap()
    }

    /// Kills a server, takes its disk away, and starts it again at once, before anybody has missed it.
    fn lose_disk(&mut self, number: usize) {
        self.servers[number].kill().unwrap();
        self.servers[number].wait().unwrap();
        std::fs::remove_dir_all(self.volume(number).join("appendonlydir")).unwrap();
    }
}

impl Drop for Pods {
    fn drop(&mut self) {
        for child in self.servers.iter_mut().chain(&mut self.sentinels) {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// So many keys that all three have.
fn fill(at: &str) {
    let script = format!("for i = 1, {KEYS} do redis.call('SET', 'key' .. i, 'x') end");
    ask(at, "6379", &["EVAL", &script, "0"]);
    wait("all have all", || {
        HOSTS.iter().all(|host| keys(host) == KEYS.to_string())
    });
}

/// Waits until the Sentinels are done with the last failover, and see two replicas that follow: before that they refuse another.
fn quiet() {
    wait("Sentinels that are done", || {
        HOSTS.iter().all(|host| {
            let told = ask(host, "26379", &["SENTINEL", "MASTER", "portcullis"]);
            let lines: Vec<_> = told.lines().collect();
            let field = |name: &str| {
                let at = lines.iter().position(|line| *line == name);
                at.map_or("", |at| lines[at + 1])
            };
            field("flags") == "master" && field("num-slaves") == "2"
        }) && HOSTS
            .map(role)
            .iter()
            .filter(|role| *role == "slave")
            .count()
            == 2
    });
}

#[test]
fn a_primary_that_comes_back_with_an_empty_disk_takes_nothing_from_the_others() {
    let mut pods = Pods::start();
    assert_eq!(
        primary(HOSTS[1]),
        HOSTS[0],
        "the first pod is the first primary"
    );
    fill(HOSTS[0]);
    pods.lose_disk(0);
    pods.servers[0] = pods.run(0, "start-redis.sh");
    wait("it follows another", || role(HOSTS[0]) == "slave");
    wait("all have all", || {
        HOSTS.iter().all(|host| keys(host) == KEYS.to_string())
    });
    let next = primary(HOSTS[1]);
    assert_ne!(next, HOSTS[0]);

    // One that leaves hands over before it goes.
    quiet();
    let left = script("leave.sh").env("ME", &next).status().unwrap();
    assert!(left.success());
    wait("another primary", || {
        HOSTS.iter().all(|host| primary(host) != next)
    });
    wait("all have all", || {
        HOSTS.iter().all(|host| keys(host) == KEYS.to_string())
    });
    // One that is no primary just leaves.
    quiet();
    let still = primary(HOSTS[0]);
    let other = HOSTS.iter().find(|host| **host != still).unwrap();
    assert!(
        script("leave.sh")
            .env("ME", other)
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(primary(HOSTS[0]), still);

    // The counter-proof: started as it was configured, without a look at the others, it makes all of them empty.
    let number = HOSTS.iter().position(|host| *host == still).unwrap();
    pods.lose_disk(number);
    let volume = pods.volume(number);
    let auth = repository("k8s/overlays/sentinel/secrets/redis-auth.conf");
    let config = repository("k8s/components/redis-sentinel/redis.conf");
    pods.servers[number] = installed("redis-server", "redis-server")
        .arg(config)
        .arg("--dir")
        .arg(volume)
        .arg("--include")
        .arg(auth)
        .args(["--bind", &still, "--repl-diskless-sync-delay", "0"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    wait("all are empty", || {
        HOSTS.iter().all(|host| keys(host) == "0")
    });
}

#[test]
fn the_handover_in_the_component_is_the_one_in_deploy() {
    let read = |name| std::fs::read_to_string(repository(name)).unwrap();
    assert!(read("deploy/handover.sh") == read("k8s/components/redis-sentinel/handover.sh"));
}

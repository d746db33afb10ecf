//! Pods of `k8s/components/redis-sentinel`: its start scripts and files as they are shipped, with real servers and Sentinels on
//! addresses of this machine in place of the pods' names.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::installed;
use super::tools::repository;

/// Timeout of each step. It is long because it says nothing about speed.
const PATIENCE: Duration = Duration::from_mins(1);

/// Addresses of three pods; each test that starts pods has a network of its own.
pub type Hosts = [&'static str; 3];

/// Three pods, which end with the test.
pub struct Pods {
    pub hosts: Hosts,
    volumes: TempDir,
    pub servers: Vec<Child>,
    sentinels: Vec<Child>,
    variables: Vec<(&'static str, String)>,
}

/// Password of a user of the overlay.
pub fn password_of(user: &str) -> String {
    let auth = repository("k8s/overlays/sentinel/secrets/redis-auth.conf");
    let auth = std::fs::read_to_string(auth).unwrap();
    let user = format!("user {user} on >");
    let line = auth.lines().find_map(|line| line.strip_prefix(&user));
    line.unwrap().split(' ').next().unwrap().to_owned()
}

/// Output of `redis-cli` for the server or Sentinel at a port of a pod; empty if it does not answer.
pub fn ask(host: &str, port: &str, words: &[&str]) -> String {
    let mut command = installed("redis-cli", "redis-tools");
    command.args(["-h", host, "-p", port]);
    if port == "6379" {
        let password = password_of("admin");
        command.args(["--user", "admin", "-a", &password, "--no-auth-warning"]);
    }
    let output = command.args(words).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Role of a pod's server.
pub fn role(host: &str) -> String {
    let role = ask(host, "6379", &["ROLE"]);
    role.lines().next().unwrap_or_default().to_owned()
}

/// Address of the primary, according to a pod's Sentinel.
pub fn primary(host: &str) -> String {
    let words = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "portcullis"];
    let told = ask(host, "26379", &words);
    told.lines().next().unwrap_or_default().to_owned()
}

/// Waits until `holds` returns true.
pub fn wait(what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

impl Pods {
    /// Starts the pods with empty volumes.
    pub fn start(hosts: Hosts) -> Self {
        Self::under(hosts, &[])
    }

    /// Starts the pods with empty volumes and additional environment variables.
    pub fn under(hosts: Hosts, variables: &[(&'static str, String)]) -> Self {
        let mut this = Self::not_started(hosts, variables);
        this.start_all();
        this
    }

    fn not_started(hosts: Hosts, variables: &[(&'static str, String)]) -> Self {
        Self {
            hosts,
            volumes: tempfile::tempdir().unwrap(),
            servers: Vec::new(),
            sentinels: Vec::new(),
            variables: variables.to_vec(),
        }
    }

    /// Starts the pods with empty volumes. Each pod's Sentinel answers before the pod's server has asked it, which happens on a
    /// node that starts containers slowly.
    pub fn start_after_sentinels(hosts: Hosts) -> Self {
        let mut this = Self::not_started(hosts, &[]);
        for number in 0..3 {
            let sentinel = this.run(number, "start-sentinel.sh");
            this.sentinels.push(sentinel);
        }
        wait("Sentinels that name the first pod", || {
            hosts.iter().all(|host| primary(host) == hosts[0])
        });
        for number in 0..3 {
            let server = this.run(number, "start-redis.sh");
            this.servers.push(server);
        }
        this
    }

    /// Starts the servers and Sentinels of all pods on their present volumes.
    pub fn start_all(&mut self) {
        for number in 0..3 {
            let server = self.run(number, "start-redis.sh");
            self.servers.push(server);
        }
        // A pod starts its Sentinel beside its server, so either of them may be ready first.
        for number in 0..3 {
            let sentinel = self.run(number, "start-sentinel.sh");
            self.sentinels.push(sentinel);
        }
        self.quiet();
        wait("Sentinels that know one another", || {
            self.hosts.iter().all(|host| {
                let told = ask(host, "26379", &["INFO", "sentinel"]);
                told.contains("slaves=2,sentinels=3")
            })
        });
    }

    /// Sends a signal to the servers and Sentinels of all pods at the same time.
    pub fn stop_all(&mut self, signal: &str) {
        let mut children: Vec<_> = self
            .servers
            .drain(..)
            .chain(self.sentinels.drain(..))
            .collect();
        for child in &children {
            let pid = child.id().to_string();
            let sent = Command::new("kill").args([signal, &pid]).status();
            assert!(sent.unwrap().success());
        }
        for child in &mut children {
            child.wait().unwrap();
        }
    }

    /// Command that runs a script of the component as its container does.
    pub fn script(&self, name: &str) -> Command {
        let mut command = Command::new(repository("k8s/components/redis-sentinel").join(name));
        command
            .env("PEERS", self.hosts.join(" "))
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

    /// Volume of a pod.
    pub fn volume(&self, number: usize) -> PathBuf {
        self.volumes.path().join(number.to_string())
    }

    /// Runs a start script in a pod.
    pub fn run(&self, number: usize, name: &str) -> Child {
        let host = self.hosts[number];
        let variables = self.variables.iter().map(|(name, value)| (*name, value));
        self.script(name)
            .env("ME", host)
            .env("BIND", host)
            .env("DATA", self.volume(number))
            .envs(variables)
            .spawn()
            .unwrap()
    }

    /// Kills a pod's server.
    pub fn kill(&mut self, number: usize) {
        self.servers[number].kill().unwrap();
        self.servers[number].wait().unwrap();
    }

    /// Kills a pod's server and deletes its data.
    pub fn lose_disk(&mut self, number: usize) {
        self.kill(number);
        std::fs::remove_dir_all(self.volume(number).join("appendonlydir")).unwrap();
    }

    /// Waits until the Sentinels have finished the last failover and see two replicas of the primary: until then they refuse
    /// another failover.
    pub fn quiet(&self) {
        wait("Sentinels that are done", || {
            self.hosts.iter().all(|host| {
                let told = ask(host, "26379", &["SENTINEL", "MASTER", "portcullis"]);
                let lines: Vec<_> = told.lines().collect();
                let field = |name: &str| {
                    let at = lines.iter().position(|line| *line == name);
                    at.map_or("", |at| lines[at + 1])
                };
                field("flags") == "master" && field("num-slaves") == "2"
            }) && self
                .hosts
                .map(role)
                .iter()
                .filter(|role| *role == "slave")
                .count()
                == 2
        });
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

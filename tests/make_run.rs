//! `make run`, as a new user runs it: one command, a cluster, Ctrl-C, and nothing is left.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tempfile::TempDir;

use crate::harness::{Anonymous, PASSWORD, User, installed};

/// A cluster that `make run` has started. All its processes end with the test.
struct Run {
    make: Child,
    port: u16,
    folder: TempDir,
}

impl Run {
    /// Runs `make run` with the program under test, so that nothing is built.
    fn start(port: u16, variables: &[(&str, &str)]) -> Self {
        installed("haproxy", "haproxy");
        let folder = tempfile::tempdir().unwrap();
        let log = std::fs::File::create(folder.path().join("output")).unwrap();
        let make = std::os::unix::process::CommandExt::process_group(
            installed("make", "make")
                .args(["--no-print-directory", "run"])
                .current_dir(env!("CARGO_MANIFEST_DIR"))
                .env("BINARY", env!("CARGO_BIN_EXE_portcullis"))
                .env("PORT", port.to_string())
                .env("DATA_DIR", folder.path().join("data"))
                .env_remove("REDIS_URL")
                .envs(variables.iter().copied())
                .stdin(Stdio::null())
                .stdout(log.try_clone().unwrap())
                .stderr(log),
            0,
        )
        .spawn()
        .unwrap();
        Self { make, port, folder }
    }

    fn output(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("output")).unwrap()
    }

    /// Waits until `make run` reports that the cluster is up.
    async fn up(&mut self) {
        for _ in 0..1200 {
            if self.output().contains("Ctrl-C stops all of it") {
                return;
            }
            assert!(
                self.make.try_wait().unwrap().is_none(),
                "it ended: {}",
                self.output()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("it does not come up: {}", self.output());
    }

    /// Sends the signal to the whole foreground group, as a terminal does.
    fn press_ctrl_c(&self) {
        rustix::process::kill_process_group(pid(&self.make), Signal::INT).unwrap();
    }

    /// Waits until `make` has ended; returns true if it was successful.
    async fn ended(&mut self) -> bool {
        for _ in 0..1200 {
            if let Some(status) = self.make.try_wait().unwrap() {
                return status.success();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("it does not end: {}", self.output());
    }

    /// Client of the load balancer (0) or of a replica (1, 2, 3).
    fn at(&self, number: u16) -> Anonymous {
        Anonymous::at(SocketAddr::from(([127, 0, 0, 1], self.port + number)))
    }

    /// Fails if a process that mentions the data folder is alive, or if any port is taken.
    fn nothing_is_left(&self) {
        let left = processes_that_know(self.folder.path());
        assert!(left.is_empty(), "left behind: {left:?}; {}", self.output());
        for port in ports(self.port) {
            assert!(
                TcpListener::bind(("127.0.0.1", port)).is_ok(),
                "port {port} is taken"
            );
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if self.make.try_wait().is_ok_and(|ended| ended.is_none()) {
            rustix::process::kill_process_group(pid(&self.make), Signal::TERM).ok();
            self.make.wait().ok();
        }
    }
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(child.id().cast_signed()).unwrap()
}

/// Ports of the load balancer, of the replicas, of their management addresses and of Redis.
fn ports(first: u16) -> Vec<u16> {
    let mut ports: Vec<_> = (first..=first + 3).collect();
    ports.extend([first + 1001, first + 1002, first + 1003, first + 2000]);
    ports
}

/// Finds a first port such that all ports of a cluster are free.
fn free_ports() -> u16 {
    let candidates = (0..200)
        .map(|number| 20_000 + u16::try_from(std::process::id() % 500).unwrap() * 20 + number * 5);
    let free = |first: &u16| {
        ports(*first)
            .into_iter()
            .all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok())
    };
    candidates.into_iter().find(free).expect("free ports")
}

/// Command lines of living processes that mention the folder in their command line or environment.
fn processes_that_know(folder: &Path) -> Vec<String> {
    let needle = folder.to_str().unwrap().to_owned();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let read = |name: &str| {
            let bytes = std::fs::read(entry.path().join(name)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).replace('\0', " ")
        };
        let (line, environment) = (read("cmdline"), read("environ"));
        let is_dead = read("stat")
            .rsplit(')')
            .next()
            .is_some_and(|rest| rest.trim_start().starts_with('Z'));
        if !is_dead && (line.contains(&needle) || environment.contains(&needle)) {
            found.push(line);
        }
    }
    found
}

/// Process ID of the process whose environment contains `variable`.
fn process_with(variable: &str) -> i32 {
    let folders = std::fs::read_dir("/proc").unwrap().flatten();
    let has_it = |folder: &std::fs::DirEntry| {
        let environment = std::fs::read(folder.path().join("environ")).unwrap_or_default();
        environment
            .split(|&byte| byte == 0)
            .any(|one| one == variable.as_bytes())
    };
    let name = folders
        .into_iter()
        .find(has_it)
        .expect("such a process")
        .file_name();
    name.to_str().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn make_run_gives_a_cluster_and_ctrl_c_leaves_nothing() {
    let mut run = Run::start(free_ports(), &[("BCRYPT_COST", "4")]);
    run.up().await;
    for word in ["/docs", "/readyz", "curl"] {
        assert!(
            run.output().contains(word),
            "{word} is told: {}",
            run.output()
        );
    }

    let balancer = run.at(0);
    assert_eq!(balancer.register("alice", PASSWORD).await.status, 201);
    let user = User::log_in(&balancer, "alice").await;
    for number in 0..4 {
        assert_eq!(
            run.at(number).dashboard(&user.token).await.status,
            200,
            "at {number}"
        );
    }
    assert_eq!(run.at(0).get("/docs").await.status, 200);
    assert_eq!(balancer.logout(&user.token).await.status, 204);
    for number in 0..4 {
        assert_eq!(
            run.at(number).dashboard(&user.token).await.status,
            401,
            "at {number}"
        );
    }

    // A setting of the environment has reached the replica that computed the hash.
    let redis = redis::Client::open(format!("redis://127.0.0.1:{}", run.port + 2000)).unwrap();
    let mut connection = redis.get_multiplexed_async_connection().await.unwrap();
    let mut read = redis::cmd("HGET");
    read.arg("portcullis:user:{2bd806c9}:alice").arg("password");
    let hash: String = read.query_async(&mut connection).await.unwrap();
    assert!(hash.contains("$2b$04$"), "{hash}");
    drop(connection);

    run.press_ctrl_c();
    run.ended().await;
    run.nothing_is_left();
    assert!(run.folder.path().join("data/redis").is_dir(), "data stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn make_run_with_a_taken_port_says_so_in_a_line_and_leaves_nothing() {
    let port = free_ports();
    let taken = TcpListener::bind(("127.0.0.1", port + 2)).unwrap();
    let mut run = Run::start(port, &[]);
    assert!(!run.ended().await, "{}", run.output());
    let said: Vec<_> = run
        .output()
        .lines()
        .filter(|line| line.starts_with("make run: "))
        .map(str::to_owned)
        .collect();
    assert_eq!(said.len(), 1, "{}", run.output());
    assert!(said[0].contains(&(port + 2).to_string()), "{said:?}");
    drop(taken);
    run.nothing_is_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn make_run_ends_as_a_whole_when_a_replica_dies() {
    let mut run = Run::start(free_ports(), &[("BCRYPT_COST", "4")]);
    run.up().await;
    let replica = process_with(&format!("LISTEN=127.0.0.1:{}", run.port + 2));
    rustix::process::kill_process(Pid::from_raw(replica).unwrap(), Signal::KILL).unwrap();
    assert!(!run.ended().await, "{}", run.output());
    assert!(run.output().contains("replica 2"), "{}", run.output());
    run.nothing_is_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn make_run_with_bad_settings_fails_and_leaves_nothing() {
    let mut run = Run::start(free_ports(), &[("ACCESS_TTL", "soon")]);
    assert!(!run.ended().await, "{}", run.output());
    assert!(run.output().contains("ACCESS_TTL"), "{}", run.output());
    run.nothing_is_left();
}

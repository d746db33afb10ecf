//! Replicas that start while the machine is busy. Afterwards each serves as the other replicas do: what a replica measured of
//! its own speed during the start must not decide which logins it accepts later.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::time::sleep;

use crate::harness::process::{Process, folder};
use crate::harness::{Dice, PASSWORD, Redis, SECRET};

/// Replicas that start together.
const REPLICAS: usize = 8;
/// Clients that log in at one replica at the same time: fewer than its lanes, so the replica has no reason to refuse any.
const CLIENTS: usize = 4;
/// Logins of each client at each replica.
const LOGINS: usize = 3;
/// Part of a core that a replica has during a start with a quota: 200m in the terms of Kubernetes.
const QUOTA: Duration = Duration::from_millis(20);
const PERIOD: Duration = Duration::from_millis(100);

#[tokio::test(flavor = "multi_thread")]
async fn replicas_started_beside_busy_loops_refuse_no_login_afterwards() {
    let site = Site::start().await;
    let loops = (0..REPLICAS).map(|_| BusyLoop::start()).collect::<Vec<_>>();
    let replicas = site.replicas(|replica| async { replica }).await;
    drop(loops);
    site.assert_all_serve(&replicas).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_stopped_and_continued_during_the_start_refuse_no_login_afterwards() {
    let site = Site::start().await;
    let replicas = site
        .replicas(|replica| async {
            let mut dice = Dice::new();
            let mut millis = |most| Duration::from_millis(1 + dice.below(most) as u64);
            let mut stops = 0;
            while replica.events("listening").is_empty() {
                replica.signal(Signal::STOP);
                sleep(millis(50)).await;
                replica.signal(Signal::CONT);
                stops += 1;
                sleep(millis(5)).await;
            }
            println!("stopped {stops} times during the start");
            assert!(stops > 1, "the start took too short a time to be disturbed");
            replica
        })
        .await;
    site.assert_all_serve(&replicas).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_started_with_a_fifth_of_a_core_refuse_no_login_afterwards() {
    let site = Site::start().await;
    let held_back = AtomicU64::new(0);
    let replicas = site
        .replicas(|replica| async {
            // The replica is stopped until the quota is in place.
            replica.signal(Signal::STOP);
            let quota = Quota::of(replica.pid());
            replica.signal(Signal::CONT);
            match quota {
                Ok(quota) => {
                    replica.event("listening").await;
                    held_back.fetch_add(quota.lift(), Ordering::Relaxed);
                }
                Err(error) => {
                    // Not every user who runs the tests may create cgroups. Signals give the same share of a core.
                    println!("no cgroup ({error}): the quota is kept by signals");
                    while replica.events("listening").is_empty() {
                        sleep(QUOTA).await;
                        replica.signal(Signal::STOP);
                        sleep(PERIOD.saturating_sub(QUOTA)).await;
                        replica.signal(Signal::CONT);
                        held_back.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
            replica
        })
        .await;
    let held_back = held_back.into_inner();
    // On a machine that is already busy, the quota may never hold a replica back, so the count is only printed.
    println!("the replicas were held back {held_back} times in all");
    site.assert_all_serve(&replicas).await;
}

/// Redis with a user, and the settings of replicas that use it.
struct Site {
    folder: TempDir,
    url: String,
    /// Stops with the test.
    _redis: Redis,
}

impl Site {
    async fn start() -> Self {
        let redis = Redis::start().await;
        let site = Self {
            folder: folder(),
            url: redis.url(),
            _redis: redis,
        };
        let first = Process::serve(site.folder.path(), &site.settings()[1..]).await;
        let registered = first.anonymous().register("alice", PASSWORD).await;
        assert_eq!(registered.status, 201, "{registered:?}");
        site
    }

    /// Settings of a replica. The first one sets the hash cost to the value that operators have.
    fn settings(&self) -> [(&'static str, &str); 7] {
        [
            ("BCRYPT_COST", "12"),
            ("REDIS_URL", &self.url),
            ("JWT_SECRET", SECRET),
            ("LISTEN", "127.0.0.1:0"),
            ("MANAGEMENT_LISTEN", "127.0.0.1:0"),
            ("DRAIN_DELAY", "0s"),
            ("RATE_LIMIT", "off"),
        ]
    }

    /// Starts all replicas at once and disturbs each during its start. All are ready when this returns.
    async fn replicas<F>(&self, disturb: impl Fn(Process) -> F) -> Vec<Process>
    where
        F: Future<Output = Process>,
    {
        let started = (0..REPLICAS).map(|_| {
            let replica = Process::spawn(self.folder.path(), &self.settings(), &["serve"]);
            let disturbed = disturb(replica);
            async {
                let mut replica = disturbed.await;
                replica.listening().await;
                replica.ready().await;
                replica
            }
        });
        join_all(started).await
    }

    /// Gives each replica the same logins, one replica after the other.
    async fn assert_all_serve(&self, replicas: &[Process]) {
        let mut refused = Vec::new();
        for replica in replicas {
            let clients = (0..CLIENTS).map(|_| async {
                let client = replica.anonymous();
                let mut refused = 0;
                for _ in 0..LOGINS {
                    let answer = client.login("alice", PASSWORD).await;
                    match answer.status {
                        200 => {}
                        503 => refused += 1,
                        _ => panic!("{answer:?}"),
                    }
                }
                refused
            });
            refused.push(join_all(clients).await.into_iter().sum::<usize>());
        }
        println!(
            "refused by each replica, of {}: {refused:?}",
            CLIENTS * LOGINS
        );
        assert_eq!(refused, [0; REPLICAS]);
    }
}

/// Process that takes as much of a core as the system gives it. It ends when this value is dropped.
struct BusyLoop(Child);

impl BusyLoop {
    fn start() -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", "while :; do :; done"]);
        Self(command.stdin(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for BusyLoop {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Cgroup that bounds the CPU time of one process. It is removed when this value is dropped.
struct Quota {
    group: PathBuf,
    /// Cgroup of the process before the quota.
    before: PathBuf,
    pid: u32,
}

impl Quota {
    /// Limits the process from now on.
    fn of(pid: u32) -> std::io::Result<Self> {
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
        let mounts = fs::read_to_string("/proc/mounts")?;
        // Version 1 has a hierarchy for `cpu`, version 2 one hierarchy for everything.
        let own = groups.lines().find_map(|line| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            let is_cpu = controllers.split(',').any(|it| it == "cpu");
            is_cpu.then_some((true, path))
        });
        let unified = groups.lines().find_map(|line| line.strip_prefix("0::"));
        let found = own.or_else(|| Some((false, unified?)));
        let (first, path) = found.ok_or_else(|| std::io::Error::other("no cgroup"))?;
        let mount = mounts.lines().find_map(|line| {
            let fields = line.split(' ').collect::<Vec<_>>();
            let fits = if first {
                fields[2] == "cgroup" && fields[3].split(',').any(|it| it == "cpu")
            } else {
                fields[2] == "cgroup2"
            };
            fits.then(|| PathBuf::from(fields[1]))
        });
        let mount = mount.ok_or_else(|| std::io::Error::other("no cgroup is mounted"))?;
        let before = mount.join(path.trim_start_matches('/'));
        let quota = Self {
            group: before.join(format!("portcullis-test-{pid}")),
            before,
            pid,
        };
        fs::create_dir(&quota.group)?;
        let (limit, period) = (QUOTA.as_micros(), PERIOD.as_micros());
        if first {
            fs::write(quota.group.join("cpu.cfs_period_us"), period.to_string())?;
            fs::write(quota.group.join("cpu.cfs_quota_us"), limit.to_string())?;
        } else {
            fs::write(quota.group.join("cpu.max"), format!("{limit} {period}"))?;
        }
        fs::write(quota.group.join("cgroup.procs"), pid.to_string())?;
        Ok(quota)
    }

    /// Lifts the limit. Returns how often the process was held back.
    fn lift(self) -> u64 {
        let held = fs::read_to_string(self.group.join("cgroup.procs")).unwrap();
        let pid = self.pid.to_string();
        assert!(
            held.lines().any(|line| line == pid),
            "{pid} is not in {held}"
        );
        let stat = fs::read_to_string(self.group.join("cpu.stat")).unwrap();
        let times = stat
            .lines()
            .find_map(|line| line.strip_prefix("nr_throttled "));
        times.unwrap().parse().unwrap()
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        fs::write(self.before.join("cgroup.procs"), self.pid.to_string()).ok();
        fs::remove_dir(&self.group).ok();
    }
}

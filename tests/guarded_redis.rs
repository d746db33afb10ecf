//! Start scripts of `k8s/components/redis-sentinel`, with real servers and Sentinels on addresses of this machine. A primary
//! that comes back with an empty disk does not empty its replicas, and a primary that leaves hands over first.

use std::process::Stdio;

use crate::harness::installed;
use crate::harness::pods::{Hosts, Pods, ask, primary, role, wait};
use crate::harness::tools::repository;

const HOSTS: Hosts = ["127.0.9.1", "127.0.9.2", "127.0.9.3"];
const FIRST_HOSTS: Hosts = ["127.0.11.1", "127.0.11.2", "127.0.11.3"];
const KEYS: usize = 200;

fn keys(host: &str) -> String {
    ask(host, "6379", &["DBSIZE"])
}

/// Writes a number of keys, and waits until all three servers have them.
fn fill(at: &str) {
    let script = format!("for i = 1, {KEYS} do redis.call('SET', 'key' .. i, 'x') end");
    ask(at, "6379", &["EVAL", &script, "0"]);
    wait("all have all", || {
        HOSTS.iter().all(|host| keys(host) == KEYS.to_string())
    });
}

#[test]
fn pods_whose_sentinels_are_faster_start_for_the_first_time() {
    let pods = Pods::start_after_sentinels(FIRST_HOSTS);
    wait("the first pod is the primary of the others", || {
        pods.hosts.map(role) == ["master", "slave", "slave"]
    });
}

#[test]
fn a_primary_that_comes_back_with_an_empty_disk_takes_nothing_from_the_others() {
    let mut pods = Pods::start(HOSTS);
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
    // Sentinels hear of a failover from each other, some later than the server that lost its disk.
    wait("Sentinels that name another primary", || {
        HOSTS.iter().all(|host| primary(host) != HOSTS[0])
    });
    let next = primary(HOSTS[1]);

    // A primary that leaves hands over before it goes.
    pods.quiet();
    let left = pods.script("leave.sh").env("ME", &next).status().unwrap();
    assert!(left.success());
    wait("another primary", || {
        HOSTS.iter().all(|host| primary(host) != next)
    });
    wait("all have all", || {
        HOSTS.iter().all(|host| keys(host) == KEYS.to_string())
    });
    // A server that is no primary just leaves.
    pods.quiet();
    let still = primary(HOSTS[0]);
    let other = HOSTS.iter().find(|host| **host != still).unwrap();
    assert!(
        pods.script("leave.sh")
            .env("ME", other)
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(primary(HOSTS[0]), still);

    // Control: a server that starts as configured, without asking the others, empties all of them.
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
    assert!(read("deploy/switchover.sh") == read("k8s/components/redis-sentinel/switchover.sh"));
}

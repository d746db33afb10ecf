//! Harness of the tests: a Redis, replicas that share it, and clients of these replicas.

pub mod browser;
pub mod certificates;
mod cluster;
mod dice;
pub mod follower;
pub mod mint;
mod people;
pub mod pods;
pub mod power;
pub mod process;
pub mod program;
mod proxy;
pub mod receiver;
pub mod redis;
pub mod sentinel;
pub mod shards;
pub mod site;
pub mod tools;
mod wire;

pub use cluster::{Cluster, Replica, SECRET, acknowledged, config};
pub use dice::Dice;
pub use people::{Anonymous, Answer, PASSWORD, User, patiently};
pub use proxy::{Proxy, Weather};
pub use redis::{PASSWORD as REDIS_PASSWORD, Redis, free_port};
pub use wire::Wire;

/// Number of rounds of a long test: `short`, or `full` with `PORTCULLIS_LONG=1`.
pub fn rounds(short: usize, full: usize) -> usize {
    if std::env::var_os("PORTCULLIS_LONG").is_some() {
        full
    } else {
        short
    }
}

/// Prints a zero with its statistical bound: if `n` trials have no failure, the rate is below 3/n with 95 % confidence.
pub fn report_zero(what: &str, n: usize) {
    println!("{what}: 0 of {n} (95 % bound {:.4} %)", 300.0 / n as f64);
}

/// Command for a program that must be installed; panics with the name of its package if it is missing.
pub fn installed(program: &str, package: &str) -> std::process::Command {
    let found = std::process::Command::new("sh")
        .args(["-c", &format!("command -v {program}")])
        .output();
    assert!(
        found.is_ok_and(|found| found.status.success()),
        "{program} is not installed: install the package {package}"
    );
    std::process::Command::new(program)
}

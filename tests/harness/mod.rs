//! What tests are made of: a Redis, replicas over it, and people who use them.

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

/// How much of a long test to run: as much as it says, or with `PORTCULLIS_LONG=1` the full number that was asked for.
pub fn rounds(short: usize, full: usize) -> usize {
    if std::env::var_os("PORTCULLIS_LONG").is_some() {
        full
    } else {
        short
    }
}

/// Prints a zero as what it is worth: with none in `n` trials, the rate is below 3/n with 95 % confidence.
pub fn report_zero(what: &str, n: usize) {
    println!("{what}: 0 of {n} (95 % bound {:.4} %)", 300.0 / n as f64);
}

/// Runs a program that must be installed, or says which package brings it.
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

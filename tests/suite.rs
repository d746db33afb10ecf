//! The behaviour of Portcullis, tested from outside against real parts: real `redis-server` processes, real replicas, a real
//! browser. A test that needs a program which is not installed fails with a sentence that names its package.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]
#![expect(
    unreachable_pub,
    reason = "what tests share is public to all modules of this one program"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "a test measures with the machine's clock and reads the environment it was started in"
)]
#![expect(
    clippy::cast_precision_loss,
    reason = "counts and times in what is printed and compared are far below 2^52"
)]

mod harness;

mod administration;
mod alerts;
mod authorization;
mod backup;
mod bodies;
mod browser;
mod busy_start;
mod clients;
mod commands;
mod connections;
mod contract;
mod credentials;
mod crowds;
mod deployment;
mod docs;
mod document;
mod durability;
mod encryption;
mod errors;
mod failover;
mod faults;
mod feed;
mod forgeries;
mod fuzz;
mod guarded_redis;
mod histories;
mod impatience;
mod journey;
mod keys;
mod layering;
mod lease;
mod logout;
mod make_run;
mod manifests;
mod model;
mod outage;
mod output;
mod pages;
mod password_change;
mod paused;
mod process;
mod proxies;
mod reference;
mod refresh;
mod restarts;
mod rolling;
mod rules;
mod secrets;
mod settings;
mod sharding;
mod smuggling;
mod soak;
mod spellings;
mod telemetry;
mod threats;
mod throttles;
mod timing;
mod tls;
mod tokens;
mod user_command;
mod verify;

//! The behaviour of Portcullis, tested from outside against real parts: real `redis-server` processes, real replicas, a real
//! browser. A test that needs a program which is not installed fails with a sentence that names its package.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]
#![expect(
    unreachable_pub,
    reason = "the harness is for all modules; how far it reaches nobody else needs to know"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "a test measures with the machine's clock and reads the environment it was started in"
)]

mod harness;

mod authorization;
mod bodies;
mod connections;
mod durability;
mod errors;
mod feed;
mod histories;
mod journey;
mod logout;
mod paused;
mod process;

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

mod harness;

mod browser;
mod journey;
mod layering;
mod logout;
mod outage;
mod process;
mod secrets;
mod telemetry;

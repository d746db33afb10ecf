//! The behaviour of Portcullis, tested from outside against real parts: real `redis-server` processes, real replicas, a real
//! browser. A test that needs a program which is not installed fails with a sentence that names its package.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

mod harness;

mod journey;
mod logout;
mod readme;

//! Portcullis: a token authentication API that runs as any number of identical replicas over one Redis.
//!
//! Users register, log in and get JSON Web Tokens; any replica verifies or revokes a token. Once a logout has answered, no
//! replica accepts the token, and checking a token costs no Redis round trip.
//!
//! Each layer uses only the layers before it:
//!
//! 1. [`domain`]: domain types, pure. Names, passwords, identities, claims, time.
//! 2. [`config`]: every setting, once.
//! 3. [`store`]: data in Redis, one function per operation.
//! 4. [`auth`]: the service's operations. Begin with [`auth::revocation`], on which the design rests.
//! 5. [`telemetry`]: logs, traces and metrics.
//! 6. [`http`]: the HTTP API. All routes and all middleware are in its `mod.rs`.
//! 7. [`app`]: builds the service, serves and drains.
//! 8. [`cli`]: the commands.
//!
//! To follow one request, read `app.rs`, then one file of `http/`, the file of `auth/` that it calls, and the file of `store/`
//! that `auth/` calls.

pub mod app;
pub mod auth;
pub mod cli;
pub mod config;
pub mod domain;
pub mod http;
pub mod store;
pub mod telemetry;

//! Portcullis: a token authentication API that runs as any number of identical replicas over one Redis.
//!
//! People register, log in and get JSON Web Tokens; any replica verifies a token or takes it back. Once a logout has
//! answered, no replica accepts the token, and checking a token costs no Redis round trip.
//!
//! The layers, each of which knows only those before it:
//!
//! 1. [`domain`]: what the words mean. Names, secrets, identities, claims, time; pure.
//! 2. [`config`]: every setting, once.
//! 3. [`store`]: what is remembered in Redis, as verbs.
//! 4. [`auth`]: what the service does. Begin with [`auth::revocation`]: it is what the house was built around.
//! 5. [`telemetry`]: logs, traces and metrics.
//! 6. [`http`]: how it is spoken. All routes and all middleware stand in its `mod.rs`.
//! 7. [`app`]: puts all of it together, serves and drains.
//! 8. [`cli`]: the commands.
//!
//! To follow one request, read `app.rs`, then one file of `http/`, the file of `auth/` that it calls, and the file of
//! `store/` under that; you will not need to go back up.

pub mod app;
pub mod auth;
pub mod cli;
pub mod config;
pub mod domain;
pub mod http;
pub mod store;
pub mod telemetry;

//! Services: accounts, sessions, tokens, passwords, and the revocation feed.
//!
//! A function here takes domain types, calls the store, and returns an outcome. `http` maps outcomes to responses.

pub mod accounts;
pub mod administration;
pub mod clients;
pub mod file_watch;
pub mod keyring;
pub mod password_change;
pub mod passwords;
pub mod rate_limit;
pub mod refresh;
pub mod refresh_tokens;
pub mod revocation;
pub mod sessions;
pub mod tokens;

use std::fmt;

use crate::store::StoreError;

/// ServiceError of the service itself. Expected outcomes are not errors; they are values of their own.
#[derive(Debug)]
pub enum ServiceError {
    /// The store did not answer, or the request could not be completed in time. Try again in a moment.
    Unavailable(Unavailable),
    /// The hashing threads have no capacity left; try again after `retry_after`.
    Overloaded {
        /// Whole seconds, at least one.
        retry_after: u64,
    },
    /// Too many attempts; try again after `retry_after`.
    RateLimited {
        /// Limit that was reached.
        by: rate_limit::Limit,
        /// Whole seconds, at least one.
        retry_after: u64,
    },
    /// Bug or broken environment; the text is for logs only.
    Internal(&'static str),
}

/// Reason why a request could not be answered. Its text is for logs only.
#[derive(Debug)]
pub enum Unavailable {
    /// The store did not answer.
    Store(StoreError),
    /// The view of the revocations was too old, and no fresh one came in time.
    StaleView,
    /// The request used up its time for Redis.
    Deadline,
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(error) => write!(f, "store: {error}"),
            Self::StaleView => f.write_str("no fresh view of the revocations"),
            Self::Deadline => f.write_str("the request's time limit for Redis is exceeded"),
        }
    }
}

impl From<StoreError> for ServiceError {
    fn from(error: StoreError) -> Self {
        Self::Unavailable(Unavailable::Store(error))
    }
}

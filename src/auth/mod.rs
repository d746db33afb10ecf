//! What the service does: accounts, sessions, tokens, passwords, and the revocation feed.
//!
//! A verb here takes domain types, speaks to the store, and returns an outcome. How that is spoken over HTTP is `http`'s
//! business.

pub mod accounts;
pub mod administration;
pub mod clients;
pub mod keyring;
pub mod looking;
pub mod password_change;
pub mod passwords;
pub mod refresh;
pub mod refresh_tokens;
pub mod revocation;
pub mod sessions;
pub mod throttle;
pub mod tokens;

use std::fmt;

use crate::store::StoreError;

/// The service could not do its work. Expected outcomes are not errors; they are values of their own.
#[derive(Debug)]
pub enum Failure {
    /// The store could not answer, or what asked could not be completed in time. Try again in a moment.
    Unavailable(Unavailable),
    /// Passwords are being hashed as fast as they can be; try again after so many seconds.
    Overloaded {
        /// Whole seconds, at least one.
        retry_after: u64,
    },
    /// Too many attempts; try again after so many seconds.
    Throttled {
        /// Which limit was reached.
        by: throttle::Limit,
        /// Whole seconds, at least one.
        retry_after: u64,
    },
    /// A fault of ours.
    Internal(&'static str),
}

/// Why something could not be answered. Its text is for logs only.
#[derive(Debug)]
pub enum Unavailable {
    /// The store could not answer.
    Store(StoreError),
    /// No view of the revocations was fresh enough, and none came in time.
    StaleView,
    /// The request used up its time for Redis.
    Deadline,
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(error) => write!(f, "store: {error}"),
            Self::StaleView => f.write_str("no fresh view of the revocations"),
            Self::Deadline => f.write_str("the request's time for Redis is used up"),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Unavailable(Unavailable::Store(error))
    }
}
